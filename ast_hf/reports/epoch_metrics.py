"""What a split said after each epoch of a run: its curve, the final epoch's number, and the best one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: How the Trainer's log names what the validation split says, and what a split says that is watched beside it.
VALIDATION_PREFIX, WATCHED_PREFIX = "eval", "test"


@dataclass(frozen=True)
class Curve:
    """The main metric of a split over a run.

    Attributes:
        epochs: when it was evaluated, in epochs from 0.
        values: what was found, higher is better.
    """

    epochs: list[float]
    values: list[float]

    @classmethod
    def from_log(cls, history: list[dict[str, Any]], prefix: str, metric: str) -> Curve | None:
        """From the Trainer's `state.log_history`; None where nothing was watched."""
        found = [
            (round(entry["epoch"], 6), entry[f"{prefix}_{metric}"])
            for entry in history
            if f"{prefix}_{metric}" in entry
        ]
        return cls([epoch for epoch, _ in found], [value for _, value in found]) if found else None

    @property
    def best(self) -> int:
        """Which evaluation was the best, the first of several that are."""
        return max(range(len(self.values)), key=self.values.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """Plain values. `best` was chosen on the very clips it is measured on, so it overstates."""
        final, best = ({"epoch": self.epochs[place], "value": self.values[place]} for place in (-1, self.best))
        return {"epochs": self.epochs, "values": self.values, "final": final, "best": best}
