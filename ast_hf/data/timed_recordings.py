"""Recordings with their labels and times: rows of one file together, with its length and split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..audio_clips import PART_TOLERANCE
from ..errors import AstHfError, error
from ..timelines.events import Event
from .audio_headers import Header, read_header
from .holding_out import fold_name
from .label_cells import MISSING
from .naming_conventions import SPLIT_NAMES, Row, Source
from .reading_options import ReadingOptions
from .tables import read_table
from .timed_rows import TimedPart, TimedRow, TimedTable
from .timed_sources import timed_parts
from .unread_columns import warn_of_splits


class Placed(NamedTuple):
    """Labelled sound, and the row that it is from, for messages."""

    event: Event
    where: str


@dataclass
class Recording:
    """File with everything that the tables say of it.

    Attributes:
        where: table and row that name it first.
        path: absolute path.
        name: path as the table names it.
        split: split of all of it.
        header: rate and length; None if the file cannot be read, and files are not checked.
        sounds: labelled sounds by start, with those whose labels are dropped.
        others: cells of the other columns that have one value for the recording, as text.
    """

    where: str
    path: str
    name: str
    split: str
    header: Header | None
    sounds: list[Placed] = field(default_factory=list)
    others: Row = field(default_factory=dict)


class Recordings(NamedTuple):
    """Recordings of a source.

    Attributes:
        recordings: in the order of the table of recordings, else of the labels.
        tables: the tables that they are from.
        class_order: the classes that all tables declare, None if they do not.
    """

    recordings: list[Recording]
    tables: list[TimedTable]
    class_order: list[str] | None


def read_recordings(source: Source, options: ReadingOptions) -> Recordings:
    """Return the recordings of a source with their labels and times.

    Raises:
        AstDataError: E206 for missing files; E208 for columns, labels, times after the end of a recording, a
            recording in two splits, and one that the table of recordings lacks; E209 for an empty source.
    """
    tables = [TimedTable(part, options) for part in timed_parts(source, options)]
    listing = _listing(options)
    rows: dict[str, list[TimedRow]] = {}
    for table in [*listing, *tables]:
        for row in table.rows():
            if listing and table is not listing[0] and row.path not in rows:
                raise _not_listed(row, listing[0])
            rows.setdefault(row.path, []).append(row)
    recordings = [_recording(of_one, options) for of_one in rows.values()]
    if options.fold is not None:
        options.fold.check_not_empty(recording.others[options.fold.column] for recording in recordings)
    elif not options.split_lists and not any(options.split_column in part.others for part in recordings):
        _warn_of_splits(tables)
    orders = [table.class_order for table in tables]
    return Recordings(
        recordings, [*listing, *tables], orders[0] if all(o == orders[0] for o in orders) else None
    )


def _listing(options: ReadingOptions) -> list[TimedTable]:
    """Return the table of recordings, [] without one."""
    if options.recordings is None:
        return []
    part = TimedPart.of(read_table(options.recordings.expanduser()))
    return [TimedTable(part, options, has_labels=False)]


def _not_listed(row: TimedRow, listing: TimedTable) -> AstHfError:
    what = f"{row.name!r} is not in the table of recordings, {listing.table.where!r}"
    return error("E208", where=row.where, what=what, fix="add it there, or remove its rows here")


def _warn_of_splits(tables: Sequence[TimedTable]) -> None:
    for table in tables:
        if table.part.split is None and table.table.rows:
            warn_of_splits(table.table.rows, table.files.paths, repr(table.table.where))


def _recording(rows: Sequence[TimedRow], options: ReadingOptions) -> Recording:
    """Return the recording that rows are of."""
    first = rows[0]
    others = _common_cells(rows)
    others |= _split_cells(rows, options)
    header = _header(first, options)
    recording = Recording(first.where, first.path, first.name, _split(rows, others, options), header)
    recording.others = others
    for row in rows:
        recording.sounds += [Placed(event, row.where) for event in _events(row, header, options)]
    recording.sounds.sort(key=lambda sound: (sound.event.start, sound.event.end, sound.event.label))
    return recording


def _common_cells(rows: Sequence[TimedRow]) -> Row:
    """Return the cells that are the same in all rows that have one."""
    cells: dict[str, set[str | None]] = {}
    for row in rows:
        for name, cell in row.cells.items():
            cells.setdefault(name, set()).add(cell)
    filled = {name: values - {None} for name, values in cells.items()}
    return {name: next(iter(values), None) for name, values in filled.items() if len(values) < 2}


def _split_cells(rows: Sequence[TimedRow], options: ReadingOptions) -> Row:
    """Return the cells of split and fold of a recording; raise E208 if they differ, or if the fold is missing."""
    cells = _same_cell(rows, options.split_column, _split_name)
    if options.fold is None:
        return cells
    folds = _same_cell(rows, options.fold.column, fold_name)
    if not folds:
        raise options.fold.missing_column(rows[0].where, rows[0].cells)
    return cells | folds


def _same_cell(rows: Sequence[TimedRow], column: str, name_of: Callable[[str], str]) -> Row:
    """Return a column of a recording, {} without a value; raise E208 if its rows have different ones."""
    stated = [(row, str(row.cells[column])) for row in rows if row.cells.get(column) is not None]
    for row, cell in stated:
        if cell.strip() in MISSING:
            where = f"{row.where}, column {column!r}"
            fix = "name a split or fold, or leave it empty"
            raise error("E208", where=where, what=f"{cell!r} stands for a missing value", fix=fix)
        if name_of(cell) != name_of(stated[0][1]):
            raise _in_two(row, cell, *stated[0])
    return {column: stated[0][1]} if stated else {}


def _split_name(name: str) -> str:
    return SPLIT_NAMES.get(name.strip().lower(), name.strip())


def _in_two(row: TimedRow, part: str, other: TimedRow, other_part: str) -> AstHfError:
    what = f"{row.name!r} is in {part!r} here and in {other_part!r} in {other.where}"
    fix = "give all of a recording to one part: windows of one recording resemble each other"
    return error("E208", where=row.where, what=what, fix=fix)


def _split(rows: Sequence[TimedRow], others: Mapping[str, str | None], options: ReadingOptions) -> str:
    """Return the split of a recording; raise E208 if the caller's parts name it in two."""
    given = [row for row in rows if row.split is not None]
    for row in given:
        if _split_name(str(row.split)) != _split_name(str(given[0].split)):
            raise _in_two(row, str(row.split), given[0], str(given[0].split))
    spellings = {name for row in rows for name in row.spellings} if options.split_lists else set()
    return options.split(dict(others), spellings, given[0].split if given else None)


