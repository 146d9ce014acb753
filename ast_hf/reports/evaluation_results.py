"""Results of an evaluation: metrics and calibration of each model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import plain_values
from ..metrics.calibration import BINS
from ..printing import printable
from ..task import Task
from ..versions import result_versions
from .verdict import Verdict

#: Name of the ensemble among the outcomes.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Calibration:
    """Temperature and thresholds fitted for one model, and their effect.

    Attributes:
        fitted_on: name of the split.
        temperature: divisor of the logits.
        thresholds: lowest score at which each label is predicted; multi-label only.
        without_positive: number of labels without a clip in that split, whose threshold is 0.5.
        before: `{split: {"ECE", "NLL"}}` with the stored calibration; for multi-label also the mean `"F1"`.
        after: the same with the fitted calibration.
    """

    fitted_on: str
    temperature: float
    thresholds: list[float] | None
    without_positive: int
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """Results of one model, of the scores and decisions that its checkpoint makes after the evaluation.

    Attributes:
        metrics: by name.
        classes: arrays `(labels,)` by name: `positives` (clips); `predicted`, `precision`, `recall` and `F1` of the
            decisions (`decision_report`), for multi-label at the `threshold`; `AP`, `AUC`; and those of `best_`, of
            the threshold that is best on the split `best_on`.
        calibration: fitted in this evaluation, or None.
        temperature: divisor of the logits in all of these, 1 without a stored one.
        best_on: split of the figures of `best_`. They are optimistic there, and say nothing about other splits.
        before: metrics with the calibration that was stored before; None unless the fitted one was stored.
    """

    metrics: dict[str, float]
    classes: dict[str, np.ndarray]
    calibration: Calibration | None = None
    temperature: float = 1.0
    best_on: str = ""
    before: dict[str, float] | None = None

    @property
    def as_member(self) -> dict[str, float]:
        """Metrics of the copy in a saved ensemble, which keeps the calibration of before."""
        return self.metrics if self.before is None else self.before


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_checkpoints`.

    Attributes:
        folder: folder of the files.
        source: the data set.
        split: the evaluated split.
        problem_type: the models' task.
        labels: names, in the order of all per-class results: the first checkpoint's `id2label`.
        clips: number of evaluated clips.
        checkpoints: names as in the call.
        outcomes: by checkpoint, and under `"ensemble"` and `"average"` if those were evaluated.
        versions: of the packages that affect results.
        verdict: the main outcome beside logistic regression, if a training split could be read; None for results
            that were not judged.
        device: where the models computed.
        precision: of their arithmetic: `"float32"`, `"bfloat16"`, `"float16"` or `"int8"`.
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
    sound: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    device: str = "cpu"
    precision: str = "float32"

    @property
    def main(self) -> str:
        """Name of the outcome in the pictures: the ensemble's, or the only checkpoint's."""
        return ENSEMBLE if ENSEMBLE in self.outcomes else self.checkpoints[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json; NaN and infinities become None."""
        names = ("source", "split", "problem_type", "clips", "checkpoints", "versions", "sound")
        calibrations = {
            model: asdict(outcome.calibration)
            for model, outcome in self.outcomes.items()
            if outcome.calibration
        }
        return plain_values(
            {
                **{name: getattr(self, name) for name in names},
                "main_metric": Task(self.problem_type).main_metric,
                "metrics": {name: outcome.metrics for name, outcome in self.outcomes.items()},
                "temperature": {name: outcome.temperature for name, outcome in self.outcomes.items()},
                "calibration_error_bins": BINS,
                "calibration": calibrations,
                "labels": self.labels,
                "verdict": None if self.verdict is None else self.verdict.to_dict(),
                "device": self.device,
                "precision": self.precision,
            }
        )

    def table(self) -> str:
        """Return text: the metrics, a line for each model, then the effect of calibration."""
        columns = [name for name in self.outcomes[self.main].metrics if not name.endswith("_classes")]
        titles = {model: printable(model) for model in self.outcomes}
        first = max(map(len, (*titles.values(), "model")))
        lines = [f"{'model':{first}}  " + "  ".join(f"{name:>8}" for name in columns)]
        for model, outcome in self.outcomes.items():
            lines.append(
                f"{titles[model]:{first}}  " + "  ".join(f"{outcome.metrics[name]:8.4f}" for name in columns)
            )
        lines.append("")
        place = f"classes, pictures and numbers are in {printable(self.folder)}"
        lines.append(f"{self.clips} clips of {printable(self.split)}; {place}")
        lines.append(f"computed on {self.device} in {self.precision}")
        for model, outcome in self.outcomes.items():
            lines += _format_calibration(model, outcome.calibration, is_stored=outcome.before is not None)
        return "\n".join(lines)


def _format_calibration(model: str, calibration: Calibration | None, *, is_stored: bool) -> list[str]:
    if calibration is None:
        return []
    state = "stored: the table above is with it" if is_stored else "not stored: the table above is without it"
    fitted = f"temperature {calibration.temperature:.4g}, fitted on {printable(calibration.fitted_on)}"
    lines = [f"{printable(model)}: {fitted}, {state}"]
    for split, before in calibration.before.items():
        after = calibration.after[split]
        changes = [f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in before]
        lines.append(f"  {printable(split)}: {', '.join(changes)}")
    return lines
