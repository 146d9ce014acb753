"""Change-detection boxes: events between the steepest rises and falls of a score curve (arXiv 2406.04212).

Written from the idea of the paper, for complete curves. The slope of a curve at a time is the mean after it
less the mean before it. Boundaries are the alternating steepest rises and falls. The segments between
them have the mean of the curve as their score. Two peaks are merged over a valley that is not deep. Boxes that
reach the threshold are events, so that the threshold does not move their edges.
"""

from __future__ import annotations

import itertools

import numpy as np

from .hysteresis import Segment, best_only
from .rules import TimelineRules

#: Seconds of the mean before and of the mean after a time.
SLOPE_SECONDS = 0.4


def box_segments(
    curve: np.ndarray, rules: TimelineRules, bounds: np.ndarray, rate: int, exclusive: bool
) -> list[Segment]:
    """Return the events of a complete curve, by start and class.

    Args:
        curve: `(steps, classes)`.
        rules: thresholds, durations, and the rules of merging.
        bounds: first sample of each step, and the number of samples, `(steps + 1,)`.
        rate: sampling rate in Hz.
        exclusive: whether only the best class of a step counts.
    """
    values = best_only(curve) if exclusive else curve
    high, _ = rules.thresholds(curve.shape[1])
    width = _slope_steps(bounds, rate)
    boxes = []
    for index in np.flatnonzero((values >= high).any(axis=0)).tolist():
        column = values[:, index]
        kept = [box for box in _boxes_of(column, width, rules) if column[slice(*box)].mean() >= high[index]]
        for start, end in _joined(kept, bounds, rules.gap_seconds * rate):
            boxes.append(Segment(start, end, index, float(column[start:end].max()), len(curve)))
    if exclusive:
        boxes = _disjoint(boxes)
    least = rules.min_seconds * rate - 1e-6
    long_enough = (box for box in boxes if bounds[box.end] - bounds[box.start] >= least)
    return sorted(long_enough, key=lambda box: box.order)


def _slope_steps(bounds: np.ndarray, rate: int) -> int:
    step = float(np.median(np.diff(bounds))) if len(bounds) > 1 else 1.0
    return max(round(SLOPE_SECONDS * rate / max(step, 1.0)), 1)


def slope(column: np.ndarray, width: int) -> np.ndarray:
    """Return the mean after each boundary of steps less the mean before it, `(steps + 1,)`.

    `width` is the number of steps of a mean; before and after the recording the curve is 0.
    """
    sums = np.concatenate(([0.0], np.cumsum(column)))
    places = np.arange(len(sums))
    after = sums[np.minimum(places + width, len(column))] - sums
    before = sums - sums[np.maximum(places - width, 0)]
    return (after - before) / width


def _boundaries(column: np.ndarray, width: int) -> list[int]:
    """Return alternating steepest rises and falls: an even number, the first one a rise."""
    values = slope(column, width)
    edges = np.flatnonzero(np.diff(np.sign(values)) != 0) + 1
    chosen: list[int] = []
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True):
        part = values[first:end]
        if part[0] > 0:
            chosen.append(first + int(part.argmax()))
        elif part[0] < 0:
            fall = first + len(part) - 1 - int(part[::-1].argmin())
            chosen.append(fall)
    return _alternating(chosen, values)


def _alternating(chosen: list[int], values: np.ndarray) -> list[int]:
    """Return places of which each second one is a fall; of neighbours of one kind the steepest stays."""
    result: list[int] = []
    for place in chosen:
        same = bool(result) and bool(values[result[-1]] > 0) == bool(values[place] > 0)
        if same and abs(values[place]) > abs(values[result[-1]]):
            result[-1] = place
        elif not same and (result or values[place] > 0):
            result.append(place)
    return result[: len(result) // 2 * 2]


def _boxes_of(column: np.ndarray, width: int, rules: TimelineRules) -> list[tuple[int, int]]:
    """Return the peaks of one class's curve, as first step and end, merged over shallow valleys."""
    cuts = _boundaries(column, width)
    boxes = list(zip(cuts[::2], cuts[1::2], strict=True))
    sums = np.concatenate(([0.0], np.cumsum(column)))

    def mean(start: int, end: int) -> float:
        return float(sums[end] - sums[start]) / max(end - start, 1)

    while len(boxes) > 1:
        depths = []
        for left, right in itertools.pairwise(boxes):
            higher = max(mean(*left), mean(*right))  # a low bump beside a high peak is not part of it
            valley = mean(left[1], right[0]) if right[0] > left[1] else min(mean(*left), mean(*right))
            shallow = higher - valley < rules.box_gap and valley >= rules.box_ratio * higher
            depths.append(higher - valley if shallow else np.inf)
        place = int(np.argmin(depths))
        if not np.isfinite(depths[place]):
            break
        boxes[place : place + 2] = [(boxes[place][0], boxes[place + 1][1])]
    return boxes


def _joined(boxes: list[tuple[int, int]], bounds: np.ndarray, gap: float) -> list[tuple[int, int]]:
    """Return boxes without gaps shorter than `gap` samples."""
    result: list[tuple[int, int]] = []
    for start, end in boxes:
        if result and bounds[start] - bounds[result[-1][1]] < gap:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result


def _disjoint(boxes: list[Segment]) -> list[Segment]:
    """Return boxes that share no step: one with a lower score keeps the longest part that is left of it."""
    kept: list[Segment] = []
    for box in sorted(boxes, key=lambda box: (-box.score, box.start, box.number)):
        parts = [(box.start, box.end)]
        for other in kept:
            parts = [
                piece
                for start, end in parts
                for piece in ((start, min(end, other.start)), (max(start, other.end), end))
                if piece[1] > piece[0]
            ]
        if parts:
            start, end = max(parts, key=lambda part: (part[1] - part[0], -part[0]))
            kept.append(box._replace(start=start, end=end))
    return kept
