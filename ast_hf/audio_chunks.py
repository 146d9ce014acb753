"""Structure of chunked audio files: WAV, RF64, Wave64, AIFF, AU and CAF. Their sizes, compared with the file."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .audio_content import Content, Layout, cut, damaged, unsupported
from .errors import AstHfError

#: WAVE format code -> name; codes of other samples are refused before libsndfile reads the file, since some
#: of its decoders are unsafe or print (`advisories.py`).
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


class _Chunk(NamedTuple):
    id: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


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


def _check_chunk(chunk: _Chunk, content: Content, total: int, where: str) -> None:
    """Raise E202 or E203 for a chunk that is not completely in the file; the header declares `total` bytes."""
    if chunk.end <= content.size:
        return
    name = chunk.id.decode("ascii", "replace")
    if total > content.size:
        raise cut(where, f"its header ends early, in the chunk {name!r}")
    raise damaged(where, f"has a chunk {name!r} that is larger than the file")


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


def read_wave(content: Content, where: str) -> Layout:
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
    is_long = head.startswith(b"RF64")
    for chunk in _chunks(content, 12, order + "4sI", where):
        if chunk.id == b"data":
            if is_long and long_sizes is None:
                raise damaged(where, "has no chunk 'ds64'")
            return _wave_data(content, chunk, riff_size, long_sizes, (frame, rate), order, where)
        _check_chunk(chunk, content, riff_size + 8, where)
        if chunk.id == b"fmt ":
            if frame or rate:
                raise damaged(where, "has two chunks 'fmt '")
            frame, rate = _wave_format(content.at(chunk.start, min(chunk.length, 40)), order, where)
        elif chunk.id == b"ds64" and is_long:
            long_sizes = chunk
    raise _no_data(content, where)


def _wave_format(fields: bytes, order: str, where: str) -> tuple[int, int]:
    """Return bytes per frame and frames per second; raise E205 unless the samples are PCM, float or a law."""
    if len(fields) < 16:
        raise damaged(where, "has a chunk 'fmt ' that is too short")
    code, channels, rate, _, _, bits = struct.unpack(order + "HHIIHH", fields[:16])
    if _is_extensible(fields, order):
        code = struct.unpack(order + "H", fields[24:26])[0]
    if code not in _WAVE_CODES:
        name = _OTHER_WAVE_CODES.get(code, f"format 0x{code:04x}")
        raise unsupported(where, f"WAV with {name} samples")
    return channels * (1 if code in (6, 7) else math.ceil(bits / 8)), rate


def _is_extensible(fields: bytes, order: str) -> bool:
    return len(fields) >= 26 and struct.unpack(order + "H", fields[:2])[0] == _EXTENSIBLE


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
    unfinished = riff_size <= data.start - 8 or _has_no_count(riff_size)
    if long_sizes is not None:
        sizes = content.at(long_sizes.start, 24)
        length = struct.unpack("<Q", sizes[8:16])[0] if len(sizes) == 24 else 0
        if data.length not in (0xFFFFFFFF, length):
            raise damaged(
                where, f"declares {data.length:,} bytes of audio in one place, and {length:,} in another"
            )
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


def read_wave64(content: Content, where: str) -> Layout:
    """Read the chunks of a Wave64 file, whose sizes include their headers of 24 bytes.

    libsndfile takes all samples of the extensible form for PCM, so it is given the code that follows in the chunk.
    """
    frame = rate = 0
    format_patch: tuple[tuple[int, bytes], ...] = ()
    riff_size = int.from_bytes(content.at(16, 8), "little")
    for chunk in _chunks(content, 40, "<16sq", where):
        there = content.size - chunk.start
        if chunk.id != b"data":
            _check_chunk(chunk, content, riff_size, where)
            if chunk.id == b"fmt ":
                fields = content.at(chunk.start, min(chunk.length, 40))
                frame, rate = _wave_format(fields, "<", where)
                format_patch = ((chunk.start, fields[24:26]),) if _is_extensible(fields, "<") else ()
            continue
        if chunk.length < 0 and not (chunk.length == -24 and riff_size == 0):
            raise damaged(where, "has a chunk of samples with an impossible size")
        streamed = chunk.length >= 1 << 62 or (chunk.length <= 0 and riff_size == 0)
        if streamed and there:
            sizes = [(16, content.size), (chunk.start - 8, there + 24)]
            counts = tuple((offset, struct.pack("<Q", size)) for offset, size in sizes)
            return Layout(patches=format_patch + counts)
        if chunk.length > there:
            raise _lost(there, chunk.length, frame, rate, where)
        # libsndfile reads to the file's end.
        return Layout(patches=format_patch, frames=chunk.length // frame if frame else None)
    raise _no_data(content, where)


def read_aiff(content: Content, where: str) -> Layout:
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
        _check_chunk(chunk, content, int.from_bytes(head[4:8], "big") + 8, where)
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
    offset = int.from_bytes(content.at(sound.start, 4), "big")
    empty = frames == 0 and sound.length in (0, 8) and there > 8
    if (sound.length > there and _has_no_count(sound.length)) or empty:
        known = max(there - 8 - offset, 0) // (width or 1)
        counts = [(4, content.size - 8), (common.start + 2, known), (sound.start - 4, there)]
        return Layout(
            patches=tuple((place, min(count, 0xFFFFFFFE).to_bytes(4, "big")) for place, count in counts)
        )
    declared = sound.length - 8 - offset
    if sound.length > there:
        raise _lost(max(there - 8, 0), declared, 0, 0, where)
    if frames * width > declared:
        raise _lost(max(declared, 0), frames * width, 0, 0, where)
    if width and declared - frames * width >= max(width, 2):  # a byte may pad an odd number of bytes
        raise damaged(where, f"declares {frames:,} frames in one place, and {declared // width:,} in another")
    return Layout(frames=frames)


def _aiff_bytes(code: bytes, bits: int) -> int:
    fixed = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}
    return fixed.get(code, math.ceil(bits / 8))


def read_au(content: Content, where: str) -> Layout:
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


def read_caf(content: Content, where: str) -> Layout:
    """Read the chunks of a Core Audio file (Apple, CAF 1.0); a size of -1 means up to the file's end."""
    chunks: dict[bytes, _Chunk] = {}
    for chunk in _chunks(content, 8, ">4sq", where):
        if chunk.id == b"data" and chunk.id in chunks:
            raise damaged(where, "has two chunks of samples, and only one is allowed")
        chunks.setdefault(chunk.id, chunk)
        if chunk.id == b"data" and _caf_has_no_count(content, chunk, where):
            return Layout(patches=((chunk.start - 8, struct.pack(">q", content.size - chunk.start)),))
        if chunk.length < 0:
            raise damaged(where, "has a chunk with an impossible size")
        if chunk.id in _CAF_CHUNKS:
            _check_chunk(chunk, content, chunk.end, where)
        if chunk.id == b"desc":
            _check_caf_format(content.at(chunk.start, 32), where)
    if b"data" not in chunks:
        raise _no_data(content, where)
    return _alac_layout(content, chunks, where)


