"""Spelling of `load_audio_dataset`'s options in messages: in Python, on the command line and in a recipe."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .naming_conventions import SPLIT_NAMES


def option(argument: str) -> str:
    """Return the name of an argument in Python, on the command line and in a recipe."""
    return f"{argument}= (--{argument}, in a recipe data.{argument})"


def chosen(**values: str | bool) -> str:
    """Return arguments with their values in Python and on the command line."""
    return f"{_in_python(values)} ({_as_flags(values)}; finetune takes {_as_changes(values)})"


def chosen_sources(parts: Mapping[str, Sequence[Path]], **values: str | bool) -> str:
    """Return a source that maps splits to files or folders, and more arguments, spelled as by `chosen`."""
    files = {split: list(map(str, paths)) for split, paths in parts.items()}
    sources = {split: names[0] if len(names) == 1 else names for split, names in files.items()}
    python = repr(sources)
    single = "stats and evaluate take one of them at a time"
    changes = f"--set {shlex.quote(f'data.source={_as_yaml(sources)}')}"
    if values:
        python += f" with {_in_python(values)}"
        single += f", with {_as_flags(values)}"
        changes += f" {_as_changes(values)}"
    return f"{python} ({single}; finetune takes {changes})"


def unless_classes(condition: str) -> str:
    """Return the fix for names that are refused as labels; `condition` states that they are classes."""
    command = "--class_labels FILE (finetune: --set data.class_labels=FILE)"
    return f"if {condition}, list all classes in a text file, one a line: {command}"


def _as_yaml(sources: Mapping[str, str | list[str]]) -> str:
    entries = {
        split if split in SPLIT_NAMES else _json(split): _json(files) for split, files in sources.items()
    }
    return "{" + ", ".join(f"{split}: {files}" for split, files in entries.items()) + "}"


def _json(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _in_python(values: Mapping[str, str | bool]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _as_flags(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--{name} {_shell_word(value)}" for name, value in values.items())


def _as_changes(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--set data.{name}={_shell_word(value)}" for name, value in values.items())


def _shell_word(value: str | bool) -> str:
    return shlex.quote(str(value).lower() if isinstance(value, bool) else value)


#: What helps if files of a table are missing; `ast-hf classify` writes paths as they were given to it.
AUDIO_ROOT = "or name the folder that paths are relative to, if not the table's (audio_root)"
#: Fix for messages about columns `start` and `end` that are not times within the file.
NO_BOUNDARIES = f"{chosen(clip_boundaries=False)} for columns that mean something else"
