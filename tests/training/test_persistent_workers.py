"""Workers that stay between epochs change no random draw, also when a run is resumed, and serve training only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

from ast_hf import AstConfigError
from ast_hf.inputs.sampling import EpochSampler, LengthGroupedSampler
from ast_hf.training import Recipe, prepare
from ast_hf.training.trainer import ASTTrainer
from training.runs import Stop, checkpoint_digest, recipe


def trainer_of(clips: Path, folder: Path, *, stays: bool = True, **training: Any) -> ASTTrainer:
    options = {"model": {"config": {**TINY, "hidden_dropout_prob": 0.1}}, "augmentation": {"noise": 0.1}}
    training |= {"dataloader_num_workers": 1, "dataloader_persistent_workers": stays}
    return prepare(recipe(clips, options, **training), folder, watch="test").trainer


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 4], ids=["between epochs", "within an epoch"])
def test_weights_are_those_of_new_workers_and_of_an_unbroken_run(
    clips: Path, tmp_path: Path, step: int
) -> None:
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 3}
    plain = trainer_of(clips, tmp_path / "plain", stays=False, **saves)
    plain.train()
    stopped = trainer_of(clips, tmp_path / "run", **saves)
    stopped.add_callback(Stop(step=step))
    stopped.train()
    resumed = trainer_of(clips, tmp_path / "run", **saves)
    resumed.train(resume_from_checkpoint="auto")
    runs = (tmp_path / name / "checkpoint-9" for name in ("plain", "run"))
    assert len({str(checkpoint_digest(run)) for run in runs}) == 1
    values = [
        [entry["test_loss"] for entry in trainer.state.log_history if "test_loss" in entry]
        for trainer in (plain, resumed)
    ]
    assert values[0] == values[1] != []


def test_a_sampler_draws_what_a_loader_draws_for_new_workers() -> None:
    for sampler in (EpochSampler(6, 0), LengthGroupedSampler([3, 1, 2, 3, 1, 2], 2, 0)):
        before = list(sampler)
        sampler.draws_as_loader = True
        torch.manual_seed(1)
        assert list(sampler) == before
        following = torch.rand(1)
        torch.manual_seed(1)
        iter(torch.utils.data.DataLoader(before))
        assert torch.equal(torch.rand(1), following)


def test_loaders_of_evaluation_are_not_shared_between_splits(clips: Path, tmp_path: Path) -> None:
    trainer = trainer_of(clips, tmp_path)
    assert trainer.get_train_dataloader().persistent_workers
    for inputs in (trainer.train_dataset, trainer.watched):
        loader = trainer.get_eval_dataloader(inputs)
        assert loader.dataset is inputs
        assert not loader.persistent_workers


@pytest.mark.parametrize(("data", "count"), [({}, 0), ({"streaming": True}, 2)])
def test_workers_that_are_not_there_or_of_a_stream_are_refused(data: dict[str, Any], count: int) -> None:
    training = {"dataloader_persistent_workers": True, "dataloader_num_workers": count, "max_steps": 3}
    values = {
        "data": {"source": "clips", **data},
        "features": {"mean": 0.0, "std": 1.0},
        "training": training,
    }
    with pytest.raises(AstConfigError, match=r"E307.*training\.dataloader_persistent_workers"):
        Recipe.from_dict(values)
