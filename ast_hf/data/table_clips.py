"""Clips of a table: the file, split, labels and boundaries of every row."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from ..containment import is_below, places_of
from ..errors import error, shortlist
from .clip_paths import ClipRoot, is_unicode, path_of_cell
from .clip_search import ClipNames, clips_below, where_clips_are
from .holding_out import FoldChoice
from .label_cells import MISSING, is_null
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, Row
from .option_spelling import NO_BOUNDARIES
from .reading_options import ReadingOptions
from .tables import Table
from .unread_columns import warn_of_labels, warn_of_splits, warn_of_times

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
        strays: those of them that a link or `..` leads to; an absolute path is what the user wrote.

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
        declared = table.from_folders or self.class_order is not None
        self.labels = replace(options.labels, are_names=declared, are_quoted=table.is_quoted)
        self.holds_lists = any(isinstance(row.get(self.label), list) for row in table.rows)
        self.outside: list[str] = []
        self.strays: list[str] = []
        self._places = places_of(self.root)
        self._clip_names: ClipNames | None = None
        self._root = ClipRoot(Path(self.root))
        self._check_labels()
        self._check_column(options.split_column, "split")
        if options.fold is not None:
            self._check_column(options.fold.column, "fold", options.fold)
        self._paths = [self._path(row, number) for number, row in enumerate(table.rows, start=1)]
        if self.sounds is None:
            self._check_files()
        self._warn_of_unread_columns()

    def clips(self) -> Iterator[Clip]:
        """Yield the clip of each row, in order; raise E208 for labels and boundaries that cannot be read."""
        for number, (row, path) in enumerate(zip(self.table.rows, self._paths, strict=True), start=1):
            where = f"{self.table.where} row {number}"
            names = {Path(path).as_posix(), str(row.get(self.audio))} if self.options.split_lists else set()
            split = self.options.split(row, names, self.split)
            full_path = self._full_path(path) if self.sounds is None else path
            labels = self.labels.read(row[self.label], f"{where}, column {self.label!r}")
            yield Clip(where, number, split, full_path, self.sounds, labels, self._others(row, where))

    def _full_path(self, path: str) -> str:
        """Return the absolute path of a file, without links; record it if that is outside of the root."""
        full_path = self._root.real_path(path)
        if not is_below(full_path, self._places):
            self.outside.append(full_path)
            if not Path(path).is_absolute():
                self.strays.append(full_path)
        return full_path

    def _others(self, row: Row, where: str) -> Row:
        """Return the other cells as text, and boundaries as numbers."""
        read = {self.audio, self.label, "audio", "label", "labels", *BOUNDARIES}
        others = {
            name: None if is_null(cell) else str(cell) for name, cell in row.items() if name not in read
        }
        if self.options.clip_boundaries and any(name in row for name in BOUNDARIES):
            others |= _boundaries(row, where)
        return others

    def _check_labels(self) -> None:
        """Raise E208 if rows have no label."""
        rows = enumerate(self.table.rows, start=1)
        unlabelled = [number for number, row in rows if self.labels.is_missing(row.get(self.label))]
        if unlabelled:
            where = f"{self.table.where} row {unlabelled[0]}, column {self.label!r}"
            cell = self.table.rows[unlabelled[0] - 1].get(self.label)
            raise self.labels.missing(cell, where, _count_rows(unlabelled))

    def _warn_of_unread_columns(self) -> None:
        """Warn (W208) of times under other names, of a second column of labels, and of splits."""
        rows = self.table.rows
        where = repr(self.table.where)
        if self.options.clip_boundaries:
            warn_of_times(rows, self._paths, where)
        if self.options.label_column is None:
            warn_of_labels(rows, self.label, where)
        options = self.options
        has_split = self.split or options.fold or options.split_lists or options.split_column in rows[0]
        if not has_split:
            warn_of_splits(rows, self._paths, where)

    def _check_column(self, column: str, kind: str, fold: FoldChoice | None = None) -> None:
        """Raise E208 for a missing value in place of a split or a fold; an empty cell is one if folds are read."""
        for number, row in enumerate(self.table.rows, start=1):
            cell = row.get(column)
            if fold is not None and column not in row:
                raise fold.missing_column(f"{self.table.where} row {number}", row)
            is_empty = fold is not None and (cell == "" or is_null(cell))
            if is_empty or (isinstance(cell, str) and cell.strip() in MISSING):
                where = f"{self.table.where} row {number}, column {column!r}"
                raise error("E208", where=where, what=f"has no {kind}", fix="name it, or remove the row")

    def _check_files(self) -> None:
        """Raise E206 for missing files; without `check_files` only if all are in another folder nearby."""
        exists = self._root.holds if self.options.check_files else bool
        missing = [row for row, path in enumerate(self._paths, start=1) if not exists(path)]
        elsewhere = None
        if not any(map(self._root.holds, self._paths)):
            bounded_rows = self.table.rows if self.options.clip_boundaries else []
            elsewhere = where_clips_are(self._paths, self.root, bounded_rows)
        if elsewhere:
            missing = list(range(1, len(self._paths) + 1))
        if missing:
            where = f"{self.table.where} row {missing[0]}, column {self.audio!r}"
            what, fix = self._root.describe_missing(self._paths[missing[0] - 1])
            cell = reprlib.repr(self.table.rows[missing[0] - 1].get(self.audio))
            if what == "does not exist":
                fix = self._how_to_find(missing[0], elsewhere) or fix
            raise error("E206", where=where, what=f"{cell} {what}{_count_rows(missing)}", fix=fix)

    def _how_to_find(self, row: int, elsewhere: str | None) -> str | None:
        """Return the fix for a row's file if it is in another folder; `elsewhere` is the fix for all files."""
        count = len(self._clip_names.find(self._paths[row - 1])) if self._clip_names else 0
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
    if cell is None or is_null(cell) or cell == "":
        return None
    try:
        seconds = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        fix = "give seconds from the file's beginning, with a decimal point; " + NO_BOUNDARIES
        raise error("E208", where=f"{where}, column {name!r}", what=f"{cell!r} is not a valid time", fix=fix)
    return seconds
