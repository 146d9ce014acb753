"""All metrics of a model's logits, computed through the local `evaluate` modules of this folder.

Every process computes its own numbers in memory: nothing is downloaded, no file or lock is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import error
from ..task import Task
from .accuracy import Accuracy
from .calibration import log_loss
from .calibration_error import CalibrationError
from .d_prime import DPrime
from .decisions import decide, decision_report, label_thresholds
from .mean_average_precision import MeanAveragePrecision
from .mean_roc_auc import MeanRocAuc
from .per_class import PerClass
from .ranking import COLUMNS

#: Modules that summarise a class report, in the order of the results.
_SUMMARIES = (MeanAveragePrecision, MeanRocAuc, DPrime)


def all_metrics(
    logits: np.ndarray, targets: np.ndarray, task: Task, temperature: float = 1.0
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return all metrics of logits, and the report by class.

    Args:
        logits: `(clips, labels)`.
        targets: class indices `(clips,)` or tags `(clips, labels)`, as from `Task.targets`.
        task: single-label or multi-label. Single-label classes are ranked one against the rest.
        temperature: divides the logits before softmax or sigmoid.

    Returns:
        Metrics by name (`NLL` in nats, see `log_loss`), and arrays `(labels,)` as from `class_report`.
    """
    scores = task.scores(logits, temperature)
    metrics = {} if task is Task.MULTI_LABEL else _accuracy(scores, targets)
    ranking_metrics, classes = _ranking_metrics(scores, as_tags(targets, scores.shape[1], task))
    metrics |= ranking_metrics | _calibration_error(scores, targets, task)
    metrics["NLL"] = log_loss(logits, targets, temperature)
    return metrics, classes


def class_figures(
    logits: np.ndarray,
    targets: np.ndarray,
    task: Task,
    ranked: dict[str, np.ndarray],
    *,
    temperature: float = 1.0,
    thresholds: Any = None,
) -> dict[str, np.ndarray]:
    """Return what tables and cards show of each class, arrays `(labels,)` by column.

    `positives` (clips), for multi-label the `threshold` of the decisions, `predicted`, `precision`, `recall` and `F1`
    of the decisions (`decision_report`), `AP` and `AUC`.

    Args:
        logits: `(clips, labels)`.
        targets: as for `all_metrics`.
        task: single-label or multi-label.
        ranked: the report by class of `all_metrics`.
        temperature: divides the logits.
        thresholds: of a configuration; None for 0.5 (multi-label).
    """
    count = logits.shape[1]
    decided = decide(task.scores(logits, temperature), task, thresholds)
    is_multi_label = task is Task.MULTI_LABEL
    used = {"threshold": label_thresholds(thresholds, count)} if is_multi_label else {}
    return {
        "positives": ranked["positives"].astype(int),
        **used,
        **decision_report(decided, as_tags(targets, count, task)),
        **{name: ranked[name] for name in ("AP", "AUC")},
    }


def as_tags(targets: np.ndarray, num_labels: int, task: Task) -> np.ndarray:
    """Return targets as tags `(clips, num_labels)`, which multi-label targets already are."""
    return targets if task is Task.MULTI_LABEL else np.arange(num_labels) == targets[:, None]


def single_label_metrics(prediction: Any) -> dict[str, float]:
    """Return accuracy and ECE of a Trainer's `EvalPrediction`."""
    logits = np.asarray(prediction.predictions)
    targets = np.asarray(prediction.label_ids)
    accuracy = _accuracy(logits, targets)
    scores = Task.SINGLE_LABEL.scores(logits)
    return {**accuracy, **_calibration_error(scores, targets, Task.SINGLE_LABEL)}


def multi_label_metrics(prediction: Any) -> dict[str, float]:
    """Return mAP, mAUC and d-prime of a Trainer's `EvalPrediction`."""
    return _ranking_metrics(prediction.predictions, prediction.label_ids)[0]


def _accuracy(scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        what = f"are {scores.shape} and {targets.shape}"
        raise error(
            "E106", where="scores and references", what=what, fix="give (clips, classes) and (clips,)"
        )
    return Accuracy(keep_in_memory=True).compute(predictions=scores.argmax(axis=1), references=targets)


def _ranking_metrics(scores: np.ndarray, tags: np.ndarray) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Rank each class once, and summarise the ranking by each module."""
    by_class = PerClass(keep_in_memory=True).compute(prediction_scores=scores, references=tags)
    report = {name: np.array(by_class[name], dtype=np.float64) for name in COLUMNS}
    metrics: dict[str, float] = {}
    for module in _SUMMARIES:
        metrics |= module.summarize(report)
    del metrics["d_prime_classes"]  # equals `mAUC_classes`
    return metrics, report


def _calibration_error(scores: np.ndarray, targets: np.ndarray, task: Task) -> dict[str, float]:
    # with one class, a column of indices would be read as tags
    references = as_tags(targets, 1, task) if scores.shape[1] == 1 else targets
    return CalibrationError(keep_in_memory=True).compute(prediction_scores=scores, references=references)
