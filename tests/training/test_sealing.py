"""Atomic checkpoints: killed at every write of a save, damaged, with a full disk, and resumed bit for bit each time."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch
from conftest import ROOT, run_fresh
from transformers import TrainerCallback

from ast_hf import AstConfigError, AstHfError, AstHfWarning, AstRunError
from ast_hf.training import finetune, prepare
from ast_hf.training.checkpoints.folder_lock import LOCK_FILE
from ast_hf.training.checkpoints.resuming import resume_folder
from ast_hf.training.checkpoints.sealing import (
    MANIFEST,
    checkpoints,
    find_corruption,
    newest_sealed,
    rotate,
    seal,
    staged_save,
)
from ast_hf.training.prepared_file import PREPARED_FILE
from training.runs import VARIED, checkpoint_digest, recipe, sound

#: six steps, saved at 2, 4 and 6
PLAN: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "logging_strategy": "no"}


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones. Read only."""
    root = tmp_path_factory.mktemp("few")
    for kind in ("noise", "tone"):
        (root / kind).mkdir()
        for number in range(12):
            soundfile.write(root / kind / f"{number}.wav", sound(kind, number), 16_000)
    return root


#: the model of the best checkpoint is loaded at the end
BEST = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
}


def plan(source: Path, **training: Any) -> Any:
    return recipe(source, {**VARIED, "features": {"mean": -5.0, "std": 4.0}}, **{**PLAN, **training})


