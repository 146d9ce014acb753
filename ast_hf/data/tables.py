"""Which rows does a file or folder of labelled audio hold? CSV, TSV, JSON, JSONL, Parquet, label folders; label lists.

A row is a dict of what the file says about one clip. What the rows mean is decided in `data.py`. A `.csv` file whose
head line has no comma is separated by what that has in its place: `;`, tabs or `|`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset
from pyarrow import ArrowInvalid
from pyarrow.parquet import ParquetFile

from ..errors import error
from .conventions import AUDIO_SUFFIXES, PATH_COLUMNS, UNREAD_SUFFIXES, Row
from .features import _is_stored_audio, class_feature
from .option_spelling import chosen, option

#: What may separate the cells of a `.csv` file whose head line has no comma; Excel writes `;` in most of Europe.
SEPARATORS = (";", "\t", "|")


#: How many examples a message gives.
_EXAMPLES = 3


@dataclass
class Table:
    """The rows of one file or folder.

    Attributes:
        rows: what each row says; embedded audio is left out, its name stands in its place.
        where: the file, for messages.
        root: paths in the rows are relative to it.
        embedded: column -> that column alone, as stored, for audio whose bytes are in the table.
        names: column -> class names in the file's own order, for columns that the file says are classes.
    """

    rows: list[Row]
    where: str
    root: Path
    embedded: dict[str, Dataset] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def column(self, wanted: str | None, usual: tuple[str, ...], argument: str) -> str:
        """The column of that name, or the first of the usual ones; raises E208 when there is none.

        Args:
            wanted: what `argument` of `load_audio_dataset` is.
            usual: the names to look for when it is None.
            argument: its name, for the message.
        """
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        for name in (wanted,) if wanted else usual:
            if name in names:
                return name
        what = f"has the columns {', '.join(names)}, none is {repr(wanted) if wanted else 'one of ' + ', '.join(usual)}"
        likely = self._column_of_files(names) if usual is PATH_COLUMNS else None
        fix = f"name the column with {chosen(**{argument: likely}) if likely else option(argument)}"
        raise error("E208", where=repr(self.where), what=what, fix=fix)

    def _column_of_files(self, names: Sequence[str]) -> str | None:
        """Return the first column that names an audio file in the first row."""
        cells = ((name, str(self.rows[0].get(name) or "")) for name in names)
        return next((name for name, cell in cells if Path(cell).suffix.lower() in AUDIO_SUFFIXES), None)

    def sounds(self, column: str) -> Dataset | None:
        """The embedded audio of a column, as the column `audio`; None where rows name files."""
        if column not in self.embedded:
            return None
        return self.embedded[column] if column == "audio" else self.embedded[column].rename_column(column, "audio")


def some(names: Sequence[str], written: Callable[[str], str] = repr, *, shown: int = _EXAMPLES) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(written, names[:shown])) + more


def read_split_list(path: str | PathLike) -> set[str]:
    """The paths that a text file lists, one a line, as Speech Commands' `validation_list.txt` does."""
    check_exists(Path(path))
    return set(_lines(Path(path)))


def check_exists(path: Path) -> None:
    """Raise E206 for a path that is not there."""
    if not path.exists():
        raise error("E206", where=repr(str(path)), what="does not exist", fix="check the path")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8") from problem


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _read_text(path).splitlines() if line.strip()]


def _table(path: Path, rows: list[Row], **more: Any) -> Table:
    return Table(rows, str(path), path.parent, **more)


def _read_csv(path: Path) -> Table:
    """Lines under a head line; spaces after a separator and lines without any value are skipped."""
    lines = [line for line in _read_text(path).splitlines() if line.strip()] or [""]
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(lines[0])
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    reader.fieldnames = _checked_head([name.strip() for name in reader.fieldnames or ()], path)
    rows = [row for row in reader if any(map(_has_value, row.values()))]
    for number, row in enumerate(rows, start=1):
        if None in row:
            what = f"has {len(row[None])} fields more than the head line"
            raise error("E208", where=f"{path} row {number}", what=what, fix="quote fields that hold the separator")
    return _table(path, rows)


def _has_value(cell: str | list[str] | None) -> bool:
    return bool("".join(cell or "").strip())


def separator_of(head: str) -> str:
    """What separates the cells of a `.csv` file: the comma, or what its head line has in its place."""
    found = [mark for mark in SEPARATORS if mark in head]
    return found[0] if len(found) == 1 and "," not in head else ","


