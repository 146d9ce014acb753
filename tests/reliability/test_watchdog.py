"""A process of a run that stops or is lost: the others end in time, name it, and the run continues to the bit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from training.runs import recipe

from reliability.cases import FULL, record

#: Seconds of the watchdog in these tests, and those in which the other process must have ended.
SECONDS = 5
LIMIT = 3 * SECONDS
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds processes through /proc"
)


class Run:
    """`ast-hf finetune` in processes of its own."""

    def __init__(self, root: Path, few: Path, *, processes: int, steps: int, **training: Any) -> None:
        self.output, self.log = root / "run", root / "log"
        plan = {
            "save_strategy": "steps",
            "save_steps": 20,
            "logging_strategy": "no",
            "max_steps": steps,
            **training,
        }
        file = root / "recipe.yaml"
        file.write_text(recipe(few, {"watchdog_seconds": SECONDS}, **plan).to_yaml())
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
        words = ["-m", *(launcher if processes > 1 else []), "ast_hf", "finetune", str(file)]
        self.words = [
            sys.executable,
            *words,
            "--output",
            str(self.output),
            "--data",
            str(few),
            "--resume",
            "auto",
        ]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.environment = {
            **os.environ,
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.words, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + 120
        while not (self.output / name).exists():
            assert self.process is not None
            assert self.process.poll() is None, self.text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def ranks(self) -> dict[int, int]:
        """Return the process number of each rank."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                values = dict(
                    entry.split(b"=", 1)
                    for entry in (folder / "environ").read_bytes().split(b"\0")
                    if b"=" in entry
                )
            except OSError:
                continue
            if str(self.output).encode() in words and b"RANK" in values and b"--standalone" not in words:
                found[int(values[b"RANK"])] = int(folder.name)
        return found

    def children(self) -> list[int]:
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in text.split()]

    def text(self) -> str:
        return self.log.read_text()

    def end(self) -> int:
        assert self.process is not None
        return self.process.wait(timeout=90)

    def digest(self) -> str:
        return hashlib.sha256((self.output / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def runs(tmp_path: Path, few: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that makes a run; all of its processes are ended after the test."""
    made: list[Run] = []

    def make(name: str, **options: Any) -> Run:
        (tmp_path / name).mkdir()
        made.append(Run(tmp_path / name, few, **options))
        return made[-1]

    yield make
    for run in made:
        for process in (*run.ranks().values(), *([run.process.pid] if run.process else [])):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("stopped", [1, 0] if FULL else [1])
def test_a_stopped_rank_ends_the_others(runs: Callable[..., Run], stopped: int) -> None:
    run = runs("stopped", processes=2, steps=10**6)
    run.start()
    run.wait_for("checkpoint-20")
    ranks = run.ranks()
    assert ranks.keys() == {0, 1}
    os.kill(ranks[stopped], signal.SIGSTOP)
    since = time.monotonic()
    while not is_gone(ranks[1 - stopped]):
        assert time.monotonic() - since < LIMIT
        time.sleep(0.1)
    seconds = time.monotonic() - since
    record(f"rank {stopped} of 2 stopped", limit_seconds=SECONDS, ended_after_seconds=round(seconds, 1))
    message = re.search(r"\[AST-E403\] step (\d+), rank (\d): rank (\d) of 2 \(pid (\d+) on .*", run.text())
    assert message
    assert [int(message[2]), int(message[3]), int(message[4])] == [1 - stopped, stopped, ranks[stopped]]
    assert int(message[1]) >= 20
    assert "--resume auto" in message[0]
    assert re.search(r"checkpoint-\d+ is kept", message[0])
    assert run.end() != 0  # torchrun kills the stopped process
    assert is_gone(ranks[stopped])
    assert re.search(r"exitcode\s*:\s*71", run.text())


def test_a_short_stop_is_no_end(runs: Callable[..., Run]) -> None:
    run = runs("paused", processes=2, steps=60)
    whole = runs("whole", processes=2, steps=60)
    whole.start()
    assert whole.end() == 0, whole.text()[-3000:]
    run.start()
    run.wait_for("checkpoint-20")
    rank = run.ranks()[1]
    os.kill(rank, signal.SIGSTOP)
    time.sleep(SECONDS / 2)
    os.kill(rank, signal.SIGCONT)
    assert run.end() == 0, run.text()[-3000:]
    assert "E403" not in run.text()
    assert run.digest() == whole.digest()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP] if FULL else [signal.SIGKILL]
)
def test_a_lost_worker_names_its_row(runs: Callable[..., Run], number: signal.Signals) -> None:
    options = {"processes": 1, "dataloader_num_workers": 2, "ddp_timeout": SECONDS}
    run = runs("worker", steps=10**6, **options)
    run.start()
    run.wait_for("checkpoint-20")
    since = time.monotonic()
    assert run.process is not None
    while run.process.poll() is None and time.monotonic() - since < 60:
        for child in run.children()[:1]:
            with contextlib.suppress(ProcessLookupError):  # it has ended with its epoch meanwhile
                os.kill(child, number)
        time.sleep(20 if number == signal.SIGSTOP else 0.5)
    assert run.end() == 71
    line = next(line for line in run.text().splitlines() if "AST-E403" in line)
    assert re.search(r"a worker of the data loader was lost", line)
    assert "--resume auto" in line
    assert "Traceback" not in run.text()
