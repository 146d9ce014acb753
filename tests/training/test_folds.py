"""Cross-validation on tones and noise: clips of the folds, results, resuming after a kill, and errors."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import ROOT, TINY
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from safetensors.torch import load_file
from transformers import TrainerCallback

from ast_hf import AstDataError, ASTFeatureExtractor, AstHfError, cli
from ast_hf.data.holding_out import random_fold
from ast_hf.reports.epoch_metrics import Curve
from ast_hf.reports.fold_results import Fold
from ast_hf.training import (
    ClipInputs,
    CrossValidation,
    Recipe,
    cross_validate,
    finetune,
    measure_statistics,
    prepare,
)
from ast_hf.training.splits import read_splits
from training.runs import checkpoint_digest, digest, recipe, sound, torchrun

#: Clips of noise and of tones in each fold: no two folds have the same size.
SIZES = {"1": (3, 3), "2": (4, 3), "10": (4, 4)}

#: Dropout and masks, so that an extra random draw changes the weights; an average, so that it is tested.
VARIED = {
    "averaging_decay": 0.5,
    "model": {"config": {**TINY, "hidden_dropout_prob": 0.1}},
    "augmentation": {"time_masks": 1, "time_mask_width": 10},
}


def write_clips(root: Path) -> Path:
    """Write a CSV of clips with the columns fold and source; each source has two clips."""
    lines = ["path,label,fold,source"]
    for fold, counts in SIZES.items():
        for kind, count in zip(("noise", "tone"), counts, strict=True):
            for number in range(count):
                name = f"{kind}-{fold}-{number}.wav"
                soundfile.write(root / name, sound(kind, 20 * int(fold) + number), 16_000)
                lines.append(f"{name},{kind},{fold},{kind}{number // 2}-{fold}")
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    return root / "clips.csv"


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of clips in three folds. Read only."""
    return write_clips(tmp_path_factory.mktemp("folded"))


def plan(source: Path, options: dict[str, Any] | None = None, **training: Any) -> Recipe:
    # One thread: a fresh process and this one, where other tests set the number, have to round alike.
    return recipe(
        source, {**VARIED, "threads": 1, **(options or {})}, **{"save_total_limit": None, **training}
    )


