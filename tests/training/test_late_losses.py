"""Losses are read one batch late on a GPU: the error still names step and clips, and nothing broken is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from operators import Operators
from safetensors.torch import load_file

from ast_hf import AstDataError, AstRunError
from ast_hf.inputs.sampling import EpochSampler
from ast_hf.training import prepare
from ast_hf.training.late_losses import BatchLoss, LateLosses

from .runs import VARIED, Stop, checkpoint_digest, poison, recipe


def loss_of(step: int) -> BatchLoss:
    return BatchLoss(step, torch.tensor(float(step), requires_grad=True), None, torch.arange(2), None)


@pytest.mark.parametrize(("is_late", "delay"), [(None, 0), (False, 0), (True, 1)])
def test_a_loss_is_read_after_the_next_one(is_late: bool | None, delay: int) -> None:
    read: list[BatchLoss] = []
    losses = LateLosses(read.append, is_late=is_late)
    for step in range(4):
        losses.add(loss_of(step))
        assert [batch.step for batch in read] == list(range(step + 1 - delay))
    losses.settle()
    assert [batch.step for batch in read] == [0, 1, 2, 3]
    assert not any(batch.loss.requires_grad for batch in read)
    losses.settle()
    assert len(read) == 4


def test_forgotten_losses_are_not_read() -> None:
    losses = LateLosses(lambda batch: pytest.fail("read"), is_late=True)
    losses.add(loss_of(0))
    losses.forget()
    losses.settle()


def late(plan: Any, folder: Path) -> Any:
    """Return a prepared run that reads its losses late, as on a GPU."""
    run = prepare(plan, folder)
    run.trainer._losses.is_late = True
    return run


@pytest.mark.parametrize("step", [4, 5, 6])  # the first, a middle and the last step of the second epoch
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_a_late_loss_of_nan_names_step_and_clips(
    clips: Path, tmp_path: Path, strategy: str, step: int
) -> None:
    plan = recipe(clips, VARIED, save_strategy=strategy, save_steps=1, save_total_limit=None, seed=7)
    run = late(plan, tmp_path)
    poison(run.trainer.model, step, float("nan"))
    sampler = EpochSampler(24, 7)
    sampler.set_epoch(1)
    first = 8 * (step - 4)
    rows = [key % 24 + 1 for key in sampler][first : first + 8]
    with pytest.raises(AstRunError, match=rf"E501.*step {step}:.*nan") as caught:
        run.trainer.train()
    assert str(rows) in str(caught.value)
    steps = sorted(int(folder.name.split("-")[1]) for folder in tmp_path.glob("checkpoint-*"))
    assert steps == ([3] if strategy == "epoch" else list(range(1, step)))
    for folder in tmp_path.glob("checkpoint-*"):
        for file in ("model.safetensors", "average.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load_file(folder / file).values())


def test_late_losses_change_no_result_and_a_run_resumes(clips: Path, tmp_path: Path) -> None:
    plan = recipe(clips, VARIED, save_strategy="steps", save_steps=2, save_total_limit=None)
    usual = prepare(plan, tmp_path / "usual").trainer
    usual.train()
    broken = late(plan, tmp_path / "late")
    broken.trainer.add_callback(Stop(step=4))
    broken.trainer.train()
    resumed = late(plan, tmp_path / "late").trainer
    resumed.train(resume_from_checkpoint=True)
    ends = [checkpoint_digest(tmp_path / name / "checkpoint-6") for name in ("usual", "late")]
    assert ends[0] == ends[1]
    assert resumed.loss_course.to_dict() == usual.loss_course.to_dict()


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_is_checked_before_it_is_sent_to_a_gpu(clips: Path, tmp_path: Path, label: int) -> None:
    run = prepare(recipe(clips), tmp_path)
    items = [run.train[clip] for clip in range(3)]
    assert len(run.trainer.data_collator(items)["labels"]) == 3
    items[1]["labels"] = torch.tensor(label)
    with pytest.raises(AstDataError, match=rf"E208\] labels\[1\]: {label} is outside 0\.\.1"):
        run.trainer.data_collator(items)


@pytest.mark.parametrize("is_late", [False, True])
def test_the_step_reads_no_value_of_its_own_batch(clips: Path, tmp_path: Path, is_late: bool) -> None:
    trainer = prepare(recipe(clips), tmp_path).trainer
    trainer._losses.is_late = is_late
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"] = torch.eye(2)[batch["labels"]]  # indices are checked on a CPU only
    trainer.model.train()
    with Operators() as operators:
        trainer.compute_loss(trainer.model, batch).backward()
    assert (operators.reads == []) == is_late
