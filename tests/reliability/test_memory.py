"""Memory and time of long recordings, of files with many channels, and of small files that claim to be large."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ast_hf import AstHfError, audio_blocks, load_audio

from .cases import FULL, record
from .runner import Outcome, run

HOUR = 3_600


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a pipeline that has already classified a clip, so that a forked call adds only what a file needs."""
    from transformers import pipeline

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    folder = tmp_path_factory.mktemp("tiny")
    config = ASTConfig(**sizes, num_mel_bins=32, max_length=64, num_labels=3)
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    made = pipeline("audio-classification", model=str(folder))
    made({"array": np.ones(16_000, np.float32) / 2, "sampling_rate": 16_000})
    return made


def measured(
    name: str, call: Callable[[], Any], folder: Path, megabytes: float, seconds: float = 60.0
) -> Outcome:
    outcome = run(call, lambda value: value is not None, folder, seconds=seconds, megabytes=megabytes)
    record(
        name, megabytes=round(outcome.megabytes), seconds=round(outcome.seconds, 1), result=outcome.text[:80]
    )
    return outcome


def written(path: Path, rate: int, channels: int, seconds: int, **kind: str) -> Path:
    """Write silence of any length through a buffer of one second."""
    with soundfile.SoundFile(path, "w", rate, channels, **kind) as file:
        second = np.zeros((rate, channels), np.int16)
        for _ in range(seconds):
            file.write(second)
    return path


def tone_hour(path: Path, seconds: int = HOUR) -> Path:
    minute = (np.sin(np.arange(16_000 * 60) / 9) * 9_000).astype(np.int16)
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(seconds // 60):
            file.write(minute)
    return path


def sparse_wav(path: Path) -> Path:
    """Write an hour of 48 kHz float with 4 channels, 2.76 GB of which the disk stores nothing."""
    size = HOUR * 48_000 * 16
    header = struct.pack("<HHIIHH", 3, 4, 48_000, 48_000 * 16, 16, 32)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<I", 16) + header)
        file.write(b"data" + struct.pack("<I", size))
        file.truncate(44 + size)
    return path


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_pipeline_classifies_a_whole_hour(kind: str, classifier: Any, tmp_path: Path) -> None:
    minutes = 60 if kind in ("wav", "flac") or FULL else 10
    path = tone_hour(tmp_path / f"hour.{kind}", minutes * 60)
    classify_whole(f"pipeline, {minutes} minutes of {kind}", path, classifier, minutes * 60)


def test_pipeline_classifies_many_hours(classifier: Any, tmp_path: Path) -> None:
    hours = 10 if FULL else 2
    path = tone_hour(tmp_path / "day.flac", hours * HOUR)
    classify_whole(f"pipeline, {hours} hours of flac", path, classifier, hours * HOUR)


def test_pipeline_with_2_7_gb_of_four_channels(classifier: Any, tmp_path: Path) -> None:
    path = sparse_wav(tmp_path / "four.wav")
    classify_whole("pipeline, 2.7 GB of 4 channels", path, classifier, HOUR)


def classify_whole(name: str, path: Path, classifier: Any, seconds: int) -> None:
    """Classify all of a recording in bounded memory."""

    def read() -> float:
        _, recording = classifier.classify_recording(str(path))
        return recording.seconds

    outcome = measured(name, read, path.parent, 150, 1_800)
    assert outcome.kind == "value", outcome.text
    assert float(outcome.text) == pytest.approx(seconds, abs=0.1)


def test_whole_recording_in_blocks(tmp_path: Path) -> None:
    path = sparse_wav(tmp_path / "four.wav") if FULL else written(tmp_path / "four.flac", 48_000, 4, 600)
    outcome = measured(
        "audio_blocks, 4 channels", lambda: sum(map(len, audio_blocks(path))), tmp_path, 150, 300
    )
    assert outcome.text == str((HOUR if FULL else 600) * 16_000)


def test_whole_hour_adds_little_to_its_result(tmp_path: Path) -> None:
    path = tone_hour(tmp_path / "hour.flac")
    outcome = measured("load_audio, one hour (230 MB of samples)", lambda: load_audio(path), tmp_path, 300)
    assert outcome.text == f"array of shape ({HOUR * 16_000},)"


def test_minute_of_eight_channels_at_384_khz(tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.flac", 384_000, 8, 60)
    assert path.stat().st_size < 400_000
    outcome = measured("load_audio, 60 s of 8 channels at 384 kHz", lambda: load_audio(path), tmp_path, 150)
    assert outcome.text == f"array of shape ({60 * 16_000},)"


def claiming(path: Path, frames: int, rate: int, channels: int) -> Path:
    """Write a short FLAC whose header claims more."""
    soundfile.write(path, np.zeros((4_096, channels), np.int16), rate)
    content = bytearray(path.read_bytes())
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    content[18:26] = field.to_bytes(8, "big")
    path.write_bytes(content)
    return path


BOMBS: dict[str, Callable[[Path], Path]] = {
    "2^36 frames": lambda folder: claiming(folder / "a.flac", 2**36 - 1, 16_000, 1),
    "an hour of 8 channels at 384 kHz": lambda folder: claiming(
        folder / "a.flac", HOUR * 384_000, 384_000, 8
    ),
    "ten hours of silence": lambda folder: written(folder / "a.flac", 16_000, 1, 10 * HOUR),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_at_once(bomb: str, tmp_path: Path) -> None:
    path = BOMBS[bomb](tmp_path)

    def refuse() -> float:
        started = time.perf_counter()
        with pytest.raises(AstHfError, match="E207"):
            load_audio(path)
        return time.perf_counter() - started

    refuse()  # imports
    outcome = measured(f"E207 for {bomb}", refuse, tmp_path, 50)
    assert float(outcome.text) < 0.05
