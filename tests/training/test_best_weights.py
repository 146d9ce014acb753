"""The best evaluation and early stopping: what is kept, when a run stops, and that resuming changes nothing."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import EarlyStoppingCallback

from ast_hf import AstConfigError, AstDataError
from ast_hf.recipe.stopping_options import StoppingOptions
from ast_hf.training import finetune, finish, prepare
from ast_hf.training.averaging import WeightAverage
from ast_hf.training.best_weights import BestWeights
from ast_hf.training.preparing import Run
from ast_hf.training.trainer import ASTTrainer
from training.runs import VARIED, Stop, digest, recipe, torchrun, write_clips

HELD_OUT = {"data": {"validation_fraction": 0.25}}


def notes(
    values: list[tuple[float, float]], metric: str = "accuracy", **options: Any
) -> tuple[list[bool], int | None]:
    """Return which evaluations of 25 clips are kept so far, and after how many training stops."""
    best = BestWeights(StoppingOptions(**options), metric)
    results = []
    for step, (value, loss) in enumerate(values, start=1):
        results.append(best.note(value, loss, step, float(step), clips=25))
        if best.is_exhausted:
            return results, step
    return results, None


CASES: dict[str, tuple[list[tuple[float, float]], str, dict[str, Any], list[bool], int | None]] = {
    "falls": ([(0.9, 1), (0.8, 1), (0.7, 1)], "accuracy", {"patience": 2}, [True, False, False], 3),
    "rises": ([(0.1, 1), (0.2, 1), (0.3, 1)], "accuracy", {"patience": 1}, [True, True, True], None),
    "a tie with a lower loss": ([(0.5, 1), (0.5, 0.9)], "accuracy", {"patience": 1}, [True, True], None),
    "a tie with the same loss": ([(0.5, 1), (0.5, 1)], "accuracy", {"patience": 1}, [True, False], 2),
    "lower losses": ([(2, 2), (1, 1), (3, 3)], "loss", {"patience": 1}, [True, True, False], 3),
    "lower error": ([(0.2, 1), (0.1, 2)], "ECE", {"best": True}, [True, True], None),
    # the standard error of 0.5 of 25 clips is 0.1
    "as good as the best": (
        [(0.5, 1), (0.41, 2), (0.39, 1), (0.45, 1)],
        "accuracy",
        {"best": True, "standard_errors": 1.0},
        [True, True, False, True],
        None,
    ),
    "worse than a better one": (
        [(0.5, 1), (0.41, 1), (0.8, 1), (0.71, 1), (0.73, 1)],
        "accuracy",
        {"best": True, "standard_errors": 1.0},
        [True, True, True, False, True],
        None,
    ),
    "as good is no improvement": (
        [(0.5, 1), (0.45, 1), (0.45, 1)],
        "accuracy",
        {"patience": 2, "standard_errors": 1.0},
        [True, True, True],
        3,
    ),
    "all right": (
        [(1.0, 1), (1.0, 2)],
        "accuracy",
        {"best": True, "standard_errors": 1.0},
        [True, True],
        None,
    ),
    "no number": (
        [(math.nan, 1), (0.1, 1), (math.nan, 0)],
        "mAP",
        {"patience": 1},
        [False],
        1,
    ),
    "a number late": (
        [(math.nan, 1), (0.1, 1), (math.nan, 0)],
        "mAP",
        {"patience": 2},
        [False, True, False],
        None,
    ),
    "small steps are kept, but do not count": (
        [(0.5, 1), (0.51, 1), (0.52, 1)],
        *("accuracy", {"patience": 2, "min_delta": 0.05}, [True, True, True], 3),
    ),
    "a tie is no rise of min_delta": (
        [(0.5, 1), (0.5, 0.9), (0.5, 0.8)],
        *("accuracy", {"patience": 2, "min_delta": 0.05}, [True, True, True], 3),
    ),
    "small steps add up": (
        [(0.5, 1), (0.53, 1), (0.56, 1), (0.57, 1)],
        *("accuracy", {"patience": 2, "min_delta": 0.05}, [True, True, True, True], None),
    ),
    "no patience": ([(0.9, 1), *[(0.1, 1)] * 5], "accuracy", {"best": True}, [True] + [False] * 5, None),
}


@pytest.mark.parametrize(("values", "metric", "options", "expected", "stops"), CASES.values(), ids=CASES)
def test_what_is_best_and_when_to_stop(
    values: list[tuple[float, float]], metric: str, options: dict[str, Any], expected: list[bool], stops: int
) -> None:
    assert notes(values, metric, **options) == (expected, stops)


def test_the_patience_begins_when_the_model_has_left_chance() -> None:
    best = BestWeights(StoppingOptions(patience=2), "accuracy")
    for step in range(5):
        best.note(0.2 - 0.01 * step, 2.3, step, 1.0, waits=False)
    assert not best.is_exhausted
    best.note(0.1, 2.0, 5, 1.0)
    assert not best.is_exhausted
    best.note(0.1, 2.0, 6, 1.0)
    assert best.is_exhausted


def test_stored_weights_and_record_are_read_back(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)
    best = BestWeights(StoppingOptions(patience=3), "accuracy")
    best.save(tmp_path)
    empty = BestWeights(StoppingOptions(patience=3), "accuracy")
    empty.load(tmp_path)
    empty.copy_to(layer, None)  # nothing to copy yet
    assert empty.record == best.record
    best.note(1 / 3, 0.1 + 0.2, 5, 1.5)
    best.keep(layer)
    kept = digest(layer.state_dict())
    best.note(0.2, 1.0, 6, 2.0)
    best.save(tmp_path)
    with torch.no_grad():
        layer.weight.fill_(7.0)
    read = BestWeights(StoppingOptions(patience=3), "accuracy")
    read.load(tmp_path)
    assert read.record == best.record
    average = WeightAverage(0.9)
    average.update(layer)
    read.copy_to(layer, average)
    assert digest(layer.state_dict()) == kept
    with average.applied(layer):
        assert digest(layer.state_dict()) == kept


# ---------------------------------------------------------------- runs


def scripted(run: Run, values: list[float]) -> list[dict[str, str]]:
    """Let evaluations while training find these accuracies, and return the weights of each, as evaluated."""
    trainer = run.trainer
    seen: list[dict[str, str]] = []
    real = trainer.evaluation_loop

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        output = real(*args, **kwargs)
        if trainer.is_in_train:
            with trainer._averaged():
                seen.append(digest(trainer.model.state_dict()))
            step = trainer.state.global_step
            output.metrics["eval_accuracy"] = values[step % len(values)] if len(values) > step else values[-1]
        return output

    trainer.evaluation_loop = evaluate
    return seen


PLAN = {**HELD_OUT, "stopping": {"patience": 2}}
#: by step; 18 training clips in 3 steps an epoch
ACCURACIES = [0.0, 0, 0, 0.5, 0, 0, 0.8, 0, 0, 0.7, 0, 0, 0.6, 0, 0, 0.9, 0, 0, 0.1]


@pytest.mark.parametrize("averaging", [{}, {"averaging_decay": 0.9}, {"averaging_epochs": [1, 6]}])
@pytest.mark.parametrize("save", ["no", "epoch"])
def test_the_best_evaluation_is_saved(
    clips: Path, tmp_path: Path, averaging: dict[str, Any], save: str
) -> None:
    plan = recipe(clips, {**PLAN, **averaging}, num_train_epochs=6, save_strategy=save)
    run = prepare(plan, tmp_path)
    seen = scripted(run, ACCURACIES)
    run.trainer.train()
    report = finish(run)
    assert len(seen) == 4  # epoch 2 is the best, two more are not
    assert len({str(weights) for weights in seen}) == 4
    assert digest(load_file(tmp_path / "model.safetensors")) == seen[1]
    kept = report.kept
    assert kept is not None
    assert (kept.step, kept.epoch, kept.value, kept.clips, kept.evaluations) == (6, 2, 0.8, 6, 4)
    assert str(kept).startswith(
        "Kept the weights after epoch 2, the best of 4 evaluations on validation (6 clips)"
    )
    assert str(kept).endswith("Training stopped early, after epoch 4 of 6 epochs.")
    assert str(kept).split("(")[0] in (tmp_path / "README.md").read_text().replace("\\", "")


#: variant -> options, arguments of training, and the step of the best evaluation
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "average of steps": (VARIED, {}, 6),
    "average of epochs": ({**VARIED, "averaging_decay": None, "averaging_epochs": [2, 5]}, {}, 6),
    "no average": ({"sampling": "balanced"}, {"gradient_accumulation_steps": 1}, 6),
    "best only": ({"stopping": {"best": True}}, {}, 15),
    "steps": (VARIED, {"max_steps": 17}, 6),
    "few epochs": ({"stopping": {"patience": 6}}, {"num_train_epochs": 3}, 6),
    "planned by the recipe": (VARIED, {"eval_strategy": "steps", "eval_steps": 2}, 6),
    "workers": (VARIED, {"dataloader_num_workers": 1}, 6),
    "factored": ({"model": {"factored_positions": True}, "averaging_decay": 0.9}, {}, 6),
    "bfloat16": (VARIED, {"bf16": True}, 6),
    "stream": (
        {"data": {"streaming": True}, "features": {"mean": -5.0, "std": 4.0}, "averaging_decay": 0.9},
        {"max_steps": 18},
        6,
    ),
}
FAST = ("average of steps", "stream")


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders with a validation split."""
    root = tmp_path_factory.mktemp("divided")
    write_clips(root, {"train": 9, "validation": 3, "test": 2})
    return root


