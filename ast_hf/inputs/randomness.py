"""Random numbers keyed by (seed, epoch, clip)."""

from __future__ import annotations

import numpy as np


def keyed_random(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """A generator that depends on nothing but its key, so that a resumed run draws what an unbroken one would."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | clip]))
