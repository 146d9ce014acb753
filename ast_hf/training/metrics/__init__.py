"""Metrics as local `evaluate` modules, and the choice between them by the kind of task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: problem type -> name of its main metric.
MAIN_METRIC = {"single_label_classification": "accuracy", "multi_label_classification": "mAP"}


def metrics_for(problem_type: str) -> Callable[[Any], dict[str, float]]:
    """The Trainer's `compute_metrics` for a problem type: logits and labels in, `{name: value}` out."""
    return {"single_label_classification": _accuracy, "multi_label_classification": _average_precision}[problem_type]


def _accuracy(prediction: Any) -> dict[str, float]:
    from .accuracy import Accuracy

    return Accuracy(keep_in_memory=True).compute(
        predictions=np.argmax(prediction.predictions, axis=-1), references=prediction.label_ids
    )


def _average_precision(prediction: Any) -> dict[str, float]:
    from .mean_average_precision import MeanAveragePrecision

    return MeanAveragePrecision(keep_in_memory=True).compute(
        prediction_scores=prediction.predictions, references=prediction.label_ids
    )
