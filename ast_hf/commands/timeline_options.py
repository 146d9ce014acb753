"""Options of `ast-hf evaluate --timeline`: windows, rules of events, fit, and what F1 counts."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import error
from .console import EXIT_DATA, print_json, show
from .data_options import reading_arguments


def _threshold(text: str) -> float | str:
    try:
        return text if text == "fitted" else float(text)
    except ValueError:
        what = f"{text!r} is neither a number in (0, 1] nor fitted"
        raise argparse.ArgumentTypeError(what) from None


#: Argument of the pipeline -> type, help. `--window_seconds` and `--recordings` are options of reading, too.
_RULES: dict[str, tuple[Any, str]] = {
    "hop_seconds": (float, "seconds from window to window (default: a quarter of a window)"),
    "threshold": (_threshold, "score from which an event begins, or fitted (default: as stored, else 0.5)"),
    "low_threshold": (float, "score down to which an event extends (default: 0.7 times the threshold)"),
    "min_seconds": (float, "shortest event in seconds"),
    "gap_seconds": (float, "shortest gap between two events of a label in seconds"),
    "silence_db": (float, "level in dBFS below which nothing is an event"),
    "method": (str, "hysteresis or boxes"),
    "column_weight": (float, "weight of single time columns beside their windows, 0 to 1"),
}
#: Argument of `evaluate_timelines` -> type, help.
_SCORES: dict[str, tuple[Any, str]] = {
    "fit_target": (str, "F1 that --fit-on maximises: event (default) or segment"),
    "segment_seconds": (float, "length of a segment in seconds (default: 1)"),
    "collar_seconds": (float, "tolerance of onsets and offsets in seconds (default: 0.2)"),
    "format": (str, "format of the predicted events: csv (default), json or parquet"),
}
#: Options of an evaluation of clips, which has no meaning for timelines -> value if it is not given.
_OF_CLIPS = {
    "average": False,
    "ensemble": False,
    "save_logits": None,
    "config_name": None,
    "clip_boundaries": None,
    "window_hop_seconds": None,
    "empty_windows": None,
    "min_overlap": None,
    "window_labels": None,
}


def add_timeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "--timeline",
        action="store_true",
        help="evaluate events with times: DATA is a table with start, end and label, or a folder with label files, "
        "and --window_seconds the length of the model's windows",
    )
    for name, (kind, text) in {**_RULES, **_SCORES}.items():
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--merge_overlaps", action="store_true", help="join sounds of one label that overlap")


def check_no_timeline_options(options: argparse.Namespace) -> None:
    """Raise E108 for an option of timelines without `--timeline`."""
    given = [name for name in (*_RULES, *_SCORES) if getattr(options, name) is not None]
    given += ["merge_overlaps"] if options.merge_overlaps else []
    if given:
        what = "is an option of timelines only"
        raise error("E108", where=f"--{given[0]}", what=what, fix="add --timeline, or leave it out")


def run_timelines(options: argparse.Namespace) -> int | None:
    """Evaluate a timeline, and print its scores; return 65 if a recording could not be read."""
    for name, absent in _OF_CLIPS.items():
        if getattr(options, name) != absent:
            what = "has no effect on timelines"
            raise error("E108", where=f"--{name}", what=what, fix="leave it or --timeline out")
    if len(options.checkpoints) > 1:
        what = f"are {len(options.checkpoints)}, and timelines are of one"
        fix = "name one; an ensemble that was saved with --ensemble is one"
        raise error("E108", where="checkpoints", what=what, fix=fix)
    from ..evaluation.timelines import evaluate_timelines

    reading = reading_arguments(options)
    rules = {"window_seconds": reading.pop("window_seconds", None)}
    rules |= {name: getattr(options, name) for name in _RULES}
    given = {name: getattr(options, name) for name in _SCORES}
    evaluation = evaluate_timelines(
        options.checkpoints[0],
        options.data,
        output_dir=options.output,
        split=options.split,
        rules=rules,
        fit_on=options.fit_on,
        store=options.store,
        batch_size=options.batch_size,
        precision=options.precision,
        merge_overlaps=options.merge_overlaps,
        **{name: value for name, value in given.items() if value is not None},
        **reading,
    )
    if options.json:
        print_json(options, {**evaluation.to_dict(), "folder": options.output})
    else:
        show(evaluation.table())
    is_incomplete = evaluation.unread or (evaluation.fit is not None and evaluation.fit.unread)
    return EXIT_DATA if is_incomplete else None
