"""What happens at the edges of steps and epochs: which epoch it is, weight averages, patchout, the best checkpoint."""

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


class TellEpoch(TrainerCallback):
    """Tells the sampler which epoch begins.

    accelerate does so through as many wrappers as it knows of. It knows of one less than there are when a run of
    several processes is resumed in the middle of an epoch (1.15: `DataLoaderShard.set_epoch`), and of none of those of
    several processes before 1.8: the first epoch's order would come again.
    """

    sampler: EpochSampler | None = None

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Count whole epochs; the sum of fractions may be a hair below one."""
        if self.sampler is not None:
            self.sampler.set_epoch(math.floor(state.epoch + 1e-9))


class FindBest(TrainerCallback):
    """After resuming, finds the best checkpoint where it is now; transformers drops one whose folder was moved."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Look beside the others."""
        best = checkpoint_folder(Path(args.output_dir), state.best_global_step or -1)
        if state.best_model_checkpoint is None and best.is_dir():
            state.best_model_checkpoint = str(best)


class AverageWeights(TrainerCallback):
    """Feeds the average after each step and each epoch, and leaves the averaged weights in the model at the end."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the step's weights in."""
        self.average.after_step(model)

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the epoch's weights in, for averages over epochs."""
        self.average.after_epoch(model, round(state.epoch))

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """What is evaluated and saved from now on is the average."""
        self.average.copy_to(model)


class GrowPatchout(TrainerCallback):
    """Sets how much patchout leaves out in each epoch."""

    def __init__(self, options: PatchoutOptions, model: nn.Module) -> None:
        self.options, self.model = options, model

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Grow evenly over the ramp, whole epochs at a time."""
        self.model.base_model.patchout = self.options.in_epoch(math.floor(state.epoch + 1e-9))


class AfterEachEpoch(TrainerCallback):
    """Calls something after each epoch, once the weight average has taken it in."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Call it."""
        self.call()
