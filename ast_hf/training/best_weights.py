"""Weights of the best evaluation of a run, kept in memory and in training checkpoints, and when to stop."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ..files import apply_default_mode
from ..recipe.stopping_options import StoppingOptions
from .averaging import WeightAverage, trainable

#: In a training checkpoint: the weights of the best evaluation so far, and the record of all.
BEST_FILE = "best.safetensors"
#: Metrics that are better if they are lower, besides losses.
_LOWER_IS_BETTER = ("ECE",)


@dataclass
class Record:
    """What the evaluations of a run have shown so far.

    Attributes:
        step: optimizer step of the kept evaluation; None before the first one.
        epoch: its epoch.
        value: its metric.
        loss: its loss.
        best: metric of the best evaluation, which is the kept one unless `standard_errors` says otherwise.
        best_loss: its loss.
        reference: the metric that the next improvement is measured from.
        waited: evaluations since the last improvement.
        evaluations: number of all.
        last_step: step of the last one.
    """

    step: int | None = None
    epoch: float | None = None
    value: float | None = None
    loss: float | None = None
    best: float | None = None
    best_loss: float | None = None
    reference: float | None = None
    waited: int = 0
    evaluations: int = 0
    last_step: int | None = None


def is_lower_better(metric: str) -> bool:
    """Return True for a loss, and for other metrics that are better if they are lower."""
    return metric.endswith(("loss", *_LOWER_IS_BETTER))


class BestWeights:
    """The trainable weights of the best evaluation on the validation split.

    Args:
        options: what is compared, and when to stop.
        metric: name of the metric, without `eval_`.

    Attributes:
        record: see `Record`.
    """

    def __init__(self, options: StoppingOptions, metric: str) -> None:
        self.options = options
        self.metric = metric
        self.record = Record()
        self._weights: dict[str, torch.Tensor] = {}
        self._sign = -1.0 if is_lower_better(metric) else 1.0

    @property
    def is_exhausted(self) -> bool:
        """True if `patience` evaluations in a row were no improvement."""
        patience = self.options.patience
        return patience is not None and self.record.waited >= patience

    def reset(self) -> None:
        """Forget all evaluations, for a run from the start."""
        self.record = Record()
        self._weights = {}

    def note(
        self, value: float, loss: float, step: int, epoch: float, *, clips: int = 0, waits: bool = True
    ) -> bool:
        """Add an evaluation of so many clips, and return True if its weights are to be kept.

        It is kept if it is the best one, or close enough to it (`standard_errors`). A value that is not a number
        never is. With `waits=False` the patience does not count it.
        """
        record = self.record
        record.evaluations += 1
        record.last_step = step
        is_best = self._is_better(value, loss)
        is_tie = is_best and value == record.best
        is_kept = is_best or self._is_close(value, clips)
        if record.reference is None:
            has_improved = is_best
        else:
            gain = self._sign * (value - record.reference)
            has_improved = gain > self.options.min_delta or (is_tie and not self.options.min_delta)
        if is_best:
            record.best = value
            record.best_loss = loss
        if is_kept:
            record.step = step
            record.epoch = epoch
            record.value = value
            record.loss = loss
        if has_improved:
            record.reference = value
            record.waited = 0
        else:
            record.waited += waits
        return is_kept

    def _is_better(self, value: float, loss: float) -> bool:
        """Return True for a better metric than the best one so far, or for an equal one with a lower loss."""
        if math.isnan(value):
            return False
        best = self.record.best
        if best is None:
            return True
        if value != best:
            return self._sign * (value - best) > 0
        return self.record.best_loss is not None and loss < self.record.best_loss

    def _is_close(self, value: float, clips: int) -> bool:
        """Return True for a metric within `standard_errors` of the best one, of a share of so many clips."""
        best = self.record.best
        if not self.options.standard_errors or best is None or not clips:
            return False
        error = math.sqrt(max(best * (1 - best), 0.0) / clips)
        return value >= best - self.options.standard_errors * error

    @torch.no_grad()
    def keep(self, model: nn.Module) -> None:
        """Store the model's trainable weights, in the memory of the CPU."""
        for name, value in trainable(model).items():
            if name in self._weights:
                self._weights[name].copy_(value)
            else:
                self._weights[name] = value.to("cpu", copy=True)

    @torch.no_grad()
    def copy_to(self, model: nn.Module, average: WeightAverage | None) -> None:
        """Replace the model's weights, and their average, by the best ones, if there are any."""
        if not self._weights:
            return
        for name, value in trainable(model).items():
            value.copy_(self._weights[name])
        if average is not None:
            average.replace(model)

    def save(self, folder: Path) -> None:
        """Write weights and record into a training checkpoint."""
        record = json.dumps(asdict(self.record))
        save_file(self._weights, folder / BEST_FILE, metadata={"record": record})
        apply_default_mode(folder / BEST_FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        with safe_open(folder / BEST_FILE, framework="pt") as stored:
            values: dict[str, Any] = json.loads(stored.metadata()["record"])
            names = {field.name for field in fields(Record)}
            self.record = Record(**{name: value for name, value in values.items() if name in names})
            self._weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
