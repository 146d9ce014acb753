"""Sources of `load_audio_dataset`: files, folders, lists and mappings of them, and names on the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from ..errors import error
from .conventions import METADATA_FILES
from .label_folders import read_label_folders
from .labels import LabelSet
from .tables import Table, check_exists, has_table_suffix, read_table

#: A file or folder, a name on the Hub, several files or folders, or those of each split.
_Files: TypeAlias = str | PathLike | Sequence[str | PathLike]
Source: TypeAlias = _Files | Mapping[str, _Files]


def is_local(source: str) -> bool:
    """Return True for a source that is, or should be, a local file or folder; False for a name on the Hub."""
    path = Path(source)
    return path.exists() or has_table_suffix(path) or source.startswith((".", "/", "~"))


def source_parts(source: Source) -> list[tuple[str | None, str | PathLike]]:
    """Return (split, file or folder) of every part of a source; the split is None where the rows decide.

    Raises:
        AstDataError: E209 for a source that names no file.
    """
    parts: list[tuple[str | None, str | PathLike]]
    if isinstance(source, Mapping):
        parts = [(split, part) for split, files in source.items() for _, part in source_parts(files)]
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
        labels: the classes, if the caller lists them: folders with these names are label folders.

    Raises:
        AstDataError: E206 for a path that does not exist, E208 and E209 for one without labelled clips.
    """
    path = Path(source).expanduser()
    check_exists(path)
    if not path.is_dir():
        return read_table(path)
    metadata = next((path / name for name in METADATA_FILES if (path / name).exists()), None)
    return read_table(metadata) if metadata else read_label_folders(path, labels)
