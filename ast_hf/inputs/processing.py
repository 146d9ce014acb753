"""Processing of one clip into a model input: decode, augment, extract, mask, normalise, mix labels.

Every random choice is keyed by (seed, epoch, clip), so that an input does not depend on previous draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from ..audio import load_audio
from ..data.naming_conventions import Row
from ..data.option_spelling import NO_BOUNDARIES
from ..data.splits import label_names, split_task
from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import log_mel, num_frames, num_samples
from ..task import Task
from .augmentation import Augmentation, mix_style, mix_waveforms, pad_waveform
from .own_augmentation import OwnAugmentation, at_clip
from .randomness import keyed_random
from .sample_batches import ClipSamples

#: (samples `(time,)` of an input, (clip number, share) of the clips mixed in it) -> the teacher's inputs.
TeacherView = Callable[[np.ndarray, Sequence[tuple[int, float]]], dict[str, torch.Tensor]]


class ClipSource(Protocol):
    """Clips by number: a stored split, or the last clips of a stream. `ClipInputs` explains the methods."""

    def waveform(self, clip: int) -> np.ndarray: ...

    def label(self, clip: int) -> int | Sequence[int]: ...

    def describe(self, clip: int) -> str: ...

    def draw(self, random: np.random.Generator) -> int: ...


class _Example(NamedTuple):
    """A processed clip: its input and label, their samples, and (clip, share) of the mixed clips."""

    values: torch.Tensor
    label: torch.Tensor
    waveform: np.ndarray
    parts: list[tuple[int, float]]


#: Samples of an input that is made from stored features.
_NO_SAMPLES = np.zeros(0, np.float32)


def check_augmentation(
    augmentation: Augmentation | None, split: Dataset | IterableDataset, extractor: ASTFeatureExtractor
) -> None:
    """Raise E307 for augmentation that cannot work on the clips of a split."""
    if augmentation is not None:
        is_multi_label = split_task(split) is Task.MULTI_LABEL
        augmentation.check(extractor.sampling_rate, multi_label=is_multi_label)


class ClipProcessor:
    """Turns clips of a source into model inputs.

    Args:
        source: the clips.
        split: their split of `load_audio_dataset`, which has the task and the classes.
        extractor: turns waveforms into features; its `max_length` is the input length.
        augmentation: random changes of clips; None for evaluation.
        seed: first part of the key of every random choice.
        teacher: returns the inputs of a teacher, see `ClipInputs`.
        own: functions of the user that follow the augmentation; without `augmentation` they are not called.
    """

    def __init__(
        self,
        source: ClipSource,
        split: Dataset | IterableDataset,
        extractor: ASTFeatureExtractor,
        *,
        augmentation: Augmentation | None,
        seed: int,
        teacher: TeacherView | None = None,
        own: OwnAugmentation | None = None,
    ) -> None:
        self.source = source
        self.extractor = extractor
        self.augmentation = augmentation
        self.seed = seed
        self.teacher = teacher
        self.own = own or OwnAugmentation()
        self.task = split_task(split)
        self.num_labels = len(label_names(split))
        #: Returns `features` of a clip by its number, from a store; None to compute them of its waveform.
        self.stored_features: Callable[[int], torch.Tensor] | None = None

    @property
    def needs_waveforms(self) -> bool:
        """True if an item depends on more than `features`: on changed waveforms, or on a teacher's view of them."""
        varies = self.augmentation is not None and self.augmentation.needs_waveforms
        return varies or self.own.augment is not None or self.teacher is not None

    @property
    def max_frames(self) -> int:
        """Frames that an input may need: those of the model, or more of them to be played faster."""
        stretch = 1.0 if self.augmentation is None else self.augmentation.time_stretch
        return math.ceil(self.extractor.max_length * stretch)

    def features(self, waveform: np.ndarray) -> torch.Tensor:
        """Return raw log-mel of the first `max_frames` frames of samples `(time,)`, `(frames, mel)`."""
        return self._log_mel(waveform[: num_samples(self.max_frames, self.extractor.sampling_rate)])

    def item(self, epoch: int, clip: int) -> dict[str, Any]:
        """Return the item of a clip in an epoch, see `ClipInputs`."""
        augmentation = self.augmentation
        example = self._plain(clip) if augmentation is None else self._augmented(epoch, clip, augmentation)
        item = {"input_values": example.values, "labels": example.label, "row": torch.tensor(clip)}
        if self.extractor.return_attention_mask:
            item["attention_mask"] = torch.ones(len(example.values), dtype=torch.long)
        if self.teacher is not None:
            item["teacher"] = self.teacher(example.waveform[: self._max_samples], example.parts)
        return item

    @property
    def can_leave_features(self) -> bool:
        """True if a GPU can compute what `item` does after `samples`, see `sample_batches`."""
        if self.stored_features is not None or self.teacher is not None or self.own.augment_spectrogram:
            return False
        extractor = self.extractor
        if type(extractor).normalize is not ASTFeatureExtractor.normalize:
            return False
        augmentation = self.augmentation or Augmentation()
        rolls_padding = augmentation.roll_frames and extractor.return_attention_mask
        return augmentation.keeps_spectrogram and not rolls_padding

    def samples(self, epoch: int, clip: int) -> ClipSamples:
        """Return the samples that `item` makes the input of, and its draws after the log-mel spectrogram."""
        augmentation = self.augmentation
        if augmentation is None:
            waveform = self.source.waveform(clip)[: self._max_samples]
            return ClipSamples(waveform, self._label(clip), [], [])
        random = keyed_random(self.seed, epoch, clip)
        waveform, label, _ = self._mixed(clip, augmentation, random)
        random.random()  # whether `item` mixes its style
        extractor = self.extractor
        frames = extractor.max_length
        if extractor.return_attention_mask:
            frames = min(frames, num_frames(len(waveform), extractor.sampling_rate))
        share = frames / extractor.max_length
        masks = augmentation.draw_masks(frames, extractor.num_mel_bins, random, share)
        return ClipSamples(waveform[: self._max_samples], label, *masks, augmentation.draw_roll(random))

    def input_values(self, waveform: np.ndarray) -> torch.Tensor:
        """Return the input of samples `(time,)` without augmentation, `(frames, num_mel_bins)`."""
        return self._normalized(self._fitted(self._log_mel(waveform)))

    @property
    def _max_samples(self) -> int:
        """Samples that fit into the model's input."""
        return num_samples(self.extractor.max_length, self.extractor.sampling_rate)

    def _plain(self, clip: int) -> _Example:
        if self.stored_features is not None:
            values = self._normalized(self._fitted(self.stored_features(clip)))
            return _Example(values, self._label(clip), _NO_SAMPLES, [(clip, 1.0)])
        waveform = self.source.waveform(clip)[: self._max_samples]
        return _Example(self.input_values(waveform), self._label(clip), waveform, [(clip, 1.0)])

    def _augmented(self, epoch: int, clip: int, augmentation: Augmentation) -> _Example:
        # Keep the order of the draws: a run that is resumed by a newer version must repeat them.
        random = keyed_random(self.seed, epoch, clip)
        waveform, label, parts = self._mixed(clip, augmentation, random)
        frames = self._varied_frames(clip, waveform, augmentation, random)
        if random.random() < augmentation.mixstyle_probability:
            partner = self.source.draw(random)
            other = self._varied_waveform(partner, augmentation, random)
            share = float(random.beta(augmentation.mixstyle_alpha, augmentation.mixstyle_alpha))
            frames = mix_style(frames, self._varied_frames(partner, other, augmentation, random), share)
        fitted = self._fitted(frames)
        masked = augmentation.mask(fitted, random, len(fitted) / self.extractor.max_length)
        values = augmentation.disturb(self._normalized(masked), random)
        return _Example(values, label, waveform, parts)

    def _mixed(
        self, clip: int, augmentation: Augmentation, random: np.random.Generator
    ) -> tuple[np.ndarray, torch.Tensor, list[tuple[int, float]]]:
        """Return a clip's changed samples, its label, and (clip, share) of the clips in it."""
        parts = [(clip, 1.0)]
        waveform = self._varied_waveform(clip, augmentation, random)
        label = self._multi_hot(clip) if augmentation.softens_labels else self._label(clip)
        if random.random() < augmentation.mixup_probability:
            partner = self.source.draw(random)
            share = float(random.beta(augmentation.mixup_alpha, augmentation.mixup_alpha))
            waveform = mix_waveforms(waveform, self._varied_waveform(partner, augmentation, random), share)
            label = share * label + (1 - share) * self._multi_hot(partner)
            parts = [(clip, share), (partner, 1 - share)]
        if augmentation.label_smoothing:
            smoothing = augmentation.label_smoothing
            label = label * (1 - smoothing) + smoothing / self.num_labels
        return waveform, label, parts

    def _varied_waveform(
        self, clip: int, augmentation: Augmentation, random: np.random.Generator
    ) -> np.ndarray:
        """Return a clip's changed samples, at least one frame, and no more than the model can use.

        Of a clip with stored features they are not needed, and nothing is drawn: there are none.
        """
        if self.stored_features is not None:
            return _NO_SAMPLES
        rate = self.extractor.sampling_rate
        limit = num_samples(self.max_frames, rate)
        waveform = self.source.waveform(clip)
        try:
            varied = augmentation.vary_waveform(waveform, rate, limit, random)
            varied = self.own.vary_waveform(varied, rate, random)[:limit]
        except AstHfError as problem:
            raise at_clip(problem, self.source.describe(clip)) from problem
        return pad_waveform(varied, num_samples(1, rate))

    def _varied_frames(
        self, clip: int, waveform: np.ndarray, augmentation: Augmentation, random: np.random.Generator
    ) -> torch.Tensor:
        """Return raw log-mel of changed samples, or that in a store, changed too."""
        if self.stored_features is not None:
            frames = self.stored_features(clip)
        else:
            frames = self._log_mel(waveform, augmentation.mel_range(self.extractor.sampling_rate, random))
        varied = augmentation.vary_spectrogram(frames, random)
        try:
            varied = self.own.vary_spectrogram(varied, random)
        except AstHfError as problem:
            raise at_clip(problem, self.source.describe(clip)) from problem
        return varied[: self.extractor.max_length]

    def _log_mel(
        self, waveform: np.ndarray, frequency_range: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return raw log-mel of all complete frames of a waveform, `(frames, mel)`."""
        extractor = self.extractor
        return log_mel(
            torch.from_numpy(waveform), extractor.sampling_rate, extractor.num_mel_bins, frequency_range
        )

    def _normalized(self, raw: torch.Tensor) -> torch.Tensor:
        return self.extractor.normalize(raw) if self.extractor.do_normalize else raw

    def _fitted(self, frames: torch.Tensor) -> torch.Tensor:
        """Return raw log-mel cut to the model's length and, without an attention mask, padded with 0.0."""
        if self.extractor.return_attention_mask:
            return frames[: self.extractor.max_length]
        fitted = frames.new_empty(self.extractor.max_length, self.extractor.num_mel_bins)
        fitted[: len(frames)] = frames[: len(fitted)]
        fitted[len(frames) :] = 0.0
        return fitted

    def _label(self, clip: int) -> torch.Tensor:
        if self.task is Task.MULTI_LABEL:
            return self._multi_hot(clip)
        return torch.tensor(self.source.label(clip))

    def _multi_hot(self, clip: int) -> torch.Tensor:
        """Return a float vector `(num_labels,)` with 1.0 at the labels of a clip."""
        vector = torch.zeros(self.num_labels)
        vector[self.source.label(clip)] = 1.0
        return vector


def decode_clip(clip: int, row: Row, sampling_rate: int, split: str = "") -> np.ndarray:
    """Return decoded samples of a row, float32 `(time,)` at `sampling_rate` Hz.

    Cells `start` and `end`, in seconds, bound the clip within its file. Raises errors of `load_audio`, and
    E103 for a clip shorter than a frame; all name the split, the row and the file.
    """
    try:
        waveform = load_audio(row["audio"], sampling_rate, start=row.get("start"), end=row.get("end"))
        if not num_frames(len(waveform), sampling_rate):
            fix = "remove it, or record at least 25 ms"
            raise error("E103", where="clip", what=f"too short, {len(waveform)} samples", fix=fix)
    except AstHfError as problem:
        bounded = problem.code == "E208" and "start" in row
        fix = f"{problem.fix}; {NO_BOUNDARIES}" if bounded else problem.fix
        where = describe_clip(clip, row, split)
        raise error(problem.code, where=where, what=problem.what, fix=fix) from problem
    return waveform


def describe_clip(clip: int, row: Mapping[str, Any], split: str = "") -> str:
    """Return the split of a clip, if it has a name, its row, counted from 1, and its file for messages."""
    return f"{split} row {clip + 1}, {row['audio'].get('path') or 'embedded audio'!r}".lstrip()
