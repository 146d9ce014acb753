"""Patchout: patches dropped in training, as regularisation and for speed (arXiv 2110.05069, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import error


@dataclass(frozen=True)
class Patchout:
    """Number of patches that a training step drops.

    All clips of a batch drop the same patches. The remaining patches keep their position embeddings.

    Attributes:
        time: columns of the patch grid to drop (structured).
        frequency: rows of the patch grid to drop (structured).
        unstructured: single patches to drop from the remaining ones.
    """

    time: int = 0
    frequency: int = 0
    unstructured: int = 0

    def __bool__(self) -> bool:
        return bool(self.time or self.frequency or self.unstructured)

    def scaled(self, share: float) -> Patchout:
        """Return a Patchout with each count multiplied by `share` (0 to 1) and rounded, for a schedule."""
        return Patchout(*(round(share * count) for count in (self.time, self.frequency, self.unstructured)))

    def kept_tokens(self, grid: tuple[int, int]) -> torch.Tensor:
        """Draw the tokens of one step: both special tokens and the patches that are not dropped.

        The draw uses torch's CPU generator, which checkpoints store, so a resumed run draws the same patches.
        Raises E302 if no patch would remain.

        Args:
            grid: patches along (frequency, time).

        Returns:
            Sorted token indices, int64 `(tokens,)`.
        """
        rows = _draw_remaining(grid[0], self.frequency, "frequency")
        columns = _draw_remaining(grid[1], self.time, "time")
        patches = (rows[:, None] * grid[1] + columns).flatten()
        patches = patches[_draw_remaining(len(patches), self.unstructured, "unstructured")]
        return torch.cat((torch.tensor([0, 1]), patches + 2))


def _draw_remaining(count: int, dropped: int, name: str) -> torch.Tensor:
    """Return the sorted indices that remain of 0..count-1 after dropping `dropped` at random."""
    if dropped >= count:
        what = f"{dropped} drops all {count}"
        raise error("E302", where=f"patchout.{name}", what=what, fix=f"use fewer than {count}")
    return torch.randperm(count)[dropped:].sort().values if dropped else torch.arange(count)
