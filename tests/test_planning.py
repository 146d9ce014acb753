"""Choices of `ast-hf new` as functions of what the data are like, and the recipe that says why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ast_hf.errors import AstHfError
from ast_hf.planning.augmentation_choices import is_excerpt
from ast_hf.planning.data_summary import DataSummary, Lengths
from ast_hf.planning.input_choices import fit_frames
from ast_hf.planning.plan import Plan, make_plan
from ast_hf.planning.problems import find_remarks
from ast_hf.planning.recipe_text import recipe_text
from ast_hf.planning.starts import Start
from ast_hf.recipe.reading import load_recipe
from ast_hf.recipe.recipe import Recipe

BASE = Start(kind="base", name="some/ast", width=768, max_length=1024, time_stride=10, sampling_rate=16_000)


def summary(**changes: object) -> DataSummary:
    """Return the summary of 300 words of a second by 10 speakers, in 10 classes."""
    fields: dict = {
        "source": "words",
        "train_split": "train",
        "clips": {"train": 300},
        "labels": {f"word{number}": 30 for number in range(10)},
        "lengths": Lengths(0.9, 0.95, 1.0, 1.05, 1.1, 300.0),
        "rates": {16_000: 300},
        "group_options": {"validation_group": "speaker"},
        "groups": 10,
        "group_reason": "column 'speaker': 10 values for 300 clips",
    }
    return DataSummary(**{**fields, **changes})


def value(plan: Plan, option: str) -> Any:
    """Return the value of an option in a plan, None if it is not set."""
    return next((choice.value for choice in plan.choices if choice.option == option), None)


def test_few_clips_get_as_many_steps_as_many_clips() -> None:
    few = make_plan(summary(clips={"train": 80}, labels={"a": 40, "b": 40}), Start())
    many = make_plan(summary(clips={"train": 1_000}, labels={"a": 500, "b": 500}), Start())
    assert few.steps == many.steps


def test_the_epochs_are_those_of_the_clips_that_are_left() -> None:
    # 280 clips without a fifth of the speakers: one clip more than seven batches of 32
    plan = make_plan(summary(clips={"train": 280}), Start(), clips=225)
    assert plan.epochs == value(plan, "training.num_train_epochs") == round(plan.steps / 8)


def test_a_slow_machine_gets_fewer_steps_but_not_too_few() -> None:
    fast = make_plan(summary(), Start(), seconds_per_step=0.01, minutes=10)
    slow = make_plan(summary(), Start(), seconds_per_step=0.5, minutes=10)
    hopeless = make_plan(summary(), Start(), seconds_per_step=60.0, minutes=10)
    assert slow.steps < fast.steps
    assert slow.steps * 0.5 <= 630
    assert hopeless.steps == hopeless.least


def test_clips_are_held_out_by_group_where_the_data_have_no_splits() -> None:
    plan = make_plan(summary(), Start())
    assert value(plan, "data.test_fraction") == 0.2
    assert value(plan, "data.validation_group") == "speaker"


@pytest.mark.parametrize(
    ("clips", "stored", "share"),
    [
        (100, None, 0.0),
        (150, None, 0.15),
        (344, None, 0.15),
        (5_000, None, 0.1),
        (344, 60, None),
        (30, 8, None),
    ],
)
def test_runs_are_watched_by_what_is_held_out_or_stored(
    clips: int, stored: int | None, share: float | None
) -> None:
    """A few clips choose no weights by chance: the latest within a standard error of the best are kept."""
    splits = {"train": clips} | ({} if stored is None else {"validation": stored})
    plan = make_plan(summary(clips=splits, labels={"a": clips // 2, "b": clips // 2}), Start())
    assert value(plan, "data.validation_fraction") == share
    expected = {"patience": 12, "standard_errors": 1.0, "evaluations": 24} if share != 0 else {}
    chosen = {choice.option: choice.value for choice in plan.choices if choice.option.startswith("stopping.")}
    assert chosen == {f"stopping.{name}": number for name, number in expected.items()}


def test_stored_splits_are_used() -> None:
    stored = make_plan(summary(clips={"train": 300, "validation": 100, "test": 60}), Start())
    options = {choice.option for choice in stored.choices}
    assert not options & {"data.test_fraction", "data.validation_fraction", "data.validation_group"}
    assert value(stored, "stopping.patience")


def test_one_fold_is_the_test_split() -> None:
    plan = make_plan(summary(folds=("1", "2", "3")), Start())
    assert value(plan, "data.test_fold") == 1
    assert value(plan, "data.test_fraction") is None


def test_too_few_clips_to_hold_out_are_cross_validated() -> None:
    tiny = summary(clips={"train": 15}, labels={"a": 5, "b": 5, "c": 5}, groups=0, group_options={})
    plan = make_plan(tiny, Start())
    options = {choice.option for choice in plan.choices}
    assert not options & {"data.test_fraction", "stopping.patience"}
    assert value(plan, "data.validation_fraction") == 0
    assert any("--folds 5" in remark for remark in plan.remarks)
    assert any("5 training clips" in remark for remark in plan.remarks)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {"a": 300}}, "nothing to classify"),
        ({"labels": {"a": 3, "b": 3}, "clips": {"train": 6}}, "'a' has 3"),
        ({"labels": {"a": 100, "b": 100, "c": 1}}, "--drop_labels"),
        ({"unreadable": 200, "first_unreadable": "x.wav: empty"}, "x.wav"),
    ],
)
def test_data_that_cannot_be_learnt_from_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(AstHfError, match="AST-E209") as problem:
        make_plan(summary(**changes), Start())
    assert words in str(problem.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group_options": {}, "groups": 0}, "random split overstates"),
        ({"groups": 3}, "too few to hold some out"),
        ({"groups": 8}, "the result depends on which"),
        ({"labels": {"a": 280, "b": 20}}, "14 times"),
        ({"labels": {"yes/ann": 80, "yes/ben": 70, "no/ann": 80, "no/ben": 70}}, "no label"),
        ({"clips": {"train": 150, "validation": 50}, "labels": {"a": 7, "b": 7}}, "no test split"),
        ({"lengths": Lengths(30.0, 30.0, 60.0, 90.0, 100.0, 18_000.0)}, "start and end"),
        ({"lengths": Lengths(5.0, 5.0, 5.0, 5.0, 5.0, 1_500.0)}, "Pretrained weights"),
        ({"unreadable": 3, "first_unreadable": "x.wav: empty"}, "3 clips cannot be read"),
        ({"lengths": Lengths(0.3, 0.3, 3.0, 23.9, 30.0, 900.0)}, "More than one clip in 20"),
        ({"has_times": True}, "--window_seconds"),
        ({"folds": ("1", "2"), "divided_groups": 4}, "4 of 10 groups are in several folds"),
        ({"clips": {"train": 100}, "labels": {"a": 50, "b": 50}}, "20 clips to test on say little"),
        ({"folds": ("1", "2", "3", "4"), "clips": {"train": 100}}, "--folds 4"),
    ],
)
def test_what_will_disappoint_is_said(changes: dict, words: str) -> None:
    assert any(words in remark for remark in find_remarks(summary(**changes), Start()))


@pytest.mark.parametrize("names", [("a", "b"), ("bird/owl", "bird/jay", "frog/tree", "frog/bull")])
def test_nothing_is_remarked_on_good_data(names: tuple[str, ...]) -> None:
    labels = dict.fromkeys(names, 75)
    good = summary(clips={"train": 300, "validation": 60, "test": 60}, labels=labels)
    assert list(find_remarks(good, Start())) == []


@pytest.mark.parametrize(
    ("changes", "option", "words"),
    [
        ({"lengths": Lengths(1.0, 1.0, 1.0, 1.0, 1.0, 300.0)}, "max_length", "clips last 1.00 s, with room"),
        ({"lengths": Lengths(0.3, 0.3, 3.0, 23.9, 30.0, 900.0)}, "max_length", "up to 30.0 s, are cut"),
        (
            {"lengths": Lengths(0.3, 0.3, 1.0, 2.0, 9.0, 300.0)},
            "max_length",
            "95 % of the clips last at most 2.00",
        ),
        ({"rates": {8_000: 300}}, "sampling_rate", "that of the clips, which have nothing above 4,000 Hz"),
        ({"rates": {16_000: 200, 44_100: 100}}, "sampling_rate", "that of most clips"),
        ({"unreadable": 1, "first_unreadable": "x.wav: empty"}, "on_error", "1 clip cannot be read"),
    ],
)
def test_reasons_are_true(changes: dict[str, object], option: str, words: str) -> None:
    choices = make_plan(summary(**changes), Start()).choices
    assert words in next(choice.reason for choice in choices if choice.option.endswith(f".{option}"))


def test_the_window_holds_whole_short_clips() -> None:
    frames = value(make_plan(summary(), Start()), "model.config.max_length")
    assert 105 <= frames <= 140


def test_long_recordings_are_cropped_at_random() -> None:
    plan = make_plan(summary(lengths=Lengths(20.0, 25.0, 60.0, 300.0, 400.0, 18_000.0)), Start())
    assert value(plan, "augmentation.random_crop") is True
    assert value(plan, "model.config.max_length") < 600


def test_windows_of_the_user_fit() -> None:
    plan = make_plan(summary(reading={"window_seconds": 0.5, "window_labels": "centre"}), Start())
    assert value(plan, "model.config.max_length") >= 48
    moves = {"speed", "delay_seconds", "advance_seconds", "roll_frames", "time_stretch"}
    assert not moves & {choice.option.split(".")[-1] for choice in plan.choices}


@pytest.mark.parametrize(
    ("rate", "bandwidth", "expected"),
    [
        (8_000, 3_000.0, 8_000),
        (16_000, 3_000.0, 16_000),
        (44_100, 3_000.0, 16_000),
        (48_000, 11_000.0, 32_000),
        (256_000, 60_000.0, 256_000),
        (22_050, 9_000.0, 22_050),
    ],
)
def test_the_rate_follows_what_is_in_the_clips(rate: int, bandwidth: float, expected: int) -> None:
    plan = make_plan(summary(rates={rate: 300}, bandwidth=bandwidth), Start())
    assert value(plan, "features.sampling_rate") == expected


def test_a_base_keeps_its_geometry_for_its_own_length() -> None:
    plan = make_plan(summary(), BASE)
    options = {choice.option for choice in plan.choices}
    assert {option for option in options if option.startswith("model.config")} == {"model.config.max_length"}
    assert value(plan, "model.config.max_length") < 200
    assert value(plan, "features.sampling_rate") is None
    assert value(plan, "optimization.layer_decay") < 1


def test_uneven_classes_are_drawn_evenly() -> None:
    plan = make_plan(summary(labels={"a": 280, "b": 20}), Start())
    assert value(plan, "sampling") == "balanced"


def test_several_labels_are_not_smoothed() -> None:
    assert value(make_plan(summary(multi_label=True), Start()), "augmentation.label_smoothing") is None


def test_excerpts_of_one_length_are_told_from_words() -> None:
    assert is_excerpt(summary(lengths=Lengths(5.0, 5.0, 5.0, 5.0, 7.0, 1_500.0)))
    assert not is_excerpt(summary())


@given(frames=st.integers(1, 3_000), stride=st.integers(1, 16))
def test_patches_cover_the_window(frames: int, stride: int) -> None:
    length = fit_frames(frames, stride)
    assert length >= frames
    assert (length - 16) % stride == 0


REASONED = [Start(), Start(kind="vit", name="some/vit"), BASE]


@pytest.mark.parametrize("start", REASONED, ids=lambda start: start.kind)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"multi_label": True},
        {"lengths": Lengths(20.0, 25.0, 60.0, 300.0, 400.0, 18_000.0)},
        {"reading": {"window_seconds": 0.5, "window_labels": "centre"}, "multi_label": True},
        {"labels": {"a": 280, "b": 20}, "unreadable": 2, "first_unreadable": "a: b # c"},
        {"source": "it's: a # folder", "reading": {"label_separator": ";", "drop_labels": ["a b", "no"]}},
    ],
)
def test_the_text_is_a_recipe_with_the_same_values(
    start: Start, changes: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(summary(**changes), start)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(plan, ["heading"]))
    assert load_recipe(path) == Recipe.from_dict(plan.values())
    assert max(map(len, path.read_text().splitlines())) <= 120


WORDS = ["1e3", "1.5E+3", "no", "null", "~", "1_000", "0x1F", "12:30", "2026-01-01", "a: b", "it's", '"q"', "# x",
         "- d", "é", "[x]", "*a", "!t", "=", "<<", "007", ".5", ".inf", "a\tb", "two\nlines", "long " * 40]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_names_that_yaml_reads_as_other_values_stay_names(word: str, tmp_path: Path) -> None:
    changes = {
        "source": word,
        "clips": {"train": 1_000},
        "reading": {"drop_labels": [word]},
        "group_options": {"validation_group": word},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(make_plan(summary(**changes, folds=(word, "2")), Start()), ["heading"]))
    data = load_recipe(path).data
    fold = 7 if word == "007" else word
    assert (data.source, data.drop_labels, data.validation_group, data.test_fold) == (
        word,
        [word],
        word,
        fold,
    )
    path.write_text(Recipe.from_dict({"data": {"drop_labels": [word]}}).to_yaml())
    assert load_recipe(path).data.drop_labels == [word]


def test_every_choice_that_is_not_given_by_the_user_has_a_reason_nearby() -> None:
    text = recipe_text(make_plan(summary(clips={"train": 1_000}), Start()), [])
    for option in (
        "num_train_epochs",
        "max_length",
        "learning_rate",
        "hidden_size",
        "patience",
        "test_fraction",
    ):
        line = next(number for number, line in enumerate(text.splitlines()) if f"{option}:" in line)
        assert "#" in text.splitlines()[line] or "#" in text.splitlines()[line - 1]


def test_choices_are_pure() -> None:
    one = make_plan(summary(), Start(), seconds_per_step=0.1)
    other = make_plan(dataclasses.replace(summary()), Start(), seconds_per_step=0.1)
    assert one == other
