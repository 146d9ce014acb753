"""Tables of the clips in a folder, and the options that read them, for error messages.

Downloaded data sets often have tables and audio in different folders. Nothing is read automatically.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import ArrowException, types
from pyarrow.parquet import ParquetFile

from ..csv_rows import separator_of
from ..errors import AstHfError
from .clip_search import FIRST_ROWS, FOREIGN_BOUNDARIES, ClipNames, is_beyond_end, parent_of, roots_of
from .naming_conventions import LABEL_COLUMNS, PATH_COLUMNS, SPLIT_NAMES, Row
from .option_spelling import chosen, chosen_sources, option
from .tables import read_table

#: Files that may be tables of clips.
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet"})

#: Folders next to one of clips that may hold tables.
_TABLE_FOLDERS = re.compile(r"meta|label|annot|truth|csv|table|split|fold|list|info|doc|setup", re.IGNORECASE)

#: Limits, so that a message never takes long: files read as tables, bytes of each, entries of a folder.
_MAX_TABLES = 20
_MAX_BYTES = 1 << 22
_MAX_ENTRIES = 1_000

#: Minimum length of a clip's name; shorter cells are likely numbers.
_MIN_NAME = 4

#: Names of shards of a split as `datasets` writes them.
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")

#: Splits of data sets that have no part called train.
_TWO_PARTS = {"dev": "train", "eval": "test"}


class ClipTable(NamedTuple):
    """A table of clips: its file, the names of its columns, the column of clips, and its first rows."""

    path: Path
    columns: list[str]
    column: str
    rows: list[Row]

    @property
    def names(self) -> list[str]:
        """The clips of its rows, with slashes for backslashes."""
        return [str(row[self.column]).replace("\\", "/") for row in self.rows if row.get(self.column)]

    @property
    def has_labels(self) -> bool:
        """True if a column is one of `LABEL_COLUMNS`."""
        return any(name in self.columns for name in LABEL_COLUMNS)


def tables_of(clips: Sequence[Path], root: Path, inside: Iterable[Path]) -> list[ClipTable]:
    """Return the tables of some of the clips, those with labels and most clips first.

    Args:
        clips: audio files below `root`.
        root: the folder of labelled audio; tables next to it count too.
        inside: the files in it that may be tables.
    """
    clip_names = ClipNames(clips)
    inner = sorted(inside, key=lambda path: (len(path.parts), path))
    files = (path for path in (*inner, *_files_near(root)) if path.suffix.lower() in TABLE_SUFFIXES)
    candidates = (_clip_table(path, clip_names) for path in itertools.islice(files, _MAX_TABLES))
    tables = [table for table in candidates if table is not None]
    return sorted(tables, key=lambda table: (not table.has_labels, -len(table.names), len(str(table.path))))


def how_to_read(tables: Sequence[ClipTable], clips: Sequence[Path]) -> str:
    """Return the source to use instead of a folder: its table, or one for each split, with options."""
    by_split = _by_split(tables)
    first, *others = by_split.values() or tables[:1]
    root = _common_root([first, *others], clips)
    if root is None:
        source = f"a table such as {str(first.path)!r}"
        return f"give {source} as the source, with the paths of its files, relative to it, in a column path"
    values = _options(first, root, clips)
    if by_split:
        parts = {split: [table.path] for split, table in by_split.items()}
        return f"give the tables as the source, {chosen_sources(parts, **values)}" + _remarks(first, values)
    options = f" with {chosen(**values)}" if values else ""
    return f"give the table as the source, {str(first.path)!r}{options}{_remarks(first, values)}"


def shards_of(tables: Iterable[Path]) -> dict[str, list[Path]]:
    """Return split -> Parquet files, {} for files that are not shards.

    `datasets` and the Hub name them `data/train-00000-of-00002.parquet` or `train/0000.parquet`. Of several
    configurations, the first counts.
    """
    by_folder: dict[Path, dict[str, list[Path]]] = {}
    for path in sorted(table for table in tables if table.suffix.lower() == ".parquet"):
        shard = _SHARD.fullmatch(path.stem)
        folder = path.parent if shard else path.parent.parent
        name = shard[1] if shard else path.parent.name
        if shard or (path.stem.isdecimal() and name.lower() in SPLIT_NAMES):
            splits = by_folder.setdefault(folder, {})
            splits.setdefault(SPLIT_NAMES.get(name.lower(), name), []).append(path)
    first = next(iter(by_folder.values()), {})
    return dict(sorted(first.items(), key=lambda part: part[0] != "train"))


def _files_near(root: Path) -> Iterator[Path]:
    """Yield the files next to a folder, and those in folders next to it whose names suggest tables."""
    for entry in _entries(parent_of(root)):
        if entry.is_dir() and entry != root and _TABLE_FOLDERS.search(entry.name):
            yield from (file for file in _entries(entry) if file.is_file())
        elif entry.is_file():
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in itertools.islice(entries, _MAX_ENTRIES))
    except OSError:
        return []


def _clip_table(path: Path, clip_names: ClipNames) -> ClipTable | None:
    """Return a file as a table of clips, None if less than half of its rows name a clip."""
    rows = _first_rows(path)
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    for column in sorted(columns, key=lambda name: name not in PATH_COLUMNS):
        cells = [str(row[column]) for row in rows if row.get(column)]
        names = [cell.replace("\\", "/") for cell in cells if len(cell) >= _MIN_NAME]
        if names and 2 * sum(clip_names.matches(name, path.parent) for name in names) >= len(rows):
            return ClipTable(path, columns, column, rows)
    return None


def _first_rows(path: Path) -> list[Row]:
    """Return the first rows of a file, [] if it is not a table."""
    try:
        return [row for row in _read_first_rows(path) if isinstance(row, dict)]
    except (OSError, ValueError, RecursionError, csv.Error, ArrowException):
        return []


def _read_first_rows(path: Path) -> list[Any]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        with ParquetFile(path) as file:
            texts = [field.name for field in file.schema_arrow if types.is_string(field.type)]
            batch = next(file.iter_batches(FIRST_ROWS, columns=texts), None)
        return [] if batch is None else batch.to_pylist()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text = file.read(_MAX_BYTES)
    if suffix == ".json":
        content = json.loads(text)
        rows = content.get("data") if isinstance(content, dict) else content
        return rows[:FIRST_ROWS] if isinstance(rows, list) else []
    lines = [line for line in text.split("\n") if line.strip()] or [""]
    if suffix == ".jsonl":
        return [json.loads(line) for line in lines[:FIRST_ROWS]]
    separator = "\t" if suffix == ".tsv" else separator_of(lines[0])
    reader = csv.DictReader(lines[: FIRST_ROWS + 1], delimiter=separator, skipinitialspace=True)
    return [{str(name).strip(): cell for name, cell in row.items() if name} for row in reader]


def _by_split(tables: Sequence[ClipTable]) -> dict[str, ClipTable]:
    """Return split -> table, by the name of the table or of its folder; {} without a table to train on."""
    by_name: dict[str, ClipTable] = {}
    files = Counter(table.path.name for table in tables)
    for table in tables:
        names = (table.path.stem.lower(), table.path.parent.name.lower())
        for name in names if files[table.path.name] == 1 else reversed(names):
            if name in SPLIT_NAMES:
                by_name.setdefault(name, table)
                break
    splits = {SPLIT_NAMES[name]: table for name, table in by_name.items()}
    if "train" not in splits:
        splits = {_TWO_PARTS[name]: table for name, table in by_name.items() if name in _TWO_PARTS}
    return dict(sorted(splits.items(), key=lambda part: part[0] != "train")) if "train" in splits else {}


def _common_root(tables: Sequence[ClipTable], clips: Sequence[Path]) -> str | None:
    """Return the root of the paths of all tables, `""` for the folder of each table, None if they differ."""
    if all((table.path.parent / name).is_file() for table in tables for name in table.names):
        return ""
    roots = roots_of([name for table in tables for name in table.names], clips)
    clip_names = ClipNames(clips)
    if not roots or any(clip_names.is_ambiguous(_all_names(table)) for table in tables):
        return None
    return str(roots[0])


def _all_names(table: ClipTable) -> list[str]:
    """Return the clips of all rows, or of the first rows if the table cannot be read."""
    try:
        rows = read_table(table.path).rows
    except AstHfError:
        rows = table.rows
    return table._replace(rows=rows).names


def _options(table: ClipTable, root: str, clips: Sequence[Path]) -> dict[str, str | bool]:
    """Return the options that reading a table needs."""
    values: dict[str, str | bool] = {"audio_root": root} if root else {}
    if table.column != next((name for name in PATH_COLUMNS if name in table.columns), None):
        values["audio_column"] = table.column
    if _has_foreign_boundaries(table, clips):
        values["clip_boundaries"] = False
    return values


def _remarks(table: ClipTable, values: Mapping[str, str | bool]) -> str:
    """Return remarks on the options of a table."""
    text = FOREIGN_BOUNDARIES if "clip_boundaries" in values else ""
    if not table.has_labels:
        others = ", ".join(name for name in table.columns if name != table.column)
        text += f", and the column of its labels (one of {others}) with {option('label_column')}"
    return text


def _has_foreign_boundaries(table: ClipTable, clips: Sequence[Path]) -> bool:
    """Return True if columns `start` and `end` exceed the files of their rows."""
    clip_names = ClipNames(clips)
    rows = [row for row in table.rows if row.get(table.column)]
    return any(is_beyond_end(row, clip_names.find(str(row[table.column]))) for row in rows)
