"""The two snippets of a card, run from it: both give the same scores, or the card says why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, TINY

import ast_hf
from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.evaluation.calibration import store_calibration
from ast_hf.reports.evaluation_results import Calibration
from ast_hf.reports.model_card import write_card
from ast_hf.task import Task
from ast_hf.training import Recipe

RATE = 16_000
#: More than ten, since sorted as text "10" comes before "2".
LABELS = [f"sound {number}" for number in range(12)]
#: Samples that fill the model's input of 64 frames, and more.
SHORT, LONG = 6_000, 26_000
#: Difference of transformers' own features from ours, as scores.
CLOSE = 1e-3


@pytest.fixture
def stock() -> Iterator[None]:
    """Give transformers its own classes back."""
    ast_hf.unregister()
    yield
    ast_hf.register()


def make_folder(folder: Path, task: Task, *, masked: bool = False) -> Path:
    """Save a model with large weights, and its card."""
    config = ASTConfig(**TINY, id2label=dict(enumerate(LABELS)), problem_type=task.value)
    model = ASTForAudioClassification(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64, return_attention_mask=masked)
    extractor.save_pretrained(folder)
    results = json.loads((ROOT / "tests" / "data" / "card_results.json").read_text(encoding="utf-8"))
    recipe = Recipe.from_dict({"data": {"source": "x"}}).to_dict()
    results |= {"recipe": recipe, "labels": LABELS}
    results |= {"problem_type": task.value, "training_labels": {}, "base_model": None}
    results["features"] |= {"max_length": 64, "return_attention_mask": masked}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "README.md").write_text(str(write_card(results, str(folder))))
    return folder


def calibrate(folder: Path, task: Task) -> None:
    thresholds = list(np.linspace(0.2, 0.8, len(LABELS))) if task is Task.MULTI_LABEL else None
    values = {"test": {"ECE": 0.1, "NLL": 0.2}}
    fitted = Calibration("validation", 2.5, thresholds, 0, values, values)
    store_calibration(folder, fitted, task, range(len(LABELS)), "pets.csv")


def run_snippet(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Run a snippet of the card beside a clip.wav, and return the scores that it prints, which are best first."""
    monkeypatch.chdir(folder.parent)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    shown: list[Any] = []
    exec(blocks[number], {"print": shown.append})
    (entries,) = shown
    assert [entry["score"] for entry in entries] == sorted(
        (entry["score"] for entry in entries), reverse=True
    )
    return {entry["label"]: entry["score"] for entry in entries}


def write_clip(folder: Path, samples: int) -> None:
    random = np.random.default_rng(5)
    time = np.arange(samples) / RATE
    waveform = 0.3 * np.sin(2 * np.pi * (400 + 900 * time) * time) + 0.05 * random.standard_normal(samples)
    soundfile.write(folder / "clip.wav", waveform.astype(np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize("task", [Task.SINGLE_LABEL, Task.MULTI_LABEL])
@pytest.mark.parametrize("is_calibrated", [False, True])
def test_both_snippets_give_the_same_scores(
    task: Task,
    is_calibrated: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    folder = make_folder(tmp_path / "model", task)
    plain = None
    write_clip(tmp_path, SHORT)
    if is_calibrated:
        plain = run_snippet(folder, 1, monkeypatch)
        calibrate(folder, task)
        assert list(json.loads((folder / "config.json").read_text())["id2label"].values()) == LABELS
    ours = run_snippet(folder, 1, monkeypatch)
    same = run_snippet(folder, 0, monkeypatch)  # the first one with our classes
    write_clip(tmp_path, LONG)
    ours_of_all = run_snippet(folder, 1, monkeypatch)
    request.getfixturevalue("stock")
    theirs_of_beginning = run_snippet(folder, 0, monkeypatch)
    write_clip(tmp_path, SHORT)
    theirs = run_snippet(folder, 0, monkeypatch)

    assert ours.keys() == set(LABELS)
    assert same == pytest.approx(ours, abs=1e-6)
    assert theirs == pytest.approx(ours, abs=CLOSE)
    if plain is not None:
        assert ours != pytest.approx(plain, abs=0.05)
    card = (folder / "README.md").read_text()
    assert "Both give the same scores for clips of up to 0.64 s." in card
    assert "Of a longer clip the first hears 0.64 s, and `ast_hf` takes the mean of windows" in card
    assert theirs_of_beginning != pytest.approx(ours_of_all, abs=CLOSE / 10)


def test_a_masked_model_says_where_the_scores_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = make_folder(tmp_path / "model", Task.SINGLE_LABEL, masked=True)
    write_clip(tmp_path, 64 * 160 + 240)  # all 64 frames
    ours = run_snippet(folder, 1, monkeypatch)
    request.getfixturevalue("stock")
    assert run_snippet(folder, 0, monkeypatch) == pytest.approx(ours, abs=CLOSE)
    card = (folder / "README.md").read_text()
    assert "Both give the same scores for a clip of 0.64 s. Of a shorter one the first sees padding" in card


def test_the_section_about_calibration(tmp_path: Path) -> None:
    """It is written once, before the labels, in a card of any origin, which otherwise stays as it is."""
    folder = make_folder(tmp_path / "model", Task.MULTI_LABEL)
    generated = (folder / "README.md").read_text()
    (tmp_path / "hand.md").write_text("# mine\n\nMy own words.\n")
    for text in (generated, (tmp_path / "hand.md").read_text(), "---\nlicense: mit\n---\n"):
        (folder / "README.md").write_text(text)
        calibrate(folder, Task.MULTI_LABEL)
        once = (folder / "README.md").read_text()
        calibrate(folder, Task.MULTI_LABEL)
        assert (folder / "README.md").read_text() == once
        section = once.split("## Calibration\n")[1].split("\n## ")[0]
        assert "a temperature of 2.5, fitted on the split validation of pets.csv" in section
        assert "sound 0 0.2, sound 1 0.255" in section
        without = once.replace("## Calibration\n" + section, "").replace("(logits / 2.5).", "logits.")
        assert re.sub(r"\s", "", without) == re.sub(r"\s", "", text)
    regenerated = write_card(json.loads((folder / "results.json").read_text()), str(folder))
    assert "## Calibration" in regenerated.text