@pytest.fixture(scope="session")
def unbroken(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run with all its checkpoints. Read only."""
    root = tmp_path_factory.mktemp("unbroken")
    prepare(plan(few, save_total_limit=None), root).trainer.train()
    return root


def names(root: Path) -> list[str]:
    """Return what a folder holds besides hidden files: the lock of a run, and what it found out before training."""
    return sorted(path.name for path in root.iterdir() if path.name not in (PREPARED_FILE, LOCK_FILE))


# ---------------------------------------------------------------- kill -9 at every write of a save


class Watch:
    """Counter of the file operations of a save; kills the process at one of them."""

    EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")

    def __init__(self, trainer: Any, step: int, at: int | None) -> None:
        self.trainer, self.step, self.at = trainer, step, at
        self.seen: list[str] = []
        sys.addaudithook(self.audit)
        os.fsync = self.around("fsync", os.fsync, lambda handle: Path(f"/proc/self/fd/{handle}").readlink())
        torch.save = self.around("torch.save", torch.save, lambda content, path: path, halves=True)
        write = safetensors.torch.serialize_file
        safetensors.torch.serialize_file = self.around(
            "weights", write, lambda tensors, path: path, halves=True
        )

    def audit(self, event: str, arguments: tuple) -> None:
        writes = event != "open" or (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_CREAT)
        )
        if event in self.EVENTS and writes and isinstance(arguments[0], (str, Path)):
            self.tick(event, arguments[0])

    def tick(self, what: str, path: Any) -> None:
        if self.trainer.state.global_step == self.step and str(path).startswith(self.trainer.args.output_dir):
            self.seen.append(f"{what} {Path(path).relative_to(self.trainer.args.output_dir)}")
            if len(self.seen) == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, what: str, real: Callable, place: Callable, *, halves: bool = False) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            path = place(*args[:2])
            self.tick(f"before {what}", path)
            result = real(*args, **kwargs)
            if halves:
                content = Path(path).read_bytes()
                os.truncate(path, len(content) // 2)
                self.tick(f"half {what}", path)
                os.truncate(path, 0)
                with Path(path).open("rb+") as file:
                    file.write(content)
            return result

        return call


class Begin(TrainerCallback):
    """Callback that records the step that a run resumes from."""

    step = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step


def forked(task: Callable[[], None]) -> int:
    """Run a task in a fork; return the signal that ended it, or minus its exit code."""
    if child := os.fork():
        return (lambda status: os.WTERMSIG(status) or -os.WEXITSTATUS(status))(os.waitpid(child, 0)[1])
    code = 1
    try:
        task()
        code = 0
    finally:
        os._exit(code)


def watched(trainer: Any, folder: Path, at: int | None, report: Path) -> None:
    trainer.args.output_dir = str(folder)
    watch = Watch(trainer, 4, at)
    trainer.train()
    report.write_text(json.dumps(watch.seen))


def resumed(trainer: Any, folder: Path, report: Path) -> None:
    trainer.args.output_dir = str(folder)
    begin = Begin()
    trainer.add_callback(begin)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train(resume_from_checkpoint="auto")
    messages = [str(entry.message) for entry in caught if "[AST-" in str(entry.message)]
    state = checkpoint_digest(folder / "checkpoint-6")
    report.write_text(
        json.dumps({"from": begin.step, "messages": messages, "digest": state, "left": names(folder)})
    )


def limited(trainer: Any, folder: Path, size: int, report: Path) -> None:
    """Train with a limit of `size` bytes per file from step 3 on, which fails like a full disk."""

    class Limit(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    trainer.args.output_dir = str(folder)
    trainer.add_callback(Limit())
    try:
        trainer.train()
    except AstHfError as problem:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        report.write_text(str(problem))


def kill_everywhere(source: str, root: str, some: list[str] | None) -> None:
    """Prepare once, then kill one fork at each point of the second save, and resume it."""
    folder = Path(root)
    trainer = prepare(plan(Path(source), save_total_limit=1), folder / "unused").trainer
    for clip in range(len(trainer.train_dataset)):
        trainer.train_dataset.waveform(clip)  # into its cache
    gc.freeze()
    report = folder / "report.json"
    assert forked(lambda: watched(trainer, folder / "whole", None, report)) == 0
    points = json.loads(report.read_text())
    outcome = {"whole": checkpoint_digest(folder / "whole" / "checkpoint-6"), "all": points, "points": []}
    for number, name in enumerate(points, start=1):
        if some is not None and name not in some:
            continue
        run = folder / f"killed-{number}"
        ended = forked(partial(watched, trainer, run, number, folder / "unused.json"))
        left = {path.name: find_corruption(path) for path in checkpoints(run)}
        again = forked(partial(resumed, trainer, run, report))
        outcome["points"].append([name, ended, left, again, json.loads(report.read_text())])
    for size in (50_000, 150_000):
        run = folder / f"limited-{size}"
        ended = forked(partial(limited, trainer, run, size, report))
        outcome[f"limited to {size}"] = [ended, report.read_text(), names(run), newest_sealed(run)[0].name]
    (folder / "outcome.json").write_text(json.dumps(outcome))


def kill(few: Path, root: Path, some: list[str] | None) -> dict[str, Any]:
    """Run `kill_everywhere` in a fresh process and return its outcome."""
    code = f"from training import test_sealing; test_sealing.kill_everywhere({str(few)!r}, {str(root)!r}, {some!r})"
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TMPDIR": str(root)}
    run_fresh(code, env=environment, timeout=900)
    return json.loads((root / "outcome.json").read_text())


#: point of the save of step 4 -> the step that a run killed there resumes from.
POINTS = {
    "os.mkdir .partial/checkpoint-4": 2,
    "half weights .partial/checkpoint-4/model.safetensors": 2,
    "open .partial/checkpoint-4/training_args.json": 2,
    "half torch.save .partial/checkpoint-4/optimizer.pt": 2,
    "before torch.save .partial/checkpoint-4/scheduler.pt": 2,
    "half torch.save .partial/checkpoint-4/rng_state.pth": 2,
    "open .partial/checkpoint-4/trainer_state.json": 2,
    "half weights .partial/checkpoint-4/average.safetensors": 2,
    "before fsync .partial/checkpoint-4/optimizer.pt": 2,
    "open .partial/checkpoint-4/manifest.json": 2,
    "os.rename .partial/checkpoint-4": 4,  # sealed, and renamed by the resume
    "before fsync .": 4,
    "os.rename checkpoint-2": 4,
    "os.rmdir .partial": 4,
}


@pytest.fixture(scope="session")
def killed(few: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the outcome of a sweep over POINTS."""
    return kill(few, tmp_path_factory.mktemp("killed"), list(POINTS))


def check_killed(outcome: dict[str, Any]) -> None:
    for point, ended, left, again, after in outcome["points"]:
        assert ended == signal.SIGKILL, point
        assert left, point
        # a checkpoint under its final name is complete at any time
        assert set(left.values()) == {None}, (point, left)
        assert (again, after["from"] in (2, 4)) == (0, True), point
        assert [re.findall(r"AST-\w+", line) for line in after["messages"]] == [["AST-W410"]], point
        assert after["digest"] == outcome["whole"], point
        assert after["left"] == ["checkpoint-6"], point


@pytest.mark.long
def test_a_save_killed_at_any_point_is_resumed_to_the_bit(killed: dict[str, Any]) -> None:
    check_killed(killed)
    assert {point: after["from"] for point, *_, after in killed["points"]} == POINTS


@pytest.mark.slow
def test_a_save_killed_at_every_point_is_resumed_to_the_bit(few: Path, tmp_path: Path) -> None:
    outcome = kill(few, tmp_path, None)
    assert [point for point, *_ in outcome["points"]] == outcome["all"]
    assert len(outcome["all"]) > 40
    check_killed(outcome)


@pytest.mark.parametrize("size", [50_000, 150_000], ids=["weights", "optimizer"])
def test_a_file_size_limit_leaves_the_older_checkpoint(killed: dict[str, Any], size: int) -> None:
    ended, message, left, newest = killed[f"limited to {size}"]
    assert (ended, left, newest) == (0, ["checkpoint-2"], "checkpoint-2")
    pattern = r"AST-E401.*checkpoint-4.*cannot be written.*MB are free\); checkpoint-2 is intact and stays"
    assert re.search(pattern, message)


# ---------------------------------------------------------------- damage


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def two(unbroken: Path, root: Path) -> Path:
    """Return the first two checkpoints of a run, to be damaged."""
    for name in ("checkpoint-2", "checkpoint-4"):
        shutil.copytree(unbroken / name, root / name)
    return root


SEALED = [
    "average.safetensors",
    "config.json",
    "effort.json",
    "model.safetensors",
    "optimizer.pt",
    "preprocessor_config.json",
    "rng_state.pth",
    "run.json",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.json",
]
#: damage to a file -> (how, part of the reason besides the file's name)
DAMAGES = {
    "cut": (shorten, "bytes, not"),
    "flipped": (flip, "sha256 differs"),
    "missing": (Path.unlink, "is missing"),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"0"), "bytes, not"),
}


