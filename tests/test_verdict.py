"""Verdicts from plain numbers: what is said first, what stands out, what to try, and when nothing is."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from conftest import ROOT

from ast_hf import cli
from ast_hf.reports import advice
from ast_hf.reports.verdict import Verdict, judge, main_comparison
from ast_hf.reports.verdict_facts import Comparison, Learning
from ast_hf.reports.verdict_of_folds import judge_folds
from ast_hf.training import load_recipe

LN10 = 2.3026


def compared(value: float = 0.9, baseline: float | None = 0.8, **changes: Any) -> Comparison:
    """Return a comparison on 200 test clips of ten labels; the difference is known to 0.05."""
    gain = None if baseline is None else value - baseline
    fields: dict[str, Any] = {
        "split": "test",
        "clips": 200,
        "value": value,
        "interval": (value - 0.05, value + 0.05),
        "chance": 0.1,
        "baseline": baseline,
        "difference": None if gain is None else (gain - 0.05, gain + 0.05),
    }
    return Comparison(**{**fields, **changes})


def learned(**changes: Any) -> Learning:
    """Return a training of 3,000 steps that went well."""
    fields: dict[str, Any] = {
        "steps": 3000,
        "epochs": 60.0,
        "loss": 0.2,
        "chance": LN10,
        "curve": [0.3, 0.6, 0.8, 0.86, 0.88, 0.89, 0.9, 0.9],
        "watched_clips": 200,
        "training_clips": {"cat": 100, "dog": 90},
        "learning_rate": 1e-3,
        "is_random": True,
        "is_augmented": True,
    }
    return Learning(**{**fields, **changes})


# ---------------------------------------------------------------- the first line


def test_nothing_stands_out_of_a_healthy_run() -> None:
    verdict = judge("accuracy", [compared()], learned())
    assert verdict.text() == [
        "Better than the baseline on test: accuracy 0.900, logistic regression 0.800 (difference +0.100, 95% interval "
        "+0.050 to +0.150, McNemar, 200 clips)."
    ]
    assert (verdict.outcome, verdict.split, verdict.findings) == ("above", "test", [])


@pytest.mark.parametrize(
    ("value", "start", "outcome"),
    [
        (0.9, "Better than the baseline on test: accuracy 0.900, logistic", "above"),
        (0.82, "Too close to call on test: accuracy 0.820, logistic", "even"),
        (0.78, "The baseline is ahead on test, but too close to call: ", "even"),
        (
            0.7,
            "The baseline wins on test: logistic regression has accuracy 0.800, the model 0.700 (",
            "below",
        ),
    ],
)
def test_the_first_line_says_who_is_better(value: float, start: str, outcome: str) -> None:
    verdict = judge("accuracy", [compared(value)], learned())
    assert verdict.headline.startswith(start)
    assert verdict.outcome == outcome
    assert bool(verdict.advice) == (outcome != "above")
    assert len(verdict.text()) <= 6


def test_equal_results_are_called_so() -> None:
    verdict = judge("accuracy", [compared(0.8, 0.8)], learned())
    assert verdict.headline == (
        "The model and the baseline are equal on test: both have accuracy 0.800 (95% interval of the difference -0.050 "
        "to +0.050, McNemar, 200 clips)."
    )


def test_a_split_that_chose_the_weights_is_no_test() -> None:
    verdict = judge("accuracy", [compared(split="validation")], learned(has_stopping=True))
    assert verdict.lines == [
        "accuracy on validation is optimistic: the same clips chose the weights that are saved."
    ]
    assert verdict.advice == ["hold clips out for a test (--set data.test_fraction=0.2)"]
    assert judge("accuracy", [compared()], learned(has_stopping=True)).findings == []


def test_labels_are_looked_at_first_where_the_baseline_learns_nothing_either() -> None:
    lost = learned(loss=2.3, steps=150, epochs=15.0, curve=[])
    verdict = judge("accuracy", [compared(0.1, 0.12)], lost)
    assert verdict.lines[0].endswith("Logistic regression learned nothing either.")
    assert [line.partition(" (")[0] for line in verdict.advice] == [
        "compare some clips with their labels",
        "train longer",
    ]


def test_labels_that_the_baseline_learns_are_not_doubted() -> None:
    """Guessing on test, beside a regression that is clearly better: the clips have what is needed."""
    half = judge("accuracy", [AT_CHANCE], learned(loss=1.8, curve=[0.1] * 8))
    assert half.findings == ["at-chance"]
    lost = judge("accuracy", [AT_CHANCE], learned(loss=2.3, curve=[0.1] * 8))
    assert not any("labels" in line for line in half.advice + lost.advice)
    assert len(half.advice) == len(lost.advice) == 2


def test_a_bound_beside_zero_is_not_printed_as_zero() -> None:
    verdict = judge("mAP", [compared(0.905, 0.931, difference=(-0.049, -0.0003))])
    assert "95% interval -0.049 to -0.0003, " in verdict.headline


@pytest.mark.parametrize("rate", [1e-9, 1.0])
def test_an_unusual_learning_rate_is_looked_at_first(rate: float) -> None:
    lost = learned(loss=2.3, steps=100, learning_rate=rate, curve=[])
    assert (
        judge("accuracy", [AT_CHANCE], lost).advice[0]
        == f"search the learning rate (--find-lr); it was {rate:g}"
    )
    weak = learned(loss=0.6, learning_rate=rate, curve=[])
    assert judge("accuracy", [compared(0.7, 0.8)], weak).advice[0] == "search the learning rate (--find-lr)"


def test_without_a_baseline_the_interval_is_the_metrics_own() -> None:
    verdict = judge("mAP", [compared(0.5, None, method="bootstrap of the clips")])
    assert verdict.headline == (
        "No baseline to compare with on test: mAP 0.500 (95% interval 0.450 to 0.550, bootstrap of the clips, 200 "
        "clips)."
    )
    assert verdict.outcome == "none"


def test_nothing_was_evaluated() -> None:
    verdict = judge("accuracy", [], learned(curve=[]))
    assert verdict.headline == "Nothing was evaluated: no clips were held out."
    assert verdict.advice[0].startswith("hold clips out")
    assert verdict.split is None


def test_the_test_split_is_spoken_of_else_the_worst_one() -> None:
    easy = compared(0.95, split="validation")
    hard = compared(0.6, split="unseen")
    test = compared(0.9)
    assert main_comparison([easy, hard, test]) is test
    assert main_comparison([easy, hard]) is hard
    assert main_comparison([]) is None
    verdict = judge("accuracy", [easy, test, hard], learned())
    assert verdict.lines == [
        "Also: accuracy 0.600 on unseen (logistic regression 0.800: worse); "
        "accuracy 0.950 on validation (logistic regression 0.800: better)."
    ]
    assert [one.split for one in verdict.comparisons] == ["unseen", "test", "validation"]


# ---------------------------------------------------------------- what stands out

AT_CHANCE = compared(0.1, 0.8)

#: name -> comparisons, learning, the first finding, its sentence in part, the first advice in part
CASES: dict[str, tuple[list[Comparison], Learning, str, str, str]] = {
    "loss at chance": (
        [AT_CHANCE],
        learned(loss=2.3, curve=[0.1] * 8),
        "at-chance",
        "The model learned nothing: the training loss is still that of guessing (2.3 at the end, guessing has 2.3).",
        "search the learning rate (--find-lr); it was 0.001",
    ),
    "loss above chance": (
        [AT_CHANCE],
        learned(loss=8.0, curve=[0.1] * 8),
        "at-chance",
        "still that of guessing (8 at the end",
        "search the learning rate",
    ),
    "mixed labels at chance": (
        [AT_CHANCE],
        learned(loss=2.28, floor=1.2, curve=[0.1] * 8),
        "at-chance",
        "still that of guessing",
        "search",
    ),
    "few steps at chance": (
        [AT_CHANCE],
        learned(loss=2.3, steps=20, epochs=10.0, curve=[]),
        "at-chance",
        "still that of guessing",
        "train longer (--set training.num_train_epochs=200); 20 steps are few",
    ),
    "a stream's few steps at chance": (
        [AT_CHANCE],
        learned(loss=2.3, steps=20, epochs=None, curve=[]),
        "at-chance",
        "still that of guessing",
        "train longer (--set training.max_steps=400); 20 steps are few",
    ),
    "learned by heart": (
        [AT_CHANCE],
        learned(loss=0.1, curve=[0.1] * 8),
        "by-heart",
        "The model learned the training clips by heart: their loss fell to 0.1 (guessing has 2.3), but on test it is "
        "no better than guessing (accuracy 0.100, guessing has 0.100).",
        "compare some clips with their labels",
    ),
    "half learned, and chance elsewhere": (
        [compared(0.1, 0.15)],
        learned(loss=1.8, curve=[0.1] * 8),
        "at-chance",
        "The model is not clearly better than guessing on test: accuracy 0.100, guessing has 0.100.",
        "compare some clips with their labels",
    ),
    "a test split of twelve clips": (
        [compared(0.75, 0.5, clips=12, interval=(0.47, 0.91), difference=(-0.2, 0.5))],
        learned(),
        "small-split",
        "test is too small to say much: with 12 clips, the true accuracy is anywhere from 0.47 to 0.91 (95% interval, ",
        "cross-validate",
    ),
    "a test split of three speakers": (
        [
            compared(
                0.75,
                clips=600,
                interval=(0.3, 1.0),
                groups=3,
                method="bootstrap",
                grouped_by="column 'speaker'",
            )
        ],
        learned(),
        "small-split",
        "with 600 clips in 3 groups (column 'speaker'), the true accuracy is anywhere from 0.30 to 1.00 (95% interval",
        "cross-validate",
    ),
    "a leak": (
        [compared(0.6, 0.5), compared(0.95, 0.9, split="validation")],
        learned(holds_out=True),
        "leak",
        "test is far below validation (accuracy 0.600 and 0.950): one speaker or recording is in both train and",
        "hold out whole speakers or recordings (--set data.validation_group=COLUMN)",
    ),
    "a leak between stored splits": (
        [compared(0.6, 0.5), compared(0.95, 0.9, split="validation")],
        learned(),
        "leak",
        "test is far below validation",
        "split by speaker or recording (ast-hf split DATA",
    ),
    "another domain": (
        [compared(0.6, 0.5), compared(0.95, 0.9, split="validation")],
        learned(group="speaker"),
        "leak",
        "test is far below validation (accuracy 0.600 and 0.950): test has clips of another kind.",
        "listen to test clips",
    ),
    "overfitting": (
        [compared(0.7, 0.6)],
        learned(loss=0.01, curve=[0.5, 0.7, 0.85, 0.8, 0.75, 0.72, 0.7, 0.7]),
        "overfitting",
        "Overfitting: accuracy on validation was 0.850 at evaluation 3 of 8, and 0.700 at the end.",
        "keep the best evaluation on the validation split (--set stopping.patience=5)",
    ),
    "fitted training clips, poor test": (
        [compared(0.5, 0.45)],
        learned(loss=0.01, curve=[], is_augmented=False),
        "overfitting",
        "Overfitting: the training clips are learned almost completely (loss 0.01, guessing has 2.3), but accuracy on "
        "test is 0.500.",
        "augment the clips (--set augmentation.mixup_probability=0.5)",
    ),
    "still rising": (
        [compared(0.7, 0.6)],
        learned(loss=0.9, curve=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.72]),
        "too-short",
        "Too short: accuracy on validation still rose in the second half of the 3000 steps, from 0.550 to 0.720.",
        "train longer (--set training.num_train_epochs=120)",
    ),
    "a short run without evaluations": (
        [compared(0.4, 0.85)],
        learned(loss=1.9, steps=120, epochs=12.0, curve=[]),
        "too-short",
        "Too short: after 120 steps the training loss is 1.9, only 17% of the way down from guessing (2.3).",
        "train longer (--set training.num_train_epochs=48)",
    ),
    "a short run at chance": (
        [AT_CHANCE],
        learned(loss=2.0, steps=44, epochs=4.0, curve=[]),
        "too-short",
        "Too short: after 44 steps the training loss is 2, only 13% of the way down from guessing (2.3).",
        "train longer (--set training.num_train_epochs=16)",
    ),
    "labels that are never the answer": (
        [compared(0.7, 0.75, never=("cat", "dog", "owl", "bat", "cow"))],
        learned(loss=0.01, training_clips={"cat": 20, "ape": 90}),
        "never-predicted",
        "Never predicted on test, which has clips of them: 'cat', 'dog', 'owl' and 2 more labels.",
        "draw rare labels more often (--set sampling=balanced)",
    ),
    "few clips of a label": (
        [compared(0.7, 0.6)],
        learned(training_clips={"cat": 4, "dog": 90, "owl": 8}),
        "few-clips",
        "Few training clips: 'cat' has 4 clips; 2 of 3 labels have fewer than 10.",
        "add training clips",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stands_out(name: str) -> None:
    comparisons, learning, finding, sentence, advice = CASES[name]
    verdict = judge("accuracy", comparisons, learning)
    assert verdict.findings[0] == finding
    assert sentence in verdict.lines[0]
    assert verdict.advice[0].startswith(advice)
    assert len(verdict.lines) <= 3
    assert len(verdict.advice) <= 2
    assert len(set(verdict.advice)) == len(verdict.advice)


@pytest.mark.parametrize(
    "learning",
    [
        learned(curve=[0.5, 0.7, 0.9, 0.8, 0.75, 0.72, 0.7, 0.7], has_stopping=True),  # the best one is kept
        learned(loss=1.8, floor=1.6),  # mixed labels: most of what can be learned
        learned(curve=[0.5, 0.9, 0.88, 0.9, 0.87, 0.9, 0.88, 0.89]),  # noise of 200 clips
        learned(curve=[0.7, 0.8], loss=0.5),
        learned(curve=[], loss=None),
        learned(loss=0.6, steps=3000, curve=[0.6, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9, 0.91]),
    ],
)
def test_healthy_runs_are_left_alone(learning: Learning) -> None:
    assert judge("accuracy", [compared(0.92)], learning).text()[1:] == []


@pytest.mark.parametrize(
    "learning", [learned(), learned(is_balanced=True, training_clips={"cat": 20, "dog": 100})]
)
def test_balanced_labels_are_not_balanced_again(learning: Learning) -> None:
    verdict = judge("accuracy", [compared(0.7, 0.6, never=("cat",))], learning)
    assert (verdict.findings, verdict.advice) == (["never-predicted"], [])


def test_what_sets_the_length_of_a_run_is_what_makes_it_longer() -> None:
    short = {"loss": 1.9, "steps": 120, "epochs": 12.0, "curve": []}
    for changes, option in (
        ({"has_max_steps": True}, "training.max_steps=480"),
        ({"stopped_by": 3, "has_max_steps": True}, "stopping.patience=12"),
    ):
        assert option in judge("accuracy", [compared(0.4, 0.85)], learned(**short, **changes)).advice[0]


def test_shuffled_labels_are_not_taken_for_a_short_run() -> None:
    """The loss is on its way down, by heart; the result says that there is nothing to learn."""
    verdict = judge("accuracy", [compared(0.11, 0.12)], learned(loss=2.1, steps=344, epochs=8.0, curve=[]))
    assert verdict.findings[:2] == ["at-chance", "too-short"]
    assert [line.partition(" (")[0] for line in verdict.advice] == [
        "compare some clips with their labels",
        "train longer",
    ]


def test_few_right_answers_of_few_are_not_called_guessing() -> None:
    """Five of five clips right, with a label that three of them have."""
    five = compared(1.0, 1.0, clips=5, interval=(0.57, 1.0), chance=0.6, difference=(-0.43, 0.43))
    assert judge("accuracy", [five], learned()).findings == ["small-split"]
    assert judge("accuracy", [five]).advice == ["evaluate more clips"]


def test_a_solved_task_needs_nothing() -> None:
    even = compared(0.98, 0.99, difference=(-0.03, 0.02))
    learning = learned(steps=100, loss=1.5, curve=[0.7, 0.8, 0.9, 0.98], training_clips={"cat": 3})
    assert judge("accuracy", [even], learning).advice == []


def test_a_wide_interval_is_no_proof_of_chance() -> None:
    few = compared(0.3, 0.4, clips=5, interval=(0.05, 0.8), difference=(-0.6, 0.5))
    verdict = judge("accuracy", [few], learned(loss=0.1))
    assert "by-heart" not in verdict.findings
    assert "small-split" in verdict.findings


def test_names_of_others_are_printed_safely() -> None:
    hostile = "\x1b[31mred"
    verdict = judge(
        "accuracy",
        [compared(0.7, 0.6, split=hostile, never=(hostile,))],
        learned(training_clips={hostile: 2}, watched=hostile),
    )
    assert all(line.isprintable() for line in verdict.text())


def test_a_verdict_is_stored_as_plain_values() -> None:
    verdict = judge("accuracy", [compared(never=("cat",), model_only=30, baseline_only=10)], learned())
    stored = json.loads(json.dumps(verdict.to_dict()))
    assert stored == verdict.to_dict()
    (comparison,) = stored["comparisons"]
    assert comparison["outcome"] == "above"
    assert Comparison.from_dict(comparison) == verdict.comparisons[0]


# ---------------------------------------------------------------- folds


def over_folds(comparisons: list[Comparison | None], **changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "values": [0.9] * 5,
        "baselines": [0.8] * 5,
        "comparisons": comparisons,
        "findings": [()] * 5,
        "clips": 100,
        "epochs": 20,
    }
    return judge_folds("accuracy", **{**fields, **changes})


FOLD = compared(clips=20, model_only=3, baseline_only=1)


def test_folds_are_compared_clip_by_clip() -> None:
    verdict = over_folds([FOLD] * 5)
    (comparison,) = verdict.comparisons
    assert (comparison.model_only, comparison.baseline_only, comparison.clips) == (15, 5, 100)
    assert comparison.difference_method == "McNemar"  # p = 0.041
    assert verdict.headline.startswith("Better than the baseline on the test folds: accuracy 0.900")
    assert over_folds([replace(FOLD, model_only=2)] * 5).outcome == "even"  # 10 to 5: p = 0.30


@pytest.mark.parametrize(
    "comparisons",
    [[None] * 5, [replace(FOLD, groups=4)] * 5, [replace(FOLD, model_only=None, baseline_only=None)] * 5],
)
def test_else_folds_are_compared_by_their_differences(comparisons: list[Comparison | None]) -> None:
    values = [0.9, 0.8, 0.9, 0.85, 0.95]
    verdict = over_folds(comparisons, values=values, baselines=[0.7, 0.75, 0.7, 0.7, 0.8])
    assert verdict.comparisons[0].difference_method == "corrected t over 5 folds"
    assert verdict.outcome == "above"


def test_folds_of_groups_that_agree_say_no_more_than_their_clips() -> None:
    same = over_folds([replace(FOLD, groups=4, model_only=0, baseline_only=0)] * 5, values=[0.8] * 5)
    assert same.comparisons[0].difference == pytest.approx((-0.0370, 0.0370), abs=1e-4)
    assert same.outcome == "even"


def test_what_most_folds_have_in_common() -> None:
    findings = [("at-chance", "few-clips"), ("at-chance",), ("at-chance", "leak"), (), ()]
    verdict = over_folds([FOLD] * 5, findings=findings)
    assert verdict.lines == ["In 3 of 5 folds the model learned nothing."]
    assert verdict.findings == ["at-chance"]
    assert verdict.advice[0].startswith("search the learning rate")
    assert over_folds([None] * 5, baselines=None).outcome == "none"
    assert over_folds([FOLD] * 5, findings=[("too-short",)] * 5).advice == [
        "train longer (--set training.num_train_epochs=40)"
    ]


# ---------------------------------------------------------------- what is advised

#: Option of a recipe that `--set` takes, with its value; and an option of the command line.
SET = re.compile(r"--set (\S+?)(?=[)\s]|$)")
FLAGS = re.compile(r"(?<!\S)\(?(--[a-z][a-z-]*)")


def advised() -> list[str]:
    """Return all advice that there is, of runs and of folds."""
    constants = [text for name, text in vars(advice).items() if name.isupper() and isinstance(text, str)]
    lengths: list[dict[str, Any]] = [{"epochs": None}, {"has_max_steps": True}, {"stopped_by": 4}, {}]
    made = [advice.longer(learned(**changes), 2) for changes in lengths]
    made += [advice.other_splits(learned(**changes)) for changes in ({}, {"holds_out": True})]
    folds = over_folds([FOLD] * 2, findings=[("too-short", "at-chance")] * 2).advice
    return [*constants, *made, *folds]


@pytest.mark.parametrize("text", advised())
def test_every_option_that_is_advised_exists(text: str) -> None:
    options = [option.replace("COLUMN", "speaker").replace("FOLD", "1") for option in SET.findall(text)]
    if any("patience" in option or "validation_group" in option for option in options):
        options.append("data.validation_fraction=0.2")
    load_recipe(ROOT / "examples" / "recipes" / "small-data.yaml", options)
    command = re.search(r"ast-hf (\w+)", text)
    known = parser_options(command.group(1) if command else "finetune")
    assert set(FLAGS.findall(text)) <= known


def parser_options(command: str) -> set[str]:
    """Return the options of a command, from its help."""
    with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return set(re.findall(r"--[a-z][a-z_-]*", output.getvalue()))
