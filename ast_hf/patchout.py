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

    def kept_tokens(self, grid: tuple[int, int], device: torch.device | None = None) -> torch.Tensor:
        """Draw the tokens of one step: both special tokens and the patches that are not dropped.

        The draw uses torch's generator of the device, which checkpoints store, so a resumed run draws the same
        patches. Nothing is copied from the CPU, which would wait for the device. Raises E302 if no patch would remain.

        Args:
            grid: patches along (frequency, time).
            device: where the indices are made; None for the CPU.

        Returns:
            Sorted token indices, int64 `(tokens,)`.
        """
        rows = _draw_remaining(grid[0], self.frequency, "frequency", device)
        columns = _draw_remaining(grid[1], self.time, "time", device)
        patches = (rows[:, None] * grid[1] + columns).flatten()
        if self.unstructured:
            kept = _draw_remaining(len(patches), self.unstructured, "unstructured", device)
            patches = patches.index_select(0, kept)
        return torch.cat((torch.arange(2, device=device), patches + 2))


def _draw_remaining(count: int, dropped: int, name: str, device: torch.device | None) -> torch.Tensor:
    """Return the sorted indices that remain of 0..count-1 after dropping `dropped` at random."""
    if dropped >= count:
        what = f"{dropped} drops all {count}"
        raise error("E302", where=f"patchout.{name}", what=what, fix=f"use fewer than {count}")
    if not dropped:
        return torch.arange(count, device=device)
    return torch.randperm(count, device=device)[dropped:].sort().values
