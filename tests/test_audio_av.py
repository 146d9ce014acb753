"""What phones, browsers and cameras record, through PyAV: right to the sample, or an error that names the file."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_fresh

from ast_hf import AstDataError, audio_blocks, load_audio
from ast_hf.audio import open_stream
from ast_hf.data.audio_headers import read_header
from ast_hf.data.reading import load_audio_dataset
from ast_hf.inputs.clip_checks import check_headers

av = pytest.importorskip("av", reason='needs the extra: pip install "ast_hf[codecs]"')

RATE = 48_000
#: container and codec -> (muxer, encoder, sample format)
RECORDED = {
    "m4a": ("ipod", "aac", "fltp"),
    "mp4 of a browser": ("mp4", "aac", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "webm": ("webm", "libopus", "flt"),
    "webm of a browser": ("webm", "libopus", "flt"),
    "mkv": ("matroska", "libmp3lame", "fltp"),
    "wma": ("asf", "wmav2", "fltp"),
    "mpegts": ("mpegts", "aac", "fltp"),
    "mpeg": ("mpeg", "mp2", "s16"),
    "flv": ("flv", "aac", "fltp"),
    "avi": ("avi", "ac3", "fltp"),
}
LOSSLESS = {
    "alac in m4a": ("ipod", "alac", "s16p"),
    "flac in mkv": ("matroska", "flac", "s16"),
    "pcm in mov": ("mov", "pcm_s16be", "s16"),
    "pcm in avi": ("avi", "pcm_s16le", "s16"),
    "pcm in mkv": ("matroska", "pcm_s24le", "s32"),
}
LOSSLESS_CODECS = {codec for _, codec, _ in LOSSLESS.values()}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
OPTIONS = {
    "mp4 of a browser": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    "webm of a browser": {"live": "1"},
}


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Return a tone in noise as float32 `(channels, time)`, exact in 16 bits."""
    time = np.arange(round(seconds * rate)) / rate
    clean = 0.4 * np.sin(2 * np.pi * 440 * time)
    noise = np.random.default_rng(0).normal(scale=0.05, size=(channels, len(time)))
    return (np.round((clean + noise) * 2**15) / 2**15).astype(np.float32)


def frame_of(samples: np.ndarray, form: str, rate: int) -> Any:
    """Return a frame of samples `(channels, time)`, packed: PyAV reads 8 planes beyond their end."""
    kind, scale = {"flt": (np.float32, 1), "s16": (np.int16, 2**15), "s32": (np.int32, 2**31)}[
        form.rstrip("p")
    ]
    values = (samples * scale).astype(kind).T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(values, format=form.rstrip("p"), layout=LAYOUTS[len(samples)])
    frame.sample_rate = rate
    frame.pts = 0
    frame.time_base = Fraction(1, rate)
    return frame


def with_sound(container: Any, codec: str, form: str, samples: np.ndarray, rate: int) -> None:
    stream = container.add_stream(codec, rate=rate)
    stream.codec_context.layout = LAYOUTS[len(samples)]
    stream.codec_context.format = form
    if codec not in LOSSLESS_CODECS:
        stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 64_000 * len(samples)
    for packet in [*stream.encode(frame_of(samples, form, rate)), *stream.encode(None)]:
        container.mux(packet)


@functools.cache
def recorded(name: str, seconds: float = 1.0, rate: int = RATE, channels: int = 2) -> bytes:
    muxer, codec, form = {**RECORDED, **LOSSLESS}[name]
    file = io.BytesIO()
    with av.open(file, "w", format=muxer, options=OPTIONS.get(name, {})) as container:
        with_sound(container, codec, form, tone(seconds, rate, channels), rate)
    return file.getvalue()


@functools.cache
def video(*, sound: bool = True) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        if sound:
            audio = container.add_stream("aac", rate=RATE)
            audio.codec_context.layout = "stereo"
        for number in range(10):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(pictures.encode(None))
        if sound:
            container.mux(audio.encode(frame_of(tone(), "fltp", RATE)))
            container.mux(audio.encode(None))
    return file.getvalue()


def refused(content: bytes | Path, code: str, *parts: str) -> None:
    with pytest.raises(AstDataError) as caught:
        load_audio(content)
    assert caught.value.code == code, str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_recordings_are_read_bit_by_bit(name: str, channels: int) -> None:
    loaded = load_audio(recorded(name, channels=channels), RATE)
    np.testing.assert_array_equal(loaded, tone(channels=channels).mean(axis=0, dtype=np.float32))


#: Samples of delay of an encoder in files that do not say it, so that every program plays them.
DELAYS = dict.fromkeys(["aac", "mpegts", "flv", "mp4 of a browser"], 1_024) | {"avi": 256, "mpeg": 481}


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "wma"])
def test_recordings_are_whole_and_in_time(name: str) -> None:
    delay = DELAYS.get(name, 0)
    loaded = load_audio(recorded(name), RATE)[delay:]
    expected = tone().mean(axis=0)
    assert -1_152 < len(loaded) - len(expected) < 1_024
    count = min(len(loaded), len(expected))
    assert np.corrcoef(loaded[:count], expected[:count])[0, 1] > 0.98
    if "webm" in name:
        assert len(loaded) == len(expected)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with ffmpeg, which is not installed")