@pytest.mark.long
@pytest.mark.parametrize(
    "variant", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_resumed_run_keeps_and_stops_as_an_unbroken_one(
    divided: Path, tmp_path: Path, variant: str
) -> None:
    """Broken before the best evaluation, after it, while it waits, and after the last step."""
    options, training, best = VARIANTS[variant]
    arguments: dict[str, Any] = {"num_train_epochs": 6, "save_strategy": "steps", "save_steps": 1, **training}
    plan = recipe(divided, {"stopping": {"patience": 2}, **options}, save_total_limit=None, **arguments)

    def started(name: str) -> Run:
        run = prepare(plan, tmp_path / name)
        scripted(run, ACCURACIES)
        return run

    def ended(run: Run) -> Any:
        report = finish(run)
        return digest(load_file(report.folder / "model.safetensors")), report.kept, report.results

    whole = started("whole")
    whole.trainer.train()
    expected = ended(whole)
    assert expected[1].step == best
    last = expected[1].trained_steps
    for step in (2, last) if variant in FAST else sorted({2, 5, 9, last}):
        name = f"broken-{step}"
        run = started(name)
        run.trainer.add_callback(Stop(step=step))
        run.trainer.train()
        again = started(name)
        again.trainer.train(resume_from_checkpoint=True)
        assert again.trainer.state.global_step == last
        assert ended(again) == expected


@pytest.mark.slow
def test_an_adapter_keeps_its_best_weights(divided: Path, tmp_path: Path) -> None:
    base = finetune(recipe(divided, num_train_epochs=1), tmp_path / "base").folder
    options = {"model": {"base": str(base), "config": {}}, "adapter": {"rank": 2}, "averaging_decay": 0.9}
    plan = recipe(divided, {**options, "stopping": {"patience": 2}}, num_train_epochs=6)
    plan.model.config = {}
    run = prepare(plan, tmp_path / "adapted")
    seen = scripted(run, ACCURACIES)
    run.trainer.train()
    assert digest(run.trainer.model.state_dict()) == seen[1]
    assert finish(run).kept.step == 6


def main(source: str, root: str) -> None:
    """Train in one of two processes, interrupted after the fifth step."""
    for number in (5, None):
        plan = recipe(Path(source), {**VARIED, "stopping": {"patience": 2}}, num_train_epochs=6, **TWO)
        run = prepare(plan, Path(root) / "out")
        scripted(run, ACCURACIES)
        if number is not None:
            run.trainer.add_callback(Stop(step=number))
        run.trainer.train(resume_from_checkpoint=None if number else True)
    report = finish(run)
    rank = run.trainer.args.process_index
    outcome = {"weights": digest(run.trainer.model.state_dict()), "kept": str(report.kept)}
    (Path(root) / f"outcome-{rank}.json").write_text(json.dumps(outcome))


#: Arguments of the run of two processes: three steps of 4 and 4 clips an epoch.
TWO = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.slow
def test_two_processes_keep_the_same_weights(divided: Path, tmp_path: Path) -> None:
    result = torchrun("-m", "training.test_best_weights", str(divided), str(tmp_path))
    assert result.returncode == 0, result.stderr[-4000:]
    first, second = (json.loads((tmp_path / f"outcome-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["weights"] == digest(load_file(tmp_path / "out" / "model.safetensors"))
    assert "after epoch 2, the best of 4 evaluations" in first["kept"]


def test_no_validation_split_is_found_before_training(clips: Path, tmp_path: Path) -> None:
    for options, name in (({"patience": 3}, "patience=null"), ({"best": True}, "best=false")):
        with pytest.raises(AstConfigError, match=rf"E307.*stopping.*validation_fraction=.*{name}"):
            finetune(recipe(clips, {"stopping": options}), tmp_path)
    table = tmp_path / "one_recording.csv"
    rows = [f"{path},{path.parent.name},1" for path in sorted((clips / "train").rglob("*.wav"))]
    table.write_text("\n".join(["path,label,recording", *rows]))
    held_out = {"validation_fraction": 0.2, "validation_group": "recording"}
    with pytest.raises(
        AstDataError, match=r"E209.*or train the full length.*fraction=0, stopping\.best=false"
    ):
        finetune(recipe(table, {"data": held_out, "stopping": {"best": True}}), tmp_path / "out")
    with pytest.raises(AstConfigError, match=r"E307.*stopping\.metric.*did you mean 'accuracy'"):
        finetune(recipe(clips, {**HELD_OUT, "stopping": {"patience": 1, "metric": "acuracy"}}), tmp_path)


def test_best_checkpoint_has_averaged_weights(clips: Path, tmp_path: Path) -> None:
    """transformers' own choice of the best checkpoint and early stopping, with the average that was evaluated."""
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    plan = recipe(clips, {**HELD_OUT, "averaging_decay": 0.9}, num_train_epochs=6, **best)
    run = prepare(plan, tmp_path)
    seen = scripted(run, ACCURACIES)
    run.trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
    run.trainer.train()
    report = finish(run)
    assert len(seen) == 4
    assert digest(load_file(tmp_path / "model.safetensors")) == seen[1]
    assert report.kept is not None
    assert (report.kept.step, report.kept.stopped_early) == (6, True)


@pytest.mark.long
@pytest.mark.parametrize("save", [pytest.param("no", marks=pytest.mark.slow), "steps"])
def test_a_run_that_a_callback_ended_is_finished_where_it_ended(
    divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    """Broken while it is evaluated: the resumed run trains no further, and has all that the end of it made."""
    options = {"averaging_decay": 0.9, "stopping": {"best": True}}
    plan = recipe(divided, options, num_train_epochs=4, save_strategy=save, save_steps=3)
    whole = finetune(plan, tmp_path / "whole", callbacks=[Stop(step=4)])
    with monkeypatch.context() as broken:
        broken.setattr(ASTTrainer, "predict", lambda *_, **__: pytest.fail("broken"))
        with pytest.raises(pytest.fail.Exception):
            finetune(plan, tmp_path / "out", callbacks=[Stop(step=4)])
    again = finetune(plan, tmp_path / "out", callbacks=[Stop], resume_from_checkpoint="auto")
    assert again.kept == whole.kept
    assert (again.results, again.epochs) == (whole.results, whole.epochs)
    weights = [digest(load_file(tmp_path / name / "model.safetensors")) for name in ("whole", "out")]
    assert weights[0] == weights[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
