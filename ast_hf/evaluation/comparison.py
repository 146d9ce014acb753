"""Comparison of a model with the logistic regression on the same clips, with intervals that fit their number."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from ..data.grouping import find_groups, read_groups
from ..errors import AstHfError
from ..metrics.intervals import (
    Difference,
    accuracy_difference,
    accuracy_interval,
    chance_average_precision,
    map_difference,
    map_interval,
)
from ..reports.verdict_facts import Comparison
from ..task import Task
from .baseline import baseline_metric

#: Where groups are that no column has.
_PATHS = "file names"


class ClipGroups(NamedTuple):
    """Group of each clip `(clips,)`, and where the groups are, in words."""

    values: np.ndarray
    place: str


def compare(
    name: str,
    task: Task,
    value: float,
    logits: np.ndarray,
    truth: np.ndarray,
    *,
    labels: list[str],
    baseline: np.ndarray | None = None,
    chance: float | None = None,
    groups: ClipGroups | None = None,
) -> Comparison:
    """Return the result of one split beside the baseline.

    Args:
        name: of the split.
        task: single-label or multi-label.
        value: main metric of the model.
        logits: of the model, or scores in the same order, `(clips, labels)`.
        truth: class indices `(clips,)` or tags `(clips, labels)`.
        labels: names of the labels.
        baseline: as from `baseline_answers`; None if it was not measured.
        chance: accuracy of the most frequent training class; for mAP that of a random order is computed.
        groups: of the clips, such as speakers; None if clips are independent.
    """
    values = None if groups is None else groups.values
    if task is Task.MULTI_LABEL:
        interval = map_interval(logits, truth, values)
        difference = None if baseline is None else map_difference(logits, baseline, truth, values)
        chance = chance_average_precision(truth.sum(axis=0), len(truth))
    else:
        right = logits.argmax(axis=1) == truth
        interval = accuracy_interval(right, values)
        difference = None if baseline is None else accuracy_difference(right, baseline == truth, values)
    measured = None if baseline is None else baseline_metric(baseline, truth, task)
    return _with_difference(
        Comparison(
            split=name,
            clips=len(truth),
            value=value,
            interval=(interval.low, interval.high),
            method=interval.method,
            chance=chance,
            baseline=measured,
            groups=0 if values is None else len(np.unique(values)),
            never=_never_answered(task, logits, truth, labels),
            grouped_by="" if groups is None else groups.place,
        ),
        difference,
    )


def _with_difference(comparison: Comparison, difference: Difference | None) -> Comparison:
    """Return the comparison with the difference from the baseline."""
    if difference is None:
        return comparison
    return replace(
        comparison,
        difference=(difference.interval.low, difference.interval.high),
        difference_method=difference.interval.method,
        model_only=difference.first_only,
        baseline_only=difference.second_only,
    )


def _never_answered(task: Task, logits: np.ndarray, truth: np.ndarray, labels: list[str]) -> tuple[str, ...]:
    """Return the labels with clips that are never the best one; none for multi-label, which has no best one."""
    if task is Task.MULTI_LABEL:
        return ()
    answered = set(logits.argmax(axis=1).tolist())
    return tuple(labels[index] for index in sorted(set(truth.tolist()) - answered))


def find_clip_groups(split: Any, column: str | None = None, pattern: str | None = None) -> ClipGroups | None:
    """Return the groups of the clips of a split: from a column, by a pattern in its paths, or found (`find_groups`).

    Clips of one speaker or recording are not independent, whether or not a recipe names their column. None for a
    stream, without groups, for one group, and if each clip is its own.
    """
    if not isinstance(split, Dataset):
        return None
    names: list[str] = []
    place = _PATHS
    if column is not None:
        if column in split.column_names:
            names = [repr(value) for value in split[column]]
            place = f"column {column!r}"
    elif pattern is not None:
        with suppress(AstHfError):  # paths of this split may have no match
            names = read_groups(split, pattern)
    else:
        found = find_groups(split)
        if found is not None:
            names = next(iter(found.values.values()))
            place = _PATHS if found.column is None else f"column {found.column!r}"
    return ClipGroups(np.array(names), place) if 1 < len(set(names)) < len(names) else None
