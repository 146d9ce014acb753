"""Splits of a data set as targets of a model: the common task, and true labels as the model's indices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from ..data.catalog import find_data_set
from ..data.reading import load_audio_dataset
from ..data.splits import label_lists, label_names, split_task
from ..errors import did_you_mean, error, shortlist
from ..task import Task
from .members import Member


def read_splits(
    source: str | Path, names: list[str], reading: dict[str, Any], *, optional: Sequence[str] = ()
) -> dict[str, Dataset]:
    """Read splits of a data set by name; `reading` are arguments of `load_audio_dataset`.

    Those of `optional` are added if they exist and have clips.

    Raises:
        AstInputError: E108 for data that come as a stream.
        AstDataError: E209 for a split that is missing or empty, and errors of reading.
    """
    splits = load_audio_dataset(**{"check_files": False, **find_data_set(source), **reading})
    if not isinstance(splits, DatasetDict):
        what = f"{source!r} is a stream, whose clips cannot be counted before they are read"
        raise error("E108", where="source", what=what, fix="download it and name its folder in AST_HF_DATA")
    for name in names:
        if name not in splits:
            what = f"has no split {name!r}"
            raise error("E209", where=repr(str(source)), what=what, fix=did_you_mean(name, splits))
        if not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="choose another split")
    present = [name for name in optional if name in splits and len(splits[name])]
    return {name: splits[name] for name in dict.fromkeys([*names, *present])}


def common_task(members: list[Member], split: Dataset) -> Task:
    """Return the task of all members; the split decides where a configuration does not name one.

    Raises:
        AstConfigError: E303 for members of different tasks.
        AstDataError: E208 for clips of several labels and single-label members.
    """
    task_of_data = split_task(split)
    names = {Task.of_config(member.config) or task_of_data: member.name for member in members}
    if len(names) > 1:
        what = " but ".join(f"{name!r} is {task.value!r}" for task, name in names.items())
        raise error("E303", where="checkpoints", what=what, fix="evaluate them one by one")
    (task,) = names
    if task_of_data is Task.MULTI_LABEL and task is not Task.MULTI_LABEL:
        what = f"are multi-label, but {members[0].name!r} is single-label"
        fix = "use a multi-label checkpoint, or a column of single labels"
        raise error("E208", where="clips", what=what, fix=fix)
    return task


def true_labels(split: Dataset, labels: Sequence[str], task: Task, name: str = "data") -> np.ndarray:
    """Return the targets of a split's clips, as indices of the model's `labels`.

    Returns:
        As `Task.targets`: indices `(clips,)`, int64; for multi-label, tags `(clips, labels)`, bool.

    Raises:
        AstDataError: E208 naming the split and the labels of clips that the model does not have.
    """
    rows = label_lists(split)
    names = label_names(split)
    position = {label: index for index, label in enumerate(labels)}
    used = sorted({index for row in rows for index in row})
    unknown = [names[index] for index in used if names[index] not in position]
    if unknown:
        what = f"the model does not have {shortlist(unknown)}"
        raise error("E208", where=f"split {name!r}", what=what, fix=did_you_mean(unknown[0], labels))
    return task.targets([[position[names[index]] for index in row] for row in rows], len(labels))
