"""What commands take and print: options in any spelling, results as a table, less noise from libraries."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ..training import CrossValidation, Report


#: Epochs of a curve that are printed.
_EPOCHS = ("final", "best")


class CommandParser(argparse.ArgumentParser):
    """A command's options, `--top_k` and `--top-k` alike. What it does not know ends with its own usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.spellings: dict[str, str] = {}  # with hyphens -> as registered
        super().__init__(*args, **kwargs)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As `ArgumentParser.add_argument`."""
        self.spellings |= {name.replace("_", "-"): name for name in names if name.startswith("--")}
        return super().add_argument(*names, **settings)

    def parse_known_args(  # type: ignore[override]  # two overloads that differ in the namespace's type
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As `ArgumentParser.parse_known_args`, but nothing may be left over."""
        from ..errors import did_you_mean

        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        found, left = super().parse_known_args([*map(self._as_registered, given[:end]), *given[end:]], namespace)
        unknown = next((word.partition("=")[0] for word in left if word.startswith("-") and word != "--"), None)
        if unknown is not None:
            self.error(f"there is no option {unknown}: {did_you_mean(unknown, self.spellings.values())}")
        if left:
            self.error(f"too many arguments: {' '.join(left)}")
        return found, left

    def _as_registered(self, word: str) -> str:
        """An option, or the only one that begins so, as it was registered; its value after `=` and any other argument
        as they are.
        """
        name, equals, value = word.partition("=")
        wanted = name.replace("_", "-")
        begun = [own for plain, own in self.spellings.items() if name.startswith("--") and plain.startswith(wanted)]
        own = self.spellings.get(wanted, begun[0] if len(begun) == 1 else name)
        return own + equals + value


class ShowVersion(argparse.Action):
    """`--version`, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('ast_hf')}")
        parser.exit()


def complain(problem: object) -> None:
    """A line on standard error, below progress bars rather than at the end of one that has stopped."""
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    for bar in sorted(bars, key=lambda bar: -abs(bar.pos)):  # the upper ones last: each moves to its own line
        bar.close()
    print(" ".join(str(problem).split()), file=sys.stderr)


def expected_error(problem: Exception) -> Exception | None:
    """What to tell of an exception that is no bug of ours; None for one that may be."""
    from ..errors import AstHfError
    from ..hub.access import as_error

    if isinstance(problem, AstHfError):
        return problem
    return as_error(problem) or (problem if isinstance(problem, OSError) else None)


def quiet_transformers() -> None:
    """No bars for loading and saving weights, no load reports: what matters is raised or warned about by us."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.showwarning = _print_warning  # type: ignore[assignment]


def _print_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning as one line, without the place in our code that raised it."""
    from tqdm import tqdm

    tqdm.write(f"{category.__name__}: {message}", file=sys.stderr)


def print_results(report: Report) -> None:
    """Print the results of a run next to those of the simple methods, and where its files are."""
    splits = list(report.results)
    if splits:
        _print_table(report, splits)
    clips = ", ".join(f"{count} {name}" for name, count in report.clips.items()) or "nothing"
    speed = f", in {report.seconds:.0f} s: {report.clips_per_second:.3g} clips/s" if report.seconds else ""
    print(f"\nTrained on {report.amount}{speed}.")
    print(f"Trained {report.trained_parameters:,} parameters for a model of {report.parameters:,}.")
    for name, curve in report.watched.items():
        values = curve.to_dict()
        epochs = [f"{values[key]['value']:.3f} at the {key} epoch ({values[key]['epoch']:g})" for key in _EPOCHS]
        print(f"{report.metric} on {name} while training: {', '.join(epochs)}, which was chosen on those clips.")
    hint = "" if report.clips else " (hold clips out with data.validation_fraction, or cross-validate with --folds 5)"
    print(f"Evaluated on {clips}{hint}.")
    print(f"Curves: {report.folder / report.picture}. Checkpoint, results.json and model card: {report.folder}.")
    if report.published:
        print(f"Published: {report.published}")


def _print_table(report: Report, splits: list[str]) -> None:
    """Print the main metric: methods as rows, splits as columns."""
    from ..reports.titles import METHOD_TITLES

    methods = report.by_method()
    first = max(len(METHOD_TITLES[method]) for method in methods)
    widths = {split: max(len(split), 6) for split in splits}
    print(f"\n{report.metric:{first}}  " + "  ".join(f"{split:>{widths[split]}}" for split in splits))
    for method, values in methods.items():
        numbers = "  ".join(f"{values[split]:>{widths[split]}.3f}" for split in splits)
        print(f"{METHOD_TITLES[method]:{first}}  {numbers}")


def print_folds(result: CrossValidation) -> None:
    """Print the final epoch, the best one and the simple methods: each fold, mean and standard deviation."""
    from ..reports.titles import METHOD_TITLES

    epoch_titles = {name: f"AST, {name} epoch ({getattr(result, name).epoch})" for name in _EPOCHS}
    titles = {**METHOD_TITLES, **epoch_titles}
    notes = {"best": "  chosen on these folds: optimistic"}
    head = [f"{fold.name:>6}" for fold in result.folds]
    methods = result.by_method()
    first = max(len(titles[method]) for method in methods)
    print(f"\n{result.metric + ' on test fold':{first}}  {'  '.join(head)}    mean +- standard deviation")
    for method, spread in methods.items():
        values = "  ".join(f"{value:>{len(title)}.3f}" for value, title in zip(spread.values, head, strict=True))
        numbers = f"{spread.mean:.3f} +- {spread.standard_deviation:.3f}"
        print(f"{titles[method]:{first}}  {values}   {numbers}{notes.get(method, '')}")
    minutes = sum(fold.seconds for fold in result.folds) / 60
    clips = sum(fold.clips for fold in result.folds)
    print(f"\nFolds: {result.origin}. {clips} clips; trained for {minutes:.1f} min.")
    print(f"A checkpoint for each fold, folds.png and folds.json: {result.folder}")
