"""Audio files as programs write them to pipes, joined, tagged, damaged or on a failing disk; parts in blocks."""

from __future__ import annotations

import io
import itertools
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ast_hf import AstDataError, AstHfError, AstHfWarning, audio_blocks, audio_files, load_audio
from ast_hf.audio_ogg import _ogg_crc
from ast_hf.data.audio_headers import read_header

RATE = 16_000
#: Multiples of 2^-7: PCM of 16 bits holds them exactly.
CLIP = (np.random.default_rng(0).integers(-64, 64, 8_000) / 128).astype(np.float32)


def encoded(kind: str, subtype: str | None = None, samples: np.ndarray = CLIP, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    return content[:offset] + value + content[offset + len(value) :]


def flac_of(frames: int) -> bytes:
    content = encoded("FLAC")
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return patched(content, 18, field.to_bytes(8, "big"))


def mp3_without_count(samples: np.ndarray = CLIP) -> bytes:
    content = encoded("MP3", samples=samples)
    return content[content.index(content[:2], 100) :]


def wav_of(data: int, riff: int) -> bytes:
    content = encoded("WAV")
    return patched(patched(content, 40, struct.pack("<I", data)), 4, struct.pack("<I", riff))


STREAMED = {
    "WAV of ffmpeg": wav_of(0xFFFFFFFF, 0xFFFFFFFF),
    "WAV of sox": wav_of(0x7FFFF000, 0x7FFFF024),
    "WAV of arecord": wav_of(0x80000000, 0x80000024),
    "unfinished WAV": wav_of(0, 36),
    "unfinished WAV of soundfile": wav_of(0, 8),
    "FLAC": flac_of(0),
    "AU": patched(encoded("AU"), 8, b"\xff" * 4),
    "CAF": patched(encoded("CAF"), encoded("CAF").index(b"data") + 4, b"\xff" * 8),
    "CAF with an endless chunk behind": encoded("CAF") + b"abcd" + struct.pack(">q", 1 << 62) + bytes(99),
    "unfinished CAF": patched(encoded("CAF"), encoded("CAF").index(b"data") + 4, struct.pack(">q", 4)),
}


@pytest.mark.parametrize("kind", STREAMED)
def test_file_written_to_a_pipe_is_read_completely(kind: str) -> None:
    expected = load_audio(encoded("WAV"))
    np.testing.assert_array_equal(load_audio(STREAMED[kind]), expected)
    np.testing.assert_array_equal(load_audio(STREAMED[kind], start=0.25), expected[4_000:])
    assert read_header({"bytes": STREAMED[kind]}).seconds == 0.5


def test_mp3_without_a_count_is_read_to_its_last_frame() -> None:
    # Half of it is silent: the decoder's estimate from the first frames is far too short.
    samples = np.concatenate([np.zeros(RATE), *[CLIP] * 4])
    waveform = load_audio(mp3_without_count(samples))
    assert abs(len(waveform) - len(samples)) < 2_000
    assert np.square(waveform[-12_000:-2_000]).mean() == pytest.approx(np.square(CLIP).mean(), rel=0.3)


ID3 = b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10)
TAG = b"TAG" + bytes(125)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_tags_and_garbage_around_the_audio_do_not_matter(kind: str) -> None:
    expected = load_audio(encoded(kind))
    for content in (ID3 + encoded(kind), encoded(kind) + TAG, encoded(kind) + bytes(range(256)) * 4):
        np.testing.assert_array_equal(load_audio(content), expected)


def with_granule(content: bytes, granule: int) -> bytes:
    """Return an Ogg file whose last page declares another count of samples, with a right checksum."""
    place = content.rindex(b"OggS")
    page = patched(content[place:], 6, struct.pack("<q", granule))
    crc = _ogg_crc(patched(page, 22, bytes(4)))
    return content[:place] + patched(page, 22, struct.pack("<I", crc))


