"""Model inputs of clips: shapes, keyed randomness, mixed labels, errors that name the row, order of an epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset

from ast_hf import AstConfigError, ASTFeatureExtractor, AstHfError
from ast_hf.inputs.augmentation import mix_waveforms
from ast_hf.inputs.collation import collate
from ast_hf.inputs.sampling import EpochSampler
from ast_hf.log_mel import _bands, log_mel
from ast_hf.training import Augmentation, ClipInputs, load_audio_dataset

CLASSES = ["bee", "cat", "dog"]
EVERYTHING = Augmentation(
    speed=1.3,
    delay_seconds=0.05,
    advance_seconds=0.05,
    random_crop=True,
    gain_db=6.0,
    mel_low_jitter_hz=30.0,
    mel_high_jitter_hz=1500.0,
    equalizer_db=3.0,
    time_stretch=1.3,
    mel_shift=2,
    mixstyle_probability=0.5,
    frequency_masks=1,
    frequency_mask_width=6,
    time_masks=1,
    time_mask_width=10,
    noise=0.1,
    roll_frames=5,
    mixup_probability=0.5,
    label_smoothing=0.1,
)


def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-4.0, std=3.0)


def write(folder: Path, labels: list, samples: list[int]) -> Dataset:
    """Write one noise clip per label; lists of labels make a multi-label split."""
    random = np.random.default_rng(0)
    lines = []
    for number, (label, length) in enumerate(zip(labels, samples, strict=True)):
        soundfile.write(folder / f"{number}.wav", random.uniform(-0.4, 0.4, length), 16_000)
        lines.append({"path": f"{number}.wav", "label": label})
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return load_audio_dataset(folder / "clips.jsonl")["train"]


@pytest.fixture
def three(tmp_path: Path) -> Dataset:
    """Return one clip of each class: 48, 23 and 98 frames."""
    return write(tmp_path, CLASSES, [8000, 4000, 16_000])


@pytest.fixture
def several(tmp_path: Path) -> Dataset:
    """Return eight clips of three classes."""
    return write(
        tmp_path, [CLASSES[number % 3] for number in range(8)], [3000 + 1500 * number for number in range(8)]
    )


def items(inputs: ClipInputs, keys: list[int]) -> Iterator[tuple[int, bytes, list]]:
    for key in keys:
        item = inputs[key]
        yield key, item["input_values"].numpy().tobytes(), item["labels"].tolist()


def test_item_has_values_label_and_row(three: Dataset) -> None:
    item = ClipInputs(three, extractor())[1]
    assert (item["input_values"].shape, item["input_values"].dtype) == ((64, 32), torch.float32)
    assert (item["labels"].item(), item["labels"].dtype) == (1, torch.int64)
    assert item["row"].item() == 1


def test_padding_comes_before_normalisation(three: Dataset) -> None:
    values = ClipInputs(three, extractor())[1]["input_values"]
    assert torch.equal(values[23:], torch.full((41, 32), 4 / 6))  # (0 - mean) / (2 std)
    assert not torch.isclose(values[:23], torch.tensor(4 / 6)).all(dim=1).any()


def test_evaluation_inputs_are_those_of_the_extractor_in_every_epoch(three: Dataset) -> None:
    inputs = ClipInputs(three, extractor())
    for clip in range(3):
        samples, rate = soundfile.read(three[clip]["audio"]["path"], dtype="float32")
        expected = extractor()(samples, rate, return_tensors="pt", truncation=True)["input_values"][0]
        for epoch in range(3):
            torch.testing.assert_close(inputs[3 * epoch + clip]["input_values"], expected, rtol=0, atol=1e-6)
            assert inputs[3 * epoch + clip]["labels"].item() == clip


def test_augmentation_that_is_off_changes_nothing(three: Dataset) -> None:
    plain, off = (ClipInputs(three, extractor(), augmentation=option) for option in (None, Augmentation()))
    assert list(items(plain, [0, 1, 2, 4])) == list(items(off, [0, 1, 2, 4]))


#: option with a probability -> other options that it needs
CHANCES = {
    "mixup_probability": {"mixup_alpha": 5.0},
    "mixstyle_probability": {"mixstyle_alpha": 0.5},
}


@pytest.mark.parametrize(("chance", "options"), CHANCES.items(), ids=CHANCES)
def test_probability_0_is_the_identity_and_1_changes_every_clip(
    several: Dataset, chance: str, options: dict
) -> None:
    keys = list(range(32))
    plain, never, always = (
        [values for _, values, _ in items(ClipInputs(several, extractor(), augmentation=option), keys)]
        for option in (
            None,
            Augmentation(**{**options, chance: 0.0}),
            Augmentation(**{**options, chance: 1.0}),
        )
    )
    assert never == plain
    same = sum(left == right for left, right in zip(always, plain, strict=True))
    assert same <= 8  # one partner in eight is the clip itself


def test_mel_jitter_computes_the_same_clip_over_another_range(several: Dataset) -> None:
    """A clip is jittered before padding, so padding does not change."""
    options = Augmentation(mel_low_jitter_hz=30.0, mel_high_jitter_hz=1500.0)
    inputs = ClipInputs(several, extractor(), augmentation=options, seed=5)
    pairs = set()
    grid = [(20.0 + 2 * low, 8000.0 - 100 * high) for low in range(16) for high in range(16)]
    clip = torch.from_numpy(inputs.waveform(1))
    possible = {ends: ((log_mel(clip, 16_000, 32, ends) + 4.0) / 6.0).numpy().tobytes() for ends in grid}
    for epoch in range(8):
        values = inputs[8 * epoch + 1]["input_values"]
        (match,) = [ends for ends in grid if possible[ends] == values[:26].numpy().tobytes()]
        assert torch.equal(values[26:], torch.full((38, 32), 4 / 6))
        pairs.add(match)
    assert len(pairs) > 4


def test_filter_banks_of_mel_jitter_are_kept() -> None:
    _bands.cache_clear()
    varied = Augmentation(mel_low_jitter_hz=10.0, mel_high_jitter_hz=2000.0)
    random = np.random.default_rng(0)
    clip = torch.zeros(400)
    for _ in range(600):
        log_mel(clip, 16_000, 8, varied.mel_range(16_000, random))
    log_mel(clip, 16_000, 8)
    assert _bands.cache_info().misses <= 257


def test_item_depends_on_its_key_alone(several: Dataset) -> None:
    keys = list(range(24))
    expected = list(items(ClipInputs(several, extractor(), augmentation=EVERYTHING, seed=3), keys))
    shuffled = np.random.default_rng(0).permutation(keys).tolist()
    again = ClipInputs(several, extractor(), augmentation=EVERYTHING, seed=3, cache=False)
    torch.manual_seed(99)
    np.random.seed(99)  # global generators do not matter
    assert sorted(items(again, shuffled)) == expected
    assert list(items(again, keys[5:9])) == expected[5:9]


def test_epochs_clips_and_seeds_differ(several: Dataset) -> None:
    draws = {
        values
        for seed in (0, 1)
        for _, values, _ in items(
            ClipInputs(several, extractor(), augmentation=EVERYTHING, seed=seed), list(range(24))
        )
    }
    assert len(draws) == 48


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader_gives_the_same_items(several: Dataset, workers: int) -> None:
    inputs = ClipInputs(several, extractor(), augmentation=EVERYTHING, seed=3)
    sampler = EpochSampler(8, seed=3)
    loader = torch.utils.data.DataLoader(
        inputs,
        batch_size=3,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    alone = ClipInputs(several, extractor(), augmentation=EVERYTHING, seed=3)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(loader)
        assert [len(batch["row"]) for batch in batches] == [3, 3, 2]
        rows = torch.cat([batch["row"] for batch in batches]).tolist()
        assert sorted(rows) == list(range(8))
        for name in ("input_values", "labels"):
            expected = torch.stack([alone[8 * epoch + row][name] for row in rows])
            assert torch.equal(torch.cat([batch[name] for batch in batches]), expected)


@pytest.mark.parametrize("samples", [400, 450, 500, 700])
def test_a_long_enough_clip_stays_so_in_every_epoch(tmp_path: Path, samples: int) -> None:
    options = Augmentation(speed=2.0, advance_seconds=0.05, mixup_probability=0.5)
    inputs = ClipInputs(write(tmp_path, CLASSES, [samples] * 3), extractor(), augmentation=options)
    for key in range(60):
        assert inputs[key]["input_values"].isfinite().all()


def test_augmentation_does_not_change_the_cached_waveform(three: Dataset) -> None:
    inputs = ClipInputs(three, extractor(), augmentation=EVERYTHING)
    before = inputs.waveform(0).copy()
    for key in range(0, 30, 3):
        _ = inputs[key]
    np.testing.assert_array_equal(inputs.waveform(0), before)


@pytest.mark.parametrize(
    ("first", "second", "share", "expected"),
    [
        ([1.0, 2.0], [3.0, 5.0], 0.75, [1.5, 2.75]),
        ([1.0], [3.0, 5.0], 0.5, [2.0, 2.5]),
        ([1.0, 2.0, 4.0], [8.0], 0.25, [6.25, 0.5, 1.0]),
        ([1.0, 2.0], [7.0], 1.0, [1.0, 2.0]),
    ],
)
def test_mix_by_hand(first: list, second: list, share: float, expected: list) -> None:
    mixed = mix_waveforms(np.array(first, np.float32), np.array(second, np.float32), share)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, expected)


def test_mixup_mixes_waveforms_as_it_mixes_labels(three: Dataset) -> None:
    """Every class has one clip, so the label shows the mixed clips and their shares."""
    inputs = ClipInputs(three, extractor(), augmentation=Augmentation(mixup_probability=1.0))
    shares = []
    for key in range(60):
        item = inputs[key]
        clip = key % 3
        label = item["labels"]
        assert label.sum().item() == pytest.approx(1.0, abs=1e-6)
        if label.count_nonzero() == 1:  # mixed with itself
            assert label[clip].item() == pytest.approx(1.0, abs=1e-6)
            continue
        (partner,) = [index for index in range(3) if index != clip and label[index] > 0]
        share = label[clip].item()
        mixed = mix_waveforms(inputs.waveform(clip), inputs.waveform(partner), share)
        expected = extractor()(mixed, 16_000, return_tensors="pt", truncation=True)["input_values"][0]
        torch.testing.assert_close(item["input_values"], expected, rtol=0, atol=1e-3)
        shares.append(share)
    assert len(shares) > 20
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.std(shares) == pytest.approx(0.109, abs=0.04)  # Beta(10, 10)


def test_mixup_of_a_share_of_the_clips(three: Dataset) -> None:
    options = Augmentation(mixup_probability=0.25)
    inputs = ClipInputs(three, extractor(), augmentation=options)
    mixed = [inputs[key]["labels"].count_nonzero().item() > 1 for key in range(600)]
    assert np.mean(mixed) == pytest.approx(0.25 * 2 / 3, abs=0.05)  # one partner in three is the clip itself


def test_no_mixup_no_smoothing_hard_labels(three: Dataset) -> None:
    inputs = ClipInputs(three, extractor(), augmentation=Augmentation(gain_db=3.0))
    assert [inputs[key]["labels"].tolist() for key in range(6)] == [0, 1, 2, 0, 1, 2]
    assert inputs[0]["labels"].dtype == torch.int64


def test_label_smoothing_by_hand(three: Dataset) -> None:
    label = ClipInputs(three, extractor(), augmentation=Augmentation(label_smoothing=0.3))[1]["labels"]
    torch.testing.assert_close(label, torch.tensor([0.1, 0.8, 0.1]))


@pytest.mark.parametrize("options", [None, Augmentation()], ids=["evaluated", "trained on"])
def test_multi_label_vectors(tmp_path: Path, options: Augmentation | None) -> None:
    split = write(tmp_path, [["cat"], ["dog", "bee"], ["bee", "cat", "dog"]], [8000] * 3)
    inputs = ClipInputs(split, extractor(), augmentation=options)
    assert [inputs[key]["labels"].tolist() for key in range(3)] == [[0, 1, 0], [1, 0, 1], [1, 1, 1]]


def test_smoothing_of_several_labels_is_refused(tmp_path: Path) -> None:
    split = write(tmp_path, [["dog"], ["bee", "dog"]], [4000, 4000])
    with pytest.raises(AstConfigError, match=r"E307.*label_smoothing.*one label"):
        ClipInputs(split, extractor(), augmentation=Augmentation(label_smoothing=0.1))


@pytest.mark.parametrize("axis", ["time", "frequency"])
@pytest.mark.parametrize("width", [0, 1])
def test_masks_that_hide_nothing_are_refused(three: Dataset, axis: str, width: int) -> None:
    masks: dict[str, Any] = {f"{axis}_masks": 2, f"{axis}_mask_width": width}
    with pytest.raises(AstConfigError, match=rf"E307.*{axis}_mask_width"):
        ClipInputs(three, extractor(), augmentation=Augmentation(**masks))


def test_multi_label_mixup(tmp_path: Path) -> None:
    split = write(tmp_path, [["cat", "bee"], ["cat", "dog"]], [8000] * 2)
    inputs = ClipInputs(split, extractor(), augmentation=Augmentation(mixup_probability=1.0))
    labels = torch.stack([inputs[key]["labels"] for key in range(40)])
    torch.testing.assert_close(labels[:, 1], torch.ones(40))  # both have it
    torch.testing.assert_close(labels[:, 0] + labels[:, 2], torch.ones(40))


BAD_CLIPS = {
    "no audio": (b"this is not audio at all, it is text", "E201"),
    "corrupt": (b"RIFF\x00\x00\x00\x00WAVEjunkjunkjunk", "E203"),
    "empty": (b"", "E201"),
    "short": (399, "E103"),
    "not finite": (np.nan, "E104"),
}


@pytest.mark.parametrize("options", [None, EVERYTHING], ids=["evaluation", "training"])
@pytest.mark.parametrize(("content", "code"), BAD_CLIPS.values(), ids=BAD_CLIPS)
def test_errors_name_row_and_file(
    three: Dataset, tmp_path: Path, content: Any, code: str, options: Augmentation | None
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "1.wav").write_bytes(content)
    else:
        samples = np.full(8000, content) if content != content else np.full(content, 0.5)
        soundfile.write(tmp_path / "1.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(AstHfError, match=r"row 2, .*1\.wav") as caught:
        _ = ClipInputs(three, extractor(), augmentation=options)[1]
    assert caught.value.code == code


def test_error_reaches_the_caller_through_a_worker(three: Dataset, tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(b"")
    loader = torch.utils.data.DataLoader(
        ClipInputs(three, extractor()), batch_size=3, collate_fn=collate, num_workers=1
    )
    with pytest.raises(AstHfError, match=r"E201.*row 2, .*1\.wav"):
        next(iter(loader))


def order(seed: int, epoch: int, length: int = 20) -> list[int]:
    sampler = EpochSampler(length, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_epoch_sampler_visits_every_clip_once(epoch: int) -> None:
    keys = order(5, epoch)
    assert sorted(keys) == list(range(20 * epoch, 20 * epoch + 20))
    assert keys == order(5, epoch)
    assert len(EpochSampler(20, 5)) == 20


def test_epoch_sampler_orders_differ_by_epoch_and_seed() -> None:
    orders = {tuple(key % 20 for key in order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(range(20)) not in orders


def test_collate() -> None:
    batch = collate(
        [
            {"x": torch.tensor([1.0, 2.0]), "row": torch.tensor(4)},
            {"x": torch.zeros(2), "row": torch.tensor(2)},
        ]
    )
    assert {name: value.tolist() for name, value in batch.items()} == {
        "x": [[1.0, 2.0], [0.0, 0.0]],
        "row": [4, 2],
    }
