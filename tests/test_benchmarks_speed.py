"""The table of speed has a row for every target, marks what misses it, and is the stored page's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import inference_speed_page, report, speed, speed_page, training_step

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "benchmarks" / "RESULTS.md"


def copied(folder: Path, **changes: dict) -> Path:
    """Return a folder with the stored results, some of whose values differ."""
    for part in speed_page.PARTS:
        values = json.loads(part.read_text(encoding="utf-8"))
        for name, value in changes.get(part.stem, {}).items():
            values[name] = {**values[name], **value} if isinstance(value, dict) else value
        (folder / part.name).write_text(json.dumps(values), encoding="utf-8")
    return folder


def row(folder: Path, what: str) -> list[str]:
    (found,) = [line for line in speed_page.table(folder).splitlines() if line.startswith(f"| {what} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_table_has_a_row_for_every_target(tmp_path: Path) -> None:
    targets = [line.split("|")[4].split(",")[0].strip() for line in speed_page.table().splitlines()[2:]]
    assert targets == [
        *("at least 12x", "at least 5.5x", "at least 1.8x"),
        *("at least 5x", "at least 50x") * 2,
        *("at least 1.8x", "at least 2.3x", "at least 3.4x", "at least 4x", "at most 0.6x"),
        *("at least 1.25x", "at least 2.5x", "at least 3x", "at least 17x", "at least 2.4x"),
        *("at least 60x", "at least 3.5x", "at most 1.05x", "at most 0.3 s"),
    ]


def test_what_misses_its_target_is_bold(tmp_path: Path) -> None:
    folder = copied(
        tmp_path,
        features={"features": {"ratio": 11.99}, "threads": {"ratio": 1.8}},
        training_step={"megabytes": {"stock": 1000.0, "memory": 700.0}},
    )
    assert row(folder, "features, clip of 10 s")[2] == "**12.0x**"
    assert row(folder, "features of a batch of 64 on two threads")[2] == "1.80x"
    name = "peak memory of a training step, 4 clips, patchout, checkpointing"
    assert row(folder, name)[2:4] == ["**0.70x**", "at most 0.6x"]


def test_targets_follow_the_processor_and_peers_stand_beside(tmp_path: Path) -> None:
    folder = copied(tmp_path, inference_speed={"machine": "some CPU, AVX2, 2 cores"})
    found = row(folder, "AST-base, clip of 10 s, float32")
    assert found[3] == "at least 1.1x, logits within 1e-4"
    assert re.search(r"OpenVINO \d\.\d\dx; onnxruntime \d\.\d\dx$", found[4])
    assert "same best label for" in found[4]


def test_speed_does_not_count_beyond_the_tolerance(tmp_path: Path) -> None:
    base = json.loads((RESULTS / "inference_speed.json").read_text(encoding="utf-8"))["base"]
    gaps = {**base["gaps"], "ast_hf float32": 2e-4}
    seconds = {**base["seconds"], "transformers sdpa float32": 4.0, "ast_hf int8": 0.8}
    trained = {"agreement": {"ast_hf float32": 1.0, "ast_hf bfloat16": 0.985, "ast_hf int8": 0.985}}
    folder = copied(
        tmp_path,
        features={"features": {"max": 6e-4}, "flac": {"ratio": 9.0, "mean": 2e-5}},
        inference_speed={"base": {"gaps": gaps, "seconds": seconds}, "trained": trained},
    )
    assert row(folder, "features, clip of 10 s")[2].startswith("**")
    assert row(folder, "bytes of a FLAC file of 10 s to features")[2] == "**9.0x**"
    assert row(folder, "AST-base, clip of 10 s, float32")[2].startswith("**")
    assert row(folder, "AST-base, clip of 10 s, bfloat16")[2].startswith("**")
    assert row(folder, "AST-base, clip of 10 s, int8")[2:4] == [
        "5.00x",
        "at least 3x, 98% the same best label",
    ]


def test_a_processor_without_bfloat16_has_no_row_of_it(tmp_path: Path) -> None:
    step = json.loads((RESULTS / "training_step.json").read_text(encoding="utf-8"))
    speed = json.loads((RESULTS / "inference_speed.json").read_text(encoding="utf-8"))
    kept = {
        name: values for name, values in step["seconds"].items() if name in ("stock", "patchout", "float32")
    }
    step |= {"seconds": kept, "differences": {"float32": 0.0}}
    for table in ("base", "lengths"):
        seconds = speed[table]["seconds"]
        speed[table]["seconds"] = {name: spent for name, spent in seconds.items() if "bfloat16" not in name}
    speed["machine"] = "some CPU, AVX2, 2 cores"
    copied(tmp_path)
    (tmp_path / "training_step.json").write_text(json.dumps(step), encoding="utf-8")
    (tmp_path / "inference_speed.json").write_text(json.dumps(speed), encoding="utf-8")
    table = speed_page.table(tmp_path)
    assert "bf16" not in table
    assert ", bfloat16 |" not in table
    assert row(tmp_path, "AST-base, clip of 10 s, int8")[3] == "-", "VNNI has a target, AVX2 has none"
    assert "bf16" not in training_step.section(step).partition("`python")[0]
    assert (
        "bfloat16 |"
        not in inference_speed_page.section(tmp_path / "inference_speed.json").partition("A trained")[0]
    )


def test_a_missed_target_has_its_reason(tmp_path: Path) -> None:
    missed = copied(tmp_path, features={"threads": {"ratio": 1.0}, "flac": {"ratio": 6.0}})
    section = speed_page.section(missed)
    assert "- Two threads: " in section
    assert "- FLAC: " not in section


def test_without_a_part_there_is_no_section(tmp_path: Path) -> None:
    assert speed_page.section(tmp_path) == ""
    shutil.copy(RESULTS / "features.json", tmp_path)
    assert speed_page.section(tmp_path) == ""
    assert speed_page.table(tmp_path).count("\n") == 4


def test_the_page_is_that_of_the_stored_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == report.page()


def test_a_part_that_fails_is_named_with_its_error() -> None:
    with pytest.raises(SystemExit, match=r"(?s)unrecognized arguments: --slow.*benchmarks\.features failed"):
        speed.measure("features", ["--slow"])
