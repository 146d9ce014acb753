"""Structure of audio files: what their chunks, pages and frames say about their length, before decoding.

libsndfile believes the counts in a header. Files that were written to a pipe have none, or a placeholder, and
files that were cut, joined or damaged have wrong ones. `read_layout` compares the counts with the file, and
returns what libsndfile needs to decode it completely.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .errors import AstHfError, error

#: WAVE format code -> name; codes of other samples are refused before libsndfile reads the file, since some
#: of its decoders are unsafe or print (`audio_formats.KNOWN_PROBLEMS`).
_WAVE_CODES = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}
_OTHER_WAVE_CODES = {
    0x02: "MS ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x50: "MP2",
    0x55: "MP3",
    0xFF: "AAC",
    0x2000: "AC-3",
}
_EXTENSIBLE = 0xFFFE
_AIFF_CODES = frozenset(
    {b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"42ni", b"23ni", b"fl32", b"FL32", b"fl64"}
    | {b"FL64", b"ulaw", b"ULAW", b"alaw", b"ALAW"}
)
_AU_CODES = frozenset({1, 2, 3, 4, 5, 6, 7, 27})
_CAF_CHUNKS = frozenset(
    {b"desc", b"data", b"pakt", b"kuki", b"chan", b"info", b"free", b"strg", b"mark", b"regn"}
)
_CAF_CODES = frozenset({b"lpcm", b"alaw", b"ulaw", b"alac"})

#: Last 12 bytes of the ids of Wave64 chunks (Sony Pictures Digital, Wave64 1.0); the "riff" chunk's differs.
_W64_ID = bytes.fromhex("f3acd3118cd100c04f8edb8a")

#: Chunks in a file before it is taken for nonsense.
_MAX_CHUNKS = 1_000

#: A shorter file without a chunk of samples is a part of its header.
_LARGEST_HEADER = 1_024

_UNKNOWN = b"\xff\xff\xff\xff"


class Layout(NamedTuple):
    """What libsndfile needs to decode a file completely, and what is wrong with the file.

    Attributes:
        patches: (offset, bytes) that replace header fields without a valid count.
        size: bytes that libsndfile is told, None for the true number.
        frames: length in frames, for files whose length libsndfile can only estimate.
        missing: why the file seems to be cut off, if decoding shows whether it is that or damaged.
    """

    patches: tuple[tuple[int, bytes], ...] = ()
    size: int | None = None
    frames: int | None = None
    missing: str | None = None


class Content:
    """Bytes of an open file from its current position on, read at any offset."""

    _WINDOW = 1 << 16

    def __init__(self, file: Any) -> None:
        self.file = file
        self.base = file.tell()
        self.size = max(file.seek(0, 2) - self.base, 0)
        self._start = 0
        self._bytes = b""

    def skip(self, count: int) -> None:
        """Move the beginning `count` bytes on."""
        self.base += count
        self.size -= count
        self._bytes = b""

    def at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, fewer at the end of the file."""
        first = offset - self._start
        if first < 0 or first + count > len(self._bytes):
            self.file.seek(self.base + offset)
            self._bytes = self.file.read(max(count, self._WINDOW))
            self._start = offset
            first = 0
        return self._bytes[first : first + count]

    def find(self, mark: bytes, start: int) -> int:
        """Return the offset of the first `mark` at `start` or behind it, or -1."""
        step = 1 << 20
        for offset in range(start, self.size, step):
            self.file.seek(self.base + offset)
            position = self.file.read(step + len(mark) - 1).find(mark)
            if position >= 0:
                return offset + position
        return -1


class _Chunk(NamedTuple):
    id: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


def cut(where: str, reason: str) -> AstHfError:
    """Return E202 for a file that ends too early."""
    return error("E202", where=where, what=f"is cut off: {reason}", fix="copy or download the file again")


def damaged(where: str, what: str, fix: str = "copy or download the file again, or drop it") -> AstHfError:
    """Return E203 for a file whose stream is damaged or contradicts itself."""
    return error("E203", where=where, what=what, fix=fix)


def unsupported(where: str, kind: str) -> AstHfError:
    """Return E205 for a format that is not decoded."""
    fix = "convert it, for example with `ffmpeg -i IN OUT.flac`"
    return error("E205", where=where, what=f"is {kind}, which is not supported", fix=fix)


