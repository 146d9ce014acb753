"""Paths in the cells of tables: the files that they lead to, their spellings, and why one leads to none.

Texts and `os.path`, not `Path`: of 100,000 rows, that takes a second less.
"""

from __future__ import annotations

import os
import reprlib
import unicodedata
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import error
from ..scalars import is_number
from .naming_conventions import AUDIO_SUFFIXES
from .parquet_tables import Samples

#: Entries of a folder that are compared with a name.
_MAX_ENTRIES = 10_000


def is_file(path: str | PathLike) -> bool:
    """Return True for a file; False also for names that no file can have."""
    return os.path.isfile(path) or os.path.isfile(str(Path(path)))


def is_unicode(text: str) -> bool:
    """Return True for text that UTF-8 can hold: names of files in another encoding have surrogates."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def key_of(folder: Path, path: str) -> str:
    """Return the absolute path, links kept, that the spellings of a path in a folder share (`respelled`)."""
    full_path = os.path.abspath(os.path.join(folder, path.strip()))
    return full_path if full_path.isascii() and "\\" not in full_path else _one_spelling(full_path)


def _one_spelling(path: str) -> str:
    return unicodedata.normalize("NFC", path).replace("\\", "/")


class ClipRoot:
    """The folder that the paths of a table are relative to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = str(folder)
        self._real_folders: dict[str, str] = {}

    def holds(self, path: str) -> bool:
        """Return True if a path, which may be absolute, leads to a file."""
        return bool(path) and is_file(os.path.join(self._prefix, path))

    def real_path(self, path: str) -> str:
        """Return an absolute path without links; the links of each folder are resolved once."""
        folder, name = os.path.split(os.path.join(self._prefix, path))
        if name in ("", ".", ".."):
            return os.path.realpath(os.path.join(folder, name))
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        full_path = os.path.join(self._real_folders[folder], name)
        return os.path.realpath(full_path) if os.path.islink(full_path) else full_path

    def respelled(self, path: str) -> str:
        """Return the spelling of a path that leads to a file, if it does not exist itself; else the path.

        Backslashes become slashes, spaces at the ends are removed, and accents are composed or decomposed.
        """
        if path.isascii() and "\\" not in path and path.strip() == path:
            return path
        if os.path.lexists(os.path.join(self._prefix, path)):
            return path
        slashed = path.strip().replace("\\", "/")
        forms = (unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))
        return next(filter(self.holds, (path.strip(), slashed, *forms)), path)

    def describe_missing(self, path: str) -> tuple[str, str]:
        """Return what is wrong with a path that does not lead to a file, and the fix."""
        place = os.path.join(self._prefix, path)
        if not path.strip():
            return "names no file", "give the path of the audio file, or remove the row"
        if "://" in path:
            return "is a URL, which is not downloaded", "download the files, and write their paths"
        if os.path.islink(place) and not os.path.exists(place):
            what = f"is a link to {reprlib.repr(os.readlink(place))}, which does not exist"
            return what, "fetch what it links to (git annex get, datalad get, dvc pull), or remove the row"
        if os.path.isdir(place):
            return "is a folder, not a file", "name a file in it"
        if os.path.lexists(os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.icloud")):
            return "is in iCloud and not on this disk", "download it in the Finder, or remove the row"
        if os.path.exists(place):
            return "is not a regular file", "name an audio file, or remove the row"
        near = unquote(path) if self.holds(unquote(path)) else self._similar(path)
        if near:
            return "does not exist", f"did you mean {near!r}?"
        fix = f"paths are taken relative to {self._prefix!r}; correct them or remove the rows"
        return "does not exist", f"`~` is not expanded; {fix}" if path.startswith("~") else fix

    def _similar(self, path: str) -> str | None:
        """Return a file in the same folder whose name differs in capitals or suffix, None without one."""
        folder, name = os.path.split(path)
        try:
            names = os.listdir(os.path.join(self._prefix, folder))[:_MAX_ENTRIES]
        except (OSError, ValueError):
            return None
        similar = [other for other in names if other != name and _plain(other) == _plain(name)]
        similar += [other for other in names if _stem(other) == _stem(name) and _is_sound(other)]
        paths = (os.path.join(folder, other) for other in similar)
        return next(filter(self.holds, paths), None)


def path_of_cell(cell: Any, where: str) -> str:
    """Return the path in a cell, `""` for an empty one.

    Raises E107 for samples without a sampling rate, and E208 for other cells that are no paths.
    """
    if isinstance(cell, str):
        if "\n" in cell or "\0" in cell:
            fix = "write the path on one line; a quote may not be closed"
            raise error("E208", where=where, what=f"the path {reprlib.repr(cell)} has a line break", fix=fix)
        return cell
    if cell is None or cell != cell:  # NaN, as which pandas writes a missing value
        return ""
    if is_number(cell):
        return str(cell or "")
    if isinstance(cell, Mapping) and isinstance(cell.get("path"), str) and not cell.get("array"):
        return str(cell["path"])
    fix = "give the paths of audio files, or the files themselves as bytes; `soundfile.write` makes files of samples"
    has_samples = isinstance(cell, list) and all(map(is_number, cell))
    if has_samples or isinstance(cell, Samples):
        raise error("E107", where=where, what="holds samples, without a sampling rate", fix=fix)
    kind = "samples" if "array" in cell else f"a {type(cell).__name__}"
    raise error("E208", where=where, what=f"holds {kind} and not a path", fix=fix)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return _plain(os.path.splitext(name)[0])


def _is_sound(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