OGG = encoded("OGG")
LONG_OGG = encoded("OGG", samples=np.tile(CLIP, 8))
LAST_PAGE = OGG.rindex(b"OggS")
#: Content, code, part of the message.
REFUSED = {
    "two MP3s": (encoded("MP3") * 2, "E203", "several files joined"),
    "MP3s of two rates": (encoded("MP3") + encoded("MP3", rate=44_100), "E203", "sampling rate"),
    "two FLACs": (encoded("FLAC") * 2, "E203", "several FLAC streams"),
    "FLAC that holds more": (flac_of(4_000), "E203", "declares 4,000 frames and holds 8,000"),
    "FLAC that declares more": (flac_of(16_000), "E202", "cut off"),
    "two Oggs": (OGG * 2, "E203", "several recordings"),
    "Ogg cut between pages": (OGG[:LAST_PAGE], "E202", "not marked as the end"),
    "Ogg that counts backwards": (with_granule(LONG_OGG, 100), "E203", "backwards"),
    "Ogg without a count at its end": (with_granule(OGG, -1), "E203", "its length"),
    "damaged Ogg": (patched(OGG, LAST_PAGE - 20, b"\xaa" * 10), "E203", "checksum"),
    "two chunks of samples": (encoded("WAV") + b"data\x08\0\0\0" + bytes(8), "E203", "two chunks"),
    "declares less than there is": (patched(encoded("WAV"), 40, b"\x64\0\0\0"), "E203", "100 bytes"),
    "0 bytes, and a right total": (patched(encoded("WAV"), 40, bytes(4)), "E202", "0 bytes"),
    "RIFF of another type": (b"RIFF\0\1\0\0ACONLIST" + bytes(99), "E205", "'ACON'"),
    "IMA ADPCM": (patched(encoded("WAV"), 20, b"\x11\0"), "E205", "IMA ADPCM"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_file_that_would_be_read_wrongly_is_refused(kind: str) -> None:
    content, code, part = REFUSED[kind]
    with pytest.raises(AstDataError, match=part) as caught:
        load_audio(content)
    assert caught.value.code == code


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_extensible_wave64_is_read_by_its_real_format(subtype: str) -> None:
    content = encoded("W64", subtype)
    place = content.index(b"fmt ") + 24
    code = content[place : place + 2]
    bits = content[place + 14 : place + 16]
    guid = code + bytes.fromhex("000000001000800000aa00389b71")
    fields = b"\xfe\xff" + content[place + 2 : place + 16] + b"\x16\0" + bits + bytes(4) + guid
    end = place - 8 + int.from_bytes(content[place - 8 : place], "little") - 16
    extensible = content[: place - 8] + struct.pack("<Q", 64) + fields + content[end:]
    np.testing.assert_array_equal(load_audio(extensible), CLIP)


@pytest.mark.parametrize("tag", [b"LYRICSBEGINLYRICS200", TAG, ID3])
def test_endless_tags_take_no_time(tag: bytes) -> None:
    expected = load_audio(encoded("MP3"))
    start = time.perf_counter()
    np.testing.assert_array_equal(load_audio(encoded("MP3") + tag * 50_000), expected)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
def test_every_cut_is_noticed(kind: str) -> None:
    content = encoded(kind)
    for end in np.linspace(1, len(content) - 1, 40).astype(int).tolist():
        with pytest.raises(AstDataError) as caught:
            load_audio(content[:end])
        assert caught.value.code in ("E201", "E202", "E203")


def test_unsafe_decoders_are_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "SoundFile", lambda *_, **__: pytest.fail("decoded"))
    for content in (
        REFUSED["IMA ADPCM"][0],
        REFUSED["RIFF of another type"][0],
        b"MATLAB 5.0 MAT-file" + bytes(200),
        b"2BIT" + bytes(99),
    ):
        with pytest.raises(AstDataError, match="E205"):
            load_audio(content)


# Blocks.


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_files, "BLOCK", 3_000)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_blocks_joined_are_the_whole(rate: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (rate, channels))
    content = encoded("WAV", "FLOAT", samples, rate)
    blocks = list(audio_blocks(content))
    in_blocks = load_audio(content)
    monkeypatch.undo()
    whole = load_audio(content)
    assert len(blocks) >= 3
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(in_blocks, whole)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("compression", [0.5, 0.99])
def test_mp3_in_blocks_and_in_parts_is_the_whole(compression: float) -> None:
    # Loud and silent stretches of a low bit rate: frames use many bits of those before them.
    random = np.random.default_rng(2)
    samples = random.normal(size=120_000) * (np.sin(np.arange(120_000) / 900) > 0.4) * 0.2
    file = io.BytesIO()
    soundfile.write(
        file, samples, 24_000, format="MP3", bitrate_mode="VARIABLE", compression_level=compression
    )
    whole, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    np.testing.assert_allclose(load_audio(file.getvalue(), 24_000), whole, atol=1e-6)
    for start in (0.3, 1.2, 2.5, 4.5):
        part = load_audio(file.getvalue(), 24_000, start=start, end=start + 0.4)
        first = round(start * 24_000)
        np.testing.assert_allclose(part, whole[first : first + 9_600], atol=1e-6)


@pytest.mark.usefixtures("_small_blocks")
def test_checks_hold_over_blocks() -> None:
    with pytest.warns(AstHfWarning, match="W204"):
        load_audio(encoded("WAV", "FLOAT", np.stack([CLIP, -CLIP], axis=1)))
    with pytest.raises(AstHfError, match=r"E104.*the first at 7000"):
        load_audio(encoded("WAV", "FLOAT", np.where(np.arange(8_000) == 7_000, np.nan, CLIP)))


