"""`ast-hf new`: from clips on the disk to a recipe that trains."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from ast_hf import cli
from ast_hf.commands.console import EXIT_DATA
from ast_hf.data.reading import load_audio_dataset
from ast_hf.errors import AstDataError
from ast_hf.planning.data_summary import summarise_data
from ast_hf.recipe.reading import load_recipe
from ast_hf.training import prepare


def write_words(
    folder: Path, *, clips: int = 20, labels: tuple[str, ...] = ("no", "yes"), rate: int = 8_000
) -> None:
    """Write label folders of 0.3 to 0.5 s of noise, by five speakers that the names show."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(clips):
            random = np.random.default_rng([number, len(label)])
            samples = 0.1 * random.standard_normal(int(rate * (0.3 + 0.2 * number / clips)))
            soundfile.write(folder / label / f"speaker{number % 5}_{number // 5}.wav", samples, rate)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of short clips at 8 kHz. Read only."""
    folder = tmp_path_factory.mktemp("new") / "words"
    write_words(folder)
    return folder


def run(*words: object) -> int:
    """Run `ast-hf new` in this process."""
    return cli.main(["new", *map(str, words)])


@pytest.mark.long
def test_a_folder_becomes_a_recipe_that_can_be_prepared(
    words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    assert run(words, "--output", path) == 0
    printed = capsys.readouterr().out
    assert "20 training clips each" in printed
    assert f"ast-hf finetune {path} --output" in printed
    assert "--dry-run" in printed
    recipe = load_recipe(path)
    assert recipe.features.sampling_rate == 8_000
    assert recipe.data.group_pattern
    assert recipe.training["num_train_epochs"] >= 100
    prepared = prepare(recipe, tmp_path / "model")
    assert list(prepared.evaluation) == ["test"]
    assert prepared.trainer.eval_dataset is None  # eight clips would choose by chance
    example = prepared.train[0]["input_values"]
    assert len(example) == recipe.model.config["max_length"]


@pytest.mark.long
def test_the_plan_as_json(words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age = time.time() - psutil.Process().create_time()
    assert run(words, "--output", tmp_path / "new" / "recipe.yaml", "--json") == 0  # in a new folder
    plan = json.loads(capsys.readouterr().out)
    assert plan["steps"] >= 1_000
    assert plan["estimate"]["parts"]["preparing"] > age  # a run starts and imports as this program did
    assert plan["estimate"]["seconds"] > plan["estimate"]["parts"]["training"] > 0  # as --dry-run --json
    assert plan["recipe"]["data"]["source"] == str(words)
    assert {"option", "value", "reason"} == set(plan["choices"][0])


def test_a_recipe_is_not_overwritten(words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("mine")
    assert run(words, "--output", path) == EXIT_DATA
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words_of_error"),
    [
        (["--base", "x", "--vit", "y"], "start from one of the two"),
        (["--minutes", "-1"], "above 0"),
        (["--label_column", "nothing"], "nothing"),
    ],
)
def test_wrong_options_are_named(
    words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words_of_error: str
) -> None:
    assert run(words, "--output", tmp_path / "recipe.yaml", *options) == EXIT_DATA
    assert words_of_error in capsys.readouterr().err
    assert not (tmp_path / "recipe.yaml").exists()


def test_three_clips_of_a_class_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_words(tmp_path / "few", clips=3)
    assert run(tmp_path / "few", "--output", tmp_path / "recipe.yaml") == EXIT_DATA
    assert "too few clips: 'no' has 3, 'yes' has 3" in capsys.readouterr().err


@pytest.mark.long
def test_labels_that_are_dropped_stay_dropped(tmp_path: Path) -> None:
    write_words(tmp_path / "three", labels=("no", "yes", "cough"), clips=8)
    path = tmp_path / "recipe.yaml"
    assert run(tmp_path / "three", "--output", path, "--drop_labels", "cough") == 0
    assert load_recipe(path).data.drop_labels == ["cough"]


def test_data_on_the_hub_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("someone/sounds", "--output", tmp_path / "recipe.yaml") == EXIT_DATA
    assert "download it" in capsys.readouterr().err


def test_a_summary_counts_what_is_there(tmp_path: Path) -> None:
    words = tmp_path / "words"
    write_words(words)
    rows = ["path,label,fold,speaker"]
    rows += [
        f"{path.relative_to(tmp_path)},{path.parent.name},{number % 4},s{number % 5}"
        for number, path in enumerate(sorted(words.rglob("*.wav")))
    ]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "table.csv").write_text("\n".join([*rows, "broken.wav,no,1,s0"]))
    splits = load_audio_dataset(tmp_path / "table.csv", check_files=False)
    summary = summarise_data(splits, "table.csv", {})
    assert summary.folds == ("0", "1", "2", "3")
    assert summary.labels == {"no": 21, "yes": 20}
    assert (summary.groups, summary.divided_groups) == (5, 5)
    assert summary.unreadable == 1
    assert "broken.wav" in summary.first_unreadable
    assert summary.rates == {8_000: 40}
    assert summary.lengths.shortest == pytest.approx(0.3, abs=1e-3)
    assert summary.lengths.total == pytest.approx(41 * 0.395, rel=0.01)
    assert summary.bandwidth == pytest.approx(0.95 * 4_000, rel=0.05)  # white noise


def test_data_without_a_training_split_are_split_first(words: Path) -> None:
    splits = load_audio_dataset({"test": words}, check_files=False)
    with pytest.raises(AstDataError, match=r"E209.*'train' does not exist.*ast-hf split DATA --redraw"):
        summarise_data(splits, str(words), {})
