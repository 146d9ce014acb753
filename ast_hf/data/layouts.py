"""Which table names the clips of a folder, and where are the clips that a table names?

For data sets as they are downloaded, where tables and audio lie in folders of their own. What is found here is put into
messages, as options that read the data; it is never read by itself.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import soundfile
from pyarrow import types
from pyarrow.parquet import ParquetFile

from ..errors import AstHfError
from .conventions import AUDIO_SUFFIXES, BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, SPLIT_NAMES, Row
from .option_spelling import chosen, chosen_sources, option
from .tables import read_table, separator_of

#: Files that may be tables of clips.
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet"})

#: Folders beside one of clips in which tables lie.
_TABLE_FOLDERS = re.compile(r"meta|label|annot|truth|csv|table|split|fold|list|info|doc|setup", re.IGNORECASE)

#: Files that are looked at as tables, rows of each, and the bytes that are read for them.
_TABLES, _ROWS, _BYTES = 20, 100, 1 << 22

#: Entries of folders that are looked at, so that a message never takes long: those beside a folder, those below one.
_BESIDE, _BELOW = 1_000, 50_000

#: Why boundaries are not to be read.
_BEHIND = "; its start and end are times in other files"

#: Shorter names without a suffix are likely numbers of something else.
_SHORTEST = 4

#: How `datasets` names the shards of a split.
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")

#: What the only two parts of a data set are called, where none is called train.
_TWO_PARTS = {"dev": "train", "eval": "test"}


class ClipNames:
    """Audio files by the last part of their paths.

    Args:
        files: paths of audio files.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        for file in files:
            for name in {file.name, file.stem}:
                self._by_name.setdefault(name, []).append(file)

    def find(self, path: str) -> list[Path]:
        """Return the files that have a path's last part as their name, with or without its suffix."""
        return self._by_name.get(PurePosixPath(path).name, [])

    def are_meant(self, path: str, folder: Path) -> bool:
        """Return whether a path from `folder` on leads to one of the files, or to none and has the name of one."""
        place, found = folder / path, self.find(path)
        return bool(found) and (not place.is_file() or any(map(place.samefile, found)))

    def below(self, folder: Path, name: str) -> str | None:
        """Return the path in `folder` of the only file of a name, None where there are several or none."""
        found = self.find(name) if PurePosixPath(name).name == name else []
        return found[0].relative_to(folder).as_posix() if len(found) == 1 else None


class ClipTable(NamedTuple):
    """A table that names clips.

    Attributes:
        path: its file.
        columns: the names of its columns.
        column: the one that names clips.
        rows: its first rows.
    """

    path: Path
    columns: list[str]
    column: str
    rows: list[Row]

    @property
    def names(self) -> list[str]:
        """The clips of its first rows."""
        return [str(row[self.column]).replace("\\", "/") for row in self.rows if row.get(self.column)]

    @property
    def has_labels(self) -> bool:
        """Whether a column is called as labels usually are."""
        return any(name in self.columns for name in LABEL_COLUMNS)


def clips_below(folder: Path, limit: int | None = None) -> list[Path]:
    """Return the audio files in and below a folder; [] where more than `limit` entries would have to be looked at."""
    entries = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    files = list(itertools.islice(entries, None if limit is None else limit + 1))
    if limit is not None and len(files) > limit:
        return []
    return sorted(file for file in files if file.suffix.lower() in AUDIO_SUFFIXES)


def tables_of(clips: Sequence[Path], root: Path, inside: Iterable[Path]) -> list[ClipTable]:
    """Return the tables that name some of the clips, those of most clips first.

    Args:
        clips: audio files below `root`.
        root: the folder that was given as labelled audio. What lies beside it is looked at too.
        inside: the files in it that may be tables.
    """
    clip_names = ClipNames(clips)
    near = (path for path in (*_outer_first(inside), *_beside(root)) if path.suffix.lower() in TABLE_SUFFIXES)
    found = [table for path in itertools.islice(near, _TABLES) if (table := _clip_table(path, clip_names))]
    return sorted(found, key=lambda table: (not table.has_labels, -len(table.names), len(str(table.path))))


def how_to_read(tables: Sequence[ClipTable], clips: Sequence[Path]) -> str:
    """Return what to give instead of a folder: the table of its clips, or one for each split, and the options."""
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
    text = f"give the table as the source, {str(first.path)!r}" + (f" with {chosen(**values)}" if values else "")
    return text + _remarks(first, values)


