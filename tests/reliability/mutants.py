"""Seeded mutants of valid audio files of every allowed format, and what a file declares, read without the package."""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Callable, Iterator

import numpy as np
import soundfile

RATE = 16_000
#: (container, sample format) of the files that are mutated: all that are allowed and can be written.
WRITTEN = [
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("WAVEX", kind) for kind in ("PCM_16", "PCM_24", "FLOAT")),
    *(("RF64", kind) for kind in ("PCM_16", "FLOAT")),
    *(("W64", kind) for kind in ("PCM_16", "PCM_24", "FLOAT", "ULAW")),
    *(("AIFF", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("AU", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("CAF", kind) for kind in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAC_16", "ALAC_24")),
    *(("FLAC", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24")),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@functools.cache
def valid_files() -> dict[str, bytes]:
    """Return name -> content of a fifth of a second, mono and stereo, also as programs write it to a pipe."""
    time = np.arange(RATE // 5) / RATE
    noise = np.random.default_rng(0).normal(size=(len(time), 2))
    stereo = 0.3 * np.sin(2 * np.pi * 440 * time)[:, None] + 0.05 * noise
    files = {}
    for container, kind in WRITTEN:
        for channels in (1, 2):
            file = io.BytesIO()
            soundfile.write(file, stereo[:, :channels], RATE, kind, format=container)
            files[f"{container} {kind} {channels}"] = file.getvalue()
    return {**files, **_streamed(files)}


def _streamed(files: dict[str, bytes]) -> dict[str, bytes]:
    wav = files["WAV PCM_16 1"]
    streamed = {
        f"WAV {size:x}": patched(patched(wav, 4, _long(size)), 40, _long(size))
        for size in (0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
    }
    flac = files["FLAC PCM_16 1"]
    field = int.from_bytes(flac[18:26], "big") >> 36 << 36
    mp3 = files["MP3 MPEG_LAYER_III 1"]
    au = files["AU PCM_16 1"]
    caf = files["CAF PCM_16 1"]
    aiff = files["AIFF PCM_16 1"]
    for name, size in ((b"COMM", 6), (b"SSND", 4)):
        place = aiff.index(name)
        aiff = patched(aiff, place + (10 if size == 6 else 4), bytes(4))
    return {
        **streamed,
        "FLAC of unknown length": patched(flac, 18, field.to_bytes(8, "big")),
        "MP3 without a count": mp3[_mpeg_length(mp3[:4]) :],
        "AU of unknown length": patched(au, 8, b"\xff" * 4),
        "CAF of unknown length": patched(caf, caf.index(b"data") + 4, b"\xff" * 8),
        "AIFF of unknown length": patched(aiff, 4, bytes(4)),
    }


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    """Return `content` with `value` at `offset`."""
    return content[:offset] + value + content[offset + len(value) :]


def _long(value: int) -> bytes:
    return struct.pack("<I", value)


#: Values that break arithmetic on sizes and counts.
_NUMBERS = (
    0,
    1,
    2,
    7,
    100,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFF000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF0,
)


def mutant(seed: int) -> tuple[str, bytes]:
    """Return the name of a valid file, and a version of it with one to three changes."""
    random = np.random.default_rng(seed)
    files = valid_files()
    names = sorted(files)
    name = names[int(random.integers(len(names)))]
    content = files[name]
    other = files[names[int(random.integers(len(names)))]]
    for _ in range(int(random.integers(1, 4))):
        change = CHANGES[int(random.integers(len(CHANGES)))]
        content = change(content, other, random)
    return name, content


def _place(content: bytes, random: np.random.Generator, limit: int = 1 << 30) -> int:
    return int(random.integers(max(min(len(content), limit), 1)))


def _header_byte(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return patched(content, _place(content, random, 128), bytes([int(random.integers(256))]))


def _header_number(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    value = _NUMBERS[int(random.integers(len(_NUMBERS)))]
    form = ("<I", ">I", "<Q", ">Q", "<H", ">H")[int(random.integers(6))]
    width = struct.calcsize(form)
    return patched(content, _place(content, random, 128), struct.pack(form, value & ((1 << 8 * width) - 1)))


def _chunk_size(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    names = (
        b"fmt ",
        b"data",
        b"COMM",
        b"SSND",
        b"desc",
        b"pakt",
        b"ds64",
        b"fact",
        b"OggS",
        b"Xing",
        b"Info",
    )
    places = [content.find(name) for name in names if name in content]
    if not places:
        return _header_number(content, other, random)
    place = places[int(random.integers(len(places)))] + 4
    old = int.from_bytes(content[place : place + 4], "little")
    value = (old + int(random.integers(-40, 40))) & 0xFFFFFFFF
    return patched(content, place, struct.pack("<I", value))


def _flipped_bit(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    place = _place(content, random)
    return (
        patched(content, place, bytes([content[place] ^ 1 << int(random.integers(8))]))
        if content
        else content
    )


def _cut(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return content[: _place(content, random)]


def _longer(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return content + random.bytes(int(random.integers(1, 600)))


def _joined(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return content + other


def _spliced(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return content[: _place(content, random)] + other[_place(other, random) :]


def _repeated(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    first, last = sorted((_place(content, random), _place(content, random)))
    return content[:last] + content[first:]


def _removed(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    first = _place(content, random)
    return content[:first] + content[first + int(random.integers(1, 400)) :]


def _overwritten(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return patched(content, _place(content, random), random.bytes(int(random.integers(1, 200))))[
        : len(content)
    ]


CHANGES: tuple[Callable[[bytes, bytes, np.random.Generator], bytes], ...] = (
    _header_byte,
    _header_byte,
    _header_number,
    _chunk_size,
    _flipped_bit,
    _cut,
    _longer,
    _joined,
    _spliced,
    _repeated,
    _removed,
    _overwritten,
)


# What a file declares.


def declared(content: bytes) -> tuple[int, int] | None:
    """Return the rate and the frames that the header of a file declares, None if it does not say."""
    try:
        return _declared(content)
    except (struct.error, ValueError, ZeroDivisionError, IndexError, OverflowError):
        return None


def _declared(content: bytes) -> tuple[int, int] | None:
    if content[:3] == b"ID3":
        return None
    for mark, read in (
        (b"RIFF", _riff),
        (b"RIFX", _riff),
        (b"RF64", _riff),
        (b"riff", _w64),
        (b"FORM", _aiff),
        (b".snd", _au),
        (b"dns.", _au),
        (b"caff", _caf),
        (b"fLaC", _flac),
        (b"OggS", _ogg),
        (b"\xff", _mp3),
    ):
        if content.startswith(mark):
            return read(content)
    return None


def _walk(content: bytes, start: int, form: str, align: int) -> Iterator[tuple[bytes, int, int]]:
    size = struct.calcsize(form)
    while start + size <= len(content):
        name, length = struct.unpack_from(form, content, start)
        if size == 24:
            length -= 24
        yield name[:4], start + size, length
        if length < 0:
            return
        start += size + length
        start += -start % align


def _riff(content: bytes) -> tuple[int, int] | None:
    order = ">" if content[:4] == b"RIFX" else "<"
    rate = width = long_size = 0
    for name, start, length in _walk(content, 12, order + "4sI", 2):
        if name == b"fmt ":
            code, channels, rate, _, _, bits = struct.unpack_from(order + "HHIIHH", content, start)
            code = struct.unpack_from(order + "H", content, start + 24)[0] if code == 0xFFFE else code
            width = channels * (1 if code in (6, 7) else math.ceil(bits / 8))
        elif name == b"ds64":
            long_size = struct.unpack_from("<Q", content, start + 8)[0]
        elif name == b"data":
            there = len(content) - start
            if content[:4] == b"RF64" and length == 0xFFFFFFFF:
                length = long_size if 0 < long_size < 1 << 62 else there
            if length == 0 or length >= 0x7F000000:
                length = there
            return rate, length // width
    return None


def _w64(content: bytes) -> tuple[int, int] | None:
    rate = width = 0
    for name, start, length in _walk(content, 40, "<16sq", 8):
        if name == b"fmt ":
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content, start)
            width = channels * (1 if code in (6, 7) else math.ceil(bits / 8))
        elif name == b"data":
            return rate, (len(content) - start if length <= 0 or length >= 1 << 62 else length) // width
    return None


def _aiff(content: bytes) -> tuple[int, int] | None:
    rate = frames = width = 0
    codes = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ulaw": 1, b"alaw": 1, b"ULAW": 1, b"ALAW": 1}
    for name, start, length in _walk(content, 12, ">4sI", 2):
        if name == b"COMM":
            channels, frames, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", content, start)
            rate = int(mantissa * 2.0 ** (exponent - 16_383 - 63))
            code = content[start + 18 : start + 22] if content[8:12] == b"AIFC" and length >= 22 else b""
            width = channels * codes.get(code, math.ceil(bits / 8))
        elif name == b"SSND":
            offset = struct.unpack_from(">I", content, start)[0]
            there = (len(content) - start - 8 - offset) // width
            unknown = (frames == 0 and length in (0, 8)) or length >= 0x7F000000
            return rate, there if unknown else frames
    return None


def _au(content: bytes) -> tuple[int, int] | None:
    order = ">" if content[:4] == b".snd" else "<"
    offset, size, code, rate, channels = struct.unpack_from(order + "IIIII", content, 4)
    width = channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(code, 0)
    there = len(content) - offset
    return rate, (there if size == 0 or size >= 0x7F000000 else size) // width


def _caf(content: bytes) -> tuple[int, int] | None:
    rate = width = valid = 0
    found = None
    for name, start, length in _walk(content, 8, ">4sq", 1):
        if name == b"desc":
            rate = int(struct.unpack_from(">d", content, start)[0])
            is_alac = content[start + 8 : start + 12] == b"alac"
            width = 0 if is_alac else struct.unpack_from(">I", content, start + 16)[0]
        elif name == b"pakt":
            valid = struct.unpack_from(">q", content, start + 8)[0]
        elif name == b"data" and found is None:
            found = len(content) - start if length < 0 else length
    if found is None:
        return None
    return (rate, (found - 4) // width) if width else (rate, valid)


def _flac(content: bytes) -> tuple[int, int] | None:
    number = int.from_bytes(content[18:26], "big")
    frames = number & ((1 << 36) - 1)
    return (number >> 44, frames) if frames else None


def _ogg(content: bytes) -> tuple[int, int] | None:
    last = content.find(b"OggS")
    while not content[last + 5] & 4:  # the page that ends the stream
        last = content.index(b"OggS", last + 4)
    granule = struct.unpack_from("<q", content, last + 6)[0]
    if (start := content.find(b"\x01vorbis")) >= 0:
        return struct.unpack_from("<I", content, start + 12)[0], granule
    if (start := content.find(b"OpusHead")) >= 0:
        skipped = struct.unpack_from("<H", content, start + 10)[0]
        rate = struct.unpack_from("<I", content, start + 12)[0]
        shown = next((known for known in (8_000, 12_000, 16_000, 24_000) if rate <= known), 48_000)
        return shown, (granule - skipped) * shown // 48_000
    return None


def _mpeg_length(header: bytes) -> int:
    """Return the bytes of a layer III frame."""
    mpeg1 = header[1] & 8
    rates = (44_100, 48_000, 32_000) if mpeg1 else (22_050, 24_000, 16_000)
    kilobits = (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if mpeg1
        else (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    )
    rate = rates[header[2] >> 2 & 3] // (1 if mpeg1 or header[1] & 16 else 2)
    return (144 if mpeg1 else 72) * kilobits[header[2] >> 4] * 1_000 // rate + (header[2] >> 1 & 1)


def _mp3(content: bytes) -> tuple[int, int] | None:
    head = content[:4]
    if head[1] >> 1 & 3 != 1:
        return None
    mpeg1 = head[1] & 8
    rate = ((44_100, 48_000, 32_000) if mpeg1 else (22_050, 24_000, 16_000))[head[2] >> 2 & 3]
    rate //= 1 if mpeg1 or head[1] & 16 else 2
    for name in (b"Xing", b"Info"):
        place = content.find(name, 0, 60)
        if place > 0 and not any(content[4:place]) and content[place + 7] & 1:
            frames = int.from_bytes(content[place + 8 : place + 12], "big") * (1_152 if mpeg1 else 576)
            flags = content[place + 7]
            tail = (
                place
                + 8
                + 4 * bool(flags & 1)
                + 4 * bool(flags & 2)
                + 100 * bool(flags & 4)
                + 4 * bool(flags & 8)
            )
            # Without the encoder's name the bytes behind it are not read.
            trim = int.from_bytes(content[tail + 21 : tail + 24], "big") if content[tail] else 0
            # The decoder's own delay is 529 samples; it is cut from the beginning and counted in the padding.
            return (rate, frames - (trim >> 12) - max(trim & 0xFFF, 529)) if frames else None
    return None
