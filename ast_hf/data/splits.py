"""Splits of `load_audio_dataset`: their class names, clips per class, and checks before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from ..errors import did_you_mean, error


def label_names(dataset: Dataset | IterableDataset) -> list[str]:
    """Names of the classes of a split of `load_audio_dataset`, by index."""
    feature = dataset.features["labels" if "labels" in dataset.column_names else "label"]
    return list(getattr(feature, "feature", feature).names)


def label_counts(dataset: Dataset) -> Counter[int]:
    """Clips of each class index."""
    if is_multi_label(dataset):
        return Counter(index for labels in dataset["labels"] for index in labels)
    return Counter(dataset["label"])


def check_splits(splits: DatasetDict | IterableDatasetDict, train: str, evaluation: Iterable[str]) -> None:
    """Raise E209 when a split is missing or empty, or the training split has fewer than two classes."""
    for name in (train, *evaluation):
        if name not in splits:
            raise error("E209", where=f"split {name!r}", what="does not exist", fix=did_you_mean(name, splits))
        if isinstance(splits[name], Dataset) and not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="add clips or leave it out")
    names = label_names(splits[train])
    if len(names) < 2:
        what = f"has {len(names)} class ({', '.join(names)}), there is nothing to tell apart"
        raise error("E209", where=f"split {train!r}", what=what, fix="give clips of at least two classes")
    if not isinstance(splits[train], Dataset):
        return  # a stream is not counted: that would be reading all of it
    counts = label_counts(splits[train])
    missing = [name for index, name in enumerate(names) if not counts[index]]
    if missing:
        what = f"has no clip of {', '.join(missing[:5])}"
        fix = "add clips, or drop the class; where clips were held out, hold out others"
        raise error("E209", where=f"split {train!r}", what=what, fix=fix)


def is_multi_label(dataset: Dataset | IterableDataset) -> bool:
    """Whether clips may have several labels."""
    return "labels" in dataset.column_names