@pytest.mark.usefixtures("_small_blocks")
def test_only_the_beginning_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames, **how: read.append(frames) or original(self, frames, **how),
    )
    assert len(next(audio_blocks(encoded("WAV"), RATE))) == 3_000
    assert sum(read) <= 6_000


def test_limit_counts_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = encoded("FLAC", samples=np.zeros((60 * 48_000, 8), np.int16), rate=48_000)
    assert len(load_audio(minute)) == 60 * RATE
    monkeypatch.setattr("ast_hf.audio.MAX_DECODED", 59 * 48_000 * 8)
    with pytest.raises(AstDataError, match=r"E207.*8 channels at 48000 Hz.*the limit is 59 s"):
        load_audio(minute)


# Open files, and a disk that fails.


class Failing(io.BytesIO):
    """File that raises behind its first 2,000 bytes."""

    def __init__(self, content: bytes, problem: BaseException) -> None:
        super().__init__(content)
        self.problem = problem

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() > 2_000:
            raise self.problem
        return super().read(count)


class Pipe(io.RawIOBase):
    """File that cannot seek."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def read(self, count: int = -1) -> bytes:
        return self.content.read(count)


def test_open_files_are_read_from_their_position(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encoded("WAV"))
    behind = io.BytesIO(b"x" * 100 + encoded("WAV"))
    behind.seek(100)
    with (tmp_path / "a.wav").open("rb") as file:
        for source in (file, io.BytesIO(encoded("WAV")), Pipe(encoded("WAV")), behind):
            np.testing.assert_array_equal(load_audio(source), load_audio(encoded("WAV")))
        file.seek(0, io.SEEK_END)
        with pytest.raises(AstDataError, match=r"a\.wav.*at its end.*seek\(0\)"):
            load_audio(file)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_failing_disk_is_named(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AstDataError, match=r"E206.*Input/output error"):
        load_audio(Failing(encoded(kind, samples=np.tile(CLIP, 30)), OSError(5, "Input/output error")))
    with pytest.raises(KeyboardInterrupt):
        load_audio(Failing(encoded(kind, samples=np.tile(CLIP, 30)), KeyboardInterrupt()))
    assert "Traceback" not in capfd.readouterr().err


def test_failing_disk_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("WAV"))
    failing = Failing(encoded("WAV"), OSError(116, "Stale file handle"))
    monkeypatch.setattr(Path, "open", lambda *_, **__: failing)
    with pytest.raises(AstDataError, match=r"E206.*a\.wav.*Stale file handle"):
        load_audio(path)


#: Source, code, part of the message.
SOURCES: dict[str, tuple[Any, str, str]] = {
    "None": (None, "E102", "NoneType"),
    "number": (3, "E102", "int"),
    "paths": (["a.wav", "b.wav"], "E102", "list of files"),
    "rate and samples": ((RATE, CLIP), "E102", '"sampling_rate"'),
    "samples and rate": ((CLIP, RATE), "E102", '"sampling_rate"'),
    "object": (object(), "E102", "object"),
    "text file": (io.StringIO("RIFF"), "E102", "text file"),
    "content as text": (encoded("WAV").decode("latin1"), "E206", "no path"),
    "long name": ("a" * 5_000, "E206", "too long"),
    "data URL": ("data:audio/wav;base64,UklGRg==", "E703", "URL"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_source_of_another_type_is_named(kind: str) -> None:
    source, code, part = SOURCES[kind]
    with pytest.raises(AstHfError, match=part) as caught:
        load_audio(source)
    assert caught.value.code == code
    assert len(str(caught.value)) < 700


def test_dangling_link_names_its_target(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(AstDataError, match=r"link to .*gone\.wav.*restore"):
        load_audio(tmp_path / "a.wav")


# Cache of decoded clips.


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from ast_hf import errors
    from ast_hf.inputs import clip_cache

    monkeypatch.setattr(clip_cache, "available_memory", lambda: 4 * 10_000)
    monkeypatch.setattr(clip_cache, "_budget", clip_cache._Budget())
    monkeypatch.setattr(errors, "_warned", set())


@pytest.mark.usefixtures("_little_memory")
def test_cache_stops_at_its_budget_and_says_so_once(recwarn: pytest.WarningsRecorder) -> None:
    from ast_hf.inputs.clip_cache import ClipCache

    first, second = ClipCache(), ClipCache()
    for clip, cache in itertools.product(range(3), (first, second)):
        cache.add(clip, np.zeros(1_000, np.float32))
    assert (len(first), len(second)) == (1, 1)
    assert first.get(0) is not None
    assert first.get(1) is None
    assert sum("W409" in str(warning.message) for warning in recwarn) == 1


def test_available_memory_is_at_most_the_machines() -> None:
    import psutil

    from ast_hf.memory import available_memory

    assert 0 < available_memory() <= psutil.virtual_memory().total
