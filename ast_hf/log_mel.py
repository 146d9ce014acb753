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
- On the CPU each clip is computed alone, in blocks of frames. The buffers of a block fit into the processor's
  cache, those of a batch would not, and a clip's result cannot depend on the other clips. On other devices,
  where each operation has to be started by the CPU, a batch is computed at once (`log_mel_batch`).
"""

from __future__ import annotations

import functools
import math
import threading
from typing import NamedTuple

import numpy as np
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
#: Frames whose spectra are computed together: their buffers fit into the processor's cache.
_BLOCK = 512
#: Frames that are multiplied with the filters together, a clip of 10 s: fewer calls for the narrow products.
_MEL_BLOCK = 1024
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


#: Number of cached filter banks, 33 kB each for 128 filters at 16 kHz. Mel jitter uses 256 of them.
_CACHE_SIZE = 320


def _hann_window(sampling_rate: int) -> torch.Tensor:
    """Return the symmetric Hann window without its first value, which is 0, in float64."""
    frame, _, _ = frame_lengths(sampling_rate)
    return torch.hann_window(frame, periodic=False, dtype=torch.float64, device="cpu")[1:]


@functools.lru_cache(maxsize=16)
def _window(sampling_rate: int) -> torch.Tensor:
    return _hann_window(sampling_rate).float()


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _bands(
    sampling_rate: int, num_mel_bins: int, frequency_range: tuple[float, float] | None = None
) -> list[tuple[int, int, torch.Tensor]]:
    """Return the filters as bands of (first frequency, end frequency, matrix), on the CPU."""
    bands = []
    for block in mel_filters(sampling_rate, num_mel_bins, frequency_range).split(_BAND, dim=1):
        covered = torch.nonzero(block.sum(dim=1))
        first, end = (int(covered[0]), int(covered[-1]) + 1) if len(covered) else (0, 1)
        bands.append((first, end, block[first:end].float().contiguous()))
    return bands


class _Block(NamedTuple):
    """Views of the buffers for up to `_BLOCK` of some frames."""

    rows: slice
    frames: torch.Tensor
    means: torch.Tensor
    padded: torch.Tensor
    windowed: torch.Tensor
    centred: torch.Tensor
    following: torch.Tensor
    preceding: torch.Tensor
    squared: np.ndarray


class _Chunk(NamedTuple):
    """Views of the buffers for up to `_MEL_BLOCK` frames: their samples, sums of samples, and means."""

    samples: np.ndarray
    grouped: torch.Tensor
    sums: torch.Tensor
    shared: torch.Tensor
    means: torch.Tensor
    blocks: list[_Block]


class _Buffers(NamedTuple):
    """Memory for `_MEL_BLOCK` frames at a sampling rate; spectra are computed for `_BLOCK` of them at once."""

    samples: torch.Tensor
    sums: torch.Tensor
    means: torch.Tensor
    padded: torch.Tensor
    centred: torch.Tensor
    squared: torch.Tensor
    power: torch.Tensor


class _Workspace(threading.local):
    """Buffers of a thread and views of them, reused between clips.

    Allocating them costs more than the arithmetic. Making a view takes Python's lock, for which the threads of a
    batch would wait: samples are copied, which costs less than views of them.
    """

    def __init__(self) -> None:
        self.buffers = functools.lru_cache(maxsize=4)(_make_buffers)
        self.energies = functools.lru_cache(maxsize=4)(_make_energies)
        self.chunk = functools.lru_cache(maxsize=64)(self._make_chunk)
        self.products = functools.lru_cache(maxsize=64)(self._make_products)

    def _make_chunk(self, sampling_rate: int, count: int) -> _Chunk:
        """Return views for `count` frames, at most `_MEL_BLOCK`."""
        frame, hop, _ = frame_lengths(sampling_rate)
        group = math.gcd(frame, hop)
        with torch.inference_mode(False):
            buffers = self.buffers(sampling_rate)
            samples = buffers.samples[: num_samples(count, sampling_rate)]
            grouped = samples.view(-1, group)
            sums = buffers.sums[: len(grouped)]
            means = buffers.means[:count]
            frames = samples.unfold(0, frame, hop)
            blocks = []
            for first in range(0, count, _BLOCK):
                rows = slice(first, min(first + _BLOCK, count))
                padded, centred, squared = (
                    part[: rows.stop - first] for part in (buffers.padded, buffers.centred, buffers.squared)
                )
                windowed = padded[:, 1:frame]
                views = padded, windowed, centred, centred[:, 1:], centred[:, :-1], squared.numpy()
                blocks.append(_Block(rows, frames[rows], means[rows], *views))
            shared = sums.unfold(0, frame // group, hop // group)
        return _Chunk(samples.numpy(), grouped, sums, shared, means, blocks)

    def _make_products(
        self, sampling_rate: int, num_mel_bins: int, ends: tuple[float, float] | None, rows: int
    ) -> tuple[np.ndarray, torch.Tensor, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """Return power spectra, mel energies, and the matrix products (factor, factor, result) between them."""
        with torch.inference_mode(False):
            bands = _bands(sampling_rate, num_mel_bins, ends)
            power = self.buffers(sampling_rate).power[:rows]
            mel = self.energies(num_mel_bins)[:rows]
            results = mel.split([filters.shape[1] for _, _, filters in bands], dim=1)
            products = [
                (power[:, low:high], filters, result)
                for (low, high, filters), result in zip(bands, results, strict=True)
            ]
        return power.numpy(), mel, products


def _make_buffers(sampling_rate: int) -> _Buffers:
    frame, hop, fft_length = frame_lengths(sampling_rate)
    samples = num_samples(_MEL_BLOCK, sampling_rate)
    bins = fft_length // 2 + 1
    with torch.inference_mode(False):  # or they could not be written outside of that mode
        shapes = (
            *((samples,), (samples // math.gcd(frame, hop),), (_MEL_BLOCK, 1)),
            *((_BLOCK, fft_length), (_BLOCK, frame), (_BLOCK, 2 * bins), (_MEL_BLOCK, bins)),
        )
        return _Buffers(*(torch.zeros(*shape, device="cpu") for shape in shapes))


def _make_energies(num_mel_bins: int) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.zeros(_MEL_BLOCK, num_mel_bins, device="cpu")


_workspace = _Workspace()


@torch.no_grad()
def log_mel(
    waveform: torch.Tensor,
    sampling_rate: int,
    num_mel_bins: int,
    frequency_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Return the log-mel spectrogram of one clip.

    Args:
        waveform: float32, shape `(time,)`, at least one frame long, on any device. It is not modified.
        sampling_rate: in Hz.
        num_mel_bins: number of mel filters.
        frequency_range: lower edge of the lowest filter and upper edge of the highest, in Hz, with
            0 <= low < high <= half the rate. None for 20 Hz to half the rate, as in every checkpoint.

    Returns:
        float32 `(frames, num_mel_bins)`, natural logarithm of the energy, at least ln(1.19e-7).
    """
    if waveform.is_cpu:
        result = torch.empty(num_frames(len(waveform), sampling_rate), num_mel_bins, device="cpu")
        write_log_mel(waveform.detach().numpy(), sampling_rate, result.numpy(), frequency_range)
        return result
    return log_mel_batch(waveform[None], sampling_rate, num_mel_bins, frequency_range)[0]


