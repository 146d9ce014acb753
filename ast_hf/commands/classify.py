"""`ast-hf classify`: print or write the labels, or the events with times, of recordings."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..continuing import running_program
from ..errors import AstHfError, error, short_reason
from ..printing import printable
from .classification_output import Pictures, print_formatted, report, summarise
from .console import (
    add_json_option,
    add_precision_option,
    complain,
    finite,
    quiet_transformers,
    results_stream,
    whole,
)

if TYPE_CHECKING:
    import torch

    from ..acceleration.placement import Placement
    from ..batch.inputs import Inputs
    from ..batch.journal import Entry, Journal
    from ..batch.runner import Batch
    from ..stopping import StopSignals

#: Formats of `--format`: text lines, and those of `timelines.formats.FORMATS`.
FORMATS = ("text", "json", "csv", "parquet", "audacity", "raven", "webvtt", "rttm")
#: Options that are passed on to the pipeline -> type and help.
_PIPELINE: dict[str, tuple[Any, str]] = {
    "window_seconds": (finite, "length of a window (default: the model's)"),
    "hop_seconds": (finite, "from window to window (default: a window, for timelines a quarter of it)"),
    "threshold": (str, 'lowest score, in [0, 1] (timelines: above 0), or "fitted" for the checkpoint\'s own'),
    "low_threshold": (finite, "timelines: score that an event keeps (default: 0.7 times the threshold)"),
    "min_seconds": (finite, "timelines: shortest event"),
    "gap_seconds": (finite, "timelines: shorter gaps are closed"),
    "silence_db": (finite, "timelines: level in dBFS below which nothing is an event"),
    "method": (str, "timelines: hysteresis (default) or boxes"),
    "column_weight": (finite, "timelines: weight of the scores of single columns, 0 to 1 (default: 0)"),
}
#: Those that only timelines have.
_TIMELINE_ONLY = ("low_threshold", "min_seconds", "gap_seconds", "silence_db", "method", "column_weight")
#: Labels of a file without `--top_k`.
_TOP_K = 3
#: Recordings from which on a bar counts them.
_BAR = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", help="folder or Hub name")
    parser.add_argument(
        "files", nargs="+", help='audio files, folders of them, or patterns such as "field/**/*.flac"'
    )
    parser.add_argument("--top_k", type=whole(1), help=f"labels per file (default: {_TOP_K})")
    parser.add_argument("--timeline", action="store_true", help="events with start and end instead of labels")
    parser.add_argument(
        "--aggregate", choices=("mean", "max", "none"), help="of a long file's windows (default: mean)"
    )
    for name, (kind, text) in _PIPELINE.items():
        choices = ("hysteresis", "boxes") if name == "method" else None
        parser.add_argument(f"--{name}", type=kind, help=text, choices=choices)
    parser.add_argument(
        "--batch_size", type=whole(1), help="windows at a time (default: 8 on a CPU, 64 on a GPU)"
    )
    add_precision_option(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the results (default: text, with --output csv); text has the columns file, score and "
        "label, with windows and --timeline file, start, end, score and label; tabs separate them, "
        "except on a terminal",
    )
    parser.add_argument("--output", metavar="DIR", help="folder for the results instead of the terminal")
    parser.add_argument(
        "--resume", action="store_true", help="continue a batch that was interrupted; needs --output"
    )
    parser.add_argument(
        "--picture",
        metavar="PNG",
        help="draw waveform, spectrogram and timeline of one recording; a folder for several",
    )
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Classify the recordings; a bad one is reported, and the others are still classified.

    Returns:
        The exit code: 65 if any recording could not be classified to its end, 128 and the number of a signal that
        stopped the command.
    """
    from ..stopping import RunStopped, stop_signals

    try:
        with stop_signals() as signals, _harmless_warnings():
            signals.text = "before the first recording"
            return _run(options, signals)
    except RunStopped as problem:
        complain(problem, _advice(options))
        return problem.exit_code


@contextmanager
def _harmless_warnings() -> Iterator[None]:
    """Print warnings in this block also where Python is set to raise them (`PYTHONWARNINGS=error`)."""
    with warnings.catch_warnings():
        if any(each[0] == "error" for each in warnings.filters):
            warnings.simplefilter("default")
        yield


def _advice(options: argparse.Namespace) -> str:
    """Return what is printed after a stop: the command that continues, with its words quoted for a shell."""
    if options.output is None:
        return ""
    name, *words = options.words
    resume = [] if options.resume else ["--resume"]
    return f"; continue with: {shlex.join([*running_program(), name, *resume, *words])}"