@pytest.fixture(scope="session")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Return a finished cross-validation. Read only."""
    return cross_validate(plan(table), tmp_path_factory.mktemp("finished"), folds=3)


def weights(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(root.glob("fold-*/model.safetensors"))}


def stored(root: Path, fold: str) -> dict[str, Any]:
    return json.loads((root / fold / "results.json").read_text())


# ---------------------------------------------------------------- which clips


def test_every_fold_is_tested_once_in_the_order_of_numbers(finished: CrossValidation) -> None:
    folds = [(fold.name, fold.folder, fold.clips, fold.training_clips) for fold in finished.folds]
    assert folds == [("1", "fold-1", 6, 15), ("2", "fold-2", 7, 14), ("10", "fold-3", 8, 13)]


def test_statistics_are_those_of_each_training_part(finished: CrossValidation, table: Path) -> None:
    seen = set()
    for fold in finished.folds:
        splits = read_splits(replace(finished.recipe.data, test_fold=int(fold.name)), 42)
        train = splits.train
        assert {row["fold"] for row in splits.evaluation["test"]} == {fold.name}
        assert fold.name not in {row["fold"] for row in train}
        measured = measure_statistics(ClipInputs(train, ASTFeatureExtractor(num_mel_bins=32, max_length=64)))
        assert (fold.features["mean"], fold.features["std"]) == pytest.approx(measured)
        seen.add(measured)
    assert len(seen) == 3


def folds_of(dataset: Dataset, count: int, **options: Any) -> list[list[int]]:
    parts = [
        random_fold(dataset, number, count, **{"group_column": None, "seed": 0, **options})
        for number in range(1, count + 1)
    ]
    for part in parts:
        assert sorted([*part["train"]["number"], *part["test"]["number"]]) == list(range(len(dataset)))
    return [list(part["test"]["number"]) for part in parts]


def rows(labels: list[Any], groups: list[Any] | None = None) -> Dataset:
    several = isinstance(labels[0], list)
    kind = ClassLabel(names=["a", "b", "c"])
    features = {
        "number": Value("int64"),
        "group": Value("string"),
        "labels" if several else "label": [kind] if several else kind,
    }
    cells = {"number": list(range(len(labels))), "group": groups or ["g"] * len(labels)}
    return Dataset.from_dict({**cells, "labels" if several else "label": labels}, features=Features(features))


@settings(max_examples=10, deadline=None)
@given(
    counts=st.lists(st.integers(4, 12), min_size=3, max_size=3),
    count=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_random_folds_share_the_clips_and_the_labels(counts: list[int], count: int, seed: int) -> None:
    labels = [label for label, number in enumerate(counts) for _ in range(number)]
    folds = folds_of(rows(labels), count, seed=seed)
    assert sorted(number for fold in folds for number in fold) == list(range(len(labels)))
    for label, number in enumerate(counts):
        shares = [sum(labels[clip] == label for clip in fold) for fold in folds]
        assert set(shares) <= {math.floor(number / count), math.ceil(number / count)}
    assert folds == folds_of(rows(labels), count, seed=seed)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2] * 8, [[0, 1], [2], [1]] * 8], ids=["single-label", "multi-label"]
)
def test_random_folds_keep_groups_together(labels: list[Any]) -> None:
    groups = [f"speaker {number // 4}" for number in range(24)]
    folds = folds_of(rows(labels, groups), 3, group_column="group")
    homes = [{groups[clip] for clip in fold} for fold in folds]
    assert sorted(name for home in homes for name in home) == sorted(set(groups))
    assert all(homes)


def test_random_folds_depend_on_the_seed() -> None:
    folds = [folds_of(rows([0, 1, 2] * 8), 3, seed=seed) for seed in (0, 1)]
    assert folds[0] != folds[1]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (rows([0, 1, 2] * 3), {"count": 10}, "9 clips do not make 10 folds"),
        (rows([0, 1, 2] * 3), {"group_column": "group"}, r"1 values of 'group' do not make 3"),
        (rows([0, 1, 2] * 3), {"group_column": "grup"}, r"column 'grup' does not exist.*'group'"),
        (rows([0, 1, 2] * 3, ["a", None, "b"] * 3), {"group_column": "group"}, r"row 2, column 'group'"),
        (rows([0, 1, 2] * 3), {"test_fold": 4}, "4 is not a fold"),
        (rows([0, 1, 2]), {}, "cannot make 3"),
    ],
)
def test_impossible_random_folds_are_refused(data: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AstDataError, match=message):
        random_fold(data, **{"test_fold": 1, "count": 3, "group_column": None, "seed": 0, **options})


@pytest.mark.slow
def test_data_without_folds_get_random_ones_that_a_recipe_can_name(table: Path, tmp_path: Path) -> None:
    text = table.read_text().replace(",fold,", ",part,").splitlines()
    lines = [
        ",".join(cell if place != 2 else "train" for place, cell in enumerate(line.split(",")))
        for line in text[1:]
    ]
    source = table.parent / "without.csv"
    source.write_text(
        "\n".join(["path,label,split,source", *lines, lines[0].replace("train", "test")]) + "\n"
    )
    printed: list[str] = []
    options = {"data": {"source": str(source), "validation_group": "source"}}
    plain = plan(source, options, num_train_epochs=1, save_strategy="no")
    cross_validation = cross_validate(plain, tmp_path / "out", folds=2, tell=printed.append)
    assert sum(fold.clips for fold in cross_validation.folds) == 21
    assert printed[0] == "2 folds: random, clips of one 'source' in one fold; split 'test' is not used"
    data = cross_validation.recipe.data
    sides = [
        {row["source"] for row in read_splits(replace(data, test_fold=fold), 42)[2]["test"]}
        for fold in (1, 2)
    ]
    assert sides[0].isdisjoint(sides[1])
    again = finetune(replace(plain, data=replace(data, test_fold=2)), tmp_path / "again")
    assert again.results["test"]["accuracy"] == cross_validation.final.values[1]
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights(tmp_path / "out")["fold-2"]
    with pytest.raises(AstHfError, match=r"E307.*random_folds.*needs data\.test_fold.*--folds 2"):
        prepare(replace(plain, data=data), tmp_path / "one")


# ---------------------------------------------------------------- which numbers


def by_hand(*curves: list[float], baseline: float | None = 0.5) -> CrossValidation:
    folds = [
        Fold(
            str(number),
            f"fold-{number}",
            4,
            8,
            Curve([1.0, 2.0, 3.0], values),
            {},
            baseline,
            baseline,
            60.0,
            "accuracy",
        )
        for number, values in enumerate(curves, start=1)
    ]
    return CrossValidation(Recipe(), Path("out"), "column 'fold'", folds)


def test_final_and_best_epoch_by_hand() -> None:
    """The best epoch has the best mean over folds: 2. The best epochs of each fold, 2 and 3, would give 0.85."""
    summary = by_hand([0.5, 0.9, 0.6], [0.7, 0.6, 0.8])
    assert (summary.final.epoch, summary.final.values) == (3, [0.6, 0.8])
    assert summary.final.mean == pytest.approx(0.7)
    assert summary.final.standard_deviation == pytest.approx(0.1 * math.sqrt(2))
    assert (summary.best.epoch, summary.best.values) == (2, [0.9, 0.6])
    assert (summary.best.mean, summary.best.standard_deviation) == pytest.approx((0.75, 0.15 * math.sqrt(2)))
    assert (summary.baseline.mean, summary.baseline.standard_deviation) == (0.5, 0.0)


def test_equally_good_epochs_choose_the_first() -> None:
    assert by_hand([0.2, 0.8, 0.8], [0.2, 0.8, 0.8]).best.epoch == 2
    assert Curve([1.0, 2.0, 3.0], [0.2, 0.8, 0.8]).best == 1


def test_without_a_baseline_none_is_reported() -> None:
    assert list(by_hand([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], baseline=None).to_dict())[:4] == [
        "metric",
        "origin",
        "final",
        "best",
    ]


def test_final_values_match_the_saved_models(finished: CrossValidation) -> None:
    for fold, final in zip(finished.folds, finished.final.values, strict=True):
        results = stored(finished.folder, fold.folder)
        assert results["results"]["test"]["accuracy"] == final == fold.curve.values[-1]
        assert results["watched"]["test"]["epochs"] == [1.0, 2.0]
    assert [spread.epoch for spread in finished.epochs] == [1, 2]
    assert (len(finished.baseline.values), len(finished.chance.values)) == (3, 3)


def test_files_match_the_returned_result(finished: CrossValidation) -> None:
    results = json.loads((finished.folder / "folds.json").read_text())
    assert results == finished.to_dict()
    assert results["final"] == {
        "epoch": 2,
        "mean": finished.final.mean,
        "standard_deviation": finished.final.standard_deviation,
        "values": finished.final.values,
    }
    assert "overstates" in results["best_is"]
    picture = imread(finished.folder / "folds.png")
    assert 0.01 < (picture[..., :3].min(axis=-1) < 0.9).mean() < 0.9


# ---------------------------------------------------------------- watching changes nothing


def test_watching_does_not_change_training(finished: CrossValidation, table: Path, tmp_path: Path) -> None:
    """Dropout draws, logs and saved files stay the same."""
    alone = finetune(replace(finished.recipe, data=replace(finished.recipe.data, test_fold=1)), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == weights(finished.folder)["fold-1"]
    checkpoints = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert len(checkpoints) == 2
    for name in checkpoints:
        watched = finished.folder / "fold-1" / name
        assert checkpoint_digest(tmp_path / name) == checkpoint_digest(watched)
        logs = [
            json.loads((folder / name / "trainer_state.json").read_text())["log_history"]
            for folder in (tmp_path, watched.parent)
        ]
        assert logs[0] == [entry for entry in logs[1] if "test_loss" not in entry]
        assert len(logs[1]) == 2 * len(logs[0])
    assert alone.watched == {}


def test_a_watched_split_does_not_choose_the_best_checkpoint(table: Path, tmp_path: Path) -> None:
    """The highest validation loss counts as the best; the test fold is logged without influence."""
    options = {
        "data": {"source": str(table), "test_fold": 10, "validation_fraction": 0.3},
        "averaging_decay": None,
    }
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    run = prepare(
        plan(table, options, eval_strategy="epoch", num_train_epochs=3, **best), tmp_path, watch="test"
    )
    run.trainer.train()
    history = run.trainer.state.log_history
    losses = {
        name: [entry[name] for entry in history if name in entry] for name in ("eval_loss", "test_loss")
    }
    assert [len(values) for values in losses.values()] == [3, 3]
    assert losses["eval_loss"] != losses["test_loss"]
    step = max((entry["eval_loss"], entry["step"]) for entry in history if "eval_loss" in entry)[1]
    chosen = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
    assert digest(run.trainer.model.state_dict()) == digest(chosen)


def test_evaluating_does_not_change_training(table: Path, tmp_path: Path) -> None:
    options = {"data": {"source": str(table), "test_fold": 1, "validation_fraction": 0.3}}
    reports = {
        strategy: finetune(
            plan(table, options, eval_strategy=strategy, save_strategy="no"), tmp_path / strategy
        )
        for strategy in ("epoch", "no")
    }
    files = [(tmp_path / strategy / "model.safetensors").read_bytes() for strategy in reports]
    assert files[0] == files[1]
    curve = stored(tmp_path, "epoch")["watched"]["validation"]
    assert (curve["epochs"], curve["final"]["value"]) == ([1.0, 2.0], curve["values"][-1])
    assert curve["best"]["value"] == max(curve["values"])
    assert stored(tmp_path, "no")["watched"] == {}
    features = stored(tmp_path, "no")["features"]
    extractor = reports["no"].extractor
    assert features == {
        "sampling_rate": 16_000,
        "num_mel_bins": 32,
        "max_length": 64,
        "do_normalize": True,
        "mean": extractor.mean,
        "std": extractor.std,
        "return_attention_mask": False,
    }


def test_only_evaluated_splits_can_be_watched(table: Path, tmp_path: Path) -> None:
    options = {"data": {"source": str(table), "test_fold": 1}}
    with pytest.raises(AstDataError, match=r"E209.*split 'tset'.*did you mean 'test'"):
        prepare(plan(table, options), tmp_path, watch="tset")


# ---------------------------------------------------------------- killed and resumed


class Kill(TrainerCallback):
    """Callback that kills the process at a step, like a lost machine."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            signal.raise_signal(signal.SIGKILL)


