"""The commands, in this process: what they print, and what they do with bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import TINY

from ast_hf import cli


@pytest.fixture
def clips(tmp_path: Path, tone: np.ndarray) -> Path:
    """Label folders of tones and noise, six clips each, with a test split."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for number in range(count):
            for label, waveform in (("tone", tone), ("noise", 0.1 * random.standard_normal(16_000))):
                folder = tmp_path / "clips" / split / label
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / f"{number}.wav", waveform, 16_000)
    return tmp_path / "clips"


def test_classify_prints_labels_and_reports_bad_files(
    tiny_checkpoint: Path, tmp_path: Path, tone: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    good = tmp_path / "good.flac"
    soundfile.write(good, tone, 16_000)
    code = cli.main(["classify", str(tiny_checkpoint), str(tmp_path / "missing.wav"), str(good), "--top_k", "2"])
    printed = capsys.readouterr()
    assert code == 65
    assert "AST-E206" in printed.err
    assert "missing.wav" in printed.err
    name, labels = printed.out.strip().split("\t")
    assert name == str(good)
    assert {part.split()[0] for part in labels.split("  ")} < {"cat", "dog", "owl"}


def test_info_describes_a_checkpoint(tiny_checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info", str(tiny_checkpoint)]) == 0
    printed = capsys.readouterr().out
    for fact in ("2 layers, 24 wide, 3 heads", "3 x 7 = 21, 23 tokens", "0.64 s", "3: cat, dog, owl"):
        assert fact in printed


def test_info_describes_the_environment(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    for name in ("torch", "transformers", "libsndfile", "torchvision"):
        assert name in printed


def test_finetune_trains_by_a_recipe(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "recipe.yaml"
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True}
    recipe.write_text(yaml.safe_dump({"model": {"config": TINY}, "training": training}))
    output = tmp_path / "out"
    assert cli.main(["finetune", str(recipe), "--data", str(clips), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "logistic regression baseline" in printed
    assert re.search(
        r"Trained on 12 clips, 2 epochs, in \d+ s: [\d.]+ clips/s\.\nTrained .*\nEvaluated on 6 test\.\n", printed
    )
    assert (output / "model.safetensors").exists()
    again = ["finetune", str(recipe), "--data", str(clips), "--output", str(output), "--resume"]
    assert cli.main([*again, "--set", "training.num_train_epochs=3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["finetune", "missing.yaml", "--output", "out"], 65, "AST-E307"),
        (["classify", "/nowhere/at-all", "a.wav"], 65, "AST-E306"),
        (["info", "/nowhere/at-all"], 65, "AST-E306"),
        (["demo"], 65, "clone of the repository"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_use_says_what_to_do(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_demo_runs_on_other_recordings(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from ast_hf.training.demo import run_demo

    recipe = tmp_path / "recipe.yaml"
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "disable_tqdm": True}
    recipe.write_text(yaml.safe_dump({"model": {"config": TINY}, "training": training}))
    monkeypatch.chdir(tmp_path)
    run_demo(str(recipe), [f"data.source={clips}", "data.eval_splits=[test]"], "out")
    printed = capfd.readouterr().out
    assert "fresh process" in printed
    assert printed.count("0.wav ->") == 2


def test_stats_lists_what_cannot_be_read_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("low", "high"):
        (tmp_path / "data" / label).mkdir(parents=True)
        samples = 0.3 * np.sin(np.arange(8000) / (9 if label == "low" else 2))
        soundfile.write(tmp_path / "data" / label / "1.wav", samples, 16_000)
    report = tmp_path / "report.json"
    assert cli.main(["stats", str(tmp_path / "data"), "--json", str(report)]) == 0
    assert "train: 2 clips" in capsys.readouterr().out
    assert json.loads(report.read_text())["splits"]["train"]["labels"] == {"high": 1, "low": 1}
    (tmp_path / "data" / "low" / "2.wav").write_bytes(b"no audio at all")
    assert cli.main(["stats", str(tmp_path / "data")]) == 65
    printed = capsys.readouterr()
    assert "train: 3 clips" in printed.out
    assert "E201" in printed.err
    assert "2.wav" in printed.err


def test_evaluate_writes_and_prints(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("cat", "owl"):
        (tmp_path / "data" / "test" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "data" / "test" / label / "1.wav", 0.3 * np.sin(np.arange(8000) / 5), 16_000)
    arguments = ["evaluate", str(tiny_checkpoint), str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "accuracy" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["clips"] == 2
    assert cli.main([*arguments, "--split", "tset"]) == 65
    assert "'test'" in capsys.readouterr().err
