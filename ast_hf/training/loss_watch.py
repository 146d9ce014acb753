"""Watch of the training loss: its course over the run, and a warning (W411) while it stays that of guessing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from transformers import TrainerCallback, TrainingArguments

from ..errors import AstHfWarning, warning_text
from ..losses import IGNORED, infer_problem_type
from ..metrics.loss_course import LEFT_CHANCE, LossCourse, progress
from ..task import Task

#: Steps that a run has taken, at least, when it is warned of: fewer say little. One that ends before has its verdict.
_MIN_STEPS = 30
#: Share of a loss above guessing by which it falls within half of the watched steps, if it is still on its way down.
_FALLING = 0.02


def observe(
    course: LossCourse,
    step: int,
    loss: torch.Tensor,
    labels: torch.Tensor | None,
    problem_type: str | None,
    num_labels: int | None,
) -> None:
    """Add a batch of a step, counted from 0, to the course.

    A regression, batches without labels and losses that are not finite are left out.

    Args:
        course: sums of the run so far.
        step: number of complete steps.
        loss: mean loss of the batch, from the labels alone.
        labels: as for `classification_loss`, of the batch.
        problem_type: as for `classification_loss`.
        num_labels: number of outputs; None if it is unknown.
    """
    if labels is None or num_labels is None or not torch.isfinite(loss):
        return
    kind = infer_problem_type(problem_type, num_labels, labels)
    if kind == Task.REGRESSION:
        return
    targets = labels.detach().cpu()
    if not targets.is_floating_point():
        targets = F.one_hot(targets[targets != IGNORED].long(), num_labels)
    course.is_binary = kind != Task.SINGLE_LABEL
    course.add(step, float(loss.detach()), targets.double().reshape(-1, num_labels).numpy())


class WarnAtChance(TrainerCallback):
    """Warns (W411) once if the training loss is that of guessing after a third of the run, on the main process.

    The warmup of the learning rate and a tenth of the run after it are waited for, and the first 30 steps. A loss that
    is above that of guessing and still falls is not warned of: its verdict comes at the end.
    """

    def __init__(self, course: Callable[[], LossCourse]) -> None:
        self.course = course

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare the loss of the last half of the steps so far with that of guessing."""
        if state.global_step != watched_step(state.max_steps, args.get_warmup_steps(state.max_steps)):
            return
        if not state.is_world_process_zero:
            return
        text = describe_chance(self.course(), state.global_step)
        if text is not None:
            what = (
                f"{text} after {state.global_step} of {state.max_steps} steps; likely causes: a learning rate "
                f"({args.learning_rate:g}) that is too high or too low, too few steps, labels that do not belong "
                "to the clips, or silent clips"
            )
            warnings.warn(warning_text("W411", where="training", what=what), AstHfWarning, stacklevel=2)


def watched_step(steps: int, warmup: int) -> int:
    """Return the step after which the loss of a run is compared with that of guessing; 0 for too short runs."""
    step = max(steps // 3, warmup + steps // 10, _MIN_STEPS)
    return step if step < steps else 0


def is_at_chance(course: LossCourse, step: int) -> bool:
    """Return True if the loss of the last quarter of `step` steps, at least 30, is that of guessing.

    The accuracy is then luck. A model that has learned nothing yet has not stopped learning.
    """
    late = course.mean(3 * step / 4, step)
    return (
        step >= _MIN_STEPS and late is not None and progress(late, course.chance, course.floor) < LEFT_CHANCE
    )


def describe_chance(course: LossCourse, step: int) -> str | None:
    """Return in words that the loss of the last half of `step` steps is that of guessing, or None."""
    late = course.mean(step / 2, step)
    if late is None or progress(late, course.chance, course.floor) >= LEFT_CHANCE:
        return None
    before = course.mean(step / 2, 3 * step / 4)
    now = course.mean(3 * step / 4, step)
    is_falling = before is not None and now is not None and now < (1 - _FALLING) * before
    if late > course.chance and is_falling:
        return None
    return f"the loss is {late:.3g}, that of guessing is {course.chance:.3g},"
