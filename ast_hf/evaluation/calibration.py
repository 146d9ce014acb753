"""Calibration of a model: fit temperature and thresholds on one split, measure their effect, store them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..adapters.lora import ADAPTER_FOLDER
from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..files import write_text
from ..metrics.calibration import expected_calibration_error, fit_temperature, log_loss
from ..metrics.decisions import DEFAULT_THRESHOLD, mean_f1
from ..metrics.ranking import class_report
from ..reports.evaluation_results import Calibration
from ..reports.stored_calibration import calibration_record, note_calibration
from ..task import Task

_CONFIG = "config.json"


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
    thresholds = class_report(scores, targets)["best_threshold"]
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
        values["F1"] = mean_f1(scores, targets, setting.thresholds)
    return values


def store_calibration(
    folder: str | Path, calibration: Calibration, task: Task, columns: Sequence[int], source: str
) -> dict[str, Any]:
    """Write a calibration into a checkpoint's `config.json`, where the pipeline reads it, and into its card.

    The run's adapter in the folder has the same outputs, and gets it too: a merge takes it from there. Scores depend on
    the task, so it is written as `problem_type` if the configuration has none.

    Args:
        folder: the checkpoint.
        calibration: the fitted values.
        task: of the model.
        columns: the labels' indices in this checkpoint, in the order of the thresholds.
        source: the data set of the fit.

    Returns:
        What was noted in the checkpoint's results.json, see `calibration_record`.
    """
    folder = Path(folder)
    thresholds = None
    if calibration.thresholds is not None:
        by_index = dict(zip(columns, calibration.thresholds, strict=True))
        thresholds = [by_index[index] for index in range(len(by_index))]
    record = calibration_record(calibration, thresholds, source)
    content = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    for path in (folder / _CONFIG, folder / ADAPTER_FOLDER / _CONFIG):
        if path.is_file():
            _write_fields(path, content.get("id2label"), calibration.temperature, thresholds, task)
    names = {int(index): label for index, label in (content.get("id2label") or {}).items()}
    labels = [label for _, label in sorted(names.items())]
    note_calibration(folder, record, labels)
    return record


def _write_fields(
    path: Path, labels: dict[str, str] | None, temperature: float, thresholds: list[float] | None, task: Task
) -> None:
    """Write the fields into a config.json with these labels; one with others is left as it is."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("id2label") != labels:
        return
    content["temperature"] = temperature
    content["thresholds"] = thresholds
    content["problem_type"] = content.get("problem_type") or task.value
    # labels stay in their order: sorted as text, "10" would come before "2"
    write_text(path, json.dumps(dict(sorted(content.items())), indent=2) + "\n")
