"""`ast-hf finetune`: train by a recipe on labelled audio.

`add_run_options`, `recipe_overrides` and `run_stoppable` are for scripts that take the same options, see
examples/finetune.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..continuing import continuing_command
from ..errors import AstConfigError, error
from ..processes import is_main_process
from .completion import recipe_changes
from .console import (
    EXIT_UNPUBLISHED,
    add_json_option,
    complain,
    print_folds,
    print_json,
    print_results,
    quiet_transformers,
    require_train,
    run_document,
    show,
    whole,
)
from .recipe_options import naming_option
from .search_output import search_settings

if TYPE_CHECKING:
    from ..inputs.clip_checks import BadClip
    from ..planning.run_plan import FoldsPlan, RunPlan
    from ..training import Recipe


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of any training run by a recipe: data, start, changes, resuming and publishing."""
    parser.add_argument("--data", help="folder, table, data set by name (esc50) or Hub name (data.source)")
    parser.add_argument("--base", help="AST checkpoint to start from, folder or Hub name (model.base)")
    parser.add_argument("--vit", help="image transformer to start from instead (model.vit)")
    changes = parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change any option of the recipe, e.g. training.learning_rate=1e-4; may be repeated; "
        "`ast-hf options` lists them",
    )
    changes.completer = recipe_changes  # type: ignore[attr-defined]  # argcomplete's attribute
    parser.add_argument(
        "--check",
        choices=("headers", "full"),
        help="before training, read the headers of all clips, or decode them (data.check)",
    )
    parser.add_argument(
        "--resume",
        "--resume_from_checkpoint",
        nargs="?",
        const=True,
        metavar="auto|hub|CHECKPOINT",
        help="resume from the newest intact checkpoint; auto: start anew if there is none; "
        "hub: from the newest one on the Hub; CHECKPOINT: from this one",
    )
    parser.add_argument("--push_to_hub", action="store_true", help="publish the result on the Hub")
    parser.add_argument("--hub_model_id", help="name of the result on the Hub, user/name")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the finished model in the output folder"
    )


