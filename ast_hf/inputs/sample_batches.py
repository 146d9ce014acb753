"""Batches of samples, whose features a GPU computes: readers decode, mix and draw masks, and nothing else.

The result is that of `ClipProcessor.item` but for rounding in the log-mel spectrogram. It is possible where only masks,
padding, normalisation and a roll follow the spectrogram.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..device_features import as_float32, joined
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import log_mel_batch, num_frames

#: Clips of one pass of the front end: 64 of 10 s take about 1 GB.
_PASS = 64


class ClipSamples(NamedTuple):
    """Samples of a model input, and what follows the log-mel spectrogram.

    Attributes:
        waveform: samples `(time,)`, float32, with one frame at least.
        label: as in an item.
        frequency_masks: first mel bin and the one after the last, for each mask.
        time_masks: first frame and the one after the last, for each mask.
        roll: frames by which the input is rolled.
    """

    waveform: np.ndarray
    label: torch.Tensor
    frequency_masks: list[tuple[int, int]]
    time_masks: list[tuple[int, int]]
    roll: int = 0


def sample_item(clip: int, samples: ClipSamples, extractor: ASTFeatureExtractor) -> dict[str, torch.Tensor]:
    """Return the item of a clip for `join_samples`: `samples` `(time,)`, and what follows their spectrogram."""
    frames = min(num_frames(len(samples.waveform), extractor.sampling_rate), extractor.max_length)
    return {
        "samples": torch.from_numpy(samples.waveform),
        "frames": torch.tensor(frames),
        "frequency_masks": torch.tensor(samples.frequency_masks).reshape(-1, 2),
        "time_masks": torch.tensor(samples.time_masks).reshape(-1, 2),
        "roll": torch.tensor(samples.roll),
        "labels": samples.label,
        "row": torch.tensor(clip),
    }


def join_samples(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return a batch of items of `sample_item`; shorter clips are followed by silence.

    The samples are int16 where that is exact for all clips, as of files of 16 bits at the model's rate.
    """
    clips = joined([item["samples"].numpy() for item in items])
    others = {name: torch.stack([item[name] for item in items]) for name in items[0] if name != "samples"}
    return {"samples": clips.samples, **others}


def compute_features(
    batch: dict[str, torch.Tensor], extractor: ASTFeatureExtractor, frames: int
) -> dict[str, torch.Tensor]:
    """Return a batch of `join_samples` with `input_values` `(batch, frames, num_mel_bins)` on its device.

    With the extractor's `return_attention_mask` it has an `attention_mask`, too. Nothing waits for the device.

    Args:
        batch: the batch, on any device; without `frames` no clip is padded.
        extractor: that of the items.
        frames: length of the input, at least that of the longest clip.
    """
    rest = dict(batch)
    samples = as_float32(rest.pop("samples"))
    ends = rest.pop("frames", None)
    rows = rest.pop("time_masks")
    bins = rest.pop("frequency_masks")
    roll = rest.pop("roll")
    rate = extractor.sampling_rate
    parts = [log_mel_batch(part, rate, extractor.num_mel_bins) for part in samples.split(_PASS)]
    values = torch.cat(parts)[:, :frames]
    values = nn.functional.pad(values, (0, 0, 0, frames - values.shape[1]))
    hidden = _within(rows, frames)
    if ends is not None:
        is_padding = torch.arange(frames, device=values.device) >= ends[:, None]
        hidden = hidden | is_padding
        if extractor.return_attention_mask:
            rest["attention_mask"] = (~is_padding).long()
    values = values.masked_fill(hidden[:, :, None], 0.0)
    values = values.masked_fill(_within(bins, values.shape[2])[:, None, :], 0.0)
    if extractor.do_normalize:
        values = extractor.normalize(values)
    if not extractor.return_attention_mask:  # padding is rolled too, and has no mask
        source = (torch.arange(frames, device=values.device) - roll[:, None]) % frames
        values = values.gather(1, source[:, :, None].expand_as(values))
    return {"input_values": values, **rest}


def _within(ranges: torch.Tensor, size: int) -> torch.Tensor:
    """Return True at the positions in any of each clip's ranges, bool `(batch, size)`; ranges are `(batch, n, 2)`."""
    places = torch.arange(size, device=ranges.device)
    return ((places >= ranges[:, :, :1]) & (places < ranges[:, :, 1:])).any(dim=1)