def read_layout(content: Content, where: str) -> Layout:
    """Return the layout of an audio file, and move `content` behind a tag that libsndfile cannot skip.

    Raises:
        AstDataError: E202 for a file that is cut off, E203 for one that is damaged or contradicts itself, E205
            for a kind of samples that is not decoded.
    """
    begin = _behind_id3(content)
    if begin and content.at(begin, 4).startswith(_ALL_MARKS):
        content.skip(begin)
        begin = 0
    head = content.at(0, 4)
    for marks, read in _READERS:
        if head.startswith(marks):
            return read(content, where)
    return _mpeg(content, begin, where)


def _has_no_count(size: int) -> bool:
    """Return True for a 32-bit size that programs write to a pipe: near 2^32, 2^31 or 0x7F000000."""
    return size >= 0xFFFFF000 or 0x7FFFE000 <= size <= 0x80001000 or 0x7F000000 <= size <= 0x7F001000


def _chunks(content: Content, offset: int, form: str, where: str) -> Iterator[_Chunk]:
    """Yield the chunks of a RIFF, IFF, CAF or Wave64 file; stop at bytes that are no chunk.

    `form` is the form of a chunk's id and size for `struct`.
    """
    header = struct.Struct(form)
    wave64 = header.size == 24
    align = {8: 2, 12: 1, 24: 8}[header.size]
    for _ in range(_MAX_CHUNKS):
        raw = content.at(offset, header.size)
        if len(raw) < header.size:
            return
        name, length = header.unpack(raw)
        plausible = name[4:] == _W64_ID if wave64 else all(32 <= byte < 127 for byte in name)
        if not plausible:
            return
        start = offset + header.size
        if wave64:
            length -= header.size
        yield _Chunk(name[:4], start, length)
        if length < 0:
            return
        offset = start + length
        offset += -offset % align
    raise damaged(where, f"has more than {_MAX_CHUNKS} chunks in its header")


def _check_chunk(chunk: _Chunk, content: Content, where: str) -> None:
    if chunk.end > content.size:
        raise cut(where, f"its header ends early, in the chunk {chunk.id.decode('ascii', 'replace')!r}")


def _no_data(content: Content, where: str) -> AstHfError:
    """Return the error for a header without a chunk of samples."""
    if content.size < _LARGEST_HEADER:
        return cut(where, "its header ends early, before its samples")
    return damaged(where, "has no chunk of samples")


def _seconds(count: int, frame: int, rate: int) -> str:
    """Return bytes as seconds of audio, or as bytes if the header does not allow that."""
    return f"{count / frame / rate:.3f} s" if frame and rate else f"{count:,} bytes"


def _lost(there: int, declared: int, frame: int, rate: int, where: str) -> AstHfError:
    reason = f"{_seconds(there, frame, rate)} are there, its header declares "
    return cut(where, reason + _seconds(declared, frame, rate))


def _wave(content: Content, where: str) -> Layout:
    """Read the chunks of RIFF, RIFX and RF64 files (Microsoft RIFF 1991, EBU Tech 3306)."""
    head = content.at(0, 12)
    if len(head) < 12:
        raise cut(where, "its header ends early")
    if head[8:] != b"WAVE":
        raise unsupported(where, f"a RIFF file of type {head[8:].decode('ascii', 'replace')!r}")
    order = ">" if head.startswith(b"RIFX") else "<"
    riff_size = struct.unpack(order + "I", head[4:8])[0]
    frame = rate = 0
    long_sizes: _Chunk | None = None
    for chunk in _chunks(content, 12, order + "4sI", where):
        if chunk.id == b"data":
            return _wave_data(content, chunk, riff_size, long_sizes, (frame, rate), order, where)
        _check_chunk(chunk, content, where)
        if chunk.id == b"fmt ":
            if frame or rate:
                raise damaged(where, "has two chunks 'fmt '")
            frame, rate = _wave_format(content.at(chunk.start, min(chunk.length, 40)), order, where)
        elif chunk.id == b"ds64" and head.startswith(b"RF64"):
            long_sizes = chunk
    raise _no_data(content, where)


