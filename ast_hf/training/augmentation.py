"""How a training clip varies: on the waveform first, on the log-mel spectrogram after. Off unless asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(kw_only=True)
class Augmentation:
    """Random changes of a training clip. Every default is "off"; draws come from the generator that is passed in.

    Attributes:
        speed: largest factor of faster or slower playback (1.25: from 0.8 to 1.25, log-uniform); pitch moves along.
        delay_seconds: up to so much silence before the clip.
        advance_seconds: up to so much cut off the clip's start, at most half of it.
        random_crop: take a random stretch of a clip that is longer than the model's input, instead of its start.
        gain_db: gain drawn from [-gain_db, gain_db].
        equalizer_db: standard deviation of a smooth random gain over the mel axis, as another microphone or room.
        frequency_masks: number of SpecAugment masks over mel bins.
        frequency_mask_width: each mask's width is uniform in [0, this), in mel bins.
        time_masks: number of masks over frames.
        time_mask_width: each mask's width is uniform in [0, this), in frames.
        mixup_probability: share of clips that are mixed with another clip (waveforms and labels).
        mixup_alpha: the mix is drawn from Beta(alpha, alpha); the paper's recipe uses 10.
        label_smoothing: share of the label spread evenly over all classes; single-label data only.
    """

    speed: float = 1.0
    delay_seconds: float = 0.0
    advance_seconds: float = 0.0
    random_crop: bool = False
    gain_db: float = 0.0
    equalizer_db: float = 0.0
    frequency_masks: int = 0
    frequency_mask_width: int = 0
    time_masks: int = 0
    time_mask_width: int = 0
    mixup_probability: float = 0.0
    mixup_alpha: float = 10.0
    label_smoothing: float = 0.0

    @property
    def softens_labels(self) -> bool:
        """Whether labels become probabilities."""
        return self.mixup_probability > 0 or self.label_smoothing > 0

    def vary_waveform(
        self, waveform: np.ndarray, sampling_rate: int, limit: int, random: np.random.Generator
    ) -> np.ndarray:
        """Changed copy of float32 samples `(time,)` at `sampling_rate` Hz, at most `limit` samples long."""
        if self.speed != 1.0:
            waveform = change_speed(waveform, sampling_rate, self.speed ** random.uniform(-1.0, 1.0))
        if self.delay_seconds or self.advance_seconds:
            seconds = random.uniform(-self.advance_seconds, self.delay_seconds)
            waveform = shift(waveform, round(seconds * sampling_rate))
        if self.random_crop and len(waveform) > limit:
            start = int(random.integers(len(waveform) - limit + 1))
            waveform = waveform[start:]
        waveform = waveform[:limit]
        if self.gain_db:
            waveform = waveform * np.float32(10 ** (random.uniform(-self.gain_db, self.gain_db) / 20))
        return waveform

    def vary_spectrogram(self, raw: torch.Tensor, frames: int, random: np.random.Generator) -> torch.Tensor:
        """Changed copy of raw log-mel values `(time, mel)`, of which the first `frames` are real.

        Masks are raw 0.0 over padding too, before normalisation, as in the original's `dataloader.py`.
        """
        raw = raw.clone()
        if self.equalizer_db:
            raw[:frames] += smooth_gain(raw.shape[1], self.equalizer_db, random)
        for _ in range(self.frequency_masks):
            first, last = _mask(raw.shape[1], self.frequency_mask_width, random)
            raw[:, first:last] = 0.0
        for _ in range(self.time_masks):
            first, last = _mask(raw.shape[0], self.time_mask_width, random)
            raw[first:last] = 0.0
        return raw


def change_speed(waveform: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Play a waveform `factor` times as fast; its pitch rises by the same factor."""
    import soxr

    return soxr.resample(waveform, sampling_rate * factor, sampling_rate, quality="MQ")


def shift(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Delay by silence (positive), or cut off the start (negative, at most half of the clip)."""
    if samples >= 0:
        return np.concatenate((np.zeros(samples, waveform.dtype), waveform))
    return waveform[min(-samples, len(waveform) // 2) :]


#: Points of the random gain curve over the mel axis, joined by straight lines.
_EQUALIZER_POINTS = 6


def smooth_gain(num_mel_bins: int, spread_db: float, random: np.random.Generator) -> torch.Tensor:
    """Gain per mel bin in log-mel units (natural logarithm of energy), `(num_mel_bins,)`."""
    points = random.standard_normal(_EQUALIZER_POINTS) * spread_db * math.log(10) / 10
    positions = np.linspace(0, _EQUALIZER_POINTS - 1, num_mel_bins)
    return torch.from_numpy(np.interp(positions, range(_EQUALIZER_POINTS), points).astype(np.float32))


def _mask(size: int, width: int, random: np.random.Generator) -> tuple[int, int]:
    length = int(random.uniform(0, width)) if width else 0
    start = int(random.integers(size - min(length, size) + 1))
    return start, start + length
