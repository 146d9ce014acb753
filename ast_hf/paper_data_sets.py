"""The data sets that the AST paper trains on: class names, statistics and clip length of its published models."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from .errors import did_you_mean, error


class DataSet(NamedTuple):
    """What a checkpoint trained on it needs in its configuration files."""

    title: str
    problem_type: str
    mean: float  # of raw log-mel values
    std: float
    max_length: int  # frames
    labels: int


#: name -> numbers of the original's recipes (`egs/*/run*.sh`). Class names: `labels/NAME.txt`, in the order of the
#: original's `*class_labels_indices.csv`. Speech Commands was trained with one sigmoid per word (BCE) and is scored by
#: the best one: a single-label task.
DATA_SETS = {
    "audioset": DataSet("AudioSet", "multi_label_classification", -4.2677393, 4.5689974, 1024, 527),
    "esc50": DataSet("ESC-50", "single_label_classification", -6.6268077, 5.358466, 512, 50),
    "speech_commands_v2": DataSet(
        "Speech Commands V2-35", "single_label_classification", -6.845978, 5.5654526, 128, 35
    ),
}


def data_set(name: str) -> DataSet:
    """One of `DATA_SETS`; raises E108 for another name."""
    if name not in DATA_SETS:
        raise error("E108", where="data_set", what=f"{name!r} is not known", fix=did_you_mean(name, DATA_SETS))
    return DATA_SETS[name]


def class_names(name: str) -> list[str]:
    """The class names of a data set, by index."""
    data_set(name)
    return (resources.files(__package__) / "labels" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def with_label_count(count: int) -> str | None:
    """The data set that has so many classes."""
    return next((name for name, entry in DATA_SETS.items() if entry.labels == count), None)
