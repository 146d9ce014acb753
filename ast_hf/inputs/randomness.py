"""Random numbers keyed by (seed, epoch, clip)."""

from __future__ import annotations

import numpy as np

#: Number of clips that have keys of their own: keys have 32 bits, of which two are not clips.
MAX_CLIPS = 2**32 - 2

#: Keys of an epoch's order of clips, or of a stream's shards, and of the order of clips within a stream's
#: buffer.
ORDER_KEY = 2**32 - 1
BUFFER_KEY = 2**32 - 2


def keyed_random(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """Return a generator that depends on its key alone, so that a resumed run repeats an unbroken one.

    Args:
        seed: seed of the run.
        epoch: epoch, from 0.
        clip: number of the clip, in [0, `MAX_CLIPS`), or one of the keys of this module.
    """
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | clip]))
