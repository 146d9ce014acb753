"""Structure of Ogg files (RFC 3533): pages, checksums, and the streams that they belong to."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from .audio_content import Content, Layout, cut, damaged, unsupported

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
_OTHER_OGG_CODECS = {
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"\x01video": "video",
}


#: Count of samples in a page in which no packet ends.
_NO_GRANULE = -1


class _Page(NamedTuple):
    offset: int
    end: int
    flags: int
    granule: int
    serial: int
    sequence: int
    body: bytes

    @property
    def begins(self) -> bool:
        return bool(self.flags & 2)

    @property
    def ends(self) -> bool:
        return bool(self.flags & 4)


def read_ogg(content: Content, where: str) -> Layout:
    """Check every page's sum and number: one Vorbis or Opus stream, from its first to its last page."""
    audio: set[int] = set()
    names: list[str] = []
    last: dict[int, _Page] = {}
    began = False
    for page in _pages(content, where):
        if page.begins:
            if began:
                fix = "read its parts by `ffmpeg -i IN OUT.flac`, or split it"
                raise damaged(where, "holds several recordings one after another (chained Ogg)", fix)
            name = _codec(page.body)
            names.append(name)
            if name in _OGG_CODECS.values():
                audio.add(page.serial)
        began |= not page.begins
        before = last.get(page.serial)
        if before is not None and page.sequence != before.sequence + 1:
            raise damaged(where, f"lacks pages before byte {page.offset:,}")
        if before is not None and page.serial in audio and _NO_GRANULE < page.granule < before.granule:
            raise damaged(where, f"counts its samples backwards in the page at byte {page.offset:,}")
        last[page.serial] = page
        if page.ends and len(last) == 1 and _ends_stream(content, page):
            break
    if not audio:
        raise unsupported(where, f"Ogg with {' and '.join(names) or 'unknown'} content")
    if len(audio) > 1:
        fix = "extract one with `ffmpeg -i IN -map 0:a:0 OUT.flac`"
        raise damaged(where, f"holds {len(audio)} streams of audio side by side", fix)
    end = last[audio.pop()]
    if not end.ends:
        raise cut(where, "its last page is not marked as the end of the stream")
    if end.granule == _NO_GRANULE:
        raise damaged(where, "does not declare its length in its last page")
    return Layout()


def _ends_stream(content: Content, page: _Page) -> bool:
    return content.at(page.end, 4) != b"OggS"


def _codec(body: bytes) -> str:
    known = {**_OGG_CODECS, **_OTHER_OGG_CODECS}
    return next((name for mark, name in known.items() if body.startswith(mark)), "unknown")


def _pages(content: Content, where: str) -> Iterator[_Page]:
    """Yield the pages of an Ogg file; raise E202 or E203 at the first that is not whole."""
    offset = 0
    ended = False
    while offset < content.size:
        head = content.at(offset, 282)
        if not head.startswith(b"OggS"):
            if ended:  # bytes of another program behind the end
                return
            if b"OggS".startswith(head):
                raise cut(where, "its last page is incomplete")
            raise damaged(where, f"is damaged at byte {offset:,}, where a page should begin")
        segments = head[26] if len(head) > 26 else 255
        table = head[27 : 27 + segments]
        size = 27 + segments + sum(table)
        if len(table) < segments or offset + size > content.size:
            raise cut(where, "its last page is incomplete")
        raw = content.at(offset, size)
        flags, granule, serial, sequence, crc = struct.unpack("<BqIII", raw[5:26])
        if _ogg_crc(raw[:22] + bytes(4) + raw[26:]) != crc:
            raise damaged(where, f"is damaged in the page at byte {offset:,} (its checksum is wrong)")
        ended = bool(flags & 4)
        yield _Page(offset, offset + size, flags, granule, serial, sequence, raw[27 + segments :][:64])
        offset += size


def _ogg_crc(page: bytes) -> int:
    """Return the CRC-32 of Ogg: zlib's over reversed bits, without its inversions."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
