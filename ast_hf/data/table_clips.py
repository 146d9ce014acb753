"""Clips of a table: the file, split, labels and boundaries of every row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from ..containment import is_below, places_of
from ..errors import error, shortlist
from .clip_search import ClipNames, clips_below, where_clips_are
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, Row
from .option_spelling import NO_BOUNDARIES
from .reading_options import ReadingOptions
from .tables import Table

#: How many rows a message lists.
_EXAMPLES = 3


class Clip(NamedTuple):
    """One checked row of a table.

    Attributes:
        where: table and row, for messages.
        number: row of the table, from 1.
        path: path of the file, or name of the embedded audio.
        sounds: embedded audio of the whole table, None if `path` is a file.
        labels: labels that are not dropped.
        others: cells of all other columns.
    """

    where: str
    number: int
    split: str
    path: str
    sounds: Dataset | None
    labels: list[str]
    others: Row


class TableClips:
    """Clips of a table, after checks of its columns, rows and files.

    Args:
        table: the rows.
        split: the caller's split for all rows, None to decide row by row.
        options: options of `load_audio_dataset`.

    Attributes:
        outside: after `clips`, the files that are not in the table's folder or `audio_root`.

    Raises:
        AstDataError: E206 for missing files; E208 for missing columns, and for rows without a label or fold.
    """

    def __init__(self, table: Table, split: str | None, options: ReadingOptions) -> None:
        self.table = table
        self.split = split
        self.options = options
        self.audio = table.column(options.audio_column, PATH_COLUMNS, "audio_column")
        self.label = table.column(options.label_column, LABEL_COLUMNS, "label_column")
        self.root = options.audio_root or table.root
        self.sounds = table.sounds(self.audio)
        self.class_order = table.names.get(self.label)
        self.holds_lists = any(isinstance(row.get(self.label), list) for row in table.rows)
        self.outside: list[str] = []
        self._places = places_of(self.root)
        self._clip_names: ClipNames | None = None
        self._check_labels()
        self._check_folds()
        self._paths = [self._path(row) for row in table.rows]
        if self.sounds is None:
            self._check_files()

    def clips(self) -> Iterator[Clip]:
        """Yield the clip of each row, in order; raise E208 for labels and boundaries that cannot be read."""
        for number, (row, path) in enumerate(zip(self.table.rows, self._paths, strict=True), start=1):
            where = f"{self.table.where} row {number}"
            split = self.options.split(row, {Path(path).as_posix(), str(row.get(self.audio))}, self.split)
            full_path = self._full_path(path) if self.sounds is None else path
            labels = self.options.labels.read(row[self.label], f"{where}, column {self.label!r}")
            yield Clip(where, number, split, full_path, self.sounds, labels, self._others(row, where))

    def _full_path(self, path: str) -> str:
        """Return the absolute path of a file, without links; record it if that is outside of the root."""
        full_path = str((self.root / path).resolve())
        if not is_below(full_path, self._places):
            self.outside.append(full_path)
        return full_path

    def _others(self, row: Row, where: str) -> Row:
        """Return the other cells as text, and boundaries as numbers."""
        read = {self.audio, self.label, "audio", "label", "labels", *BOUNDARIES}
        others = {name: None if cell is None else str(cell) for name, cell in row.items() if name not in read}
        if self.options.clip_boundaries and any(name in row for name in BOUNDARIES):
            others |= _boundaries(row, where)
        return others

    def _check_labels(self) -> None:
        """Raise E208 if rows have no label."""
        rows = enumerate(self.table.rows, start=1)
        unlabelled = [number for number, row in rows if not self.options.labels.split(row.get(self.label))]
        if unlabelled:
            where = f"{self.table.where} row {unlabelled[0]}, column {self.label!r}"
            fix = "give it a label or remove the row"
            raise error("E208", where=where, what=f"has no label{_count_rows(unlabelled)}", fix=fix)

    def _check_folds(self) -> None:
        """Raise E208 for a row without a fold if a test fold is selected."""
        fold = self.options.fold
        if fold is None:
            return
        for number, row in enumerate(self.table.rows, start=1):
            if row.get(fold.column) in (None, ""):
                raise fold.missing_column(f"{self.table.where} row {number}", row)

    def _check_files(self) -> None:
        """Raise E206 for missing files; without `check_files` only if all are in another folder nearby."""
        exists = self._exists if self.options.check_files else bool
        missing = [row for row, path in enumerate(self._paths, start=1) if not exists(path)]
        elsewhere = None
        if not any(map(self._exists, self._paths)):
            bounded_rows = self.table.rows if self.options.clip_boundaries else []
            elsewhere = where_clips_are(self._paths, self.root, bounded_rows)
        if elsewhere:
            missing = list(range(1, len(self._paths) + 1))
        if missing:
            where = f"{self.table.where} row {missing[0]}, column {self.audio!r}"
            state = _describe_missing(self.root / self._paths[missing[0] - 1])
            what = f"{self.table.rows[missing[0] - 1].get(self.audio)!r} {state}{_count_rows(missing)}"
            raise error("E206", where=where, what=what, fix=self._how_to_find(missing[0], elsewhere))

    def _how_to_find(self, row: int, elsewhere: str | None) -> str:
        """Return the fix for a row's missing file; `elsewhere` is the fix for files in another folder."""
        count = len(self._clip_names.find(self._paths[row - 1])) if self._clip_names else 0
        if count > 1:
            return f"{count} files below {str(self.root)!r} have this name; write their paths relative to it"
        path = self.root / self._paths[row - 1]
        if elsewhere is None and not _describe_missing(path).startswith("does not"):
            return _FETCH_OR_REMOVE
        return elsewhere or f"paths are taken relative to {str(self.root)!r}; correct them or remove the rows"

    def _exists(self, path: str) -> bool:
        try:
            return bool(path) and (self.root / path).is_file()
        except OSError:  # no permission, or a name of impossible length
            return False

    def _path(self, row: Row) -> str:
        """Return the path of a row, relative to the root.

        Backslashes become slashes if only that names an existing file; a name alone becomes the path of the
        only file of that name below `audio_root`.
        """
        path = str(row.get(self.audio) or "")
        if self.sounds is not None or not path:
            return path
        slashed = path.replace("\\", "/")
        if slashed != path and not (self.root / path).exists() and self._exists(slashed):
            return slashed
        if self.options.audio_root is None or self._exists(path):
            return path
        if self._clip_names is None:
            self._clip_names = ClipNames(clips_below(self.root))
        return self._clip_names.below(self.root, path) or path


