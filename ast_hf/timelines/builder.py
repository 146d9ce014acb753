"""Timelines: windows of a recording in, events out, the same ones for a file and for a live stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .boxes import box_segments
from .curves import Columns, CurveBuilder
from .events import Event
from .hysteresis import HysteresisTracker, Segment
from .rules import TimelineRules
from .windows import WindowPlan


class ScoreCurve(NamedTuple):
    """Score curves of a recording.

    Attributes:
        times: start of each step, and the end of the last one, in seconds, `(steps + 1,)`.
        scores: `(steps, classes)`, in [0, 1]; 0 where the recording is silent.
    """

    times: np.ndarray
    scores: np.ndarray


class TimelineBuilder:
    """Turns the scores of a recording's windows into events.

    Each event is returned once, as soon as no later window can change it, in the order in which events become
    certain. Neither the events nor their order depend on how windows are batched or a stream is cut. All events,
    sorted by start and label, are the timeline of the recording.

    Args:
        labels: names of the classes.
        rules: how the curves become events.
        plan: sizes of the windows.
        exclusive: whether only one class can be active at a time (single-label models).

    Raises:
        AstInputError: E108 for per-class thresholds of another number of classes.
    """

    def __init__(
        self, labels: Sequence[str], rules: TimelineRules, plan: WindowPlan, exclusive: bool = False
    ) -> None:
        self.labels = list(labels)
        self.rules = rules
        self.plan = plan
        self.exclusive = exclusive
        self.curves = CurveBuilder(plan, len(self.labels), rules)
        self._boxes = rules.method == "boxes"
        self._parts: list[np.ndarray] = []  # boxes need the complete curve
        self._tracker = HysteresisTracker(
            rules, len(self.labels), self.curves.grid.boundary, plan.rate, exclusive
        )

    def push(
        self,
        start: int,
        length: int,
        scores: np.ndarray,
        levels: np.ndarray,
        columns: Columns | None = None,
    ) -> list[Event]:
        """Take the next window, and return the events that are certain now.

        Args:
            start: index of the window's first sample, above that of the window before.
            length: samples of the window.
            scores: `(classes,)`, in [0, 1].
            levels: `window_levels(start, samples, rate)`, in dBFS.
            columns: scores of the window's time columns, for rules with a `column_weight`.
        """
        return self._take(self.curves.push(start, length, scores, levels, columns))

    def close(self) -> list[Event]:
        """Return the remaining events: the recording ends with the last window."""
        events = self._take(self.curves.close())
        length = self.curves.length
        if self._boxes:
            curve = _stacked(self._parts, len(self.labels))
            bounds = _bounds(self.curves, len(curve))
            segments = box_segments(curve, self.rules, bounds, self.plan.rate, self.exclusive)
        else:
            segments = self._tracker.close(length)
        return events + self._events(segments)

    def open_events(self) -> list[Event]:
        """Return the events that are not certain, as the windows so far have them; nothing is changed."""
        twin = self._tracker.copy()
        early = twin.push(self.curves.preview())
        return self._events(early + twin.close(self.curves.length))

    def _take(self, curve: np.ndarray) -> list[Event]:
        if self._boxes:
            self._parts.append(curve.astype(np.float32))
            return []
        return self._events(self._tracker.push(curve))

    def _events(self, segments: Iterable[Segment]) -> list[Event]:
        boundary = self.curves.grid.boundary
        length = self.curves.length
        rate = self.plan.rate
        return [
            Event(
                boundary(segment.start) / rate,
                min(boundary(segment.end), length) / rate,
                self.labels[segment.number],
                segment.score,
            )
            for segment in segments
        ]


def score_curve(windows: Iterable[Any], rules: TimelineRules, plan: WindowPlan, classes: int) -> ScoreCurve:
    """Return the score curves of a complete recording, as the events are found in them.

    Args:
        windows: the arguments of `TimelineBuilder.push`, as tuples `(start, length, scores, levels)` or
            `(start, length, scores, levels, columns)`.
        rules: `mean`, `column_weight` and `silence_db` are used.
        plan: sizes of the windows.
        classes: number of classes.
    """
    curves = CurveBuilder(plan, classes, rules)
    parts = [curves.push(*window) for window in windows]
    parts.append(curves.close())
    scores = _stacked(parts, classes)
    return ScoreCurve(_bounds(curves, len(scores)) / plan.rate, scores)


def curve_events(
    curve: ScoreCurve, labels: Sequence[str], rules: TimelineRules, exclusive: bool = False
) -> list[Event]:
    """Return the events of a complete curve, sorted by start and label: those of `TimelineBuilder`.

    It needs no model, so that rules can be fitted on stored curves. `mean`, `column_weight` and `silence_db`
    are those of the curve.
    """
    times = np.asarray(curve.times, np.float64)
    scores = np.asarray(curve.scores)
    ticks = np.round(times * _TICKS).astype(np.int64)
    if rules.method == "boxes":
        segments = box_segments(scores.astype(np.float32), rules, ticks, _TICKS, exclusive)
    else:
        last = len(ticks) - 1

        def boundary(step: int) -> int:
            return int(ticks[step]) if step <= last else int(ticks[last]) + (step - last) * _TICKS

        tracker = HysteresisTracker(rules, len(labels), boundary, _TICKS, exclusive)
        segments = tracker.push(scores) + tracker.close()
    events = [Event(float(times[s.start]), float(times[s.end]), labels[s.number], s.score) for s in segments]
    return sorted_events(events)


#: Units per second of times that are compared with durations: whole numbers, so that equal times are equal.
_TICKS = 1_000_000


def sorted_events(events: Iterable[Event]) -> list[Event]:
    """Return events by start, then label, then end: the order of a timeline."""
    return sorted(events, key=lambda event: (event.start, event.label, event.end))


def _stacked(parts: list[np.ndarray], classes: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, classes), parts[0].dtype if parts else np.float64), *parts])


def _bounds(curves: CurveBuilder, steps: int) -> np.ndarray:
    """Return the first sample of each step and the number of samples, `(steps + 1,)`."""
    return np.minimum(curves.grid.boundaries(0, steps), curves.length)
