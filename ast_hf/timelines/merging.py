"""Overlapping windows as one timeline: each moment belongs to the window in whose middle it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import numpy as np


class Placed(Protocol):
    """Anything that is of one window: `start` and `length` are in samples."""

    @property
    def start(self) -> int:
        """First sample, counted from the beginning of the recording."""

    @property
    def length(self) -> int:
        """Number of samples."""


W = TypeVar("W", bound=Placed)


def owned_parts(windows: Iterable[W], middle: float) -> Iterator[tuple[W, float, float]]:
    """Yield each window with begin and end of the part of the recording that belongs to it, in samples.

    The parts follow each other without a gap, from 0 to the end of the recording. Where two windows overlap, one
    part ends and the next begins halfway between their middles. Windows that only touch each other meet there.

    Args:
        windows: the windows of one recording, ascending.
        middle: position in a window that counts as its middle, in samples. With the centre of a column, each
            window has a column in its part.
    """
    begin = 0.0
    previous: W | None = None
    for window in windows:
        if previous is not None:
            halfway = (previous.start + window.start) / 2 + middle
            end = float(np.clip(halfway, window.start, previous.start + previous.length))
            yield previous, begin, end
            begin = end
        previous = window
    if previous is not None:
        yield previous, begin, float(previous.start + previous.length)


class Columns(NamedTuple):
    """Time columns of one window that are kept: their indices `(kept,)`, and times `(kept, 2)` in samples."""

    indices: np.ndarray
    times: np.ndarray


class ColumnMerger:
    """Merges the time columns of overlapping windows, in order, to one timeline without duplicates.

    A column is kept if its centre is in the part of the recording that belongs to its window, and at least half a
    step after the centre of the column before. Columns behind the end of the recording are padding, and are left
    out. The times of the columns touch each other, from 0 to the end of the recording.

    Args:
        centres: centre of each column of a window, in samples from its start, `(columns,)`.
    """

    def __init__(self, centres: np.ndarray) -> None:
        self.centres = centres
        self.step = float(centres[1] - centres[0]) if len(centres) > 1 else 0.0
        self._last = -np.inf  # centre of the last column that was kept
        self._end = 0.0  # end of its time

    def keep(self, start: int, begin: float, end: float, *, is_last: bool) -> Columns:
        """Return the columns to keep of the window at `start`, to which `begin` to `end` belongs, in samples."""
        centres = start + self.centres
        indices = np.flatnonzero((centres >= begin) & (centres < end))
        if len(indices) and centres[indices[0]] - self._last < self.step / 2:
            rest = indices[1:]
            indices = rest if len(rest) or not is_last else indices
        if not len(indices) and self._last == -np.inf and is_last:
            indices = np.zeros(1, np.int64)  # a clip shorter than half a patch
        if not len(indices):
            return Columns(indices, np.zeros((0, 2)))
        kept = centres[indices]
        edges = np.concatenate(([self._end], (kept[:-1] + kept[1:]) / 2, [end]))
        self._last = kept[-1]
        self._end = end
        return Columns(indices, np.stack((edges[:-1], edges[1:]), axis=1))
