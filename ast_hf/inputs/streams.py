"""Streamed splits as model inputs, with every clip once per epoch over all ranks and workers.

Shards (files) are divided among ranks and workers, or clips if there are fewer shards than readers.

`datasets` is not used for shuffling and dividing: its `state_dict` loses the clips in a shuffle buffer, its
shuffling differs between versions, and each of its readers counts clips from 0. Here, order and number of a
clip depend only on the stream and (seed, epoch), so that a resumed run equals an uninterrupted one bit by bit.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset

from ..data.naming_conventions import Row
from ..data.splits import split_task
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from .augmentation import Augmentation
from .own_augmentation import OwnAugmentation, SpectrogramFunction, WaveformFunction
from .processing import ClipProcessor, check_augmentation, decode_clip, describe_clip
from .randomness import BUFFER_KEY, MAX_CLIPS, ORDER_KEY, keyed_random


class StreamedClipInputs(torch.utils.data.IterableDataset):
    """A streamed split as model inputs, with the items of `ClipInputs`.

    Args:
        split: one split of `load_audio_dataset(..., streaming=True)`.
        extractor: turns waveforms into features; its `max_length` is the input length.
        augmentation: random changes of training clips; None for evaluation, which keeps the order.
        seed: first part of the key of every random choice.
        shuffle_buffer: number of undecoded clips that the next one is drawn from; 1 for the stream's order.
            Shards are shuffled too. Without augmentation nothing is shuffled.
        rank: number of this process; None for that of torch.distributed (0 if it is not initialised).
        world_size: number of processes that share the stream; None for that of torch.distributed. Pass
            `rank=0, world_size=1` for data loaders whose batches accelerate distributes.
        name: name of the split, for messages.
        augment: your own function of waveforms, as in `ClipInputs`.
        augment_spectrogram: your own function of spectrograms, as in `ClipInputs`.

    An item is a dict of `input_values` `(frames, num_mel_bins)`, `labels` and `row`: the clip's number,
    `position in its shard * number of shards + shard`, which is the same for any number of readers. Its
    augmentation is keyed by (seed, epoch, number). Only mixup and MixStyle depend on the number of readers,
    since they mix it with clips that were read shortly before.

    Raises:
        AstInputError: E102 for a split that is not a stream, E108 for an impossible buffer or rank.
        AstConfigError: E307 for augmentation that cannot work on these clips.

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
        name: str = "",
        augment: WaveformFunction | None = None,
        augment_spectrogram: SpectrogramFunction | None = None,
    ) -> None:
        super().__init__()
        self.own = OwnAugmentation(augment, augment_spectrogram)
        if self.own and augmentation is None:
            augmentation = Augmentation()
        if not isinstance(split, IterableDataset):
            fix = "load_audio_dataset(..., streaming=True) gives streams"
            raise error("E102", where="split", what=f"is a {type(split).__name__}", fix=fix)
        if shuffle_buffer < 1:
            what = f"{shuffle_buffer} holds no clip"
            raise error("E108", where="shuffle_buffer", what=what, fix="give 1 or more")
        check_augmentation(augmentation, split, extractor)
        self.split = split
        self.extractor = extractor
        self.augmentation = augmentation
        self.seed = seed
        self.shuffle_buffer = 1 if augmentation is None else shuffle_buffer
        self.epoch = 0
        self.name = name
        self.rank, self.world_size = _resolve_rank(rank, world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (make_item() for _, make_item in self.drawn())

    def drawn(self) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
        """Yield the number of each clip in the order of this pass, and a function that returns its item.

        The function is valid until the next clip is drawn.
        """
        clips = RecentClips(self.split, self.extractor.sampling_rate, self.name)
        processor = ClipProcessor(
            clips,
            self.split,
            self.extractor,
            augmentation=self.augmentation,
            seed=self.seed,
            own=self.own,
        )
        for number, row in self._shuffled(self.rows()):
            clips.add(number, row)
            yield number, partial(processor.item, self.epoch, number)

    def waveforms(self) -> Iterator[np.ndarray]:
        """Yield decoded samples of this reader's clips at the extractor's rate, float32 `(time,)`."""
        return (waveform for _, waveform in self.named_waveforms())

    def named_waveforms(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the description of each of this reader's clips, and its waveform."""
        for number, row in self.rows():
            waveform = decode_clip(number, row, self.extractor.sampling_rate, self.name)
            yield describe_clip(number, row, self.name), waveform

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield number and row of this reader's clips, undecoded, shard by shard."""
        workers, worker_id = _worker()
        readers = self.world_size * workers
        reader = self.rank * workers + worker_id
        shards = self.split.num_shards
        order = list(range(shards))
        if self._shuffles:
            order = keyed_random(self.seed, self.epoch, ORDER_KEY).permutation(shards).tolist()
        if shards >= readers:
            return itertools.chain.from_iterable(map(self._shard, order[reader::readers]))
        return itertools.islice(itertools.chain.from_iterable(map(self._shard, order)), reader, None, readers)

    @property
    def _shuffles(self) -> bool:
        return self.shuffle_buffer > 1

    def _shard(self, shard: int) -> Iterator[tuple[int, Row]]:
        """Yield number and row of the clips of a shard."""
        shards = self.split.num_shards
        # `iter` with a batch size: plain iteration divides the shards among workers a second time.
        batches = self.split.shard(num_shards=shards, index=shard).iter(batch_size=1)
        for position, batch in enumerate(batches):
            yield position * shards + shard, {name: cells[0] for name, cells in batch.items()}

    def _shuffled(self, clips: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        """Yield clips in random order, drawn from a buffer of `shuffle_buffer` clips."""
        if not self._shuffles:
            yield from clips
            return
        random = keyed_random(self.seed, self.epoch, BUFFER_KEY)
        buffer: list[tuple[int, Row]] = []
        for clip in clips:
            buffer.append(clip)
            if len(buffer) == self.shuffle_buffer:
                yield _pop_random(buffer, random)
        while buffer:
            yield _pop_random(buffer, random)


class RecentClips:
    """The last clips of a stream, undecoded: the `ClipSource` of clips to process and to mix with.

    Args:
        split: the stream.
        sampling_rate: rate in Hz of the waveforms.
        name: name of the split, for messages.
    """

    #: Maximum number of clips.
    SIZE = 64

    def __init__(self, split: IterableDataset, sampling_rate: int, name: str = "") -> None:
        self.sampling_rate = sampling_rate
        self.name = name
        self._label_column = split_task(split).label_column
        self._rows: OrderedDict[int, Row] = OrderedDict()

    def add(self, clip: int, row: Row) -> None:
        """Add the newest clip, and remove the oldest one if there are too many."""
        self._rows[clip] = row
        if len(self._rows) > self.SIZE:
            self._rows.popitem(last=False)

    def waveform(self, clip: int) -> np.ndarray:
        return decode_clip(clip, self._rows[clip], self.sampling_rate, self.name)

    def label(self, clip: int) -> int | Sequence[int]:
        return self._rows[clip][self._label_column]

    def describe(self, clip: int) -> str:
        return describe_clip(clip, self._rows[clip], self.name)

    def draw(self, random: np.random.Generator) -> int:
        # Always from the same range, so that later draws do not depend on the number of clips.
        position = int(random.integers(MAX_CLIPS)) % len(self._rows)
        return next(itertools.islice(self._rows, position, None))


class Passes(torch.utils.data.IterableDataset):
    """A stream, repeated without an end, for a Trainer that counts steps.

    No process runs out of clips before another; a batch may have the last clips of one pass and the first
    ones of the next.

    Args:
        inputs: the stream; pass n has the order and the augmentation of epoch n.
        batch_size: clips in a batch of this process.
        skipped: batches that a resumed run has already trained on. Their clips are read, but not decoded, and
            their items have only `row`.

    Raises:
        AstDataError: E209 if there are fewer clips than readers.
    """

    def __init__(self, inputs: StreamedClipInputs, batch_size: int, skipped: int = 0) -> None:
        super().__init__()
        self.inputs = inputs
        self.batch_size = batch_size
        self.skipped = skipped

    def __iter__(self) -> Iterator[dict[str, Any]]:
        workers, worker_id = _worker()
        # Workers take turns, batch by batch.
        skipped = self.batch_size * len(range(worker_id, self.skipped, workers))
        for place, (number, make_item) in enumerate(self._clips()):
            yield {"row": torch.tensor(number)} if place < skipped else make_item()

    def _clips(self) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
        for epoch in itertools.count():
            self.inputs.set_epoch(epoch)
            clips = self.inputs.drawn()
            first = next(clips, None)
            if first is None:
                what = "has fewer clips than there are readers (processes times workers)"
                raise error("E209", where="stream", what=what, fix="use fewer workers")
            yield first
            yield from clips


def _worker() -> tuple[int, int]:
    """Return the data loader's number of workers and this worker's number, (1, 0) outside of workers."""
    worker = torch.utils.data.get_worker_info()
    return (1, 0) if worker is None else (worker.num_workers, worker.id)


def _pop_random(buffer: list[Any], random: np.random.Generator) -> Any:
    """Remove and return a random element, and replace it by the last one."""
    position = int(random.integers(len(buffer)))
    buffer[position], buffer[-1] = buffer[-1], buffer[position]
    return buffer.pop()


def _resolve_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size, by default torch.distributed's; raise E108 for an impossible rank."""
    if (rank is None) != (world_size is None):
        raise error("E108", where="rank", what="needs world_size, and vice versa", fix="give both or neither")
    if rank is None or world_size is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    if not 0 <= rank < world_size:
        what = f"{rank} is not in 0..{world_size - 1}"
        raise error("E108", where="rank", what=what, fix="count processes from 0 to world_size - 1")
    return rank, world_size
