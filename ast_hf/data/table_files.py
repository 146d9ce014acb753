"""Audio files that the rows of a table name: found, spelled as on the disk, and checked."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path

from ..containment import is_below, places_of
from ..errors import error, shortlist
from .clip_paths import ClipRoot, is_unicode, path_of_cell
from .clip_search import ClipNames, clips_below, where_clips_are
from .naming_conventions import Row
from .reading_options import ReadingOptions
from .tables import Table

#: How many rows a message lists.
_EXAMPLES = 3


class TableFiles:
    """Files that the rows of a table name.

    Args:
        table: the rows.
        audio: column of the files or of the embedded audio.
        options: options of `load_audio_dataset`.

    Attributes:
        root: folder that the paths are relative to.
        sounds: embedded audio of the table, None if its rows name files.
        paths: path of each row, relative to the root or absolute; the name of embedded audio.
        outside: after `full_path`, the files that are not in the table's folder or `audio_root`.
        strays: those of them that a link or `..` leads to; an absolute path is what the user wrote.

    Raises:
        AstDataError: E206 for names that are not in UTF-8, E107 and E208 for cells that are no paths.
    """

    def __init__(self, table: Table, audio: str, options: ReadingOptions) -> None:
        self.table = table
        self.audio = audio
        self.options = options
        self.root = options.audio_root or table.root
        self.sounds = table.sounds(audio)
        self.outside: list[str] = []
        self.strays: list[str] = []
        self._places = places_of(self.root)
        self._clip_names: ClipNames | None = None
        self._root = ClipRoot(Path(self.root))
        self.paths = [self._path(row, number) for number, row in enumerate(table.rows, start=1)]

    def full_path(self, path: str) -> str:
        """Return the absolute path of a file, without links; record it if that is outside of the root."""
        full_path = self._root.real_path(path)
        if not is_below(full_path, self._places):
            self.outside.append(full_path)
            if not Path(path).is_absolute():
                self.strays.append(full_path)
        return full_path

    def names(self, number: int) -> set[str]:
        """Return the spellings of a row's path, `number` from 1, that a list of a split may have."""
        return {Path(self.paths[number - 1]).as_posix(), str(self.table.rows[number - 1].get(self.audio))}

    def check(self, bounded_rows: Sequence[Row]) -> None:
        """Raise E206 for missing files; without `check_files` only if all are in another folder nearby.

        `bounded_rows` are the rows whose times may be in the names of files that were cut by them.
        """
        exists = self._root.holds if self.options.check_files else bool
        missing = [row for row, path in enumerate(self.paths, start=1) if not exists(path)]
        elsewhere = None
        if not any(map(self._root.holds, self.paths)):
            elsewhere = where_clips_are(self.paths, self.root, bounded_rows)
        if elsewhere:
            missing = list(range(1, len(self.paths) + 1))
        if missing:
            where = f"{self.table.where} row {missing[0]}, column {self.audio!r}"
            what, fix = self._root.describe_missing(self.paths[missing[0] - 1])
            cell = reprlib.repr(self.table.rows[missing[0] - 1].get(self.audio))
            if what == "does not exist":
                fix = self._how_to_find(missing[0], elsewhere) or fix
            raise error("E206", where=where, what=f"{cell} {what}{count_rows(missing)}", fix=fix)

    def _how_to_find(self, row: int, elsewhere: str | None) -> str | None:
        """Return the fix for a row's file if it is in another folder; `elsewhere` is the fix for all files."""
        count = len(self._clip_names.find(self.paths[row - 1])) if self._clip_names else 0
        if count > 1:
            return f"{count} files below {str(self.root)!r} have this name; write their paths relative to it"
        return elsewhere

    def _path(self, row: Row, number: int) -> str:
        """Return the path of a row, relative to the root; raise E107 or E208 for a cell that is not a path.

        A name alone becomes the path of the only file of that name below `audio_root`.
        """
        where = f"{self.table.where} row {number}, column {self.audio!r}"
        cell = row.get(self.audio)
        path = str(cell) if self.table.from_folders else path_of_cell(cell, where)
        if not is_unicode(path):
            fix = "rename the file and its folders, for example with convmv"
            raise error("E206", where=where, what=f"{path!r} is not a name in UTF-8", fix=fix)
        if self.sounds is not None or not path:
            return path
        path = self._root.respelled(path)
        if self.options.audio_root is None or self._root.holds(path):
            return path
        if self._clip_names is None:
            self._clip_names = ClipNames(clips_below(self.root))
        return self._clip_names.below(self.root, path) or path


def count_rows(numbers: Sequence[int]) -> str:
    """Return a suffix that lists the rows, empty for a single one."""
    return f" ({len(numbers)} rows: {shortlist(numbers, _EXAMPLES)})" if len(numbers) > 1 else ""
