"""Search of `ast-hf finetune` for the learning rate or for several settings, and its output."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any

from ..continuing import running_program
from ..errors import error
from ..processes import is_main_process
from .console import print_json, show

if TYPE_CHECKING:
    from ..training import Recipe, SearchResult

#: Options that a search does not take -> reason.
_REFUSED = {
    "folds": "a search compares trials on one validation split",
    "resume": "a search has no checkpoints",
    "push_to_hub": "a search leaves no model",
    "hub_model_id": "a search leaves no model",
}
#: Separates the ends of a range.
_RANGE = ".."


def search_settings(options: argparse.Namespace, recipe: Recipe) -> None:
    """Run the search that the options of `ast-hf finetune` ask for, and print what it chose."""
    from ..stopping import RunStopped

    _check_request(options)
    try:
        result = _search(options, recipe)
    except RunStopped as problem:
        again = shlex.join([*running_program(), *options.words])
        raise RunStopped(problem.signal, "during the search; nothing was saved", again) from None
    if is_main_process():
        _print_result(result, options)


def _check_request(options: argparse.Namespace) -> None:
    """Raise E307 for options that contradict a search."""
    if options.find_lr and options.search is not None:
        fix = "use one of the two"
        raise error("E307", where="--find-lr", what="is set, and so is --search", fix=fix, detail="conflict")
    if options.space and options.search is None:
        fix = "add --search 20, or leave it out"
        raise error("E307", where="--space", what="is set, and --search is not", fix=fix, detail="conflict")
    for name, reason in _REFUSED.items():
        if getattr(options, name):
            where = f"--{name}"
            raise error("E307", where=where, what=reason, fix="leave it out", detail="conflict")


def _search(options: argparse.Namespace, recipe: Recipe) -> SearchResult:
    from ..training import find_learning_rate, search

    if options.find_lr:
        return find_learning_rate(recipe, options.output, tell=show)
    space = dict(map(_read_range, options.space)) or None
    return search(recipe, options.output, trials=options.search, space=space, tell=show)


def _read_range(text: str) -> tuple[str, Any]:
    """Return the option and the values of `OPTION=LOW..HIGH` or `OPTION=[VALUE, ...]`."""
    from ..recipe.reading import read_yaml

    name, equals, values = text.partition("=")
    low, dots, high = values.partition(_RANGE)
    if not equals or not name.strip():
        fix = "write OPTION=LOW..HIGH, or OPTION=[VALUE,VALUE]"
        raise error(
            "E307", where=f"--space {text}", what="has no option or no values", fix=fix, detail="unreadable"
        )
    if dots and not values.lstrip().startswith("["):
        return name.strip(), (read_yaml(low, f"--space {text}"), read_yaml(high, f"--space {text}"))
    return name.strip(), read_yaml(values, f"--space {text}")


def _print_result(result: SearchResult, options: argparse.Namespace) -> None:
    """Print the table of trials, the choice, and the command that trains with it."""
    if options.json:
        print_json(options, result.to_dict())
        return
    show(f"\nCompared on {result.judge}.\n")
    _print_table(result)
    chosen = ", ".join(result.changes)
    show(f"\nChosen: {chosen}.{f' {result.advice}.' if result.advice else ''}")
    if result.clips and result.clips < _FEW_CLIPS:
        show(
            f"With {result.clips} clips, settings that differ by less than {1 / result.clips:.3f} are equal."
        )
    show("Train with it:")
    print(f"  {_training_command(result, options)}")


#: Clips of a validation split below which one clip is more than a hundredth.
_FEW_CLIPS = 100


def _print_table(result: SearchResult) -> None:
    """Print a row for each trial, in columns that `awk` can split."""
    from ..reports.search_results import format_option

    names = list(result.trials[0].options)
    titles = [name.split(".")[-1] for name in names]
    rows = [[*titles, "steps", result.metric, "loss", ""]]
    for trial in result.trials:
        settings = [format_option(trial.options[name]).replace(" ", "") for name in names]
        numbers = ["-" if value is None else f"{value:.3f}" for value in (trial.value, trial.loss)]
        is_chosen = trial.options == result.options and trial.value is not None
        note = "chosen" if is_chosen else ""
        rows.append([*settings, str(trial.steps), *numbers, note if trial.end == "complete" else trial.end])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        show("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _training_command(result: SearchResult, options: argparse.Namespace) -> str:
    """Return the command line of the run with the chosen settings."""
    words = [*running_program(), "finetune", options.recipe, "--output", options.output]
    for name in ("data", "base", "vit", "check"):
        if getattr(options, name):
            words += [f"--{name}", getattr(options, name)]
    for change in [*options.set, *_as_changes(result)]:
        words += ["--set", change]
    return shlex.join(words)


def _as_changes(result: SearchResult) -> list[str]:
    """Return the chosen options as `OPTION=VALUE`, exact, in YAML."""
    return [f"{name}={json.dumps(value)}" for name, value in result.run_options.items()]
