"""Main metric of one split after each epoch of a run: the curve, its final and its best value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Prefix in the Trainer's log of the validation split, and of another split that is evaluated while training.
VALIDATION_PREFIX = "eval"
WATCHED_PREFIX = "test"


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
