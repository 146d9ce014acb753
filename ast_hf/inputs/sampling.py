"""Samplers: the order in which clips are drawn, and how often, keyed by (seed, epoch) to be resumable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..data.splits import label_lists
from .clips import ClipInputs
from .randomness import ORDER_KEY, keyed_random

#: A label adds 1000 / (number of its clips + 0.01) to a clip's weight (the original's `gen_weight_file.py`).
_CLASS_WEIGHT = 1000.0
_COUNT_OFFSET = 0.01

#: Index that stands for the label of clips without any.
_NO_LABEL = -1

#: Valid values of the recipe's `sampling`.
SAMPLINGS = ("shuffled", "balanced")

#: Supported values of `TrainingArguments.train_sampling_strategy`: "random" leaves it to `sampling`.
STRATEGIES = ("random", "group_by_length")

#: To be augmented differently, a clip that is drawn again in an epoch has the key of an epoch this much later,
#: which no run reaches.
_REPEAT_OFFSET = 2**20
_MAX_REPEATS = 2**12


class EpochSampler(torch.utils.data.Sampler):
    """Every clip once per epoch, in an order keyed by (seed, epoch); yields keys for `ClipInputs`.

    Args:
        length: number of clips.
        seed: seed of the order.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        #: Draw the seed that a loader draws from torch's generator for new workers, in each epoch: with workers that
        #: stay, a loader draws it once, and a resumed run, whose workers are new, would differ from an unbroken one.
        self.draws_as_loader = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the Trainer calls this at the start of each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter((self.epoch * self.length + self.random().permutation(self.length)).tolist())

    def random(self) -> np.random.Generator:
        """Return the generator of the epoch's order."""
        if self.draws_as_loader:
            torch.empty((), dtype=torch.int64).random_()
        return keyed_random(self.seed, self.epoch, ORDER_KEY)


class LengthGroupedSampler(EpochSampler):
    """Every clip once per epoch, in steps of nearly equal lengths, so that batches have little padding.

    The epoch's random order is cut into pools of `POOL` steps, each pool is sorted by length and cut into
    steps, and the steps come in random order. Remaining clips, fewer than a step, come last.

    Args:
        lengths: frames of each clip.
        step: number of clips of nearly equal length: those of a step's batches in all processes.
        seed: seed of the order.
    """

    POOL = 50

    def __init__(self, lengths: Sequence[int], step: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths = np.asarray(lengths)
        self.step = step

    def __iter__(self) -> Iterator[int]:
        random = self.random()
        order = random.permutation(self.length)
        whole = self.length - self.length % self.step
        pools = np.split(order[:whole], range(self.POOL * self.step, whole, self.POOL * self.step))
        steps = np.concatenate([self._sorted(pool) for pool in pools]).reshape(-1, self.step)
        clips = np.concatenate((random.permutation(steps).ravel(), self._sorted(order[whole:])))
        return iter((self.epoch * self.length + clips).tolist())

    def _sorted(self, clips: np.ndarray) -> np.ndarray:
        return clips[np.argsort(self.lengths[clips], kind="stable")]


class BalancedSampler(EpochSampler):
    """As many clips per epoch as there are, drawn with replacement by `clip_weights`.

    Rare classes are drawn as often as common ones. A clip that is drawn again is augmented differently.

    Args:
        weights: weight of each clip, `(clips,)`.
        seed: seed of the draws.
    """

    def __init__(self, weights: np.ndarray, seed: int) -> None:
        super().__init__(len(weights), seed)
        self.shares = weights / weights.sum()

    def __iter__(self) -> Iterator[int]:
        clips = self.random().choice(self.length, size=self.length, p=self.shares)
        draws: Counter[int] = Counter()
        for clip in clips.tolist():
            yield (self.epoch + _REPEAT_OFFSET * (draws[clip] % _MAX_REPEATS)) * self.length + clip
            draws[clip] += 1


def sampler_for(sampling: str, inputs: ClipInputs, seed: int, step: int | None = None) -> EpochSampler:
    """Return the sampler for one of `SAMPLINGS`, or, with a `step`, one that groups clips by length."""
    if step is not None:
        return LengthGroupedSampler([inputs.frames(clip) for clip in range(len(inputs))], step, seed)
    if sampling == "shuffled":
        return EpochSampler(len(inputs), seed)
    return BalancedSampler(clip_weights(label_lists(inputs.split)), seed)


def clip_weights(labels: Sequence[int] | Sequence[Sequence[int]]) -> np.ndarray:
    """Return the weight of each clip: the sum over its labels of 1000 / (clips with the label + 0.01).

    Clips without a label count as if they had one of their own.

    Args:
        labels: class index, or indices, of each clip.

    Returns:
        Weights, float64 `(clips,)`.
    """
    rows = [entry if isinstance(entry, (list, tuple, np.ndarray)) else [entry] for entry in labels]
    rows = [row if len(row) else [_NO_LABEL] for row in rows]
    counts = Counter(label for row in rows for label in row)
    return np.array([sum(_CLASS_WEIGHT / (counts[label] + _COUNT_OFFSET) for label in row) for row in rows])
