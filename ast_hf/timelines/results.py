"""Results of a recording (scores of the clip, scores of windows, or events) as checked and rounded rows.

Rounding makes files byte-stable and the same on all machines: times to microseconds, scores to 6 significant digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import AstHfError, error, not_a_choice, shown
from ..scalars import is_finite_number, plain_scalar
from .events import Event

#: Kinds of results -> key of the list in a JSON file.
KINDS = {"clips": "scores", "windows": "windows", "events": "events"}

#: Decimals of times in seconds. A sample at 384 kHz lasts 2.6 microseconds; Audacity writes 6 decimals too.
TIME_DECIMALS = 6

#: Significant digits of scores, about those of float32.
SCORE_DIGITS = 6


class Result(NamedTuple):
    """Results of one recording.

    Attributes:
        name: the recording, as files will name it.
        kind: one of `KINDS`.
        content: output of the pipeline for this recording: `[{"score", "label"}]` for clips,
            `[{"start", "end", "scores": [{"score", "label"}]}]` for windows, and `Event` objects or
            `[{"label", "score", "start", "end"}]` for events.
        top_hertz: highest frequency that the model takes in, for the boxes of Raven's tables.
    """

    name: str
    kind: str
    content: Sequence[Any]
    top_hertz: float = 8_000.0


class Row(NamedTuple):
    """One score: of a label in a clip (without times), in a window, or of an event. Times are in seconds."""

    start: float | None
    end: float | None
    label: str
    score: float


def rows_of(result: Result) -> list[Row]:
    """Return the rows of a result, rounded.

    Events are sorted by start, end and label; windows by start. Scores of a clip or window keep their order.

    Raises:
        AstInputError: E108 for a kind that does not exist, and for a start below 0, an end not after the start,
            an empty label, or a score outside [0, 1].
    """
    if result.kind not in KINDS:
        raise not_a_choice("E108", where="kind", value=result.kind, choices=KINDS)
    where = f"result of {result.name!r}"
    if result.kind == "events":
        return sorted(_row(event, number, where) for number, event in enumerate(result.content, 1))
    if result.kind == "clips":
        return [_row(scores, number, where, timed=False) for number, scores in enumerate(result.content, 1)]
    windows = sorted(result.content, key=lambda window: window["start"])
    return [
        _row({**window, **scores}, number, where)
        for number, window in enumerate(windows, 1)
        for scores in window["scores"]
    ]


def labelled_rows(result: Result) -> list[Row]:
    """Return the events of a result, or the best label of each window, for files of labels.

    Raises:
        AstInputError: E108 for scores of clips, which have no times, and the errors of `rows_of`.
    """
    rows = rows_of(result)
    if result.kind == "events":
        return rows
    best: dict[tuple, Row] = {}
    for row in rows:
        kept = best.get(row[:2])
        if kept is None or row.score > kept.score:
            best[row[:2]] = row
    return list(best.values())


def _fields(event: Event | Mapping[str, Any], place: str) -> Mapping[str, Any]:
    fields = event.as_dict() if isinstance(event, Event) else event
    if not isinstance(fields, Mapping):
        what = f"has {shown(event)}, which is not an event"
        raise _impossible(place, what, "give an Event(start, end, label), or what the pipeline returns")
    return fields


def _row(event: Event | Mapping[str, Any], number: int, where: str, *, timed: bool = True) -> Row:
    """Return a checked row; raise E108 for values that no file can hold."""
    place = f"{where}, number {number}"
    fields = _fields(event, place)
    label = fields.get("label")
    if not isinstance(label, str) or not label.strip():
        raise _impossible(place, f"has the label {shown(label)}", "give every event a name")
    score = plain_scalar(fields.get("score"))
    if not (is_finite_number(score) and 0 <= score <= 1):
        raise _impossible(place, f"has the score {shown(score)}", "give a score from 0 to 1")
    score = float(f"{score:.{SCORE_DIGITS}g}")
    if not timed:
        return Row(None, None, label, score)
    start = plain_scalar(fields.get("start"))
    end = plain_scalar(fields.get("end"))
    if not (is_finite_number(start) and is_finite_number(end) and 0 <= start < end):
        what = f"lasts from {shown(start)} to {shown(end)} s"
        raise _impossible(place, what, "give a start from 0 on, and an end after it")
    start = round(float(start), TIME_DECIMALS) + 0.0
    return Row(start, _end_after(start, float(end)), label, score)


def _end_after(start: float, end: float) -> float:
    """Return the rounded end, at least a microsecond after the start."""
    end = round(end, TIME_DECIMALS)
    return end if end > start else round(start + 10.0**-TIME_DECIMALS, TIME_DECIMALS)


def _impossible(where: str, what: str, fix: str) -> AstHfError:
    return error("E108", where=where, what=what, fix=fix)


def time_text(seconds: float) -> str:
    """Return seconds as text without an exponent: `3.0`, `3.2`, `0.000001`."""
    text = f"{seconds:.{TIME_DECIMALS}f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def score_text(score: float) -> str:
    """Return a rounded score as text that reads back as the same number."""
    return repr(score)
