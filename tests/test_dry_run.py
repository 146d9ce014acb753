"""`ast-hf finetune --dry-run`: the run's errors and exit codes, a plan that the run keeps, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from conftest import TINY
from training.runs import recipe, sound, write_clips

from ast_hf.cli import main
from ast_hf.errors import AstConfigError, AstHfWarning
from ast_hf.training import finetune, plan_cross_validation, plan_run
from ast_hf.training.checkpoints.folder_lock import FolderLock

QUIET = {"disable_tqdm": True, "use_cpu": True, "report_to": "none"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    write_clips(root)
    return root


@pytest.fixture
def own_clips(clips: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clips, tmp_path / "clips"))


@pytest.fixture
def nothing_written(tmp_path: Path) -> Iterator[Path]:
    """Return an output folder that must not be there, or not be changed, after the test."""
    output = tmp_path / "out" / "run"
    yield output
    assert not output.parent.exists()


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_command(
    source: Path | str, output: Path, *words: str, options: dict[str, Any] | None = None
) -> tuple[int, Path]:
    file = output.parent.parent / "recipe.yaml"
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 8, **QUIET}
    values: dict[str, Any] = {
        "data": {"source": str(source)},
        "model": {"config": TINY},
        "training": training,
    }
    for section, change in (options or {}).items():
        values[section] = {**values[section], **change} if isinstance(values.get(section), dict) else change
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return main(["finetune", str(file), "--output", str(output), "--dry-run", *words]), file


@pytest.mark.long
def test_the_plan_says_what_the_run_does(
    clips: Path, nothing_written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run_command(clips, nothing_written)
    printed = capsys.readouterr().out
    assert code == 0
    assert "Training: 6 steps, 2 epochs; 8 clips a step" in printed
    assert "noise: 12 train, 4 test" in printed
    assert "train: 24 clips" in printed
    assert "nothing was written or trained" in printed
    assert "memory" in printed
    assert "disk" in printed
    assert "would replace" not in printed
    assert "evaluations while training: 0\n" in printed
    assert "curves.png, confusion.png, recipe.yaml" in printed


@pytest.mark.parametrize(
    ("patience", "use", "stopping"),
    [
        ("3", "(evaluated while training)", "3 in a row without improvement end the run"),
        ("null", "(held out, and not evaluated)", "evaluations while training: 0\n"),
    ],
)
def test_the_plan_says_what_the_validation_split_is_for(
    patience: str,
    use: str,
    stopping: str,
    clips: Path,
    nothing_written: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ast_hf.planning.dry_run._estimate", lambda *_: None)
    options = {"data": {"validation_fraction": 0.25}, "stopping": {"patience": yaml.safe_load(patience)}}
    assert run_command(clips, nothing_written, options=options)[0] == 0
    printed = capsys.readouterr().out
    assert use in printed
    assert stopping in printed


@pytest.mark.long
def test_json_is_the_plan(clips: Path, nothing_written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run_command(clips, nothing_written, "--json", options={"precision": "float32"})
    plan = json.loads(capsys.readouterr().out)
    assert code == 0
    assert plan["extent"]["steps"] == 6
    assert plan["precision"] == "float32"
    assert plan["labels"]["tone"] == {"train": 12, "test": 4}
    assert plan["splits"]["test"]["clips"] == 8
    assert plan["estimate"]["seconds"] > 0
    assert plan["learning_rates"][0][0] == 1
    assert plan["learning_rates"][-1][0] == 6


def test_every_unreadable_clip_is_listed_and_the_code_is_that_of_the_run(
    own_clips: Path, nothing_written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [f"train/{kind}/{number}.wav" for kind in ("noise", "tone") for number in range(6)]
    for name in bad:
        (own_clips / name).write_bytes(b"")
    code, _ = run_command(own_clips, nothing_written)
    printed = capsys.readouterr()
    assert code == 65
    for name in bad:
        assert "cannot be used: train row" in printed.out
        assert name in printed.out
    assert printed.out.count("cannot be used") == len(bad)
    assert "12 of 32 clips cannot be used" in printed.err
    assert "unreadable_clips" not in printed.err


@pytest.mark.long
def test_a_clip_that_only_decoding_shows_is_found_with_check_full(
    own_clips: Path, nothing_written: Path
) -> None:
    soundfile.write(own_clips / "test" / "tone" / "0.wav", float("nan") * sound("tone", 0), 16_000, "FLOAT")
    assert run_command(own_clips, nothing_written)[0] == 0
    assert run_command(own_clips, nothing_written, "--check", "full")[0] == 65


def test_misspelt_options_are_found_before_any_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source does not exist: an error about it would mean that it was looked for first."""
    for words in (
        ["--set", "trainig.seed=1"],
        ["--set", "training.learningrate=1"],
        ["--set", "precision=b16"],
        ["--set", "training.metric_for_best_model=acuracy"],
        ["--set", "stopping.best=true", "--set", "stopping.metric=acuracy"],
    ):
        code, _ = run_command("/nowhere/at/all", tmp_path / "out" / "run", *words)
        assert code == 65
        assert "E307" in capsys.readouterr().err
    code, _ = run_command("/nowhere/at/all", tmp_path / "out" / "run")
    assert code == 65
    assert "/nowhere/at/all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("learning_rate=1", "training.learning_rate"),
        ("model.hidden_size=8", "model.config.hidden_size"),
        ("training.epochs=5", "training.num_train_epochs"),
    ],
)
def test_an_option_in_the_wrong_place_is_named_in_full(
    change: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("/nowhere/at/all", tmp_path / "out", "--set", change)[0] == 65
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_an_output_folder_in_use_is_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "run"
    lock = FolderLock(output).acquire()
    try:
        before = contents(output)
        code, _ = run_command(clips, output)
        assert contents(output).keys() == before.keys()
    finally:
        lock.release()
    assert code == 73
    assert "E402" in capsys.readouterr().err


@pytest.mark.long
def test_an_existing_model_is_refused_or_named(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "run"
    output.mkdir(parents=True)
    (output / "model.safetensors").write_bytes(b"weights")
    assert run_command(clips, output)[0] == 65
    assert "E306" in capsys.readouterr().err
    assert run_command(clips, output, "--overwrite")[0] == 0
    assert "would replace: model.safetensors" in capsys.readouterr().out
    assert (output / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in output.iterdir()] == ["model.safetensors"]


def test_a_folder_that_cannot_be_written_is_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    assert run_command(clips, tmp_path / "out" / "run")[0] == 65
    assert "E401" in capsys.readouterr().err


def test_a_full_disk_is_refused(
    clips: Path, nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = type("Usage", (), {"free": 400_000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert run_command(clips, nothing_written)[0] == 65
    assert "E401" in capsys.readouterr().err


def test_a_run_continues_from_where_the_plan_says(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finetune(recipe(clips), folder)
    before = contents(folder)
    plan = plan_run(recipe(clips), folder, resume_from_checkpoint="auto", estimates=False)
    assert contents(folder) == before
    assert plan.continues_from == str(folder / "checkpoint-6")
    assert plan.steps_left == 0
    assert plan.overwrites == []
    with pytest.raises(AstConfigError, match=r"E306.*training.learning_rate was 0.002 and is 0.1"):
        plan_run(recipe(clips, learning_rate=0.1), folder, resume_from_checkpoint="auto", estimates=False)
    named = shutil.copytree(folder / "checkpoint-3", tmp_path / "my-copy")
    plan = plan_run(recipe(clips), folder, resume_from_checkpoint=str(named), estimates=False)
    assert (plan.continues_from, plan.steps_done) == (str(named), 3)
    (folder / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    with pytest.warns(AstHfWarning, match=r"W401.*checkpoint-6.*the run continues from checkpoint-3"):
        plan = plan_run(recipe(clips), folder, resume_from_checkpoint="auto", estimates=False)
    assert plan.steps_done == 3


def test_nothing_to_resume_is_said(clips: Path, nothing_written: Path) -> None:
    with pytest.warns(AstHfWarning, match="W402"):
        plan = plan_run(recipe(clips), nothing_written, resume_from_checkpoint="auto", estimates=False)
    assert plan.continues_from is None
    with pytest.raises(AstConfigError, match="E306"):
        plan_run(recipe(clips), nothing_written, resume_from_checkpoint=True, estimates=False)


@pytest.mark.long
def test_a_push_needs_a_token(
    clips: Path, nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ast_hf.hub.access.is_offline_mode", lambda: False)
    monkeypatch.setattr("ast_hf.hub.access.get_token", lambda: None)
    assert run_command(clips, nothing_written, "--push_to_hub")[0] == 75
    assert "E701" in capsys.readouterr().err
    monkeypatch.setattr("ast_hf.hub.access.get_token", lambda: "hf_token")
    assert run_command(clips, nothing_written, "--push_to_hub", "--hub_model_id", "me/mine")[0] == 0
    assert "would publish me/mine on the Hub" in capsys.readouterr().out


def test_folds_are_planned(clips: Path, nothing_written: Path) -> None:
    changed = recipe(clips, {"data": {"train_split": "train"}})
    plan = plan_cross_validation(changed, nothing_written, folds=3, estimates=False)
    assert list(plan.sizes.values()) == [(8, 16)] * 3
    assert plan.first is not None
    assert plan.first.extent.watched_evaluations == 2
    lines = list(plan.lines())
    assert lines[0].startswith("3 folds: random")
    assert "  fold 1: 8 clips tested, 16 trained on" in lines


def test_held_out_groups_are_listed(tmp_path: Path) -> None:
    rows = ["path,label,speaker"]
    for number in range(24):
        kind = ("noise", "tone")[number % 2]
        soundfile.write(tmp_path / f"{number}.wav", sound(kind, number), 16_000)
        rows.append(f"{number}.wav,{kind},s{number // 4}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    options = {"data": {"validation_fraction": 0.34, "validation_group": "speaker"}}
    plan = plan_run(recipe(table, options), tmp_path / "run", estimates=False)
    groups = {name: split.groups for name, split in plan.splits.items()}
    assert len(groups["validation"]) == 2
    assert sorted(groups["validation"] + groups["train"]) == [f"s{number}" for number in range(6)]
    assert not (tmp_path / "run").exists()


def test_random_crops_use_all_in_the_long_run(own_clips: Path, nothing_written: Path) -> None:
    for path in own_clips.rglob("*.wav"):
        soundfile.write(path, sound("noise", 3).repeat(4), 16_000)
    plan = plan_run(
        recipe(own_clips, {"augmentation": {"random_crop": True}}), nothing_written, estimates=False
    )
    assert "training uses all in the long run" in str(plan.splits["train"])
    assert "in the long run" not in str(plan.splits["test"])
    assert "of 8 of 8 clips are not used" in str(plan.splits["test"])


@pytest.mark.long
def test_estimate_is_of_the_time_of_the_run(clips: Path, tmp_path: Path) -> None:
    """A factor of 4 is allowed here: the run is short, and other tests run beside it."""
    changed = recipe(clips, num_train_epochs=12, save_strategy="no")
    plan = plan_run(changed, tmp_path / "run")
    report = finetune(changed, tmp_path / "run")
    assert plan.estimate is not None
    trained = plan.estimate.parts["training"]
    assert report.seconds / 4 < trained + 0.5
    assert trained < 4 * report.seconds


@pytest.mark.long
def test_a_high_learning_rate_does_not_fail_in_the_dry_run(clips: Path, nothing_written: Path) -> None:
    """Steps are measured without warmup, which the run has."""
    plan = plan_run(recipe(clips, learning_rate=1e9), nothing_written)
    assert plan.estimate is not None


def test_a_stopped_dry_run_is_not_to_be_continued(
    clips: Path, nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ast_hf.planning.speed._repeated", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert run_command(clips, nothing_written, "--json")[0] == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "stopped by SIGINT" in printed.err
    assert "continue with" not in printed.err


def test_clips_that_do_not_fill_a_batch_are_an_error(clips: Path, nothing_written: Path) -> None:
    changed = recipe(clips, dataloader_drop_last=True, per_device_train_batch_size=32)
    with pytest.raises(
        AstConfigError, match=r"E307.*drop_last: .*the 24 training clips are fewer than one of 32"
    ):
        plan_run(changed, nothing_written, estimates=False)


@pytest.mark.long
def test_of_a_stream_the_plan_says_what_is_not_known(clips: Path, nothing_written: Path) -> None:
    options = {"data": {"streaming": True}, "features": {"mean": -5.0, "std": 4.0}}
    plan = plan_run(recipe(clips, options, max_steps=4, save_steps=4), nothing_written)
    assert (plan.extent.steps, plan.extent.epochs, plan.extent.clips) == (4, None, None)
    assert "not known before they are read" in str(plan.splits["train"])
    assert plan.estimate is not None
    assert plan.estimate.parts["training"] > 0
    assert any("passes unknown" in line for line in plan.lines())
    json.dumps(plan.to_dict())
