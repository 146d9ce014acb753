"""Events of score curves by hysteresis, as a stream: each event once, as soon as nothing later can change it.

Times are steps of the curve here, and gaps and durations are compared in samples.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .rules import LOW_RATIO, TimelineRules

#: Seconds by which durations that are meant to be equal may differ: less than a sample.
_TOLERANCE = 2e-6


class Segment(NamedTuple):
    """Steps of a class that are an event.

    Attributes:
        start: first step.
        end: step after the last one.
        number: index of the class.
        score: highest value of the curve.
        decided: number of steps after which the event is certain. Events are reported in this order.
    """

    start: int
    end: int
    number: int
    score: float
    decided: int = 0

    @property
    def order(self) -> tuple[int, int, int]:
        """Place among the reported events."""
        return self.decided, self.start, self.number


class _Run:
    """Steps of a class at or above the low threshold that are not complete: first step, highest value so far."""

    def __init__(self, start: int, index: int, score: float) -> None:
        self.start = start
        self.index = index
        self.score = score


class _Pending:
    """An event that a later run may still extend, or (exclusive) remove."""

    def __init__(self, start: int, end: int, score: float, decided: int) -> None:
        self.start = start
        self.end = end
        self.score = score
        self.decided = decided


class HysteresisTracker:
    """Finds the events of a score curve that comes in parts; the result does not depend on the parts.

    A run is a maximal stretch of steps at or above the low threshold. It is an event if it reaches the threshold.
    Events of a class with a gap shorter than `gap_seconds` are merged, and then those shorter than `min_seconds`
    are dropped.

    In an exclusive model only the best class of a step counts, so that events never overlap. Where a class
    returns within `gap_seconds`, the events of other classes in its gap are removed: it has not ended there.

    Args:
        rules: thresholds and durations.
        classes: number of classes.
        boundary: first sample of a step.
        rate: sampling rate in Hz.
        exclusive: whether only one class can be active at a time.
    """

    def __init__(
        self, rules: TimelineRules, classes: int, boundary: Callable[[int], int], rate: int, exclusive: bool
    ) -> None:
        self.steps = 0
        self._high, self._low = rules.thresholds(classes)
        self._low = np.maximum(self._low, np.finfo(np.float64).tiny)  # 0 is no sound
        tolerance = _TOLERANCE * rate
        self._gap = rules.gap_seconds * rate - tolerance
        self._least = rules.min_seconds * rate - tolerance
        self._boundary = boundary
        self._exclusive = exclusive
        self._active = np.zeros(classes, bool)  # classes with a run that is not complete
        self._runs: dict[int, _Run] = {}
        self._pending: dict[int, _Pending] = {}
        self._decided: list[Segment] = []

    def push(self, curve: np.ndarray) -> list[Segment]:
        """Take the next steps `(steps, classes)`, and return the events that are certain now, in their order."""
        values = best_only(curve) if self._exclusive else curve
        for run, end in self._completed_runs(values):
            self._complete(run, end)
        self.steps += len(curve)
        return self._certain()

    def close(self, length: int | None = None) -> list[Segment]:
        """Return the remaining events. The curve ends here; `length` is the number of samples, if it is known."""
        for run in sorted(self._runs.values(), key=lambda run: run.start):
            self._complete(run, self.steps)
        self._runs.clear()
        self._active[:] = False
        boundary = self._boundary
        if length is not None:
            self._boundary = lambda step: min(boundary(step), length)
        for index in list(self._pending):
            self._decide(index, self.steps)
        return self._report()

    def copy(self) -> HysteresisTracker:
        """Return an independent tracker of the same state."""
        twin = copy.copy(self)
        twin._active = self._active.copy()
        twin._runs = copy.deepcopy(self._runs)
        twin._pending = copy.deepcopy(self._pending)
        twin._decided = list(self._decided)
        return twin

    def _completed_runs(self, values: np.ndarray) -> list[tuple[_Run, int]]:
        """Return the runs that end in these steps, by their end; keep those that do not."""
        above = values >= self._low
        before = np.concatenate((self._active[None], above))
        change = before[1:] != before[:-1]
        columns = np.flatnonzero(change.any(axis=0) | self._active)
        done = []
        for index in columns.tolist():
            cuts = [0, *np.flatnonzero(change[:, index]).tolist(), len(values)]
            active = bool(self._active[index])
            for first, end in itertools.pairwise(cuts):
                # A cut at 0 makes the first piece empty: the state flips without any step.
                if active and end > first:
                    self._grow(index, first, values[first:end, index])
                if active and end < len(values):
                    done.append((self._runs.pop(index), self.steps + end))
                active = not active
            self._active[index] = index in self._runs
        return sorted(done, key=lambda entry: (entry[1], entry[0].index))

    def _grow(self, index: int, first: int, values: np.ndarray) -> None:
        highest = float(values.max())
        run = self._runs.get(index)
        if run is None:
            self._runs[index] = _Run(self.steps + first, index, highest)
        else:
            run.score = max(run.score, highest)

    def _is_gap(self, end: int, start: int) -> bool:
        """Return True if the time from an end to a start is shorter than the shortest gap."""
        return self._boundary(start) - self._boundary(end) < self._gap

    def _complete(self, run: _Run, end: int) -> None:
        """Take a run that ends: it becomes an event, extends one, or only shows that others are certain."""
        opened = run.score >= self._high[run.index]
        if not opened:
            for index, event in self._pending.items():
                if self._waits_for(index, event, run):
                    event.decided = max(event.decided, end + 1)  # the step after the run shows its end
            return
        former = self._pending.get(run.index)
        if former is not None and self._is_gap(former.end, run.start):
            if self._exclusive:
                self._absorb(former.end, run.index)
            former.end = end
            former.score = max(former.score, run.score)
            former.decided = self._certain_from(end)
            return
        if former is not None:
            self._decide(run.index, former.decided)
        self._pending[run.index] = _Pending(run.start, end, run.score, self._certain_from(end))

    def _absorb(self, end: int, owner: int) -> None:
        """Remove the events of other classes after `end`: the owner's event includes that time."""
        for index in [i for i, event in self._pending.items() if i != owner and event.start >= end]:
            del self._pending[index]

    def _certain_from(self, end: int) -> int:
        """Return the first number of steps at which a run that starts later is no gap away from `end`."""
        near = end  # a gap
        far = end + 1
        while self._is_gap(end, far):
            near = far
            far += far - end
        while far - near > 1:
            middle = (near + far) // 2
            if self._is_gap(end, middle):
                near = middle
            else:
                far = middle
        return far

    def _waits_for(self, index: int, event: _Pending, run: _Run) -> bool:
        """Return True if an incomplete run may still extend an event, or remove it."""
        if run.index == index:
            return self._is_gap(event.end, run.start)
        owner = self._pending.get(run.index) if self._exclusive else None
        return owner is not None and owner.end <= event.start and self._is_gap(owner.end, run.start)

    def _certain(self) -> list[Segment]:
        for index, event in list(self._pending.items()):
            candidates = self._runs.values() if self._exclusive else self._own_run(index)
            waits = any(self._waits_for(index, event, run) for run in candidates)
            if self.steps >= event.decided and not waits:
                self._decide(index, event.decided)
        return self._report()

    def _own_run(self, index: int) -> list[_Run]:
        return [self._runs[index]] if index in self._runs else []

    def _decide(self, index: int, decided: int) -> None:
        event = self._pending.pop(index)
        if self._boundary(event.end) - self._boundary(event.start) >= self._least:
            self._decided.append(Segment(event.start, event.end, index, event.score, decided))

    def _report(self) -> list[Segment]:
        report = sorted(self._decided, key=lambda segment: segment.order)
        self._decided = []
        return report


