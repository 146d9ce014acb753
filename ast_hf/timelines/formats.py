"""Formats of result files: one table of their names, suffixes, and functions that write them.

A text file is the header, the records of its recordings with the separator between them, and the footer. A
program that goes through many recordings can therefore append record after record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import error, not_a_choice
from ..files import write_bytes
from .events import Event
from .label_files import RAVEN_HEADER, WEBVTT_HEADER, audacity_text, raven_text, rttm_text, webvtt_text
from .results import KINDS, Result
from .table_files import CSV_HEADERS, csv_record, json_record, write_parquet

#: Kinds of results that have times.
_TIMED = frozenset({"windows", "events"})

#: What the formats with one label track a recording share.
_LABELS: dict[str, Any] = {"kinds": _TIMED, "per_recording": True}


@dataclass(frozen=True)
class Format:
    """One format of result files.

    Attributes:
        title: name for people.
        suffix: end of the names of its files.
        record: text of one recording; None for Parquet, which is not text.
        headers: kind -> beginning of a file, for formats that have one.
        separator: text between records.
        footer: end of a file.
        kinds: results that it can hold.
        per_recording: True if a file holds one recording, False if it holds all.
    """

    title: str
    suffix: str
    record: Callable[[Result], str] | None
    headers: Mapping[str, str] = field(default_factory=dict)
    separator: str = ""
    footer: str = ""
    kinds: frozenset[str] = frozenset(KINDS)
    per_recording: bool = False

    def header(self, kind: str) -> str:
        """Return the beginning of a file with results of a kind."""
        return self.headers.get(kind, "")


def _heads(text: str) -> dict[str, str]:
    return dict.fromkeys(KINDS, text)


#: Name -> format.
FORMATS: dict[str, Format] = {
    "json": Format("JSON", ".json", json_record, _heads("[\n"), ",\n", "\n]\n"),
    "csv": Format("CSV", ".csv", csv_record, CSV_HEADERS),
    "parquet": Format("Parquet", ".parquet", None),
    "audacity": Format("Audacity label track", ".labels.txt", audacity_text, **_LABELS),
    "raven": Format("Raven selection table", ".selections.txt", raven_text, _heads(RAVEN_HEADER), **_LABELS),
    "webvtt": Format("WebVTT", ".vtt", webvtt_text, _heads(WEBVTT_HEADER), **_LABELS),
    "rttm": Format("RTTM", ".rttm", rttm_text, kinds=_TIMED),
}


def check_format(name: str, kind: str) -> Format:
    """Return the format of a name.

    Raises:
        AstInputError: E108 for a name or kind that does not exist, and for a format that cannot hold the kind.
    """
    if name not in FORMATS:
        raise not_a_choice("E108", where="format", value=name, choices=FORMATS)
    if kind not in KINDS:
        raise not_a_choice("E108", where="kind", value=kind, choices=KINDS)
    format = FORMATS[name]
    if kind not in format.kinds:
        what = f"{name} needs times, and scores of whole clips have none"
        others = ", ".join(name for name, format in FORMATS.items() if kind in format.kinds)
        raise error("E108", where="format", what=what, fix=f"use {others}, or ask for a timeline")
    return format


def results_text(results: Iterable[Result], format: str, kind: str = "events") -> str:
    """Return the text of a file with the results of recordings, in the order given.

    Args:
        results: results of `kind`. A format with `per_recording` takes those of one recording.
        format: name of a text format in `FORMATS`.
        kind: kind of the results, one of `KINDS`.

    Raises:
        AstInputError: E108 for a format that is unknown, binary, or cannot hold these results.
    """
    chosen = check_format(format, kind)
    if chosen.record is None:
        raise error("E108", where="format", what=f"{format} is not text", fix="use `write_results`")
    records = list(_checked(results, format, kind))
    # header and footer of JSON have a line end each, so that an empty list is on two lines
    body = chosen.separator.join(map(chosen.record, records))
    footer = chosen.footer.lstrip("\n") if not records else chosen.footer
    return chosen.header(kind) + body + footer


def write_results(path: str | PathLike, results: Iterable[Result], format: str, kind: str = "events") -> None:
    r"""Write a file with the results of recordings, atomically; the arguments are those of `results_text`.

    Names that are not Unicode (bytes in file names of Linux) are written with escapes, such as `\udce9`.

    Raises:
        AstInputError: E108 for a format that is unknown or cannot hold these results.
        AstRunError: E401 if the file cannot be written.
    """
    chosen = check_format(format, kind)
    if chosen.record is None:
        write_parquet(Path(path), list(_checked(results, format, kind)), kind)
    else:
        text = results_text(results, format, kind)
        write_bytes(Path(path), text.encode("utf-8", "backslashreplace"))


def write_events(
    path: str | PathLike,
    recordings: Iterable[tuple[str, Sequence[Event | Mapping[str, Any]]]],
    format: str,
) -> None:
    """Write a file with the events of recordings, atomically.

    Args:
        path: the file.
        recordings: name and events of each recording; one for label files (`audacity`, `raven`, `webvtt`). An
            event is an `Event`, or `{"label", "score", "start", "end"}` as the pipeline returns it.
        format: `json`, `csv`, `parquet`, `audacity`, `raven`, `webvtt` or `rttm`.

    Raises:
        AstInputError: E108 for a format that is unknown, several recordings in a label file, and for events with a
            start below 0, an end not after the start, an empty label, or a score outside [0, 1].
        AstRunError: E401 if the file cannot be written.
    """
    write_results(path, [Result(name, "events", events) for name, events in recordings], format)


def events_text(recordings: Iterable[tuple[str, Sequence[Event | Mapping[str, Any]]]], format: str) -> str:
    """Return the text that `write_events` writes."""
    return results_text([Result(name, "events", events) for name, events in recordings], format)


def _checked(results: Iterable[Result], format: str, kind: str) -> Iterable[Result]:
    """Yield results; raise E108 for one of another kind, or a second one where a file holds one."""
    for number, result in enumerate(results):
        if result.kind != kind:
            what = f"is of the kind {result.kind!r}, the file of {kind!r}"
            raise error("E108", where=f"result of {result.name!r}", what=what, fix="write one file per kind")
        if number and FORMATS[format].per_recording:
            what = f"a file of {format} holds one recording"
            raise error("E108", where="format", what=what, fix="write a file for each recording")
        yield result
