"""Rows of labels with times: the recording, labels, start and end of each, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from ..errors import AstHfError, error
from ..timelines.event_columns import ALIASES, EventColumns, find_columns, plain_name
from ..timelines.rows import is_empty, seconds
from .naming_conventions import BOUNDARIES, PATH_COLUMNS, RECORDING, Row
from .option_spelling import option
from .reading_options import ReadingOptions
from .table_files import TableFiles
from .tables import Table


class TimedPart(NamedTuple):
    """Part of a source.

    Attributes:
        split: split of all rows, None if the rows decide.
        table: the rows.
        places: place of each row in its file, for messages: `"row 3"` or `"line 7"`.
    """

    split: str | None
    table: Table
    places: list[str]

    @classmethod
    def of(cls, table: Table, split: str | None = None) -> TimedPart:
        """Return the part of a table with a head line."""
        return cls(split, table, [f"row {number}" for number in range(1, len(table.rows) + 1)])


class TimedRow(NamedTuple):
    """One checked row.

    Attributes:
        where: file and row, for messages.
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
        part: the rows.
        options: options of `load_audio_dataset`.
        has_labels: False for a table of recordings, whose labels and times are not read.

    Attributes:
        files: the files that the rows name.
        class_order: class names in the file's order, None if it does not declare them.

    Raises:
        AstDataError: E206 for missing recordings, E208 for missing columns and for audio within the table.
    """

    def __init__(self, part: TimedPart, options: ReadingOptions, *, has_labels: bool = True) -> None:
        self.part = part
        self.table = part.table
        columns = list(dict.fromkeys(name for row in self.table.rows for name in row))
        audio = self._audio_column(columns, options, has_labels=has_labels)
        self._columns = None
        self.class_order = None
        if has_labels:
            self._columns = self._columns_of(columns, options.label_column)
            self.class_order = self.table.names.get(self._columns.label)
        declared = self.class_order is not None
        self._labels = replace(
            options.labels, dropped=frozenset(), are_names=declared, are_quoted=self.table.is_quoted
        )
        self.files = TableFiles(self.table, audio, options)
        if self.files.sounds is not None:
            what = f"column {audio!r} holds the audio itself, and labels with times need files"
            raise error("E208", where=repr(self.table.where), what=what, fix="write the recordings to files")
        self.files.check([])
        self._lists_splits = bool(options.split_lists)
        self._places: dict[str, str] = {}  # path in the table -> absolute path

    def _audio_column(self, columns: list[str], options: ReadingOptions, *, has_labels: bool) -> str:
        """Return the column of the recordings; the option counts for a table of recordings if it has it."""
        requested = options.audio_column if has_labels or options.audio_column in columns else None
        found = file_column(columns)
        if requested is None and found is not None:
            return found
        return self.table.column(requested, PATH_COLUMNS, "audio_column")

    def _columns_of(self, columns: list[str], label_column: str | None) -> EventColumns:
        """Return the columns of labels and times; raise E208 for a table without them."""
        chosen = {} if label_column is None else {"label": label_column}
        try:
            return find_columns(columns, repr(self.table.where), chosen)
        except AstHfError as problem:
            fix = f"name the columns start and end, in seconds, and label, or give {option('label_column')}"
            raise error(problem.code, where=problem.where, what=problem.what, fix=fix) from problem

    def rows(self) -> Iterator[TimedRow]:
        """Yield the rows; raise E208 for labels and times that cannot be read."""
        files = self.files
        numbered = enumerate(zip(self.table.rows, files.paths, self.part.places, strict=True), start=1)
        for number, (row, path, place) in numbered:
            where = f"{self.table.where} {place}"
            sound: tuple[list[str], float, float] = ([], 0.0, 0.0)
            if self._columns is not None:
                sound = self._sound(row, self._columns, where)
            if path not in self._places:
                self._places[path] = files.full_path(path)
            yield TimedRow(
                where,
                self._places[path],
                str(row[files.audio]),
                files.names(number) if self._lists_splits else set(),
                self.part.split,
                *sound,
                self._fields(self._columns),
                self._others(row),
            )

    def _sound(self, row: Row, columns: EventColumns, where: str) -> tuple[list[str], float, float]:
        """Return the labels, start and end of a row; no labels for one that only names a recording."""
        names = self._fields(columns)
        cells = [row.get(name) for name in names]
        label = row.get(columns.label)
        if all(map(is_empty, cells)):
            if self._labels.is_missing(label):
                return [], 0.0, 0.0
            fix = f"fill in {names[0]!r} and {names[1]!r}, or remove the row"
            raise error("E208", where=where, what=f"has the label {str(label)!r} and no times", fix=fix)
        start, end = (
            seconds(cell, f"{where}, column {name!r}", field)
            for cell, name, field in zip(cells, names, BOUNDARIES, strict=True)
        )
        if columns.end is None:
            end += start
        if end <= start:
            what = f"ends at {end:g} s, which is not after its start at {start:g} s"
            place = f"{where}, columns {names[0]!r} and {names[1]!r}"
            raise error("E208", where=place, what=what, fix="give seconds, the end after the start")
        place = f"{where}, column {columns.label!r}"
        if self._labels.is_missing(label):
            raise self._labels.missing(label, place)
        return self._labels.read(label, place), start, end

    def _fields(self, columns: EventColumns | None) -> tuple[str, str]:
        """Return the columns of the start, and of the end or the duration."""
        if columns is None:
            return BOUNDARIES
        return columns.start, str(columns.end or columns.duration)

    def _others(self, row: Row) -> Row:
        """Return the cells of the other columns as text, None for empty ones."""
        read = {self.files.audio, *(self._columns or ()), *BOUNDARIES, "audio", "label", "labels", RECORDING}
        return {name: None if is_empty(cell) else str(cell) for name, cell in row.items() if name not in read}


def file_column(columns: Iterable[str]) -> str | None:
    """Return the column of the recordings by its usual names (`event_columns.ALIASES`), None without one."""
    names = {plain_name(column): column for column in reversed(list(columns))}
    return next((names[name] for name in ALIASES["file"] if name in names), None)