def best_only(curve: np.ndarray) -> np.ndarray:
    """Return a curve `(steps, classes)` with 0 for all but the best class of each step."""
    if not len(curve):
        return curve
    best = curve.argmax(axis=1)[:, None]
    result = np.zeros_like(curve)
    np.put_along_axis(result, best, np.take_along_axis(curve, best, axis=1), axis=1)
    return result


def ranking_curve(curve: np.ndarray, ratio: float = LOW_RATIO) -> np.ndarray:
    """Return a curve whose steps at or above any h are the runs of hysteresis with thresholds h and `ratio * h`.

    It is a morphological reconstruction: each step has the largest h for which it is part of a run that reaches
    h. One sweep forward and one backward, `f[t] = max(c[t], min(f[t - 1], c[t] / ratio))`, find it.

    Args:
        curve: `(steps, classes)`, in [0, 1]; `best_only(curve)` for an exclusive model.
        ratio: low threshold as a share of the threshold, in (0, 1].
    """
    curve = np.asarray(curve, np.float64)
    limit = curve / ratio
    forward = curve.copy()
    backward = curve.copy()
    for step in range(1, len(curve)):
        np.maximum(curve[step], np.minimum(forward[step - 1], limit[step]), out=forward[step])
    for step in range(len(curve) - 2, -1, -1):
        np.maximum(curve[step], np.minimum(backward[step + 1], limit[step]), out=backward[step])
    return np.maximum(forward, backward)
