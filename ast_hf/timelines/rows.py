"""Rows of event files: their cells checked and turned into events, with errors that name the row.

A cell that is not what it should be raises E208 with the file, the row, the field and the fix: an event at a
wrong time harms silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from ..errors import AstHfError, error, shown
from ..scalars import is_finite_number, plain_scalar
from .events import Event

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)
_CLOCK = re.compile(r"\d+(:\d+){1,2}([.,]\d*)?", re.ASCII)


class EventRow(NamedTuple):
    """One row of an event file.

    Attributes:
        recording: the recording as the file names it, None for files that do not name any.
        event: the event; None for a row that states that its recording has no events.
        place: the row in messages, such as `"row 3"` or `"line 7"`.
    """

    recording: str | None
    event: Event | None
    place: str


def events_by_recording(rows: Iterable[EventRow]) -> dict[str | None, list[Event]]:
    """Return recording -> events in the order of the file; recordings without events have an empty list."""
    recordings: dict[str | None, list[Event]] = {}
    for row in rows:
        events = recordings.setdefault(row.recording, [])
        if row.event is not None:
            events.append(row.event)
    return recordings


def make_event(start: Any, end: Any, label: Any, score: Any, where: str) -> Event:
    """Return the event of four cells: text or numbers.

    Args:
        start: seconds, from 0 on.
        end: seconds, after the start.
        label: text that is not empty; whole numbers become text.
        score: a number in [0, 1]; an empty cell is 1, the score of a label of a person.
        where: file and row, for messages.

    Raises:
        AstDataError: E208 for cells outside of these ranges.
    """
    first = seconds(start, where, "start")
    last = seconds(end, where, "end")
    if last <= first:
        what = f"ends at {shown(last)} s, not after its start at {shown(first)} s"
        raise _bad(where, what, "swap or correct the times")
    return Event(first, last, label_text(label, where), _score(score, where))


def seconds(cell: Any, where: str, field: str) -> float:
    """Return a cell as seconds from 0 on; raise E208 for another one."""
    value = number(cell, where, field)
    if value < 0:
        fix = "give seconds from the beginning of the recording"
        raise _bad(where, f"has a negative {field}, {value:g} s", fix)
    return value + 0.0  # 0 for -0


def number(cell: Any, where: str, field: str) -> float:
    """Return a cell as a finite number; raise E208, with the likely reason, for another one."""
    if is_empty(cell):
        raise _bad(where, f"has no {field}", f"give the {field}, or leave the row out")
    value = plain_scalar(cell)
    text = value.strip() if isinstance(value, str) else None
    if isinstance(value, Decimal) or (text is not None and _NUMBER.fullmatch(text)):
        value = float(value)
    if is_finite_number(value):
        return float(value)
    what = f"has the {field} {shown(cell)}, which is not a finite number"
    raise _bad(where, what, _fix_of_number(text or ""))


def _fix_of_number(text: str) -> str:
    if _COMMA.fullmatch(text):
        return f"write a point for the decimal comma, {text.replace(',', '.')}"
    if _CLOCK.fullmatch(text):
        return "give seconds, not hours and minutes"
    return "give a number, such as 1.5"


def label_text(cell: Any, where: str) -> str:
    """Return a cell as the name of a class, without white space around it; raise E208 for another one."""
    if is_empty(cell):
        raise _bad(where, "has no label", "name the event, or leave the row out")
    value = plain_scalar(cell)
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps, as pandas stores it
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip()
    raise _bad(where, f"has the label {shown(cell)}, which is not text", "write one row for each label")


def recording_name(cell: Any, where: str) -> str | None:
    """Return a cell as the name of a recording, None for an empty one; raise E208 for what is not text."""
    if is_empty(cell):
        return None
    value = plain_scalar(cell)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise _bad(where, f"has the recording {shown(cell)}, which is not text", "write the name of the file")


def _score(cell: Any, where: str) -> float:
    if is_empty(cell):
        return 1.0
    value = number(cell, where, "score")
    if not 0 <= value <= 1:
        what = f"has the score {value:g}, outside 0..1"
        raise _bad(where, what, "divide the scores, or give their column another name")
    return value


def is_empty(cell: Any) -> bool:
    """Return True for None, blank text, and NaN, which pandas stores for an empty cell."""
    value = plain_scalar(cell)
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _bad(where: str, what: str, fix: str) -> AstHfError:
    return error("E208", where=where, what=what, fix=fix)
