"""Reading of event files: the format is recognised by the name and the content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from ..errors import error, not_a_choice
from ..table_text import check_exists, check_regular, read_text
from .formats import FORMATS
from .label_reading import read_audacity, read_rttm, read_webvtt
from .rows import EventRow
from .table_reading import read_csv_events, read_json_events, read_parquet_events, read_raven

#: Suffix -> format.
_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"} | {
    ".vtt": "webvtt", ".rttm": "rttm"
}  # fmt: skip

#: Ends of the names of label files beside a recording, the longest first: ours, Raven's own, BirdNET's.
LABEL_SUFFIXES = (
    *(".BirdNET.selection.table.txt", ".Table.1.selections.txt", ".BirdNET.results.csv"),
    *(
        ".selections.txt",
        ".labels.txt",
        ".jsonl",
        ".parquet",
        ".json",
        ".rttm",
        ".csv",
        ".tsv",
        ".vtt",
        ".txt",
    ),
)


def read_events(
    path: str | PathLike,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    point_seconds: float | None = None,
) -> list[EventRow]:
    """Return the events of a file, in its order.

    Args:
        path: a table (CSV, TSV, JSON, JSON lines, Parquet) with a start, an end (or a duration) and a label
            for each event, and the recording if it holds several; or a label file of Audacity, Raven Pro,
            WebVTT or RTTM.
        format: `json`, `csv`, `parquet`, `audacity`, `raven`, `webvtt` or `rttm`; None to recognise it by the
            suffix, and `.txt` files by their first line.
        columns: role (`file`, `start`, `end`, `duration`, `label`, `score`) -> column of a table, where the
            usual names (`event_columns.py`) are not meant.
        point_seconds: duration of Audacity's labels of a point; None for an error.

    Raises:
        AstInputError: E108 for a format or role that does not exist.
        AstDataError: E206 for a file that cannot be read, E208 with row, field and fix for one that is not a
            file of events, or has a time that is missing, not a number, negative, or not after the start.

    Example:
        >>> read_events("birds.csv")[0]
        EventRow(recording='a.wav', event=Event(start=3.2, end=4.1, label='wren', score=1.0), place='row 1')
    """
    file = Path(path)
    check_exists(file)
    if file.is_dir():
        raise error(
            "E206", where=repr(str(file)), what="is a folder, not a file", fix="give a file of events"
        )
    check_regular(file)
    if format is not None and format not in FORMATS:
        raise not_a_choice("E108", where="format", value=format, choices=FORMATS)
    chosen = format or _format_of(file)
    readers: dict[str, Callable[[], list[EventRow]]] = {
        "csv": lambda: read_csv_events(file, columns),
        "json": lambda: read_json_events(file, columns),
        "parquet": lambda: read_parquet_events(file, columns),
        "audacity": lambda: read_audacity(file, point_seconds),
        "raven": lambda: read_raven(file, (columns or {}).get("label")),
        "webvtt": lambda: read_webvtt(file),
        "rttm": lambda: read_rttm(file),
    }
    return readers[chosen]()


def _format_of(path: Path) -> str:
    """Return the format of a file; raise E208 for a suffix that event files do not have."""
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix != ".txt":
        fix = "give a file ending in .txt, " + ", ".join(_SUFFIXES)
        raise error("E208", where=repr(str(path)), what="is not a file of events", fix=fix)
    first = next((line for line in read_text(path).split("\n") if line.strip()), "")
    begins_with_number = (
        first.partition("\t")[0].strip().replace(".", "", 1).replace(",", "", 1).lstrip("+-").isdigit()
    )
    return "audacity" if begins_with_number or not first else "csv"


def recording_stem(path: str | PathLike) -> str:
    """Return the name of a label file without the ends that tools add: `a` for `a.Table.1.selections.txt`."""
    name = Path(path).name
    for suffix in LABEL_SUFFIXES:
        if name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name
