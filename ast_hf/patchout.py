"""Patchout: leaving patches out in training, for speed and as a regulariser (PaSST, arXiv 2110.05069, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import error


@dataclass(frozen=True)
class Patchout:
    """How many patches a training step leaves out, the same for all clips of a batch; the others keep their positions.

    Attributes:
        time: columns of the grid of patches (structured).
        frequency: rows of it (structured).
        unstructured: single patches, wherever they are, out of those that are left.
    """

    time: int = 0
    frequency: int = 0
    unstructured: int = 0

    def __bool__(self) -> bool:
        return bool(self.time or self.frequency or self.unstructured)

    def scaled(self, share: float) -> Patchout:
        """A part of it, for a schedule."""
        return Patchout(*(round(share * count) for count in (self.time, self.frequency, self.unstructured)))

    def kept_tokens(self, grid: tuple[int, int]) -> torch.Tensor:
        """Indices of the tokens of one step, sorted: both special tokens, and what is left of the F x T patches.

        Drawn from torch's generator for the CPU, as dropout is, so that a resumed run draws the same.

        Raises:
            AstConfigError: E302 when nothing would be left.
        """
        rows, columns = _kept(grid[0], self.frequency, "frequency"), _kept(grid[1], self.time, "time")
        patches = (rows[:, None] * grid[1] + columns).flatten()
        patches = patches[_kept(len(patches), self.unstructured, "unstructured")]
        return torch.cat((torch.tensor([0, 1]), patches + 2))


def _kept(count: int, dropped: int, name: str) -> torch.Tensor:
    if dropped >= count:
        what = f"{dropped} leaves nothing of {count}"
        raise error("E302", where=f"patchout.{name}", what=what, fix=f"use fewer than {count}")
    return torch.randperm(count)[dropped:].sort().values if dropped else torch.arange(count)
