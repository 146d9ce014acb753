"""Time of a training step on this machine, from a few steps of a prepared run."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from ..recipe.recipe import Recipe
from ..training.finetuning import prepare

#: Steps that are timed, after one that is not.
STEPS = 3


def seconds_per_step(values: dict[str, Any]) -> float:
    """Return the seconds of a training step of a recipe; its clips are decoded before they are timed."""
    changed = {**values, "features": {**values.get("features", {}), "mean": 0.0, "std": 1.0}}
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Recipe.from_dict(changed), folder)
        times = [_time_step(run) for _ in range(STEPS + 1)]
    return sorted(times[1:])[STEPS // 2]


def _time_step(run: Any) -> float:
    trainer = run.trainer
    size = trainer.args.per_device_train_batch_size
    rows = [number % len(run.train) for number in range(size)]
    for row in rows:
        run.train.waveform(row)  # fills the cache
    optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=0.0)
    began = time.perf_counter()
    batch = trainer.data_collator([run.train[row] for row in rows])
    trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    optimizer.step()
    trainer.model.zero_grad()
    return time.perf_counter() - began
