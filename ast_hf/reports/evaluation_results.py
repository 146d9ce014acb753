"""Results of an evaluation: metrics of each model, and what was fitted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import plain_values
from ..metrics import MAIN_METRIC
from ..metrics.calibration import BINS
from ..versions import result_versions

#: Name of the ensemble among the outcomes.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one model.

    Attributes:
        fitted_on: the split.
        temperature: what logits are to be divided by.
        thresholds: the score from which on each label counts as present; multi-label only.
        without_positive: labels that had no clip in that split, and got the threshold 0.5.
        before: `{split: {"ECE", "NLL"}}`, and the mean `"F1"` of the classes for multi-label, as the checkpoint was.
        after: the same with what was fitted.
    """

    fitted_on: str
    temperature: float
    thresholds: list[float] | None
    without_positive: int
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """One model's results: `metrics` by name, `classes` as `class_report` gives them, and what was fitted."""

    metrics: dict[str, float]
    classes: dict[str, np.ndarray]
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_checkpoints` found.

    Attributes:
        folder: where the files are.
        source: the data set.
        split: its part that was evaluated.
        problem_type: how the models' logits were read.
        labels: names, in the order of all per-class results: the first checkpoint's `id2label`.
        clips: how many were evaluated.
        checkpoints: as they were given.
        outcomes: by checkpoint, and under `"ensemble"` and `"average"` where those were made.
        versions: of the packages that matter.
    """

    folder: Path
    source: str
    split: str
    problem_type: str
    labels: list[str]
    clips: int
    checkpoints: list[str]
    outcomes: dict[str, Outcome]
    versions: dict[str, str] = field(default_factory=result_versions)

    @property
    def main(self) -> str:
        """The name of the outcome that the pictures show: the ensemble's, or the only checkpoint's."""
        return ENSEMBLE if ENSEMBLE in self.outcomes else self.checkpoints[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for results.json; what is not defined (no class had a positive) or infinite is None."""
        names = ("source", "split", "problem_type", "clips", "checkpoints", "versions")
        fitted = {name: outcome.calibration for name, outcome in self.outcomes.items() if outcome.calibration}
        return plain_values(
            {
                **{name: getattr(self, name) for name in names},
                "main_metric": MAIN_METRIC[self.problem_type],
                "metrics": {name: outcome.metrics for name, outcome in self.outcomes.items()},
                "calibration_error_bins": BINS,
                "calibration": {name: asdict(calibration) for name, calibration in fitted.items()},
                "labels": self.labels,
            }
        )

    def table(self) -> str:
        """The metrics, a line for each model, and below them what fitting changed."""
        shown = [name for name in self.outcomes[self.main].metrics if not name.endswith("_classes")]
        first = max(map(len, (*self.outcomes, "model")))
        lines = [f"{'model':{first}}  " + "  ".join(f"{name:>8}" for name in shown)]
        for model, outcome in self.outcomes.items():
            lines.append(f"{model:{first}}  " + "  ".join(f"{outcome.metrics[name]:8.4f}" for name in shown))
        lines += ["", f"{self.clips} clips of {self.split}; classes, pictures and numbers are in {self.folder}"]
        for model, outcome in self.outcomes.items():
            lines += _told(model, outcome.calibration)
        return "\n".join(lines)


def _told(model: str, calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    lines = [f"{model}: temperature {calibration.temperature:.4g}, fitted on {calibration.fitted_on}"]
    for split, before in calibration.before.items():
        after = calibration.after[split]
        lines.append(f"  {split}: " + ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in before))
    return lines
