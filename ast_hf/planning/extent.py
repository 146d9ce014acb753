"""Extent of a prepared run: clips, steps, epochs, evaluations and checkpoints, before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..inputs.clips import ClipInputs
from ..training.callbacks import KeepBest
from ..training.preparing import Run


@dataclass(frozen=True)
class Extent:
    """How much a run does.

    Attributes:
        clips: number of training clips; None for a stream.
        steps: optimizer steps, at most.
        steps_per_epoch: None for a stream.
        epochs: passes over the training clips, at most; None for a stream.
        evaluations: times that the validation split is evaluated while training.
        watched_evaluations: times that a watched split is evaluated too.
        saves: training checkpoints that are written, at least the last step's.
        may_stop_early: the run may end before its last step.
    """

    clips: int | None
    steps: int
    steps_per_epoch: int | None
    epochs: float | None
    evaluations: int
    watched_evaluations: int
    saves: int
    may_stop_early: bool


def measure_extent(run: Run) -> Extent:
    """Return the extent of a run, counted as transformers' `Trainer.set_initial_training_values` does."""
    arguments = run.trainer.args
    clips = len(run.train) if isinstance(run.train, ClipInputs) else None
    per_epoch = None if clips is None else steps_per_epoch(clips, arguments)
    steps = arguments.max_steps
    epochs: float | None = None
    if per_epoch is not None:
        if steps <= 0:
            steps = math.ceil(arguments.num_train_epochs * per_epoch)
        epochs = steps / per_epoch
    return Extent(
        clips=clips,
        steps=steps,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        evaluations=_evaluations(run, steps, epochs),
        watched_evaluations=0 if run.watch is None else math.ceil(epochs or 0),
        saves=_saves(arguments, steps, epochs),
        may_stop_early=run.trainer.best is not None and run.recipe.stopping.patience is not None,
    )


def steps_per_epoch(clips: int, arguments: TrainingArguments) -> int:
    """Return the optimizer steps of one pass over the training clips."""
    size = arguments.train_batch_size * arguments.world_size
    batches = clips // size if arguments.dataloader_drop_last else math.ceil(clips / size)
    return max(math.ceil(batches / arguments.gradient_accumulation_steps), 1)


def _evaluations(run: Run, steps: int, epochs: float | None) -> int:
    arguments = run.trainer.args
    if run.trainer.eval_dataset is None:
        return 0
    if arguments.eval_strategy == IntervalStrategy.NO:
        return _chosen_evaluations(run, steps, epochs)
    if arguments.eval_strategy == IntervalStrategy.EPOCH:
        return math.ceil(epochs or 0)
    return steps // _interval(arguments.eval_steps or arguments.logging_steps, steps)


def _chosen_evaluations(run: Run, steps: int, epochs: float | None) -> int:
    """Return the number of evaluations that the best weights are chosen by (`KeepBest` plans them)."""
    if run.trainer.best is None:
        return 0
    passes = None if epochs is None else math.ceil(epochs)
    by_epoch, by_step = KeepBest.intervals(run.recipe.stopping.evaluations, steps, passes)
    if by_epoch is not None and passes is not None:
        return math.ceil(passes / by_epoch)
    return math.ceil(steps / by_step) if by_step else 0


def _saves(arguments: TrainingArguments, steps: int, epochs: float | None) -> int:
    if arguments.save_strategy == SaveStrategy.EPOCH:
        return max(math.ceil(epochs or 0), 1)
    if arguments.save_strategy == SaveStrategy.STEPS:
        return math.ceil(steps / _interval(arguments.save_steps, steps))
    return 1


def _interval(value: float, steps: int) -> int:
    """Return an interval in steps; a number below 1 is a share of all steps."""
    return max(math.ceil(steps * value) if value < 1 else int(value), 1)
