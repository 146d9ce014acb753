"""Rows of CSV text, with checks for quotes that swallow rows.

A quoted cell may hold line breaks, so one stray quote turns the rows up to the next quote into a cell. Such
text is refused where it is not valid, and where a cell holds lines that look like rows.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .errors import AstHfError, error

#: Function that returns True for a cell that names an audio file.
NamesAudio = Callable[[str], bool]

#: Separators of the cells of a `.csv` file whose head line has no comma; Excel writes `;` in most of Europe.
SEPARATORS = (";", "\t", "|")

#: Fix for quotes that do not match.
_CLOSE_QUOTES = 'close the quote, or write a quote within a quoted cell twice (""); keep each row on one line'

_SPACE_AFTER_QUOTE = re.compile(r'" +(?=[,;\t|]|\n|\Z)')


class _Record(NamedTuple):
    """The cells of a row, and its number from 1; 0 for the head line."""

    number: int
    cells: list[str]


def csv_rows(
    text: str, path: Path, names_audio: NamesAudio, separator: str | None = None
) -> list[dict[str, Any]]:
    """Return the rows below a head line; spaces after a separator and empty rows are skipped.

    Args:
        text: content of the file, with newlines as line ends.
        path: the file, for messages; the cells of a `.tsv` file are separated by tabs.
        names_audio: recognises cells that name audio files. A line with one is a row, not a head line.
        separator: separator of the cells, None for the one that the head line shows.

    Raises E208, naming row and line, for quotes that are not closed or closed within a cell, for cells over
    131,072 characters (the limit of Python's `csv`), for rows with more cells than the head line, and for a
    missing head line.
    """
    lines = list(io.StringIO(text))
    head_line = next((line for line in lines if line.strip()), "")
    if separator is None:
        separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(head_line)
    records = _records(lines, separator, path, names_audio)
    head = next(records, None)
    if head is None:
        return []
    columns = [" ".join(name.splitlines()).strip() for name in head.cells]
    _check_columns(columns, path, names_audio)
    return [_row(columns, record, path) for record in records]


def separator_of(head: str) -> str:
    """Return the separator of a `.csv` file: a comma, or the only one of `SEPARATORS` in a head line."""
    marks = [mark for mark in SEPARATORS if mark in head]
    return marks[0] if len(marks) == 1 and "," not in head else ","


def _row(columns: list[str], record: _Record, path: Path) -> dict[str, Any]:
    """Return the cells by column, None for those that are missing at the end of the row."""
    surplus = len(record.cells) - len(columns)
    if surplus > 0:
        what = f"has {surplus} fields more than the head line"
        fix = "quote fields that contain the separator"
        raise error("E208", where=f"{path} row {record.number}", what=what, fix=fix)
    row: dict[str, Any] = dict(zip(columns, record.cells, strict=False))
    if surplus < 0:
        row |= dict.fromkeys(columns[surplus:])
    return row


def _records(lines: list[str], separator: str, path: Path, names_audio: NamesAudio) -> Iterator[_Record]:
    """Yield the records that have a value; raise E208 for one that is not valid CSV."""
    source = iter(lines)
    reader = _reader(source, separator)
    lines_before = 0  # those that an earlier reader took
    number = 0
    last = 0
    while True:
        first = last + 1
        try:
            cells = next(reader)
            last = lines_before + reader.line_num
        except StopIteration:
            return
        except csv.Error as problem:
            last = lines_before + reader.line_num
            cells = _cells_with_spaces(lines[first - 1 : last], separator)
            if not cells:
                raise _invalid(str(problem), _where(path, number, first)) from problem
            lines_before = last
            reader = _reader(source, separator)
        if any(cell and not cell.isspace() for cell in cells):
            if last > first:
                where = _where(path, number, first)
                _check_lines(lines[first - 1 : last], separator, len(cells), where, names_audio)
            yield _Record(number, cells)
            number += 1


def _reader(source: Iterator[str], separator: str) -> Any:
    return csv.reader(source, delimiter=separator, skipinitialspace=True, strict=True)


def _where(path: Path, number: int, line: int) -> str:
    return f"{path} row {number} (line {line})" if number else f"{path} head line"


def _cells_with_spaces(lines: Sequence[str], separator: str) -> list[str]:
    """Return the cells of a line with spaces between a closing quote and the separator, [] for others."""
    if len(lines) != 1:
        return []
    try:
        return next(_reader(iter([_SPACE_AFTER_QUOTE.sub('"', lines[0])]), separator))
    except csv.Error:
        return []


def _invalid(problem: str, where: str) -> AstHfError:
    """Return the E208 for a message of Python's `csv`."""
    if "limit" in problem:
        what = f"has a cell of more than {csv.field_size_limit():,} characters, or a quote that is not closed"
    elif "end of data" in problem:
        what = "has a quote that is not closed before the end of the file"
    else:
        what = f"has a quote that is not closed, or text after a closing quote ({problem})"
    return error("E208", where=where, what=what, fix=_CLOSE_QUOTES)


def _check_lines(
    lines: Sequence[str], separator: str, cells: int, where: str, names_audio: NamesAudio
) -> None:
    """Raise E208 for a record of several lines of which two look like rows: a quote is not closed.

    Lines that name an audio file look like rows; where no line does, those with as many cells as the record.
    """
    pieces = [line.split(separator) for line in lines]
    rows = sum(any(map(names_audio, line)) for line in pieces)
    rows = rows or sum(len(line) >= cells > 1 for line in pieces)
    if rows > 1:
        what = f"has a quoted cell over {len(lines)} lines, {rows} of which look like rows"
        raise error("E208", where=where, what=what, fix=_CLOSE_QUOTES)


def _check_columns(columns: list[str], path: Path, names_audio: NamesAudio) -> None:
    """Raise E208 if the first line names a clip instead of the columns, or a column twice."""
    for name in columns:
        if names_audio(name):
            what = f"has no head line: its first line names the file {name!r}"
            fix = "write the names of the columns above it, such as path,label"
            raise error("E208", where=repr(str(path)), what=what, fix=fix)
    refuse_repeated(columns, path)


def refuse_repeated(columns: Sequence[str], path: Path) -> None:
    """Raise E208 for a table that names a column twice."""
    repeated = [name for name, count in Counter(columns).items() if name and count > 1]
    if repeated:
        what = f"names the column {repeated[0]!r} more than once"
        raise error("E208", where=repr(str(path)), what=what, fix="give each column a different name")
