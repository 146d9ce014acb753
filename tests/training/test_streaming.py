"""Streams as model inputs: every clip once over ranks and workers, keyed augmentation, order of an epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset, IterableDataset

from ast_hf import ASTFeatureExtractor, AstHfError
from ast_hf.data.splits import STORED
from ast_hf.inputs.collation import collate
from ast_hf.inputs.streams import StreamedClipInputs
from ast_hf.training import Augmentation, ClipInputs, load_audio_dataset, measure_statistics

CLASSES = ["bee", "cat", "dog"]
VARIED = Augmentation(
    speed=1.2, gain_db=6.0, frequency_masks=1, frequency_mask_width=6, time_masks=1, time_mask_width=9
)
CLIPS = 23


def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-4.0, std=3.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return clips of noise in three classes, each a little louder than the one before."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    lines = []
    for number in range(CLIPS):
        name = f"{number}.wav"
        soundfile.write(folder / name, random.uniform(-0.01, 0.01, 3_000) * (number + 1), 16_000)
        lines.append({"path": name, "label": CLASSES[number % 3], "number": number})
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return load_audio_dataset(folder / "clips.jsonl")["train"]


def stream(clips: Dataset, shards: int) -> IterableDataset:
    return clips.to_iterable_dataset(num_shards=shards).cast_column("audio", STORED)


def numbers(shards: int) -> dict[int, int]:
    """Return, by number of a clip in a stream with contiguous shards, its number in the table."""
    sizes = [CLIPS // shards + (shard < CLIPS % shards) for shard in range(shards)]
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    return {
        position * shards + shard: int(firsts[shard]) + position
        for shard, size in enumerate(sizes)
        for position in range(size)
    }


def rows(inputs: StreamedClipInputs, workers: int = 0) -> list[int]:
    loader = torch.utils.data.DataLoader(inputs, batch_size=4, num_workers=workers, collate_fn=collate)
    return [row for batch in loader for row in batch["row"].tolist()]


@pytest.mark.parametrize("shards", [1, 3, 4, 8, 23])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_clip_once_over_the_ranks(clips: Dataset, shards: int, world: int) -> None:
    split = stream(clips, shards)
    for augmentation in (None, VARIED):
        options: dict[str, Any] = {"augmentation": augmentation, "world_size": world, "shuffle_buffer": 5}
        drawn = [
            row
            for rank in range(world)
            for row in rows(StreamedClipInputs(split, extractor(), rank=rank, **options))
        ]
        assert sorted(drawn) == sorted(numbers(shards))


@pytest.mark.parametrize("shards", [1, 5])
def test_every_clip_once_over_ranks_and_workers(clips: Dataset, shards: int) -> None:
    split = stream(clips, shards)
    options: dict[str, Any] = {"augmentation": VARIED, "world_size": 2, "shuffle_buffer": 5}
    drawn = [
        rows(StreamedClipInputs(split, extractor(), rank=rank, **options), workers=2) for rank in range(2)
    ]
    assert sorted(drawn[0] + drawn[1]) == sorted(numbers(shards))
    assert all(drawn)


def test_items_are_those_of_the_stored_split(clips: Dataset) -> None:
    """Augmentation is keyed by the number in the stream, which with one shard is the clip's number."""
    stored = ClipInputs(clips, extractor(), seed=3)
    for item in StreamedClipInputs(stream(clips, 1), extractor(), seed=3):
        expected = stored[int(item["row"])]
        assert {name: value.tolist() for name, value in item.items()} == {
            n: v.tolist() for n, v in expected.items()
        }


@pytest.mark.parametrize("epoch", [0, 2])
def test_augmentation_is_keyed_by_seed_epoch_and_number(clips: Dataset, epoch: int) -> None:
    stored = ClipInputs(clips, extractor(), augmentation=VARIED, seed=3)
    for world, rank, buffer in ((1, 0, 7), (2, 1, 3), (3, 2, 100)):
        inputs = StreamedClipInputs(
            stream(clips, 1),
            extractor(),
            augmentation=VARIED,
            seed=3,
            shuffle_buffer=buffer,
            rank=rank,
            world_size=world,
        )
        inputs.set_epoch(epoch)
        for item in inputs:
            clip = int(item["row"])
            raw = stored[epoch * CLIPS + clip]["input_values"]
            torch.testing.assert_close(item["input_values"], raw, rtol=0, atol=0)