def killed_in_the_second_fold(source: str, root: str) -> None:
    """Run a cross-validation that is killed in fold 2 after its first epoch of two steps was saved."""
    from ast_hf.training import trainer

    train = trainer.ASTTrainer.train

    def until_killed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(self.args.output_dir).name == "fold-2":
            self.add_callback(Kill(3))
        return train(self, *args, **kwargs)

    trainer.ASTTrainer.train = until_killed
    cross_validate(plan(Path(source)), root, folds=3)


@pytest.fixture(scope="module")
def killed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a killed cross-validation: fold 1 finished, fold 2 started, fold 3 missing. Read only."""
    root = tmp_path_factory.mktemp("killed")
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / 'tests'), str(ROOT)]!r}; from training import test_folds; "
        f"test_folds.killed_in_the_second_fold({str(table)!r}, {str(root)!r})"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    return root


@pytest.mark.slow
def test_a_killed_cross_validation_resumes_to_the_bit(
    finished: CrossValidation, killed: Path, table: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(killed, root)
    assert list(weights(root)) == ["fold-1"]
    assert [path.name for path in (root / "fold-2").glob("checkpoint-*")] == ["checkpoint-2"]
    before = (root / "fold-1" / "results.json").stat().st_mtime_ns
    lines: list[str] = []
    resumed = cross_validate(plan(table), root, folds=3, resume="auto", tell=lines.append)
    assert (root / "fold-1" / "results.json").stat().st_mtime_ns == before
    assert [line.endswith("is finished") for line in lines] == [False, True, False, False]
    assert weights(root) == weights(finished.folder)
    assert resumed.by_method() == finished.by_method()
    assert [fold.curve for fold in resumed.folds] == [fold.curve for fold in finished.folds]


@pytest.mark.long
def test_folds_of_another_cross_validation_are_refused(killed: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match=r"E306.*holds fold-1 of an earlier run.*--resume auto"):
        cross_validate(plan(table), killed, folds=3)
    with pytest.raises(
        AstHfError, match=r"E307.*training\.learning_rate.*began with 0\.002, and now it is 0\.1"
    ):
        cross_validate(plan(table, learning_rate=0.1), killed, folds=3, resume="auto")
    with pytest.raises(AstHfError, match=r"E307.*random_folds.*None, and now it is 3"):
        cross_validate(
            plan(table, {"data": {"source": str(table), "random_folds": 3}}), killed, folds=3, resume=True
        )
    fewer = tmp_path / "clips.csv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith("noise-2-0")]
    fewer.write_text("\n".join([lines[0], *(f"{table.parent}/{line}" for line in lines[1:])]) + "\n")
    with pytest.raises(AstHfError, match=r"E306.*tested on 6 clips, trained on 15; now 6 and 14"):
        cross_validate(plan(fewer), killed, folds=3, resume=True)
    assert list(weights(killed)) == ["fold-1"]


def test_a_folder_of_a_plain_run_is_refused(table: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    for resume in (None, "auto"):
        with pytest.raises(AstHfError, match=r"E306.*holds results\.json of an earlier run"):
            cross_validate(plan(table), tmp_path, folds=3, resume=resume)
    with pytest.raises(AstHfError, match=r"E306.*holds no folds to resume"):
        cross_validate(plan(table), tmp_path / "new", folds=3, resume=True)


def test_broken_results_of_a_fold_are_refused(table: Path, tmp_path: Path) -> None:
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "fold-1" / "results.json").write_text('{"recipe": {}}')
    with pytest.raises(AstHfError, match=r"E306.*fold-1/results\.json.*KeyError"):
        cross_validate(plan(table), tmp_path, folds=3, resume="auto")


@pytest.mark.slow
def test_two_processes_match_one(table: Path, tmp_path: Path) -> None:
    """Same clips per step and no dropout: the same numbers, and every file is written once."""
    options = {"model": {"config": TINY}, "data": {"source": str(table)}}
    one = cross_validate(
        plan(table, options, num_train_epochs=1, save_strategy="no"), tmp_path / "one", folds=3
    )
    (tmp_path / "recipe.yaml").write_text(
        plan(table, options, num_train_epochs=1, save_strategy="no", per_device_train_batch_size=4).to_yaml()
    )
    command = [
        "-m",
        "ast_hf",
        "finetune",
        str(tmp_path / "recipe.yaml"),
        "--data",
        str(table),
        "--folds",
        "3",
    ]
    process = torchrun(*command, "--output", str(tmp_path / "two"))
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("accuracy on test fold") == 1
    results = json.loads((tmp_path / "two" / "folds.json").read_text())
    assert results["baseline"] == one.baseline.to_dict()
    assert [fold["values"] for fold in results["folds"]] == [fold.curve.values for fold in one.folds]


@pytest.mark.slow
def test_folds_have_their_full_length_without_stopping(table: Path, tmp_path: Path) -> None:
    options = {
        "stopping": {"patience": 1},
        "data": {"validation_fraction": 0.3, "validation_group": "source"},
    }
    lines: list[str] = []
    result = cross_validate(plan(table, options), tmp_path / "stopping", folds=3, tell=lines.append)
    assert lines[1].startswith("Every fold trains its full length on all clips of the others")
    whole = cross_validate(plan(table), tmp_path / "whole", folds=3)
    assert [fold.curve for fold in result.folds] == [fold.curve for fold in whole.folds]


# ---------------------------------------------------------------- what is refused

#: mistake -> (folds, options of data, training arguments, message)
REFUSED = {
    "one fold": (1, {}, {}, r"E307.*folds: is 1, too few"),
    "another number than the data have": (5, {}, {}, r"E307.*'fold' has 3 folds: 1, 2, 10.*random_folds=5"),
    "one fold named": (3, {"test_fold": 1}, {}, r"E307.*data\.test_fold"),
    "another split to test on": (3, {"eval_splits": ["unseen"]}, {}, r"E307.*eval_splits.*=null"),
    "two numbers": (3, {"random_folds": 4}, {}, r"E307.*random_folds.*is 4, but folds is 3"),
    "an epoch chosen": (3, {}, {"load_best_model_at_end": True}, r"E307.*load_best_model_at_end"),
    "steps": (3, {}, {"max_steps": 5}, r"E307.*max_steps"),
    "which to push": (3, {}, {"push_to_hub": True}, r"E307.*push_to_hub.*which of the 3 models"),
    "column misspelt": (
        3,
        {"fold_column": "flod"},
        {},
        r"E208.*no column 'flod'; its columns are .*fold.*data\.fold_column=fold",
    ),
}


@pytest.mark.parametrize(("folds", "data", "training", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_folds_are_refused_before_anything_is_written(
    table: Path, tmp_path: Path, folds: int, data: dict, training: dict, message: str
) -> None:
    options = {"data": {"source": str(table), **data}}
    with pytest.raises(AstHfError, match=message):
        cross_validate(plan(table, options, **training), tmp_path / "out", folds=folds)
    assert not (tmp_path / "out").exists()


def test_finished_folds_of_other_sound_are_refused(
    finished: CrossValidation, table: Path, tmp_path: Path
) -> None:
    """Copied clips are the same; a clip with other sound under the same name is not."""
    shutil.copytree(finished.folder, tmp_path / "run")
    shutil.copytree(table.parent, tmp_path / "data")
    copied = plan(tmp_path / "data" / table.name)
    assert cross_validate(copied, tmp_path / "run", folds=3, resume=True).final == finished.final
    file = min((tmp_path / "data").rglob("*.wav"))
    content = bytearray(file.read_bytes())
    content[3_000:3_100] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(AstHfError, match=r"E306.*results\.json.*is of other clips"):
        cross_validate(copied, tmp_path / "run", folds=3, resume=True)


def test_a_class_of_one_fold_is_refused_before_another_is_trained(table: Path, tmp_path: Path) -> None:
    lines = [
        line for line in table.read_text().splitlines() if ",tone,1," not in line and ",tone,2," not in line
    ]
    lonely = table.parent / "lonely.csv"
    lonely.write_text("\n".join(lines) + "\n")
    with pytest.raises(AstDataError, match=r"E209.*fold 10: split 'train'.*has no clip of tone"):
        cross_validate(plan(lonely), tmp_path / "out", folds=3)
    assert not (tmp_path / "out").exists()


def test_a_clip_without_a_fold_is_named(table: Path, tmp_path: Path) -> None:
    broken = table.parent / "broken.csv"
    broken.write_text(table.read_text().replace("noise-1-1.wav,noise,1,", "noise-1-1.wav,noise,,"))
    with pytest.raises(AstDataError, match=r"E208.*split 'train' row 2, column 'fold'.*has no fold"):
        cross_validate(plan(broken), tmp_path, folds=3)


def test_a_likely_fold_column_is_suggested(table: Path, tmp_path: Path) -> None:
    other = table.parent / "other.csv"
    other.write_text(table.read_text().replace(",fold,", ",cv_fold,", 1))
    with pytest.raises(AstDataError, match=r"E208.*no column 'fold'.*fold_column=cv_fold.*random_folds"):
        cross_validate(plan(other), tmp_path, folds=3)


# ---------------------------------------------------------------- the command


def test_command_prints_the_table(
    finished: CrossValidation, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Uses finished folds, so that nothing is trained again."""
    shutil.copytree(finished.folder, tmp_path / "out")
    (tmp_path / "recipe.yaml").write_text(plan(table).to_yaml())
    command = [
        "finetune",
        str(tmp_path / "recipe.yaml"),
        "--data",
        str(table),
        "--folds",
        "3",
        "--resume",
        "auto",
    ]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("AST, final epoch (2)")]
    assert row.split()[4:7] == [f"{value:.3f}" for value in finished.final.values]
    assert row.endswith(f"{finished.final.mean:.3f} +- {finished.final.standard_deviation:.3f}")
    assert "chosen on these folds" in printed
    assert "fold-3: test fold 10 (8 clips), trained on 13: is finished" in printed
    assert "21 clips" in printed


@pytest.mark.parametrize("push", [["--push_to_hub"], ["--hub_model_id", "me/model"]])
def test_command_does_not_push_one_of_several(
    push: list[str], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(plan(table).to_yaml())
    command = ["finetune", str(tmp_path / "recipe.yaml"), "--data", str(table), "--folds", "3"]
    assert cli.main([*command, "--output", str(tmp_path / "out"), *push]) == 65
    assert "which of the 3 models" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
