"""Standard output with `--json`, and messages for the mistakes of a first hour, of every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT, TINY

from ast_hf import cli

RECIPE: dict[str, Any] = {
    "data": {"source": "data"},
    "model": {"config": {**TINY}},
    "features": {"mean": -4.0, "std": 4.0},
    "threads": 1,
    "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
}


@pytest.fixture(scope="module")
def place(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with clips, a recipe and a link to a checkpoint, whose labels the clips have."""
    folder = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for split, label in ((split, label) for split in ("train", "test") for label in ("cat", "dog", "owl")):
        (folder / "data" / split / label).mkdir(parents=True)
        for number in range(2):
            samples = 0.1 * random.standard_normal(4_000)
            soundfile.write(folder / "data" / split / label / f"{number}.wav", samples, 16_000)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "model").symlink_to(tiny_checkpoint)
    (folder / "model-card").mkdir()
    for file in tiny_checkpoint.iterdir():
        (folder / "model-card" / file.name).write_bytes(file.read_bytes())
    (folder / "model-card" / "README.md").write_text(
        "---\nlibrary_name: transformers\npipeline_tag: audio-classification\nlicense: mit\n---\n# A model\n"
    )
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    "line",
    [
        "finetune recipe.yaml --output {out} --dry-run",
        "finetune recipe.yaml --output {out}",
        "stats data",
        "split data --redraw --output {out}.csv",
        "evaluate model data --output {out}",
        "classify model data",
        "classify model data --timeline",
        "classify model data --output {out}",
        "info",
        "info model",
        "options",
        "options learning rate",
        "push model-card user/name --dry-run {out}",
    ],
)
def test_standard_output_is_one_json_document(
    line: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = line.format(out=tmp_path / "out").split()
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("finetune data --output out", 65, "`ast-hf new DATA` writes one"),
        ("finetune table.csv --output out", 65, "`ast-hf new DATA` writes one"),
        ("finetune r.yaml --output o --epochs 3", 2, "change it with --set training.num_train_epochs=VALUE"),
        ("finetune r.yaml --output o --learning-rate=1", 2, "--set training.learning_rate=VALUE"),
        ("finetune r.yaml --output o --frobnicate", 2, "there is no option --frobnicate: use one of"),
        ("finetune r.yaml --output o --folds many", 2, "argument --folds: 'many' is not a whole number"),
        ("new --data data", 2, "leave the word out, as in ast-hf new DATA [OPTION ...]"),
        ("new data --minutes long", 2, "argument --minutes: 'long' is not a number"),
        ("options --section data", 2, "there is no option --section: use one of --help, --json"),
        ("stats data --max_length 0", 2, "argument --max_length: 0 is below 1"),
        ("split data --redraw --group labl --output x.csv", 65, "--group: there is no column 'labl'"),
        ("evaluate data model", 65, "'data': holds no model: neither config.json nor weights"),
        ("merge nowhere out", 65, "'nowhere': there is no such file or folder here"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(
    line: str,
    code: int,
    message: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    Path("table.csv").write_text("path,label\n")
    try:
        ended: Any = cli.main(line.split())
    except SystemExit as problem:
        ended = problem.code
    printed = capfd.readouterr()
    assert ended == code
    assert message in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("line", ["demo --data data", "new data", "finetune recipe.yaml --output out"])
def test_a_missing_extra_is_named_before_any_work(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without scikit-learn a run would train to its end, and then fail at the baseline."""
    find = PathFinder.find_spec

    def find_others(name: str, *arguments: Any) -> Any:
        return None if name == "sklearn" else find(name, *arguments)

    monkeypatch.chdir(place)
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    monkeypatch.setattr(PathFinder, "find_spec", find_others)
    assert cli.main(line.split()) == 65
    message = f"[AST-E108] ast-hf {line.split()[0]}: needs sklearn, not installed. Fix: pip install"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", ["", "--help", "new --help"])
def test_a_reader_that_leaves_is_no_failure(words: str) -> None:
    command = f"{sys.executable} -m ast_hf {words} | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        ["bash", "-c", f"{command}"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_repeated_warning_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Folds and trials read the same clips again."""
    from ast_hf.commands.console import _print_warning, _printed

    _printed.clear()
    for text in ("a", "b", "a"):
        _print_warning(text, UserWarning)
    assert capsys.readouterr().err.splitlines() == ["UserWarning: a", "UserWarning: b"]
