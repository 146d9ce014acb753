"""Columns of audio and of classes in a `Dataset`."""

from __future__ import annotations

from typing import Any

from datasets import Audio, ClassLabel, Value

#: What `datasets` stores of a clip: the file's bytes or its path. Streams have it in place of `Audio`, which `datasets`
#: encodes with torchcodec even where nothing is to be decoded.
STORED = {"bytes": Value("binary"), "path": Value("string")}


def _is_stored_audio(feature: Any) -> bool:
    return isinstance(feature, Audio) or (isinstance(feature, dict) and feature.keys() == STORED.keys())


def class_feature(feature: Any) -> ClassLabel | None:
    """The `ClassLabel` of a column of classes, or of lists of classes."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return inner if isinstance(inner, ClassLabel) else None
