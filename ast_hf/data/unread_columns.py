"""Columns that are not read although they seem to matter: times within a file, further labels, splits."""

from __future__ import annotations

import itertools
import os
import re
import reprlib
import warnings
from collections.abc import Iterable, Sequence

from ..errors import AstHfWarning, warning_text
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, SPLIT_NAMES, Row
from .option_spelling import chosen, option

#: Words in the names of columns that state where a clip begins and ends within its file.
_BEGINNINGS = frozenset(
    {"start", "starts", "onset", "onsets", "begin", "begins", "beginning", "beg", "tmin", "xmin"}
    | {"starttime", "begintime", "onsettime", "inicio", "debut", "anfang", "beginn"}
)
_ENDS = frozenset(
    {"end", "ends", "ending", "offset", "offsets", "stop", "stops", "finish", "tmax", "xmax"}
    | {"endtime", "stoptime", "offsettime", "fin", "ende"}
)
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


def warn_of_times(rows: Sequence[Row], paths: Sequence[str], where: str) -> None:
    """Warn (W208) of columns that seem to bound clips within files, where all of each file is read.

    Args:
        rows: the rows of a table whose columns `start` and `end` are read.
        paths: the file of each row.
        where: the table, for the message.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    names = _times(columns)
    if not names and not any(name in columns for name in BOUNDARIES):
        names = _intervals(rows, paths, columns)
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
    if shared:
        what += f"; for labels of sounds in recordings, set {option('window_seconds')}"
    warnings.warn(warning_text("W208", where=where, what=what), AstHfWarning, 2)


def warn_of_splits(rows: Sequence[Row], paths: Sequence[str], where: str) -> None:
    """Warn (W208) of rows that are all in `train`, where a column or the folders of the files name other splits.

    Args:
        rows: the rows of a table of which no option, and no column that is read, says the split.
        paths: the file of each row.
        where: the table, for the message.
    """
    columns = [name for name in rows[0] if _names_splits(row.get(name) for row in rows)]
    folders = {part for folder in set(map(os.path.dirname, paths)) for part in re.split(r"[/\\]", folder)}
    splits = sorted(folder for folder in folders if folder.lower() in SPLIT_NAMES)
    if columns:
        what = f"column {columns[0]!r} names splits and is not read, all rows are in the split 'train'"
        what += f"; read it with {chosen(split_column=columns[0])}"
    elif len({SPLIT_NAMES[name.lower()] for name in splits}) > 1:
        what = f"its files are in folders of splits ({', '.join(map(repr, splits))}), and all rows are in the split "
        what += "'train'; name the split of each row in a column 'split'"
    else:
        return
    warnings.warn(warning_text("W208", where=where, what=what), AstHfWarning, 2)


def _names_splits(cells: Iterable[object]) -> bool:
    """Return True if all cells name splits, and at least two."""
    names = set()
    for cell in cells:
        name = str(cell).strip().lower()
        if name not in SPLIT_NAMES:
            return False
        names.add(SPLIT_NAMES[name])
    return len(names) > 1


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


def _intervals(rows: Sequence[Row], paths: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return two columns next to each other that seem to be times of events by their numbers, [] without any.

    Their names may be any (`de,a`): the second is larger in each row, and no two rows of a file begin alike.
    """
    if not all(paths) or len(paths) < 2 * len(set(paths)):
        return []
    for first, second in itertools.pairwise(columns):
        beginnings = _numbers(rows, first)
        ends = _numbers(rows, second)
        if not beginnings or not ends or len(set(zip(paths, beginnings, strict=True))) < len(rows):
            continue
        if all(0 <= beginning < end for beginning, end in zip(beginnings, ends, strict=True)):
            return [first, second]
    return []


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    """Return the cells of a column as numbers, [] if one is not a number."""
    try:
        return [float(row[name]) for row in rows]
    except (KeyError, TypeError, ValueError):
        return []


def _named(columns: Iterable[str], marks: frozenset[str]) -> list[str]:
    """Return the columns whose names have one of `marks`, and only qualifiers next to it."""
    words = {name: {word.lower() for word in _WORD.findall(name)} for name in columns}
    return [name for name, parts in words.items() if parts & marks and parts <= marks | _QUALIFIERS]
