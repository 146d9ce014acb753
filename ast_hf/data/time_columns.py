"""Columns of times: those of a table that say when each labelled sound starts and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import error
from .label_cells import is_null
from .tables import Table
from .unread_columns import BEGINNINGS, ENDS, LENGTHS, PAIRS, named_after, words_of

#: Names by priority, where several columns would do: Raven writes `End Time (s)` and `File Offset (s)`.
_STARTS = ("start", "onset", "begin")
_ENDS_BY_RANK = ("end", "stop", "offset")

#: Words of columns whose numbers are not seconds.
_OTHER_UNITS = frozenset(
    {"ms", "msec", "millis", "millisecond", "milliseconds", "us", "min", "minute", "minutes"}
    | {"frame", "frames", "sample", "samples", "idx", "index"}
)

_RENAME = "name the columns 'start' and 'end', in seconds from the beginning of the recording"


class TimeColumns(NamedTuple):
    """Columns of the start and of the end of a sound, or of its length in place of the end."""

    start: str
    end: str
    is_length: bool = False


def time_columns(table: Table) -> TimeColumns:
    """Return the columns of times of a table, in seconds; raise E208 for a table without them.

    `start`, `onset` and `begin` are starts; `end`, `offset` and `stop` are ends, also in longer names such as
    `Begin Time (s)`. Without an end, a length (`duration`) next to the start counts. `from` and `to` are a
    pair, as are `t0` and `t1`.
    """
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    start = _best(table, named_after(columns, BEGINNINGS), _STARTS)
    end = _best(table, named_after(columns, ENDS), _ENDS_BY_RANK)
    length = _best(table, named_after(columns, LENGTHS), ())
    if start and end:
        return TimeColumns(start, end)
    if start and length:
        return TimeColumns(start, length, is_length=True)
    for pair in PAIRS:
        if set(pair) <= set(columns):
            return TimeColumns(*pair)
    missing = "start" if start is None else "end"
    what = f"has the columns {', '.join(columns)}, none of which is the {missing} of a sound"
    raise error("E208", where=repr(table.where), what=what, fix=_RENAME)


def _best(table: Table, names: Sequence[str], priority: Sequence[str]) -> str | None:
    """Return the column of seconds among some, None without any; raise E208 if all are in other units."""
    seconds = [name for name in names if not words_of(name) & _OTHER_UNITS]
    if names and not seconds:
        what = f"column {names[0]!r} is not in seconds"
        raise error("E208", where=repr(table.where), what=what, fix=_RENAME)
    if len(seconds) > 1:
        seconds = [name for name in seconds if _holds_number(table, name)] or seconds
    return min(seconds, key=lambda name: _rank(name, priority), default=None)


def _rank(name: str, priority: Sequence[str]) -> tuple[int, int]:
    """Return the place of a column among others: by the word in it, then by the number of its words."""
    words = words_of(name)
    ranks = (rank for rank, word in enumerate(priority) if word in words)
    return next(ranks, len(priority)), len(words)


def _holds_number(table: Table, name: str) -> bool:
    """Return True if the first cell with content is a number: Raven's `Begin File` is a name."""
    cells = (row.get(name) for row in table.rows)
    first = next((cell for cell in cells if not is_null(cell) and cell != ""), None)
    try:
        return first is not None and float(first) >= 0
    except (TypeError, ValueError):
        return False
