"""Watchdog: who is silent or behind, and workers of a data loader that are lost."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ast_hf import AstConfigError, AstRunError
from ast_hf.training import finetune
from ast_hf.training.watchdog import Watchdog
from training.runs import recipe

START = 1_000.0


@pytest.fixture
def watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """Return a watchdog of rank 0 of 3, at time 1000, which has seen both others."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    now(monkeypatch, START)
    dog = Watchdog(10.0, 100.0, tmp_path)
    for rank in (1, 2):
        dog._note(rank, state(beat=1))
    return dog


def now(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("time.monotonic", lambda: seconds)


def state(beat: int, progress: int = 0) -> dict[str, Any]:
    return {"beat": beat, "progress": progress, "step": 4, "place": "pid 7 on host"}


def test_a_silent_rank_is_named(watchdog: Watchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    now(monkeypatch, START + 9)
    watchdog._exchanged = START + 9
    watchdog._note(1, state(beat=2))
    assert watchdog._find_problem(START + 9.9) is None
    problem = watchdog._find_problem(START + 10.1)
    assert problem is not None
    assert problem.code == "E403"
    assert problem.where == "step 1, rank 0"
    assert (
        problem.what == "rank 2 of 3 (pid 7 on host) has given no sign of life for 10 s; checkpoint-3 is kept"
    )
    assert "--resume auto" in problem.fix


def test_a_rank_that_ended_as_planned_is_not_missed(watchdog: Watchdog) -> None:
    watchdog._note(1, {"ended": True})
    watchdog._note(2, {"ended": True})
    watchdog._exchanged = START + 50
    assert watchdog._find_problem(START + 55) is None


def test_a_store_that_does_not_answer(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "host")
    monkeypatch.setenv("MASTER_PORT", "29500")
    watchdog._changed.clear()
    assert watchdog._find_problem(START + 9) is None
    assert "the store of the processes at host:29500" in str(watchdog._find_problem(START + 11))


def test_ranks_that_live_without_progress(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SimpleNamespace(global_step=5)
    watchdog.on_step_begin(None, step, None)
    watchdog._exchanged = START + 200
    watchdog._changed = {1: START + 200, 2: START + 200}
    assert watchdog._find_problem(START + 201) is None  # the first step may compile
    watchdog.on_step_end(None, step, None)
    watchdog._seen = {1: state(beat=9, progress=3), 2: state(beat=9, progress=1)}
    assert watchdog._find_problem(START + 99) is None
    problem = watchdog._find_problem(START + 101)
    assert problem is not None
    assert "no process has made progress for 100 s; rank 2 of 3" in problem.what
    watchdog.on_train_end(None, step, None)
    assert watchdog._find_problem(START + 201) is None


@pytest.mark.parametrize("value", [0, 0.5, 1e6, "ten"])
def test_times_of_a_recipe(value: Any, tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307.*watchdog_seconds"):
        recipe(tmp_path, {"watchdog_seconds": value})
    assert recipe(tmp_path, {"watchdog_seconds": None}).watchdog_seconds is None


# ---------------------------------------------------------------- workers


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers inherit the patched function through fork")
@pytest.mark.parametrize(
    ("number", "part"), [(signal.SIGKILL, "killed|exited|EOF"), (signal.SIGSTOP, "timed out")]
)
def test_a_lost_worker_names_its_row(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, part: str
) -> None:
    from ast_hf.inputs import clips as module

    real = module.decode_clip

    def decode(clip: int, row: Any, *args: Any) -> Any:
        if clip == 17:
            os.kill(os.getpid(), number)
        return real(clip, row, *args)

    monkeypatch.setattr(module, "decode_clip", decode)
    plan = recipe(
        clips,
        {"features": {"mean": -5.0, "std": 4.0}},
        dataloader_num_workers=2,
        ddp_timeout=3,
    )
    with pytest.raises(
        AstRunError, match=r"E403.*row 18, '.*\.wav'.*worker of the data loader was lost"
    ) as caught:
        finetune(plan, tmp_path)
    assert re.search(part, caught.value.what)


def test_an_error_in_a_worker_is_one_line(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that is damaged after the check of all clips."""
    from ast_hf.inputs import clips as module

    real = module.decode_clip

    def decode(clip: int, row: Any, *args: Any) -> Any:
        if clip == 17:
            row = {**row, "audio": {"path": None, "bytes": b"RIFF"}}
        return real(clip, row, *args)

    monkeypatch.setattr(module, "decode_clip", decode)
    plan = recipe(clips, {"features": {"mean": -5.0, "std": 4.0}}, dataloader_num_workers=2)
    with pytest.raises(ValueError, match=r"^\[AST-E20\d\] (train )?row 18, 'embedded audio'") as caught:
        finetune(plan, tmp_path / "run")
    assert len(str(caught.value)) < 400