def _caf_has_no_count(content: Content, data: _Chunk, where: str) -> bool:
    """Return True for samples that reach to the file's end; raise E202 for a size that is wrong."""
    there = content.size - data.start
    if data.length == -1:
        return True
    if data.length == 4 < there:  # no samples: the file was never finished, unless another chunk follows
        behind = next(_chunks(content, data.end, ">4sq", where), None)
        return behind is None or not 0 <= behind.length <= content.size - behind.start
    if data.length < 4 < there:
        raise cut(where, f"its header declares {data.length:,} bytes of audio, {there:,} bytes follow")
    if data.length > there:
        raise _lost(there, data.length, 0, 0, where)
    return False


def _check_caf_format(fields: bytes, where: str) -> None:
    """Raise E205 for samples that are not decoded, E203 unless the sizes of packets and samples agree."""
    if len(fields) < 32:
        raise damaged(where, "has a chunk 'desc' that is too short")
    code = fields[8:12]
    packet, frames, channels, bits = struct.unpack(">IIII", fields[16:32])
    if code not in _CAF_CODES:
        raise unsupported(where, f"CAF with {code.decode('ascii', 'replace')!r} samples")
    if code != b"alac" and (frames != 1 or packet != channels * math.ceil(bits / 8)):
        raise damaged(
            where, f"declares {packet:,} bytes for {frames:,} frames of {channels:,} times {bits:,} bits"
        )


def _alac_layout(content: Content, chunks: dict[bytes, _Chunk], where: str) -> Layout:
    """Return the length in frames of ALAC in CAF, which its packet table declares."""
    description = chunks.get(b"desc")
    if description is None:
        raise damaged(where, "has no chunk 'desc'")
    if content.at(description.start + 8, 4) != b"alac":
        return Layout()
    table = chunks.get(b"pakt")
    if table is None or table.length < 24:
        raise damaged(where, "has no packet table")
    packets, valid, priming, rest = struct.unpack(">qqii", content.at(table.start, 24))
    size = int.from_bytes(content.at(description.start + 20, 4), "big")
    if valid < 0 or priming < 0 or rest < 0 or valid + priming + rest != packets * size:
        raise damaged(
            where, f"declares {valid:,} frames in {packets:,} packets of {size:,}, which do not agree"
        )
    return Layout(frames=valid)
