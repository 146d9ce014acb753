"""Running mean and standard deviation."""

from __future__ import annotations

import math

import numpy as np


class Moments:
    """Mean and variance in one pass over the data, in float64.

    Batches are merged by the update of Chan, Golub and LeVeque (1979). A sum of squares would lose the
    variance of values that are far from zero.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add numbers of any shape; each has the same weight."""
        if not values.size:
            return
        values = values.astype(np.float64)
        mean = float(values.mean())
        count = self.count + values.size
        shift = mean - self.mean
        self._squares += float(np.square(values - mean).sum()) + shift**2 * self.count * values.size / count
        self.mean += shift * values.size / count
        self.count = count

    @property
    def std(self) -> float:
        """Population standard deviation; 0.0 before any value was added."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0
