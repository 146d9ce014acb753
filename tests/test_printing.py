"""Names of files, labels and splits are shown, never executed: in a terminal, a picture, a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT, TINY

from ast_hf import cli
from ast_hf.errors import error, warning_text
from ast_hf.printing import printable, spreadsheet_source, spreadsheet_text, visible

#: name -> as it is printed
NAMES = {
    "cat": "cat",
    "Käfer, 猫 and 🐈": "Käfer, 猫 and 🐈",
    "a b'c\"d": "a b'c\"d",
    "\x1b[2J": r"'\x1b[2J'",
    "\x1b]0;pwn\x07": r"'\x1b]0;pwn\x07'",
    "gpj\u202e.exe": r"'gpj\u202e.exe'",
    "\u2066x\u2069": r"'\u2066x\u2069'",
    "ca\u200bt": r"'ca\u200bt'",
    "a\u2028b": r"'a\u2028b'",
    "two\nlines": r"'two\nlines'",
    "tab\t": r"'tab\t'",
    "\udce9": r"'\udce9'",
    "\x9b31m": r"'\x9b31m'",
    "it's\x00": '"it\'s\\x00"',
}


@pytest.mark.parametrize(("name", "printed"), NAMES.items(), ids=map(ascii, NAMES))
def test_names_are_printed_as_they_are_or_as_repr(name: str, printed: str) -> None:
    assert printable(name) == printed


def test_lines_keep_their_breaks() -> None:
    assert visible("a\tb\n\x1b[1m") == "a\tb\n\\x1b[1m"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("cat", "cat"),
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3|cmd", "'-2+3|cmd"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1", "-1"),
        ("+3.5", "+3.5"),
        ("-dog", "'-dog"),
        ("'-dog", "''-dog"),
        ("'-1", "'-1"),
        ("", ""),
    ],
)
def test_cells_that_a_spreadsheet_would_run_are_quoted(cell: str, written: str) -> None:
    assert spreadsheet_text(cell) == written
    assert spreadsheet_source(written) == cell


def test_messages_are_lines_that_a_terminal_shows() -> None:
    problem = error("E208", where="a\x1b[2J.csv row 3", what="is \u202e", fix="rename \x07", detail="")
    assert str(problem) == r"[AST-E208] a\x1b[2J.csv row 3: is \u202e. Fix: rename \x07."
    assert str(type(problem)(str(problem))) == str(problem)
    assert warning_text("W205", where="\x1bc", what="x") == r"[AST-W205] \x1bc: x."
    long = error("E208", where="x", what=repr(b"\x00" * 100_000), fix="shorten it")
    assert len(str(long)) < 2_200


# ---------------------------------------------------------------- all commands

#: labels, as names of folders
LABELS = ["\x1b[2J\x1b]0;pwn\x07", "=HYPERLINK(1)", "gpj\u202e.exe $x_1$", "two\nlines{{7*7}}<b>"]
FILE = "\x1b[31m\u202eclip.wav"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders in train and test whose names a terminal would obey."""
    root = tmp_path_factory.mktemp("data") / "set\x1b[5m"
    time = np.arange(8_000) / 16_000
    for split, count in (("train", 3), ("test", 1)):
        for number, label in enumerate(LABELS):
            folder = root / split / label
            folder.mkdir(parents=True)
            for clip in range(count):
                tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * number + 20 * clip) * time)
                soundfile.write(folder / f"{split}{clip}{FILE}", tone, 16_000)
    return root


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that `finetune` wrote from these data."""
    folder = tmp_path_factory.mktemp("model")
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 4}
    values = {
        "name": "evil\x1b[2J",
        "data": {"source": str(data)},
        "model": {"config": TINY},
        "training": training,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = cli.main(["finetune", str(folder / "recipe.yaml"), "--output", str(folder / "out\x1b[5m")])
    assert code == 0
    return folder / "out\x1b[5m"


#: command -> its arguments
COMMANDS: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "finetune": lambda data, model, out: [
        *("finetune", str(model / "recipe.yaml"), "--data", str(data), "--output", str(out / "new")),
        *("--set", "training.num_train_epochs=1"),
    ],
    "stats": lambda data, model, out: ["stats", str(data), "--json", str(out / "report.json")],
    "evaluate": lambda data, model, out: [
        "evaluate",
        str(model),
        str(data),
        "--output",
        str(out / "e\x1b[5m"),
    ],
    "classify": lambda data, model, out: [
        "classify",
        str(model),
        *map(str, data.rglob("*test0*.wav")),
        "none\x1b[2J.wav",
    ],
    "info": lambda data, model, out: ["info", str(model)],
    "push": lambda data, model, out: ["push", str(model), "user/name", "--dry-run", str(out / "push")],
    "merge": lambda data, model, out: ["merge", str(model), str(out / "merged\x1b[5m")],
    "convert": lambda data, model, out: ["convert", str(model / "none\x1b[2J.pth"), str(out / "c")],
    "unknown option": lambda data, model, out: ["stats", str(data), "--\x1b[2J"],
    "missing data": lambda data, model, out: ["stats", str(data / "none\u202e")],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_print_no_escapes_of_names(
    name: str, data: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(COMMANDS[name](data, model, tmp_path))
    except SystemExit as end:
        code = int(end.code or 0)
    printed = "".join(capfd.readouterr())
    assert code in (0, 2, 65)
    assert hostile(printed) == []
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def hostile(printed: str) -> list[str]:
    """Return the characters of printed text that a terminal obeys, except those of progress bars."""
    text = re.sub(r"\x1b\[A", "", printed)
    return [
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t\r"
    ]


def test_the_table_by_class_has_no_formulas(data: Path, model: Path, tmp_path: Path) -> None:
    assert cli.main(["evaluate", str(model), str(data), "--output", str(tmp_path)]) == 0
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    named = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))
    assert sorted(row["label"] for row in named) == sorted(LABELS)
    assert [row["label"].removeprefix("'") for row in rows] == [row["label"] for row in named]
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


@pytest.mark.long
def test_output_in_ascii_has_escapes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "Käfer", "1": "猫", "2": "x"}, "label2id": {"Käfer": 0, "猫": 1, "x": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    soundfile.write(tmp_path / "ä.wav", 0.3 * np.sin(np.arange(8_000) / 5), 16_000)
    done = subprocess.run(
        [sys.executable, "-m", "ast_hf", "classify", str(folder), str(tmp_path / "ä.wav")],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"K\xe4fer" in done.stdout
    assert r"\xe4.wav" in done.stdout
