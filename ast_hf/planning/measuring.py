"""Time of a training step on this machine, from a few steps of a prepared run."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import torch

from ..recipe.recipe import Recipe
from ..training.finetuning import prepare

#: Steps that are timed, after one that is not.
STEPS = 3


@dataclass(frozen=True)
class StepTime:
    """Time of a training step in seconds.

    Attributes:
        now: as measured, beside all that runs on this machine.
        alone: without other programs: on a processor, the time that it worked on the step.
    """

    now: float
    alone: float


def measure_step(values: dict[str, Any]) -> StepTime:
    """Return the time of a training step of a recipe, of clips that are decoded before they are timed."""
    changed = {**values, "features": {**values.get("features", {}), "mean": 0.0, "std": 1.0}}
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Recipe.from_dict(changed), folder)
        times = [_time_step(run) for _ in range(STEPS + 1)][1:]
    threads = torch.get_num_threads()
    now = sorted(wall for wall, _ in times)[STEPS // 2]
    if run.trainer.args.device.type != "cpu":
        return StepTime(now, now)
    worked = min(processor for _, processor in times) / threads
    return StepTime(now, min(now, worked))


def _time_step(run: Any) -> tuple[float, float]:
    """Return the seconds that passed in a step, and those that the processor worked, of all threads together."""
    trainer = run.trainer
    size = trainer.args.per_device_train_batch_size
    rows = [number % len(run.train) for number in range(size)]
    for row in rows:
        run.train.waveform(row)  # fills the cache
    optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=0.0)
    began = time.perf_counter()
    worked = time.process_time()
    batch = trainer._prepare_inputs(trainer.data_collator([run.train[row] for row in rows]))
    trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    optimizer.step()
    trainer.model.zero_grad()
    return time.perf_counter() - began, time.process_time() - worked