# FFmpeg before 8 keeps the delay of an MP3 in Matroska.
@pytest.mark.parametrize("name", [name for name in [*RECORDED, *LOSSLESS] if name != "mkv"])
def test_recordings_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(recorded(name))
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    expected = np.frombuffer(output, np.float32).reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(load_audio(path, RATE), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [*RECORDED, *LOSSLESS])
def test_every_way_to_read_a_recording_agrees(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ast_hf.audio_av.BLOCK", 20_000)
    content = recorded(name)
    path = tmp_path / "clip.wav"  # the content decides, not the name
    path.write_bytes(content)
    whole = load_audio(path, RATE)
    assert read_header({"path": str(path)}) == (RATE, 2, len(whole) / RATE)
    blocks = list(audio_blocks(content, RATE))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(load_audio(io.BytesIO(content), RATE), whole)
    np.testing.assert_array_equal(load_audio(path, RATE, start=0.2, end=0.7), whole[9_600:33_600])
    np.testing.assert_array_equal(load_audio(path, RATE, start=0.9), whole[43_200:])
    with open_stream(path, RATE) as stream:
        assert stream.length == len(whole)
        np.testing.assert_array_equal(np.concatenate(list(stream.blocks)), whole)


def test_open_files_and_pipes_are_read_from_their_position(tmp_path: Path) -> None:
    content = recorded("m4a")
    path = tmp_path / "clip"
    path.write_bytes(b"before" + content)
    whole = load_audio(content)
    with path.open("rb") as file:
        file.seek(6)
        np.testing.assert_array_equal(load_audio(file), whole)
    receiver, sender = os.pipe()
    writer = threading.Thread(target=lambda: os.fdopen(sender, "wb").write(content))
    writer.start()
    with os.fdopen(receiver, "rb") as file:
        np.testing.assert_array_equal(load_audio(file), whole)
    writer.join()


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 6), (48_000, 8), (96_000, 2)])
def test_rates_and_channels(rate: int, channels: int) -> None:
    loaded = load_audio(recorded("m4a", rate=rate, channels=channels), rate)
    expected = tone(rate=rate, channels=channels).mean(axis=0)
    assert np.corrcoef(loaded[: len(expected)], expected)[0, 1] > 0.98


def test_the_sound_of_a_video_is_read_and_its_pictures_are_not() -> None:
    loaded = load_audio(video(), RATE)
    assert np.corrcoef(loaded[:RATE], tone().mean(axis=0))[0, 1] > 0.9
    refused(video(sound=False), "E201", "no sound")


def test_of_several_streams_the_one_with_the_most_channels_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        quiet, loud = 0.1 * tone(channels=1), tone(channels=2)
        streams = []
        for samples, layout in ((quiet, "mono"), (loud, "stereo")):
            stream = container.add_stream("pcm_s16le", rate=RATE)
            stream.codec_context.layout = layout
            stream.disposition = 1
            streams.append((stream, samples))
        for stream, samples in streams:
            container.mux(stream.encode(frame_of(samples, "s16", RATE)))
            container.mux(stream.encode(None))
    np.testing.assert_allclose(load_audio(file.getvalue(), RATE), loud.mean(axis=0), atol=1e-7)


@pytest.mark.parametrize("name", [*RECORDED, *LOSSLESS])
def test_a_recording_that_is_cut_off_is_refused(name: str) -> None:
    content = recorded(name)
    # Streams have no length: at the border of two packets, a cut is not seen.
    places = [len(content) // 3 | 1, len(content) // 2 | 1, len(content) - 11, len(content) - 1]
    for place in places:
        refused(content[:place], "E202")


def damaged_file(name: str) -> bytes:
    content = bytearray(recorded(name))
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xaa" * 300
    return bytes(content)


@pytest.mark.parametrize("name", ["m4a", "aac", "webm", "mkv", "wma", "mpegts", "mpeg", "flv", "flac in mkv"])
def test_damage_in_the_middle_is_an_error(name: str) -> None:
    refused(damaged_file(name), "E203")


def test_what_is_before_the_damage_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ast_hf.audio_av.BLOCK", 2_000)
    whole = load_audio(recorded("m4a"), RATE)
    read: list[np.ndarray] = []
    with pytest.raises(AstDataError, match="E203"):
        read.extend(audio_blocks(damaged_file("m4a"), RATE))
    beginning = np.concatenate(read)
    assert 0.2 * RATE < len(beginning) < 0.6 * RATE
    np.testing.assert_array_equal(beginning, whole[: len(beginning)])
    with pytest.raises(AstDataError, match="E203"):
        read_header({"bytes": damaged_file("wma")})


def boxed(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def declaring(name: str, box: bytes, place: int) -> bytes:
    """Return a file with a table of 67 million samples of a byte: FFmpeg takes 2 GB for it."""
    content = bytearray(recorded(name))
    place += content.index(box)
    content[place : place + 8] = (1).to_bytes(4, "big") + (2**26).to_bytes(4, "big")
    return bytes(content)


#: content -> code, part of the message
REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no table": (lambda: boxed(b"ftyp", b"M4A " + bytes(8)) + boxed(b"mdat", bytes(500)), "E202", "moov"),
    "two files in one": (lambda: recorded("m4a") * 2, "E203", "several recordings"),
    "two WebMs in one": (lambda: recorded("webm of a browser") * 2, "E203", "several recordings"),
    "protected": (lambda: recorded("m4a").replace(b"mp4a", b"drms", 1), "E205", "DRM"),
    "more samples than bytes": (lambda: declaring("m4a", b"stsz", 8), "E203", "67,108,864 bytes"),
    "a fragment of them": (lambda: declaring("mp4 of a browser", b"trun", 4), "E203", "67,108,864 bytes"),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.m4a\n", "E201", ""),
    "list of files": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "E201", ""),
    "header of WebM alone": (lambda: recorded("webm")[:200], "E202", ""),
    "junk after the mark": (lambda: b"\x1aE\xdf\xa3" + bytes(99), "E203", ""),
    "AMR of several channels": (lambda: b"#!AMR_MC1.0\n" + bytes(99), "E205", "AMR"),
}