def _wave_format(fields: bytes, order: str, where: str) -> tuple[int, int]:
    """Return bytes per frame and frames per second; raise E205 unless the samples are PCM, float or a law."""
    if len(fields) < 16:
        raise damaged(where, "has a chunk 'fmt ' that is too short")
    code, channels, rate, _, _, bits = struct.unpack(order + "HHIIHH", fields[:16])
    if code == _EXTENSIBLE and len(fields) >= 26:
        code = struct.unpack(order + "H", fields[24:26])[0]
    if code not in _WAVE_CODES:
        name = _OTHER_WAVE_CODES.get(code, f"format 0x{code:04x}")
        raise unsupported(where, f"WAV with {name} samples")
    return channels * math.ceil(bits / 8), rate


def _wave_data(
    content: Content,
    data: _Chunk,
    riff_size: int,
    long_sizes: _Chunk | None,
    frame_rate: tuple[int, int],
    order: str,
    where: str,
) -> Layout:
    """Return the layout of a WAV whose samples are `data`."""
    there = content.size - data.start
    behind = _is_chunk(content.at(data.end, 4)) or _is_chunk(content.at(data.end + 1, 4))
    unfinished = riff_size in (0, data.start - 8) or _has_no_count(riff_size)
    if long_sizes is not None and data.length == 0xFFFFFFFF:
        sizes = content.at(long_sizes.start, 24)
        length = struct.unpack("<Q", sizes[8:16])[0] if len(sizes) == 24 else 0
        if there and (length == 0 or length >= 1 << 62):
            frames = there // (frame_rate[0] or 1)
            counts = struct.pack("<QQQ", content.size - 8, there, frames)
            return Layout(patches=((long_sizes.start, counts),))
        data = data._replace(length=length)
    elif data.length > there and _has_no_count(data.length):
        return Layout(patches=((4, _UNKNOWN), (data.start - 4, _UNKNOWN)))
    elif data.length == 0 and there > 1 and not _is_chunk(content.at(data.start, 4)):
        if not unfinished:
            raise cut(where, f"its header declares 0 bytes of audio, {there:,} bytes follow")
        return Layout(patches=((4, _UNKNOWN), (data.start - 4, _UNKNOWN)))
    if data.length > there:
        raise _lost(there, data.length, *frame_rate, where)
    rest = riff_size + 8 - data.end
    if rest >= 8 and not behind and riff_size + 8 <= content.size and any(content.at(data.end, 8)):
        raise damaged(
            where, f"declares {data.length:,} bytes of audio, and {rest:,} more that belong to no chunk"
        )
    for chunk in _chunks(content, data.end + data.end % 2, order + "4sI", where):
        if chunk.id == b"data":
            raise damaged(where, "has two chunks of samples, and only one is allowed")
    return Layout()


