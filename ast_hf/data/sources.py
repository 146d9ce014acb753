"""Sources of `load_audio_dataset`: files, folders and names on the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from ..errors import error
from .conventions import METADATA_FILES
from .label_folders import _read_label_folders
from .labels import LabelSet
from .tables import _READERS, Table, check_exists, read_table

#: A file or folder, a name on the Hub, several files or folders, or those of each split.
Source: TypeAlias = str | PathLike | Sequence[str | PathLike] | Mapping[str, str | PathLike | Sequence[str | PathLike]]


def is_local(source: str) -> bool:
    """Whether a source is, or should be, a file or folder here rather than a name on the Hub."""
    path = Path(source)
    return path.exists() or path.suffix.lower() in _READERS or source.startswith((".", "/", "~"))


def _parts(source: Source) -> list[tuple[str | None, str | PathLike]]:
    """(split, file or folder) of every part of a source; the split is None where the rows decide."""
    parts: list[tuple[str | None, str | PathLike]]
    if isinstance(source, Mapping):
        parts = [(split, part) for split, files in source.items() for _, part in _parts(files)]
    elif isinstance(source, (str, PathLike)):
        parts = [(None, source)]
    else:
        parts = [(None, part) for part in source]
    if not parts:
        raise error("E209", where="source", what="names no file", fix="give at least one table or folder")
    return parts


def read_source(source: str | PathLike, labels: LabelSet | None = None) -> Table:
    """Return the rows of a table, of a folder with a metadata file, or of a folder of label folders.

    Args:
        source: the file or folder.
        labels: the classes, where they are given: folders of their names are label folders.

    Raises:
        AstDataError: E206 for what does not exist, E208 and E209 for what holds no labelled clips.
    """
    path = Path(source).expanduser()
    check_exists(path)
    if not path.is_dir():
        return read_table(path)
    metadata = next((path / name for name in METADATA_FILES if (path / name).exists()), None)
    return read_table(metadata) if metadata else _read_label_folders(path, labels)
