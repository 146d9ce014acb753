"""The benchmark of a training step compares equal models, and its page has a row for each target."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import TINY

from benchmarks import training_step


def test_both_sides_have_the_same_weights_and_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {name: value for name, value in TINY.items() if not name.endswith("_stride")}
    monkeypatch.setattr(training_step, "SIZES", {**sizes, "num_labels": 3})
    sides = {name: replace(side, time=min(side.time, 1)) for name, side in training_step.SIDES.items()}
    monkeypatch.setattr(training_step, "SIDES", sides)
    times, gaps = training_step.seconds(2)
    assert {name: len(each) for name, each in times.items()} == dict.fromkeys(times, 2)
    assert list(times) == [name for name in sides if name != "memory"]
    assert gaps["float32"] <= 1e-6 < gaps["bf16"] < 0.1
    stepper = training_step.stepper(sides["memory"], batch=2)
    assert stepper.model.is_gradient_checkpointing
    assert stepper(sides["memory"]).shape == (2, 3)
    assert stepper.model.base_model.patchout.time == 1
    assert all(torch.isfinite(value).all() for value in stepper.model.parameters())


STORED = {
    "command": "python -m benchmarks.training_step",
    "machine": "x86_64 (avx2)",
    "versions": {"torch": "2.13.0", "transformers": "5.24.0"},
    "rounds": 2,
    "batch": 4,
    "seconds": {
        name: [8.0 / speed, 10.0 / speed]
        for name, speed in {
            **{"stock": 1.0, "float32": 1.1, "bf16": 2.0},
            **{"patchout": 2.5, "patchout bf16": 5.0, "stride 16": 10.0, "stock, stride 16": 2.5},
        }.items()
    },
    "differences": {"float32": 2e-6, "bf16": 1e-2},
    "megabytes": {"stock": 4000.0, "memory": 2000.0},
}


def test_the_page_has_a_row_for_each_target() -> None:
    page = training_step.section(STORED)
    for row in (
        "| float32 | 10 | 1.10x (1.10-1.10) | - | 2.0e-06 |",
        "| bf16 | 10 | 2.00x (2.00-2.00) | 1.8x | 1.0e-02 |",
        "| 50 % structured patchout, float32 | 10 | 2.50x (2.50-2.50) | 2.3x | other patches |",
        "| 50 % structured patchout, bf16 | 10 | 5.00x (5.00-5.00) | 3.4x | other patches |",
        "| 50 % structured patchout, bf16, strides of 16 | 10 | 10.00x (10.00-10.00) | 4.0x | other patches |",
        "| 50 % structured patchout, bf16, strides of 16 | 16 | 4.00x (4.00-4.00) | - | other patches |",
        "| 50 % structured patchout, gradient checkpointing | 0.50x | 0.6x |",
    ):
        assert row in page