def write_log_mel(
    samples: np.ndarray,
    sampling_rate: int,
    result: np.ndarray,
    frequency_range: tuple[float, float] | None = None,
) -> None:
    """Write the log-mel spectrogram of samples, float32 `(time,)`, into `result`, float32 `(frames, num_mel_bins)`."""
    _, hop, _ = frame_lengths(sampling_rate)
    count, num_mel_bins = result.shape
    for start in range(0, count, _MEL_BLOCK):
        first = max(0, min(start, count - _MIN_ROWS))  # a short last block repeats rows of the one before
        last = min(start + _MEL_BLOCK, count)
        rows = max(last - first, _MIN_ROWS)
        power, mel, products = _workspace.products(sampling_rate, num_mel_bins, frequency_range, rows)
        _write_power(samples[first * hop :], last - first, sampling_rate, power)
        for spectra, filters, energies in products:
            torch.mm(spectra, filters, out=energies)
        # numpy's logarithm takes a third of the time of torch's, and is within 4 units in the last place.
        np.log(mel.clamp_(min=LOG_FLOOR).numpy()[: last - first], out=result[first:last])


def _write_power(samples: np.ndarray, count: int, sampling_rate: int, power: np.ndarray) -> None:
    """Write the power spectra of the first `count` frames of some samples into `power`, up to `_MEL_BLOCK`."""
    frame, _, _ = frame_lengths(sampling_rate)
    window = _window(sampling_rate)
    chunk = _workspace.chunk(sampling_rate, count)
    np.copyto(chunk.samples, samples[: len(chunk.samples)])
    torch.sum(chunk.grouped, dim=1, out=chunk.sums)  # frames that overlap share sums
    torch.sum(chunk.shared, dim=1, keepdim=True, out=chunk.means)
    chunk.means.div_(frame)
    for block in chunk.blocks:
        # As in Kaldi, the mean is removed first: with an offset, differences of quiet samples lose precision.
        torch.sub(block.frames, block.means, out=block.centred)
        torch.sub(block.following, block.preceding, alpha=PREEMPHASIS, out=block.windowed)
        torch.mul(block.windowed, window, out=block.windowed)
        parts = torch.fft.rfft(block.padded).numpy().view(np.float32)  # real and imaginary parts alternate
        np.multiply(parts, parts, out=block.squared)
        # numpy adds numbers that are not neighbours 1.4 times as fast as torch.
        np.add(block.squared[:, 0::2], block.squared[:, 1::2], out=power[block.rows])


