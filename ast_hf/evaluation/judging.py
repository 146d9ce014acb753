"""Verdict on an evaluation: the main outcome beside logistic regression on the training split of the same data."""

from __future__ import annotations

import math

import numpy as np
from datasets import Dataset

from ..data.splits import label_names, split_task
from ..errors import AstHfError
from ..inputs.clips import ClipInputs
from ..label_order import model_labels
from ..reports.verdict import Verdict, judge
from ..task import Task
from .baseline import baseline_answers, baseline_metric
from .comparison import compare, find_clip_groups
from .members import Member

#: Split that the baseline is fitted on, and how many of its clips at most: reading more would take longer than the
#: evaluation.
TRAIN_SPLIT = "train"
_MAX_CLIPS = 5_000


def judge_evaluation(
    name: str,
    split: Dataset,
    logits: np.ndarray,
    truth: np.ndarray,
    task: Task,
    member: Member,
    train: Dataset | None,
) -> Verdict | None:
    """Return the verdict on one split; None if its metric is undefined.

    Args:
        name: of the split.
        split: its clips.
        logits: of the model, `(clips, labels)`.
        truth: as from `true_labels`.
        task: of the model.
        member: the first checkpoint, with the feature extractor and the order of the labels.
        train: clips to fit the baseline on; None for no baseline.
    """
    labels = model_labels(member.config)
    value = baseline_metric(logits if task is Task.MULTI_LABEL else logits.argmax(axis=1), truth, task)
    if math.isnan(value):
        return None
    baseline = None if train is None else _answers(name, split, task, member, train)
    comparison = compare(
        name,
        task,
        value,
        logits,
        truth,
        labels=labels,
        baseline=baseline,
        chance=_chance(truth, task),
        groups=find_clip_groups(split),
    )
    return judge(task.main_metric, [comparison])


def _chance(truth: np.ndarray, task: Task) -> float | None:
    """Return the accuracy of the most frequent class of these clips, which is at least that of training's."""
    return None if task is Task.MULTI_LABEL else float(np.bincount(truth).max() / len(truth))


def _answers(name: str, split: Dataset, task: Task, member: Member, train: Dataset) -> np.ndarray | None:
    """Return the baseline's answers in the model's order of labels.

    None if a training clip cannot be read, if there is only one class, or if the task is another one.
    """
    if split_task(train) is not task or _has_one_class(train, task):
        return None
    inputs = ClipInputs(train, member.extractor, cache=False, name=TRAIN_SPLIT)
    evaluated = {name: ClipInputs(split, member.extractor, cache=False, name=name)}
    try:
        answers = baseline_answers(inputs, evaluated, limit=_MAX_CLIPS)[name]
    except AstHfError:
        return None
    order = {label: index for index, label in enumerate(model_labels(member.config))}
    places = np.array([order.get(label, -1) for label in label_names(train)])
    if task is not Task.MULTI_LABEL:
        return places[answers]
    scores = np.zeros((len(answers), len(order)))
    known = places >= 0
    scores[:, places[known]] = answers[:, known]
    return scores


def _has_one_class(train: Dataset, task: Task) -> bool:
    return task is not Task.MULTI_LABEL and len(set(train["label"])) < 2
