"""Clips to be read: header, mono blocks, and the checks that all decoders share."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .audio_formats import MAX_CHANNELS, MAX_RATE, MIN_RATE
from .errors import AstHfError, AstHfWarning, error, warning_text

#: Samples of all channels that are decoded at once: 4 MB of float32.
BLOCK = 1 << 20

#: Seconds that a requested end may be after the end of a file: times in tables are rounded.
PART_TOLERANCE = 0.1

#: Mean power of the mix, relative to that of the channels, below which the channels cancel each other (-40 dB).
_CANCELLED = 1e-4

#: Fix for a file that no decoder can read.
CHECK = "check that it plays, convert it to WAV or FLAC, or drop it"


class Part(NamedTuple):
    """Part of a clip to read, in seconds; an end of None is the clip's end."""

    start: float
    end: float | None

    def samples(self, count: int, rate: int, where: str) -> slice:
        """Return this part as a slice of a clip's `count` samples; raise E208 if it is not in the clip."""
        first = round(self.start * rate)
        stop = count if self.end is None else round(self.end * rate)
        if first >= count or stop > count + PART_TOLERANCE * rate:
            end = "its end" if self.end is None else f"{self.end:g} s"
            what = f"lasts {count / rate:.3f} s, so {self.start:g} s to {end} is not completely in it"
            fix = "correct start and end, in seconds from the beginning of the file"
            raise error("E208", where=where, what=what, fix=fix)
        return slice(first, min(stop, count))


class Clip(NamedTuple):
    """Audio to be read: its header, and its samples as mono blocks.

    Attributes:
        rate: in Hz.
        channels: number of channels before mixing.
        length: samples per channel that the blocks have together.
        where: name for messages.
        blocks: float32 arrays `(time,)`.
        in_memory: whether the samples were in memory before.
        missing: the error that the file is cut off, raised when its end is reached.
    """

    rate: int
    channels: int
    length: int
    where: str
    blocks: Iterator[np.ndarray]
    in_memory: bool = False
    missing: AstHfError | None = None


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn failures of the disk, of memory and of other libraries into errors that name the file."""
    try:
        yield
    except AstHfError:
        raise
    except OSError as problem:
        what = f"cannot be read ({problem.strerror or problem})"
        raise error("E206", where=where, what=what, fix="check the disk, then try again") from problem
    except (RuntimeError, ValueError, OverflowError, TypeError, MemoryError) as problem:
        what = f"cannot be decoded ({type(problem).__name__}: {problem})"
        raise error("E203", where=where, what=" ".join(what.split())[:200], fix=CHECK) from problem


def check_rate(rate: Any, where: str, code: str) -> None:
    """Raise E102 unless a rate is a whole number, and `code` unless it is a possible one."""
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        what = f"sampling rate {rate!r} is a {type(rate).__name__}"
        raise error("E102", where=where, what=what, fix="give a whole number of Hz")
    if not MIN_RATE <= rate <= MAX_RATE:
        what = f"sampling rate {rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz"
        raise error(code, where=where, what=what, fix="check how the audio was written")


def check_channels(channels: int, where: str) -> None:
    """Raise E204 for more channels than `MAX_CHANNELS`."""
    if channels > MAX_CHANNELS:
        what = f"declares {channels} channels, the limit is {MAX_CHANNELS}"
        raise error("E204", where=where, what=what, fix="mix the channels down first")


class Mixer:
    """Mean over channels, block by block; warns (W204) if the channels cancel each other over all blocks."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._power = 0.0
        self._power_of_mix = 0.0

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """Return the mean of samples `(time, channels)` as float32 `(time,)`."""
        if samples.shape[1] == 1:
            return np.ascontiguousarray(samples[:, 0])
        mono = samples.mean(axis=1, dtype=np.float32)
        self._power += float(np.square(samples, dtype=np.float64).sum()) / samples.shape[1]
        self._power_of_mix += float(np.square(mono, dtype=np.float64).sum())
        return mono

    def warn(self) -> None:
        """Warn if the mix of all blocks so far is almost silent, and the channels are not."""
        if self._power_of_mix < _CANCELLED * self._power:
            text = (
                "the channels cancel each other: their mean is almost silent; one may have inverted polarity"
            )
            warnings.warn(warning_text("W204", where=self.where, what=text), AstHfWarning, stacklevel=4)
