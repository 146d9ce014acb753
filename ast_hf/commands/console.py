"""Parts that commands share: exit codes, option parser, messages, tables of results."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from ..errors import did_you_mean, nearest
from ..printing import printable, visible

if TYPE_CHECKING:
    from ..reports.verdict import Verdict
    from ..training import CrossValidation, Report

#: Epochs of a curve that are printed.
_EPOCHS = ("final", "best")
#: Exit codes of sysexits.h: bad data (EX_DATAERR); try again later (EX_TEMPFAIL).
EXIT_DATA = 65
EXIT_UNPUBLISHED = 75
#: A process of the run stopped or was lost (EX_OSERR): the printed command continues.
EXIT_STOPPED = 71
#: EX_CANTCREAT: another run uses the output folder.
EXIT_IN_USE = 73
#: A shell's exit code for Ctrl-C. 1 is a bug.
EXIT_INTERRUPTED = 130
#: A shell's exit code for SIGPIPE: what read the output has left.
EXIT_NO_READER = 141

#: Warnings that the command has printed. Folds and trials read the same data again.
_printed: set[str] = set()

#: Value of `--json` for standard output; `ast-hf stats` also takes a file.
STDOUT = "-"


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
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words = [*map(self._as_registered, words[:end]), *words[end:]]
        values, rest = super().parse_known_args(words, namespace)
        for word in rest:
            if word.startswith("-") and word != "--":
                unknown = word.partition("=")[0]
                advice = self._recipe_option(unknown) or self._nearest(unknown)
                self.error(f"there is no option {unknown}: {advice}")
        if rest:
            self.error(f"too many arguments: {' '.join(rest)}")
        return values, rest

    def _nearest(self, unknown: str) -> str:
        """Return the option that an unknown one resembles, else all; the hyphens of both are not compared."""
        for action in self._actions:
            if not action.option_strings and unknown.lstrip("-") == action.dest:
                return f"leave the word out, as in {short_usage(self)}"
        near = nearest(unknown.lstrip("-"), [name.lstrip("-") for name in self.spellings.values()])
        return did_you_mean(f"--{near}" if near else "", self.spellings.values())

    def _recipe_option(self, unknown: str) -> str | None:
        """Return how to set an option of the recipe that was given as one of the command, None for other words."""
        if "--set" not in self.spellings:
            return None
        from .recipe_options import recipe_option

        name = recipe_option(unknown)
        return name and f"it is an option of the recipe; change it with --set {name}=VALUE"

    def error(self, message: str) -> NoReturn:
        """Exit with the required arguments and a message, without the terminal escapes of the arguments in it."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {visible(message)}\n")

    def format_usage(self) -> str:
        """Return one line with the required arguments; `--help` lists the options."""
        return f"usage: {short_usage(self)}\nall options: {self.prog} --help\n"

    def _as_registered(self, word: str) -> str:
        """Return an option, or its unique beginning, in the registered spelling; any other word unchanged."""
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            return word
        hyphened = name.replace("_", "-")
        matches = [option for spelling, option in self.spellings.items() if spelling.startswith(hyphened)]
        option = self.spellings.get(hyphened, matches[0] if len(matches) == 1 else name)
        return option + equals + value


def short_usage(parser: argparse.ArgumentParser) -> str:
    """Return the command with its arguments and required options, as in the reference."""
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    required = [action for action in actions if not action.option_strings or action.required]
    optional = ["[OPTION ...]"] if len(required) < len(actions) else []
    return " ".join([parser.prog, *map(argument_name, required), *optional])


def argument_name(action: argparse.Action) -> str:
    """Return an option with its value, or a positional argument, as a usage line has it."""
    value = str(action.metavar or action.dest.upper())
    if action.choices and not action.metavar:
        value = "|".join(map(str, action.choices))
    value = {0: "", "?": f"[{value}]", "+": f"{value} ...", "*": f"[{value} ...]"}.get(action.nargs, value)
    return f"{action.option_strings[0]} {value}".strip() if action.option_strings else value


def add_label_options(parser: argparse.ArgumentParser, note: str = "") -> None:
    """Add `--labels` and `--multi_label`, for checkpoints whose files do not have them."""
    text = f"file of class names: text, CSV (index,mid,display_name) or JSON{note}"
    parser.add_argument("--labels", help=text)
    parser.add_argument(
        "--multi_label", action="store_true", default=None, help="clips may have several labels"
    )


