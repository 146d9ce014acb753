"""A disk that fills up, breaks or is read-only at each write of a run: nothing is lost, and the run ends alike."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import ROOT, run_fresh
from safetensors.torch import load_file
from training.runs import VARIED, recipe
from transformers import TrainerCallback

from ast_hf import AstHfError
from ast_hf.training import finetune
from reliability.cases import FULL, record

#: errno -> what still works on such a disk
BROKEN = {errno.ENOSPC: ("os.rename", "os.remove", "os.rmdir", "os.symlink"), errno.EROFS: ()}
WRITES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink")
PLANS: dict[str, dict[str, Any]] = {
    "no": {"save_strategy": "no"},
    "epoch": {"save_strategy": "epoch", "save_total_limit": 1},
    "logged": {
        "save_strategy": "no",
        "report_to": "tensorboard",
        "logging_steps": 2,
        "logging_strategy": "steps",
    },
}


class Fault:
    """Fails at the write number `at` (from 1) below a folder, and at all later ones, like a disk that is full."""

    def __init__(self, folder: Path, at: int | None, number: int) -> None:
        self.folder, self.at, self.number = str(folder), at, number
        self.seen: list[str] = []
        sys.addaudithook(self.audit)
        os.fsync = self.around("fsync", os.fsync, lambda handle: Path(f"/proc/self/fd/{handle}").readlink())
        torch.save = self.around("torch.save", torch.save, lambda content, path: path)
        write = safetensors.torch.serialize_file
        safetensors.torch.serialize_file = self.around("weights", write, lambda tensors, path: path)

    def audit(self, event: str, arguments: tuple) -> None:
        if event not in WRITES:
            return
        if event == "open" and not (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_CREAT | os.O_RDWR)
        ):
            return
        path = arguments[1] if event == "os.symlink" else arguments[0]
        self.tick(event, path)

    def tick(self, what: str, path: Any) -> None:
        path = os.fsdecode(path) if isinstance(path, bytes) else path  # TensorBoard
        if not isinstance(path, (str, Path)) or not str(path).startswith(self.folder):
            return
        if what in BROKEN[self.number]:
            return
        self.seen.append(
            f"{what} {re.sub(r'[0-9a-f]{32}|[.][0-9]+[.]part', '', str(path)[len(self.folder) :])}"
        )
        if self.at is not None and len(self.seen) >= self.at:
            raise OSError(self.number, os.strerror(self.number), str(path))

    def around(self, what: str, real: Callable, place: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.tick(what, place(*args[:2]))
            return real(*args, **kwargs)

        return call


class Trained(TrainerCallback):
    """Callback that counts the steps of a run."""

    steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Trained.steps += 1


def plan(source: Path, name: str) -> Any:
    return recipe(source, {**VARIED, "features": {"mean": -5.0, "std": 4.0}}, **PLANS[name])


def digest(folder: Path) -> str | None:
    file = folder / "model.safetensors"
    if not file.exists():
        return None
    values = load_file(file)
    return hashlib.sha256(b"".join(values[name].numpy().tobytes() for name in sorted(values))).hexdigest()


def half_files(folder: Path) -> list[str]:
    """Return the files that cannot be read under their final names."""
    broken = []
    for path in folder.glob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".png" and not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
                broken.append(path.name)
        except Exception:
            broken.append(path.name)
    return broken


def attempt(source: Path, name: str, folder: Path, at: int | None, number: int, report: Path) -> None:
    """Run with a fault, in a fork, and report what happened."""
    from ast_hf.training import trainer

    fault = Fault(folder, at, number)
    add = trainer.ASTTrainer._add_callbacks
    trainer.ASTTrainer._add_callbacks = lambda self, *a: (add(self, *a), self.add_callback(Trained))[0]
    outcome: dict[str, Any] = {"code": None, "message": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resume = "auto" if at is not None else None
            finetune(plan(source, name), folder, resume_from_checkpoint=resume, overwrite=True)
    except AstHfError as problem:
        outcome = {"code": problem.code, "message": str(problem), "detail": problem.detail}
    except Exception as problem:
        outcome = {"code": type(problem).__name__, "message": str(problem)}
    report.write_text(json.dumps({**outcome, "seen": fault.seen, "steps": Trained.steps}))


def again(source: Path, name: str, folder: Path, resume: str, report: Path) -> None:
    from ast_hf.training import trainer

    add = trainer.ASTTrainer._add_callbacks
    trainer.ASTTrainer._add_callbacks = lambda self, *a: (add(self, *a), self.add_callback(Trained))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finetune(plan(source, name), folder, resume_from_checkpoint=resume, overwrite=True)
    left = sorted(path.name for path in folder.iterdir() if path.name != "runs")
    report.write_text(json.dumps({"digest": digest(folder), "steps": Trained.steps, "left": left}))


def forked(task: Callable[[], None]) -> int:
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        task()
        code = 0
    finally:
        os._exit(code)


def sweep(source: str, root: str, name: str, number: int, every: int) -> None:
    """Break the disk at every n-th write of a run, each in its own fork, and run the same again on a whole disk."""
    base, clips = Path(root), Path(source)
    gc.freeze()
    report = base / "report.json"
    assert forked(partial(attempt, clips, name, base / "whole", None, number, report)) == 0
    whole = json.loads(report.read_text())
    assert whole["code"] is None, whole
    outcome = {"points": whole["seen"], "whole": digest(base / "whole"), "steps": whole["steps"], "cases": []}
    for at in range(1, len(whole["seen"]) + 1, every):
        folder = base / f"broken-{at}"
        tempfile.tempdir = str(base / f"refuge-{at}")
        Path(tempfile.tempdir).mkdir()
        assert forked(partial(attempt, clips, name, folder, at, number, report)) == 0
        broken = json.loads(report.read_text())
        broken["half"] = half_files(folder) if folder.exists() else []
        match = re.search(r"--resume (\S+?)[`'.]*(?:[ :,]|$)", broken["message"])
        broken["resumes"] = match[1].rstrip(".`") if match else "auto"
        code = forked(partial(again, clips, name, folder, broken["resumes"], report))
        broken["again"] = json.loads(report.read_text()) if code == 0 else {"failed": code}
        outcome["cases"].append({"at": whole["seen"][at - 1], **broken})
        shutil.rmtree(folder)
    (base / "outcome.json").write_text(json.dumps(outcome, indent=1))


@pytest.mark.parametrize("number", BROKEN, ids=[errno.errorcode[number] for number in BROKEN])
@pytest.mark.parametrize("name", PLANS)
def test_a_disk_that_breaks_at_any_write_loses_nothing(
    few: Path, tmp_path: Path, name: str, number: int
) -> None:
    if not FULL and (name, number) not in (("no", errno.ENOSPC), ("logged", errno.EROFS)):
        pytest.skip("in the long tier")
    every = (1 if number == errno.ENOSPC and name != "logged" else 5) if FULL else 45
    call = f"sweep({str(few)!r}, {str(tmp_path)!r}, {name!r}, {number}, {every})"
    code = f"from reliability import test_disk; test_disk.{call}"
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    run_fresh(code, env={"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, timeout=1800)
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert len(outcome["cases"]) >= 3
    wrong = []
    for case in outcome["cases"]:
        end = case["again"]
        is_told = case["code"] == "E401" or (case["code"] is None and case["steps"] == outcome["steps"])
        is_whole = end.get("digest") == outcome["whole"] and not case["half"]
        # what was trained when the disk broke at the end is not trained again
        is_kept = case["steps"] < outcome["steps"] or end.get("steps") == 0 or case["code"] is None
        is_named = case["code"] is None or (
            "cannot be written" in case["message"] and "MB are free" in case["message"]
        )
        if not (is_told and is_whole and is_kept and is_named):
            wrong.append(case)
    record(
        f"disk broken ({errno.errorcode[number]}) at a write, save_strategy={name}",
        writes=len(outcome["cases"]),
        wrong=len(wrong),
    )
    assert wrong == []


# ---------------------------------------------------------------- a real disk that is too small


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a disk of so many kB, or resizes it; skips without the right to."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size: int) -> Path:
        verb = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{verb}size={size}k", "none", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
        return place

    yield resize
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


def command_line(few: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `ast-hf finetune` on a tiny model in a process of its own."""
    file = output.parent.parent / "recipe.yaml"
    file.write_text(recipe(few, save_strategy="no").to_yaml().replace("source: few", f"source: {few}"))
    sets = [part for option in (f"data.source={few}", *options) for part in ("--set", option)]
    words = ["-m", "ast_hf", "finetune", str(file), "--output", str(output), "--resume", "auto", *sets]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment, timeout=300
    )


