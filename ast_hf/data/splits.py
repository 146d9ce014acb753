"""Splits of `load_audio_dataset`: features of columns, classes, clips per class, checks before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Audio, ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict, Value

from ..errors import did_you_mean, error
from ..task import Task

#: Struct in which `datasets` stores a clip: the bytes of its file, or its path. Streams have this in place of
#: `Audio`, which `datasets` encodes with torchcodec even where nothing is decoded.
STORED = {"bytes": Value("binary"), "path": Value("string")}


def is_stored_audio(feature: Any) -> bool:
    """Return True for `Audio` and for its storage `STORED`."""
    return isinstance(feature, Audio) or (isinstance(feature, dict) and feature.keys() == STORED.keys())


def class_feature(feature: Any) -> ClassLabel | None:
    """Return the `ClassLabel` of a column of classes or of lists of classes, None for any other column."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    return inner if isinstance(inner, ClassLabel) else None


def class_names_of(cell: Any, names: Sequence[str], where: str) -> Any:
    """Return the class name of an index, None for a missing one (None, in `datasets` also -1); of a list, each.

    Raises E208 for an index without a name.
    """
    if isinstance(cell, list):
        return [class_names_of(index, names, where) for index in cell]
    if cell is None or cell < 0:
        return None
    if cell >= len(names):
        what = f"class {cell} is not one of the {len(names)} that the file declares"
        raise error("E208", where=where, what=what, fix=f"give a class from 0 to {len(names) - 1}")
    return names[cell]


def label_feature(names: Sequence[str], task: Task) -> Any:
    """Return the feature of a label column: a class, or a list of classes for multi-label data."""
    label = ClassLabel(names=list(names))
    return [label] if task is Task.MULTI_LABEL else label


def split_task(split: Any) -> Task:
    """Return the task of a split, from the column that holds its labels."""
    columns = split.column_names or split.features
    return Task.MULTI_LABEL if Task.MULTI_LABEL.label_column in columns else Task.SINGLE_LABEL


def label_names(split: Dataset | IterableDataset) -> list[str]:
    """Return the names of the classes of a split, by index."""
    feature = split.features[split_task(split).label_column]
    return list(getattr(feature, "feature", feature).names)


def label_lists(split: Dataset) -> list[list[int]]:
    """Return the class indices of every clip as a list, a list of one for single-label data."""
    task = split_task(split)
    labels = split[task.label_column]
    return list(labels) if task is Task.MULTI_LABEL else [[index] for index in labels]


def label_counts(split: Dataset) -> Counter[int]:
    """Return the number of clips of each class index."""
    return Counter(index for labels in label_lists(split) for index in labels)


def _has_unlabelled(split: Dataset | IterableDataset) -> bool:
    """Return True for a stored split in which some clips have no label."""
    return isinstance(split, Dataset) and any(not labels for labels in label_lists(split))


def check_splits(splits: DatasetDict | IterableDatasetDict, train: str, evaluation: Iterable[str]) -> None:
    """Raise E209 if a split is missing or empty, or the training split lacks clips of a class.

    A single class is enough for clips of which some have no label.
    """
    for name in (train, *evaluation):
        if name not in splits:
            fix = did_you_mean(name, splits)
            raise error("E209", where=f"split {name!r}", what="does not exist", fix=fix)
        if isinstance(splits[name], Dataset) and not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="add clips or leave it out")
    names = label_names(splits[train])
    if len(names) < 2 and not (names and _has_unlabelled(splits[train])):
        what = f"has {len(names)} class ({', '.join(names)}), which leaves nothing to classify"
        raise error("E209", where=f"split {train!r}", what=what, fix="give clips of at least two classes")
    if not isinstance(splits[train], Dataset):
        return  # counting the classes of a stream would read all of it
    counts = label_counts(splits[train])
    missing = [name for index, name in enumerate(names) if not counts[index]]
    if missing:
        fix = "add clips, drop the class, or hold out other clips"
        raise error(
            "E209", where=f"split {train!r}", what=f"has no clip of {', '.join(missing[:5])}", fix=fix
        )