def whole(least: int) -> Callable[[str], int]:
    """Return the `type` of an option that takes a whole number of at least `least`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return value

    return number


def finite(text: str) -> float:
    """Return the value of an option that takes a number; NaN and infinity are none."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


class ShowVersion(argparse.Action):
    """Action of `--version`; the version is looked up only if the option is used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('ast_hf')}")
        parser.exit()


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """Add `--precision`: of a faster copy of the model on a CPU, of the weights on a GPU."""
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "int8"),
        help="on a CPU, run a faster copy of the model: float32 has the same scores, bfloat16 and int8 round; "
        "auto is bfloat16 where the machine has it (default: the model as it is on a CPU, auto on a GPU, "
        "where float32 does not round)",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`. `cli.main` then keeps standard output free for what `print_json` writes."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON document, and all else on standard error",
    )


def add_json_file_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json [FILE]`: `STDOUT` without a file."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="print the report as one JSON document, and all else on standard error; or also write it to FILE",
    )


def results_stream(options: argparse.Namespace) -> TextIO:
    """Return the stream of a JSON document: standard output, also while `--json` redirects `sys.stdout`."""
    return getattr(options, "results", None) or sys.stdout


def print_json(options: argparse.Namespace, content: Any) -> None:
    """Print the JSON document of `--json`, with null for NaN and infinite numbers."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False, default=str)
    print(text, file=results_stream(options))


def require_train(command: str, *modules: str) -> None:
    """Raise E108 if `modules`, or else those of a training run, are not installed, see `check_modules`."""
    from ..versions import TRAINING_MODULES, check_modules

    check_modules(f"ast-hf {command}", *(modules or TRAINING_MODULES))


def step_parts(line: str) -> tuple[str, str]:
    """Return name and text of a step that `convert` and `merge` print, such as `wrote      a folder`."""
    name, _, text = line.partition(" ")
    return name, text.strip()


def _finite(content: Any) -> Any:
    """Return content as strict JSON holds it."""
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def complain(problem: object, exact: str = "") -> None:
    """Print a line on standard error, below progress bars instead of at the end of one.

    `exact` is added as it is, for example a command with quoted spaces.
    """
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    for bar in sorted(bars, key=lambda bar: -abs(bar.pos)):  # bottom up: closing moves the cursor
        bar.close()
    print(visible(" ".join(str(problem).split()) + exact), file=sys.stderr)


def show(text: object = "") -> None:
    """Print lines of text; characters that a terminal obeys or hides are escaped, as in names of files."""
    print(visible(str(text)))


def escape_unprintable() -> None:
    """Let stdout and stderr escape the characters that their encoding lacks, instead of failing at them."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def expected_error(problem: Exception) -> Exception | None:
    """Return the exception to report to the user; None for one that may be a bug of ours."""
    from ..errors import AstHfError
    from ..hub.access import as_error, wrong_download
    from ..writing_failures import cannot_write, is_writing_failure

    if wrong := wrong_download(problem):
        return wrong
    if isinstance(problem, AstHfError):
        return problem
    if is_writing_failure(problem):
        return cannot_write(getattr(problem, "filename", None) or "a file of this command", problem)
    return as_error(problem) or (problem if isinstance(problem, OSError) else None)


def quiet_transformers() -> None:
    """Switch off transformers' progress bars and load reports; `ast_hf` reports problems itself.

    So it does for a tracker's thread that cannot write: the main thread raises the same exception. Bars of the Hub's
    client stay on a terminal; in a log file each would be many lines.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    if not sys.stderr.isatty():
        _quiet_datasets()
    _printed.clear()
    warnings.showwarning = _print_warning  # type: ignore[assignment]
    threading.excepthook = _report_thread


def _quiet_datasets() -> None:
    """Switch off the bars of `datasets`, without importing it; a user's own setting stays."""
    if "HF_DATASETS_DISABLE_PROGRESS_BARS" in os.environ:
        return
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    if "datasets" in sys.modules:
        from datasets.utils import disable_progress_bars

        disable_progress_bars()


def _report_thread(arguments: threading.ExceptHookArgs) -> None:
    from ..writing_failures import is_writing_failure

    if arguments.exc_value is None or not is_writing_failure(arguments.exc_value):
        threading.__excepthook__(arguments)


