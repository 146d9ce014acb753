"""Types of the arguments of `load_audio_dataset` and `load_timed_labels`, checked before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any

from ..errors import error, wrong_type


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, PathLike)) and bool(str(value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and isinstance(value, Iterable) and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path_or_list(value: Any) -> bool:
    return _is_path(value) or (isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)))


def _is_fold(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _maps_to(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, Mapping) and all(map(_is_text, value)) and all(map(check, value.values()))
    )


#: Argument of either function -> (check of a value other than None, what is expected).
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "audio_column": (_is_name, "the name of a column"),
    "label_column": (_is_name, "the name of a column"),
    "split_column": (_is_name, "the name of a column"),
    "fold_column": (_is_name, "the name of a column"),
    "label_separator": (_is_name, "a text of at least one character, such as ';'"),
    "class_labels": (_is_path_or_list, "a file, or a list of names"),
    "drop_labels": (_are_texts, "a list of names"),
    "test_fold": (_is_fold, "a number or a name"),
    "split_lists": (_maps_to(_is_path), "a mapping from splits to files"),
    "audio_root": (_is_path, "a folder"),
    "clip_boundaries": (_is_flag, "True or False"),
    "check_files": (_is_flag, "True or False"),
    "recordings": (_is_path, "the path of a table"),
    "merge_overlaps": (_is_flag, "True or False"),
    "split": (_is_name, "the name of a split"),
    "config_name": (_is_name, "a name"),
    "merge_splits": (_maps_to(_are_texts), "a mapping from splits to lists of splits"),
    "streaming": (_is_flag, "True or False"),
}

#: Arguments for which None is not a value.
_REQUIRED = frozenset({"clip_boundaries", "check_files", "streaming", "drop_labels", "merge_overlaps"})


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise E108 for the first argument of a function that reads data of another type than documented."""
    check_source(arguments["source"])
    for name, (check, expected) in _EXPECTED.items():
        value = arguments.get(name)
        if name not in arguments or (value is None and name not in _REQUIRED):
            continue
        if not check(value):
            raise wrong_type("E108", where=name, value=value, expected=expected)


def check_source(source: Any) -> None:
    """Raise E108 for a source, or a part of one, that is neither a path nor a collection of paths.

    Data in memory (a data set, a data frame, rows) are not read.
    """
    kind = type(source).__name__
    if isinstance(source, (str, PathLike)):
        if not str(source):
            raise error(
                "E108", where="source", what="is an empty text", fix="name a folder, a table or a data set"
            )
        return
    in_memory = hasattr(source, "column_names") or hasattr(source, "columns")
    is_rows = isinstance(source, (list, tuple)) and source and isinstance(source[0], (Mapping, list, tuple))
    if in_memory or is_rows:
        fix = "write it to a file (to_parquet of a data set or data frame, json.dump of a list), and give its path"
        raise error("E108", where="source", what=f"is a {kind} in memory, not a path", fix=fix)
    if isinstance(source, Mapping):
        wrong = [split for split in source if not isinstance(split, str)]
        if wrong:
            raise error(
                "E108", where="source", what=f"has the split {wrong[0]!r}", fix="name splits by texts"
            )
    elif isinstance(source, (bytes, bool)) or not isinstance(source, Iterable):
        fix = "give a path, a list of paths, or a mapping from splits to paths"
        raise error("E108", where="source", what=f"is of type {kind}", fix=fix)