def _run(options: argparse.Namespace, signals: StopSignals) -> int:
    from transformers.utils import logging

    from ..batch.inputs import find_recordings
    from ..device_features import is_batched

    quiet_transformers()
    format = _check_options(options)
    inputs = find_recordings(options.files)
    _check_outputs(options, format, inputs.names)
    classifier, placement = _load_classifier(options.checkpoint, options.precision)
    batch = _batch(options, inputs, placement.device)
    call = classifier.call(**batch.arguments)  # impossible options are found before any file is read
    if call.function == "none" and format != "text":
        what = f"{format} holds scores from 0 to 1, and those of this model are any numbers"
        raise _conflict("--format", what, "leave --format and --output out")
    logging.enable_progress_bar()  # that of a long recording
    entries = _classify(options, classifier, batch, format, signals)
    is_said = options.precision is not None or is_batched(placement.device)
    text = str(placement) if is_said else ""
    return summarise(entries, is_stored=options.output is not None, placement=text)


def _check_options(options: argparse.Namespace) -> str:
    """Return the format; raise E108 for options that contradict each other."""
    if options.json and options.format not in (None, "json") and options.output is None:
        raise _conflict("--json", f"contradicts --format {options.format}", "leave one of the two out")
    if options.resume and options.output is None:
        raise _conflict("--resume", "needs --output: the journal is in that folder", "add --output DIR")
    if options.picture is not None and not options.timeline:
        raise _conflict("--picture", "shows a timeline", "add --timeline")
    if options.format == "parquet" and options.output is None:
        raise _conflict("--format", "parquet is not text", "add --output DIR")
    if options.format == "text" and options.output is not None:
        raise _conflict("--format", "text is for the terminal", "use csv or another format with --output")
    for name in ("output", "picture"):
        if getattr(options, name) == "":
            raise _conflict(f"--{name}", "is an empty name", "name a folder; a shell variable may be empty")
    for name in ("top_k", "aggregate") if options.timeline else _TIMELINE_ONLY:
        if getattr(options, name) is not None:
            what = f"has {'no effect on a timeline' if options.timeline else 'an effect on timelines only'}"
            fix = f"leave it out, or {'leave out' if options.timeline else 'add'} --timeline"
            raise _conflict(f"--{name}", what, fix)
    printed = "json" if options.json else "text"
    format = options.format or (printed if options.output is None else "csv")
    if format != "text":
        from ..timelines.formats import check_format

        check_format(format, _kind(options))
    return format


def _check_outputs(options: argparse.Namespace, format: str, recordings: list[str]) -> None:
    """Raise E401 for a place where nothing can be written, and E108 for results that have none."""
    from ..timelines.formats import FORMATS as WRITTEN
    from ..writing_failures import check_file, check_folder

    count = len(recordings)
    if count > 1 and options.output is None and format != "text" and WRITTEN[format].per_recording:
        what = f"{format} has a file for each recording, and there are {count}"
        raise _conflict("--format", what, "add --output DIR")
    if options.output is not None:
        from ..batch.result_files import check_results

        check_results(Path(options.output), format)
    if options.picture is not None:
        from ..reports.timeline_picture import check_picture

        check_picture(options.picture if count == 1 else "one.png")
        if count == 1:
            check_file(options.picture)
        else:
            check_folder(options.picture)


def _conflict(option: str, what: str, fix: str) -> AstHfError:
    return error("E108", where=option, what=what, fix=fix)


def _kind(options: argparse.Namespace) -> str:
    if options.timeline:
        return "events"
    return "windows" if options.aggregate == "none" else "clips"


def _batch(options: argparse.Namespace, inputs: Inputs, device: torch.device) -> Batch:
    from ..acceleration.placement import default_batch_size
    from ..batch.runner import Batch

    arguments = {name: getattr(options, name) for name in _PIPELINE if getattr(options, name) is not None}
    if "threshold" in arguments:
        arguments["threshold"] = _threshold(arguments["threshold"])
    if options.aggregate is not None:
        arguments["aggregate"] = options.aggregate
    if options.timeline:
        arguments["return_timestamps"] = True
    else:
        arguments["top_k"] = options.top_k or _TOP_K
    size = options.batch_size or default_batch_size(device)
    return Batch(inputs.names, arguments, _kind(options), size, inputs.problems)


