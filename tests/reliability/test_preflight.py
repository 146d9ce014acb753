"""Many bad clips among many: all are found before the first step, in little time and memory."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from .bad_data_faults import make_clips, recipe
from .cases import FULL, record

SIZES = {"train": 800, "test": 200}


def _rewrite(**options: Any) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        samples, rate = soundfile.read(file)
        soundfile.write(file, samples, rate, **options)

    return write


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _cut_flac(file: Path) -> None:
    _rewrite(format="FLAC")(file)
    _cut(file)


def _patch(place: int, content: bytes) -> Callable[[Path], None]:
    def patch(file: Path) -> None:
        changed = bytearray(file.read_bytes())
        changed[place : place + len(content)] = content
        file.write_bytes(changed)

    return patch


def _replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


#: Ways to spoil a file that its header betrays.
WAYS: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("no audio at all\n" * 50),
    "pointer": lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "zeros": lambda file: file.write_bytes(bytes(5_000)),
    "half": _cut,
    "half FLAC": _cut_flac,
    "header alone": lambda file: file.write_bytes(file.read_bytes()[:44]),
    "rate 0": _patch(24, bytes(4)),
    "channels 0": _patch(22, bytes(2)),
    "short": lambda file: soundfile.write(file, np.zeros(100), 16_000),
    "many channels": lambda file: soundfile.write(file, np.zeros((3_000, 12)), 16_000),
    "pipe": _replace_by_pipe,
    "M4A": lambda file: file.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500)),
}


def _table(root: Path, files: list[Path]) -> Path:
    rows = [f"{file.relative_to(root)},{file.parent.name},{file.parts[-3]}\n" for file in files]
    table = root / "clips.csv"
    table.write_text("path,label,split\n" + "".join(rows), encoding="utf-8")
    return table


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[Path]]:
    """Return the table of 1,000 clips, the 50 bad files among them in all the ways, and the others."""
    root = tmp_path_factory.mktemp("spoiled")
    files = make_clips(root, SIZES)
    bad = files[7::20]
    for number, file in enumerate(bad):
        list(WAYS.values())[number % len(WAYS)](file)
    return _table(root, files), bad, [file for file in files if file not in bad]


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_all_50_bad_clips_of_1000_are_listed(
    spoiled: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    from ast_hf import AstHfError
    from ast_hf.training import finetune

    table, bad, _ = spoiled
    started = time.monotonic()
    with pytest.raises(AstHfError, match=r"train row 8, .*; 50 of 1000 clips cannot be used") as raised:
        finetune(recipe(table), tmp_path / "run")
    assert raised.value.code[:2] in ("E1", "E2")
    rows = (tmp_path / "run" / "unreadable_clips.jsonl").read_text(encoding="utf-8").splitlines()
    listed = [json.loads(row) for row in rows]
    assert [Path(row["path"]) for row in listed] == bad
    assert [(row["split"], row["row"]) for row in listed[-2:]] == [("test", 168), ("test", 188)]
    record(
        "50 bad clips of 1,000, data.on_error: raise", listed=50, seconds=round(time.monotonic() - started, 1)
    )


def test_training_skips_50_of_1000(spoiled: tuple[Path, list[Path], list[Path]], tmp_path: Path) -> None:
    """The weights are those of the 950 clips alone."""
    from ast_hf import AstHfWarning
    from ast_hf.training import finetune

    table, bad, good = spoiled
    with pytest.warns(AstHfWarning, match=r"W214.*50 clips .*\(train 40 of 800, test 10 of 200\)"):
        report = finetune(recipe(table, {"on_error": "skip", "max_skipped_fraction": 0.05}), tmp_path / "run")
    rows = (tmp_path / "run" / "skipped_clips.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Path(json.loads(row)["path"]) for row in rows] == bad
    assert (report.training_clips, report.clips) == (760, {"test": 190})
    (table.parent / "good.csv").write_text(
        "path,label,split\n"
        + "".join(f"{file.relative_to(table.parent)},{file.parent.name},{file.parts[-3]}\n" for file in good)
    )
    plain = finetune(recipe(table.parent / "good.csv"), tmp_path / "plain")
    assert _weights(report.folder) == _weights(plain.folder)
    assert report.results == plain.results
    record("50 bad clips of 1,000, data.on_error: skip", skipped=50, weights_equal_those_of_950_clips=True)


def test_more_than_allowed_stop_the_run(spoiled: tuple[Path, list[Path], list[Path]], tmp_path: Path) -> None:
    from ast_hf import AstDataError
    from ast_hf.training import finetune

    with pytest.raises(AstDataError, match=r"E210.*50 of 1000 clips cannot be used \(5\.00%\)"):
        finetune(recipe(spoiled[0], {"on_error": "skip", "max_skipped_fraction": 0.049}), tmp_path / "run")


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_time_of_1000_headers(tmp_path: Path) -> None:
    """Not more than 25 times that of `soundfile.info` alone, which is 0.03 s; the median of three measurements."""
    from ast_hf.inputs.clip_checks import check_headers
    from ast_hf.training import load_audio_dataset

    files = make_clips(tmp_path / "clips", {"train": 1_000})
    split = load_audio_dataset(tmp_path / "clips")["train"]
    check_headers("train", split, 16_000)
    ratios = []
    for _ in range(3):
        alone = _seconds(lambda: [soundfile.info(file) for file in files])
        seconds = _seconds(lambda: check_headers("train", split, 16_000))
        ratios.append(seconds / alone)
    record(
        "Headers and digests of 1,000 clips", seconds=round(seconds, 2), soundfile_info_alone=round(alone, 2)
    )
    assert sorted(ratios)[1] < 25


def test_a_resumed_run_only_reads_headers(tmp_path: Path) -> None:
    """Preparing 1,000 clips again decodes nothing: it takes at most half of the time."""
    from ast_hf.training import prepare

    for file in make_clips(tmp_path / "clips", SIZES):
        soundfile.write(file, np.random.default_rng(len(file.name)).standard_normal(160_000) / 9, 16_000)
    plan = recipe(tmp_path / "clips", {"cache": False}, max_steps=1)
    started = time.perf_counter()
    trainer = prepare(plan, tmp_path / "run").trainer
    first = time.perf_counter() - started
    trainer.train()
    again = _seconds(lambda: prepare(plan, tmp_path / "run"))
    record(
        "Start of a run on 1,000 clips of 10 s",
        first_seconds=round(first, 1),
        resumed_seconds=round(again, 1),
    )
    assert again < first / 2


@pytest.mark.skipif(not FULL, reason="10,000 clips")
def test_memory_of_10000_clips(tmp_path: Path) -> None:
    """Checking 10,000 clips, 100 of them bad, adds less than 50 MB and no open file; exactly these are found."""
    from ast_hf.inputs.clip_checks import check_headers, decode_all
    from ast_hf.training import load_audio_dataset

    files = make_clips(tmp_path / "clips", {"train": 10_000})
    bad = sorted(files[9::100])
    for file in bad:
        _cut(file)
    split = load_audio_dataset(tmp_path / "clips")["train"]
    part = split.select(range(500))
    decode_all("train", part, 16_000, check_headers("train", part, 16_000))
    gc.collect()
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    check = check_headers("train", split, 16_000)
    headers = time.monotonic() - started
    decode_all("train", split, 16_000, check)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert sorted(Path(clip.path) for clip in check.bad) == bad
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    record("10,000 clips checked", seconds_headers=round(headers, 1), megabytes=round(growth))
    assert growth < 50
