"""Columns of tables of events, by the names that tools and data sets give them.

Case, spaces and punctuation do not matter: `Begin Time (s)`, `begin_time_s` and `beginTimeS` are one name.
Sources: DESED and DCASE (`filename, onset, offset, event_label`), Raven Pro, BirdNET-Analyzer (`Start (s), End
(s), Scientific name, Common name, Confidence, File`), Audacity, NeMo's manifests (`audio_filepath, offset,
duration`), and the table columns of `load_audio_dataset`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import did_you_mean, error, not_a_choice

#: What may follow the name of a time; other units (`start_ms`, `begin_sample`) are not read.
_UNITS = ("", "s", "sec", "secs", "second", "seconds", "ins", "insec", "inseconds")


def _times(*names: str) -> tuple[str, ...]:
    return tuple(name + time + unit for name, time, unit in itertools.product(names, ("", "time"), _UNITS))


#: Role -> names in small letters without spaces and punctuation, by priority.
ALIASES: dict[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "path", "filepath", "audio", "audiofile", "audiofilename", "audiofilepath"),
        *("audiopath", "wav", "recording", "beginpath", "beginfile", "soundfile", "sourcefile", "infile", "uri"),
        *("recordingid", "clip", "clipid", "segmentid", "audioid", "ytid"),
    ),
    "start": _times("start", "onset", "begin"),
    "end": _times("end", "offset", "stop"),
    "duration": (*_times("duration"), "dur", "length"),
    "label": (
        *("label", "eventlabel", "annotation", "class", "classname", "category", "tag", "tags", "species"),
        *("commonname", "scientificname", "labels", "event", "name", "target"),
    ),
    "score": ("score", "confidence", "probability"),
}  # fmt: skip

#: Roles that a user can assign to a column.
ROLES = tuple(ALIASES)


class EventColumns(NamedTuple):
    """Column of each role, None where there is none; one of `end` and `duration` is given."""

    start: str
    label: str
    end: str | None
    duration: str | None
    file: str | None
    score: str | None


def find_columns(columns: Sequence[str], where: str, chosen: Mapping[str, str] | None = None) -> EventColumns:
    """Return the column of each role.

    Args:
        columns: columns of the table.
        where: the table, for messages.
        chosen: role -> column, in place of the names in `ALIASES`.

    Raises:
        AstInputError: E108 for a role that does not exist.
        AstDataError: E208 if there is no start, end or label, or a chosen column is missing.
    """
    found = {role: _find(role, columns) for role in ROLES}
    for role, column in (chosen or {}).items():
        if role not in ROLES:
            raise not_a_choice("E108", where="columns", value=role, choices=ROLES)
        if column not in columns:
            what = f"has the columns {', '.join(columns)}, none is {column!r}"
            raise error("E208", where=where, what=what, fix=did_you_mean(column, columns))
        found[role] = column
    if found["start"] is None and found["end"] and plain_name(found["end"]).startswith("offset"):
        found["start"], found["end"] = found["end"], None  # NeMo: offset and duration
    _check(found, columns, where)
    return EventColumns(**found)  # type: ignore[arg-type]


def plain_name(column: str) -> str:
    """Return the name of a column in small letters, without spaces and punctuation."""
    return "".join(char for char in column.casefold() if char.isalnum())


def _find(role: str, columns: Iterable[str]) -> str | None:
    plain = {plain_name(column): column for column in reversed(list(columns))}
    return next((plain[name] for name in ALIASES[role] if name in plain), None)


def _check(found: Mapping[str, str | None], columns: Sequence[str], where: str) -> None:
    missing = [role for role in ("start", "label") if found[role] is None]
    if not (found["end"] or found["duration"]):
        missing.insert(1 if "start" in missing else 0, "end")
    if not missing:
        return
    listed = ", ".join(columns)
    if any(column.replace(".", "", 1).strip().isdigit() for column in columns):
        what = f"has no head line: its first line is {listed}"
        raise error(
            "E208", where=where, what=what, fix="write the names of the columns above it: start, end, label"
        )
    what = f"has the columns {listed}, none is the {' or '.join(missing)} of an event"
    fix = "name the columns start and end, in seconds, and label; or choose columns by `columns`"
    raise error("E208", where=where, what=what, fix=fix)
