"""Parts of a source of labelled audio: files and folders with the split that the caller gives each."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from ..errors import error
from .naming_conventions import Source
from .reading_arguments import check_source
from .tables import has_table_suffix


def is_local(source: str) -> bool:
    """Return True for the path of a file or folder, existing or not; False for a name on the Hub."""
    if has_table_suffix(Path(source)) or source.startswith((".", "/", "~")):
        return True
    try:
        return Path(source).exists()
    except OSError:  # too long for a path
        return False


def source_parts(source: Source) -> list[tuple[str | None, str | PathLike]]:
    """Return (split, file or folder) of every part of a source; the split is None where the rows decide.

    Raises E108 for a source of another type, E209 for an empty one.
    """
    parts: list[tuple[str | None, str | PathLike]]
    check_source(source)
    if isinstance(source, Mapping):
        parts = [(split, part) for split, files in source.items() for _, part in source_parts(files)]
    elif isinstance(source, (str, PathLike)):
        parts = [(None, source)]
    else:
        parts = [part for files in source for part in source_parts(files)]
    if not parts:
        raise error("E209", where="source", what="names no file", fix="give at least one table or folder")
    return parts