def _is_chunk(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _wave64(content: Content, where: str) -> Layout:
    """Read the chunks of a Wave64 file, whose sizes include their headers of 24 bytes."""
    frame = rate = 0
    riff_size = int.from_bytes(content.at(16, 8), "little")
    for chunk in _chunks(content, 40, "<16sq", where):
        there = content.size - chunk.start
        if chunk.id != b"data":
            _check_chunk(chunk, content, where)
            if chunk.id == b"fmt ":
                frame, rate = _wave_format(content.at(chunk.start, min(chunk.length, 40)), "<", where)
            continue
        if chunk.length < 0 and not (chunk.length == -24 and riff_size == 0):
            raise damaged(where, "has a chunk of samples with an impossible size")
        streamed = chunk.length >= 1 << 62 or (chunk.length <= 0 and riff_size == 0)
        if streamed and there:
            sizes = [(16, content.size), (chunk.start - 8, there + 24)]
            return Layout(patches=tuple((offset, struct.pack("<Q", size)) for offset, size in sizes))
        if chunk.length > there:
            raise _lost(there, chunk.length, frame, rate, where)
        return Layout(frames=chunk.length // frame if frame else None)  # libsndfile reads to the file's end
    raise _no_data(content, where)


def _aiff(content: Content, where: str) -> Layout:
    """Read the chunks of an AIFF or AIFF-C file (Apple, AIFF 1.3); both COMM and SSND count its samples."""
    head = content.at(0, 12)
    if len(head) < 12:
        raise cut(where, "its header ends early")
    if head[8:] not in (b"AIFF", b"AIFC"):
        raise unsupported(where, f"an IFF file of type {head[8:].decode('ascii', 'replace')!r}")
    common = sound = None
    for chunk in _chunks(content, 12, ">4sI", where):
        if chunk.id == b"SSND":
            sound = chunk
            if common or chunk.end > content.size:
                break
            continue
        _check_chunk(chunk, content, where)
        common = chunk if chunk.id == b"COMM" else common
    if common is None or sound is None:
        raise cut(where, "its header ends early, without its chunks 'COMM' and 'SSND'")
    return _aiff_sound(content, common, sound, where)


def _aiff_sound(content: Content, common: _Chunk, sound: _Chunk, where: str) -> Layout:
    fields = content.at(common.start, 22)
    if len(fields) < 18 or common.length < 18:
        raise damaged(where, "has a chunk 'COMM' that is too short")
    code = fields[18:22] if content.at(8, 4) == b"AIFC" and common.length >= 22 else b"NONE"
    if code not in _AIFF_CODES:
        raise unsupported(where, f"AIFF with {code.decode('ascii', 'replace')!r} samples")
    channels, frames, bits = struct.unpack(">HIH", fields[:8])
    width = channels * _aiff_bytes(code, bits)
    there = content.size - sound.start
    empty = frames == 0 and sound.length in (0, 8) and there > 8
    if (sound.length > there and _has_no_count(sound.length)) or empty:
        known = (there - 8) // (width or 1)
        counts = [(4, content.size - 8), (common.start + 2, known), (sound.start - 4, there)]
        return Layout(
            patches=tuple((place, min(count, 0xFFFFFFFE).to_bytes(4, "big")) for place, count in counts)
        )
    declared = sound.length - 8
    if sound.length > there:
        raise _lost(max(there - 8, 0), declared, 0, 0, where)
    if width and frames * width > declared:
        raise _lost(declared, frames * width, 0, 0, where)
    if width and frames * width < declared - max(width, 8):
        raise damaged(where, f"declares {frames:,} frames in one place, and {declared // width:,} in another")
    return Layout()


def _aiff_bytes(code: bytes, bits: int) -> int:
    fixed = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}
    return fixed.get(code, math.ceil(bits / 8))


def _au(content: Content, where: str) -> Layout:
    """Read the header of a Sun/NeXT file."""
    head = content.at(0, 24)
    if len(head) < 24:
        raise cut(where, "its header ends early")
    order = ">" if head.startswith(b".snd") else "<"
    offset, size, code, rate, channels = struct.unpack(order + "IIIII", head[4:24])
    if code not in _AU_CODES:
        raise unsupported(where, f"AU with samples of encoding {code}")
    there = content.size - offset
    if size == 0xFFFFFFFF or there <= 0:
        return Layout()
    if size == 0 or (size > there and _has_no_count(size)):
        return Layout(patches=((8, _UNKNOWN),))
    if size > there:
        frame = channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}[code]
        raise _lost(there, size, frame, rate, where)
    return Layout()


def _caf(content: Content, where: str) -> Layout:
    """Read the chunks of a Core Audio file (Apple, CAF 1.0); a size of -1 means up to the file's end."""
    seen = False
    for chunk in _chunks(content, 8, ">4sq", where):
        there = content.size - chunk.start
        if chunk.id == b"desc":
            _check_chunk(chunk, content, where)
            code = content.at(chunk.start + 8, 4)
            if code not in _CAF_CODES:
                raise unsupported(where, f"CAF with {code.decode('ascii', 'replace')!r} samples")
        if chunk.id == b"data":
            if seen:
                raise damaged(where, "has two chunks of samples, and only one is allowed")
            seen = True
            if chunk.length == -1:
                return Layout(patches=((chunk.start - 8, struct.pack(">q", there)),))
            if chunk.length < 4 < there:
                raise cut(
                    where, f"its header declares {chunk.length:,} bytes of audio, {there:,} bytes follow"
                )
            if chunk.length > there:
                raise _lost(there, chunk.length, 0, 0, where)
        if chunk.length < 0:
            raise damaged(where, "has a chunk with an impossible size")
        if chunk.id in _CAF_CHUNKS:
            _check_chunk(chunk, content, where)
    if not seen:
        raise _no_data(content, where)
    return Layout()


# FLAC (RFC 9639).

_FLAC_BLOCKS = {
    1: 192,
    **{code: 144 << code for code in range(2, 6)},
    **{code: 1 << code for code in range(8, 16)},
}


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


