"""Tables: files of labelled audio (CSV, TSV, JSON, JSONL, Parquet) as rows.

A row is a dict of the cells of one clip, which `table_clips.py` interprets. The cells of a `.csv` file are
separated by commas, or, if its head line has none, by the separator in the head line: `;`, tabs or `|`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset
from pyarrow import ArrowInvalid
from pyarrow.parquet import ParquetFile

from ..errors import error, unreadable
from .naming_conventions import AUDIO_SUFFIXES, PATH_COLUMNS, UNREAD_SUFFIXES, Row
from .option_spelling import chosen, option
from .splits import class_feature, is_stored_audio

#: Separators of the cells of a `.csv` file whose head line has no comma; Excel writes `;` in most of Europe.
SEPARATORS = (";", "\t", "|")


@dataclass
class Table:
    """The rows of one file or folder.

    Attributes:
        rows: the cells of each row; embedded audio is replaced by its file name.
        where: the file, for messages.
        root: the folder that paths in the rows are relative to.
        embedded: column -> a data set of this column, for audio whose bytes are in the table.
        names: column -> class names in the file's order, for columns that the file declares as classes.
    """

    rows: list[Row]
    where: str
    root: Path
    embedded: dict[str, Dataset] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def column(self, requested: str | None, defaults: tuple[str, ...], argument: str) -> str:
        """Return the name of a column; raise E208 if the table does not have it.

        Args:
            requested: name of the column, None for the first of `defaults` that the table has.
            defaults: default names by priority.
            argument: argument of `load_audio_dataset` that selects the column, for the message.
        """
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        for name in (requested,) if requested else defaults:
            if name in columns:
                return name
        expected = repr(requested) if requested else "one of " + ", ".join(defaults)
        likely = self._column_of_files(columns) if defaults is PATH_COLUMNS else None
        spelled = chosen(**{argument: likely}) if likely else option(argument)
        what = f"has the columns {', '.join(columns)}, none is {expected}"
        raise error("E208", where=repr(self.where), what=what, fix=f"name the column with {spelled}")

    def _column_of_files(self, columns: Sequence[str]) -> str | None:
        """Return the first column that names an audio file in the first row."""
        cells = ((name, str(self.rows[0].get(name) or "")) for name in columns)
        return next((name for name, cell in cells if Path(cell).suffix.lower() in AUDIO_SUFFIXES), None)

    def sounds(self, column: str) -> Dataset | None:
        """Return the embedded audio of a column, as the column `audio`; None if its rows name files."""
        if column not in self.embedded:
            return None
        sounds = self.embedded[column]
        return sounds if column == "audio" else sounds.rename_column(column, "audio")


def read_table(path: Path) -> Table:
    """Return the rows of a file; raise E208 for a file that is not a table, and E209 for one without rows."""
    if not has_table_suffix(path):
        fix = "give a folder, or a file ending in " + ", ".join(_READERS)
        raise error("E208", where=repr(str(path)), what="is not a table of labels", fix=fix)
    table = _READERS[path.suffix.lower()](path)
    if not table.rows:
        raise error("E209", where=repr(str(path)), what="has no rows", fix="list at least one clip per class")
    return table


def has_table_suffix(path: Path) -> bool:
    """Return True for the suffixes that `read_table` reads."""
    return path.suffix.lower() in _READERS


def read_split_list(path: str | PathLike) -> set[str]:
    """Return the paths that a text file lists, one a line, as Speech Commands' `validation_list.txt` does."""
    check_exists(Path(path))
    return set(read_lines(Path(path)))


