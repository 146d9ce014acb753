"""Clips of a table: the file, split, labels and boundaries of every row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from ..errors import error
from .conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, Row
from .layouts import ClipNames, clips_below, where_clips_are
from .option_spelling import NO_BOUNDARIES
from .reading_options import Reading, no_fold_column
from .tables import _EXAMPLES, Table


def such_rows(numbers: Sequence[int]) -> str:
    """What a message about the first of several rows says of all of them, `""` for one."""
    told = ", ".join(map(str, numbers[:_EXAMPLES])) + (", ..." if len(numbers) > _EXAMPLES else "")
    return f" ({len(numbers)} such rows: {told})" if len(numbers) > 1 else ""


def boundary(row: Row, name: str, where: str) -> float | None:
    """`start` or `end` of a row in seconds, None where it has none; raises E208 for what is no time."""
    value = row.get(name)
    if value is None or value == "" or value != value:  # pandas writes NaN for a missing number
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        fix = "give seconds from the file's beginning, with a decimal point; " + NO_BOUNDARIES
        raise error("E208", where=f"{where}, column {name!r}", what=f"{value!r} is no time", fix=fix)
    return seconds


class _Clip(NamedTuple):
    """A row that was understood; `sounds` is the table's embedded audio, None where `path` is a file."""

    where: str
    number: int
    split: str
    path: str
    sounds: Dataset | None
    labels: list[str]
    others: Row


class _Columns:
    """What the columns of a table mean; raises E206 and E208 for rows that are not to be trained on."""

    def __init__(self, table: Table, split: str | None, reading: Reading) -> None:
        self.table, self.split, self.reading = table, split, reading
        self.audio = table.column(reading.audio_column, PATH_COLUMNS, "audio_column")
        self.label = table.column(reading.label_column, LABEL_COLUMNS, "label_column")
        self.root = reading.root or table.root
        self._clip_names: ClipNames | None = None
        self.sounds, self.own_names = table.sounds(self.audio), table.names.get(self.label)
        self.holds_lists = any(isinstance(row.get(self.label), list) for row in table.rows)
        self._check_rows()
        self._paths = [self._path(row) for row in table.rows]
        if self.sounds is None:
            self._check_files()

    def clips(self) -> Iterator[_Clip]:
        """Every row, in order."""
        for number, row in enumerate(self.table.rows, start=1):
            where = f"{self.table.where} row {number}"
            path = self._paths[number - 1]
            split = self.reading.split(row, {Path(path).as_posix(), str(row.get(self.audio))}, self.split)
            full = str((self.root / path).resolve()) if self.sounds is None else path
            labels = self.reading.label_list(row[self.label], f"{where}, column {self.label!r}")
            yield _Clip(where, number, split, full, self.sounds, labels, self._others(row, where))

    def _others(self, row: Row, where: str) -> Row:
        """The columns that are kept as they are, as text; the boundaries as numbers."""
        taken = {self.audio, self.label, "audio", "label", "labels", *BOUNDARIES}
        others = {name: None if value is None else str(value) for name, value in row.items() if name not in taken}
        bounded = self.reading.boundaries and any(name in row for name in BOUNDARIES)
        return others | _boundaries(row, where) if bounded else others

    def _check_rows(self) -> None:
        rows = dict(enumerate(self.table.rows, start=1))
        if unlabelled := [number for number, row in rows.items() if not self._is_labelled(row)]:
            where = f"{self.table.where} row {unlabelled[0]}, column {self.label!r}"
            fix = "give it a label or remove the row"
            raise error("E208", where=where, what=f"has no label{such_rows(unlabelled)}", fix=fix)
        for number, row in rows.items():
            if self.reading.test_fold is not None and row.get(self.reading.fold_column) in (None, ""):
                raise no_fold_column(f"{self.table.where} row {number}", row, self.reading)

    def _check_files(self) -> None:
        """Raise E206 for files that are not there; without `check_files` only if all lie in another folder nearby."""
        rows = range(1, len(self._paths) + 1)
        missing = [row for row, path in zip(rows, self._paths, strict=True) if not self._may_be_read(path)]
        lost = len(missing) == len(rows) if self.reading.check_files else not any(map(self._is_there, self._paths))
        elsewhere = where_clips_are(self._paths, self.root, self._bounded_rows()) if lost else None
        if elsewhere:
            missing = list(rows)
        if missing:
            where = f"{self.table.where} row {missing[0]}, column {self.audio!r}"
            what = f"{self.table.rows[missing[0] - 1].get(self.audio)!r} does not exist{such_rows(missing)}"
            raise error("E206", where=where, what=what, fix=self._how_to_find(missing[0], elsewhere))

    def _bounded_rows(self) -> list[Row]:
        """Return the rows whose boundaries are read."""
        return self.table.rows if self.reading.boundaries else []

    def _how_to_find(self, row: int, elsewhere: str | None) -> str:
        """Return what to do about a row whose file is not where it says; `elsewhere` is how to read all of them."""
        alike = self._clip_names.find(self._paths[row - 1]) if self._clip_names else []
        if len(alike) > 1:
            return f"{len(alike)} files below {str(self.root)!r} are called so; write their paths relative to it"
        return elsewhere or f"paths are taken relative to {str(self.root)!r}; correct them or remove the rows"

    def _is_labelled(self, row: Row) -> bool:
        return bool(self.reading.written_labels(row.get(self.label)))

    def _is_there(self, path: str) -> bool:
        return bool(path) and (self.root / path).is_file()

    def _may_be_read(self, path: str) -> bool:
        return self._is_there(path) if self.reading.check_files else bool(path)

    def _path(self, row: Row) -> str:
        """Return the path of a row from the root on.

        That is what the row says; with slashes for backslashes, or that of the only file of this name below
        `audio_root`, where only these find a file.
        """
        path = str(row.get(self.audio) or "")
        if self.sounds is not None or not path:
            return path
        slashed = path.replace("\\", "/")
        if slashed != path and not (self.root / path).exists() and self._is_there(slashed):
            return slashed
        if self.reading.root is None or self._is_there(path):
            return path
        if self._clip_names is None:
            self._clip_names = ClipNames(clips_below(self.root))
        return self._clip_names.below(self.root, path) or path


def _boundaries(row: Row, where: str) -> Row:
    """`start` and `end` in seconds; raises E208 naming the row when they are no stretch of time."""
    start, end = (boundary(row, name, where) for name in BOUNDARIES)
    if end is not None and end <= (start or 0.0):
        what = f"ends at {end:g} s, which is not after its start at {start or 0.0:g} s"
        fix = f"give seconds, the end after the start; {NO_BOUNDARIES}"
        raise error("E208", where=where, what=what, fix=fix)
    return {"start": start, "end": end}
