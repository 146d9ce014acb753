"""Rows of labels with times: the recording, labels, start and end of each, checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import error
from .label_cells import is_null
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, RECORDING, Row
from .reading_options import ReadingOptions
from .table_files import TableFiles
from .tables import Table
from .time_columns import time_columns

#: Further names of columns in tables of labels with times: those of DCASE, Raven and BirdNET.
_PATHS = (
    *PATH_COLUMNS,
    "recording",
    "audio_file",
    "audio_filename",
    "audio_path",
    "begin path",
    "begin file",
)
_LABELS = (*LABEL_COLUMNS, "event_label", "event_labels", "annotation", "species", "common name", "event")


class TimedRow(NamedTuple):
    """One checked row.

    Attributes:
        where: table and row, for messages.
        path: absolute path of the recording.
        name: the recording as the row names it.
        spellings: spellings of the path that the list of a split may have.
        split: the caller's split for the whole table, None if the rows decide.
        labels: labels of the row, with those to be dropped; empty for a recording without sounds.
        start: seconds from the beginning of the recording; 0 without labels.
        end: seconds from the beginning of the recording; 0 without labels.
        fields: names of the columns of start and end.
        cells: all other cells, as text.
    """

    where: str
    path: str
    name: str
    spellings: set[str]
    split: str | None
    labels: list[str]
    start: float
    end: float
    fields: tuple[str, str]
    cells: Row


class TimedTable:
    """Rows of a table of labels with times, or of a table of recordings.

    Args:
        table: the rows.
        split: the caller's split for all rows, None to decide row by row.
        options: options of `load_audio_dataset`.
        has_labels: False for a table of recordings, whose labels and times are not read.

    Attributes:
        files: the files that the rows name.
        class_order: class names in the file's order, None if it does not declare them.

    Raises:
        AstDataError: E206 for missing recordings, E208 for missing columns and for audio within the table.
    """

    def __init__(
        self, table: Table, split: str | None, options: ReadingOptions, *, has_labels: bool = True
    ) -> None:
        self.table = table
        self.split = split
        columns = {name for row in table.rows for name in row}
        requested = options.audio_column if has_labels or options.audio_column in columns else None
        audio = _column(table, requested, _PATHS, "audio_column")
        self._label = None
        self._times = None
        self.class_order = None
        if has_labels and not _is_listing(table, audio):
            self._label = _column(table, options.label_column, _LABELS, "label_column")
            self._times = time_columns(table)
            self.class_order = table.names.get(self._label)
        declared = self.class_order is not None
        labels = replace(options.labels, dropped=frozenset(), are_names=declared, are_quoted=table.is_quoted)
        self._labels = labels
        self.files = TableFiles(table, audio, options)
        if self.files.sounds is not None:
            what = f"column {audio!r} holds the audio itself, and labels with times need files"
            raise error("E208", where=repr(table.where), what=what, fix="write the recordings to files")
        self.files.check([])

    def rows(self) -> Iterator[TimedRow]:
        """Yield the rows; raise E208 for labels and times that cannot be read."""
        files = self.files
        for number, (row, path) in enumerate(zip(self.table.rows, files.paths, strict=True), start=1):
            where = f"{self.table.where} row {number}"
            labels, start, end = self._sound(row, where)
            name = str(row[files.audio])
            spellings = files.names(number)
            place = files.full_path(path)
            yield TimedRow(
                where, place, name, spellings, self.split, labels, start, end, self._fields, self._others(row)
            )

    @property
    def _fields(self) -> tuple[str, str]:
        return BOUNDARIES if self._times is None else (self._times.start, self._times.end)

    def _sound(self, row: Row, where: str) -> tuple[list[str], float, float]:
        """Return the labels, start and end of a row; no labels for one that only names a recording."""
        if self._times is None or self._label is None:
            return [], 0.0, 0.0
        cells = row.get(self._times.start), row.get(self._times.end)
        if all(map(_is_empty, cells)):
            if self._labels.is_missing(row.get(self._label)):
                return [], 0.0, 0.0
            what = f"has the label {str(row[self._label])!r} and no times"
            fix = f"fill in {self._times.start!r} and {self._times.end!r}, or remove the row"
            raise error("E208", where=where, what=what, fix=fix)
        start, end = (
            read_seconds(cell, f"{where}, column {name!r}")
            for name, cell in zip(self._fields, cells, strict=True)
        )
        if self._times.is_length:
            end += start
        if end <= start:
            what = f"ends at {end:g} s, which is not after its start at {start:g} s"
            place = f"{where}, columns {self._fields[0]!r} and {self._fields[1]!r}"
            raise error("E208", where=place, what=what, fix="give seconds, the end after the start")
        return self._labels.read(row.get(self._label), f"{where}, column {self._label!r}"), start, end

    def _others(self, row: Row) -> Row:
        """Return the cells of the other columns as text, None for empty ones."""
        read = {
            self.files.audio,
            self._label,
            *self._fields,
            *BOUNDARIES,
            "audio",
            "label",
            "labels",
            RECORDING,
        }
        return {
            name: None if _is_empty(cell) else str(cell) for name, cell in row.items() if name not in read
        }


def read_seconds(cell: Any, where: str) -> float:
    """Return a time in seconds; raise E208 unless the cell is a number >= 0."""
    try:
        seconds = math.nan if isinstance(cell, bool) or _is_empty(cell) else float(cell)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        what = "is empty" if _is_empty(cell) else f"{cell!r} is not a valid time"
        fix = "give seconds from the beginning of the recording, with a decimal point"
        raise error("E208", where=where, what=what, fix=fix)
    return seconds


def _is_empty(cell: Any) -> bool:
    return is_null(cell) or (isinstance(cell, str) and not cell.strip())


def _is_listing(table: Table, audio: str) -> bool:
    """Return True for rows that hold nothing but the names of recordings."""
    return all(row.keys() == {audio} for row in table.rows)


def _column(table: Table, requested: str | None, defaults: tuple[str, ...], argument: str) -> str:
    """Return a column by its name, in any capitals if it is a default; raise E208 for a table without it."""
    if requested is None:
        columns = {name.strip().lower(): name for row in table.rows[:1] for name in row}
        found = next((columns[name] for name in defaults if name in columns), None)
        if found is not None:
            return found
    return table.column(requested, defaults, argument)
