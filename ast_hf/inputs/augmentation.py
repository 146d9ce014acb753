"""Augmentation: random changes of training clips, first of the waveform, then of the log-mel spectrogram."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validated_field

from ..errors import AstHfError, error
from ..log_mel import MIN_FREQUENCY
from ..strict_options import in_range, not_negative, strict_options
from .waveform_transforms import Transform, apply_transforms, build_transforms, try_transforms


@strict_options("augmentation")
@dataclass(kw_only=True)
class Augmentation:
    """Random changes of training clips. The defaults change nothing.

    Draws come from the generator that is passed in. Numbers without a range must be 0 or more.

    Attributes:
        speed: largest factor of faster or slower playback, 1..4 (1.25: from 0.8 to 1.25, log-uniform). Pitch
            changes with it.
        delay_seconds: longest silence before the clip, in seconds, 0..3,600.
        advance_seconds: longest part cut off the start of the clip, in seconds, 0..3,600; at most half of the clip.
        random_crop: use a random part of a clip that is longer than the model's input, instead of its start.
        gain_db: gain is drawn from [-gain_db, gain_db], in dB.
        audiomentations: transforms of that library, in order, each a mapping from its name to its arguments
            (`{"AddGaussianSNR": {"min_snr_db": 5, "max_snr_db": 40, "p": 0.5}}`). They follow speed, delay
            and crop, on a clip cut to the model's length. Needs the extra `augment`.
        mel_low_jitter_hz: the lowest mel filter starts up to this many Hz above 20 Hz.
        mel_high_jitter_hz: the highest mel filter ends up to this many Hz below half the sampling rate. Both
            are drawn per clip from 16 values; evaluation keeps 20 Hz and half the rate. As in PaSST (arXiv
            2110.05069), whose recipe (`ex_audioset.py`) has 10 and 2,000 Hz at 32 kHz.
        equalizer_db: standard deviation of a smooth random gain over the mel axis, in dB: another microphone
            or room.
        time_stretch: largest factor of faster or slower on the spectrogram, 1..4, log-uniform as `speed`.
            Pitch stays.
        mel_shift: the spectrogram is shifted by at most this many mel bins, up or down; the edge is repeated.
        mixstyle_probability: share of clips, 0..1, whose mean and spread in each mel bin are mixed with those
            of another clip (Freq-MixStyle, Kim et al. 2022, arXiv 2206.12513): a change of timbre and room,
            not of content.
        mixstyle_alpha: the mixing weight is drawn from Beta(alpha, alpha), 0.001..1,000.
        frequency_masks: number of SpecAugment masks over mel bins, 0..1,000.
        frequency_mask_width: the width of each is uniform in [0, frequency_mask_width), in mel bins.
        time_masks: number of SpecAugment masks over frames, 0..1,000.
        time_mask_width: the width of each is uniform in [0, time_mask_width), in frames.
        noise: uniform noise on the normalised spectrogram, in [0, noise * u) with u uniform in [0, 1) per
            clip; the original's Speech Commands recipe uses 0.1 (its `dataloader.py`, also for the roll).
        roll_frames: the spectrogram is rolled along time by -roll_frames to roll_frames - 1 frames.
        mixup_probability: share of clips, 0..1, that are mixed with another clip (waveforms and labels).
        mixup_alpha: the mixing weight is drawn from Beta(alpha, alpha), 0.001..1,000; the paper's recipe uses
            10.
        label_smoothing: share of the label spread evenly over all classes, 0..0.999; single-label data only.
    """

    speed: float = validated_field(in_range(1.0, 4.0), default=1.0)
    delay_seconds: float = validated_field(in_range(0.0, 3600.0), default=0.0)
    advance_seconds: float = validated_field(in_range(0.0, 3600.0), default=0.0)
    random_crop: bool = False
    gain_db: float = validated_field(not_negative, default=0.0)
    audiomentations: list[dict[str, Any]] = field(
        default_factory=list, metadata={"expected": "a list of {name: {argument: value}}"}
    )
    mel_low_jitter_hz: float = validated_field(not_negative, default=0.0)
    mel_high_jitter_hz: float = validated_field(not_negative, default=0.0)
    equalizer_db: float = validated_field(not_negative, default=0.0)
    time_stretch: float = validated_field(in_range(1.0, 4.0), default=1.0)
    mel_shift: int = validated_field(not_negative, default=0)
    mixstyle_probability: float = validated_field(in_range(0.0, 1.0), default=0.0)
    mixstyle_alpha: float = validated_field(in_range(1e-3, 1e3), default=0.3)
    frequency_masks: int = validated_field(in_range(0, 1_000), default=0)
    frequency_mask_width: int = validated_field(not_negative, default=0)
    time_masks: int = validated_field(in_range(0, 1_000), default=0)
    time_mask_width: int = validated_field(not_negative, default=0)
    noise: float = validated_field(not_negative, default=0.0)
    roll_frames: int = validated_field(not_negative, default=0)
    mixup_probability: float = validated_field(in_range(0.0, 1.0), default=0.0)
    mixup_alpha: float = validated_field(in_range(1e-3, 1e3), default=10.0)
    label_smoothing: float = validated_field(in_range(0.0, 0.999), default=0.0)

    @property
    def softens_labels(self) -> bool:
        """True if labels become probabilities."""
        return self.mixup_probability > 0 or self.label_smoothing > 0

    @property
    def needs_waveforms(self) -> bool:
        """True if something is drawn before the log-mel spectrogram, which then differs from epoch to epoch."""
        changes = (
            self.delay_seconds,
            self.advance_seconds,
            self.random_crop,
            self.gain_db,
            self.audiomentations,
        )
        filters = (self.mel_low_jitter_hz, self.mel_high_jitter_hz)
        return self.speed != 1.0 or any(changes) or any(filters) or self.mixup_probability > 0

    @property
    def keeps_spectrogram(self) -> bool:
        """True if nothing but masks and a roll changes the log-mel spectrogram."""
        changes = (
            self.mel_low_jitter_hz,
            self.mel_high_jitter_hz,
            self.equalizer_db,
            self.mel_shift,
            self.noise,
        )
        return self.time_stretch == 1.0 and not any(changes) and self.mixstyle_probability == 0

    @functools.cached_property
    def transforms(self) -> list[Transform]:
        """Transforms of `audiomentations`; E307 for unknown names and arguments or without the package."""
        return build_transforms(self.audiomentations, "augmentation.audiomentations")

    def check(self, sampling_rate: int, *, multi_label: bool = False) -> None:
        """Raise E307 for options that fail or have no effect on clips of this sampling rate in Hz."""
        if self.label_smoothing > 0 and multi_label:
            where = "augmentation.label_smoothing"
            what = "is for clips of one label, and these may have several"
            raise error("E307", where=where, what=what, fix="leave it out", detail="data")
        if self.frequency_masks > 0 and self.frequency_mask_width < 2:
            raise _narrow_masks("frequency_mask_width", self.frequency_mask_width, "mel bins")
        if self.time_masks > 0 and self.time_mask_width < 2:
            raise _narrow_masks("time_mask_width", self.time_mask_width, "frames")
        try_transforms(self.transforms, sampling_rate, "augmentation.audiomentations")
        remaining = sampling_rate / 2 - self.mel_high_jitter_hz - (MIN_FREQUENCY + self.mel_low_jitter_hz)
        if remaining < sampling_rate / 4:
            what = f"can leave {remaining:g} Hz of the {sampling_rate / 2:g} Hz in the clips"
            fix = "lower mel_low_jitter_hz or mel_high_jitter_hz, so that half of it remains"
            raise error("E307", where="augmentation: mel jitter", what=what, fix=fix, detail="data")

    def vary_waveform(
        self, waveform: np.ndarray, sampling_rate: int, limit: int, random: np.random.Generator
    ) -> np.ndarray:
        """Return a changed copy of samples `(time,)`, float32 at `sampling_rate` Hz, at most `limit`."""
        if self.speed != 1.0:
            waveform = change_speed(waveform, sampling_rate, self.speed ** random.uniform(-1.0, 1.0))
        if self.delay_seconds or self.advance_seconds:
            seconds = random.uniform(-self.advance_seconds, self.delay_seconds)
            waveform = shift(waveform, round(seconds * sampling_rate))
        if self.random_crop and len(waveform) > limit:
            start = int(random.integers(len(waveform) - limit + 1))
            waveform = waveform[start:]
        waveform = waveform[:limit]
        if self.audiomentations:
            waveform = apply_transforms(self.transforms, waveform, sampling_rate, random)[:limit]
        if self.gain_db:
            waveform = waveform * np.float32(10 ** (random.uniform(-self.gain_db, self.gain_db) / 20))
        return waveform

    def mel_range(self, sampling_rate: int, random: np.random.Generator) -> tuple[float, float] | None:
        """Return lowest and highest frequency of the mel filters for a clip in Hz, None without jitter."""
        if not (self.mel_low_jitter_hz or self.mel_high_jitter_hz):
            return None
        low, high = (random.integers(_JITTER_STEPS, size=2) / (_JITTER_STEPS - 1)).tolist()
        highest = sampling_rate / 2 - high * self.mel_high_jitter_hz
        return MIN_FREQUENCY + low * self.mel_low_jitter_hz, highest

    def vary_spectrogram(self, raw: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Return a changed copy of raw log-mel `(frames, mel)` without padding; stretching changes frames."""
        if self.equalizer_db:
            raw = raw + smooth_gain(raw.shape[1], self.equalizer_db, random)
        if self.time_stretch != 1.0:
            raw = stretch(raw, self.time_stretch ** random.uniform(-1.0, 1.0))
        if self.mel_shift:
            raw = shift_bins(raw, int(random.integers(-self.mel_shift, self.mel_shift + 1)))
        return raw.clone()

    def mask(self, raw: torch.Tensor, random: np.random.Generator, share: float = 1.0) -> torch.Tensor:
        """Apply SpecAugment to a padded spectrogram, raw log-mel `(time, mel)`, in place, and return it.

        Masks are raw 0.0 before normalisation, and may cover padding, as in the original's `dataloader.py`.
        For a clip without padding, `share` is its share of the model's length, by which time masks are
        narrowed: otherwise they would cover all of a short clip (arXiv 1912.05533, section 2.2).
        """
        frequency, time = self.draw_masks(raw.shape[0], raw.shape[1], random, share)
        for start, end in frequency:
            raw[:, start:end] = 0.0
        for start, end in time:
            raw[start:end] = 0.0
        return raw

    def draw_masks(
        self, frames: int, bins: int, random: np.random.Generator, share: float = 1.0
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return start and end of each mask over mel bins, and of each over frames; see `mask`."""
        frequency = [_mask(bins, self.frequency_mask_width, random) for _ in range(self.frequency_masks)]
        time = [_mask(frames, self.time_mask_width * share, random) for _ in range(self.time_masks)]
        return frequency, time

    def disturb(self, values: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Return normalised log-mel `(time, mel)`, padding included, with noise and roll."""
        if self.noise:
            level = random.random() * self.noise
            values = values + level * torch.from_numpy(random.random(tuple(values.shape), dtype=np.float32))
        roll = self.draw_roll(random)
        return values.roll(roll, dims=0) if roll else values

    def draw_roll(self, random: np.random.Generator) -> int:
        """Return the number of frames to roll a spectrogram by."""
        return int(random.integers(-self.roll_frames, self.roll_frames)) if self.roll_frames else 0


def _narrow_masks(option: str, width: int, unit: str) -> AstHfError:
    what = f"is {width}, so the masks hide nothing"
    return error(
        "E307", where=f"augmentation.{option}", what=what, fix=f"give 2 or more {unit}", detail="range"
    )


#: Number of values of each limit of the mel filters: `log_mel` caches 320 filter banks, which is enough.
_JITTER_STEPS = 16


def change_speed(waveform: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Return a waveform played `factor` times as fast; its pitch rises by the same factor."""
    import soxr

    return soxr.resample(waveform, sampling_rate * factor, sampling_rate, quality="MQ")


def shift(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Return a waveform delayed by silence (positive), or with its start cut off (negative, at most half)."""
    if samples >= 0:
        return np.concatenate((np.zeros(samples, waveform.dtype), waveform))
    return waveform[min(-samples, len(waveform) // 2) :]


#: Points of the random gain curve over the mel axis, joined by straight lines.
_EQUALIZER_POINTS = 6


def smooth_gain(num_mel_bins: int, spread_db: float, random: np.random.Generator) -> torch.Tensor:
    """Return a random gain `(num_mel_bins,)` in log-mel units (natural logarithm of energy)."""
    points = random.standard_normal(_EQUALIZER_POINTS) * spread_db * math.log(10) / 10
    positions = np.linspace(0, _EQUALIZER_POINTS - 1, num_mel_bins)
    return torch.from_numpy(np.interp(positions, range(_EQUALIZER_POINTS), points).astype(np.float32))


def stretch(raw: torch.Tensor, factor: float) -> torch.Tensor:
    """Return a spectrogram `(frames, mel)` played `factor` times as fast, frames interpolated linearly."""
    positions = torch.arange(max(1, int(len(raw) / factor))) * factor
    before = positions.long().clamp(max=len(raw) - 1)
    after = (before + 1).clamp(max=len(raw) - 1)
    return torch.lerp(raw[before], raw[after], (positions - before)[:, None].clamp(max=1.0))


def shift_bins(raw: torch.Tensor, bins: int) -> torch.Tensor:
    """Return a spectrogram `(frames, mel)` moved up by `bins` (down if negative), with the edge repeated."""
    source = (torch.arange(raw.shape[1]) - bins).clamp(0, raw.shape[1] - 1)
    return raw[:, source]


def mix_style(raw: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """Return `raw` with mean and spread of each mel bin mixed: `share` of it, the rest of `other`.

    Both are raw log-mel `(frames, mel)` without padding, and may differ in length.
    """
    mean, spread = _style(raw)
    other_mean, other_spread = _style(other)
    mixed_mean = share * mean + (1 - share) * other_mean
    mixed_spread = share * spread + (1 - share) * other_spread
    return (raw - mean) / spread * mixed_spread + mixed_mean


#: Added to the variance of a mel bin, which is 0 for a bin at the log floor.
_LEAST_VARIANCE = 1e-2


def _style(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each mel bin."""
    variance, mean = torch.var_mean(raw, dim=0, correction=0)
    return mean, (variance + _LEAST_VARIANCE).sqrt()


def _mask(size: int, width: float, random: np.random.Generator) -> tuple[int, int]:
    """Return start and end of a random mask, narrower than `width`, in `size` positions."""
    length = int(random.uniform(0, width)) if width else 0
    start = int(random.integers(size - min(length, size) + 1))
    return start, start + length


def mix_waveforms(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Return `share * first + (1 - share) * second`, the shorter one followed by silence.

    The original's `dataloader.py` cuts the second clip to the first's length, although both are labelled.
    """
    mixed = np.zeros(max(len(first), len(second)), np.float32)
    mixed[: len(first)] = share * first
    mixed[: len(second)] += (1 - share) * second
    return mixed


def pad_waveform(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Return a waveform, followed by silence if it is shorter than `samples`."""
    return np.pad(waveform, (0, max(0, samples - len(waveform))))
