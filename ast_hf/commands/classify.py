"""`ast-hf classify`: print or write the labels, or the events with times, of recordings."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AstHfError, error, short_reason
from ..printing import printable
from .console import EXIT_DATA, complain, finite, quiet_transformers, whole

if TYPE_CHECKING:
    from ..batch.journal import Entry
    from ..batch.runner import Batch

#: Formats of `--format`: text lines, and those of `timelines.formats.FORMATS`.
FORMATS = ("text", "json", "csv", "parquet", "audacity", "raven", "webvtt", "rttm")
#: Options that are passed on to the pipeline -> type and help.
_PIPELINE: dict[str, tuple[Any, str]] = {
    "window_seconds": (finite, "length of a window (default: the model's)"),
    "hop_seconds": (finite, "from window to window (default: a window, for timelines a quarter of it)"),
    "threshold": (str, 'lowest score, in [0, 1], or "fitted" for the checkpoint\'s own'),
    "low_threshold": (finite, "timelines: score that an event keeps (default: half the threshold)"),
    "min_seconds": (finite, "timelines: shortest event"),
    "gap_seconds": (finite, "timelines: shorter gaps are closed"),
    "silence_db": (finite, "timelines: level in dBFS below which nothing is an event"),
    "method": (str, "timelines: hysteresis (default) or boxes"),
    "column_weight": (finite, "timelines: weight of the scores of single columns, 0 to 1 (default: 0)"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", help="folder or Hub name")
    parser.add_argument(
        "files", nargs="+", help='audio files, folders of them, or patterns such as "field/**/*.flac"'
    )
    parser.add_argument("--top_k", type=whole(1), default=3, help="labels per file (default: %(default)s)")
    parser.add_argument("--timeline", action="store_true", help="events with start and end instead of labels")
    parser.add_argument(
        "--aggregate", choices=("mean", "max", "none"), help="of a long file's windows (default: mean)"
    )
    for name, (kind, text) in _PIPELINE.items():
        choices = ("hysteresis", "boxes") if name == "method" else None
        parser.add_argument(f"--{name}", type=kind, help=text, choices=choices)
    parser.add_argument(
        "--batch_size", type=whole(1), default=8, help="windows at a time (default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the results (default: text, with --output csv)")
    parser.add_argument("--output", metavar="DIR", help="folder for the results instead of the terminal")
    parser.add_argument(
        "--resume", action="store_true", help="continue a batch that was interrupted; needs --output"
    )
    parser.add_argument(
        "--picture",
        metavar="PNG",
        help="draw waveform, spectrogram and timeline of one recording; a folder for several",
    )


def run(options: argparse.Namespace) -> int:
    """Classify the recordings; a bad one is reported, and the others are still classified.

    Returns:
        The exit code, 65 if any recording could not be classified to its end.
    """
    from ..batch.inputs import find_recordings

    quiet_transformers()
    format = _check_options(options)
    recordings = find_recordings(options.files)
    _check_one_file(options, format, recordings)
    classifier = _load_classifier(options.checkpoint)
    batch = _batch(options, recordings)
    classifier.call(**batch.arguments)  # impossible options are found before any file is read
    entries = _classify(options, classifier, batch, format)
    return _summarise(entries, options)


def _check_options(options: argparse.Namespace) -> str:
    """Return the format; raise E108 for options that contradict each other."""
    if options.resume and options.output is None:
        raise _conflict("--resume", "needs --output: the journal is in that folder", "add --output DIR")
    if options.picture and not options.timeline:
        raise _conflict("--picture", "shows a timeline", "add --timeline")
    if options.format == "parquet" and options.output is None:
        raise _conflict("--format", "parquet is not text", "add --output DIR")
    if options.format == "text" and options.output is not None:
        raise _conflict("--format", "text is for the terminal", "use csv or another format with --output")
    format = options.format or ("text" if options.output is None else "csv")
    if format != "text":
        from ..timelines.formats import check_format

        check_format(format, _kind(options))
    return format


def _check_one_file(options: argparse.Namespace, format: str, recordings: list[str]) -> None:
    """Raise E108 for several recordings in a format with a file for each, and no folder for them."""
    from ..timelines.formats import FORMATS as WRITTEN

    if len(recordings) > 1 and options.output is None and format != "text" and WRITTEN[format].per_recording:
        what = f"{format} has a file for each recording, and there are {len(recordings)}"
        raise _conflict("--format", what, "add --output DIR")


def _conflict(option: str, what: str, fix: str) -> AstHfError:
    return error("E108", where=option, what=what, fix=fix)


def _kind(options: argparse.Namespace) -> str:
    if options.timeline:
        return "events"
    return "windows" if options.aggregate == "none" else "clips"


def _batch(options: argparse.Namespace, recordings: list[str]) -> Batch:
    from ..batch.runner import Batch

    arguments = {name: getattr(options, name) for name in _PIPELINE if getattr(options, name) is not None}
    if "threshold" in arguments:
        arguments["threshold"] = _threshold(arguments["threshold"])
    if options.aggregate is not None:
        arguments["aggregate"] = options.aggregate
    if options.timeline:
        arguments["return_timestamps"] = True
    else:
        arguments["top_k"] = options.top_k
    return Batch(recordings, arguments, _kind(options), options.batch_size)


def _threshold(text: str) -> float | str:
    """Return a number, or the text itself, which the pipeline checks."""
    try:
        return float(text)
    except ValueError:
        return text


def _classify(options: argparse.Namespace, classifier: Any, batch: Batch, format: str) -> list[Entry]:
    """Classify, and print or write the results; return an entry for each recording."""
    from ..batch.journal import Journal
    from ..batch.runner import classify_batch, write_files

    rate = classifier.feature_extractor.sampling_rate
    entries: list[Entry] = []
    with ExitStack() as stack:
        journal = None
        if options.output is not None:
            settings = batch.settings(classifier)
            journal = stack.enter_context(Journal(Path(options.output), settings, resume=options.resume))
        bar = stack.enter_context(_progress(options, len(batch.recordings)))
        for entry in classify_batch(classifier, batch, journal):
            entries.append(entry)
            bar.update()
            if format == "text":
                _print_text(entry, batch.kind)
            if entry.content is None:
                complain(entry.problem)
            elif options.picture:
                _draw(options.picture, entry, rate, is_only=len(batch.recordings) == 1)
        if journal is not None:
            paths = write_files(entries, Path(options.output), format, batch.kind, rate / 2)
            journal.finish()
            places = paths[0] if len(paths) == 1 else f"{len(paths)} files in {options.output}"
            print(f"Results: {printable(str(places))}", file=sys.stderr)
        elif format != "text":
            _print_formatted(entries, format, batch.kind, rate / 2)
    return entries


@contextmanager
def _progress(options: argparse.Namespace, count: int) -> Iterator[Any]:
    """Show a bar of files on a terminal; after Ctrl-C say how far the batch is, and how to continue."""
    from tqdm.auto import tqdm

    with tqdm(total=count, unit="file", disable=count < 5 or None) as bar:
        try:
            yield bar
        except KeyboardInterrupt as problem:
            advice = "the same command with --resume continues" if options.output else "nothing is stored"
            raise KeyboardInterrupt(advice) from problem


def _print_text(entry: Entry, kind: str) -> None:
    from tqdm.auto import tqdm

    for cells in _lines(entry, kind):
        tqdm.write("\t".join([printable(entry.name), *cells]), file=sys.stdout)


def _lines(entry: Entry, kind: str) -> list[list[str]]:
    """Return the cells behind the name in each line of a recording's text."""
    if entry.content is None:
        return []
    if kind == "clips":
        return [[_scores(entry.content)]]
    times = [[f"{part['start']:.2f}", f"{part['end']:.2f}"] for part in entry.content]
    if kind == "windows":
        return [[*time, _scores(part["scores"])] for time, part in zip(times, entry.content, strict=True)]
    labels = [[printable(event["label"]), f"{event['score']:.3f}"] for event in entry.content]
    return [[*time, *label] for time, label in zip(times, labels, strict=True)]


