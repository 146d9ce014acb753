"""Scores of a recording's windows, folded to its result as they come, so that only the result takes memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..timelines.builder import TimelineBuilder
from ..timelines.curves import Columns
from .recordings import WindowInputs


class ScoredWindow(NamedTuple):
    """Scores of one window.

    Attributes:
        start: index of the window's first sample in the recording.
        length: number of its samples.
        scores: `(classes,)`, in [0, 1] for softmax and sigmoid.
        levels: its level over time, see `window_levels`.
        columns: scores of its time columns, or None.
    """

    start: int
    length: int
    scores: np.ndarray
    levels: np.ndarray
    columns: Columns | None = None


#: Function from a window and the model's outputs for it to its scores.
Scorer = Callable[[WindowInputs, Any], ScoredWindow]


class ClipScores:
    """Scores of a whole recording: those of its only window, or the windows' mean or maximum.

    Args:
        score: scores of a window.
        finish_whole: makes the result of the outputs for the only window.
        finish: makes the result of scores `(classes,)`.
        is_max: whether the maximum is taken, for each class.
    """

    def __init__(self, score: Scorer, finish_whole: Any, finish: Any, *, is_max: bool = False) -> None:
        self._score = score
        self._finish_whole = finish_whole
        self._finish = finish
        self._is_max = is_max
        self._whole: Any = None
        self._folded: np.ndarray | None = None
        self._count = 0

    def add(self, window: WindowInputs, outputs: Any) -> None:
        """Take the next window."""
        if window.is_whole:
            self._whole = outputs
            return
        scores = self._score(window, outputs).scores
        if self._folded is None:
            self._folded = scores
        else:
            self._folded = np.maximum(self._folded, scores) if self._is_max else self._folded + scores
        self._count += 1

    def result(self) -> Any:
        """Return the result of the windows so far."""
        if self._folded is None:
            return self._finish_whole(self._whole)
        return self._finish(self._folded if self._is_max else self._folded / self._count)


class WindowScores:
    """Results of all windows, each `{"start", "end", "scores"}`, in seconds."""

    def __init__(self, score: Scorer, finish: Any, rate: int) -> None:
        self._score = score
        self._finish = finish
        self._rate = rate
        self._results: list[dict[str, Any]] = []

    def add(self, window: WindowInputs, outputs: Any) -> None:
        """Take the next window."""
        scores = self._finish(self._score(window, outputs).scores)
        start = window.start / self._rate
        end = (window.start + window.length) / self._rate
        self._results.append({"start": start, "end": end, "scores": scores})

    def result(self) -> list[dict[str, Any]]:
        """Return the results, in order of time."""
        return self._results


class Timeline:
    """Events of a recording, by start and label."""

    def __init__(self, score: Scorer, builder: TimelineBuilder) -> None:
        self._score = score
        self._builder = builder
        self._events: list[Any] = []

    def add(self, window: WindowInputs, outputs: Any) -> None:
        """Take the next window."""
        scored = self._score(window, outputs)
        self._events += self._builder.push(*scored)

    def result(self) -> list[dict[str, Any]]:
        """Return the events as `{"label", "score", "start", "end"}`, in seconds."""
        self._events += self._builder.close()
        return [
            event.as_dict() for event in sorted(self._events, key=lambda event: (event.start, event.label))
        ]
