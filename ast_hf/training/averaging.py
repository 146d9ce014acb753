"""Averages of the weights over a run, evaluated and saved instead of the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ..files import apply_default_mode

AVERAGE_FILE = "average.safetensors"


class WeightAverage:
    """Running average of a model's trainable parameters.

    Args:
        decay: weight of the previous average at each step, in (0, 1). Early steps use (1 + step) / (10 + step)
            if that is smaller, so that the random start does not dominate.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._average: dict[str, torch.Tensor] = {}

    def after_step(self, model: nn.Module) -> None:
        """Update the average after an optimizer step."""
        self.update(model)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Do nothing: every step counts."""

    def update(self, model: nn.Module) -> None:
        """Update the average with the model's weights."""
        self.steps += 1
        self._mix(model, 1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))

    @torch.no_grad()
    def _mix(self, model: nn.Module, share: float) -> None:
        """Move the average by `share` of the way to the model's weights."""
        current = trainable(model)
        if not self._average:
            self._average = {name: value.clone() for name, value in current.items()}
        torch._foreach_lerp_(list(self._average.values()), list(current.values()), share)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Replace the model's weights by their average."""
        for name, value in trainable(model).items():
            value.copy_(self._average.get(name, value))

    def reset(self) -> None:
        """Forget all weights, for a run from the start."""
        self.steps = 0
        self._average = {}

    @torch.no_grad()
    def replace(self, model: nn.Module) -> None:
        """Replace the average by the model's weights, if there is one."""
        for name, value in trainable(model).items():
            if name in self._average:
                self._average[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Use the average in this block, and restore the model's weights after it."""
        backup = {name: value.clone() for name, value in trainable(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in trainable(model).items():
                    value.copy_(backup[name])

    def save(self, folder: Path) -> None:
        """Write the average into a training checkpoint."""
        save_file(self._average, folder / AVERAGE_FILE, metadata={"steps": str(self.steps)})
        apply_default_mode(folder / AVERAGE_FILE)

    def load(self, folder: Path, model: nn.Module) -> None:
        """Read what `save` wrote, onto the devices of the model's parameters."""
        with safe_open(folder / AVERAGE_FILE, framework="pt") as stored:
            self.steps = int(stored.metadata()["steps"])
            if self.steps:
                trained = trainable(model)
                self._average = {
                    name: stored.get_tensor(name).to(value.device) for name, value in trained.items()
                }


class EpochAverage(WeightAverage):
    """Mean of the weights after the epochs `first` to `last`, from 1 (the original's `traintest.py`)."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(decay=0.0)
        self.first = first
        self.last = last

    def after_step(self, model: nn.Module) -> None:
        """Do nothing: only whole epochs count."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Update the average if the epoch is one of those averaged."""
        if self.first <= epoch <= self.last:
            self.update(model)

    def update(self, model: nn.Module) -> None:
        """Update the average with the model's weights."""
        self.steps += 1
        self._mix(model, 1 / self.steps)


def build_average(decay: float | None, epochs: Sequence[int] | None) -> WeightAverage | None:
    """Return the average of a recipe's `averaging_decay` or `averaging_epochs`, or None."""
    if epochs is not None:
        return EpochAverage(*epochs)
    return None if decay is None else WeightAverage(decay)


def trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters of a model that are trained, by name, without their gradients."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
