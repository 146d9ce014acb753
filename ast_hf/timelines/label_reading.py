"""Reading of label files: Audacity's label tracks, WebVTT and RTTM."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import error, shown
from ..table_text import read_text
from .escapes import decode
from .rows import EventRow, make_event, number, seconds

_CUE_TIMES = re.compile(r"\s*([\d:.]+)\s*-->\s*([\d:.]+)(?:\s.*)?")
_CUE_CLOCK = re.compile(r"(?:(\d+):)?([0-5]\d):([0-5]\d\.\d{3})", re.ASCII)
_CUE_SCORE = re.compile(r"\d+ score=(\S+)")
_CUE_TAG = re.compile(r"<[^>]*>")

#: Types of lines in an RTTM file (NIST RT-09 evaluation plan, appendix A).
_RTTM_TYPES = frozenset(
    {"SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "IP", "SU"}
    | {"CB", "A/P", "SPEAKER", "SPKR-INFO"}
)


def read_audacity(path: Path, point_seconds: float | None = None) -> list[EventRow]:
    """Return the labels of one of Audacity's label tracks: start, end and label between tabs.

    Lines that begin with a backslash hold a label's range of frequencies, and are not used. An empty file is
    a track without labels.

    Args:
        path: the file.
        point_seconds: duration given to labels of a point, whose start is their end, around that point. None
            for an error: a point has no duration to train or measure on.

    Raises:
        AstDataError: E206 or E208, with line and field.
    """
    rows = []
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip() or line.startswith("\\"):
            continue
        place = f"line {line_number}"
        where = f"{path} {place}"
        fields = line.split("\t", 2)
        if len(fields) < 2:
            what = "has no tab between start and end"
            raise error("E208", where=where, what=what, fix="export the labels from Audacity again")
        start, end = fields[:2]
        label = decode(fields[2].strip()) if len(fields) > 2 else None
        rows.append(
            EventRow(None, make_event(*_widened(start, end, point_seconds, where), label, None, where), place)
        )
    return rows


def _widened(
    start: str, end: str, point_seconds: float | None, where: str
) -> tuple[str | float, str | float]:
    """Return the times of a label, those of a point made `point_seconds` apart."""
    first = seconds(start, where, "start")
    if first != number(end, where, "end"):
        return start, end
    if point_seconds is None:
        what = f"marks a point, {first:g} s, which has no duration"
        fix = "mark a region in Audacity, or set point_seconds"
        raise error("E208", where=where, what=what, fix=fix)
    begin = max(first - point_seconds / 2, 0.0)
    return begin, begin + point_seconds


def read_rttm(path: Path) -> list[EventRow]:
    """Return the SPEAKER lines of an RTTM file; other types and comments (`;;`) are left out.

    Codes for spaces in names (`%20`) are decoded. A confidence of `<NA>` is 1.

    Raises:
        AstDataError: E206 or E208, with line and field.
    """
    rows = []
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        fields = line.split()
        if not fields or fields[0].startswith((";", "#")):
            continue
        place = f"line {line_number}"
        where = f"{path} {place}"
        if fields[0] not in _RTTM_TYPES:
            what = f"begins with {shown(fields[0])}, which is no type of RTTM"
            raise error("E208", where=where, what=what, fix="begin the line of an event with SPEAKER")
        if fields[0] != "SPEAKER":
            continue
        if not 9 <= len(fields) <= 10:
            what = f"has {len(fields)} fields, not 10"
            raise error("E208", where=where, what=what, fix="write spaces in names as %20")
        name, start, duration, label, score = (fields[index] for index in (1, 3, 4, 7, 8))
        end = round(seconds(start, where, "start") + seconds(duration, where, "duration"), 9)
        event = make_event(start, end, _present(label), _present(score), where)
        rows.append(EventRow(decode(name), event, place))
    return rows


def _present(field: str) -> str | None:
    return None if field == "<NA>" else decode(field)


def read_webvtt(path: Path) -> list[EventRow]:
    """Return the cues of a WebVTT file; their text is the label, without tags such as `<v Anna>`.

    A score is read from identifiers as `write_results` writes them, `1 score=0.93`.

    Raises:
        AstDataError: E206 or E208, with line and field.
    """
    text = read_text(path)
    if not re.match(r"WEBVTT(?=[ \t\n]|\Z)", text):
        what = "does not begin with WEBVTT"
        raise error(
            "E208", where=repr(str(path)), what=what, fix="give a WebVTT file; SubRip (.srt) is not read"
        )
    return list(_cues(text, path))


def _cues(text: str, path: Path) -> Iterator[EventRow]:
    for line_number, block in _blocks(text):
        times = next((index for index, line in enumerate(block) if "-->" in line), None)
        if times is None:  # the header, a NOTE, a STYLE or a REGION
            continue
        place = f"line {line_number + times}"
        where = f"{path} {place}"
        match = _CUE_TIMES.fullmatch(block[times])
        clocks = [_CUE_CLOCK.fullmatch(time) for time in match.groups()] if match else []
        if not clocks or not all(clocks):
            what = f"has the times {block[times]!r}"
            raise error("E208", where=where, what=what, fix="write 00:00:01.500 --> 00:00:02.750")
        start, end = (3_600 * int(c[1] or 0) + 60 * int(c[2]) + float(c[3]) for c in clocks if c)
        score = _CUE_SCORE.fullmatch(block[0]) if times else None
        label = html.unescape(_CUE_TAG.sub("", " ".join(block[times + 1 :])))
        event = make_event(round(start, 3), round(end, 3), label, score[1] if score else None, where)
        yield EventRow(None, event, place)


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the blocks, with the number of their first line.

    An empty line ends a block. So does a line with `-->` that is not the first of the block, or the second below
    an identifier (W3C WebVTT, "collect a WebVTT block").
    """
    block: list[str] = []
    for line_number, line in enumerate([*text.split("\n"), ""], 1):
        is_next = "-->" in line and (len(block) > 1 or line_number == 2 or "-->" in "".join(block))
        if is_next and block:
            yield line_number - len(block), block
            block = []
        if line:
            block.append(line)
        elif block:
            yield line_number - len(block), block
            block = []