@pytest.mark.parametrize(("make", "code", "part"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_refused(make: Callable[[], bytes], code: str, part: str) -> None:
    refused(make(), code, part)


def test_the_limits_are_those_of_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ast_hf.audio.MAX_SAMPLES", 15_000)
    refused(recorded("m4a"), "E207", "the limit is 1 s")
    assert len(load_audio(recorded("m4a"), end=0.5)) == 8_000


def test_amr_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="amr") as container:
        with_sound(container, "libopencore_amrnb", "s16", tone(rate=8_000, channels=1), 8_000)
    content = file.getvalue()
    assert len(load_audio(content, 8_000)) // 160 == (len(content) - 6) // (len(content) // 51)
    refused(content[:-1], "E202")


def test_folders_of_recordings_are_found_and_checked(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for number, suffix in enumerate((".m4a", ".webm", ".WMA")):
            path = tmp_path / label / f"{number}{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(recorded(suffix[1:].lower()))
    clips = load_audio_dataset(tmp_path)["train"]
    assert len(clips) == 6
    checked = check_headers("train", clips, 16_000, disable_tqdm=True)
    assert checked.bad == []
    assert [round(clip.seconds, 1) for clip in checked.clips] == [1.0] * 6


@pytest.mark.long
def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.m4a").write_bytes(recorded("m4a"))
    code = f"""
        import sys
        sys.modules["av"] = None
        from ast_hf import AstHfError, load_audio
        from ast_hf.data.reading import load_audio_dataset
        folder = {str(tmp_path)!r}
        for read, source in ((load_audio, folder + "/cat/1.m4a"), (load_audio_dataset, folder)):
            try:
                read(source)
            except AstHfError as problem:
                print(problem)
    """
    first, second = run_fresh(textwrap.dedent(code)).strip().splitlines()
    assert "E205" in first
    assert 'pip install "ast_hf[codecs]"' in first
    assert "E209" in second
    assert 'not read (2 .m4a), convert them to WAV or FLAC, or pip install "ast_hf[codecs]"' in second


FUZZ = """
import io, json, sys
import numpy as np
from ast_hf import AstHfError, load_audio
content = open(sys.argv[1], "rb").read()
random = np.random.default_rng(int(sys.argv[2]))
outcomes = {}
for _ in range(int(sys.argv[3])):
    mutant = bytearray(content)
    for _ in range(random.integers(1, 5)):
        near = len(mutant) if random.random() < 0.5 else min(len(mutant), 1_500)
        mutant[random.integers(near)] = random.integers(256)
    try:
        samples = load_audio(bytes(mutant))
        assert np.isfinite(samples).all()
        code = "read"
    except AstHfError as problem:
        code = problem.code
    outcomes[code] = outcomes.get(code, 0) + 1
print(json.dumps(outcomes))
"""


def fuzzed(name: str, count: int, tmp_path: Path) -> dict[str, int]:
    path = tmp_path / "clip"
    path.write_bytes(recorded(name, 0.3))
    command = [sys.executable, "-W", "ignore", "-c", FUZZ, str(path), "0", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stderr == ""
    outcomes = json.loads(done.stdout)
    assert set(outcomes) <= {"read", "E101", "E104", "E201", "E202", "E203", "E204", "E205", "E207"}
    return outcomes


@pytest.mark.parametrize("name", ["m4a", "webm of a browser", "wma"])
def test_changed_bytes_give_audio_or_our_errors(name: str, tmp_path: Path) -> None:
    outcomes = fuzzed(name, 100, tmp_path)
    assert 5 < outcomes["read"] < 95


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RECORDED, *LOSSLESS])
def test_many_changed_bytes_give_audio_or_our_errors(name: str, tmp_path: Path) -> None:
    assert sum(fuzzed(name, 1_500, tmp_path).values()) == 1_500