def _threshold(text: str) -> float | str:
    """Return a number, or the text itself, which the pipeline checks."""
    try:
        return float(text)
    except ValueError:
        return text


def _classify(
    options: argparse.Namespace, classifier: Any, batch: Batch, format: str, signals: StopSignals
) -> list[Entry]:
    """Classify, and print or write the results; return an entry for each recording."""
    from ..batch.runner import classify_batch

    rate = classifier.feature_extractor.sampling_rate
    entries: list[Entry] = []
    pictures = Pictures(options.picture, batch.recordings, rate)
    count = len(batch.recordings)
    width = max((len(printable(name)) for name in batch.recordings), default=0)
    with ExitStack() as stack:
        journal = _journal(options, classifier, batch)
        if journal is not None:
            stack.enter_context(_continued(options))
            stack.enter_context(journal)
        bar = stack.enter_context(_progress(count))
        signals.text = f"after 0 of {count} recordings"
        for entry in classify_batch(classifier, batch, journal, pictures.draw):
            entries.append(entry)
            report(entry, batch.kind, is_text=format == "text", width=width)
            pictures.draw_missing(entry)
            bar.update()
            signals.text = f"after {len(entries)} of {count} recordings"
            signals.stop_now()  # if the exception was lost in code that cannot raise it
        bar.close()
        if journal is not None:
            _write(entries, batch, options.output, format, rate / 2)
            journal.finish(is_complete=all(entry.is_complete for entry in entries))
        elif format != "text" and not options.json:
            print_formatted(entries, format, batch.kind, rate / 2)
        if options.json:
            print_formatted(entries, "json", batch.kind, rate / 2, results_stream(options))
    return entries


def _journal(options: argparse.Namespace, classifier: Any, batch: Batch) -> Journal | None:
    if options.output is None:
        return None
    from ..batch.journal import Journal

    return Journal(Path(options.output), batch.settings(classifier), resume=options.resume)


@contextmanager
def _continued(options: argparse.Namespace) -> Iterator[None]:
    """Add the command that continues to an error of writing (E401)."""
    from ..writing_failures import cannot_write

    try:
        yield
    except AstHfError as problem:
        if problem.code != "E401":
            raise
        raise cannot_write(options.output, problem, then="run the same command with --resume") from problem


def _progress(count: int) -> Any:
    """Return the progress in files."""
    from ..progress import progress_bar

    return progress_bar(
        total=count, desc="classifying", unit="file", leave=sys.stderr.isatty(), disable=count < _BAR
    )


def _write(entries: list[Entry], batch: Batch, output: str, format: str, top_hertz: float) -> None:
    from ..batch.result_files import write_files

    recordings = [entry for entry in entries if entry.name not in batch.problems]
    paths = write_files(recordings, Path(output), format, batch.kind, top_hertz)
    places = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files in {output}"
    print(f"Results: {printable(places)}", file=sys.stderr)


def _load_classifier(checkpoint: str, precision: str | None) -> tuple[Any, Placement]:
    """Return the pipeline of a checkpoint, and where its model is.

    Raises E302 for an impossible precision, E305 or E306 unless it is an AST or ensemble with a classifier.

    No code of the checkpoint is run, and no question asked.
    """
    from transformers import pipeline

    from ..acceleration.placement import check_precision, default_device, place
    from ..feature_extraction_ast import ASTFeatureExtractor
    from ..modeling_ensemble import classes_for
    from ..weights.integrity import check_folder, require_classifier

    device = default_device()
    check_precision(precision, device)
    check_folder(checkpoint)
    _, model_class = classes_for(checkpoint)
    try:
        extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
        with warnings.catch_warnings():  # W303: the error below says it
            warnings.filterwarnings("ignore", r"\[AST-W303\]")
            model, info = model_class.from_pretrained(checkpoint, dtype="auto", output_loading_info=True)
        require_classifier(info, repr(checkpoint))
        model, placement = place(model, device, precision)
        classifier = pipeline(
            "audio-classification",
            model=model,
            feature_extractor=extractor,
            device=device,
            trust_remote_code=False,
        )
        return classifier, placement
    except AstHfError:
        raise
    except ValueError as problem:
        what = f"cannot be read as an audio classifier ({short_reason(problem, limit=160)})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such files on the Hub"
        raise error("E306", where=repr(checkpoint), what=what, fix=fix, detail="unsupported") from problem
