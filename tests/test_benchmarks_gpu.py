"""The benchmark for a GPU runs from end to end on a CPU in tiny sizes, and its page has every row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.mark.long
def test_every_part_has_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    sizes = replace(gpu.TINY, rounds=1)
    bench = gpu.measure(torch.device("cpu"), sizes, gpu.RESULTS)
    missing = {name for name in bench.failures if not name.startswith("attention, ")}  # backends of a GPU
    assert missing == set(), bench.failures
    assert gpu.TARGETS.keys() <= {*bench.rates, "inference, samples to scores, compiled"}
    assert all(rate > 0 for rate in bench.rates.values())
    page = gpu.section()
    for name in (*bench.rates, *bench.facts):
        assert f"| {name} | " in page


def test_targets_depend_on_the_gpu() -> None:
    stored = {
        **{"command": "python -m benchmarks.gpu", "gpu": "NVIDIA H200", "machine": "x", "seconds": 400.0},
        **{"versions": {"torch": "2.13.0", "transformers": "5.24.0"}, "facts": {"copies, TB/s": 4.0}},
        **{"rates": {"training, compiled": 600.0, "training": 384.2}, "failures": {"padding": "not begun"}},
    }
    page = gpu.section(stored)
    assert "| training, compiled | 600 | 590 |" in page
    assert "| training | 384 | - |" in page
    assert "| no result: padding | not begun |" in page
    assert "| training, compiled | 600 | 555 |" in gpu.section({**stored, "gpu": "NVIDIA H100 80GB HBM3"})
    assert "| training, compiled | 600 | - |" in gpu.section({**stored, "gpu": "NVIDIA A100"})


@pytest.mark.long
def test_programs_need_no_other_part() -> None:
    bench = gpu.Bench(torch.device("cpu"), replace(gpu.TINY, rounds=1, clips=260), None)
    bench.run("programs", gpu.programs)
    assert not bench.failures.keys() - {"evaluate"}  # which may take no longer for four clips more
    assert "`ast-hf finetune`, files to weights, compiled" in bench.rates
    assert bench.facts == {}


def _divide(_: gpu.Bench) -> None:
    raise ZeroDivisionError("division by zero")


def test_a_part_that_fails_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    bench = gpu.Bench(torch.device("cpu"), gpu.TINY, None)
    bench.run("broken", _divide)
    bench.run("sound", lambda bench: bench.note("row", 2.0))
    assert bench.failures == {"broken": "ZeroDivisionError: division by zero"}
    assert bench.rates == {"row": 2.0}
    bench.began -= gpu.LIMIT + 1
    bench.run("late", lambda bench: bench.note("other", 1.0))
    assert bench.failures["late"] == "not begun after 420 s"
