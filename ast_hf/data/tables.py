"""Tables: files of labelled audio (CSV, TSV, JSON, JSONL, Parquet) as rows.

A row is a dict of the cells of one clip, which `table_clips.py` interprets. The cells of a `.csv` file are
separated by commas, or, if its head line has none, by the separator in the head line: `;`, tabs or `|`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..csv_rows import csv_rows
from ..errors import error
from ..table_text import check_exists, check_regular, parse_json, read_text
from .decoded_audio import files_of_cells, is_decoded
from .naming_conventions import AUDIO_SUFFIXES, PATH_COLUMNS, UNREAD_SUFFIXES, Row
from .option_spelling import chosen, option
from .parquet_tables import read_parquet


@dataclass
class Table:
    """The rows of one file or folder.

    Attributes:
        rows: the cells of each row; embedded audio is replaced by its file name.
        where: the file, for messages.
        root: the folder that paths in the rows are relative to.
        embedded: column -> a data set of this column, for audio whose bytes are in the table.
        names: column -> class names in the file's order, for columns that the file declares as classes.
        from_folders: True for label folders, whose labels are names of folders.
        is_quoted: True for CSV, where an unclosed quote joins lines.
    """

    rows: list[Row]
    where: str
    root: Path
    embedded: dict[str, Dataset] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    from_folders: bool = False
    is_quoted: bool = False

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
    check_regular(Path(path))
    return set(read_lines(Path(path)))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def _table(path: Path, rows: list[Row], **more: Any) -> Table:
    return Table(rows, str(path), path.parent, **more)


def read_csv(path: Path) -> Table:
    """Return the rows of a CSV or TSV file; raise E208, with row and line, for text that is not valid CSV."""
    return _table(path, csv_rows(read_text(path), path, _names_audio), is_quoted=True)


def _names_audio(cell: str) -> bool:
    return Path(cell.strip(' "\n')).suffix.lower() in AUDIO_SUFFIXES | UNREAD_SUFFIXES


def _read_jsonl(path: Path) -> Table:
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows = [(f"{path} line {number}", line) for number, line in lines if line.strip()]
    contents = [(place, parse_json(line, place)) for place, line in rows]
    return _json_table(path, [_check_object(content, place) for place, content in contents])


def _read_json(path: Path) -> Table:
    """Return the rows of a JSON list, or of the original's `{"data": [{"wav": ..., "labels": "/m/a,/m/b"}]}`."""
    content = parse_json(read_text(path), str(path))
    original = isinstance(content, dict) and isinstance(content.get("data"), list)
    rows = content["data"] if original else content
    if not isinstance(rows, list):
        what = f"is a {type(content).__name__}, not a list of rows"
        fix = 'write [{"path": ..., "label": ...}, ...] or {"data": [{"wav": ..., "labels": ...}, ...]}'
        raise error("E208", where=repr(str(path)), what=what, fix=fix)
    rows = [_check_object(row, f"{path} row {number}") for number, row in enumerate(rows, start=1)]
    return _json_table(path, [_split_identifiers(row) for row in rows] if original else rows)


def _json_table(path: Path, rows: list[Row]) -> Table:
    """Return the table of a JSON file, with columns of decoded audio as embedded files."""
    embedded = {}
    for name in [name for name, cell in (rows[0] if rows else {}).items() if is_decoded(cell)]:
        if all(is_decoded(row.get(name)) for row in rows):  # else the cells are refused as no paths
            embedded[name] = files_of_cells([row[name] for row in rows], name, str(path))
            for row in rows:
                row[name] = row[name].get("path")
    return _table(path, rows, embedded=embedded)


def _split_identifiers(row: Row) -> Row:
    """Return a row of the original's lists with its comma-separated labels as a list."""
    labels = row.get("labels")
    if not isinstance(labels, str) or "," not in labels:
        return row
    return {**row, "labels": [part.strip() for part in labels.split(",") if part.strip()]}


def _check_object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        what = f"is a {type(row).__name__}, not an object"
        raise error("E208", where=where, what=what, fix="write one object per row")
    return row


def _read_parquet(path: Path) -> Table:
    """Return the rows of a Parquet file; embedded audio stays in the file's memory map."""
    return _table(path, **read_parquet(path)._asdict())


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv, ".tsv": read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet
}  # fmt: skip