def _scores(entries: list[dict[str, Any]]) -> str:
    return "  ".join(f"{printable(entry['label'])} {entry['score']:.3f}" for entry in entries)


def _print_formatted(entries: list[Entry], format: str, kind: str, top_hertz: float) -> None:
    from ..timelines.formats import results_text
    from ..timelines.results import Result

    results = [
        Result(entry.name, kind, entry.content, top_hertz) for entry in entries if entry.content is not None
    ]
    print(results_text(results, format, kind), end="")


def _draw(picture: str, entry: Entry, rate: int, *, is_only: bool) -> None:
    from ..reports.timeline_picture import draw_timeline

    path = Path(picture)
    if not is_only:
        path = path / f"{Path(entry.name).name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_timeline(entry.name, entry.content or [], path, sampling_rate=rate)


def _summarise(entries: list[Entry], options: argparse.Namespace) -> int:
    """Print what could not be classified, and return the exit code."""
    failed = sum(entry.content is None for entry in entries)
    partly = sum(entry.content is not None and not entry.is_complete for entry in entries)
    if len(entries) > 1 or failed or partly:
        seconds = sum(entry.seconds for entry in entries)
        parts = [f"{len(entries) - failed - partly} classified ({seconds / 60:.1f} min of audio)"]
        parts += [f"{partly} only in part"] if partly else []
        parts += [f"{failed} not"] if failed else []
        advice = (
            "; --resume tries these again" if options.output and (failed or partly) and options.resume else ""
        )
        complain(f"{len(entries)} recordings: {', '.join(parts)}{advice}")
    return EXIT_DATA if failed or partly else 0


def _load_classifier(checkpoint: str) -> Any:
    """Return the pipeline of a checkpoint; raise E305 or E306 unless it is an AST or ensemble with a classifier.

    No code of the checkpoint is run, and no question asked.
    """
    from transformers import pipeline

    from ..feature_extraction_ast import ASTFeatureExtractor
    from ..modeling_ensemble import classes_for
    from ..weights.integrity import check_folder, require_classifier

    check_folder(checkpoint)
    _, model_class = classes_for(checkpoint)
    try:
        extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
        with warnings.catch_warnings():  # W303: the error below says it
            warnings.filterwarnings("ignore", r"\[AST-W303\]")
            model, info = model_class.from_pretrained(checkpoint, dtype="auto", output_loading_info=True)
        require_classifier(info, repr(checkpoint))
        return pipeline(
            "audio-classification", model=model, feature_extractor=extractor, trust_remote_code=False
        )
    except AstHfError:
        raise
    except ValueError as problem:
        what = f"cannot be read as an audio classifier ({short_reason(problem, limit=160)})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such files on the Hub"
        raise error("E306", where=repr(checkpoint), what=what, fix=fix, detail="unsupported") from problem
