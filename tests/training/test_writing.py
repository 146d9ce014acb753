"""Writing that fails: explained by its cause, foreseen before the work, and survived by a run at its end."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch

from ast_hf import AstHfError, AstRunError, cli, files, writing_failures
from ast_hf.continuing import continuation
from ast_hf.errors import DETAILS
from ast_hf.training import Report, finetune, output_files, prepare
from ast_hf.training.checkpoints.resuming import resume_folder
from ast_hf.training.checkpoints.sealing import REFUGE, checkpoints, find_corruption
from ast_hf.training.disk_space import checkpoint_bytes, run_bytes, weight_bytes
from training.runs import Stop, recipe


class Usage(NamedTuple):
    """Result of shutil.disk_usage."""

    total: int
    used: int
    free: int


#: errno -> (detail, part of the fix)
CAUSES = {
    errno.ENOSPC: ("full", "make room on that disk"),
    errno.EDQUOT: ("full", "quota"),
    errno.EFBIG: ("full", "ulimit -f"),
    errno.EROFS: ("read_only", "make that disk writable"),
    errno.EACCES: ("permission", "permissions"),
    errno.ENOENT: ("missing", "name a folder that exists"),
    errno.ENOTDIR: ("in_the_way", "remove or rename"),
    errno.ENAMETOOLONG: ("name", "shorter"),
    errno.EMFILE: ("open_files", "ulimit -n"),
    errno.EIO: ("device", "check that disk"),
    errno.ESTALE: ("device", "check that disk"),
}


def broken_disk(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize("number", CAUSES, ids=[errno.errorcode[number] for number in CAUSES])
def test_cause_and_fix_follow_from_the_errno(number: int, tmp_path: Path) -> None:
    detail, fix = CAUSES[number]
    problem = writing_failures.cannot_write(tmp_path / "results.json", broken_disk(number), needed=2_500_000)
    assert (problem.code, problem.detail) == ("E401", detail)
    assert fix in problem.fix
    name = rf"{tmp_path.name}(/results.json)?"
    pattern = rf"{name}': cannot be written \({os.strerror(number)}; needs 2.5 MB; \S+ MB are free\)"
    assert re.search(pattern, str(problem))


def test_every_detail_has_a_cause() -> None:
    assert {detail for detail, _ in CAUSES.values()} == DETAILS["E401"].keys()


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        (safetensors.SafetensorError("I/O error: No space left on device (os error 28)"), "full"),
        (safetensors.SafetensorError("I/O error: Read-only file system (os error 30) at path"), "read_only"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "full"),
        (RuntimeError("[enforce fail at inline_container.cc:747] . open file failed with strerror: "
                      "Read-only file system"), "read_only"),
    ],
)  # fmt: skip
def test_writers_of_other_libraries_are_recognised(problem: Exception, detail: str, tmp_path: Path) -> None:
    with pytest.raises(AstRunError, match="E401") as caught, writing_failures.explained(tmp_path / "x"):
        raise problem
    assert caught.value.detail == detail
    assert "inline_container" not in str(caught.value)


@pytest.mark.parametrize(
    "problem", [ValueError("No space"), RuntimeError("CUDA out of memory"), KeyError("a")]
)
def test_other_exceptions_pass(problem: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(problem)), writing_failures.explained(tmp_path):
        raise problem


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["finetune", "my recipe.yaml", "--output", "o"], "'my recipe.yaml' --output o --resume auto"),
        (["finetune", "r", "--resume", "auto", "--output", "o"], "finetune r --output o --resume auto"),
        (["finetune", "r", "--output", "o", "--resume"], "finetune r --output o --resume auto"),
        (["finetune", "r", "--resume", "--output", "o"], "finetune r --output o --resume auto"),
        (["finetune", "r", "--resume_from_checkpoint=o/checkpoint-2"], "finetune r --resume auto"),
    ],
)
def test_command_that_continues(words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ast-hf", *words])
    text = continuation()
    assert re.match(r"run `(\S*/)?ast-hf finetune ", text)
    assert text.endswith(f"{expected}`")
    monkeypatch.setenv("WORLD_SIZE", "2")  # the launcher is not in the words
    assert continuation() == f"{text} by the same launcher"


def test_other_programs_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["examples/finetune.py", "r.yaml"])
    assert continuation("/tmp/a b/checkpoint-3") == "continue with --resume '/tmp/a b/checkpoint-3'"


def test_errors_of_a_worker_are_read_from_the_end_of_its_traceback() -> None:
    inner = "[AST-E202] clip: is cut off. Fix: copy it again."
    outer = "[AST-E202] row 5, 'a.wav': is cut off: 0.1 s could be decoded. Fix: copy it again."
    text = (
        f"Caught AstDataError in DataLoader worker process 0.\nOriginal Traceback:\nast_hf.errors.AstDataError: "
        f"{inner}\n\nThe above exception was the direct cause\n\nast_hf.errors.AstDataError: {outer}\n"
    )
    problem = AstHfError(text)
    assert str(problem) == outer
    assert problem.where == "row 5, 'a.wav'"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_file_is_whole_or_as_before(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    file.write_text("old")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise broken_disk(errno.ENOSPC)

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif broken == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(AstRunError, match=r"E401.*results.json"):
        files.write_text(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert file.read_text() == "old"


def test_a_folder_is_moved_after_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "average"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    (folder / "notes.txt").write_text("mine")
    calls: list[int] = []

    def fail_second(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise broken_disk(errno.EIO)

    def write() -> None:
        with files.staged_folder(folder) as staged:
            (staged / "adapter").mkdir()
            (staged / "adapter" / "a.json").write_text("new")
            (staged / "config.json").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_second)
        with pytest.raises(AstRunError, match="E401"):
            write()
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "config.json": "old",
        "notes.txt": "mine",
    }
    write()
    assert (folder / "config.json").read_text() == (folder / "adapter" / "a.json").read_text() == "new"
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["average"]


# ---------------------------------------------------------------- before the work


def test_a_folder_that_can_be_made_is_tested_and_removed(tmp_path: Path) -> None:
    writing_failures.check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/result", "file", "/proc/nowhere/x", "x" * 300, "link/x"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(AstRunError, match=r"E401.*cannot be written"):
        writing_failures.check_folder(place)
    assert (tmp_path / "file").read_text() == "content"


def test_commands_check_their_output_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "x")
    commands = [
        ["stats", "nowhere", "--json", f"{place}.json"],
        ["stats", "nowhere", "--json", str(tmp_path)],
        ["stats", "nowhere", "--json", str(tmp_path / "no folder" / "x.json")],
        ["evaluate", "nowhere", "data", "--output", place],
        [
            "evaluate",
            "nowhere",
            "data",
            "--output",
            str(tmp_path / "o"),
            "--save-logits",
            f"{place}.safetensors",
        ],
        ["convert", "nowhere.pth", place],
        ["merge", "nowhere", place],
    ]
    for command in commands:
        assert cli.main(command) == 65, command
        assert "[AST-E401]" in capsys.readouterr().err, command


def test_a_run_checks_its_folder_before_its_data(tmp_path: Path) -> None:
    (tmp_path / ".partial").write_text("")
    for output in (tmp_path, "/proc/nowhere"):
        with pytest.raises(AstRunError, match=r"E401.*(cannot be written|is a file)"):
            finetune(recipe(tmp_path / "no clips"), output)


# ---------------------------------------------------------------- room


def test_bytes_of_a_run() -> None:
    plan = {"checkpoint": 300_000, "weights": 100_000}
    reports = run_bytes(**plan, saves=0, limit=2, existing=0) - 100_000
    assert 0 < reports < 1_000_000
    assert run_bytes(**plan, saves=1, limit=2, existing=0) - reports == 400_000
    assert run_bytes(**plan, saves=5, limit=2, existing=0) - reports == 900_000  # two stay, one is written
    assert run_bytes(**plan, saves=5, limit=2, existing=2) - reports == 300_000  # replaced one by one
    assert run_bytes(**plan, saves=5, limit=None, existing=7) - reports == 1_600_000


def test_bytes_of_a_checkpoint_are_those_written(trained: Report, clips: Path, tmp_path: Path) -> None:
    trainer = prepare(recipe(clips, num_train_epochs=1), tmp_path).trainer
    trainer.train()
    (folder,) = checkpoints(tmp_path)
    written = sum(path.stat().st_size for path in folder.iterdir())
    assert weight_bytes(trainer.model) == pytest.approx(
        (folder / "model.safetensors").stat().st_size, rel=0.1
    )
    assert checkpoint_bytes(trainer.model, trainer.args, copies=1) == pytest.approx(written, rel=0.25)


@pytest.mark.parametrize("free", [50_000, 300_000])
def test_too_little_room_is_refused_before_the_first_step(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**6, 0, free))
    steps = []
    monkeypatch.setattr(Stop, "on_step_end", lambda *args, **kwargs: steps.append(1))

    def start() -> None:
        run = prepare(recipe(clips), tmp_path / "o")
        run.trainer.add_callback(Stop())
        run.trainer.train()

    with pytest.raises(AstRunError, match=r"E401.*has too little room.*needs about .* are free") as caught:
        start()
    assert caught.value.detail == "full"
    assert steps == []


# ---------------------------------------------------------------- the end of a run


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def full(*args: Any, **kwargs: Any) -> None:
    raise broken_disk(errno.ENOSPC)


@pytest.mark.parametrize("broken", ["picture", "evaluation", "weights"])
def test_a_run_that_fails_at_its_end_ends_there_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    options = {"averaging_decay": 0.9}
    plan = recipe(clips, options, save_strategy="no", max_steps=4)  # within the second epoch
    finetune(plan, tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        if broken == "picture":
            patched.setattr("ast_hf.reports.pictures.write_bytes", full)
        elif broken == "weights":
            patched.setattr(output_files, "move_whole", full)
        else:
            patched.setattr("ast_hf.inputs.clips.decode_clip", bad_test_clip)
        with pytest.raises(AstHfError) as caught:
            finetune(plan, run)
    problem = caught.value
    assert problem.code == ("E202" if broken == "evaluation" else "E401")
    assert "the training is complete and kept in checkpoint-4" in problem.what
    assert "--resume auto: it does not train again" in problem.fix
    assert [path.name for path in checkpoints(run)] == ["checkpoint-4"]
    assert not (run / "results.json").exists()

    report = finetune(plan, run, resume_from_checkpoint="auto")
    assert digest(run) == digest(tmp_path / "whole")
    assert checkpoints(run) == []
    assert not (run / ".partial").exists()
    assert {**report.to_dict(), **_measured(whole)} == whole


def _measured(results: dict[str, Any]) -> dict[str, Any]:
    """Return the values that differ between two runs of one recipe."""
    return {name: results[name] for name in ("seconds", "clips_per_second", "emissions")}


def bad_test_clip(clip: int, row: Any, *args: Any) -> Any:
    from ast_hf.errors import error
    from ast_hf.inputs.processing import decode_clip

    if "/test/" in row["audio"]["path"]:
        raise error("E202", where=f"row {clip + 1}", what="is cut off", fix="copy the file again")
    return decode_clip(clip, row, *args)


@pytest.mark.long
@pytest.mark.parametrize("room", ["for the model", "for nothing"])
def test_a_checkpoint_without_room_is_written_elsewhere(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    plan = recipe(clips, save_strategy="no")
    finetune(plan, tmp_path / "whole")
    run, refuge = tmp_path / "run", tmp_path / "refuge"
    refuge.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(refuge))
    real = torch.save

    def save(content: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).startswith(str(run / ".partial" / "checkpoint-6")):
            full()
        real(content, path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", save)
        if room == "for the model":
            finetune(plan, run)
        else:
            patched.setattr(output_files, "move_whole", full)
            with pytest.raises(AstRunError, match=r"E401.*complete and kept in checkpoint-6") as caught:
                finetune(plan, run)
            assert caught.value.detail == "full"
            assert (run / "checkpoint-6").resolve().is_relative_to(refuge)
    if room == "for nothing":
        finetune(plan, run, resume_from_checkpoint="auto")
    assert digest(run) == digest(tmp_path / "whole")
    assert checkpoints(run) == []
    assert list(refuge.iterdir()) == []


@pytest.mark.long
def test_a_checkpoint_while_training_without_room_ends_the_run(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(clips, save_strategy="epoch")
    finetune(plan, tmp_path / "whole")
    (tmp_path / "refuge").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "refuge"))
    run = tmp_path / "run"
    real = torch.save

    def save(content: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).startswith(str(run)):
            full()
        real(content, path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", save)
        with pytest.raises(AstRunError, match=r"E401.*no older checkpoint; this one was saved as .*refuge"):
            finetune(plan, run)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3"]
    finetune(plan, run, resume_from_checkpoint="auto")
    assert digest(run) == digest(tmp_path / "whole")


def test_an_earlier_result_stays_until_the_new_one_is_complete(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finetune(recipe(clips, save_strategy="no"), tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").write_text("a shard of another model")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name[0] != "."}
    plan = recipe(clips, save_strategy="no", learning_rate=1e-3)
    with monkeypatch.context() as patched:
        patched.setattr("ast_hf.modeling_ast.apply_default_mode", full)
        with pytest.raises(AstRunError, match="E401"):
            finetune(plan, tmp_path, overwrite=True)
    after = {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*") if path.is_file()}
    assert after == before
    assert not (tmp_path / ".run.lock").exists()
    finetune(plan, tmp_path, overwrite=True, resume_from_checkpoint="auto")
    assert not (tmp_path / "model-00001-of-00002.safetensors").exists()
    assert (tmp_path / "model.safetensors").read_bytes() != before["model.safetensors"]


def moved_elsewhere(checkpoint: Path, folder: Path) -> Path:
    """Move a checkpoint into a new folder, and leave a link, as a run without room does; return the link."""
    folder.mkdir()
    checkpoint.rename(folder / checkpoint.name)
    checkpoint.symlink_to(folder / checkpoint.name)
    return checkpoint


def test_a_checkpoint_that_was_written_elsewhere_comes_home(clips: Path, tmp_path: Path) -> None:
    """The temporary folder is removed with the link, so the checkpoint would be lost with the finished run."""
    root = tmp_path / "out"
    plan = recipe(clips, max_steps=2, save_strategy="steps", save_steps=1)
    prepare(plan, root).trainer.train()
    link = moved_elsewhere(root / "checkpoint-2", tmp_path / f"{REFUGE}x")
    assert resume_folder("auto", root) == str(link)
    assert not link.is_symlink()
    assert find_corruption(link) is None
    assert not (tmp_path / f"{REFUGE}x").exists()
    assert checkpoints(root) == [root / "checkpoint-1", link]


def test_a_checkpoint_stays_elsewhere_without_room(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "out"
    prepare(recipe(clips, max_steps=1, save_strategy="steps", save_steps=1), root).trainer.train()
    link = moved_elsewhere(root / "checkpoint-1", tmp_path / f"{REFUGE}x")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    assert resume_folder("auto", root) == str(link)
    assert link.resolve() == tmp_path / f"{REFUGE}x" / link.name
