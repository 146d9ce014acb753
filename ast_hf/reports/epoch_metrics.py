"""Main metric of one split after each epoch of a run: the curve, its final and its best value, and the one kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Prefix in the Trainer's log of the validation split, and of another split that is evaluated while training.
VALIDATION_PREFIX = "eval"
WATCHED_PREFIX = "test"


@dataclass(frozen=True)
class KeptEvaluation:
    """The evaluation whose weights a run has kept, and how the run ended.

    Attributes:
        split: name of the split that was evaluated.
        clips: number of its clips.
        metric: name of the metric that was compared.
        value: the metric; optimistic, since it was chosen on the clips of the split.
        loss: the loss; None if it was not measured.
        step: optimizer step of the evaluation.
        epoch: its epoch; None for a stream.
        evaluations: number of all evaluations.
        stopped_early: True if `stopping.patience` ended the run.
        trained_steps: number of optimizer steps of the run.
        planned_steps: number of steps of its full length.
        planned_epochs: number of epochs of its full length; None for a stream.
        best: the best value of the metric.
        standard_errors: `stopping.standard_errors` of the recipe: the latest evaluation so close to `best` is kept.
    """

    split: str
    clips: int
    metric: str
    value: float
    loss: float | None
    step: int
    epoch: float | None
    evaluations: int
    stopped_early: bool
    trained_steps: int
    planned_steps: int
    planned_epochs: float | None
    best: float | None = None
    standard_errors: float = 0.0

    def __str__(self) -> str:
        """Return the choice in one or two sentences."""
        text = f"Kept the weights after {self._when(self.step)}, {self._rank()} of {self.evaluations} evaluations on "
        text += f"{self.split} ({self.clips} clips): {self.metric} {self.value:.3f}"
        if self.loss is not None and self.metric != "loss":
            text += f", loss {self.loss:.3f}"
        if not self.stopped_early:
            return f"{text}."
        length = f"{self.planned_steps} steps"
        if self.planned_epochs is not None:
            length = f"{self.planned_epochs:g} epochs"
        return f"{text}. Training stopped early, after {self._when(self.trained_steps)} of {length}."

    def _rank(self) -> str:
        """Return why the evaluation was kept."""
        if not self.standard_errors or self.best is None or self.best == self.value:
            return "the best"
        errors = (
            "a standard error" if self.standard_errors == 1 else f"{self.standard_errors:g} standard errors"
        )
        return f"the latest within {errors} of the best ({self.best:.3f})"

    def _when(self, step: int) -> str:
        """Return an optimizer step as an epoch, or as a step of a stream."""
        if self.planned_epochs is None:
            return f"step {step}"
        return f"epoch {round(step * self.planned_epochs / self.planned_steps, 2):g}"


@dataclass(frozen=True)
class Curve:
    """Main metric of a split over a run.

    Attributes:
        epochs: when it was evaluated, in epochs from 0.
        values: the metric, higher is better.
        clips: number of clips of the split; None if unknown.
    """

    epochs: list[float]
    values: list[float]
    clips: int | None = None

    @classmethod
    def from_log(cls, history: list[dict[str, Any]], prefix: str, metric: str) -> Curve | None:
        """Return the curve in the Trainer's `state.log_history`, or None if the split was never evaluated."""
        key = f"{prefix}_{metric}"
        entries = [entry for entry in history if key in entry]
        if not entries:
            return None
        epochs = [round(entry["epoch"], 6) for entry in entries]
        return cls(epochs, [entry[key] for entry in entries], entries[-1].get(f"{prefix}_samples"))

    @property
    def best(self) -> int:
        """Index of the best evaluation, the first of several equal ones."""
        return max(range(len(self.values)), key=self.values.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `best` is optimistic, since it was chosen on the clips of the split."""
        return {
            "epochs": self.epochs,
            "values": self.values,
            "final": self._evaluation(-1),
            "best": self._evaluation(self.best),
        }

    def _evaluation(self, index: int) -> dict[str, float]:
        return {"epoch": self.epochs[index], "value": self.values[index]}
