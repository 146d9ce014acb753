"""In which order clips are drawn, and how often: keyed by (seed, epoch), so that a resumed run goes on with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from .data import is_multi_label
from .inputs import ClipInputs, EpochSampler

#: In a clip's weight, per label: this over the number of clips with it (the original's `gen_weight_file.py`).
_CLASS_WEIGHT, _LEAST_COUNT = 1000.0, 0.01

SAMPLINGS = ("shuffled", "balanced")


#: A clip drawn again in an epoch gets the key of an epoch so much later, which no run reaches: its own augmentation.
_AGAIN, _MOST_AGAIN = 2**20, 2**12


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


def sampler_for(sampling: str, inputs: ClipInputs, seed: int) -> EpochSampler:
    """The sampler that one of `SAMPLINGS` stands for."""
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
