"""Training on a GPU: it learns in every precision, resumes, stops at NaN, and writes files that load on a CPU. Skipped
without a GPU.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, largest_gap
from safetensors.torch import load_file

from ast_hf import ASTForAudioClassification, AstRunError
from ast_hf.inputs.sampling import EpochSampler
from ast_hf.training import evaluate_checkpoints, finetune, finish, prepare
from training.runs import VARIED, Stop, checkpoint_digest, poison, recipe
from training.teachers import ast_teacher

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

#: variant -> (options of the recipe, TrainingArguments)
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "float32": ({"precision": "float32"}, {}),
    "tf32": ({}, {"tf32": True}),
    "bf16": ({}, {"bf16": True}),
    "fp16": ({}, {"fp16": True}),
    "compiled": ({}, {"bf16": True, "torch_compile": True}),
    "recomputed": ({}, {"bf16": True, "gradient_checkpointing": True}),
    "augmented": (VARIED, {"bf16": True}),
    "patchout": ({"patchout": {"time": 2, "unstructured": 2}}, {"bf16": True}),
    "grouped": ({}, {"bf16": True, "train_sampling_strategy": "group_by_length"}),
    "readers": ({}, {"dataloader_num_workers": 2}),
    "features of readers": ({"features": {"gpu": False}}, {}),
}


def on_gpu(source: Path, options: dict[str, Any] | None = None, **training: Any) -> Any:
    return recipe(source, options, **{"use_cpu": False, "num_train_epochs": 8, **training})


@pytest.mark.parametrize("way", WAYS)
def test_training_on_a_gpu_learns(way: str, clips: Path, tmp_path: Path) -> None:
    options, training = WAYS[way]
    report = finetune(on_gpu(clips, options, **training), tmp_path)
    assert report.results["test"]["accuracy"] >= 0.85
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert torch.cuda.get_device_name() in json.dumps(results)
    assert results["features_on"] == ("cpu" if way in ("augmented", "features of readers") else "gpu")
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in weights.values())
    evaluations = [
        evaluate_checkpoints([str(tmp_path)], clips, output_dir=tmp_path / device, device=device)
        for device in ("cpu", "cuda")
    ]
    accuracy = [part.outcomes[str(tmp_path)].metrics["accuracy"] for part in evaluations]
    assert accuracy[0] == accuracy[1] == pytest.approx(report.results["test"]["accuracy"])


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9), reason="needs fp8 products"
)
@pytest.mark.parametrize("compiled", [False, True])
def test_fp8_learns_and_resumes(compiled: bool, clips: Path, tmp_path: Path) -> None:
    """Batches of 8 clips with 21 patches, and those of an evaluation, are no multiples of 16 tokens."""
    pytest.importorskip("torchao")
    options = {"precision": "fp8", "model": {"config": {**TINY, "hidden_size": 48, "num_hidden_layers": 3}}}
    plan = on_gpu(clips, options, torch_compile=compiled)
    run = prepare(plan, tmp_path)
    run.trainer.add_callback(Stop(epoch=4))
    run.trainer.train()
    del run
    report = finetune(plan, tmp_path, resume_from_checkpoint="auto")
    assert report.precision == "fp8"
    assert report.results["test"]["accuracy"] >= 0.85
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    "precision", [{"bf16": False}, {"bf16": True}, {"fp16": True}], ids=["float32", "bf16", "fp16"]
)
@pytest.mark.parametrize("stop", [Stop(epoch=1), Stop(step=4)], ids=["epoch", "mid-epoch"])
def test_resumes_to_the_same_weights(
    clips: Path, tmp_path: Path, stop: Any, precision: dict[str, bool]
) -> None:
    """Bit for bit with `full_determinism`; otherwise a GPU adds in any order."""
    steps = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    plan = on_gpu(clips, VARIED, **steps, full_determinism=True, num_train_epochs=3, **precision)
    try:
        unbroken = prepare(plan, tmp_path / "whole").trainer
        unbroken.train()
        broken = prepare(plan, tmp_path / "broken").trainer
        broken.add_callback(stop)
        broken.train()
        assert broken.state.global_step < unbroken.state.global_step == 9
        resumed = prepare(plan, tmp_path / "broken").trainer
        resumed.train(resume_from_checkpoint=True)
    finally:
        torch.use_deterministic_algorithms(False)
    gaps = [
        largest_gap(value, resumed.model.state_dict()[name])
        for name, value in unbroken.model.state_dict().items()
    ]
    assert max(gaps) == 0
    ends = [checkpoint_digest(tmp_path / name / "checkpoint-9") for name in ("whole", "broken")]
    assert ends[0] == ends[1]


def test_loss_of_nan_stops_and_names_the_clips(clips: Path, tmp_path: Path) -> None:
    run = prepare(on_gpu(clips, seed=7), tmp_path)
    poison(run.trainer.model, 5, float("nan"))
    sampler = EpochSampler(24, 7)
    sampler.set_epoch(1)
    rows = [key % 24 + 1 for key in sampler][8:16]  # the second batch of the second epoch, counted from 1
    with pytest.raises(AstRunError, match=r"E501.*step 5") as caught:
        run.trainer.train()
    assert str(rows) in str(caught.value)
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]


def test_an_adapter(clips: Path, tmp_path: Path) -> None:
    base = ast_teacher(tmp_path / "base", ["noise", "tone"])
    options = {"model": {"base": base, "config": {}}, "adapter": {"rank": 4}}
    run = prepare(on_gpu(clips, options, bf16=True, logging_strategy="epoch"), tmp_path / "out")
    run.trainer.train()
    losses = [entry["loss"] for entry in run.trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    finish(run)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(
        load_file(Path(base) / "model.safetensors")
    )


def test_a_teacher_on_the_gpu(clips: Path, tmp_path: Path) -> None:
    teacher = ast_teacher(tmp_path / "teacher", ["noise", "tone"])
    run = prepare(on_gpu(clips, {"distillation": {"teacher": teacher}}, max_steps=3), tmp_path / "out")
    run.trainer.train()
    losses = [entry["train_loss"] for entry in run.trainer.state.log_history if "train_loss" in entry]
    assert 0 < losses[-1] < 10
    distillation = run.trainer.distillation
    assert {value.device.type for value in distillation.model.parameters()} == {"cuda"}
    assert distillation.targets([run.train[0]["teacher"]]).shape == (1, 2)  # as in docs/how-to/distil.md


def test_a_trained_model_loads_on_a_cpu_without_warning(clips: Path, tmp_path: Path) -> None:
    finetune(on_gpu(clips, num_train_epochs=1), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ASTForAudioClassification.from_pretrained(tmp_path)
    assert model.config.max_length == TINY["max_length"]
    assert {value.device.type for value in model.parameters()} == {"cpu"}
