"""Kaldi's log-mel spectrogram in torch, the input features of every AST checkpoint.

25 ms frames every 10 ms, mean removed per frame, pre-emphasis 0.97, symmetric Hann window, power spectrum of
the next power of two, triangular filters on Kaldi's mel scale from 20 Hz to half the sampling rate, natural
logarithm floored at float32's epsilon (the original's `dataloader.py`: `kaldi.fbank(htk_compat=True,
use_energy=False, window_type="hanning", dither=0.0)`). A tail shorter than a frame is dropped. Only training
uses other edges than 20 Hz and half the rate (mel jitter).

The optimisations are exact in real arithmetic:

- The first sample of a frame is skipped: it is the only one that Kaldi's pre-emphasis treats specially, and
  the window is zero there.
- The means of frames are computed from sums over blocks that neighbouring frames share.
- A mel filter covers few frequencies. The filters are multiplied in bands, each over the frequencies that it
  covers.
- Each clip is computed alone, in blocks of frames. The buffers of a block fit into the processor's cache,
  those of a batch would not, and a clip's result cannot depend on the other clips.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import TypeAlias

import torch

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.010
FRAMES_PER_SECOND = 100
PREEMPHASIS = 0.97
MIN_FREQUENCY = 20.0
#: Kaldi floors mel energies at float32's epsilon before the logarithm: ln(1.19e-7) = -15.94.
LOG_FLOOR = torch.finfo(torch.float32).eps
#: Filters per matrix product. 16 keeps the range of frequencies short and the products large enough.
_BAND = 16
#: Frames that are computed together: their buffers fit into the processor's cache.
_BLOCK = 512
#: Rows of the smallest matrix product. With fewer rows the last bit depends on the number of threads.
_MIN_ROWS = 16


def frame_lengths(sampling_rate: int) -> tuple[int, int, int]:
    """Return the samples of a frame, of the step between frames and of the FFT, (400, 160, 512) at 16 kHz."""
    frame = int(sampling_rate * FRAME_SECONDS)
    return frame, int(sampling_rate * HOP_SECONDS), 1 << (frame - 1).bit_length()


def frames_to_seconds(frames: int) -> float:
    """Return the duration of `frames` log-mel frames in seconds, 10 ms each."""
    return frames / FRAMES_PER_SECOND


def num_frames(num_samples: int, sampling_rate: int) -> int:
    """Return the number of complete frames in some samples (Kaldi's `snip_edges`): 998 for 10 s at 16 kHz."""
    frame, hop, _ = frame_lengths(sampling_rate)
    return 0 if num_samples < frame else 1 + (num_samples - frame) // hop


def num_samples(frames: int, sampling_rate: int) -> int:
    """Return the smallest number of samples that gives `frames` frames."""
    frame, hop, _ = frame_lengths(sampling_rate)
    return frame + (frames - 1) * hop


def hertz_to_mel(frequency: torch.Tensor) -> torch.Tensor:
    """Return frequencies in Hz on Kaldi's mel scale, 1127 ln(1 + f / 700)."""
    return 1127.0 * torch.log1p(frequency / 700.0)


def mel_filters(
    sampling_rate: int, num_mel_bins: int, frequency_range: tuple[float, float] | None = None
) -> torch.Tensor:
    """Return Kaldi's triangular filters, float64, shape `(fft_length // 2 + 1, num_mel_bins)`.

    The triangles are linear and evenly spaced on the mel scale, with a peak of 1. They cover
    `frequency_range` in Hz, by default 20 Hz to half the sampling rate.
    """
    _, _, fft_length = frame_lengths(sampling_rate)
    ends = torch.tensor(frequency_range or (MIN_FREQUENCY, sampling_rate / 2), dtype=torch.float64)
    low, high = hertz_to_mel(ends).tolist()
    edges = torch.linspace(low, high, num_mel_bins + 2, dtype=torch.float64)
    frequencies = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * (sampling_rate / fft_length)
    mel = hertz_to_mel(frequencies)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0)


_Tables: TypeAlias = "tuple[torch.Tensor, list[tuple[int, int, torch.Tensor]]]"

