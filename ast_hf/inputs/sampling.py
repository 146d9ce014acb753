"""In which order clips are drawn, and how often: keyed by (seed, epoch), so that a resumed run goes on with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..data.reading import is_multi_label
from .clips import ClipInputs
from .randomness import keyed_random

#: In a clip's weight, per label: this over the number of clips with it (the original's `gen_weight_file.py`).
_CLASS_WEIGHT, _LEAST_COUNT = 1000.0, 0.01

SAMPLINGS = ("shuffled", "balanced")

#: What `TrainingArguments.train_sampling_strategy` may be here: "random" leaves it to `sampling`.
STRATEGIES = ("random", "group_by_length")


#: A clip drawn again in an epoch gets the key of an epoch so much later, which no run reaches: its own augmentation.
_AGAIN, _MOST_AGAIN = 2**20, 2**12


class EpochSampler(torch.utils.data.Sampler):
    """Every clip once per epoch, in an order keyed by (seed, epoch); yields keys for `ClipInputs`."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter((self.epoch * self.length + self.random().permutation(self.length)).tolist())

    def random(self) -> np.random.Generator:
        """What an epoch's order is drawn from."""
        return keyed_random(self.seed, self.epoch, 2**32 - 1)


class LengthGroupedSampler(EpochSampler):
    """Every clip once per epoch, in steps of clips of nearly equal length: little of a batch is padding.

    The epoch's random order is cut into pools of `POOL` steps, each pool is sorted by length and cut into steps, and
    the steps come in random order. What is left over, less than a step, comes last.

    Args:
        lengths: frames of each clip.
        step: clips that all batches of all processes take in a step, so that these are of nearly equal length too.
        seed: as for `EpochSampler`.
    """

    POOL = 50

    def __init__(self, lengths: Sequence[int], step: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths, self.step = np.asarray(lengths), step

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
    """As many clips per epoch as there are, drawn with replacement by `clip_weights`: rare classes come as often as
    common ones. A clip that is drawn again is augmented differently.
    """

    def __init__(self, weights: np.ndarray, seed: int) -> None:
        super().__init__(len(weights), seed)
        self.shares = weights / weights.sum()

    def __iter__(self) -> Iterator[int]:
        clips = self.random().choice(self.length, size=self.length, p=self.shares)
        drawn: Counter[int] = Counter()
        for clip in clips.tolist():
            yield (self.epoch + _AGAIN * (drawn[clip] % _MOST_AGAIN)) * self.length + clip
            drawn[clip] += 1


def sampler_for(sampling: str, inputs: ClipInputs, seed: int, step: int | None = None) -> EpochSampler:
    """The sampler that one of `SAMPLINGS` stands for; with a `step`, clips of nearly equal length share one."""
    if step is not None:
        return LengthGroupedSampler([inputs.frames(clip) for clip in range(len(inputs))], step, seed)
    if sampling == "shuffled":
        return EpochSampler(len(inputs), seed)
    column = "labels" if is_multi_label(inputs.split) else "label"
    return BalancedSampler(clip_weights(inputs.split[column]), seed)


def clip_weights(labels: Sequence[int] | Sequence[Sequence[int]]) -> np.ndarray:
    """How likely each clip is drawn: the sum over its labels of 1000 / (clips with the label + 0.01).

    Args:
        labels: class index, or indices, of each clip.

    Returns:
        float64 `(clips,)`.
    """
    several = [entry if isinstance(entry, (list, tuple, np.ndarray)) else [entry] for entry in labels]
    counts = Counter(label for entry in several for label in entry)
    return np.array([sum(_CLASS_WEIGHT / (counts[label] + _LEAST_COUNT) for label in entry) for entry in several])
