"""Cache of decoded clips, up to a share of the memory that is available."""

from __future__ import annotations

import os

import numpy as np
import torch

from ..errors import warn_once
from ..memory import available_memory

#: Share of the available memory that decoded clips may use, over all data loader workers and local ranks. The
#: rest is for the model, for batches, and for a second cache of the evaluated splits.
SHARE = 0.25


class ClipCache:
    """Decoded clips by number. All caches of a process have one budget; a full cache keeps what it has."""

    def __init__(self) -> None:
        self._clips: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def get(self, clip: int) -> np.ndarray | None:
        """Return a clip, or None if it is not in the cache."""
        return self._clips.get(clip)

    def add(self, clip: int, waveform: np.ndarray) -> None:
        """Add a clip if the budget allows it; else warn once (W409)."""
        if _budget.take(waveform.nbytes):
            self._clips[clip] = waveform


class _Budget:
    """Bytes that the caches of this process may still use, measured at the first clip of each process."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._total = 0.0
        self._left = 0.0

    def take(self, size: int) -> bool:
        """Return True, and count `size` bytes as used, if so many are left."""
        if self._process != os.getpid():  # a forked worker inherits clips, but has a budget of its own
            self._process = os.getpid()
            self._total = self._left = available_memory() * SHARE / _processes()
        if size > self._left:
            text = (
                f"{self._total / 1e6:,.0f} MB, this process's share of a quarter of the available memory, are "
                "used; further clips are decoded again in every epoch. Set data.cache to false to use none, or "
                "use fewer data loader workers"
            )
            warn_once("W409", where="cache of decoded clips", what=text)
            return False
        self._left -= size
        return True


def _processes() -> int:
    """Return the number of processes on this machine that cache clips of this run."""
    worker = torch.utils.data.get_worker_info()
    workers = 1 if worker is None else worker.num_workers
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return workers * (int(ranks) if ranks.isdigit() and int(ranks) else 1)


_budget = _Budget()
