"""Labels of two models matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def label_differences(labels: Iterable[str], others: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the labels that are missing from `others`, and those that only `others` have, each in its own order."""
    labels = list(labels)
    others = list(others)
    missing = [label for label in labels if label not in others]
    surplus = [label for label in others if label not in labels]
    return missing, surplus


def label_columns(labels: Sequence[str], label2id: Mapping[str, int]) -> list[int]:
    """Return the index of each label in another model's `label2id`: `logits[:, columns]` are in the order of `labels`.

    Both must have the same names, see `label_differences`.
    """
    return [label2id[label] for label in labels]
