"""Speed of a planned run on this machine, from a few steps, and how long it will take."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import torch

from ..recipe.recipe import Recipe
from ..training.preparing import prepare
from .estimates import Estimate, estimate, measure_speed


@dataclass(frozen=True)
class Measured:
    """Speed and time of a run, measured on this machine.

    Attributes:
        seconds_per_step: of a training step, beside all that runs on this machine.
        unshared: seconds per step that the machine would take without other programs.
        estimate: of the whole run that was measured.
    """

    seconds_per_step: float
    unshared: float
    estimate: Estimate

    def seconds(self, share: float) -> float:
        """Return the seconds of the whole run with this share of the steps."""
        training = self.estimate.parts["training"]
        return self.estimate.seconds + (share - 1) * training


def measure_run(values: dict[str, Any]) -> Measured:
    """Return the speed of the run of a recipe and the time that it takes.

    Args:
        values: options of the recipe, as `Recipe.from_dict` takes them. Mean and std are not measured.

    Raises:
        AstHfError: as `prepare`, for clips and starts that cannot be used.
    """
    changed = {**values, "features": {**values.get("features", {}), "mean": 0.0, "std": 1.0}}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Recipe.from_dict(changed), folder)
        preparing = time.perf_counter() - began
        clock = time.perf_counter()
        worked = time.process_time()
        speed = measure_speed(run)
        worked = (time.process_time() - worked) / torch.get_num_threads()
        clock = time.perf_counter() - clock
        expected = estimate(run, speed, preparing=preparing, statistics=True)
    is_processor = run.trainer.args.device.type == "cpu"
    share = min(1.0, worked / clock) if is_processor else 1.0
    return Measured(speed.seconds_per_step, share * speed.seconds_per_step, expected)
