"""Running mean and standard deviation."""

from __future__ import annotations

import math

import numpy as np


class Moments:
    """Mean and variance in one pass, merged part by part in float64 (Chan, Golub and LeVeque 1979): sums of squares
    would lose the variance of values that are far from zero.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in numbers of any shape; every one has the same weight."""
        if not values.size:
            return
        values = values.astype(np.float64)
        mean = float(values.mean())
        count, shift = self.count + values.size, mean - self.mean
        self._squares += float(np.square(values - mean).sum()) + shift**2 * self.count * values.size / count
        self.mean += shift * values.size / count
        self.count = count

    @property
    def std(self) -> float:
        """Standard deviation of the population, 0.0 of nothing."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0