def _header(row: TimedRow, options: ReadingOptions) -> Header | None:
    """Return the header of a recording; None for one that cannot be read, unless files are checked."""
    try:
        return read_header({"path": row.path})
    except AstHfError as problem:
        if not options.check_files:
            return None
        where = f"{row.where}, {row.name!r}"
        raise error(problem.code, where=where, what=problem.what, fix=problem.fix) from problem


def _events(row: TimedRow, header: Header | None, options: ReadingOptions) -> Iterable[Event]:
    """Return the events of a row, within the recording; raise E208 for times after its end.

    Since tables round, an event may end up to 0.1 s late (`PART_TOLERANCE`).
    """
    if not row.labels:
        return []
    end = row.end
    if header is not None:
        for name, seconds, late in (
            (row.fields[0], row.start, row.start >= header.seconds),
            (row.fields[1], row.end, row.end > header.seconds + PART_TOLERANCE),
        ):
            if late:
                what = f"{seconds:g} s is not within {row.name!r}, which lasts {header.seconds:g} s"
                fix = "give seconds from the beginning of this recording"
                raise error("E208", where=f"{row.where}, column {name!r}", what=what, fix=fix)
        end = min(end, header.seconds)
    names = dict.fromkeys(_class_name(label, row.where, options) for label in row.labels)
    return [Event(row.start, end, name) for name in names]


def _class_name(label: str, where: str, options: ReadingOptions) -> str:
    """Return the name of a label's class, which may be listed with aliases; raise E208 for one that is not."""
    classes = options.labels.classes
    if classes is None or label in options.labels.dropped:
        return label
    return classes.names[classes.index(label, where)]