def _flac(content: Content, where: str) -> Layout:
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
        if last is not None or start == info.first or window > 1 << 24:
            return last
        window *= 16


def holds_second_flac(content: Content) -> bool:
    """Return True if a second FLAC stream follows in the same file."""
    return content.find(b"fLaC\x00\x00\x00\x22", 4) >= 0


# Ogg (RFC 3533).

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
_OTHER_OGG_CODECS = {
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"\x01video": "video",
}


class _Page(NamedTuple):
    offset: int
    end: int
    flags: int
    serial: int
    sequence: int
    body: bytes

    @property
    def begins(self) -> bool:
        return bool(self.flags & 2)

    @property
    def ends(self) -> bool:
        return bool(self.flags & 4)


def _ogg(content: Content, where: str) -> Layout:
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
        last[page.serial] = page
        if page.ends and len(last) == 1 and _ends_stream(content, page):
            break
    if not audio:
        raise unsupported(where, f"Ogg with {' and '.join(names) or 'unknown'} content")
    if len(audio) > 1:
        fix = "extract one with `ffmpeg -i IN -map 0:a:0 OUT.flac`"
        raise damaged(where, f"holds {len(audio)} streams of audio side by side", fix)
    if not last[audio.pop()].ends:
        raise cut(where, "its last page is not marked as the end of the stream")
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
        flags, _, serial, sequence, crc = struct.unpack("<BqIII", raw[5:26])
        if _ogg_crc(raw[:22] + bytes(4) + raw[26:]) != crc:
            raise damaged(where, f"is damaged in the page at byte {offset:,} (its checksum is wrong)")
        ended = bool(flags & 4)
        yield _Page(offset, offset + size, flags, serial, sequence, raw[27 + segments :][:64])
        offset += size


