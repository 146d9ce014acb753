"""Structure of MP4, QuickTime and 3GP files (ISO 14496-12): their boxes, compared with the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .audio_content import Content, cut, damaged, unsupported

#: Boxes that a file begins with. QuickTime files of before 2001 have no `ftyp`.
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

#: Boxes of tables, of a file and of a fragment, and those on the way to the tables of samples.
_TABLES = frozenset({b"moov", b"moof"})
_NESTED = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})

#: Kinds of samples that are encrypted: by Apple's shop, and by common encryption (ISO 23001-7).
_PROTECTED = frozenset({b"drms", b"enca"})

#: Boxes at the top of a file before it is taken for nonsense: a day in fragments of 0.1 s has two for each.
_MAX_BOXES = 2_000_000


class _Box(NamedTuple):
    name: bytes
    start: int
    end: int


def check_mp4(content: Content, where: str) -> None:
    """Raise E202 for a file that is cut off or has no table, E203 for damaged boxes, E205 for a protected one.

    FFmpeg has memory for each sample that a table declares, before it looks for them.
    """
    names: set[bytes] = set()
    least = 0
    for box in _boxes(content, 0, content.size, where):
        if box.end > content.size:
            name = box.name.decode("ascii")
            raise cut(where, f"its box {name!r} is {box.end - content.size:,} bytes longer than the file")
        if box.name == b"ftyp" and b"moov" in names:
            raise damaged(
                where, "holds several recordings one after another", "split it, or convert its parts"
            )
        names.add(box.name)
        if box.name in _TABLES:
            least = max(least, _least_size(content, box, where))
    if b"moov" not in names:
        raise cut(where, "it has no table of its samples ('moov'), which is written when a recording ends")
    if least > content.size:
        raise damaged(where, f"declares samples of {least:,} bytes, and has {content.size:,}")


def _boxes(content: Content, offset: int, end: int, where: str) -> Iterator[_Box]:
    """Yield the boxes between two offsets; stop at bytes that are no box if the table was there before."""
    has_table = False
    for _ in range(_MAX_BOXES):
        head = content.at(offset, 16)
        if offset >= end:
            return
        name = head[4:8]
        if len(head) < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            if has_table:  # other programs leave zeros and tags behind the last box
                return
            if len(head) < 8:
                raise cut(where, "its last box is incomplete")
            raise damaged(where, f"is damaged at byte {offset:,}, where a box should begin")
        size = int.from_bytes(head[:4], "big")
        header = 8
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
            header = 16
        size = end - offset if size == 0 else size
        if size < header:
            raise damaged(where, f"has a box with an impossible size at byte {offset:,}")
        yield _Box(name, offset + header, offset + size)
        has_table |= name == b"moov"
        offset += size
    raise damaged(where, f"has more than {_MAX_BOXES:,} boxes")


def _least_size(content: Content, outer: _Box, where: str) -> int:
    """Return the bytes of the largest track of a table at least; raise E205 if its samples are encrypted."""
    least = 0
    for name, start, end in _inner(content, outer):
        if name in _NESTED:
            least = max(least, _least_size(content, _Box(name, start, end), where))
        elif name == b"stsz":
            fields = content.at(start + 4, 8)
            size = int.from_bytes(fields[:4], "big")  # 0: each sample has its own, in 4 bytes
            least = max(least, int.from_bytes(fields[4:], "big") * (size or 4))
        elif name == b"trun":
            least = max(least, int.from_bytes(content.at(start + 4, 4), "big"))
        elif name == b"stsd":
            for sample in _inner(content, _Box(name, start + 8, end)):
                if sample.name in _PROTECTED:
                    raise unsupported(where, "protected against copying (DRM)")
    return least


def _inner(content: Content, outer: _Box) -> Iterator[_Box]:
    """Yield the boxes inside of a box, as far as they fit into it."""
    offset = outer.start
    while offset + 8 <= outer.end:
        head = content.at(offset, 8)
        size = int.from_bytes(head[:4], "big")
        if size < 8 or offset + size > outer.end:
            return
        yield _Box(head[4:8], offset + 8, offset + size)
        offset += size
