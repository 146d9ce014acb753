"""Results as text of JSON and CSV files, and as Parquet files: one file for all recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..printing import spreadsheet_text
from .events import Event
from .results import KINDS, Result, Row, rows_of, score_text, time_text

#: Columns of a CSV or Parquet file by kind of results.
COLUMNS = {
    "clips": ("file", "label", "score"),
    "windows": ("file", "start", "end", "label", "score"),
    "events": ("file", "start", "end", "label", "score"),
}

#: Kind of results -> head line of a CSV file.
CSV_HEADERS = {kind: ",".join(columns) + "\n" for kind, columns in COLUMNS.items()}


def json_record(result: Result) -> str:
    """Return a recording as a JSON object, `{"file": ..., "events": [...]}`, with a line for each entry."""
    entries = [json.dumps(entry, ensure_ascii=False) for entry in _entries(result)]
    name = json.dumps(result.name, ensure_ascii=False)
    lines = ",\n".join(f"    {entry}" for entry in entries)
    content = f"[\n{lines}\n  ]" if entries else "[]"
    return f'  {{"file": {name}, "{KINDS[result.kind]}": {content}}}'


def _entries(result: Result) -> list[dict[str, Any]]:
    """Return the pipeline's output for a recording, rounded and sorted."""
    rows = rows_of(result)
    if result.kind == "clips":
        return [{"score": row.score, "label": row.label} for row in rows]
    if result.kind == "events":
        return [Event(*row).as_dict() for row in rows]  # type: ignore[arg-type]
    windows: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        windows.setdefault(row[:2], []).append({"score": row.score, "label": row.label})
    return [{"start": start, "end": end, "scores": scores} for (start, end), scores in windows.items()]


def csv_record(result: Result) -> str:
    """Return the rows of a recording: one for each event or score.

    A recording without any has one row with empty cells beside its name, as in the tables of DCASE. A name
    or label that a spreadsheet would run as a formula begins with `'` (`printing.spreadsheet_text`).
    """
    rows: list[Row | None] = list(rows_of(result)) or [None]
    name = _cell(spreadsheet_text(result.name))
    return "".join(",".join([name, *_cells(row, result.kind)]) + "\n" for row in rows)


def _cells(row: Row | None, kind: str) -> list[str]:
    if row is None:
        return [""] * (len(COLUMNS[kind]) - 1)
    label = _cell(spreadsheet_text(row.label))
    times = [] if row.start is None or row.end is None else [time_text(row.start), time_text(row.end)]
    return [*times, label, score_text(row.score)]


def _cell(text: str) -> str:
    """Return text quoted if it holds a separator, a quote, or a line end, or has spaces around it."""
    plain = text == text.strip() and not any(mark in text for mark in ',;|"\t\n\r')
    return text if plain else '"' + text.replace('"', '""') + '"'


def write_parquet(path: Path, results: Sequence[Result], kind: str) -> None:
    """Write a Parquet file with the columns and rows of the CSV file; empty cells are null.

    Raises:
        AstRunError: E401 if it cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    table: dict[str, list] = {name: [] for name in COLUMNS[kind]}
    for result in results:
        rows: list[Row | None] = list(rows_of(result)) or [None]
        for row in rows:
            cells = {"file": result.name, **(row._asdict() if row else {})}
            for name, column in table.items():
                column.append(_unicode(cells.get(name)))
    types = {"file": pyarrow.string(), "label": pyarrow.string()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in table])
    content = pyarrow.table(table, schema=schema)
    write_whole(path, lambda part: pyarrow.parquet.write_table(content, part))


def _unicode(cell: Any) -> Any:
    """Return text with escapes for halves of characters, as in the other formats, and other cells unchanged."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell
