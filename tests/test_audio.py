"""`load_audio`: every kind of source gives the same mono waveform; errors name a broken one."""

from __future__ import annotations

import io
import os
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import count_calls

from ast_hf import AstDataError, ASTFeatureExtractor, AstHfError, AstInputError, load_audio
from ast_hf.audio import INTEGER_SCALES, as_samples

RNG = np.random.default_rng(0)
#: Multiples of 2^-7: PCM of 8 bits and more holds them exactly.
CLIP = (RNG.integers(-64, 64, 8_000) / 128).astype(np.float32)


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def encoded(
    samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = "PCM_16"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    return content[:offset] + value + content[offset + len(value) :]


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    """Fail instead of hanging on a FIFO or on a header that claims terabytes."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError("blocked for 20 s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


# Formats and kinds of source.


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "tolerance"),
    [
        ("WAV", "PCM_16", 16_000, 1e-4),
        ("WAV", "PCM_16", 8_000, 1e-3),
        ("WAV", "PCM_24", 44_100, 1e-4),
        ("WAV", "FLOAT", 48_000, 1e-4),
        ("WAV", "PCM_U8", 22_050, 1e-2),
        ("FLAC", "PCM_16", 96_000, 1e-4),
        ("FLAC", "PCM_24", 16_000, 1e-4),
        ("OGG", "VORBIS", 44_100, 3e-2),
        ("OGG", "OPUS", 48_000, 3e-2),
        ("MP3", "MPEG_LAYER_III", 44_100, 3e-2),
        ("MP3", "MPEG_LAYER_III", 16_000, 3e-2),
        ("AIFF", "PCM_16", 32_000, 1e-4),
    ],
)
def test_audio_formats_decode_to_the_same_samples(
    kind: str, subtype: str, rate: int, tolerance: float, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / f"tone.{kind.lower()}"
    left = tone(1000, rate)
    soundfile.write(
        path, left if channels == 1 else np.stack([left, left / 3], axis=1), rate, subtype, format=kind
    )
    waveform = load_audio(path)
    assert (waveform.dtype, waveform.shape) == (np.float32, (16_000,))
    middle = slice(2_000, -2_000)
    expected = tone(1000, 16_000) * (1 if channels == 1 else 2 / 3)
    np.testing.assert_allclose(waveform[middle], expected[middle], atol=tolerance)


class Decoder:
    """Object with the interface of torchcodec's AudioDecoder."""

    def get_all_samples(self) -> SimpleNamespace:
        return SimpleNamespace(data=torch.from_numpy(CLIP).expand(2, -1), sample_rate=16_000)


SOURCES: dict[str, Callable[[Path], dict]] = {
    "str": lambda path: {"source": str(path)},
    "Path": lambda path: {"source": path},
    "bytes": lambda path: {"source": path.read_bytes()},
    "bytearray": lambda path: {"source": bytearray(path.read_bytes())},
    "memoryview": lambda path: {"source": memoryview(path.read_bytes())},
    "datasets, bytes": lambda path: {"source": {"bytes": path.read_bytes(), "path": None}},
    "datasets, bytes and name": lambda path: {
        "source": {"bytes": path.read_bytes(), "path": "elsewhere.wav"}
    },
    "datasets, path": lambda path: {"source": {"bytes": None, "path": str(path)}},
    "datasets, memoryview": lambda path: {"source": {"bytes": memoryview(path.read_bytes()), "path": None}},
    "dict of array": lambda path: {"source": {"array": CLIP, "sampling_rate": 16_000}},
    "dict of raw": lambda path: {"source": {"raw": CLIP, "sampling_rate": 16_000}},
    "dict, rate as an argument": lambda path: {"source": {"array": CLIP}, "source_rate": 16_000},
    "array": lambda path: {"source": CLIP, "source_rate": 16_000},
    "float64": lambda path: {"source": CLIP.astype(np.float64), "source_rate": 16_000},
    "int16": lambda path: {"source": (CLIP * 2**15).astype(np.int16), "source_rate": 16_000},
    "uint8": lambda path: {"source": (CLIP * 128 + 128).astype(np.uint8), "source_rate": 16_000},
    "list": lambda path: {"source": CLIP.tolist(), "source_rate": 16_000},
    "tensor": lambda path: {"source": torch.from_numpy(CLIP).requires_grad_(), "source_rate": 16_000},
    "rate of numpy": lambda path: {"source": CLIP, "source_rate": np.int64(16_000)},
    "channels first": lambda path: {"source": np.stack([CLIP, CLIP]), "source_rate": 16_000},
    "channels last": lambda path: {"source": np.stack([CLIP, CLIP], axis=1), "source_rate": 16_000},
    "one channel": lambda path: {"source": CLIP[None], "source_rate": 16_000},
    "AudioDecoder": lambda path: {"source": Decoder()},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_all_sources_give_the_same_samples(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip é 🎵.wav"
    soundfile.write(path, CLIP, 16_000)
    waveform = load_audio(**SOURCES[kind](path))
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, CLIP)


def test_channels_are_mixed_by_their_mean(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "six.wav", np.stack([CLIP, *[np.zeros_like(CLIP)] * 5], axis=1), 16_000)
    np.testing.assert_allclose(load_audio(tmp_path / "six.wav"), CLIP / 6, atol=1e-7)
    np.testing.assert_array_equal(
        load_audio(np.stack([CLIP, -CLIP]), source_rate=16_000), np.zeros_like(CLIP)
    )


def test_stereo_file_of_few_frames_is_stereo() -> None:
    stereo = np.array([[0.5, 0.25]] * 5)
    np.testing.assert_array_equal(load_audio(encoded(stereo)), np.full(5, 0.375, np.float32))


def test_interleaved_array_is_converted_without_a_loop() -> None:
    samples = np.zeros((40_000, 2), np.float32)
    assert load_audio(samples, source_rate=16_000).shape == (40_000,)
    assert count_calls(lambda: load_audio(samples, source_rate=16_000)) < 1000


@pytest.mark.parametrize("hertz", [1_000, 7_000])
def test_resampling_keeps_tones_below_8_khz_and_removes_11_khz(hertz: int) -> None:
    low_tone = load_audio(tone(hertz, 44_100), source_rate=44_100)
    removed = load_audio(tone(11_000, 44_100), source_rate=44_100)
    middle = slice(2_000, -2_000)
    np.testing.assert_allclose(low_tone[middle], tone(hertz, 16_000)[middle], atol=1e-3)
    assert np.abs(removed[middle]).max() < 1e-5


@pytest.mark.parametrize(
    ("rate", "target", "length"), [(44_100, 16_000, 16_000), (8_000, 16_000, 16_000), (16_000, 8_000, 8_000)]
)
def test_length_after_resampling(rate: int, target: int, length: int) -> None:
    assert load_audio(np.zeros(rate), target, source_rate=rate).shape == (length,)


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\xf0\xff\xff\xff"])
def test_streamed_wav_of_unknown_length_is_read_to_its_end(size: bytes) -> None:
    streamed = patched(patched(encoded(CLIP), 4, size), 40, size)
    np.testing.assert_array_equal(load_audio(streamed), CLIP)


def test_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    for name in ("clip.mp3", "clip.txt", "clip.raw", "clip"):
        (tmp_path / name).write_bytes(encoded(CLIP))
        np.testing.assert_array_equal(load_audio(tmp_path / name), CLIP)


@pytest.mark.parametrize(
    "tail",
    [b"LIST\x04\x00\x00\x00INFO", b"junk after the data", b"\x00" * 999],
    ids=["LIST", "junk", "zeros"],
)
def test_wav_with_bytes_after_its_data_is_complete(tail: bytes) -> None:
    np.testing.assert_array_equal(load_audio(encoded(CLIP) + tail), CLIP)


# Errors.

WAV = encoded(CLIP)
FLAC = encoded(CLIP, kind="FLAC")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 32044\n"
#: The last 36 bits of these 8 bytes are FLAC's count of samples; 2^36 - 1 of them are 256 GiB of float32.
HUGE_FLAC = patched(FLAC, 18, (int.from_bytes(FLAC[18:26], "big") | (2**36 - 1)).to_bytes(8, "big"))
WITH_NAN = np.where(np.arange(8_000) == 7, np.nan, CLIP)


def cut(kind: str, subtype: str | None = None) -> bytes:
    content = encoded(CLIP, kind=kind, subtype=subtype)
    return content[: len(content) // 2]


#: id, name, content, code, part of the message
BROKEN_FILES = [
    ("empty", "a.wav", b"", "E201", "0 bytes"),
    ("text", "a.wav", b"hello world\n" * 9, "E201", "cannot be decoded"),
    ("html", "a.wav", b"<!DOCTYPE html><html>404</html>", "E201", "HTML"),
    ("html-2", "a.wav", b"\n <html><body>404</body></html>", "E201", "HTML"),
    ("lfs", "a.wav", LFS, "E201", "git lfs pull"),
    ("json", "a.wav", b'{"error": "not found"}', "E201", "JSON"),
    ("zip", "a.wav", b"PK\x03\x04" + b"\0" * 99, "E201", "zip"),
    ("B2", "a.wav", cut("WAV"), "E202", "cut off: 0.249 s"),
    ("one-sample", "a.wav", WAV[:-2], "E202", "cut off"),
    ("float", "a.wav", cut("WAV", "FLOAT"), "E202", "cut off"),
    ("riff-size-unknown", "a.wav", patched(WAV, 4, b"\xff" * 4)[:9_000], "E202", "cut off"),
    ("aiff", "a.aiff", cut("AIFF"), "E202", "cut off"),
    ("au", "a.au", cut("AU"), "E202", "cut off"),
    ("B3", "a.mp3", cut("MP3"), "E202", "cut off"),
    ("B4", "a.flac", cut("FLAC"), "E202", ""),
    ("ogg", "a.ogg", cut("OGG"), "E202", ""),
    ("opus", "a.opus", cut("OGG", "OPUS"), "E202", ""),
    ("stub-wav", "a.wav", WAV[:20], "E202", "ends early"),
    ("stub-flac", "a.flac", FLAC[:20], "E202", "ends early"),
    ("B6", "a.flac", patched(FLAC, len(FLAC) // 2, b"\xaa" * 200), "E203", "cannot be decoded"),
    ("B7", "a.wav", patched(WAV, 40, struct.pack("<I", 0)), "E202", ""),
    ("B9-0-Hz", "a.wav", patched(WAV, 24, struct.pack("<I", 0)), "E204", ""),
    ("B9-4-GHz", "a.wav", patched(WAV, 24, struct.pack("<I", 2**32 - 1)), "E204", ""),
    ("B10-1-Hz", "a.wav", patched(WAV, 24, struct.pack("<I", 1)), "E204", "sampling rate 1 Hz"),
    ("B10-2-GHz", "a.wav", patched(WAV, 24, struct.pack("<I", 2**31 - 1)), "E204", "2147483647 Hz"),
    ("0", "a.wav", patched(WAV, 22, struct.pack("<H", 0)), "E204", ""),
    ("9", "a.wav", encoded(np.zeros((100, 9))), "E204", "9 channels, the limit is 8"),
    ("65535", "a.wav", patched(WAV, 22, struct.pack("<H", 65_535)), "E204", ""),
    (
        "nan",
        "a.wav",
        encoded(WITH_NAN, subtype="FLOAT"),
        "E104",
        "1 samples are NaN or infinite, the first at 7",
    ),
    ("inf", "a.wav", encoded(np.full(8_000, np.inf), subtype="FLOAT"), "E104", "the first at 0"),
    ("B14", "a.wav", encoded(CLIP[:0]), "E101", "no samples"),
    ("ape", "a.ape", b"MAC " + b"\0" * 99, "E205", "Monkey's Audio"),
    ("ape-as-wav", "a.wav", b"MAC " + b"\0" * 99, "E205", "Monkey's Audio"),
    ("dsd", "a.dsf", b"DSD " + b"\0" * 99, "E205", "DSD"),
    ("B25", "a.flac", HUGE_FLAC, "E207", "the limit is 3,600 s"),
    ("B26", "a.wav", encoded(np.zeros(3_601_000), 1_000, subtype="PCM_U8"), "E207", "3,601.0 s"),
    ("headerless", "a.raw", b"\1\2" * 500, "E201", ""),
    ("GSM", "a.gsm", encoded(CLIP, 8_000, subtype="GSM610"), "E205", ""),
]


def assert_clear(problem: AstHfError, code: str, name: str, part: str) -> None:
    text = str(problem)
    assert problem.code == code
    assert text.startswith(f"[AST-{code}] ")
    assert name in problem.where
    assert part in text
    assert "Fix: " in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "content", "code", "part"),
    [row[1:] for row in BROKEN_FILES],
    ids=[row[0] for row in BROKEN_FILES],
)
def test_broken_audio_files_are_refused(
    name: str, content: bytes, code: str, part: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, {"bytes": content, "path": name}):
        with pytest.raises(AstHfError) as caught:
            load_audio(source)
        assert_clear(caught.value, code, name, part)


#: id, function that makes the path in a folder with dog.wav, part of the message
PATHS: list[tuple[str, Callable[[Path], Path], str]] = [
    ("directory", lambda folder: folder, "is a directory"),
    ("missing", lambda folder: folder / "gog.wav", "dog.wav'?"),
    ("no-folder", lambda folder: folder / "none" / "x.wav", "does not exist"),
    ("fifo", lambda folder: os.mkfifo(folder / "pipe.wav") or folder / "pipe.wav", "not a regular file"),
    ("device", lambda folder: Path("/dev/zero"), "not a regular file"),
    ("null-byte", lambda folder: folder / "a\0b.wav", ""),
]


@pytest.mark.parametrize(("make", "part"), [row[1:] for row in PATHS], ids=[row[0] for row in PATHS])
def test_path_problems_are_named(make: Callable[[Path], Path], part: str, tmp_path: Path) -> None:
    (tmp_path / "dog.wav").write_bytes(WAV)
    path = make(tmp_path)
    with pytest.raises(AstDataError) as caught:
        load_audio(path)
    assert_clear(caught.value, "E206", path.name.split("\0")[0], part)


def test_dangling_link_is_missing(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(AstDataError, match=r"AST-E206.*link\.wav"):
        load_audio(tmp_path / "link.wav")


@pytest.mark.parametrize(
    "url", ["http://example.org/a.wav", "https://example.org/a.wav", "HTTPS://example.org/a.wav"]
)
def test_urls_are_refused(url: str) -> None:
    with pytest.raises(AstInputError) as caught:
        load_audio(url)
    assert_clear(caught.value, "E703", url, "URL")


#: id, arguments, code, part of the message
REFUSED = [
    ("no rate", {"source": CLIP}, "E107", "has no sampling rate"),
    ("no rate in dict", {"source": {"array": CLIP}}, "E107", "has no sampling rate"),
    ("rate 500", {"source": CLIP, "source_rate": 500}, "E107", "500 Hz"),
    ("rate 1e6", {"source": {"array": CLIP, "sampling_rate": 1_000_000}}, "E107", "1000000 Hz"),
    ("rate text", {"source": CLIP, "source_rate": "16000"}, "E102", "'16000' is a str"),
    ("rate float", {"source": CLIP, "source_rate": 16_000.5}, "E102", "16000.5 is a float"),
    ("rate bool", {"source": CLIP, "source_rate": True}, "E102", "True is a bool"),
    ("target 0", {"source": WAV, "sampling_rate": 0}, "E107", "0"),
    ("target text", {"source": WAV, "sampling_rate": "16000"}, "E102", "16000"),
    ("None", {"source": None, "source_rate": 16_000}, "E102", "NoneType"),
    ("int64", {"source": np.zeros(500, np.int64), "source_rate": 16_000}, "E102", "int64"),
    ("ragged list", {"source": [[0.1, 0.2], [0.3]], "source_rate": 16_000}, "E102", ""),
    ("no keys", {"source": {"audio": CLIP}}, "E102", "'audio'"),
    ("nothing in dict", {"source": {"bytes": None, "path": None}}, "E102", "bytes"),
    ("text as bytes", {"source": {"bytes": "RIFF"}}, "E102", ""),
    ("empty", {"source": CLIP[:0], "source_rate": 16_000}, "E101", "no samples"),
    ("no channels", {"source": np.zeros((0, 500)), "source_rate": 16_000}, "E101", "no samples"),
    ("empty channels", {"source": np.zeros((2, 0)), "source_rate": 16_000}, "E101", "no samples"),
    ("0-d", {"source": np.array(0.5), "source_rate": 16_000}, "E106", "shape ()"),
    ("3-D", {"source": np.zeros((2, 2, 500)), "source_rate": 16_000}, "E106", "(2, 2, 500)"),
    ("batch", {"source": np.zeros((9, 500)), "source_rate": 16_000}, "E106", "(9, 500)"),
    ("NaN", {"source": WITH_NAN, "source_rate": 16_000}, "E104", "the first at 7"),
    ("huge", {"source": np.full(9, 3.4e38, "f4"), "source_rate": 1_000}, "E104", "when it is resampled"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "part"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_unreadable_sources_are_refused(arguments: dict, code: str, part: str) -> None:
    with pytest.raises(AstHfError) as caught:
        load_audio(**arguments)
    assert_clear(caught.value, code, "", part)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_source_is_never_modified(kind: Any) -> None:
    source = kind(CLIP.copy())
    load_audio(source, 8_000, source_rate=16_000)
    load_audio(source, source_rate=16_000)
    np.testing.assert_array_equal(np.asarray(source), CLIP)


# Parts of a clip.

CONTAINERS = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
    ("AIFF", None),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype"), CONTAINERS)
def test_part_of_a_file(kind: str, subtype: str | None, channels: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (96_000, channels))
    path = tmp_path / "clip"
    path.write_bytes(encoded(noise, 48_000, kind, subtype))
    full = load_audio(path, 48_000)
    for start, end, first, last in (
        (0.25, 0.75, 12_000, 36_000),
        (None, 0.5, 0, 24_000),
        (1.5, None, 72_000, 96_000),
    ):
        for source in (path, path.read_bytes(), {"path": str(path), "bytes": None}):
            part = load_audio(source, 48_000, start=start, end=end)
            np.testing.assert_allclose(part, full[first:last], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "source",
    [CLIP, torch.from_numpy(CLIP), np.stack([CLIP, CLIP]), {"array": CLIP[:, None], "sampling_rate": 16_000}],
    ids=["array", "tensor", "planar stereo", "dict"],
)
def test_part_of_an_array(source: Any) -> None:
    # 3 samples: fewer than the maximum number of channels
    part = load_audio(source, source_rate=16_000, start=0.125, end=0.1252)
    np.testing.assert_array_equal(part, CLIP[2_000:2_003])


def test_only_the_part_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames=-1, **_: read.append(frames) or np.zeros((frames, 1), "f4"),
    )
    load_audio(encoded(CLIP), start=0.1, end=0.2)
    assert read == [1_600]


def test_part_of_a_recording_of_two_hours() -> None:
    content = encoded(np.tile(CLIP[:1_000] / 2, 7_200), 1_000, "FLAC")
    with pytest.raises(AstDataError, match=r"E207.*the limit is 3,600 s.*start, end"):
        load_audio(content)
    with pytest.raises(AstDataError, match="E207"):
        load_audio(content, start=1.0, end=3_700.0)
    part = load_audio(content, 1_000, start=7_000.0, end=7_000.5)
    np.testing.assert_array_equal(part, np.round(CLIP[:500] / 2 * 2**15) / 2**15)


def test_end_slightly_past_the_file_is_its_end() -> None:
    assert len(load_audio(CLIP, source_rate=16_000, start=0.25, end=0.599)) == 4_000
    with pytest.raises(AstDataError, match=r"E208.*lasts 0\.500 s"):
        load_audio(CLIP, source_rate=16_000, start=0.25, end=0.602)


PARTS = {
    "behind the end": ({"start": 0.5}, "E208", "0.500 s"),
    "far behind the end": ({"start": 3.0, "end": 4.0}, "E208", "3 s to 4 s"),
    "end too late": ({"end": 10.0}, "E208", "0 s to 10 s"),
    "negative": ({"start": -0.1}, "E108", "-0.1"),
    "backwards": ({"start": 0.3, "end": 0.2}, "E108", "not after"),
    "empty": ({"start": 0.3, "end": 0.3}, "E108", "not after"),
    "text": ({"start": "0.3"}, "E108", "'0.3'"),
    "not a number": ({"end": float("nan")}, "E108", "nan"),
    "endless": ({"end": float("inf")}, "E108", "inf"),
    "truth": ({"start": True}, "E108", "True"),
}


@pytest.mark.parametrize(("part", "code", "message"), PARTS.values(), ids=PARTS)
def test_impossible_parts_are_refused(part: dict, code: str, message: str) -> None:
    for source in (encoded(CLIP), {"array": CLIP, "sampling_rate": 16_000}):
        with pytest.raises(AstHfError) as caught:
            load_audio(source, **part)
        assert (caught.value.code, message in str(caught.value)) == (code, True)


def test_part_of_a_broken_file_is_refused() -> None:
    for content, code in ((encoded(CLIP)[:-4_000], "E202"), (b"no audio at all", "E201"), (b"", "E201")):
        with pytest.raises(AstDataError) as caught:
            load_audio(content, start=0.1, end=0.2)
        assert caught.value.code == code


@pytest.mark.parametrize("dtype", [np.ulonglong, np.uint16, np.int8, np.int64])
def test_integers_without_a_full_scale_are_refused(dtype: type) -> None:
    with pytest.raises(AstHfError, match=r"E102.*have no defined full scale"):
        load_audio(np.ones(2_000, dtype), source_rate=16_000)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (np.broadcast_to(np.float32(0.1), (10**12,)), "E207"),
        (torch.zeros(1).expand(10**12), "E207"),
        (np.ma.masked_array(CLIP, mask=np.arange(len(CLIP)) < 10), "E102"),
    ],
    ids=["broadcast", "expand", "masked"],
)
def test_samples_that_are_not_there_are_refused(source: Any, code: str) -> None:
    with pytest.raises(AstHfError) as caught:
        load_audio(source, source_rate=16_000)
    assert caught.value.code == code
    with pytest.raises(AstHfError) as caught:
        ASTFeatureExtractor()([source], sampling_rate=16_000)
    assert caught.value.code == code


def test_float32_samples_are_not_copied_and_others_are() -> None:
    samples = np.linspace(-1, 1, 8, dtype=np.float32)
    locked = samples.copy()
    locked.flags.writeable = False
    assert np.shares_memory(as_samples(samples, "clip").numpy(), samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that is read-only
        converted = as_samples(locked, "clip")
    assert not np.shares_memory(converted.numpy(), locked)
    assert converted.tolist() == samples.tolist()
    for strange in (
        samples[::-1],
        samples[:1][::-1],
        samples[::3],
        samples.astype(">f4"),
        samples.reshape(2, 4).T,
    ):
        assert np.array_equal(as_samples(strange, "clip").numpy(), strange)


@pytest.mark.parametrize("name", ["int16", "uint8"])
def test_every_whole_number_is_scaled_exactly(name: str) -> None:
    limits = np.iinfo(name)
    values = np.arange(limits.min, limits.max + 1).astype(name)
    zero, scale = INTEGER_SCALES[name]
    assert np.array_equal(as_samples(values, "clip").numpy(), (values.astype(np.float64) - zero) / scale)
