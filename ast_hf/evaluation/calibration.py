"""Calibration of a model: fit temperature and thresholds on one split, measure their effect, store them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..files import write_text
from ..metrics.calibration import expected_calibration_error, fit_temperature, log_loss
from ..metrics.ranking import class_report
from ..reports.evaluation_results import Calibration
from ..task import Task

#: Threshold of a label without a fitted one: nothing was fitted, or the label has no clip in the split.
DEFAULT_THRESHOLD = 0.5


class Setting(NamedTuple):
    """Temperature that divides logits, and thresholds of scores, a label each."""

    temperature: float = 1.0
    thresholds: list[float] | None = None

    @classmethod
    def of_config(cls, config: ASTConfig | ASTEnsembleConfig) -> Setting:
        """Return the stored calibration of a checkpoint."""
        return cls(config.temperature or 1.0, config.thresholds)


def calibrate(
    logits: dict[str, np.ndarray], targets: dict[str, np.ndarray], task: Task, setting: Setting, fit_on: str
) -> Calibration:
    """Fit a calibration on the split `fit_on`, and measure it and the stored one (`setting`) on every split.

    `logits` and `targets` are by split: `(clips, labels)`, and as `true_labels` returns them.
    """
    fitted, missing = fit(logits[fit_on], targets[fit_on], task, start=setting.temperature)
    splits = [fit_on, *(name for name in logits if name != fit_on)]
    before = {name: _measure(logits[name], targets[name], task, setting) for name in splits}
    after = {name: _measure(logits[name], targets[name], task, fitted) for name in splits}
    return Calibration(fit_on, fitted.temperature, fitted.thresholds, missing, before, after)


def fit(logits: np.ndarray, targets: np.ndarray, task: Task, *, start: float = 1.0) -> tuple[Setting, int]:
    """Fit a temperature and, for multi-label, each label's threshold of best F1.

    Args:
        logits: `(clips, labels)`.
        targets: as `true_labels` returns them.
        task: the model's.
        start: temperature from which the search starts.

    Returns:
        The setting, and the number of labels without a clip, whose threshold is 0.5.
    """
    temperature = fit_temperature(logits, targets, start=start)
    if task is not Task.MULTI_LABEL:
        return Setting(temperature), int(np.sum(np.bincount(targets, minlength=logits.shape[1]) == 0))
    scores = task.scores(logits, temperature)
    thresholds = class_report(scores, targets)["threshold"]
    lowest = scores.min(axis=0)
    # a threshold that accepts all clips moves halfway to 0, so that rounding cannot exclude one
    thresholds = np.where(thresholds <= lowest, lowest / 2, thresholds)
    undefined = np.isnan(thresholds)
    return Setting(temperature, np.where(undefined, DEFAULT_THRESHOLD, thresholds).tolist()), int(
        undefined.sum()
    )


def _measure(logits: np.ndarray, targets: np.ndarray, task: Task, setting: Setting) -> dict[str, float]:
    """Return the metrics that depend on temperature and thresholds: ECE, NLL and, for multi-label, F1."""
    scores = task.scores(logits, setting.temperature)
    values = {
        "ECE": expected_calibration_error(scores, targets),
        "NLL": log_loss(logits, targets, setting.temperature),
    }
    if task is Task.MULTI_LABEL:
        thresholds = DEFAULT_THRESHOLD if setting.thresholds is None else setting.thresholds
        values["F1"] = mean_f1(scores, targets, thresholds)
    return values


def mean_f1(scores: np.ndarray, tags: np.ndarray, thresholds: Any) -> float:
    """Return the mean F1, in [0, 1], over classes that have a positive; NaN without one.

    Scores and bool `tags` are `(clips, classes)`; `thresholds` is a number or `(classes,)`. A class is predicted
    if its score is at least the threshold.
    """
    predicted = scores >= np.asarray(thresholds)
    with_positive = tags.any(axis=0)
    if not with_positive.any():
        return math.nan
    hits = (predicted & tags).sum(axis=0)[with_positive]
    totals = (predicted.sum(axis=0) + tags.sum(axis=0))[with_positive]
    return float((2 * hits / totals).mean())


def store_calibration(
    folder: str | Path, calibration: Calibration, task: Task, columns: Sequence[int]
) -> None:
    """Write a calibration into a checkpoint's `config.json`, where the pipeline reads it.

    `columns` are the labels' indices in this checkpoint, in the order of the thresholds. Scores depend on the
    task, so it is written as `problem_type` if the configuration has none.
    """
    path = Path(folder) / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["temperature"] = calibration.temperature
    content["thresholds"] = None
    if calibration.thresholds is not None:
        by_index = dict(zip(columns, calibration.thresholds, strict=True))
        content["thresholds"] = [by_index[index] for index in range(len(by_index))]
    content["problem_type"] = content.get("problem_type") or task.value
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