def test_manifest_names_every_file(unbroken: Path) -> None:
    values = json.loads((unbroken / "checkpoint-4" / MANIFEST).read_text())
    assert [entry["name"] for entry in values["files"]] == SEALED
    assert names(unbroken / "checkpoint-4") == sorted([*SEALED, MANIFEST])
    assert (values["format"], values["step"], values["processes"]) == (1, 4, 1)
    assert values["versions"]["torch"] == torch.__version__
    (entry,) = [entry for entry in values["files"] if entry["name"] == "optimizer.pt"]
    content = (unbroken / "checkpoint-4" / "optimizer.pt").read_bytes()
    assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_any_damaged_file_is_detected(unbroken: Path, tmp_path: Path, damage: Callable, message: str) -> None:
    for name in SEALED:
        root = two(unbroken, tmp_path / name)
        damage(root / "checkpoint-4" / name)
        chosen, ((path, reason),) = newest_sealed(root)
        assert (chosen, path) == (root / "checkpoint-2", root / "checkpoint-4")
        assert reason.startswith(name)
        assert message in reason


def test_any_flipped_bit_is_detected(unbroken: Path, tmp_path: Path) -> None:
    folder = two(unbroken, tmp_path) / "checkpoint-4"
    draw = random.Random(0)
    for _ in range(100):
        path = folder / draw.choice(SEALED)
        place = draw.randrange(path.stat().st_size)
        flip(path, place)
        assert find_corruption(folder) == f"{path.name} is not as it was written (sha256 differs)"
        flip(path, place)
    assert find_corruption(folder) is None


