"""Kaldi's log-mel spectrogram in torch: the front end that every AST checkpoint was trained with.

25 ms frames every 10 ms, mean removed per frame, pre-emphasis 0.97, symmetric Hann window, power spectrum of the next
power of two, triangular filters on Kaldi's mel scale from 20 Hz to half the sampling rate, natural logarithm floored
at float32's epsilon (the original's `dataloader.py`: `kaldi.fbank(htk_compat=True, use_energy=False,
window_type="hanning", dither=0.0)`). Frames are whole: a tail shorter than a frame is not looked at. Other edges than
20 Hz and half the rate are for training alone (mel jitter).

What is done for speed is exact in real arithmetic:

- The window is zero at a frame's first sample, the only one that Kaldi's pre-emphasis treats specially: it is skipped.
- Means of frames come from sums over blocks that neighbouring frames share.
- A mel filter covers few frequencies, so the product with the filter matrix is done in bands of filters over just the
  frequencies that they touch.
- One clip at a time, in blocks of frames: the buffers of a block stay in the cache, those of a batch do not; and a
  clip's result cannot depend on its neighbours.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import TypeAlias

import torch

FRAME_SECONDS, HOP_SECONDS = 0.025, 0.010
FRAMES_PER_SECOND = 100
PREEMPHASIS = 0.97
MIN_FREQUENCY = 20.0
#: Kaldi floors mel energies at float32's epsilon before the logarithm: ln(1.19e-7) = -15.94.
LOG_FLOOR = torch.finfo(torch.float32).eps
#: Filters per matrix product. 32 keeps the touched range of frequencies short and the products large enough.
_BAND = 32
#: Frames that are computed together: their buffers stay in the cache.
_BLOCK = 512
#: Rows of the smallest matrix product: with fewer, the last bit depends on how many threads share the work.
_MIN_ROWS = 16


def frame_lengths(sampling_rate: int) -> tuple[int, int, int]:
    """Samples of a frame, of the step between frames, and the FFT's length: (400, 160, 512) at 16 kHz."""
    frame = int(sampling_rate * FRAME_SECONDS)
    return frame, int(sampling_rate * HOP_SECONDS), 1 << (frame - 1).bit_length()


def frames_to_seconds(frames: int) -> float:
    """Return the length of `frames` log-mel frames in seconds: they begin 10 ms apart."""
    return frames / FRAMES_PER_SECOND


def num_frames(num_samples: int, sampling_rate: int) -> int:
    """Whole frames in so many samples (Kaldi's `snip_edges`): 998 for 10 s at 16 kHz, 0 below 25 ms."""
    frame, hop, _ = frame_lengths(sampling_rate)
    return 0 if num_samples < frame else 1 + (num_samples - frame) // hop


def num_samples(frames: int, sampling_rate: int) -> int:
    """Fewest samples that give so many frames."""
    frame, hop, _ = frame_lengths(sampling_rate)
    return frame + (frames - 1) * hop


def hertz_to_mel(frequency: torch.Tensor) -> torch.Tensor:
    """Kaldi's mel scale, 1127 ln(1 + f / 700)."""
    return 1127.0 * torch.log1p(frequency / 700.0)


def mel_filters(
    sampling_rate: int, num_mel_bins: int, frequency_range: tuple[float, float] | None = None
) -> torch.Tensor:
    """Kaldi's triangular filters, float64, shape `(fft_length // 2 + 1, num_mel_bins)`.

    Triangles are evenly spaced and linear on the mel scale over the range (in Hz; None for 20 Hz to half the sampling
    rate); their peaks are 1.
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

#: Filter banks that are kept, 33 kB each for 128 filters at 16 kHz: those of one mel jitter are 256.
_KEPT = 320


@functools.lru_cache(maxsize=_KEPT)
def _tables(
    sampling_rate: int, num_mel_bins: int, device: torch.device, frequency_range: tuple[float, float] | None = None
) -> _Tables:
    """The window, and the filters as bands of (first frequency, last frequency, matrix)."""
    frame, _, _ = frame_lengths(sampling_rate)
    window = torch.hann_window(frame, periodic=False, dtype=torch.float64).to(device, torch.float32)
    bands = []
    for block in mel_filters(sampling_rate, num_mel_bins, frequency_range).split(_BAND, dim=1):
        touched = torch.nonzero(block.sum(dim=1))
        first, last = (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 1)
        bands.append((first, last, block[first:last].to(device, torch.float32).contiguous()))
    return window, bands


class _Scratch(threading.local):
    """Buffers of one block of frames, kept between calls: fresh memory costs more than the arithmetic done in it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, torch.device], tuple[torch.Tensor, ...]] = {}

    def get(self, frame: int, fft_length: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Zero-padded frames, centred frames and power spectra of `_BLOCK` frames."""
        key = (frame, fft_length, device)
        if key not in self._buffers:
            with torch.inference_mode(False):  # buffers made in inference mode could not be written outside of it
                columns = (fft_length, frame, fft_length // 2 + 1)
                self._buffers[key] = tuple(torch.zeros(_BLOCK, width, device=device) for width in columns)
        return self._buffers[key]


_scratch = _Scratch()


@torch.no_grad()
def log_mel(
    waveform: torch.Tensor, sampling_rate: int, num_mel_bins: int, frequency_range: tuple[float, float] | None = None
) -> torch.Tensor:
    """Log-mel spectrogram of one clip.

    Args:
        waveform: float32, shape `(time,)`, at least one frame long, on any device.
        sampling_rate: in Hz.
        num_mel_bins: number of mel filters.
        frequency_range: where the lowest filter begins and the highest ends, in Hz, 0 <= low < high <= half the rate.
            None for 20 Hz to half the rate, what every checkpoint was trained with.

    Returns:
        float32, shape `(frames, num_mel_bins)`, natural logarithm of the energy, at least ln(1.19e-7), not normalised.
    """
    frame, hop, _ = frame_lengths(sampling_rate)
    frames, means = waveform.unfold(0, frame, hop), frame_means(waveform, frame, hop)
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
    """Mel energies of up to `_BLOCK` frames, written into `mel`."""
    frame, _, fft_length = frame_lengths(sampling_rate)
    window, bands = tables
    padded, centred, power = _scratch.get(frame, fft_length, mel.device)
    count, rows = len(frames), len(mel)
    # The mean goes first, as in Kaldi: a constant offset would cost the differences of quiet samples their precision.
    torch.sub(frames, means, out=centred[:count])
    windowed = padded[:count, 1:frame]
    torch.sub(centred[:count, 1:], centred[:count, :-1], alpha=PREEMPHASIS, out=windowed)
    windowed.mul_(window[1:])
    spectrum = torch.fft.rfft(padded[:rows])
    torch.mul(spectrum.real, spectrum.real, out=power[:rows])
    power[:rows].addcmul_(spectrum.imag, spectrum.imag)
    for index, (low, high, block) in enumerate(bands):
        torch.matmul(power[:rows, low:high], block, out=mel[:, index * _BAND : index * _BAND + block.shape[1]])


def frame_means(waveform: torch.Tensor, frame: int, hop: int) -> torch.Tensor:
    """Mean of each frame, shape `(frames, 1)`, from sums over blocks that frames and steps are multiples of."""
    block = math.gcd(frame, hop)
    sums = waveform[: len(waveform) // block * block].view(-1, block).sum(dim=1)
    return sums.unfold(0, frame // block, hop // block).sum(dim=1, keepdim=True) / frame
