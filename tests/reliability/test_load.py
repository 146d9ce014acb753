"""Load: many commands on one cache, many threads on one pipeline, many calls in a row."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .bad_hub import NAME, Place
from .cases import FULL, record
from .test_hub import start

COMMANDS = 50 if FULL else 4
THREADS = 100 if FULL else 16
CALLS = 10_000 if FULL else 300


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.__exit__()


def test_commands_at_once_share_one_download(place: Place) -> None:
    place.hub.put(NAME, {path.name: path.read_bytes() for path in place.model.iterdir()})
    started = time.monotonic()
    processes = [
        start(place, "classify", NAME, str(place.clip), OMP_NUM_THREADS="1") for _ in range(COMMANDS)
    ]
    answers = [process.communicate(timeout=900) for process in processes]
    seconds = time.monotonic() - started
    assert [process.returncode for process in processes] == [0] * COMMANDS, answers
    assert len({out for out, _ in answers}) == 1
    downloads = place.hub.count("GET .*/resolve/.*/model.safetensors 200")
    assert downloads == 1
    record("Commands at once", commands=COMMANDS, downloads=downloads, seconds=round(seconds))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    from transformers import pipeline

    import ast_hf  # noqa: F401

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    place = Place(folder)
    place.server.__exit__()
    return pipeline("audio-classification", model=str(place.model))


def clips(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(9600)).astype(np.float32) for _ in range(count)]


def test_threads_on_one_pipeline_agree_with_one_after_the_other(classifier: Any) -> None:
    waveforms = clips(THREADS)
    alone = [classifier(waveform, top_k=1 + number % 2) for number, waveform in enumerate(waveforms)]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [
            pool.submit(classifier, waveform, top_k=1 + number % 2)
            for number, waveform in enumerate(waveforms)
        ]
        together = [job.result() for job in jobs]
    assert together == alone
    record("Threads on one pipeline", threads=THREADS, different=0)


def test_memory_does_not_grow_with_calls(classifier: Any) -> None:
    waveforms = clips(10)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(max(CALLS // 10, 100)):
        classifier(waveforms[0])
    before = resident()
    for number in range(CALLS):
        classifier(waveforms[number % len(waveforms)])
    per_call = (resident() - before) / CALLS
    record("Calls in a row", calls=CALLS, bytes_per_call=round(per_call))
    assert per_call < 1_000 if FULL else per_call < 20_000
