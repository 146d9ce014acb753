"""Tables inside a folder of clips, one for each split or subfolder, as `datasets`' audiofolder reads them.

`file_name` is relative to its table. The outermost folder of a clip that is named after a split decides its split,
unless the table has a column of splits.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import AstHfError, error, shortlist
from .clip_paths import key_of
from .folder_scan import Folder
from .naming_conventions import LABEL_COLUMNS, METADATA_FILES, PATH_COLUMNS, SPLIT_NAMES, Row
from .option_spelling import chosen_sources
from .tables import Table, read_table

#: Number of names in a message.
_EXAMPLES = 3

#: A part of a source: the split of all its rows, None if the rows decide, and the rows.
SplitTable = tuple[str | None, Table]


def read_folder_tables(folder: Folder, columns: Mapping[str, str | None]) -> list[SplitTable]:
    """Return the tables of a folder's clips by split, [] unless they label clips of every folder in it.

    Args:
        folder: a folder without a table of its own.
        columns: `audio_column`, `label_column` and `split_column` of `load_audio_dataset`.

    Raises:
        AstDataError: E208 if only some tables are in a folder that is named after a split.
    """
    tables = [table for table in map(_read, _files(folder)) if table is not None]
    if not tables or not all(_has_columns(table, columns) for table in tables):
        return []
    covered = _table_of_path(tables, columns)
    outermost = {_outermost(folder, clip) for clip in folder.clips}
    if outermost - {
        _outermost(folder, clip) for clip in folder.clips if key_of(clip.parent, clip.name) in covered
    }:
        return []
    parts = [part for table in tables for part in _by_split(folder, table, columns)]
    _check_splits(folder, parts)
    return parts


def clips_without_row(
    folder: Folder, parts: Iterable[SplitTable], columns: Mapping[str, str | None]
) -> list[Path]:
    """Return the clips of a folder that its tables do not name."""
    covered = {path for _, table in parts for path in _paths(table, columns)}
    return [clip for clip in folder.clips if key_of(clip.parent, clip.name) not in covered]


def _files(folder: Folder) -> list[Path]:
    """Return the metadata files in a folder; of several in one place the first of `METADATA_FILES`."""
    by_place: dict[Path, list[Path]] = {}
    for path in folder.table_files():
        if path.name in METADATA_FILES:
            by_place.setdefault(path.parent, []).append(path)
    return [min(paths, key=lambda path: METADATA_FILES.index(path.name)) for paths in by_place.values()]


def _table_of_path(tables: list[Table], columns: Mapping[str, str | None]) -> dict[str, Table]:
    """Return path of a clip -> its table; raise E208 for a clip that two tables name."""
    by_path: dict[str, Table] = {}
    for table in tables:
        for path in _paths(table, columns):
            other = by_path.setdefault(path, table)
            if other is not table:
                what = f"names {path!r}, and so does {other.where!r}"
                fix = "leave it in one of the two tables, or give one table as the source"
                raise error("E208", where=repr(table.where), what=what, fix=fix)
    return by_path


def _read(path: Path) -> Table | None:
    """Return a table, None for a file that is not one: a folder may hold any file of this name."""
    try:
        return read_table(path)
    except AstHfError as problem:
        if problem.code == "E209":
            return None
        raise


def _has_columns(table: Table, columns: Mapping[str, str | None]) -> bool:
    """Return True if a table has a column of files and one of labels."""
    return bool(_path_column(table, columns)) and bool(_column(table, columns["label_column"], LABEL_COLUMNS))


def _path_column(table: Table, columns: Mapping[str, str | None]) -> str:
    """Return the column of files, `""` for a table without one."""
    return _column(table, columns["audio_column"], PATH_COLUMNS) or ""


def _column(table: Table, requested: str | None, defaults: tuple[str, ...]) -> str | None:
    names = {name for row in table.rows for name in row}
    return next((name for name in ((requested,) if requested else defaults) if name in names), None)


def _paths(table: Table, columns: Mapping[str, str | None]) -> list[str]:
    column = _path_column(table, columns)
    return [key_of(table.root, str(row[column])) for row in table.rows if row.get(column)]


def _outermost(folder: Folder, clip: Path) -> str:
    """Return the outermost folder of a clip, `""` for one directly in the root."""
    parts = clip.relative_to(folder.root).parts
    return parts[0] if len(parts) > 1 else ""


def _by_split(folder: Folder, table: Table, columns: Mapping[str, str | None]) -> list[SplitTable]:
    """Return a table's rows by the split of their folder; all of them without a split if a column has it."""
    if any(columns["split_column"] in row for row in table.rows):
        return [(None, table)]
    column = _path_column(table, columns)
    by_split: dict[str | None, list[Row]] = {}
    for row in table.rows:
        path = key_of(table.root, str(row.get(column) or ""))
        parts = Path(os.path.relpath(path, folder.root)).parts[:-1]
        split = next((SPLIT_NAMES[part.lower()] for part in parts if part.lower() in SPLIT_NAMES), None)
        by_split.setdefault(split, []).append(row)
    if len(by_split) == 1:
        return [(next(iter(by_split)), table)]
    return [(split, dataclasses.replace(table, rows=rows)) for split, rows in by_split.items()]


def _check_splits(folder: Folder, parts: list[SplitTable]) -> None:
    """Raise E208 for tables in folders of splits next to others, which would become part of `train`."""
    named: dict[str, list[Path]] = {}
    for split, table in parts:
        if split is not None:
            named.setdefault(split, []).append(Path(table.where))
    others = [table.where for split, table in parts if split is None]
    if named and others:
        what = f"has tables in folders of splits, and others: {shortlist(others, _EXAMPLES)}"
        fix = f"give a source for each split, {chosen_sources(named)}"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix)
