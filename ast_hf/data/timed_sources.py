"""Sources of labels with times: tables, label files, and folders of recordings beside label files."""

from __future__ import annotations

from pathlib import Path

from ..errors import error
from ..printing import spreadsheet_source
from ..table_text import check_exists, check_regular
from .labelled_folders import read_label_file, read_labelled_folder
from .naming_conventions import METADATA_FILES, Row, Source
from .reading_options import ReadingOptions
from .sources import source_parts
from .tables import Table, has_table_suffix, read_table
from .timed_rows import TimedPart, file_column

#: Suffixes of label files that are no tables.
_LABEL_FILES = frozenset({".txt", ".rttm", ".vtt"})


def timed_parts(source: Source, options: ReadingOptions) -> list[TimedPart]:
    """Return the tables of a source, each with the split that the caller or its folder gives.

    Raises:
        AstDataError: E206 for a path that does not exist, E208 for one that holds no labels with times, E209
            for an empty one.
    """
    parts: list[TimedPart] = []
    for split, path in source_parts(source):
        found = _read(Path(path).expanduser(), options)
        parts += [part._replace(split=split or part.split) for part in found]
    return parts


def _read(path: Path, options: ReadingOptions) -> list[TimedPart]:
    if "://" in str(path):
        fix = "download the files, and give their path"
        raise error("E206", where=repr(str(path)), what="is a URL, which is not downloaded", fix=fix)
    check_exists(path)
    if path.is_dir():
        files = [path / name for name in METADATA_FILES if (path / name).is_file()]
        if files:
            return [_table_part(read_table(files[0]))]
        return read_labelled_folder(path, options.audio_root, is_complete=options.recordings is not None)
    check_regular(path)
    if path.suffix.lower() in _LABEL_FILES:
        return [read_label_file(path, options.audio_root)]
    if not has_table_suffix(path):
        fix = "give a folder, a table (CSV, TSV, JSON, JSONL, Parquet), or a label file of Audacity or Raven"
        raise error("E208", where=repr(str(path)), what="is not a table of labels", fix=fix)
    table = read_table(path)
    if options.audio_column is None and file_column(name for row in table.rows for name in row) is None:
        return [read_label_file(path, options.audio_root)]
    return [_table_part(_unescaped(table))]


def _unescaped(table: Table) -> Table:
    """Return a table with the cells of a CSV file as they were before `spreadsheet_text` wrote them."""
    for row in table.rows if table.is_quoted else ():
        row |= {name: spreadsheet_source(cell) for name, cell in row.items() if isinstance(cell, str)}
    return table


def _table_part(table: Table) -> TimedPart:
    """Return the rows of a table; of a JSON file of recordings with a list of events each, those events."""
    if not any(isinstance(row.get("events"), list) for row in table.rows):
        return TimedPart.of(table)
    rows: list[Row] = []
    places: list[str] = []
    for number, row in enumerate(table.rows, start=1):
        others = {name: cell for name, cell in row.items() if name != "events"}
        events = row.get("events") or []
        for place, event in enumerate(events, start=1):
            rows.append({**others, **(event if isinstance(event, dict) else {"label": event})})
            places.append(f"row {number} event {place}")
        if not events:
            rows.append({**others, "start": None, "end": None, "label": None})
            places.append(f"row {number}")
    return TimedPart(None, Table(rows, table.where, table.root), places)
