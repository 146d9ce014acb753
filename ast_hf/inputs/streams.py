"""A stream of clips -> model inputs: every clip once per epoch over all ranks and workers, augmented by its number.

A data set on the Hub that does not fit on the disk is read while it is trained on. Its shards (files) are dealt out to
ranks and workers, or its clips where there are fewer shards than readers; nobody reads a clip that another one has.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, Features, IterableDataset

from ..data.conventions import Row
from ..data.reading import is_multi_label
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from .augmentation import Augmentation
from .clips import ClipInputs
from .randomness import keyed_random

#: Clip numbers are keys of 32 bits (`keyed_random`); no clip has the last two, which an epoch's order is drawn with.
_MOST_CLIPS = 2**32 - 2
_ORDER_OF_CLIPS, _ORDER_OF_SHARDS = 2**32 - 2, 2**32 - 1


class StreamedClipInputs(torch.utils.data.IterableDataset):
    """A streamed split as model inputs, as `ClipInputs` gives them.

    Args:
        split: one split of `load_audio_dataset(..., streaming=True)`.
        extractor: turns waveforms into features; its `max_length` is the input length.
        augmentation: how training clips vary; None for evaluation, which never augments and keeps the order.
        seed: first part of the key of every random choice.
        shuffle_buffer: clips that wait to be drawn from at random, undecoded; 1 for the stream's own order. Shards are
            shuffled whole. With `augmentation` of None nothing is shuffled.
        rank: this process's number, None to ask torch.distributed (0 where it is not initialised).
        world_size: how many processes share the stream, None to ask torch.distributed. Pass `rank=0, world_size=1`
            where something else deals out the batches, as accelerate does for the data loaders that it prepares.

    An item is a dict of `input_values` `(frames, num_mel_bins)`, `labels` and `row`: the clip's number,
    `position in its shard * number of shards + shard`, which is the same however many readers there are. Its
    augmentation is keyed by (seed, epoch, number). What mixup and MixStyle mix it with are clips that were read shortly
    before, so these, and only these, depend on the number of readers.

    Example:
        >>> splits = load_audio_dataset("agkphysics/AudioSet", config_name="balanced", streaming=True, ...)
        >>> inputs = StreamedClipInputs(splits["train"], extractor, augmentation=Augmentation(gain_db=6.0))
        >>> inputs.set_epoch(1)
        >>> loader = DataLoader(inputs, batch_size=12, num_workers=4, collate_fn=collate)
    """

    def __init__(
        self,
        split: IterableDataset,
        extractor: ASTFeatureExtractor,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shuffle_buffer: int = 1_000,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(split, IterableDataset):
            what = f"is a {type(split).__name__}"
            raise error("E102", where="split", what=what, fix="load_audio_dataset(..., streaming=True) gives streams")
        if shuffle_buffer < 1:
            raise error("E108", where="shuffle_buffer", what=f"{shuffle_buffer} holds no clip", fix="give 1 or more")
        if augmentation is not None:
            augmentation.check(extractor.sampling_rate, multi_label=is_multi_label(split))
        self.split, self.extractor, self.augmentation, self.seed = split, extractor, augmentation, seed
        self.shuffle_buffer, self.epoch = 1 if augmentation is None else shuffle_buffer, 0
        self.rank, self.world_size = _place(rank, world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (make() for _, make in self.drawn())

    def drawn(self) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
        """Number of each clip in the order of this pass, and what makes its item: it has to be called before the next
        clip is drawn, or not at all.
        """
        window, inputs = self._window()
        for number, row in self._shuffled(self.rows()):
            window.add(number, row)
            yield number, partial(inputs.__getitem__, self.epoch * len(window) + number)

    def waveforms(self) -> Iterator[np.ndarray]:
        """Decoded samples of this reader's clips at the extractor's rate, float32 `(time,)`, nothing augmented."""
        window, inputs = self._window()
        for number, row in self.rows():
            window.add(number, row)
            yield inputs.waveform(number)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Number and row of this reader's clips, undecoded, shard by shard."""
        workers, worker_id = _worker()
        readers, reader = self.world_size * workers, self.rank * workers + worker_id
        shards = self.split.num_shards
        order = list(range(shards))
        if self._shuffles:
            order = keyed_random(self.seed, self.epoch, _ORDER_OF_SHARDS).permutation(shards).tolist()
        by_shard = shards >= readers
        clips = (clip for shard in (order[reader::readers] if by_shard else order) for clip in self._shard(shard))
        return clips if by_shard else (clip for place, clip in enumerate(clips) if place % readers == reader)

    def _window(self) -> tuple[_Window, ClipInputs]:
        """The clips read last, and what makes inputs of them."""
        window = _Window(cast(Features, self.split.features))
        split = cast(Dataset, window)
        return window, ClipInputs(split, self.extractor, augmentation=self.augmentation, seed=self.seed, cache=False)

    @property
    def _shuffles(self) -> bool:
        return self.shuffle_buffer > 1

    def _shard(self, shard: int) -> Iterator[tuple[int, Row]]:
        shards = self.split.num_shards
        # `iter` with a batch size: an IterableDataset's own iterator deals out shards to workers a second time.
        batches = self.split.shard(num_shards=shards, index=shard).iter(batch_size=1)
        for position, batch in enumerate(batches):
            yield position * shards + shard, {name: cells[0] for name, cells in batch.items()}

    def _shuffled(self, clips: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        if not self._shuffles:
            yield from clips
            return
        random, waiting = keyed_random(self.seed, self.epoch, _ORDER_OF_CLIPS), []
        for clip in clips:
            waiting.append(clip)
            if len(waiting) == self.shuffle_buffer:
                yield _taken(waiting, random)
        while waiting:
            yield _taken(waiting, random)


class Passes(torch.utils.data.IterableDataset):
    """A stream, pass after pass without an end, for a Trainer that counts steps. No process runs out of clips before
    another; a batch may hold the last clips of one pass and the first ones of the next.

    Args:
        inputs: what is passed over; pass n has the order and the augmentation of epoch n.
        batch_size: clips in a batch of this process.
        skipped: batches that a resumed run throws away before it goes on. Their clips are read, but not decoded, and
            are items of `row` alone.

    Raises:
        AstDataError: E209 when there is no clip for one of the readers.
    """

    def __init__(self, inputs: StreamedClipInputs, batch_size: int, skipped: int = 0) -> None:
        super().__init__()
        self.inputs, self.batch_size, self.skipped = inputs, batch_size, skipped

    def __iter__(self) -> Iterator[dict[str, Any]]:
        workers, worker_id = _worker()
        skipped = self.batch_size * len(range(worker_id, self.skipped, workers))  # workers take turns, batch by batch
        for place, (number, make) in enumerate(self._clips()):
            yield {"row": torch.tensor(number)} if place < skipped else make()

    def _clips(self) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
        for epoch in itertools.count():
            self.inputs.set_epoch(epoch)
            clips = self.inputs.drawn()
            first = next(clips, None)
            if first is None:
                what, fix = "has fewer clips than there are readers (processes times workers)", "use fewer workers"
                raise error("E209", where="stream", what=what, fix=fix)
            yield first
            yield from clips


def _worker() -> tuple[int, int]:
    """How many workers a data loader has here, and which of them this is."""
    worker = torch.utils.data.get_worker_info()
    return (1, 0) if worker is None else (worker.num_workers, worker.id)


def _taken(waiting: list[Any], random: np.random.Generator) -> Any:
    """A random element, removed; the last one takes its place."""
    chosen = int(random.integers(len(waiting)))
    waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
    return waiting.pop()


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size as given, or torch.distributed's; raises E108 for a rank that is not in the world."""
    if (rank is None) != (world_size is None):
        raise error("E108", where="rank", what="goes with world_size", fix="give both or neither")
    if rank is None or world_size is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    if not 0 <= rank < world_size:
        what = f"{rank} is not in 0..{world_size - 1}"
        raise error("E108", where="rank", what=what, fix="count processes from 0 to world_size - 1")
    return rank, world_size


class _Window:
    """What a stream has just given, in the place of a split: as many clips as there are keys, of which those that are
    asked for by a number that is not here are one of the clips read last.
    """

    #: Clips that another can be mixed with; they wait undecoded.
    PARTNERS = 64

    def __init__(self, features: Features) -> None:
        self.features, self.column_names = features, list(features)
        self._rows: deque[Row] = deque(maxlen=self.PARTNERS)
        self._number = -1

    def __len__(self) -> int:
        return _MOST_CLIPS

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return _Column(self, key)
        return self._rows[-1] if key == self._number else self._rows[key % len(self._rows)]

    def add(self, number: int, row: Row) -> None:
        """The newest clip."""
        self._rows.append(row)
        self._number = number


class _Column:
    """One column of a window, by clip number; it has no end, so it is not iterated."""

    __iter__ = None

    def __init__(self, window: _Window, name: str) -> None:
        self._window, self._name = window, name

    def __getitem__(self, clip: int) -> Any:
        return self._window[clip][self._name]
