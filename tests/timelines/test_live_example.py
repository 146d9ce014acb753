"""The example prints the events of a file and of a microphone, and says what is missing."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from .conftest import RATE, noise_with


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 4 s with a tone from 1.2 to 2.4 s."""
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    soundfile.write(path, noise_with(4.0, ("low tone", 1.2, 2.4)), RATE, subtype="PCM_16")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the example with these arguments, and return its exit code."""
    spec = importlib.util.spec_from_file_location("live_microphone", ROOT / "examples" / "live_microphone.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["live_microphone.py", *map(str, arguments)])
    return module.main()


def microphone(samples: np.ndarray) -> Any:
    """Return a stand-in of sounddevice whose only device plays these samples, in a buffer that is used again."""
    library: Any = types.ModuleType("sounddevice")
    library.PortAudioError = OSError
    library.query_devices = lambda device, kind: {"default_samplerate": 16_000.0}

    class InputStream:
        def __init__(self, blocksize: int, callback: Any, **_: Any) -> None:
            buffer = np.zeros((blocksize, 1), np.float32)
            for first in range(0, len(samples), blocksize):
                buffer[:, 0] = samples[first : first + blocksize]
                callback(buffer, blocksize, None, None)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    library.InputStream = InputStream
    return library


def test_a_file_is_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tone_checkpoint: Path, recording: Path
) -> None:
    assert run(monkeypatch, tone_checkpoint, "--file", recording, "--fast", "--provisional") == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    start, end, *label, score = line.split()
    assert " ".join(label) == "low tone"
    assert float(start) == pytest.approx(1.2, abs=0.25)
    assert float(end) == pytest.approx(2.4, abs=0.25)
    assert 0.5 < float(score) <= 1.0
    assert "4.0 s of sound" in printed.err


def test_a_microphone_gives_the_same_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tone_checkpoint: Path, recording: Path
) -> None:
    run(monkeypatch, tone_checkpoint, "--file", recording, "--fast")
    expected = capsys.readouterr().out
    samples, _ = soundfile.read(recording, dtype="float32")
    monkeypatch.setitem(sys.modules, "sounddevice", microphone(samples))
    assert run(monkeypatch, tone_checkpoint, "--seconds", "4") == 0
    assert capsys.readouterr().out == expected


def test_a_missing_library_or_file_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tone_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run(monkeypatch, tone_checkpoint) == 1
    assert "pip install sounddevice" in capsys.readouterr().err
    assert run(monkeypatch, tone_checkpoint, "--file", tmp_path / "absent.wav") == 1
    assert "E206" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(monkeypatch, tmp_path / "absent", "--file", tmp_path / "absent.wav") == 1
    assert "absent" in capsys.readouterr().err
