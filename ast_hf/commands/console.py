"""Parts that commands share: exit codes, option parser, messages, tables of results."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ..training import CrossValidation, Report


_METHODS = {
    "model": "AST",
    "baseline": "logistic regression baseline",
    "chance": "always the most frequent class",
}


_EPOCHS = ("final", "best")


#: Exit codes of sysexits.h: bad data (EX_DATAERR); try again later (EX_TEMPFAIL).
EXIT_DATA = 65
EXIT_UNPUBLISHED = 75
#: A shell's exit code for Ctrl-C. 1 is a bug.
EXIT_INTERRUPTED = 130


class CommandParser(argparse.ArgumentParser):
    """Parser of a command: `--top_k` equals `--top-k`, and an unknown option is reported with the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.spellings: dict[str, str] = {}  # with hyphens -> as registered
        super().__init__(*args, **kwargs)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Register an option as `ArgumentParser.add_argument`, under either spelling."""
        self.spellings |= {name.replace("_", "-"): name for name in names if name.startswith("--")}
        return super().add_argument(*names, **settings)

    def parse_known_args(  # type: ignore[override]  # two overloads that differ in the namespace's type
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse as `ArgumentParser.parse_known_args`, but exit with the usage for any unknown argument."""
        from ..errors import did_you_mean

        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words = [*map(self._as_registered, words[:end]), *words[end:]]
        values, rest = super().parse_known_args(words, namespace)
        for word in rest:
            if word.startswith("-") and word != "--":
                unknown = word.partition("=")[0]
                advice = did_you_mean(unknown, self.spellings.values())
                self.error(f"there is no option {unknown}: {advice}")
        if rest:
            self.error(f"too many arguments: {' '.join(rest)}")
        return values, rest

    def _as_registered(self, word: str) -> str:
        """Return a word with an option, or its unique beginning, in the registered spelling.

        A value after `=`, and any other word, is unchanged.
        """
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            return word
        hyphened = name.replace("_", "-")
        matches = [option for spelling, option in self.spellings.items() if spelling.startswith(hyphened)]
        option = self.spellings.get(hyphened, matches[0] if len(matches) == 1 else name)
        return option + equals + value


class ShowVersion(argparse.Action):
    """Action of `--version`; the version is looked up only if the option is used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('ast_hf')}")
        parser.exit()


def complain(problem: object) -> None:
    """Print a line on standard error, below progress bars instead of at the end of one."""
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    for bar in sorted(bars, key=lambda bar: -abs(bar.pos)):  # bottom up: closing moves the cursor
        bar.close()
    print(" ".join(str(problem).split()), file=sys.stderr)


def expected_error(problem: Exception) -> Exception | None:
    """Return the exception to report to the user; None for one that may be a bug of ours."""
    from ..errors import AstHfError
    from ..hub.access import as_error

    if isinstance(problem, AstHfError):
        return problem
    return as_error(problem) or (problem if isinstance(problem, OSError) else None)


def quiet_transformers() -> None:
    """Switch off transformers' progress bars and load reports; `ast_hf` reports problems itself."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.showwarning = _print_warning  # type: ignore[assignment]


def _print_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Print a warning as one line, without the line of code that raised it."""
    from tqdm import tqdm

    tqdm.write(f"{category.__name__}: {message}", file=sys.stderr)


def print_results(report: Report) -> None:
    """The model's and the baseline's result on each split, side by side."""
    names = list(report.results)
    rows = [(_METHODS[method], values) for method, values in report.by_method().items()]
    first = max(len(name) for name, _ in rows)
    if names:
        print(f"\n{report.metric:{first}}  " + "  ".join(f"{name:>{max(len(name), 6)}}" for name in names))
    for label, values in rows if names else ():
        print(f"{label:{first}}  " + "  ".join(f"{values[name]:>{max(len(name), 6)}.3f}" for name in names))
    clips = ", ".join(f"{count} {name}" for name, count in report.clips.items()) or "nothing"
    took = f", in {report.seconds:.0f} s: {report.clips_per_second:.3g} clips/s" if report.seconds else ""
    print(f"\nTrained on {report.amount}{took}.")
    print(f"Trained {report.trained_parameters:,} parameters for a model of {report.parameters:,}.")
    for name, curve in report.watched.items():
        told = curve.to_dict()
        numbers = ", ".join(
            f"{told[part]['value']:.3f} at the {part} epoch ({told[part]['epoch']:g})" for part in _EPOCHS
        )
        print(f"{report.metric} on {name} while training: {numbers}, which was chosen on those clips.")
    none = "" if report.clips else " (hold clips out with data.validation_fraction, or cross-validate with --folds 5)"
    print(f"Evaluated on {clips}{none}.")
    print(f"Curves: {report.folder / report.picture}. Checkpoint, results.json and model card: {report.folder}.")
    if report.published:
        print(f"Published: {report.published}")


def print_folds(found: CrossValidation) -> None:
    """The final epoch, the best one and the simple methods: each fold, mean and standard deviation."""
    names = {**_METHODS, **{name: f"AST, {name} epoch ({getattr(found, name).epoch})" for name in _EPOCHS}}
    notes = {"best": "  chosen on these folds: overstates"}
    head = [f"{fold.name:>6}" for fold in found.folds]
    first = max(len(names[method]) for method in found.by_method())
    print(f"\n{found.metric + ' on test fold':{first}}  {'  '.join(head)}    mean +- standard deviation")
    for method, spread in found.by_method().items():
        values = "  ".join(f"{value:>{len(title)}.3f}" for value, title in zip(spread.values, head, strict=True))
        numbers = f"{spread.mean:.3f} +- {spread.standard_deviation:.3f}"
        print(f"{names[method]:{first}}  {values}   {numbers}{notes.get(method, '')}")
    minutes = sum(fold.seconds for fold in found.folds) / 60
    print(f"\nFolds: {found.origin}. {sum(fold.clips for fold in found.folds)} clips; trained for {minutes:.1f} min.")
    print(f"A checkpoint for each fold, folds.png and folds.json: {found.folder}")
