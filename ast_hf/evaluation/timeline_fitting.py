"""Fitting of the rules of timelines: thresholds, shortest event and shortest gap of best F1 on labelled recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..metrics.timelines import (
    COLLAR_SECONDS,
    OFFSET_SHARE,
    SEGMENT_SECONDS,
    Reference,
    active_segments,
    matched_events,
    spans_of,
)
from ..timelines.builder import ScoreCurve, curve_events
from ..timelines.rules import LOW_RATIO, TimelineRules

#: Scores that are tried as thresholds, from the plainest: of equal F1 the first one wins.
THRESHOLDS = (
    *(0.5, 0.55, 0.45, 0.6, 0.4, 0.65, 0.35, 0.7, 0.3, 0.75, 0.25, 0.8, 0.2, 0.85, 0.15, 0.9, 0.1),
    *(0.95, 0.05, 0.98, 0.02, 0.99, 0.01),
)
#: Low thresholds as shares of the threshold, shortest events and shortest gaps in seconds that are tried after
#: those of the given rules, from the plainest.
RATIOS = (LOW_RATIO, 1.0, 0.5, 0.3)
MIN_SECONDS = (0.1, 0.0, 0.05, 0.03, 0.02, 0.25, 0.5, 1.0)
GAP_SECONDS = (0.2, 0.0, 0.1, 0.05, 0.02, 0.5, 1.0)
#: Field of `_Shared` -> rule that it is part of, and values that are tried.
_CHOICES = {
    "gap_seconds": ("gap_seconds", GAP_SECONDS),
    "min_seconds": ("min_seconds", MIN_SECONDS),
    "ratio": ("low_threshold", RATIOS),
}
#: What the fit maximises.
TARGETS = ("event", "segment")
#: Gain in F1 from which another value is better: less is rounding.
GAIN = 1e-9
#: Seconds by which durations that are meant to be equal may differ, as in `timelines.hysteresis`.
_TOLERANCE = 2e-6

Curves = Mapping[str, ScoreCurve]


class Fitted(NamedTuple):
    """Fitted rules.

    Attributes:
        rules: with a threshold for each class.
        before: macro F1 of the given rules on the fitted recordings, in [0, 1].
        after: macro F1 of the fitted rules on them.
        unfitted: classes without reference there, which have the threshold of the given rules.
    """

    rules: TimelineRules
    before: float
    after: float
    unfitted: list[str]


class Criterion(NamedTuple):
    """F1 that is maximised: of segments or events, and their sizes in seconds."""

    target: str = "event"
    segment_seconds: float = SEGMENT_SECONDS
    collar_seconds: float = COLLAR_SECONDS
    offset_share: float = OFFSET_SHARE

    def counts(self, true: np.ndarray, found: np.ndarray, seconds: float) -> np.ndarray:
        """Return hits, predicted and reference of one class in one recording; both are spans `(events, 2)`."""
        if self.target == "segment":
            active = active_segments(true, seconds, self.segment_seconds)
            taken = active_segments(found, seconds, self.segment_seconds)
            return np.array(((active & taken).sum(), taken.sum(), active.sum()))
        hits = matched_events(true, found, self.collar_seconds, self.offset_share)
        return np.array((hits, len(found), len(true)))


class _Shared(NamedTuple):
    """Rules that all classes share."""

    ratio: float
    min_seconds: float
    gap_seconds: float


def fit_rules(
    reference: Reference,
    curves: Curves,
    labels: Sequence[str],
    classes: Sequence[int],
    rules: TimelineRules,
    criterion: Criterion,
    fixed: Sequence[str] = (),
) -> Fitted:
    """Return the rules of best macro F1 on recordings with a reference.

    Each class's threshold is the one of best F1 for it among `THRESHOLDS`. The ratio of the low threshold, the
    shortest event and the shortest gap are shared by all classes and chosen one after the other, again as long as it
    helps. Nothing is drawn, and of equal results the plainer value wins.

    Args:
        reference: recording -> (seconds, events).
        curves: recording -> score curves of `classes`; for single-label models those of `best_only`.
        labels: names of all classes.
        classes: indices of the classes that the curves have, at least those with reference.
        rules: given rules, whose other values stay.
        criterion: what is maximised.
        fixed: rules that stay as given: `"low_threshold"`, `"min_seconds"`, `"gap_seconds"`.
    """
    search = _Search(reference, curves, labels, classes, rules, criterion)
    before = search.given()
    best = _Shared(_given_ratio(rules), rules.min_seconds, rules.gap_seconds)
    value, thresholds = search.best_thresholds(best)
    choices = {
        name: values
        for name, (rule, values) in _CHOICES.items()
        if rule not in fixed and not (name == "ratio" and rules.method == "boxes")
    }
    start = -1.0
    while value > start + GAIN:  # again as long as it helps: each choice depends on the others
        start = value
        for name, values in choices.items():
            for choice in values:
                tried = best._replace(**{name: choice})
                result, chosen = search.best_thresholds(tried)
                if result > value + GAIN:
                    best, value, thresholds = tried, result, chosen
    return Fitted(_stored(rules, best, thresholds, fixed), before, value, search.unfitted)


def _given_ratio(rules: TimelineRules) -> float:
    """Return the low threshold as a share of the threshold; the mean of the classes' shares."""
    if rules.low_threshold is None:
        return LOW_RATIO
    high = np.asarray(rules.threshold, np.float64)
    low = np.asarray(rules.low_threshold, np.float64)
    return float(np.mean(low / high))


