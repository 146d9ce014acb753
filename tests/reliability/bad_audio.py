"""Table B, and rows of table H: audio files that are broken, joined, streamed, huge, or no audio at all."""

from __future__ import annotations

import functools
import io
import itertools
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .cases import Case, Right
from .mutants import patched

RATE = 16_000
CLIP = (
    0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    + 0.05 * np.random.default_rng(0).normal(size=2 * RATE)
).astype(np.float32)
WHOLE = 2 * RATE


def ours(source: Any) -> int:
    """Return the number of samples at 16 kHz."""
    from ast_hf import load_audio

    return len(load_audio(source))


def stock(source: Any) -> int:
    """Return the number of samples that soundfile gives, as at 16 kHz."""
    samples, rate = soundfile.read(
        io.BytesIO(source) if isinstance(source, bytes) else source, always_2d=True
    )
    return round(len(samples) * RATE / rate)


@functools.cache
def encoded(kind: str = "WAV", subtype: str | None = None, rate: int = RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = np.repeat(CLIP[:, None], channels, axis=1) if channels > 1 else CLIP
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


def length(count: int, tolerance: int = 0) -> Right:
    return lambda value: isinstance(value, int) and abs(value - count) <= tolerance


def long(value: int) -> bytes:
    return struct.pack("<I", value)


def wav_of_sizes(data: int, riff: int | None = None) -> bytes:
    """Return a WAV with other sizes in its header."""
    content = patched(encoded(), 40, long(data))
    return content if riff is None else patched(content, 4, long(riff))


def frames_of(content: bytes) -> list[int]:
    """Return the offsets of the frames of an MP3 as soundfile writes it, all of one header, and its end."""
    head = content[:2]
    places = [0]
    while (place := content.find(head, places[-1] + 100)) > 0:
        places.append(place)
    return [*places, len(content)]


def pages_of(content: bytes) -> list[int]:
    """Return the offsets of the pages of an Ogg file, and its end."""
    places = [0]
    while places[-1] < len(content):
        head = content[places[-1] :]
        places.append(places[-1] + 27 + head[26] + sum(head[27 : 27 + head[26]]))
    return places


def with_serial(content: bytes, serial: int) -> bytes:
    """Return an Ogg file whose pages have another serial number, and right checksums."""
    places = pages_of(content)
    pages = [content[first:last] for first, last in itertools.pairwise(places)]
    return b"".join(with_checksum(patched(page, 14, long(serial))) for page in pages)


def with_checksum(page: bytes) -> bytes:
    flipped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    crc = zlib.crc32(patched(page, 22, bytes(4)).translate(flipped), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return patched(page, 22, long(int(f"{crc:032b}"[::-1], 2)))


def beside(one: bytes, other: bytes) -> bytes:
    """Return an Ogg file with two streams: their first pages first, then all others in turn."""
    first = pages_of(one)
    second = pages_of(with_serial(other, 77))
    other = with_serial(other, 77)
    return one[: first[1]] + other[: second[1]] + one[first[1] :] + other[second[1] :]


def flac_of_total(frames: int, content: bytes | None = None) -> bytes:
    """Return a FLAC whose header declares `frames`, 0 for unknown."""
    content = content or encoded("FLAC")
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return patched(patched(content, 18, field.to_bytes(8, "big")), 26, bytes(16))


def middle(content: bytes, count: int = 200) -> bytes:
    return patched(content, len(content) // 2, b"\xaa" * count)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


MP3 = functools.partial(encoded, "MP3")
TAG = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2_000, 32, 0, 0) + bytes(8)
ID3 = b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 64044\n"


def two_data_chunks() -> bytes:
    extra = b"data" + long(8) + bytes(8)
    return patched(encoded() + extra, 4, long(len(encoded()) + len(extra) - 8))


def ima_adpcm() -> bytes:
    """Return a WAV whose header makes libsndfile count more frames than 32 bits hold (CVE-2026-37555)."""
    fmt = struct.pack("<HHIIHHHH", 0x11, 1, RATE, 8_000, 25_004, 4, 2, 50_000)
    data = bytes(1_000)
    return b"RIFF" + long(36 + len(data)) + b"WAVEfmt " + long(20) + fmt + b"data" + long(len(data)) + data


def caf_of_unknown_length() -> bytes:
    content = encoded("CAF")
    return patched(content, content.index(b"data") + 4, b"\xff" * 8)


def aiff_of_unknown_length() -> bytes:
    content = encoded("AIFF")
    content = patched(content, content.index(b"COMM") + 10, bytes(4))
    return patched(patched(content, content.index(b"SSND") + 4, bytes(4)), 4, bytes(4))


def wav_with(chunk: bytes, *, after: bool = False) -> bytes:
    content = encoded()
    content = content + chunk if after else content[:12] + chunk + content[12:]
    return patched(content, 4, long(len(content) - 8))


def bad_float(value: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.where(np.arange(WHOLE) == 7, value, CLIP), RATE, "FLOAT", format="WAV")
    return file.getvalue()


def silent_flac(rate: int, channels: int, seconds: int) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, channels, "PCM_16", format="FLAC") as sound:
        second = np.zeros((rate, channels), np.int16)
        for _ in range(seconds):
            sound.write(second)
    return file.getvalue()


def nine_channels() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((100, 9)), RATE, format="WAV")
    return file.getvalue()


