"""Mutants of valid audio files: no crash, no hang, bounded memory, only our errors, and no wrong length accepted."""

from __future__ import annotations

import io
import json
import mmap
import os
import resource
import signal
import struct
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ast_hf import AstHfError, audio_files, load_audio

from .cases import FULL, record
from .mutants import declared, mutant, valid_files

COUNT = int(os.environ.get("AST_HF_MUTANTS", "200000" if FULL else "5000"))
BATCH = 1_000
#: Seconds for one mutant, and bytes of address space for all.
SECONDS = 5
ADDRESS_SPACE = 1 << 30


def outcome_of(content: bytes) -> str:
    """Return the code of the error, `right`, `unknown` (nothing declared) or what is wrong."""
    known = declared(content)
    rate = known[0] if known and 1_000 <= known[0] <= 384_000 else 16_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            waveform = load_audio(content, rate)
        except AstHfError as problem:
            return "undefined error" if problem.code == "" else problem.code
        except BaseException:
            return "raised " + traceback.format_exc(limit=-3)
    if waveform.ndim != 1 or waveform.dtype != "float32":
        return f"returned {waveform.dtype} {waveform.shape}"
    if has_other_samples(content, rate, waveform):
        return "other samples than libsndfile reads in one piece"
    if known is None:
        return "unknown"
    return "right" if len(waveform) == known[1] else f"wrong length: {len(waveform)} of {known[1]} frames"


def has_other_samples(content: bytes, rate: int, waveform: np.ndarray) -> bool:
    """Return True if libsndfile alone reads the same number of samples, but others."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if (sound.samplerate, sound.frames) != (rate, len(waveform)):
                return False
            samples = sound.read(dtype="float32", always_2d=True)
    except RuntimeError:
        return False
    mono = samples.mean(axis=1)
    return len(mono) == len(waveform) and not np.allclose(mono, waveform, atol=1e-5, equal_nan=True)


def run_batch(first: int, place: mmap.mmap, answer: Path) -> None:
    """Try the mutants of a batch in this process, which `place` shows to its parent."""
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, size + ADDRESS_SPACE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    audio_files.BLOCK = 1_000  # most files are several blocks
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    for seed in range(first, first + BATCH):
        place[:8] = struct.pack("<q", seed)
        signal.alarm(SECONDS)
        name, content = mutant(seed)
        outcome = outcome_of(content)
        if outcome in ("right", "unknown") or outcome.startswith("E"):
            counts[outcome] += 1
        else:
            failures[seed] = f"{name}: {outcome}"
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answer.write_text(json.dumps({"counts": counts, "failures": failures, "megabytes": growth}))


def forked(first: int, folder: Path) -> dict[str, Any]:
    """Run a batch in a forked process; a process that dies is a failure of the mutant it was at."""
    place = mmap.mmap(-1, 8)
    answer = folder / f"{first}.json"
    child = os.fork()
    if child == 0:
        try:
            run_batch(first, place, answer)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if answer.exists():
        return json.loads(answer.read_text())
    seed = struct.unpack("<q", place[:8])[0]
    return {"counts": {}, "failures": {seed: f"the process died, status {status}"}, "megabytes": 0.0}


@pytest.mark.parametrize("name", sorted(valid_files()))
def test_unchanged_files_are_right(name: str) -> None:
    content = valid_files()[name]
    assert outcome_of(content) in ("right", "unknown"), outcome_of(content)
    assert abs(len(load_audio(content)) - 3_200) <= 1_152 + 1_105  # an MP3 without a count has its padding


def test_mutants(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    megabytes = 0.0
    start = int(os.environ.get("AST_HF_FIRST_MUTANT", "0"))
    for first in range(start, start + COUNT, BATCH):
        result = forked(first, tmp_path)
        counts.update(result["counts"])
        failures.update(result["failures"])
        megabytes = max(megabytes, result["megabytes"])
    record(
        "mutants of audio files", tried=COUNT, failures=len(failures), megabytes=round(megabytes), **counts
    )
    print(dict(counts), f"{megabytes:.0f} MB")
    shown = "\n".join(f"{seed}: {text}" for seed, text in list(failures.items())[:40])
    assert not failures, f"{len(failures)} of {COUNT}:\n{shown}"
    assert megabytes < 256


def test_the_check_of_samples_can_fail() -> None:
    content = valid_files()["FLAC PCM_16 2"]
    waveform = load_audio(content)
    assert not has_other_samples(content, 16_000, waveform)
    waveform[-100:] = 0.0
    assert has_other_samples(content, 16_000, waveform)


def test_the_check_of_lengths_can_fail() -> None:
    wav = valid_files()["WAV PCM_16 1"]
    assert declared(wav) == (16_000, 3_200)
    shorter = io.BytesIO(wav[:40] + struct.pack("<I", 100) + wav[44:]).getvalue()
    assert declared(shorter) == (16_000, 50)
