"""Callbacks: epoch of the sampler, weight average, patchout, best checkpoint, watched clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from ..inputs.sampling import EpochSampler
from ..recipe.options import PatchoutOptions
from .averaging import WeightAverage
from .checkpoints.sealing import checkpoint_folder


class SetSamplerEpoch(TrainerCallback):
    """Sets the sampler's epoch; otherwise the order of the first epoch could be used again.

    accelerate sets it too, but not through every wrapper of the sampler: it misses one when a distributed run
    is resumed within an epoch (1.15: `DataLoaderShard.set_epoch`), and before 1.8 all in a distributed run.
    """

    sampler: EpochSampler | None = None

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the number of complete epochs; the sum of their fractions may be slightly less than 1."""
        if self.sampler is not None:
            self.sampler.set_epoch(math.floor(state.epoch + 1e-9))


class FindBest(TrainerCallback):
    """Finds the best checkpoint of a resumed run; transformers drops it if its folder was moved."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        best = checkpoint_folder(Path(args.output_dir), state.best_global_step or -1)
        if state.best_model_checkpoint is None and best.is_dir():
            state.best_model_checkpoint = str(best)


class AverageWeights(TrainerCallback):
    """Updates the weight average after steps and epochs, and puts it into the model at the end."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_step_end(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.average.after_step(model)

    def on_epoch_end(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.average.after_epoch(model, round(state.epoch))

    def on_train_end(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.average.copy_to(model)


class GrowPatchout(TrainerCallback):
    """Sets the patchout of each epoch, which grows evenly over the ramp."""

    def __init__(self, options: PatchoutOptions, model: nn.Module) -> None:
        self.options = options
        self.model = model

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.model.base_model.patchout = self.options.in_epoch(math.floor(state.epoch + 1e-9))


class AfterEachEpoch(TrainerCallback):
    """Calls a function after each epoch, once the weight average is updated."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.call()