#: damage to the newest checkpoint -> (how, part of the reason)
BROKEN = {
    "manifest missing": (lambda folder: (folder / MANIFEST).unlink(), r"manifest\.json is missing"),
    "manifest cut": (lambda folder: shorten(folder / MANIFEST), r"manifest\.json is broken"),
    "manifest empty": (lambda folder: (folder / MANIFEST).write_text(""), r"manifest\.json is broken"),
    "manifest of something else": (
        lambda folder: (folder / MANIFEST).write_text("[1]"),
        r"manifest\.json is broken",
    ),
    "of another step": (lambda folder: folder.rename(folder.with_name("checkpoint-9")), "is that of step 4"),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], r"manifest\.json is missing"),
    "a file": (lambda folder: [shutil.rmtree(folder), folder.write_text("")], "is not a folder"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_invalid_checkpoints_are_skipped(
    unbroken: Path, tmp_path: Path, damage: Callable, message: str
) -> None:
    root = two(unbroken, tmp_path)
    damage(root / "checkpoint-4")
    chosen, ((_, reason),) = newest_sealed(root)
    assert chosen == root / "checkpoint-2"
    assert re.search(message, reason)


def test_newest_is_the_highest_step_not_the_latest_written(unbroken: Path, tmp_path: Path) -> None:
    for step in (4, 6, 2):
        shutil.copytree(unbroken / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-7.partial").mkdir()
    assert newest_sealed(tmp_path) == (tmp_path / "checkpoint-6", [])
    assert newest_sealed(tmp_path / "nothing") == (None, [])


# ---------------------------------------------------------------- resuming


def test_auto_warns_of_skipped_checkpoints_and_ends_at_the_same_weights(
    few: Path, unbroken: Path, tmp_path: Path
) -> None:
    root = two(unbroken, tmp_path)
    shutil.copytree(unbroken / "checkpoint-6", root / "checkpoint-6")
    flip(root / "checkpoint-4" / "optimizer.pt")
    (root / "checkpoint-6" / "scheduler.pt").unlink()
    trainer = prepare(plan(few, save_total_limit=2), root).trainer
    begin = Begin()
    trainer.add_callback(begin)
    with pytest.warns(AstHfWarning, match="W401") as caught:
        trainer.train(resume_from_checkpoint="auto")
    messages = [str(entry.message) for entry in caught if "AST-W" in str(entry.message)]
    assert [re.sub(r"'.*/", "'", line) for line in messages] == [
        "[AST-W401] 'checkpoint-6': skipped, scheduler.pt is missing; the run continues from checkpoint-2.",
        "[AST-W401] 'checkpoint-4': skipped, optimizer.pt is not as it was written (sha256 differs); the run continues "
        "from checkpoint-2.",
    ]
    assert begin.step == 2
    assert names(root) == ["checkpoint-4", "checkpoint-6"]
    assert checkpoint_digest(root / "checkpoint-6") == checkpoint_digest(unbroken / "checkpoint-6")
    assert [find_corruption(path) for path in checkpoints(root)] == [None, None]


@pytest.mark.parametrize("resume", [True, "auto"])
def test_no_intact_checkpoint_to_resume(
    few: Path, unbroken: Path, tmp_path: Path, resume: bool | str
) -> None:
    """True raises an error; auto starts from the beginning with a warning."""
    root = two(unbroken, tmp_path)
    shorten(root / "checkpoint-4" / "model.safetensors")
    (root / "checkpoint-2" / MANIFEST).unlink()
    trainer = prepare(plan(few, max_steps=1), root).trainer
    begin = Begin()
    trainer.add_callback(begin)
    if resume is True:
        message = (
            r"E306.*holds no intact checkpoint \(checkpoint-4: model\.safetensors.*; checkpoint-2: manifest"
        )
        with pytest.raises(AstConfigError, match=message):
            trainer.train(resume_from_checkpoint=True)
    else:
        with pytest.warns(AstHfWarning, match=r"W402.*starts from the beginning") as caught:
            trainer.train(resume_from_checkpoint="auto")
        assert sum("W401" in str(entry.message) for entry in caught) == 2
        assert begin.step == 0


def test_auto_without_checkpoints_starts_afresh(few: Path, tmp_path: Path) -> None:
    with pytest.warns(AstHfWarning, match=r"W402.*starts from the beginning"):
        report = finetune(plan(few, max_steps=1), tmp_path / "new", resume_from_checkpoint="auto")
    assert report.folder == tmp_path / "new"
    with pytest.raises(AstConfigError, match=r"E306.*holds no checkpoint-N"):
        finetune(plan(few, max_steps=1), tmp_path / "other", resume_from_checkpoint=True)


@pytest.mark.parametrize("start", ["finetune", "trainer"])
def test_a_fresh_start_does_not_touch_checkpoints_of_another_run(
    few: Path, unbroken: Path, tmp_path: Path, start: str
) -> None:
    """Otherwise `auto` would resume from the newest checkpoint of either run."""
    root = two(unbroken, tmp_path)
    begin = {
        "finetune": lambda: finetune(plan(few), root),
        "trainer": lambda: prepare(plan(few), root).trainer.train(),
    }
    with pytest.raises(
        AstConfigError, match=r"E306.*checkpoint-2, checkpoint-4 of an earlier run.*--resume auto"
    ):
        begin[start]()
    assert names(root) == ["checkpoint-2", "checkpoint-4"]


def test_named_checkpoint_has_to_verify(few: Path, unbroken: Path, tmp_path: Path) -> None:
    folder = two(unbroken, tmp_path) / "checkpoint-4"
    flip(folder / "scheduler.pt")
    with pytest.raises(AstConfigError, match=r"E306.*checkpoint-4.*scheduler\.pt is not as it was written"):
        prepare(plan(few), tmp_path / "out").trainer.train(resume_from_checkpoint=str(folder))
    with pytest.raises(AstConfigError, match=r"E306.*checkpoint-5.*does not exist"):
        finetune(plan(few), tmp_path / "out", resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_named_checkpoint_of_plain_transformers_is_accepted_with_a_warning(
    few: Path, unbroken: Path, tmp_path: Path
) -> None:
    folder = two(unbroken, tmp_path) / "checkpoint-4"
    (folder / MANIFEST).unlink()
    trainer = prepare(plan(few), tmp_path / "out").trainer
    with pytest.warns(AstHfWarning, match=r"W403.*checkpoint-4.*no manifest\.json"):
        trainer.train(resume_from_checkpoint=str(folder))
    assert checkpoint_digest(tmp_path / "out" / "checkpoint-6") == checkpoint_digest(
        unbroken / "checkpoint-6"
    )
    (folder / "trainer_state.json").unlink()
    with pytest.raises(AstConfigError, match=r"E306.*checkpoint-4.*trainer_state\.json is missing"):
        trainer.train(resume_from_checkpoint=str(folder))


def test_another_number_of_processes_is_warned_of(unbroken: Path, tmp_path: Path) -> None:
    root = two(unbroken, tmp_path)
    with pytest.warns(AstHfWarning, match=r"W404.*checkpoint-4.*1 processes and is resumed by 2"):
        assert resume_folder("auto", root, processes=2) == str(root / "checkpoint-4")


def test_a_checkpoint_written_again_replaces_the_one_that_was_there(
    few: Path, unbroken: Path, tmp_path: Path
) -> None:
    root = two(unbroken, tmp_path)
    (root / "checkpoint-4" / "note.txt").write_text("of the earlier run")
    prepare(plan(few, save_total_limit=None), root).trainer.train(
        resume_from_checkpoint=str(root / "checkpoint-2")
    )
    assert names(root) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert names(root / "checkpoint-4") == sorted([*SEALED, MANIFEST])


def test_leftovers_of_a_killed_save_are_removed(few: Path, unbroken: Path, tmp_path: Path) -> None:
    for name in ("resumed", "fresh"):
        two(unbroken, tmp_path / name)
        shutil.copytree(unbroken / "checkpoint-6", tmp_path / name / ".partial" / "checkpoint-6")
        shorten(tmp_path / name / ".partial" / "checkpoint-6" / "optimizer.pt")
    for path in checkpoints(tmp_path / "fresh"):
        shutil.rmtree(path)
    assert resume_folder("auto", tmp_path / "resumed") == str(tmp_path / "resumed" / "checkpoint-4")
    prepare(plan(few, max_steps=2), tmp_path / "fresh").trainer.train()
    assert not list(tmp_path.glob("*/.partial"))


# ---------------------------------------------------------------- a full disk


def full(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torch_full(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


def rust_full(*args: Any, **kwargs: Any) -> None:
    raise safetensors.SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


#: write that fails because the disk is full -> replaced function
FULL = {
    "weights": ("safetensors.torch.serialize_file", rust_full),
    "optimizer": ("torch.save", torch_full),
    "arguments": ("pathlib.Path.write_text", full),
    "sync": ("os.fsync", full),
    "rename": ("pathlib.Path.replace", full),
}


class Fill(TrainerCallback):
    """Callback that makes the disk full after step 3."""

    def __init__(self, patch: pytest.MonkeyPatch, what: str, by: Callable) -> None:
        self.change = lambda: patch.setattr(what, by)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            self.change()


@pytest.mark.parametrize(("what", "by"), FULL.values(), ids=FULL)
@pytest.mark.parametrize("limit", [1, 2])
def test_full_disk_leaves_the_older_checkpoint(
    few: Path, tmp_path: Path, what: str, by: Callable, limit: int
) -> None:
    trainer = prepare(plan(few, save_total_limit=limit), tmp_path).trainer
    with pytest.MonkeyPatch.context() as patch:
        trainer.add_callback(Fill(patch, what, by))
        with pytest.raises(
            AstRunError, match=r"E401.*checkpoint-4.*cannot be written.*checkpoint-2 is intact and stays"
        ):
            trainer.train()
    assert names(tmp_path) == ["checkpoint-2"]
    assert newest_sealed(tmp_path) == (tmp_path / "checkpoint-2", [])


def test_a_full_disk_without_an_older_checkpoint_is_reported(few: Path, tmp_path: Path) -> None:
    trainer = prepare(plan(few), tmp_path).trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.save", full)
        with pytest.raises(AstRunError, match=r"E401.*there is no older checkpoint"):
            trainer.train()


def test_other_errors_in_a_save_are_passed_on(few: Path, tmp_path: Path) -> None:
    def bug(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("of another kind")

    trainer = prepare(plan(few), tmp_path).trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.save", bug)
        with pytest.raises(RuntimeError, match="of another kind"):
            trainer.train()
    assert names(tmp_path) == []


# ---------------------------------------------------------------- save_total_limit


@pytest.mark.parametrize(("limit", "steps"), [(1, [6]), (2, [4, 6]), (None, [2, 4, 6])], ids=str)
def test_save_total_limit_is_honoured(few: Path, tmp_path: Path, limit: int | None, steps: list[int]) -> None:
    prepare(plan(few, save_total_limit=limit), tmp_path).trainer.train()
    assert names(tmp_path) == [f"checkpoint-{step}" for step in steps]
    assert [find_corruption(path) for path in checkpoints(tmp_path)] == [None] * len(steps)


def sealed(root: Path, *steps: int) -> None:
    for step in steps:
        (root / f"checkpoint-{step}").mkdir()
        (root / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        seal(root / f"checkpoint-{step}", step=step)


#: case -> (steps, newest, limit, best, remaining steps)
ROTATIONS = {
    "one": ([2, 4, 10], 10, 1, None, [10]),
    "by number": ([2, 4, 10], 10, 2, None, [4, 10]),
    "all": ([2, 4, 10], 10, None, None, [2, 4, 10]),
    "the best stays": ([2, 4, 10], 10, 1, 2, [2, 10]),
    "the best is one of two": ([2, 4, 10], 10, 2, 2, [2, 10]),
    "later steps are of an earlier run": ([2, 4, 10, 50], 4, 2, None, [2, 4]),
}


@pytest.mark.parametrize(("steps", "newest", "limit", "best", "stay"), ROTATIONS.values(), ids=ROTATIONS)
def test_rotation(
    tmp_path: Path, steps: list[int], newest: int, limit: int | None, best: int | None, stay: list[int]
) -> None:
    sealed(tmp_path, *steps)
    rotate(
        tmp_path, tmp_path / f"checkpoint-{newest}", limit, tmp_path / f"checkpoint-{best}" if best else None
    )
    assert [int(path.name.split("-")[1]) for path in checkpoints(tmp_path)] == stay


def test_unsealed_folders_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    sealed(tmp_path, 4, 6)
    (tmp_path / "checkpoint-2").mkdir()
    rotate(tmp_path, tmp_path / "checkpoint-6", 2)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_nothing_is_removed_before_the_new_one_is_sealed(few: Path, tmp_path: Path) -> None:
    """At every write of three saves with a limit of one checkpoint, one checkpoint verifies."""
    trainer = prepare(plan(few, save_total_limit=1), tmp_path).trainer
    moments = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        if trainer.state.global_step > 2:
            moments.append(newest_sealed(tmp_path)[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        trainer.train()
    assert len(moments) > 20
    assert None not in moments


def test_best_checkpoint_is_stored_by_its_final_path(few: Path, tmp_path: Path) -> None:
    """The same in the state that a resumed run reads."""
    options = {"data": {"validation_fraction": 0.25}}
    run = prepare(
        recipe(few, options, **PLAN, save_total_limit=None, **BEST, greater_is_better=True), tmp_path
    )
    run.trainer.train()
    for folder in checkpoints(tmp_path):
        state = json.loads((folder / "trainer_state.json").read_text())
        assert Path(state["best_model_checkpoint"]) == tmp_path / f"checkpoint-{state['best_global_step']}"
        assert find_corruption(Path(state["best_model_checkpoint"])) is None


# ---------------------------------------------------------------- files that change while they are loaded

#: when it happens -> method of the trainer before which it does
MOMENTS = ("_continue_from", "_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_rng_state")
#: what a cleaner or another program does
CHANGES: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "replaced": lambda path: [
        path.with_suffix(".new").write_bytes(b"x"),
        path.with_suffix(".new").replace(path),
    ],
    "written again": lambda path: path.write_bytes(path.read_bytes()),
}


@pytest.mark.parametrize(
    ("name", "moment", "change"),
    [
        *((name, moment, "removed") for name in ("optimizer.pt", "trainer_state.json") for moment in MOMENTS),
        *(("rng_state.pth", MOMENTS[3], change) for change in CHANGES),
        *(("model.safetensors", MOMENTS[1], change) for change in CHANGES),
    ],
)
def test_a_file_that_changes_while_loading_is_an_error(
    few: Path, unbroken: Path, tmp_path: Path, name: str, moment: str, change: str
) -> None:
    """Never a run without its optimizer."""
    root = two(unbroken, tmp_path)
    trainer = prepare(plan(few), root).trainer
    real = getattr(trainer, moment)

    def changed(*args: Any, **kwargs: Any) -> Any:
        if moment == "_continue_from":
            real(*args, **kwargs)
        CHANGES[change](root / "checkpoint-4" / name)
        return None if moment == "_continue_from" else real(*args, **kwargs)

    setattr(trainer, moment, changed)
    trainer.training_step = lambda *_, **__: pytest.fail("trained")
    with pytest.raises(
        AstConfigError, match=rf"E306.*checkpoint-4.*{re.escape(name)} (is missing|was replaced) while"
    ):
        trainer.train(resume_from_checkpoint="auto")


def test_a_checkpoint_that_breaks_after_it_was_found_is_left_for_the_next(
    few: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ast_hf.training import sealed_trainer

    root = two(unbroken, tmp_path)
    real = sealed_trainer.resume_folder

    def found(*args: Any, **kwargs: Any) -> Any:
        folder = real(*args, **kwargs)
        (root / "checkpoint-4" / "optimizer.pt").unlink(missing_ok=True)
        return folder

    monkeypatch.setattr(sealed_trainer, "resume_folder", found)
    begin = Begin()
    trainer = prepare(plan(few), root).trainer
    trainer.add_callback(begin)
    with pytest.warns(AstHfWarning, match=r"W401.*checkpoint-4.*optimizer\.pt is missing"):
        trainer.train(resume_from_checkpoint="auto")
    assert begin.step == 2
    assert checkpoint_digest(root / "checkpoint-6") == checkpoint_digest(unbroken / "checkpoint-6")


def test_a_damaged_best_checkpoint_is_an_error(few: Path, tmp_path: Path) -> None:
    """transformers would keep the last weights, with a line in its log."""
    options = {"data": {"validation_fraction": 0.25}}
    trainer = prepare(recipe(few, options, **PLAN, save_total_limit=None, **BEST), tmp_path).trainer

    class Damage(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                (Path(state.best_model_checkpoint) / "model.safetensors").unlink()

    trainer.add_callback(Damage())
    with pytest.raises(
        AstConfigError, match=r"E306.*is the best checkpoint, and model\.safetensors is missing"
    ):
        trainer.train()


# ---------------------------------------------------------------- the right fix for a failed save


def test_a_file_instead_of_the_staging_folder(few: Path, tmp_path: Path) -> None:
    """Before data are read, and if it appears during the run."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".partial").write_text("")
    with pytest.raises(AstRunError, match=r"E401.*\.partial': is a file.*remove or rename it"):
        finetune(plan(few / "nowhere"), tmp_path / "out")
    trainer = prepare(plan(few), tmp_path / "later").trainer

    class Appear(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            Path(args.output_dir, ".partial").write_text("")

    trainer.add_callback(Appear())
    with pytest.raises(AstRunError, match=r"E401.*\.partial': cannot be written.*Fix: remove or rename"):
        trainer.train()


#: failure of a save -> part of the fix
FIXES: dict[str, tuple[BaseException, str]] = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), "make room"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "make room"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), "make that disk writable"),
    "not allowed": (PermissionError(errno.EACCES, "Permission denied"), "change its permissions"),
    "gone": (
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        "name a folder.*look for what removed",
    ),
    "gone, of torch": (
        RuntimeError("Parent directory o/.partial/checkpoint-1 does not exist."),
        "name a folder.*look for what removed",
    ),
    "of torch": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64"),
        "make room on that disk, or raise its quota",
    ),
    "disk": (OSError(errno.EIO, "Input/output error"), "check that disk"),
}


@pytest.mark.parametrize(("problem", "fix"), FIXES.values(), ids=FIXES)
def test_the_fix_of_a_failed_save_fits_its_cause(tmp_path: Path, problem: BaseException, fix: str) -> None:
    with (
        pytest.raises(AstRunError, match=rf"E401.*Fix: {fix}.*continue with --resume auto"),
        staged_save(tmp_path, "c"),
    ):
        raise problem
