"""Features that a GPU computes of the samples of a batch are those of the readers but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from operators import Operators

from ast_hf import ASTFeatureExtractor
from ast_hf.inputs.augmentation import Augmentation
from ast_hf.inputs.clips import ClipInputs
from ast_hf.inputs.collation import Collator
from ast_hf.training import ASTTrainer, load_audio_dataset, prepare
from ast_hf.training import trainer as trainer_module
from training.runs import VARIED, digest, recipe

RATE = 16_000
PATCH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of clips of 0.03 to 1.3 s: most in 16 bits, one in floats, one at another rate."""
    root = tmp_path_factory.mktemp("lengths")
    random = np.random.default_rng(0)
    for number, seconds in enumerate((0.03, 0.2, 0.5, 0.64, 0.9, 1.3)):
        for label in ("a", "b"):
            (root / "train" / label).mkdir(parents=True, exist_ok=True)
            rate = 22_050 if number == 4 else RATE
            samples = random.uniform(-0.5, 0.5, int(seconds * rate)) * (0.5 if label == "a" else 1)
            subtype = "FLOAT" if number == 2 else "PCM_16"
            soundfile.write(root / "train" / label / f"{number}.wav", samples, rate, subtype=subtype)
    return root


def inputs(folder: Path, augmentation: Augmentation | None = None, *, masked: bool = False) -> ClipInputs:
    split = load_audio_dataset(str(folder))["train"]
    extractor = ASTFeatureExtractor(
        max_length=100, num_mel_bins=32, return_attention_mask=masked, mean=-5.0, std=4.0
    )
    return ClipInputs(split, extractor, augmentation=augmentation, seed=3)


KEEPING = {
    "nothing": None,
    "masks": Augmentation(frequency_masks=2, frequency_mask_width=8, time_masks=2, time_mask_width=40),
    "mixup": Augmentation(mixup_probability=1.0, time_masks=1, time_mask_width=30),
    "roll": Augmentation(roll_frames=10, time_masks=1, time_mask_width=30),
    "waveforms": Augmentation(
        speed=1.2, delay_seconds=0.1, advance_seconds=0.1, gain_db=6.0, random_crop=True
    ),
}


@pytest.mark.parametrize("bucket", [1, 64])
@pytest.mark.parametrize("masked", [False, True], ids=["padded", "masked"])
@pytest.mark.parametrize("name", KEEPING)
def test_a_batch_is_that_of_the_readers(name: str, masked: bool, bucket: int, folder: Path) -> None:
    if name == "roll" and masked:
        pytest.skip("a roll of clips without padding is left to the readers")
    clips = inputs(folder, KEEPING[name], masked=masked)
    keys = [len(clips) + number for number in range(len(clips))]  # the second epoch
    collate = Collator(clips.extractor, PATCH, bucket=bucket)
    expected = collate(clips.__getitems__(keys))
    assert "samples" not in expected
    clips.leaves_features = True
    left = collate(clips.__getitems__(keys))
    assert left["samples"].ndim == 2
    batch = collate.with_features(left)
    assert batch.keys() == expected.keys()
    assert batch["input_values"].shape == expected["input_values"].shape
    difference = (batch["input_values"] - expected["input_values"]).abs()
    assert difference.max() <= 5e-4
    assert difference.mean() <= 1e-6
    for column in batch.keys() - {"input_values"}:
        assert torch.equal(batch[column], expected[column]), column


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(mel_low_jitter_hz=5.0),
        Augmentation(mel_high_jitter_hz=50.0),
        Augmentation(equalizer_db=1.0),
        Augmentation(time_stretch=1.1),
        Augmentation(mel_shift=1),
        Augmentation(mixstyle_probability=0.5),
        Augmentation(noise=0.1),
    ],
    ids=["low", "high", "equalizer", "stretch", "shift", "mixstyle", "noise"],
)
def test_changed_spectrograms_are_left_to_the_readers(augmentation: Augmentation, folder: Path) -> None:
    clips = inputs(folder, augmentation)
    clips.leaves_features = True
    assert not clips.processor.can_leave_features
    assert "input_values" in clips.__getitems__([0])[0]


