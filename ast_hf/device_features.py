"""Features of a batch on a GPU: one pass over clips that are padded to one length.

A GPU computes the features of a clip in less time than the processor needs to start the operations for it. So
they are started once for many clips. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .log_mel import log_mel_batch, num_samples

#: Samples of a pass with its padding, 64 clips of 10.24 s: about 1 GB of frames and spectra in float64.
MOST_SAMPLES = 64 * 164_080
#: Factor between int16 and float32 samples.
FULL_SCALE = 32_768.0


class JoinedClips(NamedTuple):
    """Clips of a batch in one tensor, on their way to a GPU.

    Attributes:
        samples: `(batch, time)`, float32, or int16 at full scale where that is exact; padded with zeros.
        lengths: number of samples of each clip.
    """

    samples: torch.Tensor
    lengths: list[int]


def is_batched(device: torch.device) -> bool:
    """Return True for devices that compute a batch in one pass, all but the CPU."""
    return device.type != "cpu"


def passes(waveforms: Sequence[torch.Tensor]) -> Iterator[range]:
    """Yield the indices of the clips of each pass, in order; a longer clip than `MOST_SAMPLES` has its own."""
    first = 0
    longest = 0
    for index, waveform in enumerate(waveforms):
        longest = max(longest, len(waveform))
        if index > first and longest * (index + 1 - first) > MOST_SAMPLES:
            yield range(first, index)
            first = index
            longest = len(waveform)
    yield range(first, len(waveforms))


def padded(waveforms: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return clips `(time,)` as one tensor `(batch, time)` on `device`, padded with their last sample.

    Clips in the processor's memory are put together there, in pinned memory, and copied at once.
    """
    lengths = {len(waveform) for waveform in waveforms}
    home = device if any(not waveform.is_cpu for waveform in waveforms) else torch.device("cpu")
    clips = [waveform.to(home, non_blocking=True) for waveform in waveforms]
    pinned = home.type == "cpu" and device.type == "cuda"
    batch = torch.empty(len(clips), max(lengths), device=home, pin_memory=pinned)
    if len(lengths) == 1:
        torch.stack(clips, out=batch)
    else:
        for row, clip in zip(batch, clips, strict=True):
            row[: len(clip)] = clip
            row[len(clip) :].copy_(clip[-1:])
    return batch.to(device, non_blocking=True)


def joined(waveforms: Sequence[np.ndarray]) -> JoinedClips:
    """Return float32 clips `(time,)` in one tensor: as int16, half the bytes, if this changes no bit of them.

    So it is for clips that were decoded from 16 bits at their own rate.
    """
    lengths = [len(waveform) for waveform in waveforms]
    whole = []
    for waveform in waveforms:
        samples = whole_samples(waveform)
        if samples is None:
            break
        whole.append(samples)
    clips = whole if len(whole) == len(lengths) else waveforms
    batch = np.zeros((len(lengths), max(lengths)), clips[0].dtype)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return JoinedClips(torch.from_numpy(batch), lengths)


def whole_samples(waveform: np.ndarray) -> np.ndarray | None:
    """Return float32 samples as int16; None if `as_float32` would not return the same bits."""
    with np.errstate(invalid="ignore"):  # NaN and samples of 1.0 or more differ
        whole = (waveform * np.float32(FULL_SCALE)).astype(np.int16)
    back = whole.astype(np.float32) / np.float32(FULL_SCALE)
    return whole if np.array_equal(back.view(np.int32), waveform.view(np.int32)) else None


def as_float32(samples: torch.Tensor) -> torch.Tensor:
    """Return samples of `JoinedClips` as float32 in [-1, 1]."""
    return samples if samples.is_floating_point() else samples.float().div_(FULL_SCALE)


def log_mel_padded(
    batch: torch.Tensor, lengths: Sequence[int], sampling_rate: int, num_mel_bins: int
) -> torch.Tensor:
    """Return raw log-mel values `(batch, frames, mel)` of padded clips with 0.0 after `lengths` frames each."""
    longest = max(lengths)
    values = log_mel_batch(batch[:, : num_samples(longest, sampling_rate)], sampling_rate, num_mel_bins)
    if min(lengths) == longest:
        return values
    # From memory that is not pinned, the driver may wait for the operators before the copy.
    ends = torch.tensor(lengths, pin_memory=batch.is_cuda).to(batch.device, non_blocking=True)
    is_padding = torch.arange(longest, device=batch.device) >= ends[:, None]
    return values.masked_fill_(is_padding[:, :, None], 0.0)


def extremes(batch: torch.Tensor) -> torch.Tensor:
    """Return the lowest and the highest sample of padded clips, `(2, batch)`, NaN where a clip has one."""
    return torch.stack(batch.aminmax(dim=1))
