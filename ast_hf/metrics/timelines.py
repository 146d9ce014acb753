"""Segment F1 and event F1: predicted events with times against those of a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import did_you_mean, error, shown
from ..scalars import is_finite_number
from ..timelines.events import Event

#: Recording -> (length in seconds, events). A recording without events counts too.
Reference = Mapping[str, tuple[float, Sequence[Event]]]
#: Recording -> events.
Predictions = Mapping[str, Sequence[Event]]
#: Recording -> label -> start and end of each event in seconds, float64 `(events, 2)`, ascending.
Spans = dict[str, dict[str, np.ndarray]]

#: Length of a segment in seconds: that of DCASE and `sed_eval` (Mesaros et al. 2016, section 3.2).
SEGMENT_SECONDS = 1.0
#: Tolerance of an onset in seconds, and of an offset unless the event is long: DCASE 2016-2024, `sed_eval`.
COLLAR_SECONDS = 0.2
#: Share of a reference event's length by which its offset may be missed, if that is more than the collar.
OFFSET_SHARE = 0.2
#: Decimals of a second that count: times on a border are on it in spite of rounding, as in `sed_scores_eval`.
DECIMALS = 6
#: Seconds by which a label may end after its recording: one log-mel frame.
_END_TOLERANCE = 0.01


class Counts(NamedTuple):
    """Segments or events of each class: int64 arrays `(classes,)`.

    Attributes:
        hits: true positives.
        predicted: number in the prediction; those that are no hits are false positives.
        reference: number in the reference; those that are no hits are false negatives.
    """

    hits: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 of each class, in [0, 1]; NaN for a class without reference."""
        totals = self.predicted + self.reference
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.reference > 0, 2 * self.hits / totals, np.nan)

    @property
    def micro(self) -> float:
        """F1 of the sums over all classes, those without reference included; NaN without any reference."""
        if not self.reference.sum():
            return math.nan
        return float(2 * self.hits.sum() / (self.predicted.sum() + self.reference.sum()))

    @property
    def macro(self) -> float:
        """Mean F1 of the classes with reference; NaN without any."""
        values = self.f1[self.reference > 0]
        return float(values.mean()) if len(values) else math.nan


def segment_counts(
    reference: Reference,
    predictions: Predictions,
    labels: Sequence[str],
    *,
    segment_seconds: float = SEGMENT_SECONDS,
) -> Counts:
    """Return segments in which each class is active: hits, predicted, in the reference.

    Segments follow each other from the start of a recording; the last one may be shorter. A class is active in a
    segment if an event of it is, however short a part. This is the segment-based F1 of DCASE (Mesaros, Heittola,
    Virtanen 2016, "Metrics for polyphonic sound event detection", section 3.2), as `sed_scores_eval` counts it.

    Raises:
        AstInputError: E108 for a segment that is not above 0 s.
        AstDataError: E208 as `check_reference`.
    """
    check_positive("segment_seconds", segment_seconds)
    true, found = _both_spans(reference, predictions, labels)
    rows = np.zeros((3, len(labels)), dtype=np.int64)
    for name, (seconds, _) in reference.items():
        for index, label in enumerate(labels):
            active = active_segments(true[name][label], seconds, segment_seconds)
            taken = active_segments(found[name][label], seconds, segment_seconds)
            rows[:, index] += ((active & taken).sum(), taken.sum(), active.sum())
    return Counts(*rows)


def event_counts(
    reference: Reference,
    predictions: Predictions,
    labels: Sequence[str],
    *,
    collar_seconds: float = COLLAR_SECONDS,
    offset_share: float = OFFSET_SHARE,
) -> Counts:
    """Return events of each class: hits, predicted, in the reference.

    A predicted event is a hit if it starts within the collar of a reference event's start, and ends within the
    collar, or `offset_share` of the reference event's length if that is more, of its end. Each event is matched
    once, and as many as possible are. This is the event-based F1 of DCASE (as above, section 3.3), as
    `sed_eval` and `sed_scores_eval.collar_based` count it.

    Raises:
        AstInputError: E108 for a collar or share below 0.
        AstDataError: E208 as `check_reference`.
    """
    check_not_negative(collar_seconds=collar_seconds, offset_share=offset_share)
    true, found = _both_spans(reference, predictions, labels)
    rows = np.zeros((3, len(labels)), dtype=np.int64)
    for name in reference:
        for index, label in enumerate(labels):
            events, taken = true[name][label], found[name][label]
            hits = matched_events(events, taken, collar_seconds, offset_share)
            rows[:, index] += (hits, len(taken), len(events))
    return Counts(*rows)


def active_segments(spans: np.ndarray, seconds: float, segment_seconds: float) -> np.ndarray:
    """Return for each segment of a recording whether an event is in it, bool `(segments,)`.

    `spans` are starts and ends in seconds, `(events, 2)`.
    """
    count = math.ceil(round(seconds / segment_seconds, DECIMALS))
    active = np.zeros(count, dtype=bool)
    borders = np.round(np.round(spans, DECIMALS) / segment_seconds, DECIMALS)
    for start, end in borders[borders[:, 1] > borders[:, 0]]:
        active[math.floor(start) : math.ceil(end)] = True
    return active


