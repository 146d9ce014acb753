"""Metrics as local `evaluate` modules, the functions they are made of, and the choice between them by task.

Each metric has its file, since `evaluate.load(path)` loads one class per file. The Trainer and
`ast-hf evaluate` compute through these classes (`summary.py`), without network and without files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..task import Task

#: task -> names of the values that `metrics_for` computes.
METRIC_NAMES = {
    Task.SINGLE_LABEL: ("accuracy", "ECE"),
    Task.MULTI_LABEL: ("mAP", "mAP_classes", "mAUC", "mAUC_classes", "d_prime"),
}


def metrics_for(problem_type: str) -> Callable[[Any], dict[str, float]]:
    """Return the Trainer's `compute_metrics` for a problem type: from logits and labels to `{name: value}`.

    Single-label: accuracy and ECE. Multi-label: mAP, mAUC, d_prime, and the number of classes in the means.
    """
    # imports `evaluate`, which the reading of recipes does not need
    from .summary import multi_label_metrics, single_label_metrics

    return multi_label_metrics if Task(problem_type) is Task.MULTI_LABEL else single_label_metrics
