"""Verdicts of real, tiny runs: at chance, by heart, healthy, resumed, evaluated; and the baseline of several labels."""

from __future__ import annotations

import csv
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY

from ast_hf import cli
from ast_hf.commands.console import print_results
from ast_hf.data.reading import load_audio_dataset
from ast_hf.evaluation.baseline import baseline_answers
from ast_hf.evaluation.comparison import find_clip_groups
from ast_hf.evaluation.evaluate import evaluate_checkpoints
from ast_hf.training import Report, finetune, prepare
from training.runs import VARIED, Stop, recipe

#: Clips of each label by split of data whose labels say nothing.
SIZES = {"train": 8, "test": 30}
#: Arguments of a run that writes nothing before its end.
QUIET: dict[str, Any] = {"save_strategy": "no", "logging_strategy": "no"}


def warned(action: Any) -> tuple[Any, list[str]]:
    """Return the result of a call, and its warnings W411."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    return result, [str(one.message) for one in caught if "W411" in str(one.message)]


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return tones of random pitch with labels that have nothing to do with them. Read only."""
    root = tmp_path_factory.mktemp("shuffled")
    random = np.random.default_rng(0)
    time = np.arange(6400) / 16_000
    for split, count in SIZES.items():
        for label in ("left", "right"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                tone = 0.3 * np.sin(2 * np.pi * random.uniform(300, 6000) * time)
                soundfile.write(root / split / label / f"{number}.wav", tone, 16_000)
    return root


def test_a_run_at_chance_is_warned_of_while_it_runs(
    shuffled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = recipe(shuffled, **QUIET, max_steps=40, per_device_train_batch_size=1, learning_rate=1e-7)
    report, messages = warned(lambda: finetune(wanted, tmp_path / "run"))
    (message,) = messages
    assert "that of guessing is 0.69" in message
    assert "after 30 of 40 steps" in message
    for cause in ("learning rate (1e-07)", "too few steps", "labels that do not belong", "silent clips"):
        assert cause in message
    assert report.verdict.findings[0] == "at-chance"
    assert "The model learned nothing" in report.verdict.lines[0]
    assert report.verdict.advice[0] == "search the learning rate (--find-lr); it was 1e-07"
    capsys.readouterr()
    print_results(report)
    assert capsys.readouterr().out.splitlines()[0] == report.verdict.headline


@pytest.mark.slow
def test_labels_that_say_nothing_are_learned_by_heart(shuffled: Path, tmp_path: Path) -> None:
    wanted = recipe(shuffled, **QUIET, num_train_epochs=80, per_device_train_batch_size=4, learning_rate=3e-3)
    report, messages = warned(lambda: finetune(wanted, tmp_path / "run"))
    assert messages == []
    assert report.verdict.findings[0] == "by-heart"
    assert "learned the training clips by heart" in report.verdict.lines[0]
    assert report.verdict.outcome != "above"


def test_a_healthy_run_is_left_alone(trained: Report) -> None:
    stored = json.loads((trained.folder / "results.json").read_text())["verdict"]
    assert stored == trained.verdict.to_dict()
    assert stored["split"] == "test"
    assert not {"at-chance", "by-heart", "too-short"} & set(stored["findings"])
    card = (trained.folder / "README.md").read_text()
    assert stored["headline"][:40] in card.partition("## Results")[2]


def test_chance_is_that_of_the_labels_as_they_are_mixed(clips: Path, tmp_path: Path) -> None:
    mixed = {"augmentation": {"mixup_probability": 1.0, "label_smoothing": 0.2}}
    run = prepare(recipe(clips, mixed), tmp_path)
    run.trainer.train()
    course = run.trainer.loss_course
    assert sum(course.clips) == run.trainer.clips_trained
    assert course.chance == pytest.approx(np.log(2), abs=0.02)
    assert 0.32 < course.floor < course.chance  # smoothed alone: 0.325
    logged = [entry["train_loss"] for entry in run.trainer.state.log_history if "train_loss" in entry]
    assert course.mean(0, run.trainer.state.global_step) == pytest.approx(logged[-1], rel=1e-4)


def test_a_resumed_run_has_the_course_of_an_unbroken_one(clips: Path, tmp_path: Path) -> None:
    wanted = recipe(clips, VARIED, num_train_epochs=2, save_steps=4, save_strategy="steps")
    whole = prepare(wanted, tmp_path / "whole")
    whole.trainer.train()
    stopped = prepare(wanted, tmp_path / "stopped")
    stopped.trainer.add_callback(Stop(step=4))
    stopped.trainer.train()
    stopped.trainer.release_folder()
    resumed = prepare(wanted, tmp_path / "stopped")
    resumed.trainer.train(resume_from_checkpoint=True)
    assert resumed.trainer.loss_course.to_dict() == whole.trainer.loss_course.to_dict()
    assert len(whole.trainer.loss_course.sums) == 6


# ---------------------------------------------------------------- several labels, groups


@pytest.fixture(scope="module")
def tables(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return tables of the clips: with tags, and with speakers of two clips each. Read only."""
    root = tmp_path_factory.mktemp("tables")
    rows = []
    for split, count in (("train", 12), ("test", 4)):
        for kind in ("noise", "tone"):
            for number in range(count):
                file = str(clips / split / kind / f"{number}.wav")
                tags = f"{kind};every" if split == "train" else kind
                rows.append([file, kind, tags, split, f"{split}{kind}{number // 2}"])
    for name, columns in {"tags": (0, 2, 3), "speakers": (0, 1, 3, 4)}.items():
        heads = ["path", "label", "labels", "split", "speaker"]
        with (root / f"{name}.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(heads[column] for column in columns)
            table.writerows([row[column] for column in columns] for row in rows)
    return {name: root / f"{name}.csv" for name in ("tags", "speakers")}


def test_the_baseline_of_several_labels(tables: dict[str, Path], tmp_path: Path) -> None:
    run = prepare(recipe(tables["tags"], {"data": {"label_separator": ";"}}), tmp_path)
    answers = baseline_answers(run.train, run.evaluation)["test"]
    names = run.trainer.model.config.id2label
    by_label = {names[index]: answers[:, index] for index in names}
    assert by_label["noise"].argsort().tolist()[-4:] != by_label["tone"].argsort().tolist()[-4:]
    assert by_label["noise"][:4].min() > by_label["noise"][4:].max()
    assert by_label["tone"][4:].min() > by_label["tone"][:4].max()
    assert by_label["every"].tolist() == [0] * 8  # all training clips have it
    fewer = baseline_answers(run.train, run.evaluation, limit=12)["test"]
    assert fewer.shape == (8, 3)
    assert not np.array_equal(fewer, answers)


def test_a_run_of_several_labels_is_compared(tables: dict[str, Path], tmp_path: Path) -> None:
    report = finetune(recipe(tables["tags"], {"data": {"label_separator": ";"}}), tmp_path)
    assert report.baseline == {"test": 1.0}
    (comparison,) = report.verdict.comparisons
    assert (comparison.value, comparison.baseline) == (report.results["test"]["mAP"], 1.0)
    assert comparison.difference_method == "bootstrap of the clips"
    assert comparison.chance == pytest.approx(0.66, abs=0.05)


def test_clips_of_one_speaker_are_resampled_together(tables: dict[str, Path], tmp_path: Path) -> None:
    grouped = {"data": {"validation_group": "speaker", "validation_fraction": 0.4, "eval_splits": ["test"]}}
    report = finetune(recipe(tables["speakers"], grouped, num_train_epochs=1), tmp_path)
    (comparison,) = report.verdict.comparisons
    assert comparison.groups == 4
    assert comparison.difference_method == "bootstrap of 4 groups"
    assert comparison.grouped_by == "column 'speaker'"


def test_groups_that_no_recipe_names_are_found(clips: Path, tables: dict[str, Path]) -> None:
    speakers = load_audio_dataset(tables["speakers"])["test"]
    found = find_clip_groups(speakers)
    assert found is not None
    assert (len(set(found.values)), found.place) == (4, "column 'speaker'")
    assert find_clip_groups(speakers, "recording") is None  # what a recipe names counts
    assert find_clip_groups(load_audio_dataset(clips)["test"]) is None
    assert find_clip_groups(iter([])) is None


# ---------------------------------------------------------------- evaluate


def test_an_evaluation_is_compared_where_training_clips_are_there(
    trained: Report, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(trained.folder), str(clips), "--output", str(tmp_path / "out")]
    assert cli.main(words) in (0, None)
    stored = json.loads((tmp_path / "out" / "results.json").read_text())["verdict"]
    assert capsys.readouterr().out.splitlines()[0] == stored["headline"]
    (comparison,) = stored["comparisons"]
    assert comparison["baseline"] == trained.baseline["test"] == 1.0
    assert comparison["value"] == trained.results["test"]["accuracy"]


def test_an_evaluation_without_training_clips_has_an_interval_of_its_own(
    trained: Report, clips: Path, tmp_path: Path
) -> None:
    for source, split in ((clips / "test", "train"), (clips, "train")):
        verdict = evaluate_checkpoints(
            [str(trained.folder)], source, output_dir=tmp_path, split=split
        ).verdict
        assert verdict.outcome == "none"
        assert "No baseline to compare with" in verdict.headline


def test_a_fit_on_the_training_clips_leaves_the_baseline(
    trained: Report, clips: Path, tmp_path: Path
) -> None:
    evaluation = evaluate_checkpoints(
        [str(trained.folder)], clips, output_dir=tmp_path, fit_on="train", store=False
    )
    assert [comparison.baseline for comparison in evaluation.verdict.comparisons] == [1.0]


# ---------------------------------------------------------------- real audio


@pytest.mark.slow
@pytest.mark.skipif(
    "AST_HF_TEST_DATA" not in os.environ, reason="AST_HF_TEST_DATA names no folder of data sets"
)
def test_shuffled_labels_of_real_clips(tmp_path: Path) -> None:
    folder = Path(os.environ["AST_HF_TEST_DATA"]) / "instruments"
    rows = list(csv.DictReader((folder / "manifest.csv").open()))
    labels = np.random.default_rng(0).permutation([row["label"] for row in rows])
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        table.writerows(
            [folder / row["path"], label, row["split"]] for row, label in zip(rows, labels, strict=True)
        )
    model = {"config": {**TINY, "initializer_range": 0.1}}
    wanted = recipe(tmp_path / "clips.csv", {"model": model}, num_train_epochs=4, **QUIET)
    report, messages = warned(lambda: finetune(wanted, tmp_path / "run"))
    assert "at-chance" in report.verdict.findings
    assert report.verdict.outcome != "above"
    assert len(messages) <= 1
