"""Recipes: written recipes read back equal, and unknown options are errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from ast_hf import AstConfigError, AstHfWarning
from ast_hf.training import (
    Augmentation,
    CardOptions,
    DataOptions,
    FeatureOptions,
    ModelOptions,
    Recipe,
    load_recipe,
)

FULL = Recipe(
    name="tönes | 1e5: yes",
    data=DataOptions(source="clips", eval_splits=["test", "2"], validation_fraction=0.1, label_separator=";"),
    features=FeatureOptions(sampling_rate=22_050, mean=-4.5, std=1e-4),
    model=ModelOptions(config={"hidden_size": 24, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}),
    augmentation=Augmentation(speed=1.25, random_crop=True, time_masks=2),
    averaging_decay=0.999,
    training={
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "save_strategy": "no",
        "lr_scheduler_kwargs": {"a": [1]},
    },
)


def read(folder: Path, text: str, *overrides: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "recipe.yaml", overrides)


@pytest.mark.parametrize("recipe", [Recipe(), FULL], ids=["defaults", "full"])
def test_round_trip(tmp_path: Path, recipe: Recipe) -> None:
    assert read(tmp_path, recipe.to_yaml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_written_recipes_hold_no_local_paths() -> None:
    data = {"source": "/scratch/me/clips", "class_labels": "/scratch/me/labels.csv"}
    training = {"deepspeed": "/scratch/me/zero.json", "accelerator_config": {"file": "/scratch/me/a.json"}}
    written = Recipe.from_dict({"data": data, "training": training}).to_dict()
    assert written["data"]["class_labels"] == "labels.csv"
    assert "scratch" not in str(written)


def test_missing_options_have_their_defaults(tmp_path: Path) -> None:
    recipe = read(tmp_path, "name: mine\naugmentation:\n  speed: 1.5\n")
    assert recipe == Recipe(name="mine", augmentation=Augmentation(speed=1.5))
    assert read(tmp_path, "") == Recipe()


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "+1e-4", "0.0001", ".1e-3"])
def test_numbers_in_exponent_notation_are_numbers(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, f"training:\n  learning_rate: {written}\n").training == {"learning_rate": 1e-4}
    assert read(tmp_path, "", f"training.learning_rate={written}").training == {"learning_rate": 1e-4}


def test_words_that_resemble_exponents_stay_text(tmp_path: Path) -> None:
    assert read(tmp_path, "name: e-4\ndata:\n  source: 1e4x\n") == Recipe(
        name="e-4", data=DataOptions(source="1e4x")
    )


def test_overrides(tmp_path: Path) -> None:
    text = "training:\n  learning_rate: 0.5\n  seed: 3\n"
    overrides = [
        "training.learning_rate=1e-4",
        "data.eval_splits=[a, b]",
        "averaging_decay=0.9",
        "data.cache=false",
    ]
    recipe = read(tmp_path, text, *overrides, "model.config.hidden_size=24", "name=a=b")
    assert recipe.training == {"learning_rate": 1e-4, "seed": 3}
    assert (recipe.data.eval_splits, recipe.data.cache) == (["a", "b"], False)
    assert (recipe.averaging_decay, recipe.model.config, recipe.name) == (0.9, {"hidden_size": 24}, "a=b")
    assert read(tmp_path, text, "name=x", "name=y").name == "y"


CARD = """
data: {source: bees}
card: {license: mit, description: Bees., samples: [bee.wav], base_model: a/b}
"""


@pytest.mark.parametrize("source", ["wasps", "[bees, wasps]", "elsewhere/wasps"])
def test_card_facts_of_other_clips_are_dropped(tmp_path: Path, source: str) -> None:
    with pytest.warns(
        AstHfWarning, match=r"W304.*recipe\.yaml: card.*left out: license, samples\."
    ) as caught:
        recipe = read(tmp_path, CARD, f"data.source={source}", "card.description=Wasps.")
    assert recipe.card == CardOptions(description="Wasps.", base_model="a/b")
    assert len(caught) == 1


@pytest.mark.parametrize("changes", [[], ["data.source=bees"], ["data.source=/moved/to/bees"], ["name=x"]])
def test_card_facts_of_the_same_clips_are_kept(tmp_path: Path, changes: list[str]) -> None:
    recipe = read(tmp_path, CARD, *changes)
    assert recipe.card == CardOptions(
        license="mit", description="Bees.", samples=["bee.wav"], base_model="a/b"
    )


def test_a_recipe_without_clips_keeps_its_card(tmp_path: Path) -> None:
    assert read(tmp_path, "card: {license: mit}", "data.source=wasps").card.license == "mit"


#: mistake -> (YAML, fragments of the message)
REFUSED = {
    "unknown section": ("augmentations: {}", ["augmentations", "did you mean 'augmentation'?"]),
    "unknown option": ("augmentation: {sped: 1.5}", ["augmentation.sped", "did you mean 'speed'?"]),
    "unknown data option": ("data: {label_colum: x}", ["label_colum", "did you mean 'label_column'?"]),
    "nothing near": ("qqqq: 1", ["qqqq", "averaging_decay", "training"]),
    "unknown argument": (
        "training: {learning_rte: 1}",
        ["training.learning_rte", "did you mean 'learning_rate'?"],
    ),
    "section that is a value": ("augmentation: 3", ["augmentation", "3"]),
    "section that is empty": ("augmentation:", ["augmentation", "None"]),
    "text for a number": ("augmentation: {speed: fast}", ["speed", "'fast'", "not a number"]),
    "number for text": ("name: 3", ["name", "3", "not a string"]),
    "yes for a number": ("augmentation: {time_masks: yes}", ["time_masks", "True", "a whole number"]),
    "fraction for a count": ("augmentation: {time_masks: 1.5}", ["time_masks", "1.5", "a whole number"]),
    "number for yes": ("data: {cache: 1}", ["cache", "1", "a boolean"]),
    "text for a list": ("data: {eval_splits: test}", ["eval_splits", "'test'", "list"]),
    "no list of transforms": (
        "augmentation: {audiomentations: {Gain: {}}}",
        ["audiomentations", "list of {name:"],
    ),
    "text for options": ("training: fast", ["training", "'fast'"]),
    "negative": ("augmentation: {gain_db: -3}", ["gain_db", "-3", "negative"]),
    "negative rate": ("features: {sampling_rate: -1}", ["sampling_rate", "-1"]),
    "decay of 1": ("averaging_decay: 1.0", ["averaging_decay", "1.0"]),
    "decay of 0": ("averaging_decay: 0", ["averaging_decay", "0"]),
    "decay above 1": ("averaging_decay: 99", ["averaging_decay", "99"]),
    "two choices of the best": (
        "stopping: {patience: 3}\ntraining: {load_best_model_at_end: true}",
        ["training.load_best_model_at_end", "stopping"],
    ),
    "another metric of the best": (
        "stopping: {patience: 3}\ntraining: {metric_for_best_model: mAP}",
        ["training.metric_for_best_model", "stopping.metric"],
    ),
    "the best of nothing": (
        "stopping: {best: true}\ntraining: {eval_strategy: 'no'}",
        ["training.eval_strategy", "stopping"],
    ),
    "no patience at all": ("stopping: {patience: 0}", ["stopping.patience", "0"]),
    "a bound without patience": (
        "stopping: {best: true, min_delta: 0.1}",
        ["stopping.min_delta", "patience"],
    ),
    "a metric of nothing": ("stopping: {metric: loss}", ["stopping.metric", "stopping.patience"]),
    "evaluations of nothing": ("stopping: {evaluations: 9}", ["stopping.evaluations", "stopping.patience"]),
    "smoothing above 1": ("augmentation: {label_smoothing: 1.5}", ["label_smoothing", "1.5"]),
    "probability above 1": ("augmentation: {mixup_probability: 2}", ["mixup_probability", "2"]),
    "alpha of 0": ("augmentation: {mixup_probability: 0.5, mixup_alpha: 0}", ["mixup_alpha", "0"]),
    "no speed": ("augmentation: {speed: 0}", ["speed", "0"]),
    "everything held out": ("data: {validation_fraction: 1.0}", ["validation_fraction", "1.0"]),
    "not a number": ("augmentation: {gain_db: .nan}", ["gain_db", "nan"]),
    "averages of epochs that are not counted": (
        "averaging_epochs: [1, 3]\ntraining: {max_steps: 40}",
        ["averaging_epochs", "max_steps", "num_train_epochs"],
    ),
    "averages after the last epoch": (
        "averaging_epochs: [1, 4]\ntraining: {num_train_epochs: 3}",
        ["averaging_epochs", "ends after the run", "3 epochs"],
    ),
    "several files of one split": (
        "data: {split_lists: {train: [a.txt]}}",
        ["data.split_lists", "['a.txt'] is not a string", "one path for each split"],
    ),
    "a list that contains itself": ("name: &name [*name]", ["name", "contains itself"]),
    "slower layers that do not train": (
        "optimization: {layer_decay: 0.9, frozen: backbone}",
        ["optimization.layer_decay", "frozen"],
    ),
    "a number as a source": ("data: {source: 7}", ["data.source", "7", "path or name"]),
    "a number among sources": ("data: {source: [a.csv, 7]}", ["data.source", "7"]),
    "a number in a split": ("data: {source: {train: [a.csv, 7]}}", ["data.source", "7"]),
    "a number as a label": ("data: {drop_labels: [noise, 0]}", ["data.drop_labels", "0", "in quotes"]),
    "a list": ("- name", ["recipe.yaml", "no options"]),
    "a word": ("name", ["recipe.yaml", "no options"]),
    "not YAML": ("name: [1", ["recipe.yaml", "not YAML"]),
    "an option twice": ("training: {seed: 1}\ntraining: {learning_rate: 1}", ["training"]),
    "a date": ("training: {run_name: 2026-11-26}", ["training.run_name", "2026-11-26", "quotes"]),
    "nested too deeply": ("[" * 20_000, ["recipe.yaml", "nested more than 32 levels"]),
    "mappings nested too deeply": ("{a: " * 20_000, ["recipe.yaml", "nested more than 32 levels"]),
    "aliases of aliases": (
        "a0: &a0 [x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 4)}]\n" for n in range(1, 20)),
        ["more than 100,000 values"],
    ),
    "a mapping that contains itself": ("model: {config: &a {b: *a}}", ["model.config", "contains itself"]),
    "half of a surrogate pair": ('name: "\\ud800"', ["name", "ud800"]),
    "NUL": ('data: {source: "a\\0"}', ["data.source", "no file can hold"]),
    "no as a label": ("data: {drop_labels: [no, yes]}", ["drop_labels", "False", "in quotes"]),
    "no as a split": ("data: {source: {no: a.csv}}", ["read as False", "quotes"]),
    "a time": ("data: {drop_labels: [1:30]}", ["1:30", "90"]),
    "an octal number": ("training: {seed: 010}", ["010", "8"]),
    "a number of a thousand digits": ("averaging_decay: 0x" + "f" * 1_000, ["256 bits"]),
    "a value that contradicts its tag": ("averaging_decay: !!float ''", ["recipe.yaml", "not YAML"]),
    "an epoch of -1": ("optimization: {milestones: [-1]}", ["optimization.milestones", "-1"]),
    "a million masks": ("augmentation: {time_masks: 1000000}", ["time_masks", "1000000"]),
    "a huge number": ("augmentation: {gain_db: 1e300}", ["gain_db", "too large"]),
    "false": ("false", ["recipe.yaml", "no options"]),
    "no number after all": ("averaging_decay: 1.2.3e4", ["recipe.yaml", "averaging_decay"]),
}


@pytest.mark.parametrize(("text", "fragments"), REFUSED.values(), ids=REFUSED)
def test_invalid_recipes_are_refused(tmp_path: Path, text: str, fragments: list[str]) -> None:
    with pytest.raises(AstConfigError) as caught:
        read(tmp_path, text)
    assert caught.value.code == "E307"
    assert [part for part in fragments if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate", "has no value"),
        ("augmentation.sped=2", "did you mean 'speed'"),
        ("name.first=x", "name has no options"),
        ("averaging_decay=2", "2 is outside"),
        ("data.eval_splits=[a", "not YAML|eval_splits"),
    ],
)
def test_invalid_overrides_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(AstConfigError, match=message) as caught:
        read(tmp_path, "name: x", override)
    assert caught.value.code == "E307"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307.*none\.yaml.*does not exist"):
        load_recipe(tmp_path / "none.yaml")


def test_a_folder_and_a_file_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307.*is not a file"):
        load_recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_text("name: " + "x" * 2_000_000)
    with pytest.raises(AstConfigError, match=r"E307.*longer than 1,048,576 bytes"):
        load_recipe(tmp_path / "recipe.yaml")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xef\xbb\xbfname: x")
    assert load_recipe(tmp_path / "recipe.yaml").name == "x"


def test_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes("name: tön".encode("latin-1"))
    with pytest.raises(AstConfigError, match=r"E307.*recipe\.yaml"):
        load_recipe(tmp_path / "recipe.yaml")


def test_the_file_is_named_in_errors(tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=re.escape(str(tmp_path / "recipe.yaml"))):
        read(tmp_path, "nam: x")


def test_a_mean_may_be_negative(tmp_path: Path) -> None:
    assert read(tmp_path, "features: {mean: -4.2}").features.mean == -4.2


RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_shipped_recipes_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name
    assert (recipe.training.get("num_train_epochs") or recipe.training["max_steps"]) > 0


def test_shipped_recipes_exist() -> None:
    assert RECIPES


@pytest.mark.parametrize(
    ("text", "override", "detail"),
    [
        ("name: [1", "name=x", "unreadable"),
        ("- name", "name=x", "unreadable"),
        ("name: x", "name", "unreadable"),
        ("name: x", "data.eval_splits=[a", "unreadable"),
        ("name: x", "name.first=y", "unknown"),
        ("name: x", "nam=y", "unknown"),
    ],
)
def test_detail_of_what_cannot_be_read(tmp_path: Path, text: str, override: str, detail: str) -> None:
    with pytest.raises(AstConfigError) as caught:
        read(tmp_path, text, override)
    assert (caught.value.code, caught.value.detail) == ("E307", detail)


def test_detail_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AstConfigError) as caught:
        load_recipe(tmp_path / "none.yaml")
    assert caught.value.detail == "missing"
