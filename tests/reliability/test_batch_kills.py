"""`ast-hf classify FOLDER --resume`, killed at random times: the final files are those of an unbroken run.

make test-reliability            5 kills for each format
make test-reliability FULL=1    30 kills for each format
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY

from .cases import FULL, record

KILLS = 30 if FULL else 5
#: Recordings of the folder, of 0.3 to 6 s.
COUNT = 60
FORMATS = ("csv", "json", "raven", "parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny checkpoint and with recordings in two folders. Read only."""
    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    root = tmp_path_factory.mktemp("kills")
    ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)).save_pretrained(root / "model")
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(root / "model")
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        path = root / "in" / f"day {number % 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * noise.standard_normal(int(noise.uniform(4_800, 96_000))), 16_000)
    return root


def command(folder: Path, output: Path, format: str) -> list[str]:
    options = ["--timeline", "--threshold", "0.3", "--format", format, "--output", str(output), "--resume"]
    return ["classify", str(folder / "model"), str(folder / "in"), *options]


def child(words: list[str]) -> None:
    """Run the command and end the process with its exit code."""
    from ast_hf import cli

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    os._exit(cli.main(words))


def run(words: list[str], kill_after: float | None = None) -> tuple[int, float]:
    """Run the command in a forked process, kill it after some seconds, and return exit code and seconds."""
    process: Any = multiprocessing.get_context("fork").Process(target=child, args=(words,))
    started = time.monotonic()
    process.start()
    process.join(kill_after)
    process.kill()
    process.join(60)
    return process.exitcode, time.monotonic() - started


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", FORMATS)
def test_random_kills_leave_the_files_of_an_unbroken_run(format: str, folder: Path, tmp_path: Path) -> None:
    run(command(folder, tmp_path / "first", format))  # what is loaded once
    code, seconds = run(command(folder, tmp_path / "whole", format))
    assert code == 0
    whole = contents(tmp_path / "whole")
    assert len(whole) == (COUNT if format == "raven" else 1)
    chance = random.Random(FORMATS.index(format))
    kills = 0
    finished = 0
    words = command(folder, tmp_path / "parts", format)
    while kills < KILLS:
        # Each kill comes early, so that one batch is killed several times.
        code, _ = run(words, chance.uniform(0.0, seconds / 2))
        kills += code == -signal.SIGKILL
        finished += code == 0
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            assert contents(tmp_path / "parts") == whole
    assert run(words)[0] == 0
    assert contents(tmp_path / "parts") == whole
    record(f"kills of ast-hf classify, {format}", kills=kills, batches=finished + 1, other_bytes=0)