def _ogg_crc(page: bytes) -> int:
    """Return the CRC-32 of Ogg: zlib's over reversed bits, without its inversions."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


# MPEG audio (ISO 11172-3, 13818-3).

_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BIT_RATES[2, 3] = _BIT_RATES[2, 2]
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class _MpegFrame(NamedTuple):
    """Header of a frame: what must not change within a stream, its bytes, its samples per channel."""

    stream: tuple[int, int, int, bool]
    length: int
    samples: int


def _mpeg_frame(header: bytes) -> _MpegFrame | None:
    """Return the frame that 4 bytes begin, or None; free-format frames are not read."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate_code = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate_code == 3:
        return None
    generation = 1 if version == 3 else 2
    rate = _MPEG_RATES[version][rate_code]
    bit_rate = _BIT_RATES[generation, layer][bits] * 1_000
    padding = header[2] >> 1 & 1
    mono = header[3] >> 6 == 3
    if layer == 1:
        return _MpegFrame((version, layer, rate, mono), (12 * bit_rate // rate + padding) * 4, 384)
    samples = 576 if layer == 3 and generation == 2 else 1_152
    return _MpegFrame((version, layer, rate, mono), samples // 8 * bit_rate // rate + padding, samples)


def _behind_id3(content: Content) -> int:
    """Return the offset behind the ID3v2 tags at the beginning of a file."""
    offset = 0
    while True:
        end = _tag_end(content, offset)
        if end is None:
            return offset
        offset = end


def _tag_end(content: Content, offset: int) -> int | None:
    """Return the end of the ID3v2 tag at `offset`, or None if there is none."""
    head = content.at(offset, 10)
    if len(head) < 10 or not head.startswith(b"ID3") or any(byte & 0x80 for byte in head[6:]):
        return None
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte
    return offset + 10 + size + (10 if head[5] & 0x10 else 0)


def _mpeg(content: Content, begin: int, where: str) -> Layout:
    """Count the frames of an MP3, and compare them with the count of its first frame, if that has one."""
    first = _mpeg_frame(content.at(begin, 4))
    if first is None:
        if begin >= content.size:
            raise cut(where, "it ends in its tag")
        return Layout()  # libsndfile says what it is, or why it cannot be read
    declared, is_info = _declared_frames(content.at(begin, 200))
    count, longest, partial = _count_frames(content, begin, first, where)
    count -= is_info
    if declared and count < declared:
        raise cut(where, f"{count:,} frames are there, its header declares {declared:,}")
    if declared and count > declared + 1:
        fix = "convert its parts one by one, for example with `ffmpeg -i IN OUT.flac`"
        raise damaged(
            where, f"declares {declared:,} frames and holds {count:,}; it may be several files joined", fix
        )
    if declared:
        return Layout()
    if partial:
        raise cut(where, "its last frame is incomplete")
    # Without a count libsndfile takes its estimate for the length, and never reads more. Told a larger size,
    # it estimates too much, and reads up to the end.
    size = begin + 4 * (count + 8) * longest
    return Layout(size=max(size, content.size), frames=count * first.samples)


def _declared_frames(frame: bytes) -> tuple[int, int]:
    """Return the count in a Xing, Info or VBRI frame or 0, and 1 if it is such a frame, which has no audio."""
    for name in (b"Xing", b"Info"):
        place = frame.find(name, 4, 48)
        if place > 0:
            flags = int.from_bytes(frame[place + 4 : place + 8], "big")
            return (int.from_bytes(frame[place + 8 : place + 12], "big") if flags & 1 else 0), 1
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), 1
    return 0, 0


def _count_frames(content: Content, begin: int, first: _MpegFrame, where: str) -> tuple[int, int, bool]:
    """Return the number of whole frames, the bytes of the longest, and whether a part of one follows."""
    offset = begin
    count = longest = 0
    while True:
        frame = _mpeg_frame(content.at(offset, 4))
        if frame is None:
            behind = _behind_tags(content, offset)
            if behind >= content.size:
                return count, longest, False
            if behind > offset and _mpeg_frame(content.at(behind, 4)):
                offset = behind
                continue
            return count, longest, _is_partial(content, behind, first, where)
        if frame.stream != first.stream:
            if not _follows(content, offset, frame):
                return count, longest, _is_partial(content, offset + 1, first, where)
            fix = "convert its parts one by one, for example with `ffmpeg -i IN OUT.flac`"
            raise damaged(where, f"changes its sampling rate, channels or layer at byte {offset:,}", fix)
        if offset + frame.length > content.size:
            return count, longest, True
        count += 1
        longest = max(longest, frame.length)
        offset += frame.length


def _follows(content: Content, offset: int, frame: _MpegFrame) -> bool:
    behind = _mpeg_frame(content.at(offset + frame.length, 4))
    return behind is not None and behind.stream == frame.stream


def _is_partial(content: Content, offset: int, first: _MpegFrame, where: str) -> bool:
    """Return False for bytes of another kind at the end of a stream; raise E203 if more frames follow."""
    data = content.at(offset, 1 << 16)
    for match in re.finditer(rb"\xff[\xe0-\xff]", data):
        frame = _mpeg_frame(data[match.start() : match.start() + 4])
        if (
            frame is not None
            and frame.stream == first.stream
            and _follows(content, offset + match.start(), frame)
        ):
            raise damaged(where, f"is damaged at byte {offset:,}, where a frame should begin")
    return False


def _behind_tags(content: Content, offset: int) -> int:
    """Return the offset behind tags of other programs: ID3, APE, Lyrics3, zeros."""
    while offset < content.size:
        head = content.at(offset, 32)
        if head.startswith(b"TAG"):
            offset += 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            size = int.from_bytes(head[12:16], "little")
            offset += size + (32 if head[23] & 0x20 else 0) if head[23] & 0x80 else 32 + size
        elif head.startswith(b"LYRICSBEGIN"):
            end = content.find(b"LYRICS200", offset)
            if end < 0:
                return offset
            offset = end + 9
        elif (end_of_tag := _tag_end(content, offset)) is not None:
            offset = end_of_tag
        elif head[:1] == b"\0":
            zeros = content.at(offset, 1 << 12)
            offset += len(zeros) - len(zeros.lstrip(b"\0"))
        else:
            return offset
    return offset


_READERS = (
    ((b"RIFF", b"RIFX", b"RF64"), _wave),
    ((b"riff",), _wave64),
    ((b"FORM",), _aiff),
    ((b".snd", b"dns."), _au),
    ((b"caff",), _caf),
    ((b"OggS",), _ogg),
    ((b"fLaC",), _flac),
)
_ALL_MARKS = tuple(mark for marks, _ in _READERS for mark in marks)