def nothing() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, CLIP[:0], RATE, format="WAV")
    return file.getvalue()


FLAC = functools.partial(encoded, "FLAC")
OGG = functools.partial(encoded, "OGG", "VORBIS")
OPUS = functools.partial(encoded, "OGG", "OPUS")

#: id, title, content of the file, right outcome.
FILES: list[tuple[str, str, Callable[[], bytes], Right]] = [
    ("B1", "empty file", lambda: b"", "E201"),
    ("B1-text", "text named .wav", lambda: b"hello world\n" * 9, "E201"),
    ("B1-html", "HTML page named .wav", lambda: b"<!DOCTYPE html><html>404</html>", "E201"),
    ("B1-lfs", "git-lfs pointer", lambda: LFS, "E201"),
    ("B1-gzip", "gzip archive", lambda: b"\x1f\x8b\x08" + bytes(60), "E201"),
    ("B1-png", "PNG picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(60), "E201"),
    ("B2", "WAV cut in half", lambda: half(encoded()), "E202"),
    ("B2-sample", "WAV without its last sample", lambda: encoded()[:-2], "E202"),
    ("B2-float", "float WAV cut in half", lambda: half(encoded("WAV", "FLOAT")), "E202"),
    ("B2-rf64", "RF64 cut in half", lambda: half(encoded("RF64")), "E202"),
    ("B2-w64", "W64 cut in half", lambda: half(encoded("W64")), "E202"),
    ("B2-aiff", "AIFF cut in half", lambda: half(encoded("AIFF")), "E202"),
    ("B2-au", "AU cut in half", lambda: half(encoded("AU")), "E202"),
    ("B2-caf", "CAF cut in half", lambda: half(encoded("CAF")), "E202"),
    ("B2-alac", "ALAC in CAF cut in half", lambda: half(encoded("CAF", "ALAC_16")), "E202"),
    ("B3", "MP3 cut in half", lambda: half(MP3()), "E202"),
    ("B3-frame", "MP3 without its last frame", lambda: MP3()[: frames_of(MP3())[-2]], "E202"),
    (
        "B3-hole",
        "MP3 without ten frames in the middle",
        lambda: MP3()[: frames_of(MP3())[20]] + MP3()[frames_of(MP3())[30] :],
        "E202|E203",
    ),
    (
        "B3-stream",
        "MP3 without a count, cut in a frame",
        lambda: MP3()[frames_of(MP3())[1] : frames_of(MP3())[30] + 50],
        "E202",
    ),
    ("B4", "FLAC cut in half", lambda: half(FLAC()), "E202"),
    ("B4-stream", "FLAC of unknown length cut in half", lambda: half(flac_of_total(0)), "E202"),
    ("B5", "Ogg Vorbis cut in half", lambda: half(OGG()), "E202"),
    ("B5-opus", "Ogg Opus cut in half", lambda: half(OPUS()), "E202"),
    ("B5-page", "Ogg cut between two pages", lambda: OGG()[: pages_of(OGG())[-2]], "E202"),
    ("B5-stub", "first 20 bytes of a WAV", lambda: encoded()[:20], "E202"),
    ("B5-stub-flac", "first 20 bytes of a FLAC", lambda: FLAC()[:20], "E202"),
    ("B5-stub-ogg", "first 20 bytes of an Ogg", lambda: OGG()[:20], "E202"),
    ("B6", "200 corrupt bytes in FLAC", lambda: middle(FLAC()), "E203|E202"),
    ("B6-ogg", "200 corrupt bytes in Ogg Vorbis", lambda: middle(OGG()), "E203"),
    ("B6-opus", "200 corrupt bytes in Ogg Opus", lambda: middle(OPUS()), "E203"),
    (
        "B6-bit",
        "one flipped bit in Ogg Vorbis",
        lambda: patched(OGG(), len(OGG()) - 50, bytes([OGG()[-50] ^ 1])),
        "E203",
    ),
    (
        "B6-page",
        "Ogg without a page in the middle",
        lambda: OPUS()[: pages_of(OPUS())[2]] + OPUS()[pages_of(OPUS())[3] :],
        "E203",
    ),
    (
        "B6-mp3",
        "MP3 with 200 corrupt bytes over a frame's header",
        lambda: patched(MP3(), frames_of(MP3())[20] - 100, b"\xaa" * 200),
        "E203|E202",
    ),
    ("B7", "WAV that declares 0 bytes of data", lambda: wav_of_sizes(0), "E202"),
    ("B7-unfinished", "WAV whose two sizes were never written", lambda: wav_of_sizes(0, 36), length(WHOLE)),
    ("B7-small", "WAV that declares 100 of 64,000 bytes", lambda: wav_of_sizes(100), "E203"),
    ("B8", "streamed WAV, size 0xFFFFFFF0", lambda: wav_of_sizes(0xFFFFFFF0, 0xFFFFFFF0), length(WHOLE)),
    (
        "B8-ffmpeg",
        "WAV of ffmpeg through a pipe",
        lambda: wav_of_sizes(0xFFFFFFFF, 0xFFFFFFFF),
        length(WHOLE),
    ),
    (
        "B8-sox",
        "WAV of sox through a pipe, size 0x7FFFF000",
        lambda: wav_of_sizes(0x7FFFF000, 0x7FFFF024),
        length(WHOLE),
    ),
    (
        "B8-arecord",
        "WAV of arecord through a pipe, size 2^31",
        lambda: wav_of_sizes(0x80000000, 0x80000024),
        length(WHOLE),
    ),
    (
        "B8-lame",
        "WAV of lame through a pipe, size 2^31 - 1",
        lambda: wav_of_sizes(0x7FFFFFFF, 0x80000023),
        length(WHOLE),
    ),
    ("B8-flac", "FLAC written to a pipe", lambda: flac_of_total(0), length(WHOLE)),
    ("B8-mp3", "MP3 written to a pipe", lambda: MP3()[frames_of(MP3())[1] :], length(WHOLE, 1_700)),
    ("B8-au", "AU written to a pipe", lambda: patched(encoded("AU"), 8, b"\xff" * 4), length(WHOLE)),
    ("B8-caf", "CAF written to a pipe", caf_of_unknown_length, length(WHOLE)),
    ("B8-aiff", "AIFF written to a pipe", aiff_of_unknown_length, length(WHOLE)),
    ("B9", "header with 0 Hz", lambda: patched(encoded(), 24, long(0)), "E204"),
    ("B9-max", "header with 2^32 - 1 Hz", lambda: patched(encoded(), 24, long(2**32 - 1)), "E204"),
    ("B10", "header with 1 Hz", lambda: patched(encoded(), 24, long(1)), "E204"),
    ("B10-max", "header with 2^31 - 1 Hz", lambda: patched(encoded(), 24, long(2**31 - 1)), "E204"),
    ("B11", "header with 0 channels", lambda: patched(encoded(), 22, bytes(2)), "E204"),
    ("B11-max", "header with 65,535 channels", lambda: patched(encoded(), 22, b"\xff\xff"), "E204"),
    ("B11-nine", "9 channels", nine_channels, "E204"),
    ("B12", "MP3 whose frames lost their marks", lambda: MP3().replace(MP3()[:2], b"\x00\x00"), "E201|E203"),
    ("B13", "float WAV with NaN", lambda: bad_float(np.nan), "E104"),
    ("B13-inf", "float WAV with infinity", lambda: bad_float(np.inf), "E104"),
    ("B14", "WAV without samples", nothing, "E101"),
    ("B15", "8 kHz, A-law, AIFF", lambda: encoded("AIFF", "ALAW", 8_000), length(2 * WHOLE)),
    # Without the extra `codecs` E205.
    ("B16", "start of an M4A", lambda: b"\0\0\0\x1cftypM4A \0\0\0\0" + bytes(99), "E203|E205"),
    ("B16-webm", "start of a WebM", lambda: b"\x1aE\xdf\xa3" + bytes(99), "E203|E205"),
    ("B16-wma", "start of a WMA", lambda: b"0&\xb2u\x8ef\xcf\x11" + bytes(99), "E203|E205"),
    ("B16-aac", "start of an AAC", lambda: b"\xff\xf1\x60\x40\x00\x1f\xfc" + bytes(99), "E203|E205"),
    ("B16-avi", "AVI named .wav", lambda: b"RIFF" + long(204) + b"AVI LIST" + bytes(200), "E201|E203|E205"),
    (
        "B16-oggflac",
        "FLAC in Ogg",
        lambda: with_checksum(patched(OGG(), 28, b"\x7fFLAC")[: pages_of(OGG())[1]]),
        "E205",
    ),
    ("B19", "FLAC named .wav", FLAC, length(WHOLE)),
    ("B25", "FLAC that declares 2^36 - 1 frames", lambda: flac_of_total(2**36 - 1), "E207"),
    (
        "B25-hour",
        "FLAC that declares an hour of 384 kHz, 8 channels",
        lambda: flac_of_total(3_600 * 384_000, silent_flac(384_000, 8, 1)),
        "E207",
    ),
    ("B25-more", "FLAC that declares twice its frames", lambda: flac_of_total(2 * WHOLE), "E202"),
    ("B25-less", "FLAC that declares half of its frames", lambda: flac_of_total(RATE), "E203"),
    ("B26", "ten hours of zeros in a FLAC", lambda: silent_flac(RATE, 1, 36_000), "E207"),
    ("B27", "IMA ADPCM that wraps at 32 bits (CVE-2026-37555)", ima_adpcm, "E205"),
    ("B29", "two MP3s in one file", lambda: MP3() * 2, "E203"),
    (
        "B29-stream",
        "two MP3s without a count in one file",
        lambda: MP3()[frames_of(MP3())[1] :] * 2,
        length(2 * WHOLE, 3_400),
    ),
    (
        "B29-rates",
        "two MP3s of other rates in one file",
        lambda: MP3() + encoded("MP3", None, 44_100),
        "E203",
    ),
    ("B29-ogg", "two Oggs in one file (chained)", lambda: OGG() + with_serial(OGG(), 5), "E203"),
    ("B29-opus", "two Opus files in one file (chained)", lambda: OPUS() + with_serial(OPUS(), 5), "E203"),
    ("B29-side", "two streams side by side in one Ogg", lambda: beside(OGG(), OPUS()), "E203"),
    ("B29-flac", "two FLACs in one file", lambda: FLAC() * 2, "E203"),
    ("B29-flac-stream", "two FLACs of unknown length in one file", lambda: flac_of_total(0) * 2, "E203"),
    ("B29-wav", "two WAVs in one file", lambda: encoded() * 2, "E203"),
    ("B30", "WAV with two chunks of samples", two_data_chunks, "E203"),
    (
        "B30-junk",
        "WAV with a megabyte of junk before its samples",
        lambda: wav_with(b"JUNK" + long(1 << 20) + bytes(1 << 20)),
        length(WHOLE),
    ),
    (
        "B30-odd",
        "WAV with a chunk of odd size",
        lambda: wav_with(b"abcd" + long(3) + bytes(4)),
        length(WHOLE),
    ),
    (
        "B30-after",
        "WAV with LIST and cue after its samples",
        lambda: wav_with(b"LIST\x04\0\0\0INFOcue \x04\0\0\0\0\0\0\0", after=True),
        length(WHOLE),
    ),
    ("B30-extensible", "WAV extensible of 24 bits", lambda: encoded("WAVEX", "PCM_24"), length(WHOLE)),
    ("B31", "FLAC with ID3 tags at both ends", lambda: ID3 + FLAC() + TAG, length(WHOLE)),
    ("B31-mp3", "MP3 with ID3 and APE tags", lambda: ID3 + MP3() + APE + TAG, length(WHOLE, 1_200)),
    ("B31-ogg", "Ogg with an ID3 tag", lambda: ID3 + OGG(), length(WHOLE)),
    (
        "B31-garbage",
        "FLAC with garbage behind its end",
        lambda: FLAC() + bytes(range(256)) * 8,
        length(WHOLE),
    ),
    ("B31-w64", "W64 with garbage behind its end", lambda: encoded("W64") + b"junk" * 99, length(WHOLE)),
    (
        "H4",
        "a minute of 8 channels at 384 kHz in 200 kB",
        lambda: silent_flac(384_000, 8, 60),
        length(60 * RATE),
    ),
]


def file_case(name: str, title: str, make: Callable[[], bytes], right: Right) -> Case:
    def prepare(folder: Path) -> str:
        path = folder / "clip.wav"
        path.write_bytes(make())
        return str(path)

    megabytes = 150.0 if name.startswith(("H", "B25", "B26")) else 1_000.0
    return Case(name, title, prepare, ours, right, stock, megabytes=megabytes)


# Paths and objects.


def _clip(folder: Path) -> Path:
    path = folder / "dog.wav"
    path.write_bytes(encoded())
    return path


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.wav")
    return folder / "pipe.wav"


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.wav"))
    return folder / "s.wav"


def _dangling(folder: Path) -> Path:
    (folder / "link.wav").symlink_to(folder / "gone.wav")
    return folder / "link.wav"


def _circle(folder: Path) -> Path:
    (folder / "link.wav").symlink_to(folder / "link.wav")
    return folder / "link.wav"


class BadDisk(io.BytesIO):
    """File whose disk fails behind the first 10,000 bytes."""

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() > 10_000:
            raise OSError(5, "Input/output error")
        return super().read(count)


class Pipe(io.RawIOBase):
    """File that cannot seek."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        return self._content.read(count)


def _at_end(folder: Path) -> io.BytesIO:
    file = io.BytesIO(encoded())
    file.seek(0, io.SEEK_END)
    return file


def _closed(folder: Path) -> Any:
    file = _clip(folder).open("rb")
    file.close()
    return file


#: id, title, what is passed, right outcome.
SOURCES: list[tuple[str, str, Callable[[Path], Any], Right]] = [
    (
        "B20",
        "emoji and quotes in the path",
        lambda folder: _clip(folder).rename(folder / "é 🎵 '\".wav"),
        length(WHOLE),
    ),
    ("B21", "directory", lambda folder: folder, "E206"),
    ("B22", "missing file", lambda folder: _clip(folder).with_name("dgo.wav"), "E206"),
    ("B22-link", "link to nothing", _dangling, "E206"),
    ("B22-circle", "link to itself", _circle, "E206"),
    ("B22-long", "path of 5,000 characters", lambda folder: "a" * 5_000, "E206"),
    ("B22-content", "content of a file as text", lambda folder: encoded().decode("latin1"), "E206"),
    ("B22-nul", "NUL in the path", lambda folder: "a\0b.wav", "E206"),
    ("B22-below", "path below a file", lambda folder: _clip(folder) / "x.wav", "E206"),
    ("B23", "FIFO", _fifo, "E206"),
    ("B23-device", "device", lambda folder: "/dev/zero", "E206"),
    ("B23-socket", "socket", _socket, "E206"),
    ("B32", "BytesIO", lambda folder: io.BytesIO(encoded()), length(WHOLE)),
    ("B32-open", "open file", lambda folder: _clip(folder).open("rb"), length(WHOLE)),
    ("B32-pipe", "open file that cannot seek", lambda folder: Pipe(encoded()), length(WHOLE)),
    ("B32-end", "BytesIO at its end", _at_end, "E201"),
    ("B32-text", "open text file", lambda folder: _clip(folder).open(encoding="latin1"), "E102"),
    ("B32-closed", "closed file", _closed, "E102"),
    ("B33", "None", lambda folder: None, "E102"),
    ("B33-int", "a number", lambda folder: 3, "E102"),
    ("B33-list", "list of paths", lambda folder: [_clip(folder), _clip(folder)], "E102"),
    ("B33-pair", "(rate, samples), as gradio gives it", lambda folder: (RATE, CLIP), "E102"),
    ("B33-read", "(samples, rate), as soundfile.read gives it", lambda folder: (CLIP, RATE), "E102"),
    ("B33-object", "an object without samples", lambda folder: object(), "E102"),
    ("B34", "I/O error while reading", lambda folder: BadDisk(encoded()), "E206"),
    ("B34-header", "I/O error in a FLAC", lambda folder: BadDisk(FLAC()), "E206"),
    ("B35", "URL of another protocol", lambda folder: "ftp://example.org/a.wav", "E703"),
    ("B35-data", "data: URL", lambda folder: "data:audio/wav;base64,UklGRg==", "E703"),
]


# More than one channel.


def _written(folder: Path, samples: np.ndarray) -> Path:
    soundfile.write(folder / "clip.wav", samples, RATE, "FLOAT")
    return folder / "clip.wav"


def _level(path: Path) -> float:
    from ast_hf import load_audio

    return float(np.abs(load_audio(path)).max())


def _stock_level(path: Path) -> float:
    samples, _ = soundfile.read(path, always_2d=True)
    return float(np.abs(samples.mean(axis=1)).max())


CASES = [
    *(file_case(*row) for row in FILES),
    *(Case(name, title, make, ours, right, stock) for name, title, make, right in SOURCES),
    Case(
        "B17",
        "six channels, five of them silent",
        lambda folder: _written(folder, np.stack([np.full(RATE, 0.6), *[np.zeros(RATE)] * 5], axis=1)),
        _level,
        lambda value: abs(value - 0.1) < 1e-6,
        _stock_level,
    ),
    Case(
        "B18",
        "stereo whose channels cancel each other",
        lambda folder: _written(folder, np.stack([CLIP, -CLIP], axis=1)),
        _level,
        "W204",
        _stock_level,
    ),
    Case(
        "B18-long",
        "two minutes of channels that cancel each other",
        lambda folder: _written(folder, np.stack([np.tile(CLIP, 60), -np.tile(CLIP, 60)], axis=1)),
        _level,
        "W204",
        _stock_level,
    ),
]
