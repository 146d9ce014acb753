"""Clip number -> model input: decode, augment, extract, mask, normalise, mix labels. The same clip in the same epoch
always gives the same input, whatever was drawn before it: every random choice is keyed by (seed, epoch, clip).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..audio import load_audio
from ..data.headers import read_header
from ..data.option_spelling import NO_BOUNDARIES
from ..data.reading import is_multi_label
from ..data.splits import label_names
from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import log_mel, num_frames, num_samples
from .augmentation import Augmentation, at_least, mix, mix_style
from .randomness import keyed_random


class ClipInputs(torch.utils.data.Dataset):
    """A split as model inputs.

    Args:
        split: one split of `load_audio_dataset`.
        extractor: turns waveforms into features; its `max_length` is the input length.
        augmentation: how training clips vary; None for evaluation, which never augments.
        seed: first part of the key of every random choice.
        cache: keep decoded waveforms in memory (4 bytes a sample: 64 kB for each second at 16 kHz).
        teacher: what a teacher needs of an item, which has it as `teacher`, a dict of tensors. Called with the samples
            that the student hears, after all that is done to waveforms, and with the clips that they are mixed of, each
            with its share.

    An item is keyed by `epoch * len(self) + clip` and is a dict of `input_values` `(frames, num_mel_bins)`, `labels`
    (a class index, or a float vector `(num_labels,)` of tags or mixed probabilities) and `row` (the clip's number).

    Clips are padded to `max_length`. Where the extractor's `return_attention_mask` is set they are not: they have their
    own length, and an `attention_mask` `(frames,)`, which `Collator` continues over the padding of a batch.
    """

    def __init__(
        self,
        split: Dataset,
        extractor: ASTFeatureExtractor,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool = True,
        teacher: Callable[[np.ndarray, Sequence[tuple[int, float]]], dict[str, torch.Tensor]] | None = None,
    ) -> None:
        self.teacher = teacher
        self.split, self.extractor, self.augmentation = split, extractor, augmentation
        self.seed, self.num_labels = seed, len(label_names(split))
        if augmentation is not None:
            augmentation.check(extractor.sampling_rate, multi_label=is_multi_label(split))
        self._labels = split["labels" if is_multi_label(split) else "label"]
        self._cache: dict[int, np.ndarray] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, clip = divmod(int(key), len(self))
        if self.augmentation is None:
            waveform, parts = self.waveform(clip)[: self._longest], [(clip, 1.0)]
            values, label = self._values(self._frames(waveform)), self._label(clip)
        else:
            values, label, waveform, parts = self._augmented(epoch, clip, self.augmentation)
        item = {"input_values": values, "labels": label, "row": torch.tensor(clip)}
        if self._own_lengths:
            item["attention_mask"] = torch.ones(len(values), dtype=torch.long)
        return item if self.teacher is None else {**item, "teacher": self.teacher(waveform[: self._longest], parts)}

    @property
    def _longest(self) -> int:
        """Samples that the model's input has room for."""
        return num_samples(self.extractor.max_length, self.extractor.sampling_rate)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[clip] for clip in range(len(self)))

    def waveform(self, clip: int) -> np.ndarray:
        """Decoded samples of a clip at the extractor's rate, float32 `(time,)`; errors name the row and file.

        A row's `start` and `end` (seconds) bound the clip within its file.
        """
        if self._cache is not None and clip in self._cache:
            return self._cache[clip]
        row = self.split[clip]
        try:
            waveform = load_audio(
                row["audio"], self.extractor.sampling_rate, start=row.get("start"), end=row.get("end")
            )
            if not num_frames(len(waveform), self.extractor.sampling_rate):
                fix = "remove it, or record at least 25 ms"
                raise error("E103", where="clip", what=f"too short, {len(waveform)} samples", fix=fix)
        except AstHfError as problem:
            bounded = problem.code == "E208" and "start" in row
            fix = f"{problem.fix}; {NO_BOUNDARIES}" if bounded else problem.fix
            raise error(problem.code, where=self._name(clip), what=problem.what, fix=fix) from problem
        if self._cache is not None:
            self._cache[clip] = waveform
        return waveform

    def frames(self, clip: int) -> int:
        """How many frames the model gets of a clip as it is stored; its header is read, not its sound."""
        row, rate = self.split[clip], self.extractor.sampling_rate
        start, end = row.get("start") or 0.0, row.get("end")
        seconds = (read_header(row["audio"]).seconds if end is None else end) - start
        return min(max(num_frames(int(seconds * rate), rate), 1), self.extractor.max_length)

    @property
    def _own_lengths(self) -> bool:
        return self.extractor.return_attention_mask

    def _name(self, clip: int) -> str:
        """A clip by its row, counted from 1, and its file, for messages."""
        return f"row {clip + 1}, {self.split[clip]['audio'].get('path') or 'embedded audio'!r}"

    def _augmented(
        self, epoch: int, clip: int, augmentation: Augmentation
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, list[tuple[int, float]]]:
        """Input and label, and the samples that they were made of, with the share of each clip in them."""
        parts = [(clip, 1.0)]
        random = keyed_random(self.seed, epoch, clip)
        waveform, label = self._varied_waveform(clip, augmentation, random), self._label(clip)
        if augmentation.softens_labels:
            label = self._vector(clip)
        if random.random() < augmentation.mixup_probability:
            partner = int(random.integers(len(self)))
            share = float(random.beta(augmentation.mixup_alpha, augmentation.mixup_alpha))
            waveform = mix(waveform, self._varied_waveform(partner, augmentation, random), share)
            label = share * label + (1 - share) * self._vector(partner)
            parts = [(clip, share), (partner, 1 - share)]
        if augmentation.label_smoothing:
            label = label * (1 - augmentation.label_smoothing) + augmentation.label_smoothing / self.num_labels
        frames = self._varied_frames(waveform, augmentation, random)
        if random.random() < augmentation.mixstyle_probability:
            other = self._varied_waveform(int(random.integers(len(self))), augmentation, random)
            share = float(random.beta(augmentation.mixstyle_alpha, augmentation.mixstyle_alpha))
            frames = mix_style(frames, self._varied_frames(other, augmentation, random), share)
        padded = self._padded(frames)
        masked = augmentation.mask(padded, random, len(padded) / self.extractor.max_length)
        return augmentation.disturb(self._normalized(masked), random), label, waveform, parts

    def _varied_waveform(self, clip: int, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
        """A clip's samples, varied: one frame at least, and no more than can end up in the model's input."""
        rate, frames = self.extractor.sampling_rate, self.extractor.max_length
        limit, waveform = num_samples(math.ceil(frames * augmentation.time_stretch), rate), self.waveform(clip)
        try:
            varied = augmentation.vary_waveform(waveform, rate, limit, random)
        except AstHfError as problem:
            where = f"{self._name(clip)}, {problem.where}"
            raise error(problem.code, where=where, what=problem.what, fix=problem.fix) from problem
        return at_least(varied, num_samples(1, rate))

    def _varied_frames(
        self, waveform: np.ndarray, augmentation: Augmentation, random: np.random.Generator
    ) -> torch.Tensor:
        frames = self._frames(waveform, augmentation.mel_range(self.extractor.sampling_rate, random))
        return augmentation.vary_spectrogram(frames, random)[: self.extractor.max_length]

    def _frames(self, waveform: np.ndarray, frequency_range: tuple[float, float] | None = None) -> torch.Tensor:
        """Raw log-mel of all whole frames of a waveform, `(frames, mel)`."""
        rate, mel = self.extractor.sampling_rate, self.extractor.num_mel_bins
        return log_mel(torch.from_numpy(waveform), rate, mel, frequency_range)

    def _values(self, frames: torch.Tensor) -> torch.Tensor:
        """What the model gets of raw log-mel frames that nothing was done to."""
        return self._normalized(self._padded(frames))

    def _normalized(self, raw: torch.Tensor) -> torch.Tensor:
        return self.extractor.normalize(raw) if self.extractor.do_normalize else raw

    def _padded(self, frames: torch.Tensor) -> torch.Tensor:
        """Raw log-mel, cut or padded with 0.0 to the model's length, not normalised; only cut where it is masked."""
        if self._own_lengths:
            return frames[: self.extractor.max_length]
        padded = frames.new_zeros(self.extractor.max_length, self.extractor.num_mel_bins)
        padded[: len(frames)] = frames[: len(padded)]
        return padded

    def _label(self, clip: int) -> torch.Tensor:
        return self._vector(clip) if is_multi_label(self.split) else torch.tensor(self._labels[clip])

    def _vector(self, clip: int) -> torch.Tensor:
        vector = torch.zeros(self.num_labels)
        vector[self._labels[clip]] = 1.0
        return vector
