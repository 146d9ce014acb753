"""Exponential moving average of the weights: what is evaluated and saved when a recipe asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

AVERAGE_FILE = "average.safetensors"


class WeightAverage:
    """Running average of a model's trainable parameters.

    Args:
        decay: weight of the past after each step, in (0, 1). Early steps use (1 + step) / (10 + step) where that is
            smaller, so that the average does not remember the random start.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._average: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one optimizer step's weights in."""
        current = _trainable(model)
        if not self._average:
            self._average = {name: value.clone() for name, value in current.items()}
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self._average.values()), list(current.values()), 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Replace the model's weights by their average."""
        for name, value in _trainable(model).items():
            value.copy_(self._average.get(name, value))

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The average inside the block, the model's own weights again after it."""
        own = {name: value.clone() for name, value in _trainable(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in _trainable(model).items():
                    value.copy_(own[name])

    def save(self, folder: Path) -> None:
        """Write the average into a training checkpoint."""
        save_file(self._average, folder / AVERAGE_FILE, metadata={"steps": str(self.steps)})

    def load(self, folder: Path, model: nn.Module, steps: int) -> None:
        """Read what `save` wrote; the tensors land where the model's are."""
        stored = load_file(folder / AVERAGE_FILE)
        self._average = {name: stored[name].to(value.device) for name, value in _trainable(model).items()}
        self.steps = steps


def _trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
