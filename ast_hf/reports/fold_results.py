"""Results of a cross-validation: each fold, mean and spread."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..recipe.recipe import Recipe
from ..versions import result_versions
from .epoch_metrics import Curve

#: The split that a fold is tested on.
TEST_SPLIT = "test"


@dataclass(frozen=True)
class Fold:
    """One fold's run.

    Attributes:
        name: the fold that was tested on.
        folder: its run, a checkpoint with card, curves and results.
        clips: how many were tested on.
        training_clips: how many were trained on.
        curve: the main metric on the fold after each epoch.
        features: how waveforms became features; mean and std are those of the training clips, unless the recipe gives
            them.
        baseline: logistic regression's accuracy, None for multi-label data.
        chance: accuracy of the most frequent class, None for multi-label data.
        seconds: that training took.
        metric: the main metric's name.
    """

    name: str
    folder: str
    clips: int
    training_clips: int
    curve: Curve
    features: dict[str, Any]
    baseline: float | None
    chance: float | None
    seconds: float
    metric: str

    @classmethod
    def from_results(cls, name: str, folder: str, results: dict[str, Any]) -> Fold:
        """From what `Report.to_dict` gives."""
        curve = results["watched"][TEST_SPLIT]
        return cls(
            name=name,
            folder=folder,
            clips=results["clips"][TEST_SPLIT],
            training_clips=results["training_clips"],
            curve=Curve(curve["epochs"], curve["values"]),
            features=results["features"],
            baseline=results["baseline"].get(TEST_SPLIT),
            chance=results["chance"].get(TEST_SPLIT),
            seconds=results["seconds"],
            metric=results["metric"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        kept = ("name", "folder", "clips", "training_clips", "features", "baseline", "chance", "seconds")
        return {**{name: getattr(self, name) for name in kept}, **self.curve.to_dict()}


@dataclass(frozen=True)
class Spread:
    """A number of each fold, in the folds' order; `epoch` is the one after which it was measured, 0 where none was."""

    values: list[float]
    epoch: int = 0

    @property
    def mean(self) -> float:
        """Over the folds, each counting the same."""
        return statistics.mean(self.values)

    @property
    def standard_deviation(self) -> float:
        """Over the folds, of a sample (n - 1)."""
        return statistics.stdev(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        epoch = {"epoch": self.epoch} if self.epoch else {}
        return {**epoch, "mean": self.mean, "standard_deviation": self.standard_deviation, "values": self.values}


@dataclass(frozen=True)
class CrossValidation:
    """What `cross_validate` found.

    Attributes:
        recipe: what was done in each fold.
        folder: where the folds and files are.
        origin: where the folds come from, in words.
        folds: their runs.
    """

    recipe: Recipe
    folder: Path
    origin: str
    folds: list[Fold]

    @property
    def metric(self) -> str:
        """The main metric's name."""
        return self.folds[0].metric

    @property
    def epochs(self) -> list[Spread]:
        """The metric after each epoch."""
        by_epoch = zip(*(fold.curve.values for fold in self.folds), strict=True)
        return [Spread(list(values), epoch) for epoch, values in enumerate(by_epoch, start=1)]

    @property
    def final(self) -> Spread:
        """The result: after the last epoch."""
        return self.epochs[-1]

    @property
    def best(self) -> Spread:
        """After the one epoch whose mean over the folds is the highest, the first of several (the original's rule,
        `egs/esc50/get_esc_result.py`). It was chosen on the clips it is measured on, so it overstates.
        """
        return max(self.epochs, key=lambda spread: spread.mean)

    @property
    def baseline(self) -> Spread | None:
        """Logistic regression, fitted and tested on the same clips; None for multi-label data."""
        return _spread([fold.baseline for fold in self.folds])

    @property
    def chance(self) -> Spread | None:
        """The training clips' most frequent class; None for multi-label data."""
        return _spread([fold.chance for fold in self.folds])

    def by_method(self) -> dict[str, Spread]:
        """`"final"`, `"best"` and, where they were measured, `"baseline"` and `"chance"`."""
        found = {"final": self.final, "best": self.best, "baseline": self.baseline, "chance": self.chance}
        return {name: spread for name, spread in found.items() if spread is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for folds.json."""
        return {
            "metric": self.metric,
            "origin": self.origin,
            **{name: spread.to_dict() for name, spread in self.by_method().items()},
            "best_is": "chosen on the folds that it is measured on: it overstates; the result is final",
            "folds": [fold.to_dict() for fold in self.folds],
            "versions": result_versions(),
            "recipe": self.recipe.to_dict(),
        }


def _spread(values: list[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(known) if len(known) == len(values) else None
