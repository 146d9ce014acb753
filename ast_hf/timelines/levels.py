"""Levels of short cells of a recording in dBFS, for the rule that silence holds no events."""

from __future__ import annotations

import numpy as np

#: Cells per second: 10 ms, a step of the log-mel spectrogram.
CELLS_PER_SECOND = 100
#: Level of digital silence.
FLOOR_DB = -200.0


def cell_samples(rate: int) -> int:
    """Return the samples of a cell, 160 at 16 kHz."""
    return max(round(rate / CELLS_PER_SECOND), 1)


def window_levels(start: int, samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the level of each cell that a window touches, float32 `(cells,)`, in dBFS.

    The level is the root mean square without the mean, as the log-mel spectrogram removes it from each frame. A
    constant offset is thus silence. 0 dBFS is a square wave of full scale, and digital silence is `FLOOR_DB`.

    Args:
        start: index of the window's first sample in the recording. Cells are counted from the beginning of the
            recording; the first and the last one may be covered in part.
        samples: samples of the window `(time,)`.
        rate: sampling rate in Hz.
    """
    cell = cell_samples(rate)
    if len(samples) == 0:
        return np.zeros(0, np.float32)
    first_end = cell - start % cell
    cuts = np.concatenate(([0], np.arange(first_end, len(samples), cell)))
    values = np.asarray(samples, np.float64)
    counts = np.diff(np.append(cuts, len(samples)))
    means = np.add.reduceat(values, cuts) / counts
    deviations = values - np.repeat(means, counts)
    powers = np.add.reduceat(deviations * deviations, cuts) / counts
    floor = 10.0 ** (FLOOR_DB / 10.0)
    return (10.0 * np.log10(np.maximum(powers, floor))).astype(np.float32)


def is_silent(levels: np.ndarray, silence_db: float | None) -> bool:
    """Return True if a window has levels and all of them are below the level of silence, in dBFS."""
    return silence_db is not None and len(levels) > 0 and float(np.max(levels)) < silence_db