@pytest.mark.parametrize("size", [64, 160, 400] if FULL else [160])
def test_a_disk_that_is_too_small_is_refused_before_data_are_read(
    few: Path, small_disk: Callable[[int], Path], size: int
) -> None:
    output = small_disk(size) / "run"
    refused = command_line(few, output)
    assert refused.returncode == 65
    assert re.search(
        r"AST-E401.*has too little room.*needs about \S+ MB, and \S+ MB are free", refused.stderr
    )
    assert "Traceback" not in refused.stderr
    small_disk(4_000)
    again = command_line(few, output)
    assert again.returncode == 0, again.stderr[-2000:]


@pytest.mark.parametrize("free", range(0, 400, 20) if FULL else [40, 200])
def test_a_disk_that_fills_up_while_training(few: Path, small_disk: Callable[[int], Path], free: int) -> None:
    """Leave so many kB free at the end of training; the same command finishes once there is room."""
    root = small_disk(4_000)
    output = root / "run"
    code = (
        "import os, sys; from pathlib import Path; from ast_hf import cli; from ast_hf.training import trainer\n"
        "from transformers import TrainerCallback\n"
        "class Fill(TrainerCallback):\n"
        "    def on_step_end(self, args, state, control, **kwargs):\n"
        "        if state.global_step == 5:\n"
        f"            room = os.statvfs({str(root)!r}); size = room.f_bavail * room.f_frsize - {free} * 1024\n"
        f"            Path({str(root / 'filler')!r}).write_bytes(bytes(max(size, 0)))\n"
        "add = trainer.ASTTrainer._add_callbacks\n"
        "trainer.ASTTrainer._add_callbacks = lambda self, *a: (add(self, *a), self.add_callback(Fill))[0]\n"
        "sys.exit(cli.main())\n"
    )
    file = root.parent / "recipe.yaml"
    file.write_text(recipe(few, save_strategy="no").to_yaml())
    words = ["finetune", str(file), "--output", str(output), "--resume", "auto", "--data", str(few)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(root.parent)}
    run = [sys.executable, "-c", code, *words]
    full = subprocess.run(run, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert "Traceback" not in full.stderr
    assert half_files(output) == []
    if full.returncode == 0:  # the checkpoint found no room, the smaller model did
        assert (output / "results.json").exists()
        assert free > 100
        return
    assert full.returncode == 65, full.stderr[-2000:]
    assert re.search(r"AST-E401\].*cannot be written.*needs .*are free", full.stderr)
    (root / "filler").unlink()
    plain = [sys.executable, "-m", "ast_hf", *words]
    again = subprocess.run(plain, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "'train_loss': '0'" in again.stdout  # nothing was trained again