def shards_of(tables: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the Parquet files of each split, as `datasets` and the Hub write them; {} for others.

    These are `data/train-00000-of-00002.parquet` and `train/0000.parquet`. Of several configurations, the first counts.
    """
    found: dict[Path, dict[str, list[Path]]] = {}
    for path in sorted(table for table in tables if table.suffix.lower() == ".parquet"):
        shard = _SHARD.fullmatch(path.stem)
        home, name = (path.parent, shard[1]) if shard else (path.parent.parent, path.parent.name)
        if shard or (path.stem.isdecimal() and name.lower() in SPLIT_NAMES):
            found.setdefault(home, {}).setdefault(SPLIT_NAMES.get(name.lower(), name), []).append(path)
    first = next(iter(found.values()), {})
    return dict(sorted(first.items(), key=lambda part: part[0] != "train"))


def where_clips_are(names: Sequence[str], folder: Path, rows: Sequence[Row] = ()) -> str | None:
    """Return how to read a table whose clips are not in its own folder; None where they are not near it either.

    Args:
        names: the paths that it gives.
        folder: where it lies.
        rows: what it says beside each path.
    """
    whole = [name.replace("\\", "/") for name in names if name]
    sample = whole[:_ROWS]
    for place in (folder, folder.parent if folder.parent != folder else folder.resolve().parent):
        clips = clips_below(place, _BELOW)
        clip_names = ClipNames(clips)
        roots = roots_of(sample, clips)
        if roots and not _is_ambiguous(whole, clip_names):
            told = " and in ".join(repr(str(root)) for root in roots)
            behind = any(
                _lies_behind(row, clip_names.find(name)) for row, name in zip(rows[:_ROWS], names, strict=False)
            )
            values: dict[str, str | bool] = {"audio_root": str(roots[0])}
            if behind:
                values["clip_boundaries"] = False
            return f"its files are in {told}: {chosen(**values)}" + (_BEHIND if behind else "")
        if sample and all(map(clip_names.find, sample)):
            return f"files of these names are below {str(place)!r}: write their paths relative to the table"
    return None


def roots_of(names: Sequence[str], clips: Sequence[Path]) -> list[Path]:
    """Return the folders from which all names lead to one of the clips, as `audio_root` does."""
    clip_names = ClipNames(clips)
    found = [(PurePosixPath(name).parts, clip_names.find(name)) for name in names]
    if not found or not all(files for _, files in found):
        return []
    roots = [
        {file.parents[len(parts) - 1] for file in files if file.parts[-len(parts) :] == parts} for parts, files in found
    ]
    if common := set.intersection(*roots):
        return sorted(common)
    if all(len(parts) == len(files) == 1 for parts, files in found):
        return [Path(os.path.commonpath([file.parent for _, (file,) in found]))]
    return []


def _is_ambiguous(names: Sequence[str], clip_names: ClipNames) -> bool:
    """Return whether a name stands in several rows, and several files have it: rows would share one of these."""
    counts = Counter(names)
    return any(count > 1 and len(clip_names.find(name)) > 1 for name, count in counts.items())


def _outer_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (len(path.parts), path))


def _beside(root: Path) -> Iterator[Path]:
    """Yield the files beside a folder, and those in folders beside it that are called as if tables lay there."""
    parent = root.parent if root.parent != root else root.resolve().parent
    for entry in _entries(parent):
        if entry.is_dir() and entry != root and _TABLE_FOLDERS.search(entry.name):
            yield from (file for file in _entries(entry) if file.is_file())
        elif entry.is_file():
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in itertools.islice(entries, _BESIDE))
    except OSError:
        return []


def _clip_table(path: Path, clip_names: ClipNames) -> ClipTable | None:
    """Return what a file says of clips; None for one that is no table, or names none of them."""
    rows = _first_rows(path)
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    for column in sorted(columns, key=lambda name: name not in PATH_COLUMNS):
        cells = [str(row[column]) for row in rows if row.get(column)]
        names = [cell.replace("\\", "/") for cell in cells if len(cell) >= _SHORTEST]
        if names and 2 * sum(clip_names.are_meant(name, path.parent) for name in names) >= len(rows):
            return ClipTable(path, columns, column, rows)
    return None


def _first_rows(path: Path) -> list[Row]:
    """Return the first rows of what may be a table; [] for what is none."""
    try:
        if path.suffix.lower() == ".parquet":
            return _first_of_parquet(path)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_BYTES)
    except (OSError, ValueError):
        return []
    lines = [line for line in text.splitlines() if line.strip()][: _ROWS + 1]
    if path.suffix.lower() in (".json", ".jsonl"):
        return _first_of_json(text) if path.suffix.lower() == ".json" else _objects(lines[:_ROWS])
    if not lines:
        return []
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(lines[0])
    try:
        rows = list(csv.DictReader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return []
    return [{str(name).strip(): cell for name, cell in row.items() if name} for row in rows]


def _first_of_parquet(path: Path) -> list[Row]:
    with ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if types.is_string(field.type)]
        batch = next(file.iter_batches(_ROWS, columns=texts), None)
    return [] if batch is None else batch.to_pylist()


def _first_of_json(text: str) -> list[Row]:
    try:
        content = json.loads(text)
    except ValueError:
        return []
    rows = content.get("data") if isinstance(content, dict) else content
    return [row for row in rows[:_ROWS] if isinstance(row, dict)] if isinstance(rows, list) else []


def _objects(lines: Iterable[str]) -> list[Row]:
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError:
        return []
    return [row for row in rows if isinstance(row, dict)]


def _by_split(tables: Sequence[ClipTable]) -> dict[str, ClipTable]:
    """Return the tables that are called after splits, or lie alone in folders that are; {} without one to train on."""
    named: dict[str, ClipTable] = {}
    for table in tables:
        for name in (table.path.stem.lower(), table.path.parent.name.lower()):
            if name in SPLIT_NAMES:
                named.setdefault(name, table)
                break
    splits = {SPLIT_NAMES[name]: table for name, table in named.items()}
    if "train" not in splits:
        splits = {_TWO_PARTS[name]: table for name, table in named.items() if name in _TWO_PARTS}
    return dict(sorted(splits.items(), key=lambda part: part[0] != "train")) if "train" in splits else {}


def _common_root(tables: Sequence[ClipTable], clips: Sequence[Path]) -> str | None:
    """Return the folder that the paths of all tables are relative to, `""` where it is that of each; else None."""
    if all((table.path.parent / name).is_file() for table in tables for name in table.names):
        return ""
    roots = roots_of([name for table in tables for name in table.names], clips)
    clip_names = ClipNames(clips)
    if not roots or any(_is_ambiguous(_all_names(table), clip_names) for table in tables):
        return None
    return str(roots[0])


def _all_names(table: ClipTable) -> list[str]:
    """Return the clips of all rows of a table; those of its first rows where it cannot be read whole."""
    try:
        rows = read_table(table.path).rows
    except AstHfError:
        rows = table.rows
    return table._replace(rows=rows).names


def _options(table: ClipTable, root: str, clips: Sequence[Path]) -> dict[str, str | bool]:
    """Return the options that a table needs beside being the source."""
    values: dict[str, str | bool] = {"audio_root": root} if root else {}
    if table.column != next((name for name in PATH_COLUMNS if name in table.columns), None):
        values["audio_column"] = table.column
    if _other_boundaries(table, clips):
        values["clip_boundaries"] = False
    return values


def _remarks(table: ClipTable, values: Mapping[str, str | bool]) -> str:
    """Return what is to be said of a table's options."""
    text = _BEHIND if "clip_boundaries" in values else ""
    if not table.has_labels:
        others = ", ".join(name for name in table.columns if name != table.column)
        text += f", and the column of its labels (one of {others}) with {option('label_column')}"
    return text


def _other_boundaries(table: ClipTable, clips: Sequence[Path]) -> bool:
    """Return whether columns `start` and `end` lie behind the end of the files that they stand beside."""
    clip_names = ClipNames(clips)
    rows = [row for row in table.rows if row.get(table.column)]
    return any(_lies_behind(row, clip_names.find(str(row[table.column]))) for row in rows)


def _lies_behind(row: Mapping[str, object], files: Sequence[Path]) -> bool:
    try:
        latest = max(float(str(row[name])) for name in BOUNDARIES if row.get(name))
        return bool(files) and latest > soundfile.info(files[0]).duration + 0.1
    except (ValueError, soundfile.LibsndfileError):
        return False
