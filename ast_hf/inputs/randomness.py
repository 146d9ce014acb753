"""Random numbers keyed by (seed, epoch, clip)."""

from __future__ import annotations

import numpy as np

#: Maximum number of clips: keys have 32 bits, and two keys are not clips.
MAX_CLIPS = 2**32 - 2

#: Keys for the order of an epoch's clips or of a stream's shards, and for the order within a stream's buffer.
ORDER_KEY = 2**32 - 1
BUFFER_KEY = 2**32 - 2


def keyed_random(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """Return a generator that depends on its key alone, so that a resumed run equals an uninterrupted one.

    Args:
        seed: seed of the run.
        epoch: epoch, from 0.
        clip: number of the clip, in [0, `MAX_CLIPS`), or one of the keys of this module.
    """
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | clip]))
