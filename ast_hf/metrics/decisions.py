"""Decisions from scores, with precision, recall and F1 of each class: the same ones in tables, cards and files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..task import Task

#: Threshold of a label without a fitted one: a sigmoid of 0.5 is a logit of 0, where both answers are equally likely.
DEFAULT_THRESHOLD = 0.5
#: Columns of a decision report, in order.
DECISION_COLUMNS = ("predicted", "precision", "recall", "F1")


def label_thresholds(thresholds: Any, num_labels: int) -> np.ndarray:
    """Return a threshold for each label, `(num_labels,)`: those of a configuration, 0.5 if it has none."""
    if thresholds is None:
        return np.full(num_labels, DEFAULT_THRESHOLD)
    return np.broadcast_to(np.asarray(thresholds, dtype=np.float64), num_labels)


def decide(scores: np.ndarray, task: Task, thresholds: Any = None) -> np.ndarray:
    """Return the labels that the pipeline would choose for each clip, bool `(clips, labels)`.

    Single-label clips have their best label, of several equal ones the first. Multi-label clips have every label that
    scores at least its threshold.

    Args:
        scores: `(clips, labels)`, in [0, 1].
        task: single-label or multi-label.
        thresholds: for multi-label a number, or one for each label; None for 0.5.
    """
    count = scores.shape[1]
    if task is Task.MULTI_LABEL:
        return scores >= label_thresholds(thresholds, count)
    return np.arange(count) == scores.argmax(axis=1)[:, None]


def decision_report(decided: np.ndarray, tags: np.ndarray) -> dict[str, np.ndarray]:
    """Return the number of clips that each label is chosen for, with precision, recall and F1.

    Args:
        decided: as `decide` returns them, bool `(clips, labels)`.
        tags: the true labels, bool `(clips, labels)`.

    Returns:
        Arrays `(labels,)` under the names of `DECISION_COLUMNS`. Precision is NaN for a label that is never chosen,
        recall for one without clips, F1 for one that is neither chosen nor true.
    """
    hits = (decided & tags).sum(axis=0)
    predicted = decided.sum(axis=0)
    true = tags.sum(axis=0)
    with np.errstate(invalid="ignore"):
        values = (predicted, hits / predicted, hits / true, 2 * hits / (predicted + true))
    return dict(zip(DECISION_COLUMNS, values, strict=True))


def mean_f1(scores: np.ndarray, tags: np.ndarray, thresholds: Any) -> float:
    """Return the mean F1 of multi-label decisions, in [0, 1], over classes that have a positive; NaN without one.

    Scores and bool `tags` are `(clips, classes)`; `thresholds` are as for `decide`.
    """
    f1 = decision_report(decide(scores, Task.MULTI_LABEL, thresholds), tags)["F1"]
    with_positive = tags.any(axis=0)
    return float(f1[with_positive].mean()) if with_positive.any() else math.nan
