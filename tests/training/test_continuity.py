"""Resuming with other options is refused unless the checkpoint is given by name. Resuming the same run is accepted,
also after its files moved.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from ast_hf import AstConfigError, AstHfWarning
from ast_hf.training import finetune, prepare
from ast_hf.training.checkpoints.run_options import RUN_FILE, check_options, flatten_options
from training.runs import Stop, recipe


@pytest.fixture
def begun(clips: Path, tmp_path: Path) -> Path:
    """Return the folder of a run that was interrupted after its first epoch."""
    trainer = prepare(recipe(clips), tmp_path / "run").trainer
    trainer.add_callback(Stop(epoch=1))
    trainer.train()
    return tmp_path / "run"


#: changed sections of the recipe, changed `training`, part of the message
CHANGED: dict[str, Any] = {
    "rate": ({}, {"learning_rate": 1e-3}, r"training\.learning_rate was 0\.002 and is 0\.001"),
    "default": ({}, {"weight_decay": 0.1}, r"training\.weight_decay was 0\.0 and is 0\.1"),
    "augmentation": ({"augmentation": {"noise": 0.1}}, {}, r"augmentation\.noise was 0\.0 and is 0\.1"),
    "clips": ({"data": {"validation_fraction": 0.25}}, {}, r"training clips was 24 and is 18"),
    "many": (
        {"patchout": {"time": 1}, "sampling": "balanced"},
        {"seed": 7, "max_grad_norm": 0.5, "adam_beta2": 0.99},
        r"patchout\.time was 0 and is 1; .*; and 2 more",
    ),
}


@pytest.mark.parametrize(("options", "training", "message"), CHANGED.values(), ids=CHANGED)
def test_resuming_with_other_options_is_refused(
    begun: Path, clips: Path, options: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    trainer = prepare(recipe(clips, options, **training), begun).trainer
    with pytest.raises(
        AstConfigError, match=rf"E306.*checkpoint-3.*{message}.*accept these with --resume .*/run/chec"
    ):
        trainer.train(resume_from_checkpoint="auto")


def test_a_named_checkpoint_resumes_with_other_options(begun: Path, clips: Path, tmp_path: Path) -> None:
    """The card lists the changes, also after another resume."""
    plan = recipe(clips, learning_rate=1e-3)
    trainer = prepare(plan, begun).trainer
    trainer.add_callback(Stop(epoch=2))
    with pytest.warns(
        AstHfWarning, match=r"W406.*checkpoint-3.*learning_rate was 0\.002.*differs from an unbroken run"
    ):
        trainer.train(resume_from_checkpoint=str(begun / "checkpoint-3"))
    report = finetune(plan, begun, resume_from_checkpoint="auto")
    assert report.changes == ["from checkpoint-3 on: training.learning_rate was 0.002 and is 0.001"]
    text = ModelCard.load(begun / "README.md").text
    assert (
        r"resumed with other options than before: from checkpoint-3 on: training.learning\_rate was 0.002"
        in text
    )


def test_resuming_with_other_label_names_is_refused(begun: Path, clips: Path, tmp_path: Path) -> None:
    """Refused even if the checkpoint is given by name: the old outputs would get the new names."""
    shutil.copytree(clips, tmp_path / "other")
    for split in ("train", "test"):
        (tmp_path / "other" / split / "noise").rename(tmp_path / "other" / split / "zzz")
    trainer = prepare(recipe(tmp_path / "other"), begun).trainer
    with pytest.raises(
        AstConfigError, match=r"E306.*label names was \['noise', 'tone'\] and is \['tone', 'zzz'\]"
    ):
        trainer.train(resume_from_checkpoint=str(begun / "checkpoint-3"))


def test_resuming_with_relabelled_clips_is_refused(begun: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "other")
    train = tmp_path / "other" / "train"
    (train / "noise" / "0.wav").rename(train / "tone" / "99.wav")
    trainer = prepare(recipe(tmp_path / "other"), begun).trainer
    with pytest.raises(AstConfigError, match=r"E306.*their labels was '[0-9a-f]{16}'"):
        trainer.train(resume_from_checkpoint=True)


def test_the_same_run_resumes_in_another_place(begun: Path, clips: Path, tmp_path: Path) -> None:
    """Options that do not affect the weights may differ: names, paths of clips, logging, threads."""
    shutil.copytree(clips, tmp_path / "moved")
    options = {"name": "renamed", "threads": 1, "card": {"license": "mit"}, "data": {"cache": False}}
    trainer = prepare(
        recipe(tmp_path / "moved", options, logging_steps=1, logging_strategy="steps"), begun
    ).trainer
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        trainer.train(resume_from_checkpoint="auto")
    assert (trainer.state.global_step, trainer.changes) == (6, [])


def test_checkpoint_stores_no_local_paths(begun: Path, clips: Path) -> None:
    text = (begun / "checkpoint-3" / RUN_FILE).read_text(encoding="utf-8")
    assert str(clips.parent) not in text
    options = json.loads(text)["decided"]
    assert (options["training.seed"], options["training clips"], options["model.config.hidden_size"]) == (
        42,
        24,
        24,
    )


def test_options_missing_from_an_old_checkpoint_count_as_defaults(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text('{"decided": {"training.seed": 1}, "changes": []}')
    assert check_options(tmp_path, {"training.seed": 1, "augmentation.noise": 0.0}, is_explicit=False) == []
    with pytest.raises(AstConfigError, match=r"augmentation\.noise was 0\.0 and is 0\.1"):
        check_options(tmp_path, {"training.seed": 1, "augmentation.noise": 0.1}, is_explicit=False)


def test_a_checkpoint_without_recorded_options_is_accepted(tmp_path: Path) -> None:
    assert check_options(tmp_path, {"a": 1}, is_explicit=False) == []


def test_flat_names() -> None:
    assert flatten_options({"a": {"b": {"c": 1}, "d": {}}, "e": [2]}) == {"a.b.c": 1, "a.d": {}, "e": [2]}