@torch.no_grad()
def log_mel_batch(
    waveforms: torch.Tensor,
    sampling_rate: int,
    num_mel_bins: int,
    frequency_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Return the log-mel spectrograms of clips of one length, computed together: the way for a GPU.

    About 15 kernels for any number of clips, without waiting for the device. They compute in float64: then
    neither TF32 nor autocast nor `set_float32_matmul_precision` can shorten the factors of the mel product, and
    the difference to `log_mel` is the rounding of `log_mel` alone: within 1e-4 in normalised units, but for a
    few values in a million of noise and for the gaps between the harmonics of a tone. On the CPU it is slower
    than clip by clip. No buffer is kept, so any stream may run it.

    Args:
        waveforms: float32, shape `(batch, time)`, at least one frame long, on any device.
        sampling_rate: in Hz.
        num_mel_bins: number of mel filters.
        frequency_range: as in `log_mel`.

    Returns:
        float32 `(batch, frames, num_mel_bins)` on the device of the clips.
    """
    frame, hop, fft_length = frame_lengths(sampling_rate)
    window, filters = _dense_tables(sampling_rate, num_mel_bins, waveforms.device, frequency_range)
    frames = waveforms.to(window.dtype).unfold(1, frame, hop)
    centred = frames - frames.mean(dim=2, keepdim=True)
    windowed = torch.sub(centred[..., 1:], centred[..., :-1], alpha=PREEMPHASIS).mul_(window)
    spectrum = torch.fft.rfft(windowed, n=fft_length)  # begins a sample late, which changes no power
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return (power @ filters).float().clamp_(min=LOG_FLOOR).log_()


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _dense_tables(
    sampling_rate: int,
    num_mel_bins: int,
    device: torch.device,
    frequency_range: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the window and the filters in one matrix, float64 on devices that have it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    with torch.inference_mode(False):
        filters = mel_filters(sampling_rate, num_mel_bins, frequency_range)
        return _hann_window(sampling_rate).to(device, dtype), filters.to(device, dtype)