def _checked_head(names: list[str], path: Path) -> list[str]:
    """The names of a table's columns; raises E208 when a clip stands in their place, or a name stands there twice."""
    for name in names:
        if Path(name).suffix.lower() in AUDIO_SUFFIXES | UNREAD_SUFFIXES:
            what = f"has no head line: its first line names the file {name!r}"
            raise error("E208", where=repr(str(path)), what=what, fix="name the columns above it, such as path,label")
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        fix = "give each column a name of its own"
        raise error("E208", where=repr(str(path)), what=f"names the column {twice[0]!r} more than once", fix=fix)
    return names


def _read_jsonl(path: Path) -> Table:
    lines = [(number, line) for number, line in enumerate(_read_text(path).splitlines(), start=1) if line.strip()]
    places = [f"{path} line {number}" for number, _ in lines]
    rows = [_parsed(line, place) for place, (_, line) in zip(places, lines, strict=True)]
    return _table(path, [_object(row, place) for place, row in zip(places, rows, strict=True)])


def _read_json(path: Path) -> Table:
    """A list of rows, or the original repository's `{"data": [{"wav": path, "labels": "/m/a,/m/b"}]}`."""
    content = _parsed(_read_text(path), str(path))
    original = isinstance(content, dict) and isinstance(content.get("data"), list)
    rows = content["data"] if original else content
    if not isinstance(rows, list):
        what = f"is a {type(content).__name__}, not a list of rows"
        fix = 'write [{"path": ..., "label": ...}, ...] or {"data": [{"wav": ..., "labels": ...}, ...]}'
        raise error("E208", where=repr(str(path)), what=what, fix=fix)
    rows = [_object(row, f"{path} row {number}") for number, row in enumerate(rows, start=1)]
    return _table(path, [_split_identifiers(row) for row in rows] if original else rows)


def _split_identifiers(row: Row) -> Row:
    """The original's comma-separated identifiers as a list, where there are several."""
    labels = row.get("labels")
    if not isinstance(labels, str) or "," not in labels:
        return row
    return {**row, "labels": [part.strip() for part in labels.split(",") if part.strip()]}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        what = f"is not JSON ({problem})"
        raise error("E208", where=where, what=what, fix="write one object per row, names in quotes") from problem


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise error(
            "E208", where=where, what=f"is a {type(row).__name__}, not an object", fix="write one object per row"
        )
    return row


def _read_parquet(path: Path) -> Table:
    """Rows of a Parquet file; embedded audio stays in the file's memory map."""
    try:
        ParquetFile(path).close()
    except ArrowInvalid as problem:
        fix = "copy it again; a git-lfs pointer needs `git lfs pull`"
        raise error("E208", where=repr(str(path)), what=f"is no Parquet file ({problem})", fix=fix) from problem
    stored = Dataset.from_parquet(str(path))
    sounding = [name for name, feature in stored.features.items() if _is_stored_audio(feature)]
    names = {name: kind.names for name, feature in stored.features.items() if (kind := class_feature(feature))}
    rows = [{name: _named(row[name], names.get(name)) for name in row} for row in stored.remove_columns(sounding)]
    rows = rows or [{} for _ in range(len(stored))]  # without its audio, a table may have no columns
    embedded = {}
    for name in sounding:
        chunks = stored.data.column(name).chunks  # not copied: the bytes of a large table do not fit into memory
        for row, file in zip(rows, (file for chunk in chunks for file in chunk.field("path").to_pylist()), strict=True):
            row[name] = file
        if _has_bytes([valid for chunk in chunks for valid in chunk.field("bytes").is_valid().to_pylist()], name, path):
            embedded[name] = stored.select_columns([name]).cast_column(name, Audio(decode=False))
    return _table(path, rows, embedded=embedded, names=names)


def _has_bytes(valid: list[bool], name: str, path: Path) -> bool:
    """Whether all rows embed audio, rather than none; raises E208 naming the first row that does not as the others."""
    if any(valid) and not all(valid):
        where = f"{path} row {valid.index(False) + 1}, column {name!r}"
        raise error("E208", where=where, what="embeds no audio, other rows do", fix="embed all files or none")
    return any(valid)


def _named(value: Any, names: list[str] | None) -> Any:
    """Class indices as names; a missing class (None or -1, as `datasets` writes it) as None."""
    if names is None:
        return value
    if isinstance(value, list):
        return [names[index] for index in value]
    return None if value is None or value < 0 else names[value]


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet
}  # fmt: skip


def read_table(path: Path) -> Table:
    """Return the rows of a file; raises E208 for what is no table, and E209 for one without a row."""
    if path.suffix.lower() not in _READERS:
        fix = "give a folder, or a file ending in " + ", ".join(_READERS)
        raise error("E208", where=repr(str(path)), what="is no table of labels", fix=fix)
    table = _READERS[path.suffix.lower()](path)
    if not table.rows:
        raise error("E209", where=repr(str(path)), what="has no rows", fix="list at least one clip per class")
    return table
