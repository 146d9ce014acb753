"""Labels of two models matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def model_labels(config: Any) -> list[str]:
    """Return the label names of a model configuration, by index."""
    return [config.id2label[index] for index in range(config.num_labels)]


def label_differences(labels: Iterable[str], others: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the labels that `others` lacks and the labels that only `others` has, in their order."""
    labels = list(labels)
    others = list(others)
    missing = [label for label in labels if label not in others]
    surplus = [label for label in others if label not in labels]
    return missing, surplus


def label_columns(labels: Sequence[str], label2id: Mapping[str, int]) -> list[int]:
    """Return the index of each label in another model's `label2id`.

    `logits[:, columns]` then puts that model's logits into the order of `labels`. Both must have the same
    labels, see `label_differences`; KeyError otherwise.
    """
    return [label2id[label] for label in labels]
