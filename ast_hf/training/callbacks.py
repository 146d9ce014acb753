"""Callbacks: epoch of the sampler, weight average, patchout, best weights and checkpoint, watched clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..inputs.sampling import EpochSampler
from ..recipe.options import PatchoutOptions
from .averaging import WeightAverage
from .best_weights import BestWeights
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


class EndWorkers(TrainerCallback):
    """Ends workers that stay between epochs when training ends; Python would wait 5 s for each to be collected.

    Attributes:
        loaders: the data loaders that have such workers.
    """

    loaders: tuple[Any, ...] = ()

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """End the workers; without torch's function for that, they end when they are collected."""
        for loader in self.loaders:
            iterator = getattr(loader, "_iterator", None)
            end = getattr(iterator, "_shutdown_workers", None)
            if end is not None:
                loader._iterator = None
                end()


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


class KeepBest(TrainerCallback):
    """Plans the evaluations of `BestWeights`, unless `eval_strategy` does, and restores the best weights at the end."""

    #: Evaluations of a run of fewer than `FEW_EPOCHS` epochs, and of one on a stream.
    FEW_EVALUATIONS = 10
    FEW_EPOCHS = 4

    def __init__(self, best: BestWeights, average: WeightAverage | None, *, is_streamed: bool) -> None:
        self.best = best
        self.average = average
        self.is_streamed = is_streamed
        self._epochs: int | None = None
        self._steps: int | None = None

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the interval of evaluations, in epochs or in steps."""
        self._epochs = None
        self._steps = None
        if args.eval_strategy == IntervalStrategy.NO:
            epochs = None if self.is_streamed else state.num_train_epochs
            self._epochs, self._steps = self.intervals(self.best.options.evaluations, state.max_steps, epochs)

    @classmethod
    def intervals(cls, count: int, steps: int, epochs: int | None) -> tuple[int | None, int | None]:
        """Return the epochs and the steps from one evaluation to the next; one of them is None.

        Args:
            count: about how many evaluations a run has at most.
            steps: optimizer steps of the run.
            epochs: begun passes over the training clips; None for a stream.
        """
        if epochs is None or epochs < cls.FEW_EPOCHS:
            return None, math.ceil(steps / min(count, cls.FEW_EVALUATIONS))
        return math.ceil(epochs / count), None

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate every so many steps; the last step is evaluated at the end of its epoch."""
        if self._steps and state.global_step % self._steps == 0 and state.global_step < state.max_steps:
            control.should_evaluate = True

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate every so many epochs, after the last step, and once if another callback ends the run."""
        is_due = self._epochs is not None and round(state.epoch) % self._epochs == 0
        is_last = state.global_step >= state.max_steps
        if control.should_training_stop and self.best.record.evaluations == 0:
            is_last = True
        if (is_due or is_last) and self.best.record.last_step != state.global_step:
            control.should_evaluate = True

    def on_train_end(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Put the best weights into the model, and into the average, which later evaluations use."""
        self.best.copy_to(model, self.average)


class GrowPatchout(TrainerCallback):
    """Sets the patchout of each epoch, which grows evenly over the ramp."""

    def __init__(self, options: PatchoutOptions) -> None:
        self.options = options

    def on_epoch_begin(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        model.base_model.patchout = self.options.in_epoch(math.floor(state.epoch + 1e-9))


class AfterEachEpoch(TrainerCallback):
    """Calls a function after each epoch, once the weight average is updated."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.call()
