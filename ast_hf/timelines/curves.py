"""Score curves: the scores of overlapping windows cross-faded to one curve per class.

The curve at a time is a weighted mean of the windows around it. The weight of a window is 1 inside, and falls to 0
within a hop at each end, a little outside of the window (`CurveBuilder.margin`). The kind of mean decides how
sharp edges are. A tagger often fires wherever a window touches a sound. The arithmetic mean then makes a sound
longer by up to half a window at each end. The harmonic mean follows the lowest windows, which hold nothing of the
sound, and so finds its ends. A tagger whose score grows with the share of the window that the sound fills is better
served by the arithmetic mean. Of the three, only the harmonic mean with a low threshold of 0.7 times the threshold
put both ends of simulated sounds within one hop under both kinds of tagger, without parting a long sound in which
one window fails (issue 15; tests/timelines/test_builder.py).

A model that was trained on windows with the label of their middle says nothing of the rest of a window. Its
curve (`mean="centre"`) is the line through the scores at the middles of the windows. Before the first middle and
after the last one it is level.

Scores of time columns are mixed into the curve: the product of both, each to the power of its weight (a weighted sum
for the arithmetic mean). A column knows its place, so the columns of several windows need no sharp mean. They have the
geometric one, with less weight towards the ends of a window, where a column saw less around it. On mixtures of ESC-10
this was better than the harmonic mean (`benchmarks/timelines.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .levels import FLOOR_DB, cell_samples, is_silent
from .rules import TimelineRules
from .windows import WindowPlan

#: Steps of a curve per window, at the least.
_STEPS_PER_WINDOW = 40
#: Longest and shortest step in seconds.
_LONGEST = 0.05
_SHORTEST = 0.01
#: Scores below this are equal in the geometric and the harmonic mean. It limits what a single window can do.
_LEAST = 1e-3

#: Weight of a window at its very ends.
_LEAST_WEIGHT = 1e-6


class Grid(NamedTuple):
    """Steps of a curve: step `k` begins at sample `k * hop * multiple // parts`."""

    hop: int
    parts: int
    multiple: int

    def boundary(self, step: int) -> int:
        """Return the first sample of a step."""
        return step * self.hop * self.multiple // self.parts

    def boundaries(self, first: int, end: int) -> np.ndarray:
        """Return the first samples of the steps `first` to `end`, both included, int64."""
        return np.arange(first, end + 1, dtype=np.int64) * (self.hop * self.multiple) // self.parts

    def step_at(self, sample: int) -> int:
        """Return the step that holds a sample."""
        size = self.hop * self.multiple
        return ((sample + 1) * self.parts - 1) // size


def grid_of(plan: WindowPlan, mean: str = "harmonic") -> Grid:
    """Return the steps of a plan's curve: a 40th of the window, 10 to 50 ms, fitted into the hop.

    A hop is a whole number of steps, or a step a whole number of hops. With the mean `"centre"`, a step is at
    most a hop: each window counts in its middle alone.
    """
    target = min(max(plan.samples / _STEPS_PER_WINDOW, _SHORTEST * plan.rate), _LONGEST * plan.rate)
    if plan.hop >= target or mean == "centre":
        return Grid(plan.hop, int(-(-plan.hop // target)), 1)
    return Grid(plan.hop, 1, int(target // plan.hop))


class Columns(NamedTuple):
    """Scores of the time columns of one window.

    Attributes:
        scores: `(columns, classes)`.
        times: `(columns, 2)`, start and end of each column in seconds from the beginning of the window.
    """

    scores: np.ndarray
    times: np.ndarray


class CurveBuilder:
    """Cross-fades windows, which are pushed in the order of their starts, to a score curve.

    The curve is 0 in silent steps, and a silent window does not count, so that its scores need not be computed.
    Only the steps of about one window are kept.

    Args:
        plan: sizes of the windows.
        classes: number of classes.
        rules: `mean`, `column_weight` and `silence_db` are used.

    Attributes:
        grid: steps of the curve.
        length: samples that the windows so far cover.
        margin: samples by which the weight of a window reaches over each of its ends. The end of a sound lies
            between the end of a window without it and that of the next, which is up to a hop later: on average
            half a hop. Windows that hardly overlap have nearly no margin, as no other window covers that time.
            With the mean `"centre"` a window reaches one hop from its middle, so the margin is mostly negative.
    """

    def __init__(self, plan: WindowPlan, classes: int, rules: TimelineRules) -> None:
        self.grid = grid_of(plan, rules.mean)
        self.plan = plan
        self.classes = classes
        self.length = 0
        self.margin = margin_of(plan, rules.mean)
        self._mean = rules.mean
        self._column_weight = rules.column_weight
        self._silence = rules.silence_db
        self._first = 0  # first undecided step
        self._sums = np.zeros((0, classes))
        self._weights = np.zeros(0)
        self._column_mean = "arithmetic" if rules.mean == "arithmetic" else "geometric"
        self._column_sums = np.zeros((0, classes))
        self._column_weights = np.zeros(0)
        self._levels = np.zeros(0)
        self._last = _transformed(np.zeros(classes), rules.mean)  # scores of the last window

    def push(
        self, start: int, length: int, scores: np.ndarray, levels: np.ndarray, columns: Columns | None = None
    ) -> np.ndarray:
        """Take one window, and return the next steps `(steps, classes)`, those that no later window changes.

        The arguments are those of `TimelineBuilder.push`.
        """
        self.length = max(self.length, start + length)
        margin = max(self.margin, 0)
        first = max(self.grid.step_at(max(start - margin, 0)), self._first)
        end = self.grid.step_at(start + length + margin - 1) + 1
        end = max(end, self._first + len(self._weights))
        self._extend(end)
        levels = np.asarray(levels, np.float64)
        if not is_silent(levels, self._silence):
            self._add(start, length, first, end, np.asarray(scores, np.float64), columns)
        self._add_levels(start, levels, first, end)
        middles = self._middles(self._first, end)
        earliest = start + 1  # of the next window
        return self._take(int(np.searchsorted(middles, 2 * (earliest - self.margin))))

    def close(self) -> np.ndarray:
        """Return the remaining steps; the last one ends with the recording."""
        return self._take(self._covered())

    def preview(self) -> np.ndarray:
        """Return the undecided steps as the windows so far have them."""
        return self._values(self._covered())

    def _covered(self) -> int:
        """Return the number of undecided steps that begin before the end of the windows."""
        return 0 if self.length == 0 else self.grid.step_at(self.length - 1) + 1 - self._first

    def _middles(self, first: int, end: int) -> np.ndarray:
        """Return twice the middle of each step, in samples."""
        bounds = self.grid.boundaries(first, end)
        return bounds[:-1] + bounds[1:]

    def _extend(self, end: int) -> None:
        more = end - self._first - len(self._weights)
        if more > 0:
            self._sums = np.concatenate((self._sums, np.zeros((more, self.classes))))
            self._weights = np.concatenate((self._weights, np.zeros(more)))
            self._column_sums = np.concatenate((self._column_sums, np.zeros((more, self.classes))))
            self._column_weights = np.concatenate((self._column_weights, np.zeros(more)))
            self._levels = np.concatenate((self._levels, np.full(more, FLOOR_DB)))

    def _add(
        self, start: int, length: int, first: int, end: int, scores: np.ndarray, columns: Columns | None
    ) -> None:
        """Add a window's scores to the sums of the steps whose middle its weight reaches."""
        middles = self._middles(first, end)
        is_first_middle = start == 0 and self._mean == "centre"
        reach = 0 if is_first_middle else start - self.margin
        inside = np.searchsorted(middles, (2 * reach, 2 * max(start + length + self.margin, reach)))
        places = middles[inside[0] : inside[1]] / 2 - start  # in samples, from the beginning of the window
        inwards = np.minimum(places, length - places) + self.margin
        if is_first_middle:  # nothing is before it
            inwards = np.where(places < length / 2, self.plan.hop, inwards)
        weights = np.clip(inwards / self.plan.hop, _LEAST_WEIGHT, 1.0)
        self._last = _transformed(scores, self._mean)
        rows = slice(first + int(inside[0]) - self._first, first + int(inside[1]) - self._first)
        self._sums[rows] += weights[:, None] * self._last
        self._weights[rows] += weights
        if columns is not None and self._column_weight > 0 and len(columns.scores):
            values = _transformed(_interpolated(columns, places / self.plan.rate), self._column_mean)
            inner = np.maximum(1.0 - np.abs(2.0 * places / length - 1.0), _LEAST_WEIGHT)
            self._column_sums[rows] += inner[:, None] * values
            self._column_weights[rows] += inner

    def _add_levels(self, start: int, levels: np.ndarray, first: int, end: int) -> None:
        """Raise the level of each step to that of the loudest cell that it touches."""
        cell = cell_samples(self.plan.rate)
        bounds = self.grid.boundaries(first, end)
        begin = np.maximum(bounds[:-1] // cell - start // cell, 0)
        stop = np.minimum(-(-bounds[1:] // cell) - start // cell, len(levels))
        for offset in range(int((stop - begin).max(initial=0))):
            index = begin + offset
            valid = np.flatnonzero(index < stop)
            rows = valid + first - self._first
            self._levels[rows] = np.maximum(self._levels[rows], levels[index[valid]])

    def _values(self, count: int) -> np.ndarray:
        weights = self._weights[:count, None]
        means = np.where(weights > 0, self._sums[:count] / np.where(weights > 0, weights, 1.0), self._last)
        curve = self._with_columns(_restored(means, self._mean))
        if self._silence is not None:
            curve[self._levels[:count] < self._silence] = 0.0
        return curve

    def _with_columns(self, curve: np.ndarray) -> np.ndarray:
        """Return the first undecided steps of the windows' curve with the columns mixed in, where there are any."""
        known = self._column_weights[: len(curve)] > 0
        if not known.any():
            return curve
        share = self._column_weight
        kind = self._column_mean
        means = self._column_sums[: len(curve)][known] / self._column_weights[: len(curve)][known, None]
        mixed = (1.0 - share) * _transformed(curve[known], kind) + share * means
        curve[known] = _restored(mixed, kind)
        return curve

    def _take(self, count: int) -> np.ndarray:
        curve = self._values(count)
        self._first += count
        self._sums = self._sums[count:].copy()
        self._weights = self._weights[count:].copy()
        self._column_sums = self._column_sums[count:].copy()
        self._column_weights = self._column_weights[count:].copy()
        self._levels = self._levels[count:].copy()
        return curve


def margin_of(plan: WindowPlan, mean: str) -> int:
    """Return the samples by which a window's weight reaches over each of its ends."""
    if mean == "centre":
        return plan.hop - plan.samples // 2
    return plan.hop * (plan.samples - plan.hop) // (2 * plan.samples)


def _transformed(scores: np.ndarray, mean: str) -> np.ndarray:
    """Return scores on the scale on which the mean is arithmetic."""
    if mean in ("arithmetic", "centre"):
        return np.clip(scores, 0.0, 1.0)
    clipped = np.clip(scores, _LEAST, 1.0)
    return np.log(clipped) if mean == "geometric" else 1.0 / clipped


def _restored(values: np.ndarray, mean: str) -> np.ndarray:
    """Return the mean as a score; 9 decimals, so that windows with equal scores have their score as mean."""
    if mean in ("geometric", "harmonic"):
        values = np.exp(values) if mean == "geometric" else 1.0 / values
    return np.round(values, 9)


def _interpolated(columns: Columns, seconds: np.ndarray) -> np.ndarray:
    """Return the scores of columns at some times `(steps, classes)`, linear between the middles of columns."""
    middles = np.asarray(columns.times, np.float64).mean(axis=1)
    place = np.interp(seconds, middles, np.arange(len(middles), dtype=np.float64))
    left = np.minimum(place.astype(np.int64), len(middles) - 1)
    right = np.minimum(left + 1, len(middles) - 1)
    share = (place - left)[:, None]
    scores = np.asarray(columns.scores, np.float64)
    return (1.0 - share) * scores[left] + share * scores[right]