def test_shards_give_numbers_that_do_not_depend_on_readers(clips: Dataset) -> None:
    split = stream(clips, 4)
    labels = {
        int(item["row"]): int(item["labels"])
        for rank in range(3)
        for item in StreamedClipInputs(split, extractor(), rank=rank, world_size=3)
    }
    assert labels == {number: clip % 3 for number, clip in numbers(4).items()}


def test_order_differs_by_epoch_and_seed_and_repeats(clips: Dataset) -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            inputs = StreamedClipInputs(
                stream(clips, 3),
                extractor(),
                augmentation=VARIED,
                seed=seed,
                shuffle_buffer=6,
                rank=0,
                world_size=1,
            )
            inputs.set_epoch(epoch)
            orders[seed, epoch] = rows(inputs)
            assert rows(inputs) == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert {tuple(sorted(order)) for order in orders.values()} == {tuple(sorted(numbers(3)))}


def test_evaluation_keeps_the_order(clips: Dataset) -> None:
    inputs = StreamedClipInputs(stream(clips, 3), extractor(), shuffle_buffer=50)
    assert [numbers(3)[row] for row in rows(inputs)] == list(range(CLIPS))


def test_mixup_in_a_stream_mixes_labels_with_clips_that_were_read(clips: Dataset) -> None:
    options = Augmentation(mixup_probability=1.0)
    items = list(StreamedClipInputs(stream(clips, 1), extractor(), augmentation=options, shuffle_buffer=1))
    labels = torch.stack([item["labels"] for item in items])
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(CLIPS))
    assert labels[0].tolist() == [1.0, 0.0, 0.0]  # no other clip was available
    assert labels[1][2].item() == 0.0  # no dog so far
    assert (labels[3:].count_nonzero(dim=1) == 2).sum() > 8


def test_boundaries_in_a_stream(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.arange(8_000) / 8_000, 16_000, subtype="FLOAT")
    (tmp_path / "x.csv").write_text("path,label,start,end\na.wav,x,0.25,0.375\na.wav,y,,\n")
    split = load_audio_dataset(tmp_path / "x.csv", streaming=True)["train"]
    waveforms = list(StreamedClipInputs(split, extractor()).waveforms())
    assert [len(waveform) for waveform in waveforms] == [2_000, 8_000]
    assert waveforms[0][0] == 0.5


def test_statistics_of_a_stream_are_those_of_the_stored_split(clips: Dataset) -> None:
    stored = measure_statistics(ClipInputs(clips, extractor()))
    streamed = measure_statistics(StreamedClipInputs(stream(clips, 3), extractor()))
    assert streamed == pytest.approx(stored, rel=1e-12)


def test_rank_comes_from_torch_distributed(clips: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _place_of(clips) == (0, 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    assert _place_of(clips) == (2, 4)
    assert _place_of(clips, rank=0, world_size=1) == (0, 1)


def _place_of(clips: Dataset, **place: Any) -> tuple[int, int]:
    inputs = StreamedClipInputs(stream(clips, 3), extractor(), **place)
    return inputs.rank, inputs.world_size


BAD = {
    "rank alone": ({"rank": 1}, "E108"),
    "rank outside": ({"rank": 2, "world_size": 2}, "E108"),
    "no buffer": ({"shuffle_buffer": 0}, "E108"),
    "no mel left": ({"augmentation": Augmentation(mel_high_jitter_hz=7000.0)}, "E307"),
}


@pytest.mark.parametrize(("options", "code"), BAD.values(), ids=BAD)
def test_impossible_options(clips: Dataset, options: dict, code: str) -> None:
    with pytest.raises(AstHfError) as caught:
        StreamedClipInputs(stream(clips, 3), extractor(), **options)
    assert caught.value.code == code


def test_stored_split_is_refused(clips: Dataset) -> None:
    with pytest.raises(AstHfError, match=r"E102.*streaming=True"):
        StreamedClipInputs(clips, extractor())


def test_broken_clip_is_named(tmp_path: Path) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.ones(800) / 2, 16_000)
    (tmp_path / "x.csv").write_text("path,label\na.wav,x\nb.wav,y\n")
    split = load_audio_dataset(tmp_path / "x.csv", streaming=True)["train"]
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(AstHfError, match=r"E201.*row 2, .*b\.wav"):
        list(StreamedClipInputs(split, extractor()))
