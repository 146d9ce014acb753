"""Results of a cross-validation: each fold, mean and standard deviation."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import plain_values
from ..recipe.recipe import Recipe
from ..versions import result_versions
from .epoch_metrics import Curve
from .verdict import Verdict
from .verdict_facts import Comparison
from .verdict_of_folds import judge_folds

#: The split that a fold is tested on.
TEST_SPLIT = "test"


@dataclass(frozen=True)
class Fold:
    """One fold's run.

    Attributes:
        name: name of the test fold.
        folder: folder of the run, a checkpoint with card, curves and results.
        clips: number of test clips.
        training_clips: number of training clips.
        curve: the main metric on the fold after each epoch.
        features: fields of the feature extractor; mean and std are measured on the training clips unless the
            recipe sets them.
        baseline: accuracy or mAP of logistic regression; None if it was not measured.
        chance: accuracy of the most frequent class; None for multi-label data.
        seconds: wall time of the training.
        metric: name of the main metric.
        comparison: the final epoch beside the baseline, clip by clip; None in results of older versions.
        findings: names of what stood out in the run, see `Verdict`.
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
    comparison: Comparison | None = None
    findings: tuple[str, ...] = ()

    @classmethod
    def from_results(cls, name: str, folder: str, results: dict[str, Any]) -> Fold:
        """Return the fold of a run from the content of its results.json."""
        curve = results["watched"][TEST_SPLIT]
        verdict = results.get("verdict") or {}
        splits = {one["split"]: one for one in verdict.get("comparisons", [])}
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
            comparison=Comparison.from_dict(splits[TEST_SPLIT]) if TEST_SPLIT in splits else None,
            findings=tuple(verdict.get("findings", ())),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("name", "folder", "clips", "training_clips", "features", "baseline", "chance", "seconds")
        return {**{name: getattr(self, name) for name in names}, **self.curve.to_dict()}


@dataclass(frozen=True)
class Spread:
    """Value of each fold, in the folds' order, with the epoch of the measurement; 0 if it has none."""

    values: list[float]
    epoch: int = 0

    @property
    def mean(self) -> float:
        """Mean over the folds, each with the same weight."""
        return statistics.mean(self.values)

    @property
    def standard_deviation(self) -> float:
        """Sample standard deviation over the folds (n - 1)."""
        return statistics.stdev(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        epoch = {"epoch": self.epoch} if self.epoch else {}
        return {
            **epoch,
            "mean": self.mean,
            "standard_deviation": self.standard_deviation,
            "values": self.values,
        }


@dataclass(frozen=True)
class CrossValidation:
    """Result of `cross_validate`.

    Attributes:
        recipe: the recipe of every fold.
        folder: folder of the folds and of folds.json.
        origin: source of the folds, in words.
        folds: runs of the folds.
    """

    recipe: Recipe
    folder: Path
    origin: str
    folds: list[Fold]

    @property
    def metric(self) -> str:
        """Name of the main metric."""
        return self.folds[0].metric

    @property
    def epochs(self) -> list[Spread]:
        """Metric after each epoch."""
        by_epoch = zip(*(fold.curve.values for fold in self.folds), strict=True)
        return [Spread(list(values), epoch) for epoch, values in enumerate(by_epoch, start=1)]

    @property
    def final(self) -> Spread:
        """Metric after the last epoch: the result."""
        return self.epochs[-1]

    @property
    def best(self) -> Spread:
        """Metric after the first epoch with the highest mean (the original's `egs/esc50/get_esc_result.py`).

        Optimistic, since the epoch is chosen on the test clips.
        """
        return max(self.epochs, key=lambda spread: spread.mean)

    @property
    def baseline(self) -> Spread | None:
        """Accuracy or mAP of logistic regression on the same folds; None if it was not measured."""
        return _make_spread([fold.baseline for fold in self.folds])

    @property
    def chance(self) -> Spread | None:
        """Accuracy of the most frequent training class; None for multi-label data."""
        return _make_spread([fold.chance for fold in self.folds])

    @property
    def verdict(self) -> Verdict:
        """The final epoch beside the baseline over all folds, in words."""
        return judge_folds(
            self.metric,
            values=self.final.values,
            baselines=None if self.baseline is None else self.baseline.values,
            comparisons=[fold.comparison for fold in self.folds],
            findings=[fold.findings for fold in self.folds],
            clips=sum(fold.clips for fold in self.folds),
            epochs=self.final.epoch,
        )

    def by_method(self) -> dict[str, Spread]:
        """Return `"final"`, `"best"` and, if measured, `"baseline"` and `"chance"`."""
        spreads = {"final": self.final, "best": self.best, "baseline": self.baseline, "chance": self.chance}
        return {name: spread for name, spread in spreads.items() if spread is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for folds.json."""
        return {
            "metric": self.metric,
            "origin": self.origin,
            **{name: spread.to_dict() for name, spread in self.by_method().items()},
            "best_is": "chosen on the folds that it is measured on: it overstates; the result is final",
            "folds": [fold.to_dict() for fold in self.folds],
            "versions": result_versions(),
            "recipe": self.recipe.to_dict(),
            "verdict": plain_values(self.verdict.to_dict()),
        }


def _make_spread(values: list[float | None]) -> Spread | None:
    measured = [value for value in values if value is not None]
    return Spread(measured) if len(measured) == len(values) else None
