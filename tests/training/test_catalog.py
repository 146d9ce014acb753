"""The paper's data sets in miniature: found in local folders, read as the paper reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ast_hf import AstDataError
from ast_hf.data.catalog import KNOWN_SETS, find_data_set
from ast_hf.data.splits import label_names
from ast_hf.paper_data_sets import class_names
from ast_hf.training import load_audio_dataset


def wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(800, 0.25), 16_000)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of data sets."""
    monkeypatch.setenv("AST_HF_DATA", str(tmp_path))
    return tmp_path


def labels_by_file(rows: Any) -> dict[str, object]:
    """Return file name -> label name, or names."""
    names = label_names(rows)
    key = "labels" if "labels" in rows.column_names else "label"
    labels = [[names[index] for index in row[key]] if key == "labels" else names[row[key]] for row in rows]
    return {
        "/".join(Path(row["audio"]["path"]).parts[-2:]): name for row, name in zip(rows, labels, strict=True)
    }


ESC50 = """filename,fold,target,category,esc10,src_file,take
1-100-A-0.wav,1,0,dog,True,100,A
2-200-A-49.wav,2,49,hand_saw,False,200,A
5-300-B-1.wav,5,1,rooster,True,300,B
"""


def test_esc50(root: Path) -> None:
    folder = root / "ESC-50-master"
    for name in ("1-100-A-0", "2-200-A-49", "5-300-B-1"):
        wav(folder / "audio" / f"{name}.wav")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text(ESC50)
    splits = load_audio_dataset(**find_data_set("esc50"))
    assert labels_by_file(splits["test"]) == {"audio/1-100-A-0.wav": "dog"}
    assert labels_by_file(splits["train"]) == {
        "audio/2-200-A-49.wav": "hand_saw",
        "audio/5-300-B-1.wav": "rooster",
    }
    assert list(splits["train"]["label"]) == [49, 1]  # the order of the published classes is that of `target`
    other = load_audio_dataset(**{**find_data_set("esc50"), "test_fold": 5})
    assert labels_by_file(other["test"]) == {"audio/5-300-B-1.wav": "rooster"}


def test_speech_commands(root: Path) -> None:
    folder = root / "speech_commands_v0.02"
    for name in ("bed/1", "bed/2", "zero/1", "zero/2", "_background_noise_/hum"):
        wav(folder / f"{name}.wav")
    (folder / "validation_list.txt").write_text("bed/2.wav\n")
    (folder / "testing_list.txt").write_text("zero/2.wav\n")
    splits = load_audio_dataset(**find_data_set("speech-commands"))
    assert {split: labels_by_file(rows) for split, rows in splits.items()} == {
        "train": {"bed/1.wav": "bed", "zero/1.wav": "zero"},
        "validation": {"bed/2.wav": "bed"},
        "test": {"zero/2.wav": "zero"},
    }
    assert label_names(splits["train"])[:4] == ["backward", "follow", "five", "bed"]


@pytest.mark.parametrize("place", ["audioset", "."])
@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("audioset-balanced", "balanced_train_data_type1_2_mean.json"),
        ("audioset-balanced", "balanced_train_data.json"),
        ("audioset-full", "whole_train_data.json"),
    ],
)
def test_audioset(root: Path, name: str, listed: str, place: str) -> None:
    folder = root / place
    folder.mkdir(exist_ok=True)
    rows = {listed: [("a.wav", "/m/1"), ("b.wav", "/m/2")], "eval_data.json": [("c.wav", "/m/2,/m/0")]}
    for file, clips in rows.items():
        for clip, _ in clips:
            wav(folder / clip)
        content = {"data": [{"wav": str(folder / clip), "labels": labels} for clip, labels in clips]}
        (folder / file).write_text(json.dumps(content))
    csv = 'index,mid,display_name\n0,/m/0,Speech\n1,/m/1,"Male speech, man speaking"\n2,/m/2,Music\n'
    (folder / "class_labels_indices.csv").write_text(csv)
    splits = load_audio_dataset(**find_data_set(name))
    assert list(splits) == ["train", "test"]
    # multi-label with a single label too
    assert [list(split["labels"]) for split in splits.values()] == [[[1], [2]], [[2, 0]]]
    assert label_names(splits["train"]) == ["Speech", "Male speech, man speaking", "Music"]


@pytest.mark.parametrize("missing", [None, ""])
def test_data_sets_without_a_local_copy_come_from_the_hub(
    root: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing is None:
        monkeypatch.delenv("AST_HF_DATA")
    (root / "ESC-50-master" / "meta").mkdir(parents=True)  # no clips: unpacking was interrupted
    esc50, balanced, full = (find_data_set(name) for name in ("esc50", "audioset-balanced", "audioset-full"))
    assert (esc50["source"], esc50["test_fold"], esc50["label_column"]) == ("ashraq/esc50", 1, "category")
    assert (balanced["source"], balanced["config_name"]) == ("agkphysics/AudioSet", "balanced")
    assert balanced["class_labels"] == class_names("audioset")
    assert full["merge_splits"] == {"train": ["bal_train", "unbal_train"], "test": ["eval"]}
    assert full["streaming"] is True


@pytest.mark.parametrize("name", [name for name, data_set in KNOWN_SETS.items() if data_set.hub is None])
def test_data_sets_neither_local_nor_on_the_hub_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(AstDataError, match=r"E206.*is not in .*testing_list\.txt"):
        find_data_set(name)
    monkeypatch.delenv("AST_HF_DATA")
    with pytest.raises(AstDataError, match=r"E206.*AST_HF_DATA is not set"):
        find_data_set(name)
    monkeypatch.setenv("AST_HF_DATA", str(root / "none"))
    with pytest.raises(AstDataError, match=r"E206.*is not a folder"):
        find_data_set(name)


@pytest.mark.parametrize("source", ["user/sounds", "clips.csv", "./esc50", Path("esc50.csv")])
def test_other_sources_are_returned_unchanged(source: str | Path) -> None:
    assert find_data_set(source) == {"source": source}


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_arguments_are_those_of_the_reader(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of the Hub's entries are arguments of `load_audio_dataset`."""
    import inspect

    monkeypatch.delenv("AST_HF_DATA", raising=False)
    data_set = KNOWN_SETS[name]
    arguments = data_set.hub() if data_set.hub else {"source": ""}
    assert arguments.keys() <= inspect.signature(load_audio_dataset).parameters.keys()
