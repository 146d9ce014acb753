"""Options for faster or smaller training do not change the result (docs/how-to/train-faster.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, largest_gap, randomise
from safetensors.torch import load_file
from torch import nn

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification
from ast_hf.patchout import Patchout
from ast_hf.training import finetune, prepare
from training.runs import recipe

FIXED = {"features": {"mean": -5.0, "std": 4.0}, "threads": 1}


def train(source: Path, folder: Path, options: dict[str, Any] | None = None, **training: Any) -> Any:
    """Return the trainer of a finished run of three steps."""
    fixed = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1, "save_strategy": "no"}
    trainer = prepare(recipe(source, {**FIXED, **(options or {})}, **{**fixed, **training}), folder).trainer
    trainer.train()
    return trainer


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def baseline(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the trainer of a run without any of the options."""
    return train(clips, tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="module")
def plain(baseline: Any) -> list[float]:
    """Return the losses of `baseline`."""
    return losses(baseline)


@pytest.fixture(scope="module")
def full_batches(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the trainer of a run with all clips in each step."""
    return train(clips, tmp_path_factory.mktemp("whole"), per_device_train_batch_size=24)


# ---------------------------------------------------------------- gradient checkpointing


def gradients(model: nn.Module, **options: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Return the gradients of a training step with dropout and patchout, and the number of runs of the first block."""
    runs: list[int] = []
    watch = model.base_model.encoder.layer[0].intermediate.register_forward_hook(lambda *_: runs.append(1))
    if options:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    torch.manual_seed(3)
    values = torch.randn(4, 64, 32)
    model.train().zero_grad()
    model(values, labels=torch.tensor([0, 1, 1, 0])).loss.backward()
    watch.remove()
    return {name: value.grad.clone() for name, value in model.named_parameters()}, len(runs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_gradients_are_the_same(reentrant: bool) -> None:
    model = randomise(ASTForAudioClassification(ASTConfig(**TINY, num_labels=2, hidden_dropout_prob=0.2)))
    model.base_model.patchout = Patchout(time=2, unstructured=3)
    expected, once = gradients(model)
    recomputed, twice = gradients(model, use_reentrant=reentrant)
    assert (once, twice) == (1, 2)
    assert max(float(value.abs().max()) for value in expected.values()) > 0.1
    assert max(largest_gap(expected[name], recomputed[name]) for name in expected) < 1e-6


def test_gradient_checkpointing_in_a_recipe(clips: Path, tmp_path: Path, plain: list[float]) -> None:
    trainer = train(clips, tmp_path, gradient_checkpointing=True)
    assert trainer.model.is_gradient_checkpointing
    assert losses(trainer) == pytest.approx(plain, abs=1e-6)


def test_gradient_checkpointing_of_a_frozen_start(clips: Path, tmp_path: Path) -> None:
    trainer = train(clips, tmp_path, {"optimization": {"frozen": "backbone"}}, gradient_checkpointing=True)
    expected = train(clips, tmp_path, {"optimization": {"frozen": "backbone"}})
    assert losses(trainer) == pytest.approx(losses(expected), abs=1e-6)
    for name, value in trainer.model.state_dict().items():
        assert largest_gap(value, expected.model.state_dict()[name]) < 1e-6


# ---------------------------------------------------------------- accumulation


@pytest.mark.parametrize(("batch", "batches"), [(8, 3), (5, 5)])
def test_accumulated_batches_equal_the_big_one(
    clips: Path,
    tmp_path: Path,
    full_batches: Any,
    batch: int,
    batches: int,
) -> None:
    """24 clips in one step; the last batch may be smaller: 5, 5, 5, 5 and 4."""
    parts = train(clips, tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=batches)
    assert full_batches.clips_trained == parts.clips_trained == 72
    assert losses(parts) == pytest.approx(losses(full_batches), rel=1e-6)
    norms = [
        [entry["grad_norm"] for entry in run.state.log_history if "loss" in entry]
        for run in (parts, full_batches)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


# ---------------------------------------------------------------- precision


def test_bf16_computes_in_bfloat16(clips: Path, tmp_path: Path, plain: list[float]) -> None:
    """The weights stay in float32."""
    kinds: set[torch.dtype] = set()
    plan = recipe(clips, FIXED, max_steps=3, logging_strategy="steps", logging_steps=1, bf16=True)
    trainer = prepare(plan, tmp_path).trainer
    layer = trainer.model.base_model.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    trainer.train()
    assert kinds == {torch.bfloat16}
    assert losses(trainer) == pytest.approx(plain, rel=1e-2)
    assert losses(trainer) != pytest.approx(plain, rel=1e-7)
    assert {value.dtype for value in trainer.model.state_dict().values()} == {torch.float32}


def test_evaluating_in_bfloat16_saves_float32(clips: Path, tmp_path: Path) -> None:
    finetune(recipe(clips, FIXED, max_steps=1, bf16_full_eval=True), tmp_path)
    saved, trained = (load_file(tmp_path / place / "model.safetensors") for place in ("", "checkpoint-1"))
    assert all(torch.equal(value, trained[name]) for name, value in saved.items())
    assert {value.dtype for value in saved.values()} == {torch.float32}


def test_fp16_on_a_cpu_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307\] training\.fp16.*bf16"):
        prepare(recipe(clips, FIXED, fp16=True), tmp_path)


# ---------------------------------------------------------------- attention, optimizer, compiler


def test_attention_of_a_recipe(clips: Path, tmp_path: Path, baseline: Any) -> None:
    trainer = train(clips, tmp_path, {"model": {"config": TINY, "attn_implementation": "eager"}})
    assert [run.model.config._attn_implementation for run in (baseline, trainer)] == ["sdpa", "eager"]
    assert losses(trainer) == pytest.approx(losses(baseline), rel=1e-5)
    trainer.save_model(str(tmp_path))
    assert "eager" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("name", ["flash_attention_2", "flush_attention"])
def test_unavailable_attention_is_refused(clips: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(AstConfigError, match=rf"E307\] model\.attn_implementation: '{name}'"):
        prepare(recipe(clips, {**FIXED, "model": {"config": TINY, "attn_implementation": name}}), tmp_path)


def test_a_run_uses_fused_adamw_by_default(clips: Path, tmp_path: Path, baseline: Any) -> None:
    other = train(clips, tmp_path, optim="adamw_torch")
    assert [bool(run.optimizer.optimizer.defaults["fused"]) for run in (baseline, other)] == [True, False]
    assert losses(other) == pytest.approx(losses(baseline), rel=1e-5)


@pytest.mark.slow
def test_torch_compile_in_a_recipe(clips: Path, tmp_path: Path, plain: list[float]) -> None:
    """Compiles half a minute of C++ on an idle machine. The plain model is saved."""
    fixed = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1}
    report = finetune(recipe(clips, FIXED, torch_compile=True, **fixed), tmp_path)
    history = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
    assert [entry["loss"] for entry in history if "loss" in entry] == pytest.approx(plain, rel=1e-4)
    saved = ASTForAudioClassification.from_pretrained(tmp_path)
    run = prepare(recipe(clips, FIXED), tmp_path / "again")
    run.trainer.model.load_state_dict(saved.state_dict())
    assert run.trainer.evaluate(run.evaluation["test"])["eval_accuracy"] == report.results["test"]["accuracy"]


def test_compiled_blocks_see_the_patchout_of_each_epoch(clips: Path, tmp_path: Path) -> None:
    """The backend "eager" runs the graphs without C++; accelerate's own copy or wrapper is not made."""
    options = {"patchout": {"time": 3, "ramp_epochs": 2}}
    length = {"max_steps": -1, "num_train_epochs": 3}
    usual = train(clips, tmp_path / "usual", options, **length)
    torch.compiler.reset()
    compiled = train(clips, tmp_path / "compiled", options, torch_compile_backend="eager", **length)
    assert compiled.model_wrapped is compiled.model
    assert losses(compiled) == pytest.approx(losses(usual), rel=1e-5)
    assert compiled.model.base_model.patchout == Patchout(time=3)
    blocks = compiled.model.base_model.encoder.layer
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert usual.model.base_model.encoder.layer[0]._compiled_call_impl is None


# ---------------------------------------------------------------- between processes, and to a GPU


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "patchout": {"patchout": {"time": 2, "unstructured": 2}},
    "factored": {"model": {"config": TINY, "factored_positions": True}},
    "frozen": {"optimization": {"frozen": "backbone"}},
    "dropout": {
        "model": {"config": {**TINY, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}
    },
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_trained_parameter_has_a_gradient_so_that_ddp_need_not_search(
    clips: Path, tmp_path: Path, option: str
) -> None:
    trainer = prepare(recipe(clips, {**FIXED, **OPTIONS[option]}), tmp_path).trainer
    handler = trainer.accelerator.ddp_handler
    assert (handler.find_unused_parameters, handler.gradient_as_bucket_view) == (False, True)
    assert handler.static_graph
    trainer.model.train()
    trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).backward()
    trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert trained
    assert [name for name, value in trained.items() if value.grad is None] == []


def test_a_recipe_may_search_for_unused_parameters(clips: Path, tmp_path: Path) -> None:
    plan = recipe(clips, FIXED, ddp_find_unused_parameters=True)
    assert prepare(plan, tmp_path).trainer.accelerator.ddp_handler.find_unused_parameters


def test_a_graph_is_not_static_with_accumulation_or_if_a_recipe_says_so(clips: Path, tmp_path: Path) -> None:
    plans = (
        recipe(clips, FIXED, gradient_accumulation_steps=2),
        recipe(clips, FIXED, ddp_static_graph=False),
        recipe(clips, FIXED, ddp_find_unused_parameters=True),  # as if they were others in each step
    )
    for number, plan in enumerate(plans):
        trainer = prepare(plan, tmp_path / str(number)).trainer
        assert not trainer.accelerator.ddp_handler.static_graph


@pytest.mark.parametrize("pinned", [False, True])
def test_pinned_batches_are_sent_without_waiting(clips: Path, tmp_path: Path, pinned: bool) -> None:
    trainer = prepare(recipe(clips, FIXED), tmp_path).trainer
    trainer.args.dataloader_pin_memory = pinned  # transformers sets it to False for a run on the CPU
    trainer.create_accelerator_and_postprocess()
    assert trainer.accelerator.non_blocking == trainer.get_train_dataloader()._non_blocking == pinned
