"""Reading of tables of events: CSV, TSV, JSON, JSON lines, Parquet, and Raven's selection tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..csv_rows import csv_rows, refuse_repeated
from ..errors import error, unreadable
from ..printing import spreadsheet_source
from ..table_text import parse_json, read_text
from .escapes import decode
from .event_columns import ALIASES, EventColumns, find_columns, plain_name
from .rows import EventRow, is_empty, make_event, recording_name, seconds

#: First line by which Excel takes the separator of a CSV file.
_SEPARATOR_LINE = re.compile(r"sep=(.)\n", re.IGNORECASE)

_AUDIO = re.compile(r".*\.(wav|wave|flac|mp3|ogg|opus|aiff?|m4a|mp4|aac|wma|webm)", re.IGNORECASE)

#: Rows of a Parquet file at most: a small file can unfold to any number of equal ones.
_MAX_ROWS = 10_000_000

#: Role -> column, in place of the usual names.
Columns = Mapping[str, str] | None


def read_csv_events(path: Path, columns: Columns = None) -> list[EventRow]:
    """Return the rows of a CSV or TSV file with a head line; of Raven's tables, each selection once.

    Raises:
        AstDataError: E206 or E208, with row and field.
    """
    text = read_text(path)
    separator = None
    if line := _SEPARATOR_LINE.match(text):
        separator = line[1]
        text = text[line.end() :]
    if not text.strip():
        raise error(
            "E208", where=repr(str(path)), what="is empty", fix="write the names of the columns, at least"
        )
    if is_selection_table(text):
        return _raven_rows(text, path, columns)
    rows = csv_rows(text, path, lambda cell: bool(_AUDIO.fullmatch(cell.strip(' "\n'))), separator)
    head = list(rows[0]) if rows else _head(text, separator)
    names = find_columns(head, repr(str(path)), columns)
    rows = [{name: _source(cell) for name, cell in row.items()} for row in rows]
    return list(_events(rows, names, path))


def _head(text: str, separator: str | None) -> list[str]:
    """Return the columns of a table without rows."""
    line = next(line for line in text.split("\n") if line.strip())
    return [name.strip(' "') for name in re.split(re.escape(separator) if separator else r"[,;\t|]", line)]


def _source(cell: Any) -> Any:
    return spreadsheet_source(cell.strip()) if isinstance(cell, str) else cell


def is_selection_table(text: str) -> bool:
    """Return True for text whose first line names Raven's columns between tabs."""
    head = text.lstrip("\n").partition("\n")[0].split("\t")
    return {"begintimes", "endtimes"} <= set(map(plain_name, head))


def read_raven(path: Path, label_column: str | None = None) -> list[EventRow]:
    """Return the selections of one of Raven Pro's tables.

    The label is the column `label_column`, by default the first of `Label`, `Annotation`, `Class`, `Category`,
    `Tag(s)`, `Species`, `Common Name`, ... (`event_columns.py`). A selection that is listed for several views
    (waveform and spectrogram) counts once. Where there is a `File Offset (s)`, it is the start, since `Begin
    Time (s)` counts from the first of several files.

    Raises:
        AstDataError: E206 or E208, with row and field.
    """
    text = read_text(path)
    if not is_selection_table(text):
        what = "is not a selection table: no head line with Begin Time (s) and End Time (s) between tabs"
        raise error("E208", where=repr(str(path)), what=what, fix="save the selections in Raven Pro as text")
    return _raven_rows(text, path, {"label": label_column} if label_column else None)


def _raven_rows(text: str, path: Path, columns: Columns) -> list[EventRow]:
    lines = [line.split("\t") for line in text.split("\n")]
    numbered = [(number, cells) for number, cells in enumerate(lines, 1) if any(map(str.strip, cells))]
    head = [name.strip() for name in numbered[0][1]]
    names = find_columns(head, repr(str(path)), columns)
    file = next((name for name in head if plain_name(name) == "beginpath"), names.file)
    if not (columns or {}).get("file"):
        names = names._replace(file=file)
    offset = next((name for name in head if plain_name(name).startswith("fileoffset")), None)
    rows = []
    seen = set()
    for number, cells in numbered[1:]:
        row: dict[str, Any] = dict(zip(head, map(decode, map(str.strip, cells)), strict=False))
        place = f"line {number}"
        key = (
            row.get("Selection"),
            row.get(names.file or ""),
            row.get(names.start),
            row.get(names.end or ""),
        )
        if key[0] and key in seen:
            continue
        seen.add(key)
        rows.append(_event(row, names, path, place, offset))
    return rows


