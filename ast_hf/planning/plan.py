"""A plan: all choices of a recipe for some data and a start, with what to expect of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .augmentation_choices import choose_augmentation
from .choice import Choice
from .data_summary import DataSummary
from .input_choices import choose_rate, choose_window
from .model_choices import NARROW, choose_model, shape_of
from .problems import UNREADABLE_SHARE, check_learnable, find_remarks, unreadable_clips
from .split_choices import choose_splits, trained_clips
from .starts import Start
from .training_choices import (
    MINUTES,
    batch_size,
    choose_training,
    epochs_of,
    least_steps,
    limited_steps,
    wanted_steps,
)


@dataclass(frozen=True)
class Plan:
    """Choices of a recipe.

    Attributes:
        choices: options with values and reasons, in the order of a recipe.
        remarks: what will disappoint.
        steps: optimizer steps of the run.
        least: fewest steps that are worth it.
        epochs: passes over the clips that these steps are.
    """

    choices: list[Choice]
    remarks: list[str]
    steps: int
    least: int
    epochs: int

    def values(self) -> dict[str, Any]:
        """Return the options as nested values, as `Recipe.from_dict` takes them."""
        nested: dict[str, Any] = {}
        for choice in self.choices:
            *sections, last = choice.option.split(".")
            target = nested
            for section in sections:
                target = target.setdefault(section, {})
            target[last] = choice.value
        return nested


def make_plan(
    summary: DataSummary,
    start: Start,
    *,
    seconds_per_step: float | None = None,
    minutes: float = MINUTES,
    clips: int | None = None,
) -> Plan:
    """Return the plan for some data and a start.

    Args:
        summary: the data.
        start: the weights to start from.
        seconds_per_step: measured time of a step; None for the steps that time does not limit.
        minutes: time of training that the plan aims at.
        clips: number of clips to train on, without those held out; None for about as many as the shares say.

    Raises:
        AstDataError: E209 for data that no recipe can learn from.
    """
    check_learnable(summary)
    splits = choose_splits(summary)
    about = trained_clips(summary)
    batch = batch_size(about, start)
    clips = clips or about
    wanted = wanted_steps(clips, batch, start)
    least = least_steps(clips, batch, start)
    steps = limited_steps(wanted, least, seconds_per_step or 1e-9, minutes)
    rate = choose_rate(summary, start)
    choices = [
        *_given(summary, start),
        *splits,
        *_choose_skipping(summary),
        *([rate] if rate else []),
        *choose_window(summary, start),
        *choose_model(summary, start),
        *choose_augmentation(summary, start),
        *choose_training(summary, start, steps, batch, clips),
        *_choose_arithmetic(summary, start),
    ]
    epochs = epochs_of(steps, clips, batch)
    return Plan(choices, list(find_remarks(summary, start)), steps, least, epochs)


def _given(summary: DataSummary, start: Start) -> list[Choice]:
    """Return what the user gave: the data, how they are read, and the start."""
    choices = [Choice("name", _name(summary.source)), Choice("data.source", summary.source)]
    choices += [Choice(f"data.{name}", value) for name, value in summary.reading.items()]
    if start.kind != "random":
        choices.append(Choice(f"model.{start.kind}", start.name))
    return choices


def _name(source: Any) -> str:
    """Return a name for the model's card: that of the data's folder or table."""
    path = Path(str(source)).absolute()
    name = path.parent.name if path.stem in ("metadata", "manifest") else path.stem
    return f"AST on {name}"


def _choose_skipping(summary: DataSummary) -> list[Choice]:
    if not summary.unreadable:
        return []
    reason = f"{unreadable_clips(summary)}, the first: {summary.first_unreadable}"
    return [
        Choice("data.on_error", "skip", reason),
        Choice("data.max_skipped_fraction", UNREADABLE_SHARE),
    ]


def _choose_arithmetic(summary: DataSummary, start: Start) -> list[Choice]:
    """Return the choices of precision and threads.

    On a processor with bf16 instructions, a step of a model 192 wide takes half of the time with them, and one of a
    model 64 wide the same (117 and 231 ms, 33 and 33 ms, for 32 clips of 112 frames; AMD EPYC, one core).
    """
    threads = Choice("threads", 1, "small models are fastest with one thread")
    auto = Choice("precision", "auto", "bf16 where this machine has instructions for it, else float32")
    if start.kind != "random":
        return [auto]
    if shape_of(summary).width > NARROW:
        return [auto, threads]
    return [Choice("precision", "float32", "bf16 makes a model this narrow no faster"), threads]