#: Number of cached filter banks, 33 kB each for 128 filters at 16 kHz. Mel jitter uses 256 of them.
_CACHE_SIZE = 320


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _tables(
    sampling_rate: int,
    num_mel_bins: int,
    device: torch.device,
    frequency_range: tuple[float, float] | None = None,
) -> _Tables:
    """Return the window, and the filters as bands of (first frequency, end frequency, matrix)."""
    frame, _, _ = frame_lengths(sampling_rate)
    window = torch.hann_window(frame, periodic=False, dtype=torch.float64).to(device, torch.float32)
    bands = []
    for block in mel_filters(sampling_rate, num_mel_bins, frequency_range).split(_BAND, dim=1):
        covered = torch.nonzero(block.sum(dim=1))
        first, end = (int(covered[0]), int(covered[-1]) + 1) if len(covered) else (0, 1)
        bands.append((first, end, block[first:end].to(device, torch.float32).contiguous()))
    return window, bands


class _Scratch(threading.local):
    """Buffers for a block of frames, reused between calls: allocating them costs more than the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, torch.device], tuple[torch.Tensor, ...]] = {}

    def get(self, frame: int, fft_length: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return the buffers for `_BLOCK` zero-padded frames, centred frames, squared and power spectra."""
        key = (frame, fft_length, device)
        if key not in self._buffers:
            with torch.inference_mode(False):  # or the buffers could not be written outside of that mode
                bins = fft_length // 2 + 1
                shapes = ((fft_length,), (frame,), (bins, 2), (bins,))
                self._buffers[key] = tuple(torch.zeros(_BLOCK, *shape, device=device) for shape in shapes)
        return self._buffers[key]


_scratch = _Scratch()


@torch.no_grad()
def log_mel(
    waveform: torch.Tensor,
    sampling_rate: int,
    num_mel_bins: int,
    frequency_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Return the log-mel spectrogram of one clip.

    Args:
        waveform: float32, shape `(time,)`, at least one frame long, on any device.
        sampling_rate: in Hz.
        num_mel_bins: number of mel filters.
        frequency_range: lower edge of the lowest filter and upper edge of the highest, in Hz, with
            0 <= low < high <= half the rate. None for 20 Hz to half the rate, as in every checkpoint.

    Returns:
        float32 `(frames, num_mel_bins)`, natural logarithm of the energy, at least ln(1.19e-7).
    """
    frame, hop, _ = frame_lengths(sampling_rate)
    frames = waveform.unfold(0, frame, hop)
    means = frame_means(waveform, frame, hop)
    tables = _tables(sampling_rate, num_mel_bins, waveform.device, frequency_range)
    count = len(frames)
    mel = torch.empty(count + _MIN_ROWS, num_mel_bins, dtype=waveform.dtype, device=waveform.device)
    for first in range(0, count, _BLOCK):
        last = min(first + _BLOCK, count)
        rows = mel[first : max(last, first + _MIN_ROWS)]
        _mel_energies(frames[first:last], means[first:last], rows, sampling_rate, tables)
    return mel[:count].clamp_(min=LOG_FLOOR).log_()


def _mel_energies(
    frames: torch.Tensor, means: torch.Tensor, mel: torch.Tensor, sampling_rate: int, tables: _Tables
) -> None:
    """Write the mel energies of up to `_BLOCK` frames into `mel`."""
    frame, _, fft_length = frame_lengths(sampling_rate)
    window, bands = tables
    padded, centred, squared, power = _scratch.get(frame, fft_length, mel.device)
    count = len(frames)
    rows = len(mel)  # at least `_MIN_ROWS`
    # As in Kaldi, the mean is removed first: with an offset, differences of quiet samples lose precision.
    torch.sub(frames, means, out=centred[:count])
    windowed = padded[:count, 1:frame]
    torch.sub(centred[:count, 1:], centred[:count, :-1], alpha=PREEMPHASIS, out=windowed)
    windowed.mul_(window[1:])
    spectrum = torch.fft.rfft(padded[:rows])
    parts = torch.view_as_real(spectrum)  # (rows, frequencies, 2): squared in one pass over memory
    torch.mul(parts, parts, out=squared[:rows])
    torch.add(squared[:rows, :, 0], squared[:rows, :, 1], out=power[:rows])
    for index, (low, high, block) in enumerate(bands):
        torch.matmul(
            power[:rows, low:high], block, out=mel[:, index * _BAND : index * _BAND + block.shape[1]]
        )


def frame_means(waveform: torch.Tensor, frame: int, hop: int) -> torch.Tensor:
    """Return the mean of each frame, shape `(frames, 1)`; overlapping frames share sums over blocks."""
    block = math.gcd(frame, hop)
    sums = waveform[: len(waveform) // block * block].view(-1, block).sum(dim=1)
    return sums.unfold(0, frame // block, hop // block).sum(dim=1, keepdim=True) / frame
