"""Overview of a recording of any length: its envelope and its log-mel energies in a bounded number of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..audio import audio_blocks
from ..errors import AstHfError
from ..log_mel import FRAME_SECONDS, HOP_SECONDS, MIN_FREQUENCY, frame_lengths, log_mel

#: Columns of the spectrogram at most, fewer than the pixels of a picture, so that none is left out. The envelope has
#: up to twice as many.
MAX_COLUMNS = 1_200

#: Mel filters of the spectrogram, as in the published models.
MEL_BINS = 128

#: Samples of a column of the envelope before columns are joined.
_ENVELOPE_STEP = 8


class Overview(NamedTuple):
    """What a recording looks like from afar.

    Attributes:
        envelope: lowest and highest sample of each column, `(columns, 2)`.
        envelope_step: seconds of a column of the envelope; the last one may be shorter.
        mel: mean energy of each mel filter in each column in dB, `(columns, MEL_BINS)`.
        mel_start: first second of the first column: half of what frames of 25 ms reach over their 10 ms.
        mel_step: seconds of a column of `mel`; the last one may be shorter.
        seconds: duration of what could be read.
        rate: sampling rate in Hz.
        is_complete: False if the recording could not be read to its end.
    """

    envelope: np.ndarray
    envelope_step: float
    mel: np.ndarray
    mel_start: float
    mel_step: float
    seconds: float
    rate: int
    is_complete: bool

    def mel_position(self, hertz: float) -> float:
        """Return the place of a frequency among the filters, 0 to `MEL_BINS`."""
        low, high = (_mel(edge) for edge in (MIN_FREQUENCY, self.rate / 2))
        return (_mel(hertz) - low) / (high - low) * (MEL_BINS + 1) - 0.5


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)


def summarise(source: Any, rate: int) -> Overview:
    """Return the overview of a recording, read in blocks.

    Energies are averaged before the logarithm, so that short sounds stay visible in long recordings.

    Raises:
        AstHfError: the errors of `load_audio`, if nothing can be read.
    """
    envelope = _Envelope()
    energies = _Energies(rate)
    samples = 0
    is_complete = True
    blocks = audio_blocks(source, rate)
    try:
        for block in blocks:
            samples += len(block)
            envelope.push(block)
            energies.push(block)
    except AstHfError:
        if not samples:
            raise
        is_complete = False
    return Overview(
        envelope=envelope.close(),
        envelope_step=envelope.step / rate,
        mel=energies.close(),
        mel_start=(FRAME_SECONDS - HOP_SECONDS) / 2,
        mel_step=energies.step * HOP_SECONDS,
        seconds=samples / rate,
        rate=rate,
        is_complete=is_complete,
    )


class _Envelope:
    """Lowest and highest samples of columns of equal length, which doubles when there are too many."""

    def __init__(self) -> None:
        self.step = _ENVELOPE_STEP
        self._columns = np.empty((0, 2), np.float32)
        self._rest = np.empty(0, np.float32)  # samples of the column that is not complete

    def push(self, block: np.ndarray) -> None:
        samples = np.concatenate([self._rest, block])
        count = len(samples) // self.step
        parts = samples[: count * self.step].reshape(count, self.step)
        self._columns = np.concatenate(
            [self._columns, np.stack([parts.min(axis=1), parts.max(axis=1)], axis=1)]
        )
        self._rest = samples[count * self.step :]
        while len(self._columns) > 2 * MAX_COLUMNS:
            self._halve()

    def _halve(self) -> None:
        self._rest = self._with_odd_column()
        pairs = self._columns[: len(self._columns) // 2 * 2].reshape(-1, 2, 2)
        self._columns = np.stack([pairs[:, :, 0].min(axis=1), pairs[:, :, 1].max(axis=1)], axis=1)
        self.step *= 2

    def _with_odd_column(self) -> np.ndarray:
        """Return the samples of the rest, with the last column, which has no partner, before them."""
        if len(self._columns) % 2 == 0:
            return self._rest
        odd = np.resize(self._columns[-1], self.step)  # its lowest and highest sample, alternating
        return np.concatenate([odd, self._rest])

    def close(self) -> np.ndarray:
        if len(self._rest):
            last = np.array([[self._rest.min(), self._rest.max()]], np.float32)
            return np.concatenate([self._columns, last])
        return self._columns


class _Energies:
    """Mean mel energies of columns of frames; the number of frames of a column doubles when there are too many."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frame, self._hop, _ = frame_lengths(rate)
        self._sums = np.empty((0, MEL_BINS))
        self.step = 1
        self._open = np.zeros(MEL_BINS)  # sum of the column that is not complete, and its frames
        self._open_frames = 0
        self._rest = np.empty(0, np.float32)  # samples from the next frame's first on

    def push(self, block: np.ndarray) -> None:
        samples = np.concatenate([self._rest, block])
        if len(samples) < self._frame:
            self._rest = samples
            return
        count = 1 + (len(samples) - self._frame) // self._hop
        self._add(torch.from_numpy(samples))
        self._rest = samples[count * self._hop :].copy()

    def _add(self, samples: torch.Tensor) -> None:
        frames = np.exp(log_mel(samples, self._rate, MEL_BINS).double().numpy())
        sums = [*self._complete(frames)]
        if sums:
            self._sums = np.concatenate([self._sums, *sums])
        while len(self._sums) > MAX_COLUMNS:
            self._halve()

    def _complete(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the sums of columns that these frames complete, `(columns, MEL_BINS)` each."""
        first = (self.step - self._open_frames) % self.step if self._open_frames else 0
        if self._open_frames:
            head = frames[:first]
            self._open = self._open + head.sum(axis=0)
            self._open_frames += len(head)
            if self._open_frames < self.step:
                return
            yield self._open[None]
        count = (len(frames) - first) // self.step
        whole = frames[first : first + count * self.step]
        yield whole.reshape(count, self.step, MEL_BINS).sum(axis=1)
        tail = frames[first + count * self.step :]
        self._open = tail.sum(axis=0)
        self._open_frames = len(tail)

    def _halve(self) -> None:
        if len(self._sums) % 2:
            self._open = self._open + self._sums[-1]
            self._open_frames += self.step
        self._sums = self._sums[: len(self._sums) // 2 * 2].reshape(-1, 2, MEL_BINS).sum(axis=1)
        self.step *= 2

    def close(self) -> np.ndarray:
        if not len(self._sums) and not self._open_frames:  # shorter than a frame
            padded = np.zeros(self._frame, np.float32)
            padded[: len(self._rest)] = self._rest
            self._add(torch.from_numpy(padded))
        means = [self._sums / self.step]
        if self._open_frames:
            means.append(self._open[None] / self._open_frames)
        return 10.0 * np.log10(np.concatenate(means))
