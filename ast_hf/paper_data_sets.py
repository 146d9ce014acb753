"""Data sets of the AST paper: class names, statistics and clip length of its published models."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from .errors import not_a_choice


class DataSet(NamedTuple):
    """Values for the configuration files of a checkpoint that was trained on a data set.

    Attributes:
        title: display name.
        problem_type: as in `config.problem_type`.
        mean: mean of the raw log-mel values.
        std: their standard deviation.
        max_length: frames of 10 ms.
        labels: number of classes.
    """

    title: str
    problem_type: str
    mean: float
    std: float
    max_length: int
    labels: int


#: name -> numbers of the original's recipes (`egs/*/run*.sh`). Class names are in `labels/NAME.txt`, in the
#: order of the original's `*class_labels_indices.csv`. Speech Commands is a single-label task: it was trained
#: with one sigmoid per word (BCE), and the highest one is the answer.
DATA_SETS = {
    "audioset": DataSet("AudioSet", "multi_label_classification", -4.2677393, 4.5689974, 1024, 527),
    "esc50": DataSet("ESC-50", "single_label_classification", -6.6268077, 5.358466, 512, 50),
    "speech_commands_v2": DataSet(
        "Speech Commands V2-35", "single_label_classification", -6.845978, 5.5654526, 128, 35
    ),
}


def data_set(name: str) -> DataSet:
    """Return an entry of `DATA_SETS`; raise E108 for any other name."""
    if name not in DATA_SETS:
        raise not_a_choice("E108", where="data_set", value=name, choices=DATA_SETS)
    return DATA_SETS[name]


def class_names(name: str) -> list[str]:
    """Return the class names of a data set in the order of their indices; raise E108 for an unknown one."""
    data_set(name)
    return (resources.files(__package__) / "labels" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def with_label_count(count: int) -> str | None:
    """Return the name of the data set with `count` classes, or None."""
    return next((name for name, entry in DATA_SETS.items() if entry.labels == count), None)