def _print_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Print a warning as one line, without the line of code that raised it, and once in a command."""
    from tqdm import tqdm

    text = visible(f"{category.__name__}: {message}", keep="")
    if text not in _printed:
        _printed.add(text)
        tqdm.write(text, file=sys.stderr)


def run_document(report: Report) -> dict[str, Any]:
    """Return a run's results.json, its folder, and the page where it was published."""
    return {**report.to_dict(), "folder": str(report.folder), "published": report.published}


def print_results(report: Report) -> None:
    """Print the results of a run next to those of the simple methods, and where its files are."""
    splits = list(report.results)
    print_verdict(report.verdict)
    if splits:
        _print_table(report, splits)
    clips = ", ".join(f"{count} {printable(name)}" for name, count in report.clips.items()) or "nothing"
    speed = f", in {report.seconds:.0f} s: {report.clips_per_second:.3g} clips/s" if report.seconds else ""
    show(f"\nTrained on {report.amount}{speed}.")
    parameters = f"{report.trained_parameters:,} parameters"
    show(f"Trained {parameters} for a model of {report.parameters:,}, in {report.precision}.")
    if report.kept is not None:
        show(report.kept)
    for name, curve in report.watched.items():
        if report.kept is not None and report.kept.split == name:
            continue
        values = curve.to_dict()
        epochs = [
            f"{values[key]['value']:.3f} at the {key} epoch ({values[key]['epoch']:g})" for key in _EPOCHS
        ]
        show(
            f"{report.metric} on {printable(name)} while training: {', '.join(epochs)}, "
            "which was chosen on those clips."
        )
    hint = (
        "" if report.clips else " (hold clips out with data.test_fraction, or cross-validate with --folds 5)"
    )
    show(f"Evaluated on {clips}{hint}.")
    idle = set(report.data_check.get("held_out") or {}) - {*report.clips, *report.watched}
    if idle and report.kept is None:
        names = ", ".join(map(printable, sorted(idle)))
        show(
            f"Held out and not used: {names} (stopping.patience=10 watches it, --folds 5 tests on every clip)."
        )
    show(
        f"Curves: {report.folder / report.picture}. Checkpoint, results.json and model card: {report.folder}."
    )
    if report.published:
        show(f"Published: {report.published}")


def print_verdict(verdict: Verdict | None) -> None:
    """Print a verdict: its first line is the comparison with the baseline."""
    for line in [] if verdict is None else verdict.text():
        show(line)


def _print_table(report: Report, splits: list[str]) -> None:
    """Print the main metric: methods as rows, splits as columns."""
    from ..reports.titles import METHOD_TITLES

    methods = report.by_method()
    first = max(len(METHOD_TITLES[method]) for method in methods)
    titles = {split: printable(split) for split in splits}
    widths = {split: max(len(titles[split]), 6) for split in splits}
    show(f"\n{report.metric:{first}}  " + "  ".join(f"{titles[split]:>{widths[split]}}" for split in splits))
    for method, values in methods.items():
        numbers = "  ".join(f"{values[split]:>{widths[split]}.3f}" for split in splits)
        show(f"{METHOD_TITLES[method]:{first}}  {numbers}")


def print_folds(result: CrossValidation) -> None:
    """Print the final epoch, the best one and the simple methods: each fold, mean and standard deviation."""
    from ..reports.titles import METHOD_TITLES

    epoch_titles = {name: f"AST, {name} epoch ({getattr(result, name).epoch})" for name in _EPOCHS}
    titles = {**METHOD_TITLES, **epoch_titles}
    print_verdict(result.verdict)
    notes = {"best": "  chosen on these folds: optimistic"}
    head = [f"{printable(fold.name):>6}" for fold in result.folds]
    methods = result.by_method()
    first = max(len(titles[method]) for method in methods)
    show(f"\n{result.metric + ' on test fold':{first}}  {'  '.join(head)}    mean +- standard deviation")
    for method, spread in methods.items():
        values = "  ".join(
            f"{value:>{len(title)}.3f}" for value, title in zip(spread.values, head, strict=True)
        )
        numbers = f"{spread.mean:.3f} +- {spread.standard_deviation:.3f}"
        show(f"{titles[method]:{first}}  {values}   {numbers}{notes.get(method, '')}")
    minutes = sum(fold.seconds for fold in result.folds) / 60
    clips = sum(fold.clips for fold in result.folds)
    show(f"\nFolds: {result.origin}. {clips} clips; trained for {minutes:.1f} min.")
    show(f"A checkpoint for each fold, folds.png and folds.json: {result.folder}")