def test_samples_of_16_bits_travel_as_such(folder: Path) -> None:
    clips = inputs(folder)
    clips.leaves_features = True
    collate = Collator(clips.extractor, PATCH)
    names = [Path(audio["path"]).name for audio in clips.split["audio"]]
    kinds = {name: collate(clips.__getitems__([clip]))["samples"].dtype for clip, name in enumerate(names)}
    assert kinds["0.wav"] == kinds["5.wav"] == torch.int16
    assert kinds["2.wav"] == kinds["4.wav"] == torch.float32
    assert collate(clips.__getitems__(range(len(clips))))["samples"].dtype == torch.float32
    assert "input_values" in clips[0]


def test_a_batch_of_any_size_takes_the_same_operators_and_reads_nothing(folder: Path) -> None:
    clips = inputs(folder, KEEPING["masks"], masked=True)
    clips.leaves_features = True
    collate = Collator(clips.extractor, PATCH, bucket=64)
    totals = []
    for count in (1, len(clips)):
        batch = collate(clips.__getitems__(range(len(clips) - count, len(clips))))
        collate.with_features(batch)  # makes the filters
        with Operators() as operators:
            collate.with_features(batch)
        assert operators.reads == []
        totals.append(len(operators.names))
    assert abs(totals[0] - totals[1]) <= 6, totals


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainer take the CPU for a GPU."""
    monkeypatch.setattr(trainer_module, "is_batched", lambda device: True)


PLAN: dict[str, Any] = {
    **VARIED,
    "model": {"config": TINY},
    "features": {"mean": -5.0, "std": 4.0},
    "threads": 1,
}


def logged(trainer: ASTTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_a_run_learns_the_same(clips: Path, tmp_path: Path, on_gpu: None) -> None:
    options = {"logging_steps": 1, "logging_strategy": "steps", "max_steps": 3}
    losses = {}
    for place in ("gpu", "cpu"):
        changes = {"features": {**PLAN["features"], "gpu": place == "gpu"}}
        plan = recipe(clips, {**PLAN, **changes, "augmentation": {"mixup_probability": 0.5}}, **options)
        run = prepare(plan, tmp_path / place)
        assert run.trainer.features_on == place
        run.trainer.train()
        assert "input_values" in next(
            iter(torch.utils.data.DataLoader(run.train, 2))
        )  # a loader of the user's own
        losses[place] = [
            *logged(run.trainer),
            *run.trainer.predict(run.evaluation["test"]).predictions.ravel(),
        ]
    assert losses["gpu"] != losses["cpu"]
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], atol=2e-3)


def test_a_resumed_run_has_the_same_weights(clips: Path, tmp_path: Path, on_gpu: None) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "max_steps": 4}
    plan = recipe(clips, {**PLAN, "augmentation": {"mixup_probability": 0.5}}, **options)
    whole = prepare(plan, tmp_path / "whole").trainer
    whole.train()
    resumed = prepare(plan, tmp_path / "resumed").trainer
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert digest(whole.model.state_dict()) == digest(resumed.model.state_dict())


def test_a_batch_of_a_loader_needs_no_other_call(clips: Path, tmp_path: Path, on_gpu: None) -> None:
    trainer = prepare(recipe(clips, {**PLAN, "augmentation": {}}), tmp_path).trainer
    batch = next(iter(trainer.get_train_dataloader()))
    assert "samples" in batch
    assert trainer.compute_loss(trainer.model, batch).isfinite()


def test_metrics_may_read_the_features(clips: Path, tmp_path: Path, on_gpu: None) -> None:
    plan = recipe(clips, {**PLAN, "augmentation": {}}, include_for_metrics=["inputs"])
    run = prepare(plan, tmp_path)
    shapes: list[tuple[int, ...]] = []
    run.trainer.compute_metrics = lambda found: shapes.append(found.inputs.shape) or {}
    run.trainer.evaluate(run.evaluation["test"])
    assert shapes == [(8, TINY["max_length"], TINY["num_mel_bins"])]


@pytest.mark.parametrize("masked", [False, True])
def test_lengths_fall_into_few_buckets(masked: bool, folder: Path) -> None:
    clips = inputs(folder, masked=masked)
    collate = Collator(clips.extractor, PATCH, bucket=32)
    batches = [collate([clips[number]]) for number in range(len(clips))]
    lengths = {batch["input_values"].shape[1] for batch in batches}
    assert lengths == ({32, 64, 96, 100} if masked else {100})
    full = [batch for batch in batches if batch["input_values"].shape[1] == 100]
    assert all("attention_mask" not in batch for batch in full)
