"""Runs of the command line that are killed, signalled or doubled, and comparison of what they leave.

A run is a fork of the test's process, which has imported torch and transformers: seconds saved for each. It runs
`ast_hf.cli.main` in a session of its own, as from a terminal.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from training.runs import VARIED, checkpoint_digest, write_clips

from ast_hf.training.prepared_file import PREPARED_FILE

#: Steps of `write_recipe`: 18 clips in ragged steps of 2 times 4, four epochs.
STEPS = 12


def write_recipe(folder: Path, options: dict[str, Any] | None = None, **training: Any) -> Path:
    """Write clips and a recipe with random draws of every kind; return the recipe's file."""
    write_clips(folder / "clips")
    values: dict[str, Any] = {
        **VARIED,
        "name": "tones",
        "threads": 1,
        "training": {
            **{"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
            **{"save_strategy": "steps", "save_steps": 5, "eval_strategy": "epoch"},
            **{"logging_strategy": "steps", "logging_steps": 1, "learning_rate": 2e-3},
            **{"disable_tqdm": True, "use_cpu": True},
            **training,
        },
        **(options or {}),
    }
    source = {"source": str(folder / "clips"), "validation_fraction": 0.25}
    values["data"] = {**source, **values.get("data", {})}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


@dataclass
class Process:
    """A run of the command line, in a fork."""

    pid: int
    log: Path
    code: int | None = None

    def wait(self, timeout: float = 120) -> int:
        """Return the exit code, or minus the signal that killed it."""
        end = time.monotonic() + timeout
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(self.text())
            else:
                time.sleep(0.005)
        return self.code

    def send(self, number: int, *, group: bool = False) -> None:
        """Signal the process, or it and its data loader workers."""
        if self.code is None:
            (os.killpg if group else os.kill)(self.pid, number)

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_step(self, step: int) -> None:
        """Wait until the run has logged this many steps, or ended."""
        self.wait_for(lambda: at_step(self.log, step))

    def wait_for_text(self, text: str, times: int = 1) -> None:
        """Wait until the run has printed a text, or ended."""
        self.wait_for(lambda: self.log.exists() and self.text().count(text) >= times)

    def wait_for(self, is_reached: Callable[[], Any], timeout: float = 60) -> None:
        """Wait until something holds, or the process ends."""
        end = time.monotonic() + timeout
        while not is_reached() and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                return
            time.sleep(0.002)


def at_step(log: Path, step: int) -> bool:
    """Return True if a run has logged this many steps."""
    return log.exists() and log.read_text().count("'grad_norm'") >= step


def start(arguments: list[str], log: Path, before: Callable[[], None] | None = None) -> Process:
    """Start `ast-hf` with these arguments in a fork, after calling `before` there."""
    preload()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Process(pid, log)
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["ast-hf", *arguments]
        from ast_hf.cli import main

        if before is not None:
            before()
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def preload() -> None:
    """Import what a run needs, so that its fork has it."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    import ast_hf.reports.curves
    import ast_hf.reports.model_card
    import ast_hf.training.cross_validation  # noqa: F401


def finetune(recipe: Path, output: Path, *more: str) -> list[str]:
    return ["finetune", str(recipe), "--output", str(output), "--resume", "auto", *more]


def losses(folder: Path) -> list[tuple[int, float]]:
    """Return step and loss of everything that a run logged, read from its last checkpoint."""
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    logged = [entry for entry in state["log_history"] if "loss" in entry or "eval_loss" in entry]
    return [(entry["step"], entry.get("loss", entry.get("eval_loss"))) for entry in logged]


def outcome(folder: Path) -> dict[str, Any]:
    """Return what must be the same after any interruption: weights, optimizer, average, losses, results, files."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    names = sorted(path.name for path in folder.iterdir() if path.name != PREPARED_FILE)
    states = {name: checkpoint_digest(folder / name) for name in names if name.startswith("checkpoint-")}
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {
        "names": names,
        "states": states,
        "weights": weights,
        "losses": losses(folder) if states else [],
        "results": results["results"],
    }


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in listed.split()]


def launch_two(arguments: list[str], log: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start examples/finetune.py by torchrun in two processes."""
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    plain = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options]
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *launcher, "examples/finetune.py", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plain},
            cwd=ROOT,
            start_new_session=True,
        )


def moments(count: int, seconds: float, seed: int) -> Iterator[float]:
    """Return random moments of a run, evenly over `seconds`."""
    import random

    draw = random.Random(seed)
    for number in range(count):
        yield seconds * (number + draw.random()) / count
