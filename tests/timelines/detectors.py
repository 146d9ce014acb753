"""Simulated taggers of windows, whose scores follow from the events that a window holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ast_hf.timelines.levels import window_levels
from ast_hf.timelines.windows import WindowPlan, plan_windows, window_starts

RATE = 16_000
#: A sound, as (start, end) in seconds.
Sound = tuple[float, float]
Detector = Callable[[float], float]
#: What `TimelineBuilder.push` takes.
PushedWindow = tuple[int, int, np.ndarray, np.ndarray]


def touching(overlap: float) -> float:
    """Return the score of a tagger that fires for a sound of 60 ms in its window; `overlap` is in seconds."""
    return 0.01 + 0.97 / (1.0 + float(np.exp(-(overlap - 0.06) / 0.015)))


def proportional(overlap: float) -> float:
    """Return the score of a tagger that grows with a sound of up to a second in its window."""
    return 0.01 + 0.97 * min(overlap, 1.0)


def plan_of(window: float = 1.0, hop: float = 0.25, rate: int = RATE) -> WindowPlan:
    """Return the plan of windows, in seconds."""
    return plan_windows(2_000, rate, window, hop)


def windows(
    seconds: float, sounds: Sequence[Sequence[Sound]], detector: Detector, plan: WindowPlan
) -> list[PushedWindow]:
    """Return the windows of a loud recording in which class `i` sounds in `sounds[i]`."""
    length = round(seconds * plan.rate)
    result = []
    for start in window_starts(length, plan):
        count = min(plan.samples + plan.slack, length - start) if start == 0 else plan.samples
        if length > plan.samples + plan.slack:
            count = plan.samples
        scores = [detector(_overlap(start / plan.rate, (start + count) / plan.rate, one)) for one in sounds]
        loud = np.where(np.arange(count) % 2 == 0, 0.1, -0.1)
        result.append((start, count, np.array(scores), window_levels(start, loud, plan.rate)))
    return result


def _overlap(start: float, end: float, sounds: Sequence[Sound]) -> float:
    return sum(max(0.0, min(end, last) - max(start, first)) for first, last in sounds)
