"""`datasets` features of audio columns and of class columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Audio, ClassLabel, Value

from ..task import Task

#: Struct in which `datasets` stores a clip: the bytes of its file, or its path. Streams have this in place of
#: `Audio`, which `datasets` encodes with torchcodec even where nothing is decoded.
STORED = {"bytes": Value("binary"), "path": Value("string")}


def is_stored_audio(feature: Any) -> bool:
    """Return True for `Audio`, and for the struct in which it is stored."""
    return isinstance(feature, Audio) or (isinstance(feature, dict) and feature.keys() == STORED.keys())


def class_feature(feature: Any) -> ClassLabel | None:
    """Return the `ClassLabel` of a column of classes or of lists of classes, None for any other column."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    return inner if isinstance(inner, ClassLabel) else None


def label_feature(names: Sequence[str], task: Task) -> Any:
    """Return the feature of a label column: a class, or a list of classes for multi-label data."""
    label = ClassLabel(names=list(names))
    return [label] if task is Task.MULTI_LABEL else label