def read_parquet_events(path: Path, columns: Columns = None) -> list[EventRow]:
    """Return the rows of a Parquet file.

    Raises:
        AstDataError: E208, with row and field, or for a file that is not Parquet.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    where = repr(str(path))
    try:
        with ParquetFile(path) as file:
            head = file.schema_arrow.names
            if file.metadata.num_rows > _MAX_ROWS:
                what = f"has {file.metadata.num_rows:,} rows, the limit is {_MAX_ROWS:,}"
                raise error("E208", where=where, what=what, fix="split it, one file for each recording")
            refuse_repeated(head, path)
            names = find_columns(head, where, columns)
            used = list(dict.fromkeys(name for name in names if name))
            batches = file.iter_batches(columns=used)
            rows = (row for batch in batches for row in batch.to_pylist())
            return list(_events(rows, names, path))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise unreadable("E208", where=where, problem=problem, fix="write the table again") from problem


def read_json_events(path: Path, columns: Columns = None) -> list[EventRow]:
    """Return the rows of a JSON file.

    It is a list of objects with the columns of a table, `[{"file", "start", "end", "label"}, ...]`, or of
    recordings with their events, `[{"file": ..., "events": [{"start", "end", "label"}]}, ...]`, or one of
    those; JSON lines (`.jsonl`) have one such object a line.

    Raises:
        AstDataError: E206 or E208, with row and field.
    """
    text = read_text(path)
    if not text.strip():
        raise error("E208", where=repr(str(path)), what="is empty", fix="write [] for no events")
    if path.suffix.lower() == ".jsonl":
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        entries = [(place, parse_json(line, f"{path} {place}")) for place, line in lines]
    else:
        content = parse_json(text, str(path))
        listed = content if isinstance(content, list) else [content]
        entries = [(f"row {number}", entry) for number, entry in enumerate(listed, 1)]
    rows: list[EventRow] = []
    finder = _ColumnFinder(columns)
    for place, entry in entries:
        rows += _json_rows(_object(entry, f"{path} {place}"), finder, path, place)
    return rows


class _ColumnFinder:
    """Columns of objects; those of objects with the same names are searched once."""

    def __init__(self, chosen: Columns) -> None:
        self._chosen = chosen
        self._known: dict[tuple[str, ...], EventColumns] = {}

    def find(self, fields: dict[str, Any], where: str) -> EventColumns:
        """Return the columns of an object; raise the errors of `find_columns`."""
        names = tuple(fields)
        if names not in self._known:
            self._known[names] = find_columns(names, where, self._chosen)
        return self._known[names]


def _json_rows(entry: dict[str, Any], finder: _ColumnFinder, path: Path, place: str) -> Iterator[EventRow]:
    """Yield the rows of an object: an event, or a recording with a list of events."""
    where = f"{path} {place}"
    if "events" not in entry:
        if "windows" in entry or "scores" in entry:
            what = "holds scores of windows or clips, not events"
            raise error("E208", where=where, what=what, fix="write a timeline")
        yield _event(entry, finder.find(entry, where), path, place)
        return
    named = [name for name in entry if plain_name(name) in ALIASES["file"]]
    recording = recording_name(entry[named[0]], where) if named else None
    events = entry["events"]
    if not isinstance(events, list):
        raise error("E208", where=where, what="has events that are not a list", fix="write a list of objects")
    if not events:
        yield EventRow(recording, None, place)
    for number, event in enumerate(events, 1):
        inner = f"{place} event {number}"
        fields = _object(event, f"{path} {inner}")
        names = finder.find(fields, f"{path} {inner}")
        yield _event(fields, names, path, inner)._replace(recording=recording)


def _object(entry: Any, where: str) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    what = f"is a {type(entry).__name__}, not an object"
    raise error("E208", where=where, what=what, fix='write {"start": ..., "end": ..., "label": ...}')


def _events(rows: Iterable[dict[str, Any]], names: EventColumns, path: Path) -> Iterator[EventRow]:
    for number, row in enumerate(rows, 1):
        yield _event(row, names, path, f"row {number}")


def _event(
    row: dict[str, Any], names: EventColumns, path: Path, place: str, offset: str | None = None
) -> EventRow:
    """Return the event of a row; `offset` is the column with the start in its file, if it differs."""
    where = f"{path} {place}"
    recording = recording_name(row.get(names.file), where) if names.file else None
    start = row.get(names.start)
    end = row.get(names.end) if names.end else None
    label = row.get(names.label)
    score = row.get(names.score) if names.score else None
    lasting = row.get(names.duration) if names.duration and not names.end else None
    if recording is not None and all(map(is_empty, (start, end, lasting, label))):
        return EventRow(recording, None, place)
    if not is_empty(lasting):
        end = seconds(start, where, "start") + seconds(lasting, where, "duration")
    event = make_event(start, end, label, score, where)
    if offset and not is_empty(row.get(offset)):
        begin = seconds(row[offset], where, "file offset")
        event = event._replace(start=begin, end=begin + event.end - event.start)
    return EventRow(recording, event, place)
