"""Cards lead somewhere: bases and data sets that are folders of one machine are refused, early if possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ast_hf import ASTForAudioClassification, AstHfError, cli
from ast_hf.hub.published_files import publication_of
from ast_hf.reports.model_card import write_card
from ast_hf.training import Recipe, prepare

HEAD = "---\nlibrary_name: transformers\npipeline_tag: audio-classification\n{lines}---\n\n# pets\n"


def folder_of(root: Path, checkpoint: Path, lines: str = "", results: Any = None) -> Path:
    """Return a folder to push, with these lines in its card's metadata."""
    folder = root / "pets"
    shutil.copytree(checkpoint, folder)
    (folder / "README.md").write_text(HEAD.format(lines=lines))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def started(base: str | None = None, vit: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Return the part of results.json about the start of a run."""
    return {"recipe": {"model": {"base": base, "vit": vit}}, "base_model": name}


REFUSED: list[tuple[str, str, Any, str]] = [
    (
        "absolute",
        "base_model: /data/my_base\n",
        None,
        r"base_model: is '/data/my_base', which is not a model",
    ),
    ("relative", "base_model: ./my_base\n", None, r"base_model: is './my_base'"),
    ("name-of-a-folder", "base_model: my_base\n", None, r"base_model: is 'my_base'"),
    (
        "folder-here",
        "base_model: models/base\n",
        None,
        r"base_model: is 'models/base', which is a folder here",
    ),
    ("one-of-two", "base_model:\n- user/base\n- /data/x\n", None, r"base_model: is '/data/x'"),
    ("run", "", started(base="my_base"), r"base_model: is missing, and the model was trained from 'my_base'"),
    ("image-transformer", "", started(vit="dino"), r"base_model: is missing.*from 'dino'"),
    ("data", "datasets:\n- /data/clips\n", None, r"datasets: has '/data/clips'"),
    ("data-here", "datasets:\n- models/base\n", None, r"datasets: has 'models/base'"),
]


@pytest.mark.parametrize(
    ("lines", "results", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_names_of_this_machine_are_refused(
    lines: str,
    results: Any,
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path, tiny_checkpoint, lines, results)
    with pytest.raises(AstHfError, match=rf"E705.*{message}") as caught:
        publication_of(folder, "user/pets")
    assert "card." in str(caught.value)  # the option of a recipe that sets it


@pytest.mark.parametrize(
    ("lines", "results"),
    [
        ("", None),
        ("", {"versions": {}}),
        ("", started()),
        ("", started(base="MIT/ast", name="MIT/ast")),
        ("base_model: MIT/ast\n", started(base="MIT/ast", name="MIT/ast")),
        ("base_model: user/base\n", started(base="my_base")),
        ("base_model: [user/base, user/other]\ndatasets: [glue, user/clips]\n", None),
    ],
)
def test_names_on_the_hub_are_published(
    lines: str, results: Any, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MIT" / "ast").mkdir(parents=True)  # a copy of today, of what the run loaded by name
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path, tiny_checkpoint, lines, results)
    assert "README.md" in publication_of(folder, "user/pets").files


def test_the_command_says_how_to_correct_it(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = folder_of(tmp_path, tiny_checkpoint, "", started(base="my_base"))
    assert cli.main(["push", str(folder), "user/pets", "--dry-run"]) != 0
    assert "write its name there, `base_model: user/name`" in capsys.readouterr().err
    (folder / "README.md").write_text(HEAD.format(lines="base_model: user/base\n"))
    assert cli.main(["push", str(folder), "user/pets", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("model", "card", "message"),
    [
        ({"base": "BASE"}, {}, r"card\.base_model: is not set, and model\.base is"),
        ({"vit": "BASE"}, {}, r"card\.base_model: is not set, and model\.vit is"),
        ({"base": "BASE"}, {"base_model": "models/base"}, r"card\.base_model: is 'models/base', a folder"),
    ],
)
def test_a_run_that_would_push_names_its_base_before_data_are_read(
    model: dict[str, str],
    card: dict[str, str],
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    start = {name: str(tiny_checkpoint) for name in model}
    recipe = Recipe.from_dict(
        {"data": {"source": "nowhere"}, "model": start, "card": card, "training": {"use_cpu": True}}
    )
    with pytest.raises(AstHfError, match=rf"E307.*{message}.*--set card\.base_model=user/name"):
        prepare(recipe, tmp_path / "out", push_to_hub=True, hub_model_id="user/out")
    with pytest.raises(AstHfError, match="nowhere"):  # without a push, the data are next
        prepare(recipe, tmp_path / "out")


def test_the_command_on_a_card_sets_every_local_path() -> None:
    """A recipe stores the last part of a local path, which is nothing on another machine."""
    from conftest import ROOT

    stored = json.loads((ROOT / "tests" / "data" / "card_results.json").read_text(encoding="utf-8"))
    changes = {"model": {"base": "ast"}, "distillation": {"teacher": "big", "weight": 0.5}}
    stored["recipe"] = Recipe.from_dict({"data": {"source": "pets.csv"}, **changes}).to_dict()
    stored |= {"base_model": None, "local_paths": ["data.source", "model.base", "distillation.teacher"]}
    text = write_card(stored, "user/pets").text
    command = "ast-hf finetune recipe.yaml --data DATA --base BASE --set distillation.teacher=TEACHER --output FOLDER"
    assert command in text
    assert "trained with `ast_hf` from `ast`" in text


def test_the_card_of_an_ensemble_names_the_bases_of_its_members(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from ast_hf.reports.ensemble_card import _bases

    ASTForAudioClassification.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "one")
    assert _bases(str(tmp_path / "one")) == []  # nothing is known
    assert _bases("user/name") == ["user/name"]
    for results, expected in (
        (started(), []),
        (started(base="MIT/ast", name="MIT/ast"), ["MIT/ast"]),
        (started(base="my_base"), ["./my_base"]),  # which a push refuses
    ):
        (tmp_path / "one" / "results.json").write_text(json.dumps(results))
        assert _bases(str(tmp_path / "one")) == expected
