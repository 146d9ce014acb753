"""Options are checked when they are assigned: types, ranges and choices, with a message for authors of YAML."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.dataclasses import validated_field

from ast_hf import AstConfigError
from ast_hf.errors import DETAILS
from ast_hf.strict_options import build_options, each_one_of, in_range, not_negative, one_of, strict_options
from ast_hf.training import AdapterOptions, Augmentation, DataOptions, FeatureOptions, Optimization, Recipe


@strict_options("oven")
@dataclass(kw_only=True)
class Oven:
    heat: float = validated_field(in_range(0.0, 250.0), default=20.0)
    minutes: int | None = validated_field(not_negative, default=None)
    grams: float = validated_field(not_negative, default=0.0)
    mode: str = validated_field(one_of(("fan", "grill")), default="fan")
    trays: list[str] = validated_field(each_one_of(("top", "middle")), default_factory=list)
    door: bool = False
    times: list[int] = field(default_factory=list)
    notes: dict[str, Any] | None = None
    place: int | str | None = None
    extras: list[dict[str, Any]] = field(default_factory=list, metadata={"expected": "a list of extras"})


@strict_options()
@dataclass(kw_only=True)
class Kitchen:
    oven: Oven = field(default_factory=Oven)
    name: str = "kitchen"


#: mistake -> (option, value, detail, text of the message)
REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "text for a number": ("heat", "hot", "type", "'hot' is not a number. Fix: give a number."),
    "true for a number": ("heat", True, "type", "True is not a number."),
    "null for a number": ("heat", None, "type", "None is not a number."),
    "above the range": ("heat", 251, "range", "251 is outside 0..250. Fix: give a number from 0 to 250."),
    "not a number": ("heat", float("nan"), "range", "nan is outside 0..250."),
    "fraction": ("minutes", 1.5, "type", "1.5 is not a whole number or null."),
    "negative": ("minutes", -1, "range", "-1 is negative. Fix: give a number, 0 or more."),
    "infinite": (
        "grams",
        float("inf"),
        "range",
        "inf is not a finite number. Fix: give a number, 0 or more.",
    ),
    "misspelt choice": ("mode", "gril", "choice", "'gril' is not a valid choice. Fix: did you mean 'grill'?"),
    "number for text": (
        "mode",
        3,
        "type",
        "3 is not a string. Fix: give a string; write strings like this in quotes.",
    ),
    "choice in a list": (
        "trays",
        ["top", "midle"],
        "choice",
        "'midle' is not a valid choice. Fix: did you mean 'middle'?",
    ),
    "no list": ("trays", "top", "type", "'top' is not a list of strings. Fix: give a list of strings."),
    "number in a list": (
        "trays",
        ["top", 3],
        "type",
        "3 is not a string. Fix: give a list of strings; write",
    ),
    "number for true": ("door", 1, "type", "1 is not a boolean (true or false)."),
    "true in a list of numbers": (
        "times",
        [1, True],
        "type",
        "True is not a whole number. Fix: give a list of whole n",
    ),
    "list for a mapping": ("notes", [1], "type", "[1] is not a mapping or null."),
    "one of three": ("place", [], "type", "[] is not a whole number, a string or null."),
    "own description": ("extras", {}, "type", "{} is not a list of extras. Fix: give a list of extras."),
}


@pytest.mark.parametrize(("option", "value", "detail", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_value(option: str, value: Any, detail: str, message: str) -> None:
    oven = Oven()
    ways: dict[str, list[Callable[[], object]]] = {
        f"oven.{option}": [
            lambda: Oven(**{option: value}),
            lambda: setattr(oven, option, value),
            lambda: dataclasses.replace(oven, **{option: value}),
        ],
        f"my.yaml: oven.{option}": [lambda: build_options(Kitchen, {"oven": {option: value}}, "my.yaml")],
    }
    for where, calls in ways.items():
        for call in calls:
            with pytest.raises(AstConfigError) as caught:
                call()
            assert (caught.value.code, caught.value.where, caught.value.detail) == ("E307", where, detail)
            assert str(caught.value).startswith(f"[AST-E307] {where}: {message}")
    assert oven == Oven()


class Text(str):
    __slots__ = ()


def test_the_wrong_entry_of_a_list_is_named() -> None:
    with pytest.raises(AstConfigError, match=r"1 is not a string"):
        Oven(trays=[Text("top"), 1])  # type: ignore[list-item]


def test_a_container_of_plain_values_is_kept_so_that_it_can_be_filled_later() -> None:
    training: dict[str, Any] = {"seed": 3, "lr_scheduler_kwargs": {"num_cycles": 2}}
    recipe = Recipe(training=training)
    training["max_steps"] = 5
    assert recipe.training["max_steps"] == 5
    times = [1, 2]
    oven = Oven(times=times)
    times.append(3)
    assert oven.times == [1, 2, 3]


def test_section_of_the_wrong_class() -> None:
    with pytest.raises(
        AstConfigError, match=r"E307\] oven: \{'heat': 3\} is not an instance of Oven"
    ) as caught:
        Kitchen(oven={"heat": 3})  # type: ignore[arg-type]
    assert caught.value.detail == "type"


@pytest.mark.parametrize(
    ("values", "where", "detail"),
    [
        ({"ovn": {}}, "my.yaml: ovn", "unknown"),
        ({"oven": {"heet": 3}}, "my.yaml: oven.heet", "unknown"),
        ({3: {}}, "my.yaml: 3", "unknown"),
        ({"oven": 3}, "my.yaml: oven", "type"),
        ({"oven": None}, "my.yaml: oven", "type"),
        ([], "my.yaml", "type"),
        ({"name": 3}, "my.yaml: name", "type"),
    ],
)
def test_options_that_do_not_exist(values: Any, where: str, detail: str) -> None:
    with pytest.raises(AstConfigError) as caught:
        build_options(Kitchen, values, "my.yaml")
    assert (caught.value.where, caught.value.detail) == (where, detail)


def test_built_from_plain_values() -> None:
    kitchen = build_options(Kitchen, {"oven": {"heat": 200, "place": "left"}}, "my.yaml")
    assert kitchen == Kitchen(oven=Oven(heat=200, place="left"))
    assert dataclasses.asdict(kitchen)["oven"]["heat"] == 200
    assert type(kitchen.oven.heat) is int


# ---------------------------------------------------------------- values that Python code gives


def test_paths_tuples_and_numbers_of_numpy_are_stored_as_plain_values(tmp_path: Path) -> None:
    assert DataOptions(source=tmp_path).source == str(tmp_path)  # type: ignore[arg-type]
    data = DataOptions(source={"train": (tmp_path, "b.csv")}, drop_labels=("noise",), test_fold=np.int64(2))  # type: ignore[arg-type]
    assert (data.source, data.drop_labels, data.test_fold) == (
        {"train": [str(tmp_path), "b.csv"]},
        ["noise"],
        2,
    )
    features = FeatureOptions(mean=np.float32(-4.5), std=np.array(2.0))  # type: ignore[arg-type]
    assert (type(features.mean), features.mean, features.std) == (float, -4.5, 2.0)
    written = Recipe(data=data, features=features)
    assert Recipe.from_dict(written.to_dict()).features == features
    assert f"mean: {features.mean}" in written.to_yaml()


def test_whole_numbers_count_as_floats() -> None:
    assert Augmentation(gain_db=3).gain_db == 3
    assert Optimization(layer_decay=1) == Optimization()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_equal_and_still_checked(duplicate: Any) -> None:
    recipe = Recipe(data=DataOptions(source="clips"), augmentation=Augmentation(speed=1.5))
    other = duplicate(recipe)
    assert other == recipe
    assert isinstance(other, Recipe)
    with pytest.raises(AstConfigError, match=r"E307\] augmentation\.speed: 9\.0 is outside 1\.\.4"):
        other.augmentation.speed = 9.0
    with pytest.raises(AstConfigError, match=r"E307\] loss: 'bce'"):
        other.loss = "bce"


def test_replaced_options_are_checked() -> None:
    recipe = dataclasses.replace(Recipe(), data=dataclasses.replace(DataOptions(), test_fold=3))
    assert (type(recipe), recipe.data.test_fold) == (Recipe, 3)
    with pytest.raises(AstConfigError, match=r"data\.validation_fraction: 2 is outside 0\.\.0\.9"):
        dataclasses.replace(recipe.data, validation_fraction=2)


def test_subclasses_are_checked_too() -> None:
    @dataclass(kw_only=True)
    class Louder(Augmentation):
        by: float = 2.0

    assert Recipe(augmentation=Louder(gain_db=1.0, by=3.0)).augmentation.gain_db == 1.0
    with pytest.raises(AstConfigError, match=r"augmentation\.gain_db: -1\.0 is negative"):
        Louder(gain_db=-1.0)


def test_validators_of_other_packages() -> None:
    def check_odd(value: int) -> None:
        if value % 2 == 0:
            raise ValueError(f"{value} is even")

    @strict_options("numbers")
    @dataclass
    class Numbers:
        count: int = validated_field(check_odd, default=1)

    with pytest.raises(AstConfigError, match=r"E307\] numbers\.count: 2 is even\. Fix: ") as caught:
        Numbers(count=2)
    assert caught.value.detail == "range"


def test_options_do_not_share_their_defaults() -> None:
    AdapterOptions().targets.append("key")
    assert AdapterOptions().targets == ["query", "value"]


# ---------------------------------------------------------------- details of a recipe's errors

#: mistake -> (recipe, place, detail)
DETAILED: dict[str, tuple[dict[str, Any], str, str]] = {
    "misspelt option": ({"augmentation": {"sped": 1.5}}, "augmentation.sped", "unknown"),
    "misspelt argument": ({"training": {"sed": 1}}, "training.sed", "unknown"),
    "wrong type": ({"augmentation": {"speed": "fast"}}, "augmentation.speed", "type"),
    "wrong type of an argument": ({"training": {"seed": "one"}}, "training.seed", "type"),
    "wrong type in a mapping": ({"data": {"source": {"train": [7]}}}, "data.source", "type"),
    "out of range": ({"data": {"validation_fraction": 1.0}}, "data.validation_fraction", "range"),
    "argument out of range": ({"training": {"num_train_epochs": 0}}, "training.num_train_epochs", "range"),
    "epochs out of order": ({"averaging_epochs": [3, 2]}, "averaging_epochs", "range"),
    "bad choice": ({"sampling": "balance"}, "sampling", "choice"),
    "bad choice in a section": ({"optimization": {"frozen": "all"}}, "optimization.frozen", "choice"),
    "bad layer": ({"adapter": {"rank": 4, "targets": ["head"]}}, "adapter.targets", "choice"),
    "bad order": (
        {"training": {"train_sampling_strategy": "sequential"}},
        "training.train_sampling_strategy",
        "choice",
    ),
    "bad licence": ({"card": {"license": "My own"}}, "card.license", "choice"),
    "two starts": ({"model": {"base": "a/b", "vit": "c/d"}}, "model.vit", "conflict"),
    "two averages": ({"averaging_decay": 0.9, "averaging_epochs": [1, 2]}, "averaging_epochs", "conflict"),
    "two teachers": ({"distillation": {"teacher": "a", "logits": "b"}}, "distillation.logits", "conflict"),
    "argument of our own": ({"training": {"data_seed": 1}}, "training.data_seed", "conflict"),
    "held out of a stream": (
        {
            "data": {"streaming": True, "validation_fraction": 0.5},
            "training": {"max_steps": 5},
        },
        "data.validation_fraction",
        "conflict",
    ),
    "stream without steps": ({"data": {"streaming": True}}, "training.max_steps", "missing"),
    "adapter without a base": ({"adapter": {"rank": 4}}, "model.base", "missing"),
}


@pytest.mark.parametrize(("values", "place", "detail"), DETAILED.values(), ids=DETAILED)
def test_detail_of_a_recipe_error(values: dict[str, Any], place: str, detail: str) -> None:
    with pytest.raises(AstConfigError) as caught:
        Recipe.from_dict(values, "my.yaml")
    assert (caught.value.code, caught.value.where, caught.value.detail) == (
        "E307",
        f"my.yaml: {place}",
        detail,
    )
    assert detail in DETAILS["E307"]
