"""Metrics as plain functions and as local `evaluate` modules, and the choice between them by the kind of task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .calibration import expected_calibration_error, probabilities
from .ranking import class_report, summarise

#: problem type -> name of its main metric.
MAIN_METRIC = {"single_label_classification": "accuracy", "multi_label_classification": "mAP"}
#: problem type -> what `metrics_for` gives, the names of numbers.
METRIC_NAMES = {
    "single_label_classification": ("accuracy", "ECE"),
    "multi_label_classification": ("mAP", "mAP_classes", "mAUC", "mAUC_classes", "d_prime"),
}


def metrics_for(problem_type: str) -> Callable[[Any], dict[str, float]]:
    """The Trainer's `compute_metrics` for a problem type: logits and labels in, `{name: value}` out.

    Single-label: accuracy and ECE. Multi-label: mAP, mAUC, d_prime, and the number of classes in the means.
    """
    return _METRICS[problem_type]


def _single_label(prediction: Any) -> dict[str, float]:
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    scores = probabilities(logits, "single_label_classification")
    accuracy = float(np.mean(logits.argmax(axis=-1) == labels))
    return {"accuracy": accuracy, "ECE": expected_calibration_error(scores, labels)}


def _multi_label(prediction: Any) -> dict[str, float]:
    return summarise(class_report(prediction.predictions, prediction.label_ids))


_METRICS = {"single_label_classification": _single_label, "multi_label_classification": _multi_label}