def _stored(
    rules: TimelineRules, shared: _Shared, thresholds: Sequence[float], fixed: Sequence[str]
) -> TimelineRules:
    low: Any = None
    if "low_threshold" in fixed or shared.ratio != LOW_RATIO:
        low = [_low(threshold, shared.ratio) for threshold in thresholds]
    return TimelineRules.from_dict(
        {
            **rules.as_dict(),
            "threshold": list(thresholds),
            "low_threshold": low,
            "min_seconds": shared.min_seconds,
            "gap_seconds": shared.gap_seconds,
        }
    )


def _low(threshold: float, ratio: float) -> float:
    return min(round(threshold * ratio, 6), threshold)


class _Search:
    """F1 of rules on recordings, a class at a time.

    Attributes:
        unfitted: classes without reference.
    """

    def __init__(
        self,
        reference: Reference,
        curves: Curves,
        labels: Sequence[str],
        classes: Sequence[int],
        rules: TimelineRules,
        criterion: Criterion,
    ) -> None:
        self.reference = reference
        self.curves = curves
        self.labels = list(labels)
        self.columns = {index: column for column, index in enumerate(classes)}
        self.rules = rules
        self.criterion = criterion
        self.spans = {name: spans_of(events, labels) for name, (_, events) in reference.items()}
        present = {event.label for _, events in reference.values() for event in events}
        self.fitted = [index for index, label in enumerate(labels) if label in present]
        self.unfitted = [label for label in labels if label not in present]
        self._high, self._low = rules.thresholds(len(self.labels))

    def given(self) -> float:
        """Return the macro F1 of the given rules."""
        shared = _Shared(0.0, self.rules.min_seconds, self.rules.gap_seconds)
        values = [self._f1(index, self._high[index], self._low[index], shared) for index in self.fitted]
        return float(np.mean(values)) if values else float("nan")

    def best_thresholds(self, shared: _Shared) -> tuple[float, list[float]]:
        """Return the macro F1 of the best threshold of each class, and the thresholds of all classes."""
        thresholds = self._high.tolist()
        values = []
        for index in self.fitted:
            value = -1.0
            for threshold in THRESHOLDS:
                f1 = self._f1(index, threshold, _low(threshold, shared.ratio), shared)
                if f1 > value + GAIN:
                    value = f1
                    thresholds[index] = threshold
            values.append(value)
        return (float(np.mean(values)) if values else float("nan")), thresholds

    def _f1(self, index: int, high: float, low: float, shared: _Shared) -> float:
        total = np.zeros(3, dtype=np.int64)
        for name, (seconds, _) in self.reference.items():
            found = self._events(name, index, high, low, shared)
            total += self.criterion.counts(self.spans[name][self.labels[index]], found, seconds)
        hits, predicted, reference = total
        return 2 * hits / (predicted + reference)

    def _events(self, name: str, index: int, high: float, low: float, shared: _Shared) -> np.ndarray:
        """Return the events of one class in one recording, as starts and ends `(events, 2)`."""
        times, scores = self.curves[name]
        column = scores[:, self.columns[index]]
        if self.rules.method == "hysteresis":
            return hysteresis_spans(times, column, high, low, shared.min_seconds, shared.gap_seconds)
        rules = self.rules.replace(
            threshold=high, min_seconds=shared.min_seconds, gap_seconds=shared.gap_seconds
        )
        label = self.labels[index]
        return spans_of(curve_events(ScoreCurve(times, column[:, None]), [label], rules), [label])[label]


def hysteresis_spans(
    times: np.ndarray, column: np.ndarray, high: float, low: float, min_seconds: float, gap_seconds: float
) -> np.ndarray:
    """Return the events of one curve by hysteresis, as starts and ends in seconds `(events, 2)`.

    They are those of `curve_events`, found at once and so fast enough to try many rules.

    Args:
        times: start of each step, and the end of the last one, `(steps + 1,)`.
        column: `(steps,)`.
        high: threshold.
        low: low threshold.
        min_seconds: shortest event.
        gap_seconds: shortest gap.
    """
    above = np.concatenate(([False], (column >= low) & (column > 0.0), [False]))  # 0 is no sound
    edges = np.flatnonzero(above[1:] != above[:-1])
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.zeros((0, 2))
    highest = np.maximum.reduceat(np.append(column, -np.inf), edges)[::2]
    starts, ends = times[starts[highest >= high]], times[ends[highest >= high]]
    if not len(starts):
        return np.zeros((0, 2))
    apart = starts[1:] - ends[:-1] >= gap_seconds - _TOLERANCE
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    return np.stack((starts, ends), axis=1)[ends - starts >= min_seconds - _TOLERANCE]
