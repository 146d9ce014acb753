"""Learning rates that a run will have, by step, from its own schedule on a stand-in for the optimizer."""

from __future__ import annotations

from itertools import pairwise

import torch
from transformers import get_scheduler

from ..training.optimization import milestone_schedule
from ..training.trainer import ASTTrainer
from .extent import Extent

#: Points of the curve.
POINTS = 24
_BARS = "▁▂▃▄▅▆▇█"
#: Steps up to which the schedule is followed step by step; beyond, it is sampled by a shorter one of the same shape.
_MOST_STEPS = 100_000


def learning_rates(trainer: ASTTrainer, extent: Extent, warmup: int) -> list[tuple[int, float]]:
    """Return (step, learning rate) at points of a run, the first step (1) and the last one included.

    The rate is that of the layers nearest to the head; `optimization.layer_decay` lowers it for earlier layers.
    A schedule that follows the validation loss is constant here.
    """
    steps = min(extent.steps, _MOST_STEPS)
    scale = extent.steps / max(steps, 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=trainer.args.learning_rate)
    kind = str(getattr(trainer.args.lr_scheduler_type, "value", trainer.args.lr_scheduler_type))
    if kind == "reduce_lr_on_plateau":
        return [(1, trainer.args.learning_rate), (extent.steps, trainer.args.learning_rate)]
    ramp = round(warmup / scale)
    if trainer.optimization.milestones:
        per_epoch = max(round(steps / trainer.args.num_train_epochs), 1)
        schedule = milestone_schedule(optimizer, trainer.optimization, per_epoch, ramp)
    else:
        options = dict(trainer.args.lr_scheduler_kwargs or {})
        schedule = get_scheduler(kind, optimizer, ramp, steps, options)
    wanted = {round(1 + number * (steps - 1) / (POINTS - 1)) for number in range(POINTS)}
    wanted.add(min(ramp + 1, steps))  # the highest rate
    found = []
    for step in range(1, steps + 1):
        if step in wanted:
            found.append((max(round(step * scale), 1), float(optimizer.param_groups[0]["lr"])))
        optimizer.step()
        schedule.step()
    return found


def sparkline(rates: list[tuple[int, float]]) -> str:
    """Return a curve as a line of block characters, from 0 to its highest value."""
    highest = max((rate for _, rate in rates), default=0.0)
    if not highest:
        return ""
    return "".join(_BARS[round(rate / highest * (len(_BARS) - 1))] for _, rate in rates)


def describe_rates(rates: list[tuple[int, float]]) -> str:
    """Return the first, the highest and the last learning rate with their steps, in words."""
    if not rates:
        return "none"
    points = [rates[0], max(rates, key=lambda point: point[1]), rates[-1]]
    kept = [points[0], *(after for before, after in pairwise(points) if after != before)]
    return ", ".join(f"{rate:.3g} at step {step}" for step, rate in kept)