def check_exists(path: Path) -> None:
    """Raise E206 for a path that does not exist."""
    if not path.exists():
        raise error("E206", where=repr(str(path)), what="does not exist", fix="check the path")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones."""
    return [line.strip() for line in _read_text(path).splitlines() if line.strip()]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8") from problem


def _table(path: Path, rows: list[Row], **more: Any) -> Table:
    return Table(rows, str(path), path.parent, **more)


def read_csv(path: Path) -> Table:
    """Return the rows under a head line; spaces after a separator and empty rows are skipped."""
    lines = [line for line in _read_text(path).splitlines() if line.strip()] or [""]
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(lines[0])
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    _check_columns(columns, path)
    reader.fieldnames = columns
    rows = [row for row in reader if any(map(_has_value, row.values()))]
    for number, row in enumerate(rows, start=1):
        if None in row:
            what = f"has {len(row[None])} fields more than the head line"
            fix = "quote fields that contain the separator"
            raise error("E208", where=f"{path} row {number}", what=what, fix=fix)
    return _table(path, rows)


def _has_value(cell: str | list[str] | None) -> bool:
    return bool("".join(cell or "").strip())


def separator_of(head: str) -> str:
    """Return the separator of a `.csv` file: a comma, or the only one of `SEPARATORS` in a head line."""
    marks = [mark for mark in SEPARATORS if mark in head]
    return marks[0] if len(marks) == 1 and "," not in head else ","


def _check_columns(columns: list[str], path: Path) -> None:
    """Raise E208 if the first line names a clip instead of the columns, or a column twice."""
    for name in columns:
        if Path(name).suffix.lower() in AUDIO_SUFFIXES | UNREAD_SUFFIXES:
            what = f"has no head line: its first line names the file {name!r}"
            fix = "write the names of the columns above it, such as path,label"
            raise error("E208", where=repr(str(path)), what=what, fix=fix)
    repeated = [name for name, count in Counter(columns).items() if name and count > 1]
    if repeated:
        what = f"names the column {repeated[0]!r} more than once"
        raise error("E208", where=repr(str(path)), what=what, fix="give each column a different name")


def _read_jsonl(path: Path) -> Table:
    lines = enumerate(_read_text(path).splitlines(), start=1)
    rows = [(f"{path} line {number}", line) for number, line in lines if line.strip()]
    contents = [(place, _parse_json(line, place)) for place, line in rows]
    return _table(path, [_check_object(content, place) for place, content in contents])


def _read_json(path: Path) -> Table:
    """Return the rows of a JSON list, or of the original's `{"data": [{"wav": ..., "labels": "/m/a,/m/b"}]}`."""
    content = _parse_json(_read_text(path), str(path))
    original = isinstance(content, dict) and isinstance(content.get("data"), list)
    rows = content["data"] if original else content
    if not isinstance(rows, list):
        what = f"is a {type(content).__name__}, not a list of rows"
        fix = 'write [{"path": ..., "label": ...}, ...] or {"data": [{"wav": ..., "labels": ...}, ...]}'
        raise error("E208", where=repr(str(path)), what=what, fix=fix)
    rows = [_check_object(row, f"{path} row {number}") for number, row in enumerate(rows, start=1)]
    return _table(path, [_split_identifiers(row) for row in rows] if original else rows)


def _split_identifiers(row: Row) -> Row:
    """Return a row of the original's lists with its comma-separated labels as a list."""
    labels = row.get("labels")
    if not isinstance(labels, str) or "," not in labels:
        return row
    return {**row, "labels": [part.strip() for part in labels.split(",") if part.strip()]}


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        fix = "write one object per row, names in quotes"
        raise unreadable("E208", where=where, problem=problem, fix=fix, what="is not JSON") from problem


def _check_object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        what = f"is a {type(row).__name__}, not an object"
        raise error("E208", where=where, what=what, fix="write one object per row")
    return row


def _read_parquet(path: Path) -> Table:
    """Return the rows of a Parquet file; embedded audio stays in the file's memory map."""
    try:
        ParquetFile(path).close()
    except ArrowInvalid as problem:
        fix = "copy it again; a git-lfs pointer needs `git lfs pull`"
        where = repr(str(path))
        raise unreadable(
            "E208", where=where, problem=problem, fix=fix, what="is not a Parquet file"
        ) from problem
    stored = Dataset.from_parquet(str(path))
    audio_columns = [name for name, feature in stored.features.items() if is_stored_audio(feature)]
    classes = ((name, class_feature(feature)) for name, feature in stored.features.items())
    names = {name: feature.names for name, feature in classes if feature}
    cells = stored.remove_columns(audio_columns)
    rows = [{name: _class_name(row[name], names.get(name)) for name in row} for row in cells]
    rows = rows or [{} for _ in range(len(stored))]  # without its audio, a table may have no columns
    embedded = {}
    for name in audio_columns:
        for row, file in zip(rows, _stored_field(stored, name, "path"), strict=True):
            row[name] = file
        if _embeds_audio(stored, name, path):
            embedded[name] = stored.select_columns([name]).cast_column(name, Audio(decode=False))
    return _table(path, rows, embedded=embedded, names=names)


def _stored_field(stored: Dataset, column: str, field_name: str) -> Iterator[Any]:
    """Yield a field of all rows of an audio column, without copying the audio into memory."""
    for chunk in stored.data.column(column).chunks:
        yield from chunk.field(field_name).to_pylist()


def _embeds_audio(stored: Dataset, column: str, path: Path) -> bool:
    """Return True if all rows embed audio, False if none does; raise E208 if only some do."""
    chunks = stored.data.column(column).chunks
    valid = [row for chunk in chunks for row in chunk.field("bytes").is_valid().to_pylist()]
    if any(valid) and not all(valid):
        where = f"{path} row {valid.index(False) + 1}, column {column!r}"
        raise error("E208", where=where, what="embeds no audio, other rows do", fix="embed all files or none")
    return any(valid)


def _class_name(cell: Any, names: list[str] | None) -> Any:
    """Return the class names of a cell of indices, None for a missing class (None, in `datasets` also -1)."""
    if names is None:
        return cell
    if isinstance(cell, list):
        return [names[index] for index in cell]
    return None if cell is None or cell < 0 else names[cell]


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv, ".tsv": read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet
}  # fmt: skip