def recipe_overrides(options: argparse.Namespace) -> list[str]:
    """Return the values of `--data`, `--base`, `--vit`, `--check` and `--set` as `OPTION=VALUE` for a recipe."""
    values = {
        "data.source": options.data,
        "model.base": options.base,
        "model.vit": options.vit,
        "data.check": options.check,
    }
    changes = [f"{option}={json.dumps(value)}" for option, value in values.items() if value]
    return [*changes, *options.set]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recipe", help="YAML file; `ast-hf new` writes one for your clips")
    parser.add_argument("--output", required=True, help="folder of the result")
    add_run_options(parser)
    add_json_option(parser)
    parser.add_argument(
        "--folds",
        type=whole(1),
        metavar="N",
        help="cross-validation: train once for each of N folds (of data.fold_column, or random), and test on that fold",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="do not train: check everything as the run does, and print what it would do, with time, memory and disk",
    )
    parser.add_argument(
        "--find-lr",
        action="store_true",
        help="do not train: try learning rates in short runs, compared on the validation split, and print the best",
    )
    parser.add_argument(
        "--search",
        type=whole(1),
        metavar="N",
        help="do not train: try N settings that optuna proposes in whole runs, compared on the validation split",
    )
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="OPTION=VALUES",
        help="with --search: an option and its range, e.g. training.learning_rate=1e-5..1e-3, or choices, e.g. "
        "augmentation.speed=[1.0,1.1,1.2]; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Train, evaluate and print the results.

    Returns:
        0; `EXIT_UNPUBLISHED` if only the push failed; 128 and the number of a signal that stopped the run.
    """
    return run_stoppable(lambda: _train(options), options.words, saves=not options.dry_run)


def run_stoppable(train: Callable[[], int], words: Sequence[str] | None = None, *, saves: bool = True) -> int:
    """Call a function that trains; for SIGTERM, SIGHUP and Ctrl-C, print the command that continues the run.

    Args:
        train: returns the exit code.
        words: of the command `ast-hf`; None in a script, whose own command line continues it.
        saves: False for a dry run, which saves nothing to continue from.

    Returns:
        That code; 143, 129 or 130 after the signals, once the last step is saved.
    """
    from ..stopping import RunStopped, stop_signals

    try:
        with stop_signals():  # from here on: importing torch and transformers takes seconds
            if words is None:
                quiet_transformers()  # a bar for each saved file would flood a log
            return train()
    except RunStopped as problem:
        if is_main_process():  # one of several processes prints
            then = f"; continue with: {problem.command or continuing_command(words)}"
            complain(problem, then if saves else "")
        return problem.exit_code


def _train(options: argparse.Namespace) -> int:
    from ..training import finetune, load_recipe

    require_train("finetune")
    quiet_transformers()
    try:
        recipe = load_recipe(options.recipe, recipe_overrides(options))
    except AstConfigError as problem:
        raise naming_option(problem) from None
    if options.dry_run:
        _plan(options, recipe)
        return 0
    if options.find_lr or options.search is not None or options.space:
        search_settings(options, recipe)
        return 0
    if options.folds is not None:
        _cross_validate(options, recipe)
        return 0
    report = finetune(
        recipe,
        options.output,
        resume_from_checkpoint=options.resume,
        push_to_hub=options.push_to_hub,
        hub_model_id=options.hub_model_id,
        overwrite=options.overwrite,
    )
    if is_main_process() and options.json:
        print_json(options, run_document(report))
    elif is_main_process():
        print_results(report)
    return EXIT_UNPUBLISHED if report.unpublished else 0


def _plan(options: argparse.Namespace, recipe: Recipe) -> None:
    """Print what the run would do, each clip that it cannot use first; raise the errors of the run."""
    from ..planning.dry_run import plan_cross_validation, plan_run

    if options.find_lr or options.search is not None or options.space:
        what = "is for a training run, and --find-lr and --search train several"
        raise error("E108", where="--dry-run", what=what, fix="leave one of them out")

    def list_clip(clip: BadClip) -> None:
        if not options.json and is_main_process():
            show(f"cannot be used: {clip}")

    common: dict[str, Any] = {"on_unusable": list_clip, "began": program_began()}
    if options.folds is not None:
        _check_no_push(options)
        plan: FoldsPlan | RunPlan = plan_cross_validation(
            recipe, options.output, folds=options.folds, resume=options.resume, **common
        )
    else:
        plan = plan_run(
            recipe,
            options.output,
            resume_from_checkpoint=options.resume,
            push_to_hub=options.push_to_hub,
            hub_model_id=options.hub_model_id,
            overwrite=options.overwrite,
            **common,
        )
    if not is_main_process():
        return
    if options.json:
        print_json(options, plan.to_dict())
        return
    for line in plan.lines():
        show(line)


def program_began() -> float:
    """Return when this program started, as `time.monotonic()`."""
    import psutil

    return time.monotonic() - max(time.time() - psutil.Process().create_time(), 0.0)


def _check_no_push(options: argparse.Namespace) -> None:
    """Raise E307 for `--folds` with a push: it does not say which model."""
    from ..training.cross_validation import NO_PUSH

    if options.push_to_hub or options.hub_model_id:
        where = "--push_to_hub, --hub_model_id"
        what = f"does not say which of the {options.folds} models of --folds to publish"
        raise error("E307", where=where, what=what, fix=NO_PUSH, detail="conflict")


def _cross_validate(options: argparse.Namespace, recipe: Recipe) -> None:
    from ..training import cross_validate

    _check_no_push(options)
    result = cross_validate(recipe, options.output, folds=options.folds, resume=options.resume, tell=show)
    if is_main_process() and options.json:
        print_json(options, {**result.to_dict(), "folder": str(result.folder)})
    elif is_main_process():
        print_folds(result)
