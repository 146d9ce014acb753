"""A run that goes on with other options says so; one that goes on as it was does not, wherever its files lie now."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_trainer import Stop, clips, recipe  # noqa: F401 (a fixture)

from ast_hf import AstHfWarning
from ast_hf.training import prepare
from ast_hf.training.continuity import RUN_FILE, flat, tell_changes


@pytest.fixture
def begun(clips: Path, tmp_path: Path) -> Path:  # noqa: F811
    """The folder of a run that was interrupted after its first epoch."""
    trainer = prepare(recipe(clips), tmp_path / "run").trainer
    trainer.add_callback(Stop(epoch=1))
    trainer.train()
    return tmp_path / "run"


#: what changes in the recipe, what in its `training` -> what the warning says
CHANGED: dict[str, Any] = {
    "rate": ({}, {"learning_rate": 1e-3}, r"training\.learning_rate 0\.002 \(now 0\.001\); the run goes on"),
    "default": ({}, {"weight_decay": 0.1}, r"training\.weight_decay 0\.0 \(now 0\.1\)"),
    "augmentation": ({"augmentation": {"noise": 0.1}}, {}, r"augmentation\.noise 0\.0 \(now 0\.1\)"),
    "clips": ({"data": {"validation_fraction": 0.25}}, {}, r"training clips 24 \(now 18\)"),
    "many": (
        {"patchout": {"time": 1}, "sampling": "balanced", "averaging_decay": None},
        {"seed": 7, "max_grad_norm": 0.5, "adam_beta2": 0.99},
        r"patchout\.time 0 \(now 1\).* and 2 more; the run",
    ),
}


@pytest.mark.parametrize(("options", "training", "said"), CHANGED.values(), ids=CHANGED)
def test_other_options_are_told(begun: Path, clips: Path, options, training, said) -> None:  # noqa: F811
    trainer = prepare(recipe(clips, options, **training), begun).trainer
    with pytest.warns(AstHfWarning, match=rf"W406.*checkpoint-3.*{said}"):
        trainer.train(resume_from_checkpoint="auto")


def test_the_same_run_elsewhere_is_not_told(begun: Path, clips: Path, tmp_path: Path) -> None:  # noqa: F811
    """Nor what decides no weight: names, where clips lie, how often it logs, threads."""
    shutil.copytree(clips, tmp_path / "moved")
    options = {"name": "renamed", "threads": 1, "card": {"license": "mit"}, "data": {"cache": False}}
    trainer = prepare(recipe(tmp_path / "moved", options, logging_steps=1, logging_strategy="steps"), begun).trainer
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        trainer.train(resume_from_checkpoint="auto")
    assert trainer.state.global_step == 6


def test_checkpoint_names_no_place(begun: Path, clips: Path) -> None:  # noqa: F811
    text = (begun / "checkpoint-3" / RUN_FILE).read_text(encoding="utf-8")
    assert str(clips.parent) not in text
    told = json.loads(text)
    assert (told["training.seed"], told["training clips"], told["model.config.hidden_size"]) == (42, 24, 24)


def test_checkpoint_that_does_not_tell_is_not_asked(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_changes(tmp_path, {"a": 1})


def test_flat_names() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": {}}, "e": [2]}) == {"a.b.c": 1, "a.d": {}, "e": [2]}
