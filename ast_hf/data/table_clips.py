"""Clips of a table: the file, split, labels and boundaries of every row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from datasets import Dataset

from ..errors import error
from .holding_out import FoldChoice
from .label_cells import MISSING, is_null
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, Row
from .option_spelling import NO_BOUNDARIES
from .reading_options import ReadingOptions
from .table_files import TableFiles, count_rows
from .tables import Table
from .unread_columns import warn_of_labels, warn_of_splits, warn_of_times


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
        files: the files that the rows name.

    Raises:
        AstDataError: E206 for missing files; E208 for missing columns, and for rows without a label or fold.
    """

    def __init__(self, table: Table, split: str | None, options: ReadingOptions) -> None:
        self.table = table
        self.split = split
        self.options = options
        self.audio = table.column(options.audio_column, PATH_COLUMNS, "audio_column")
        self.label = table.column(options.label_column, LABEL_COLUMNS, "label_column")
        self.class_order = table.names.get(self.label)
        declared = table.from_folders or self.class_order is not None
        self.labels = replace(options.labels, are_names=declared, are_quoted=table.is_quoted)
        self.holds_lists = any(isinstance(row.get(self.label), list) for row in table.rows)
        self._check_labels()
        self._check_column(options.split_column, "split")
        if options.fold is not None:
            self._check_column(options.fold.column, "fold", options.fold)
        self.files = TableFiles(table, self.audio, options)
        if self.files.sounds is None:
            self.files.check(table.rows if options.clip_boundaries else [])
        self._warn_of_unread_columns()

    def clips(self) -> Iterator[Clip]:
        """Yield the clip of each row, in order; raise E208 for labels and boundaries that cannot be read."""
        files = self.files
        for number, (row, path) in enumerate(zip(self.table.rows, files.paths, strict=True), start=1):
            where = f"{self.table.where} row {number}"
            names = files.names(number) if self.options.split_lists else set()
            split = self.options.split(row, names, self.split)
            full_path = files.full_path(path) if files.sounds is None else path
            labels = self.labels.read(row[self.label], f"{where}, column {self.label!r}")
            yield Clip(where, number, split, full_path, files.sounds, labels, self._others(row, where))

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
            raise self.labels.missing(cell, where, count_rows(unlabelled))

    def _warn_of_unread_columns(self) -> None:
        """Warn (W208) of times under other names, of a second column of labels, and of splits."""
        rows = self.table.rows
        where = repr(self.table.where)
        if self.options.clip_boundaries:
            warn_of_times(rows, self.files.paths, where)
        if self.options.label_column is None:
            warn_of_labels(rows, self.label, where)
        options = self.options
        has_split = self.split or options.fold or options.split_lists or options.split_column in rows[0]
        if not has_split:
            warn_of_splits(rows, self.files.paths, where)

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
