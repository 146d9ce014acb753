"""Course of a training loss, beside the loss of guessing: the best constant answer to the targets so far."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Share of the way from the loss of guessing to the lowest possible one below which a model has learned nothing. The
#: loss of a constant answer varies by less over a fifth of a run.
LEFT_CHANCE = 0.04
#: Parts of a course at most; beyond, neighbours are joined, so that it has 32 to 64 parts from step 64 on.
_PARTS = 64


class LossCourse:
    """Sums of a training loss over parts of equal numbers of steps, and of the targets that it was computed for.

    Targets are those that the loss is computed with: mixed, smoothed and balanced ones have a mean of their own. A
    constant answer cannot be better than the entropy of that mean (`chance`), and no answer better than the mean
    entropy of the targets (`floor`), which is above 0 for mixed ones.

    Attributes:
        size: steps of a part.
        sums: sum of the clips' losses in each part.
        clips: number of clips in each part.
        targets: sum of the targets of all clips, `(labels,)`.
        entropies: sum of the entropies of the targets of all clips.
        is_binary: True for the mean of a binary cross-entropy over the labels, False for a cross-entropy.
    """

    def __init__(self, *, is_binary: bool = False) -> None:
        self.size = 1
        self.sums: list[float] = []
        self.clips: list[int] = []
        self.targets: np.ndarray = np.zeros(0)
        self.entropies = 0.0
        self.is_binary = is_binary

    def add(self, step: int, loss: float, targets: np.ndarray) -> None:
        """Add a batch of a step, counted from 0: its mean loss, and its targets `(clips, labels)` in [0, 1]."""
        targets = np.asarray(targets, dtype=float)
        while step // self.size >= _PARTS:
            self._join()
        missing = step // self.size + 1 - len(self.sums)
        self.sums += [0.0] * missing
        self.clips += [0] * missing
        part = step // self.size
        self.sums[part] += loss * len(targets)
        self.clips[part] += len(targets)
        if not len(self.targets):
            self.targets = np.zeros(targets.shape[1])
        self.targets += targets.sum(axis=0)
        self.entropies += float(self._entropy(targets).sum())

    def _join(self) -> None:
        if len(self.sums) % 2:
            self.sums.append(0.0)
            self.clips.append(0)
        self.sums = [first + second for first, second in zip(self.sums[::2], self.sums[1::2], strict=True)]
        self.clips = [first + second for first, second in zip(self.clips[::2], self.clips[1::2], strict=True)]
        self.size *= 2

    def _entropy(self, targets: np.ndarray) -> np.ndarray:
        """Return the entropy of each row in nats; of tags, the mean over the labels."""
        if self.is_binary:
            return (_surprise(targets) + _surprise(1 - targets)).mean(axis=-1)
        return _surprise(targets).sum(axis=-1)

    @property
    def chance(self) -> float:
        """Loss of the best constant answer in nats: the entropy of the mean target. 0 before the first step."""
        counted = sum(self.clips)
        return float(self._entropy(self.targets / counted)) if counted else 0.0

    @property
    def floor(self) -> float:
        """Lowest possible loss in nats: the mean entropy of the targets."""
        return self.entropies / max(sum(self.clips), 1)

    def mean(self, first: float, last: float) -> float | None:
        """Return the mean loss between two steps, by whole parts; None without a clip there.

        The part in which `first` lies does not count unless it begins there or is the only one.
        """
        begin = min(int(-(-first // self.size)), max(len(self.sums) - 1, 0))
        end = max(int(-(-last // self.size)), begin + 1)
        counted = sum(self.clips[begin:end])
        return sum(self.sums[begin:end]) / counted if counted else None

    def values(self) -> list[float]:
        """Return the mean loss of each part that has clips."""
        return [total / count for total, count in zip(self.sums, self.clips, strict=True) if count]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, exact."""
        return {
            "size": self.size,
            "sums": self.sums,
            "clips": self.clips,
            "targets": self.targets.tolist(),
            "entropies": self.entropies,
            "is_binary": self.is_binary,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LossCourse:
        """Return the course that `to_dict` stored."""
        course = cls(is_binary=values["is_binary"])
        course.size = values["size"]
        course.sums = list(values["sums"])
        course.clips = list(values["clips"])
        course.targets = np.array(values["targets"], dtype=float)
        course.entropies = values["entropies"]
        return course


def progress(loss: float, chance: float, floor: float) -> float:
    """Return how far a loss is on the way from guessing (0) to the lowest possible one (1); negative if above."""
    reach = chance - floor
    return (chance - loss) / reach if reach > 1e-9 else 1.0


def _surprise(shares: np.ndarray) -> np.ndarray:
    """Return -p log p, 0 for p = 0."""
    shares = np.clip(shares, 0.0, 1.0)
    return -shares * np.log(np.where(shares > 0, shares, 1.0))