def matched_events(events: np.ndarray, found: np.ndarray, collar: float, offset_share: float) -> int:
    """Return the most pairs of a reference and a found event that fit, each event in one pair at most.

    Both are starts and ends in seconds, `(events, 2)`.
    """
    if not len(events) or not len(found):
        return 0
    distances = np.abs(found[:, None, :] - events[None, :, :])
    limits = np.maximum(collar, offset_share * (events[:, 1] - events[:, 0]))
    fits = np.round(distances[..., 0] - collar, DECIMALS) <= 0
    fits &= np.round(distances[..., 1] - limits, DECIMALS) <= 0
    if fits.sum(axis=0).max() <= 1 and fits.sum(axis=1).max() <= 1:
        return int(fits.sum())
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int(np.sum(maximum_bipartite_matching(csr_matrix(fits)) >= 0))


def spans_of(events: Sequence[Event], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the starts and ends of the events of each label, `(events, 2)`, ascending."""
    spans: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    for event in events:
        spans[event.label].append((event.start, event.end))
    return {label: np.array(sorted(rows), dtype=np.float64).reshape(-1, 2) for label, rows in spans.items()}


def _both_spans(reference: Reference, predictions: Predictions, labels: Sequence[str]) -> tuple[Spans, Spans]:
    check_reference(reference, labels)
    check_predictions(predictions, reference, labels)
    true = {name: spans_of(events, labels) for name, (_, events) in reference.items()}
    found = {name: spans_of(events, labels) for name, events in predictions.items()}
    return true, found


def check_reference(reference: Reference, labels: Sequence[str]) -> None:
    """Raise E208 for the first event with an unknown label, impossible times, or an overlap with its like.

    Events of different labels may overlap, and events of one label may touch.
    """
    for name, (seconds, events) in reference.items():
        if not is_finite_number(seconds) or seconds <= 0:
            what = f"has a length of {shown(seconds)} s"
            raise error("E208", where=repr(name), what=what, fix="give its length in seconds")
        last: dict[str, Event] = {}
        for event in sorted(events, key=lambda event: (event.start, event.end)):
            _check_label(name, event, labels)
            _check_times(name, event, seconds)
            before = last.get(event.label)
            if before is not None and round(before.end - event.start, DECIMALS) > 0:
                what = f"{_described(before)} and {_described(event)} overlap"
                fix = "make one event of them, or correct their times: events of one label must not overlap"
                raise error("E208", where=repr(name), what=what, fix=fix)
            last[event.label] = event


def check_predictions(predictions: Predictions, reference: Reference, labels: Sequence[str]) -> None:
    """Raise E208 unless the recordings are those of the reference, and the labels known."""
    for name in predictions.keys() - reference.keys():
        fix = did_you_mean(name, reference)
        raise error("E208", where=repr(name), what="is predicted but has no reference", fix=fix)
    for name in reference:
        if name not in predictions:
            fix = "predict it, an empty list included, or leave it out of the reference"
            raise error("E208", where=repr(name), what="has no prediction", fix=fix)
        for event in predictions[name]:
            _check_label(name, event, labels)


def _check_label(name: str, event: Event, labels: Sequence[str]) -> None:
    if event.label not in labels:
        what = f"{_described(event)} has a label that the model does not have"
        raise error("E208", where=repr(name), what=what, fix=did_you_mean(event.label, labels))


def _check_times(name: str, event: Event, seconds: float) -> None:
    if not is_finite_number(event.start) or not is_finite_number(event.end):
        raise error("E208", where=repr(name), what=f"{_described(event)} has no times", fix="give seconds")
    if not 0 <= event.start < event.end:
        what = f"{_described(event)} does not start before it ends, or starts before 0 s"
        raise error("E208", where=repr(name), what=what, fix="correct its times, in seconds")
    if event.end > seconds + _END_TOLERANCE:
        what = f"{_described(event)} ends after the recording of {seconds:.3f} s"
        raise error("E208", where=repr(name), what=what, fix="correct its times, in seconds")


def _described(event: Event) -> str:
    return f"{shown(event.label)} {event.start:.3f}-{event.end:.3f} s"


def check_positive(name: str, value: object) -> None:
    """Raise E108 unless the value is a number above 0."""
    if not is_finite_number(value) or not float(value) > 0:  # type: ignore[arg-type]
        raise error("E108", where=name, what=f"is {shown(value)}", fix="give a number of seconds above 0")


def check_not_negative(**values: object) -> None:
    """Raise E108 unless each value is a number of at least 0."""
    for name, value in values.items():
        if not is_finite_number(value) or not float(value) >= 0:  # type: ignore[arg-type]
            raise error("E108", where=name, what=f"is {shown(value)}", fix="give a number of at least 0")
