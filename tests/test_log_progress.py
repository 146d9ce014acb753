"""Progress in a log: few lines, with the time left, and none on request."""

from __future__ import annotations

import io
import re
import sys

import pytest

from ast_hf.progress import LogLines, progress_bar


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


def test_a_run_of_150_seconds_stays_below_5_kilobytes(clock: Clock) -> None:
    """One step in 50 ms, an evaluation of 20 batches after every 30 steps, as of a small recipe."""
    log = io.StringIO()
    training = progress_bar(total=3000, desc="training", unit="step", file=log)
    for step in range(3000):
        clock.now += 0.05
        training.set_postfix({"loss": f"{1 / (step + 1):.3g}", "eval_accuracy": "0.512"}, refresh=False)
        training.update()
        if step % 30 == 29:
            evaluating = progress_bar(total=20, desc="evaluating", unit="clip", leave=False, file=log)
            for _ in range(20):
                evaluating.update()
            evaluating.close()
            training.set_postfix({"loss": "0.1", "eval_accuracy": "0.512"})
    training.close()
    lines = log.getvalue().splitlines()
    assert len(lines) == 10
    assert len(log.getvalue()) < 5000
    assert "\r" not in log.getvalue()
    assert re.match(r"training:  50% 1500/3000 \[01:1[45]<01:1[45], 20.00step/s, loss=", lines[4])
    assert lines[-1].startswith("training: 100% 3000/3000 [02:")


def test_long_work_has_a_line_in_30_seconds(clock: Clock) -> None:
    log = io.StringIO()
    for _ in progress_bar(range(1000), desc="reading", leave=False, file=log):
        clock.now += 0.25
    assert len(log.getvalue().splitlines()) == 8


def test_short_work_leaves_nothing_but_its_end(clock: Clock) -> None:
    log = io.StringIO()
    for leave in (True, False):
        for _ in progress_bar(range(50), desc="reading", leave=leave, file=log):
            clock.now += 0.01
    assert log.getvalue() == "reading: 100% 50/50 [00:00<00:00, 100.00it/s]\n"


def test_work_without_a_known_end_has_no_share(clock: Clock) -> None:
    log = io.StringIO()
    bar = progress_bar(desc="reading", unit="clip", file=log)
    for _ in range(70):
        clock.now += 1
        bar.update()
    bar.close()
    first, *_ = log.getvalue().splitlines()
    assert first.startswith("reading: 30 clip [00:30, ")


def test_disabled_progress_writes_nothing(clock: Clock) -> None:
    log = io.StringIO()
    for _ in progress_bar(range(5), file=log, disable=True):
        clock.now += 40
    assert log.getvalue() == ""


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = progress_bar(total=2)
    assert not isinstance(bar, LogLines)
    bar.close()
    assert "\r" in terminal.getvalue()


def test_other_lines_are_not_mixed_with_those_of_the_progress(clock: Clock) -> None:
    log = io.StringIO()
    bar = progress_bar(total=2, desc="training", file=log)
    bar.write("a warning", file=log)
    clock.now += 31
    bar.update()
    bar.close()
    assert log.getvalue().splitlines()[0] == "a warning"
    assert log.getvalue().splitlines()[1].startswith("training:  50% 1/2 [00:31<00:31")
