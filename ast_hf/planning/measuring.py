"""Speed of a planned run on this machine, from a few steps, and how long it will take."""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..recipe.recipe import Recipe
from ..training.preparing import prepare
from .estimates import Estimate, estimate, measure_speed
from .extent import measure_extent

#: Warnings that are left out: those of reading have been given already, and `find_remarks` says what sound and which
#: clips are not used. Clips that several splits share (W215) are new.
_KNOWN = r"\[AST-W(?!215)"


@dataclass(frozen=True)
class Measured:
    """Speed and time of a run, measured on this machine.

    Attributes:
        seconds_per_step: of a training step, beside all that runs on this machine.
        unshared: seconds per step that the machine would take without other programs.
        clips: that the run trains on, without those held out.
        estimate: of the whole run that was measured.
    """

    seconds_per_step: float
    unshared: float
    clips: int
    estimate: Estimate

    def scaled(self, share: float) -> Estimate:
        """Return the estimate of the whole run with this share of the steps."""
        change = (share - 1) * self.estimate.parts["training"]
        parts = {**self.estimate.parts, "training": share * self.estimate.parts["training"]}
        return replace(self.estimate, seconds=self.estimate.seconds + change, parts=parts)


def measure_run(values: dict[str, Any], starting: float = 0.0) -> Measured:
    """Return the speed of the run of a recipe and the time that it takes.

    Args:
        values: options of the recipe, as `Recipe.from_dict` takes them. Mean and std are not measured.
        starting: seconds that the program of the run needs to start.

    Raises:
        AstHfError: as `prepare`, for clips and starts that cannot be used.
    """
    changed = {**values, "features": {**values.get("features", {}), "mean": 0.0, "std": 1.0}}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_KNOWN)
        run = prepare(Recipe.from_dict(changed), folder)
        preparing = starting + time.perf_counter() - began
        clips = measure_extent(run).clips or 0
        clock = time.perf_counter()
        worked = time.process_time()
        speed = measure_speed(run)
        worked = (time.process_time() - worked) / torch.get_num_threads()
        clock = time.perf_counter() - clock
        expected = estimate(run, speed, preparing=preparing, statistics=True)
    is_processor = run.trainer.args.device.type == "cpu"
    share = min(1.0, worked / clock) if is_processor else 1.0
    return Measured(speed.seconds_per_step, share * speed.seconds_per_step, clips, expected)
