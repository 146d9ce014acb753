"""Structure of FLAC files (RFC 9639): their declared length, compared with the number of the last frame."""

from __future__ import annotations

import re
from typing import NamedTuple

from .audio_content import Content, Layout, cut, damaged

_FLAC_BLOCKS = {
    1: 192,
    **{code: 144 << code for code in range(2, 6)},
    **{code: 1 << code for code in range(8, 16)},
}


#: Bytes at the end of a file in which its last frame is searched: several frames of the largest size.
_LARGEST_WINDOW = 1 << 24


class _FlacInfo(NamedTuple):
    """Fields of STREAMINFO, and the offsets of its count of samples and of the first frame."""

    block: int
    channels: int
    total: int
    first: int


class _FlacFrame(NamedTuple):
    offset: int
    start: int
    samples: int

    @property
    def end(self) -> int:
        return self.start + self.samples


def read_flac(content: Content, where: str) -> Layout:
    """Compare the count in STREAMINFO with the number of the last frame."""
    info = _flac_info(content, where)
    first = _flac_frame(content.at(info.first, 16), 0, info)
    last = None if first is None else _last_flac_frame(content, info, first)
    if first is None or last is None:
        if not info.total:
            raise damaged(where, "does not declare its length, and its last frame cannot be found")
        return Layout()
    length = last.end - first.start
    if info.total and length > info.total:
        raise damaged(
            where, f"declares {info.total:,} frames and holds {length:,}; it may be several files joined"
        )
    if info.total:
        missing = f"its last frame ends at {length:,}, its header declares {info.total:,}"
        return Layout(missing=missing if length < info.total else None)
    field = int.from_bytes(content.at(18, 8), "big") | length
    return Layout(patches=((18, field.to_bytes(8, "big")),))


def _flac_info(content: Content, where: str) -> _FlacInfo:
    offset = 4
    fields = content.at(offset + 4, 34)
    if len(fields) < 34:
        raise cut(where, "its stream ends early, in the header")
    number = int.from_bytes(fields[10:18], "big")
    while True:
        block = content.at(offset, 4)
        if len(block) < 4:
            raise cut(where, "its stream ends early, in the header")
        offset += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            break
    block_size = int.from_bytes(fields[2:4], "big")
    return _FlacInfo(block_size, (number >> 41 & 7) + 1, number & ((1 << 36) - 1), offset)


def _flac_frame(data: bytes, place: int, info: _FlacInfo, fixed: int | None = None) -> _FlacFrame | None:
    """Return the frame whose header is at `place` in `data`, or None if that is no header."""
    header = data[place : place + 16]
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    block_code, rate_code = header[2] >> 4, header[2] & 15
    channel_code = header[3] >> 4
    channels = channel_code + 1 if channel_code < 8 else 2
    if not block_code or rate_code == 15 or channel_code > 10 or header[3] & 1 or channels != info.channels:
        return None
    size = _coded_size(header[4])
    if not size:
        return None
    number = header[4] & (0x7F if size == 1 else (1 << (7 - size)) - 1)
    for byte in header[5 : 4 + size]:
        number = number << 6 | byte & 0x3F
    end = 4 + size
    count = _FLAC_BLOCKS.get(block_code, 0)
    if block_code in (6, 7):
        width = block_code - 5
        count = int.from_bytes(header[end : end + width], "big") + 1
        end += width
    end += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if end >= len(header) or _crc8(header[:end]) != header[end]:
        return None
    start = number if header[1] & 1 else number * (fixed or info.block)
    return _FlacFrame(place, start, count)


def _coded_size(byte: int) -> int:
    """Return the bytes of a number in UTF-8's form by its first byte, 0 for an impossible one."""
    if byte < 0x80:
        return 1
    ones = 8 - (byte ^ 0xFF).bit_length()
    return ones if 2 <= ones <= 7 else 0


def _crc8_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1 ^ 0x107) if byte & 0x80 else byte << 1
        table.append(byte & 0xFF)
    return table


_CRC8 = _crc8_table()


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _last_flac_frame(content: Content, info: _FlacInfo, first: _FlacFrame) -> _FlacFrame | None:
    """Return the last frame whose predecessor is found too, searched in the end of the file."""
    window = 1 << 16
    while True:
        start = max(info.first, content.size - window)
        data = content.at(start, content.size - start)
        found: dict[int, _FlacFrame] = {}
        last = None
        for match in re.finditer(rb"\xff[\xf8\xf9]", data):
            frame = _flac_frame(data, match.start(), info, first.samples)
            if frame is None:
                continue
            if frame.start in found or start + frame.offset == info.first:
                last = frame
            found[frame.end] = frame
        if last is not None or start == info.first or window >= _LARGEST_WINDOW:
            return last
        window *= 16


def holds_second_flac(content: Content) -> bool:
    """Return True if a second FLAC stream follows in the same file."""
    return content.find(b"fLaC\x00\x00\x00\x22", 4) >= 0
