"""Options of `load_audio_dataset` as messages spell them: in Python, on the command line and in a recipe."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .conventions import SPLIT_NAMES


def option(argument: str) -> str:
    """An argument of `load_audio_dataset` as it is written in Python, on the command line and in a recipe."""
    return f"{argument}= (--{argument}, in a recipe data.{argument})"


def chosen(**values: str | bool) -> str:
    """Return values of such arguments as they are written in Python and on the command line."""
    return f"{_in_python(values)} ({_as_flags(values)}; finetune takes {_as_changes(values)})"


def chosen_sources(parts: Mapping[str, Sequence[Path]], **values: str | bool) -> str:
    """Return a mapping from splits to files or folders, and other arguments, as `chosen` does."""
    sources = {split: str(paths[0]) if len(paths) == 1 else list(map(str, paths)) for split, paths in parts.items()}
    written = ", ".join(
        f"{_yaml_key(split)}: {json.dumps(value, ensure_ascii=False)}" for split, value in sources.items()
    )
    change = f"--set {shlex.quote('data.source={' + written + '}')}"
    python = f"{sources!r} with {_in_python(values)}" if values else repr(sources)
    one = "stats and evaluate take one of them at a time" + (f", with {_as_flags(values)}" if values else "")
    return f"{python} ({one}; finetune takes {' '.join([change, _as_changes(values)]).rstrip()})"


def _yaml_key(split: str) -> str:
    return split if split in SPLIT_NAMES else json.dumps(split, ensure_ascii=False)


def _in_python(values: Mapping[str, str | bool]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _as_flags(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--{name} {_shell_word(value)}" for name, value in values.items())


def _as_changes(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--set data.{name}={_shell_word(value)}" for name, value in values.items())


def _shell_word(value: str | bool) -> str:
    return shlex.quote(str(value).lower() if isinstance(value, bool) else value)


#: What to do where columns `start` and `end` are something else, for messages.
NO_BOUNDARIES = f"{chosen(clip_boundaries=False)} for columns that mean something else"


#: What to do where the names that a message refuses are the classes; `{}` says so.
INSIST = (
    "if {}, list all classes in a text file, one a line: --class_labels FILE (finetune: --set data.class_labels=FILE)"
)
