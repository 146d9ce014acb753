"""Columns that are not read although their names suggest it: times within a file, and further labels."""

from __future__ import annotations

import re
import reprlib
import warnings
from collections.abc import Iterable, Sequence

from ..errors import AstHfWarning, warning_text
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, Row
from .option_spelling import option

#: Words in the names of columns that state where a clip begins and ends within its file.
_BEGINNINGS = frozenset(
    {"start", "starts", "onset", "onsets", "begin", "begins", "beginning", "tmin", "xmin"}
)
_ENDS = frozenset({"end", "ends", "ending", "offset", "offsets", "stop", "stops", "finish", "tmax", "xmax"})
_LENGTHS = frozenset({"duration", "dur", "length"})

#: Names that count only where the other one is a column too.
_PAIRS = (("from", "to"), ("t0", "t1"), ("t1", "t2"), ("in", "out"), ("begin", "until"), ("min_t", "max_t"))

#: Words that may be next to them: `start_time_s`, `Begin Time (s)`, `segment_start`, `t_start`, `end_frame`.
_QUALIFIERS = frozenset(
    {"time", "times", "timestamp", "point", "t", "at", "s", "sec", "secs", "second", "seconds", "ms", "msec"}
    | {"millis", "millisecond", "milliseconds", "us", "min", "minute", "minutes", "frame", "frames", "sample"}
    | {
        "samples",
        "idx",
        "index",
        "pos",
        "position",
        "event",
        "segment",
        "seg",
        "clip",
        "label",
        "call",
        "sound",
    }
    | {
        "audio",
        "file",
        "in",
        "of",
        "the",
        "annotation",
        "box",
        "window",
        "chunk",
        "region",
        "interval",
        "utterance",
    }
)

#: `startTime` and `Begin Time (s)` are words; so are `start_s` and `t-start`.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def warn_of_times(columns: Sequence[str], paths: Sequence[str], where: str) -> None:
    """Warn (W208) of columns that seem to bound clips within files, where all of each file is read.

    Args:
        columns: the columns of a table whose columns `start` and `end` are read.
        paths: the file of each row.
        where: the table, for the message.
    """
    names = _times(columns)
    if not names:
        return
    read = [name for name in BOUNDARIES if name in columns]
    instead = f"only {read[0]!r} is" if read else "the whole file is, for each row"
    what = (
        f"columns {', '.join(map(repr, names))} look like times within the files and are not read, {instead}"
    )
    shared = len(paths) - len(set(paths))
    if shared and not read:
        what += f" ({len(paths)} rows of {len(set(paths))} files)"
    what += (
        "; rename them 'start' and 'end', in seconds from the beginning of the file (end = start + duration)"
    )
    what += ", unless the files are cut already: then set clip_boundaries=False"
    warnings.warn(warning_text("W208", where=where, what=what), AstHfWarning, 2)


def warn_of_labels(rows: Sequence[Row], label: str, where: str) -> None:
    """Warn (W208) of a second column of labels that groups the clips in another way than the one that is read."""
    for other in LABEL_COLUMNS:
        found = None if other == label else _difference(rows, label, other)
        if found is None:
            continue
        number, row = found
        shown = " and ".join(reprlib.repr(row.get(name)) for name in (label, other))
        what = f"column {label!r} is read as the label and {other!r} is not, which differs (row {number}: {shown})"
        what += f"; name the one to read with {option('label_column')}"
        warnings.warn(warning_text("W208", where=where, what=what), AstHfWarning, 2)


def _difference(rows: Sequence[Row], label: str, other: str) -> tuple[int, Row] | None:
    """Return a row, with its number, of which a second column says something else; None without one.

    A number for each name, or another name for each, is no difference; an empty cell neither.
    """
    given = [
        (number, row) for number, row in enumerate(rows, start=1) if row.get(other) not in (None, "", [])
    ]
    pairs = {(_text(row.get(label)), _text(row[other])) for _, row in given}
    one_to_one = len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})
    lists = [
        place for place in given if isinstance(place[1][other], list) != isinstance(place[1].get(label), list)
    ]
    places = lists if one_to_one else given
    return next(((number, row) for number, row in places if _text(row.get(label)) != _text(row[other])), None)


def _text(cell: object) -> str:
    """Return a cell as text, a list of one label like the label."""
    if isinstance(cell, list):
        return ", ".join(map(str, cell))
    return str(cell)


def _times(columns: Sequence[str]) -> list[str]:
    """Return the columns that seem to state where a clip begins or ends, in place of `start` and `end`.

    A length counts only next to a beginning, since most columns of lengths are those of the files.
    """
    beginnings = [] if "start" in columns else _named(columns, _BEGINNINGS)
    ends = [] if "end" in columns else _named(columns, _ENDS)
    if "end" not in columns and ("start" in columns or beginnings or ends):
        ends += _named(columns, _LENGTHS)
    pairs = [name for pair in _PAIRS for name in columns if set(pair) <= set(columns) and name in pair]
    has_both = set(BOUNDARIES) <= set(columns)
    found = {*beginnings, *ends, *([] if has_both else pairs)}
    return [name for name in columns if name in found]


def _named(columns: Iterable[str], marks: frozenset[str]) -> list[str]:
    """Return the columns whose names have one of `marks`, and only qualifiers next to it."""
    words = {name: {word.lower() for word in _WORD.findall(name)} for name in columns}
    return [name for name, parts in words.items() if parts & marks and parts <= marks | _QUALIFIERS]
