"""Tasks: single-label, multi-label or regression, with the targets, scores and metric that follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

from .paper_data_sets import DATA_SETS, class_names


class Task(str, Enum):
    """Kind of target that a model predicts. A member equals its name in `config.problem_type`.

    | member | targets | scores | loss | main metric |
    |---|---|---|---|---|
    | `SINGLE_LABEL` | one class index per clip | softmax | cross-entropy | accuracy |
    | `MULTI_LABEL` | 0/1 tags per clip | sigmoid | binary cross-entropy | mAP |
    | `REGRESSION` | numbers per clip | the logits | mean squared error | none |
    """

    SINGLE_LABEL = "single_label_classification"
    MULTI_LABEL = "multi_label_classification"
    REGRESSION = "regression"

    @classmethod
    def of_config(cls, config: Any) -> Task | None:
        """Return the task of a model configuration, or None if it cannot be decided.

        Without a `problem_type`, one output means regression, as in the loss. The AudioSet checkpoints on the
        Hub have no `problem_type` although their 527 tags are not exclusive; they are recognised by their
        labels.
        """
        if config.problem_type is not None:
            return next((task for task in cls if task == config.problem_type), None)
        if config.num_labels == 1:
            return cls.REGRESSION
        if config.num_labels != DATA_SETS["audioset"].labels:
            return None
        labels = frozenset(map(_letters, config.id2label.values()))
        return cls.MULTI_LABEL if labels == _audioset_letters() else None

    def __str__(self) -> str:
        return self.value

    @property
    def display_name(self) -> str:
        """Name in text: `"single-label"`, `"multi-label"` or `"regression"`."""
        return self.value.removesuffix("_classification").replace("_", "-")

    @property
    def label_column(self) -> str:
        """Column of a split that holds the labels: `"labels"` for several per clip, else `"label"`."""
        return "labels" if self is Task.MULTI_LABEL else "label"

    @property
    def main_metric(self) -> str:
        """Name of the metric that summarises a result; KeyError for a regression, which has none."""
        return _MAIN_METRICS[self]

    def scores(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Return float64 scores of logits `(clips, classes)` divided by a temperature.

        Sigmoid for multi-label and softmax for single-label, both in [0, 1]; a regression keeps its numbers.
        """
        scaled = np.asarray(logits, dtype=np.float64) / temperature
        if self is Task.REGRESSION:
            return scaled
        if self is Task.MULTI_LABEL:
            return np.exp(-np.logaddexp(0.0, -scaled))
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def targets(self, rows: Sequence[Sequence[int]], num_labels: int) -> np.ndarray:
        """Return the targets of clips from their lists of label indices.

        Indices `(clips,)`, int64; for multi-label, tags `(clips, num_labels)`, bool.
        """
        if self is not Task.MULTI_LABEL:
            return np.array([row[0] for row in rows], dtype=np.int64)
        tags = np.zeros((len(rows), num_labels), dtype=bool)
        for tag, row in zip(tags, rows, strict=True):
            tag[list(row)] = True
        return tags


_MAIN_METRICS = {Task.SINGLE_LABEL: "accuracy", Task.MULTI_LABEL: "mAP"}


@cache
def _audioset_letters() -> frozenset[str]:
    return frozenset(map(_letters, class_names("audioset")))


def _letters(label: str) -> str:
    """Return a label without case, spaces and punctuation, in which copies of the AudioSet list differ."""
    return re.sub(r"[\W_]+", "", label.lower())
