"""Stored splits as model inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..data.audio_headers import read_header
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import num_frames
from .augmentation import Augmentation
from .clip_cache import ClipCache
from .clip_store import ClipStore
from .own_augmentation import OwnAugmentation, SpectrogramFunction, WaveformFunction
from .processing import ClipProcessor, TeacherView, check_augmentation, decode_clip, describe_clip
from .sample_batches import sample_item
from .worker_rows import WorkerRows


class ClipInputs(torch.utils.data.Dataset):
    """A split as model inputs.

    Args:
        split: one split of `load_audio_dataset`.
        extractor: turns waveforms into features; its `max_length` is the input length.
        augmentation: random changes of training clips; None for evaluation.
        seed: first part of the key of every random choice.
        cache: cache decoded waveforms (64 kB per second at 16 kHz), up to a quarter of the available memory
            over all workers (W409 beyond that).
        teacher: returns the inputs of a teacher, a dict of tensors that items have as `teacher`. It is called
            with the augmented samples, and with (clip number, share) of the clips mixed in them.
        name: name of the split, for messages.
        augment: your own function of training clips, called after `augmentation` with samples `(time,)`, their
            rate in Hz and a NumPy generator keyed as all draws; returns samples `(time,)`.
        augment_spectrogram: the same of the raw log-mel spectrogram, called with a tensor `(frames, mel)` without
            padding and the generator, before masks and normalisation; returns one of so many mel bins.

    An item is keyed by `epoch * len(self) + clip` and is a dict of `input_values` `(frames, num_mel_bins)`,
    `labels` (a class index, or a float vector `(num_labels,)` of tags or mixed probabilities) and `row` (the
    clip's number).

    Clips are padded to `max_length`. With the extractor's `return_attention_mask` they are not padded, and
    have an `attention_mask` `(frames,)`, which `Collator` extends over the padding of a batch.

    Raises:
        AstConfigError: E307 for augmentation that cannot work on these clips.
        AstInputError: E108 for own functions that cannot be called so, or fail on a clip; E104 and E106 for a
            result that is not finite or has another shape.
    """

    def __init__(
        self,
        split: Dataset,
        extractor: ASTFeatureExtractor,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool = True,
        teacher: TeacherView | None = None,
        name: str = "",
        augment: WaveformFunction | None = None,
        augment_spectrogram: SpectrogramFunction | None = None,
    ) -> None:
        own = OwnAugmentation(augment, augment_spectrogram)
        if own and augmentation is None:
            augmentation = Augmentation()
        check_augmentation(augmentation, split, extractor)
        self.split = split
        self.extractor = extractor
        self.augmentation = augmentation
        self.seed = seed
        self.teacher = teacher
        self.name = name
        self.processor = ClipProcessor(
            self, split, extractor, augmentation=augmentation, seed=seed, teacher=teacher, own=own
        )
        self.num_labels = self.processor.num_labels
        self._labels = list(
            split[self.processor.task.label_column]
        )  # a column would read Arrow for each clip
        self._cache = ClipCache() if cache else None
        self._stored_samples: ClipStore | None = None
        self._feature_dtype = np.dtype(np.float32)
        #: Store of `processor.features`, see `use_store`.
        self.feature_store: ClipStore | None = None
        #: Set for the loader of a trainer on a GPU: its batches hold samples, see `sample_batches`.
        self.leaves_features = False
        #: Set by a trainer whose loader has workers.
        self.worker_rows: WorkerRows | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, clip = divmod(int(key), len(self))
        return self.processor.item(epoch, clip)

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Return the items of a batch, as a data loader asks for them; samples if `leaves_features` allows it."""
        if not (self.leaves_features and self.processor.can_leave_features):
            return [self[key] for key in keys]
        pairs = [divmod(int(key), len(self)) for key in keys]
        return [
            sample_item(clip, self.processor.samples(epoch, clip), self.extractor) for epoch, clip in pairs
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[clip] for clip in range(len(self)))

    def waveform(self, clip: int) -> np.ndarray:
        """Return decoded samples of a clip at the extractor's rate, float32 `(time,)`; see `decode_clip`."""
        if self.worker_rows is not None:
            self.worker_rows.note(clip)
        stored = None if self._stored_samples is None else self._stored_samples.read(clip)
        if stored is not None:
            return stored
        cached = self._cache.get(clip) if self._cache is not None else None
        if cached is not None:
            return cached
        waveform = self.decode(clip)
        if self._cache is not None:
            self._cache.add(clip, waveform)
        return waveform

    def decode(self, clip: int) -> np.ndarray:
        """Return the samples of `waveform` from the clip's file."""
        return decode_clip(clip, self.split[clip], self.extractor.sampling_rate, self.name)

    def use_store(self, store: ClipStore, dtype: np.dtype | None = None) -> None:
        """Take waveforms from a store, or with a `dtype` its raw log-mel features, which were rounded to that."""
        if dtype is None:
            self._stored_samples = store
            return
        self.feature_store = store
        self._feature_dtype = dtype
        self.processor.stored_features = self.stored_features

    def stored_features(self, clip: int) -> torch.Tensor:
        """Return raw log-mel of a clip from the store; computed and rounded in the same way if it is damaged there."""
        if self.worker_rows is not None:
            self.worker_rows.note(clip)
        stored = None if self.feature_store is None else self.feature_store.read(clip)
        if stored is None:
            stored = self.processor.features(self.waveform(clip)).numpy().astype(self._feature_dtype)
        return torch.from_numpy(stored).float()

    def label(self, clip: int) -> int | Sequence[int]:
        """Return the class index of a clip, or the indices of multi-label data."""
        return self._labels[clip]

    def describe(self, clip: int) -> str:
        """Return the split of a clip, its row, counted from 1, and its file for messages."""
        return describe_clip(clip, self.split[clip], self.name)

    def draw(self, random: np.random.Generator) -> int:
        """Return the number of a random clip to mix another one with."""
        return int(random.integers(len(self)))

    def frames(self, clip: int) -> int:
        """Return the number of frames the model sees of a clip, from the file header without decoding."""
        rate = self.extractor.sampling_rate
        return min(max(num_frames(int(self.seconds(clip) * rate), rate), 1), self.extractor.max_length)

    def seconds(self, clip: int) -> float:
        """Return the length of a clip in seconds, from the file header without decoding."""
        row = self.split[clip]
        end = read_header(row["audio"]).seconds if row.get("end") is None else row["end"]
        return end - (row.get("start") or 0.0)
