"""Estimates of a prepared run: steps as trained, disk as written, nothing changed by measuring."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY  # noqa: F401 (the path of tests is set by it)
from training.runs import recipe, write_clips

from ast_hf.planning.estimates import Speed, estimate, measure_speed
from ast_hf.planning.extent import measure_extent
from ast_hf.planning.speed import spread_rows
from ast_hf.training import Run, prepare
from ast_hf.training import trainer as trainer_module

SPEED = Speed(0.5, 0.01, 400_000_000, 0.001, 0.002)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    write_clips(root)
    return root


def prepared(clips: Path, folder: Path, options: dict[str, Any] | None = None, **training: Any) -> Run:
    return prepare(
        recipe(clips, {"features": {"mean": -4.0, "std": 4.0}, **(options or {})}, **training), folder
    )


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"num_train_epochs": 1.5, "per_device_train_batch_size": 7},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 5},
        {"max_steps": 4, "save_strategy": "steps", "save_steps": 3},
        {"dataloader_drop_last": True, "per_device_train_batch_size": 7},
    ],
)
def test_extent_is_what_the_trainer_does(clips: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    run = prepared(clips, tmp_path, **training)
    extent = measure_extent(run)
    saved = []
    run.trainer._save_checkpoint = lambda *args, **kwargs: saved.append(run.trainer.state.global_step)
    run.trainer.train()
    assert extent.steps == run.trainer.state.global_step == run.trainer.state.max_steps
    assert extent.epochs == pytest.approx(run.trainer.state.epoch, abs=0.01)
    assert extent.saves >= len(saved)


@pytest.mark.long
def test_measuring_changes_nothing(clips: Path, tmp_path: Path) -> None:
    options = {"augmentation": {"speed": 1.3, "mixup_probability": 0.5}, "averaging_decay": 0.9}
    run = prepared(clips, tmp_path, options)
    weights = {name: value.clone() for name, value in run.trainer.model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    speed = measure_speed(run, steps=1)
    assert all(torch.equal(weights[name], value) for name, value in run.trainer.model.state_dict().items())
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert run.trainer.optimizer is None
    assert run.trainer.clips_trained == 0
    assert all(parameter.grad is None for parameter in run.trainer.model.parameters())
    assert 0 < speed.seconds_per_feature < speed.seconds_per_step < 5
    assert 0 < speed.seconds_per_evaluated_clip < speed.seconds_per_step
    assert speed.peak_bytes > 100e6
    assert speed.device_bytes is None


def test_features_of_a_gpu_are_measured_in_the_step(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "is_batched", lambda device: True)
    run = prepared(clips, tmp_path)
    kinds: list[set[str]] = []
    compute = run.trainer.compute_loss

    def watched(model: Any, batch: dict[str, Any]) -> Any:
        kinds.append(set(batch))
        return compute(model, batch)

    monkeypatch.setattr(run.trainer, "compute_loss", watched)
    measure_speed(run, steps=1)
    assert kinds
    assert all("samples" in kind and "input_values" not in kind for kind in kinds)


def test_training_grows_with_steps_and_nothing_else(clips: Path, tmp_path: Path) -> None:
    short = estimate(prepared(clips, tmp_path / "short"), SPEED)
    long = estimate(prepared(clips, tmp_path / "long", num_train_epochs=20), SPEED)
    changed = {name for name in short.parts if short.parts[name] != long.parts[name]}
    assert changed == {"training", "checkpoints"}
    # 18 epochs of 3 steps; the loading of the first epoch is in both
    assert long.parts["training"] - short.parts["training"] == pytest.approx(18 * 3 * 0.5)
    assert long.seconds == pytest.approx(sum(long.parts.values()))


def test_clips_are_decoded_once_with_a_cache_and_in_every_epoch_without(clips: Path, tmp_path: Path) -> None:
    decoding = dataclasses.replace(SPEED, seconds_per_decoded_clip=1.0)
    cached = estimate(prepared(clips, tmp_path / "cached"), decoding)
    uncached = estimate(prepared(clips, tmp_path / "uncached", {"data": {"cache": False}}), decoding)
    assert uncached.parts["training"] - cached.parts["training"] == pytest.approx(24.0)
    measured = estimate(prepared(clips, tmp_path / "measured"), decoding, statistics=True)
    assert measured.parts["mean and std"] == pytest.approx(24 * 1.002)
    assert cached.parts["training"] - measured.parts["training"] == pytest.approx(24.0)


def test_evaluations_are_counted(clips: Path, tmp_path: Path) -> None:
    options = {"data": {"validation_fraction": 0.25}}
    none = estimate(prepared(clips, tmp_path / "none", options), SPEED)
    each = estimate(prepared(clips, tmp_path / "each", options, eval_strategy="epoch"), SPEED)
    assert none.parts["evaluations"] == 0
    assert each.parts["evaluations"] == pytest.approx(6 * (2 * 0.01 + 0.001))


def test_memory_has_cache_and_average(clips: Path, tmp_path: Path) -> None:
    plain = estimate(prepared(clips, tmp_path / "plain", {"data": {"cache": False}}), SPEED)
    assert plain.memory_bytes == SPEED.peak_bytes
    cached = estimate(prepared(clips, tmp_path / "cached"), SPEED)
    sound = sum(len(path.read_bytes()) - 44 for path in clips.rglob("*.wav")) * 2  # 16 bits as float32
    assert cached.memory_bytes - SPEED.peak_bytes == pytest.approx(sound, rel=0.02)
    averaged = prepared(clips, tmp_path / "averaged", {"data": {"cache": False}, "averaging_decay": 0.9})
    size = 4 * averaged.trainer.model.num_parameters(only_trainable=True)
    assert estimate(averaged, SPEED).memory_bytes - SPEED.peak_bytes == size


def test_disk_is_enough_for_what_is_written(clips: Path, tmp_path: Path) -> None:
    run = prepared(clips, tmp_path)
    expected = estimate(run, SPEED).disk_bytes
    run.trainer.train()
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0.3 * expected < written < expected


@pytest.mark.parametrize(("clips", "count"), [(10, 4), (3, 8), (1, 2), (64, 64)])
def test_rows_are_spread(clips: int, count: int) -> None:
    rows = spread_rows(clips, count)
    assert len(rows) == count
    assert len(set(rows)) == min(clips, count)
    assert set(rows) <= set(range(clips))