#: Fix for a name without a file.
_FETCH_OR_REMOVE = (
    "fetch its content (git-annex and DataLad: `git annex get .`; iCloud: download it in the Finder) or change its "
    "permissions; or remove it"
)


def _describe_missing(path: Path) -> str:
    """Return why a path is no file: it is missing, or a link, a folder or a device."""
    try:
        if path.is_symlink() and not path.exists():
            return f"is a link to {str(path.readlink())!r}, which does not exist"
        if path.is_dir():
            return "is a folder"
        if (path.parent / f".{path.name}.icloud").is_file():
            return "is in iCloud and not on this disk"
        return "is not a regular file" if path.exists() else "does not exist"
    except OSError as problem:
        return f"cannot be opened ({problem.strerror})"


def _count_rows(numbers: Sequence[int]) -> str:
    """Return a suffix that lists the rows, empty for a single one."""
    return f" ({len(numbers)} rows: {shortlist(numbers, _EXAMPLES)})" if len(numbers) > 1 else ""


def _boundaries(row: Row, where: str) -> Row:
    """Return `start` and `end` in seconds; raise E208 unless the end is after the start."""
    start, end = (_boundary(row, name, where) for name in BOUNDARIES)
    if end is not None and end <= (start or 0.0):
        what = f"ends at {end:g} s, which is not after its start at {start or 0.0:g} s"
        fix = f"give seconds, the end after the start; {NO_BOUNDARIES}"
        raise error("E208", where=where, what=what, fix=fix)
    return {"start": start, "end": end}


def _boundary(row: Row, name: str, where: str) -> float | None:
    """Return `start` or `end` of a row in seconds, None for an empty cell; raise E208 unless it is >= 0."""
    cell = row.get(name)
    if cell is None or cell == "" or cell != cell:  # pandas writes NaN for a missing number
        return None
    try:
        seconds = float(cell)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        fix = "give seconds from the file's beginning, with a decimal point; " + NO_BOUNDARIES
        raise error("E208", where=f"{where}, column {name!r}", what=f"{cell!r} is not a valid time", fix=fix)
    return seconds
