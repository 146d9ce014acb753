"""Search for settings: what is tried, what is chosen, that test clips are not read, and how it ends."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from transformers import TrainerCallback, TrainingArguments

from ast_hf import ASTConfig, AstConfigError, ASTFeatureExtractor, ASTForAudioClassification, cli
from ast_hf.inputs.clips import ClipInputs
from ast_hf.metrics import metrics_for
from ast_hf.reports.search_results import Trial, needed_split
from ast_hf.training import (
    ASTTrainer,
    Recipe,
    RunStopped,
    StoppingOptions,
    find_learning_rate,
    load_audio_dataset,
    search,
)
from ast_hf.training.averaging import WeightAverage
from ast_hf.training.trials import HELD_OUT, Trials, changed
from training.runs import poison, recipe, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders whose test clips cannot be read."""
    root = tmp_path_factory.mktemp("clips")
    write_clips(root)
    for file in (root / "test").rglob("*.wav"):
        file.write_bytes(b"RIFF")
    return root


def short(clips: Path, options: dict[str, Any] | None = None, **training: Any) -> Recipe:
    return recipe(clips, {"averaging_decay": 0.9, **(options or {})}, **training)


@pytest.mark.long
def test_the_best_rate_is_chosen_on_held_out_clips(clips: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = find_learning_rate(short(clips), tmp_path, rates=[2e-3, 1e-7], tell=lines.append)
    assert result.options == {"training.learning_rate": 2e-3}
    assert result.recipe.training["learning_rate"] == 2e-3
    assert (result.held_out, result.clips, result.metric) == (HELD_OUT, 5, "accuracy")
    assert [trial.options["training.learning_rate"] for trial in result.trials] == [1e-7, 2e-3]
    assert [trial.steps for trial in result.trials] == [6, 6]  # never more than the recipe's
    losses = [trial.loss or math.nan for trial in result.trials]
    assert losses[0] > losses[1] > 0
    assert result.recipe.data.eval_splits is None
    assert "highest rate" in result.advice
    assert len(lines) == 3
    stored = json.loads((tmp_path / "find_lr.json").read_text())
    assert stored["options"] == result.options
    assert sorted(path.name for path in tmp_path.iterdir()) == ["find_lr.json", "find_lr.png"]
    again = find_learning_rate(short(clips), tmp_path, rates=[2e-3, 1e-7])
    assert [(trial.value, trial.loss) for trial in again.trials] == [
        (trial.value, trial.loss) for trial in result.trials
    ]


def test_the_best_rates_train_longer(monkeypatch: pytest.MonkeyPatch, clips: Path, tmp_path: Path) -> None:
    def train(trials: Trials, options: dict[str, Any], callbacks: Any = ()) -> Trial:
        rate, steps = options["training.learning_rate"], options["training.max_steps"]
        trials.done.append(Trial(options, steps, None if rate > 0.1 else rate * 100 // 1, 1 / rate, 0.0))
        return trials.done[-1]

    monkeypatch.setattr(Trials, "train", train)
    plan = short(clips, {"data": {"validation_fraction": 0.25}}, num_train_epochs=1000, warmup_steps=300)
    result = find_learning_rate(plan, tmp_path, rates=[0.001, 0.003, 0.01, 0.03, 1.0])
    tried = [(trial.options["training.learning_rate"], trial.steps) for trial in result.trials]
    first = [(rate, 300) for rate in (0.001, 0.003, 0.01, 0.03, 1.0)]
    assert tried == [*first, (0.003, 900), (0.01, 900), (0.03, 900)]  # of equal values the lower loss
    assert (result.options["training.learning_rate"], result.held_out) == (0.03, 0.0)


@pytest.mark.long
def test_a_rate_that_diverges_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, clips: Path, tmp_path: Path
) -> None:
    real = Trials._prepare

    def spoiled(trials: Trials, plan: Recipe) -> Any:
        run = real(trials, plan)
        if plan.training["learning_rate"] == 1.0:
            poison(run.trainer.model, 3, math.nan)
        return run

    monkeypatch.setattr(Trials, "_prepare", spoiled)
    result = find_learning_rate(short(clips), tmp_path, rates=[1e-3, 1.0])
    assert [trial.end for trial in result.trials] == ["complete", "diverged"]
    assert result.options == {"training.learning_rate": 1e-3}
    with pytest.raises(AstConfigError, match=r"E307.*learning_rate.*no finite loss"):
        find_learning_rate(short(clips), tmp_path, rates=[1.0])


@pytest.mark.long
def test_optuna_chooses_among_settings_of_a_recipe(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space: dict[str, Any] = {
        "training.learning_rate": (1e-6, 1e-2),
        "augmentation.audiomentations": [[], []],
        "sampling": ["shuffled"],
    }
    plan = short(clips, {"stopping": {"patience": 5}})
    results = [search(plan, tmp_path, trials=3, space=space) for _ in range(2)]
    result = results[0]
    assert result.trials[0].options == {
        "training.learning_rate": 2e-3,
        "augmentation.audiomentations": [],
        "sampling": "shuffled",
    }  # the recipe itself comes first
    assert [trial.options for trial in results[1].trials] == [trial.options for trial in result.trials]
    assert [trial.loss for trial in results[1].trials] == [trial.loss for trial in result.trials]
    best = max(result.trials, key=lambda trial: (trial.value, -(trial.loss or 0)))
    assert result.options == best.options
    assert result.recipe.stopping == plan.stopping
    assert json.loads((tmp_path / "search.json").read_text())["options"] == result.options


def test_a_search_ends_well_where_choices_contradict_each_other(clips: Path, tmp_path: Path) -> None:
    """And the recipe that it returns compares and keeps as the given one, which has no validation split."""
    pytest.importorskip("optuna")
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    plan = short(clips)
    plan.training.update(best, max_steps=1)
    space = {"model.config.hidden_size": [plan.model.config["hidden_size"], 25]}
    lines: list[str] = []
    result = search(plan, tmp_path, trials=5, space=space, tell=lines.append)
    assert {trial.end for trial in result.trials} == {"complete", "refused"}
    assert any("refused: " in line and "E302" in line for line in lines)
    assert result.recipe == plan
    with pytest.raises(AstConfigError, match="E302"):
        search(plan, tmp_path, trials=2, space={"model.config.hidden_size": [25]})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, r"space: has no options"),
    "clips": (
        {"data.validation_fraction": (0.1, 0.2)},
        r"space: data\.validation_fraction: changes the clips",
    ),
    "luck": ({"training.seed": [1, 2]}, r"space: training\.seed: is luck"),
    "misspelt": ({"training.learning_rat": (1e-5, 1e-3)}, r"learning_rat.*did you mean 'learning_rate'"),
    "misspelt section": ({"augmentaton.speed": [1.0]}, r"augmentaton.*did you mean 'augmentation'"),
    "an empty range": ({"training.learning_rate": (1e-3, 1e-3)}, r"is no range"),
    "a range from above": (
        {"training.learning_rate": (1e-3, 1e-5)},
        r"0\.001\.\.1e-05 is no range from a lower",
    ),
    "no choices": ({"sampling": []}, r"neither a range nor a list of choices"),
    "a number": ({"training.learning_rate": 1e-4}, r"0\.0001 is neither a range nor"),
    "no effect": ({"name": ["a", "b"]}, r"space: name: has no effect"),
    "a bad choice": ({"sampling": ["shuffled", "sorted"]}, r"space: sampling.*'sorted'"),
}


@pytest.mark.parametrize(("space", "message"), REFUSED.values(), ids=REFUSED)
def test_spaces_that_cannot_be_searched(
    clips: Path, tmp_path: Path, space: dict[str, Any], message: str
) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(AstConfigError, match=rf"E307.*{message}"):
        search(short(clips), tmp_path, space=space)


def test_a_signal_ends_a_search_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Trials._prepare
    folders: list[Path] = []

    class Interrupt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    def interrupted(trials: Trials, plan: Recipe) -> Any:
        run = real(trials, plan)
        folders.append(Path(run.trainer.args.output_dir))
        run.trainer.add_callback(Interrupt())
        return run

    monkeypatch.setattr(Trials, "_prepare", interrupted)
    with pytest.raises(RunStopped, match="during the search; nothing was saved"):
        find_learning_rate(short(clips), tmp_path / "out", rates=[1e-3, 2e-3])
    assert len(folders) == 3  # without and with held-out clips, and the first trial
    assert not list(folders[-1].glob("checkpoint-*"))
    assert not folders[0].parent.exists()
    assert not (tmp_path / "out").exists()
    file = tmp_path / "recipe.yaml"
    file.write_text(short(clips).to_yaml().replace("source: clips", f"source: {clips}"))
    words = [
        "finetune",
        str(file),
        "--output",
        str(tmp_path / "out"),
        "--find-lr",
        "--set",
        f"data.source={clips}",
    ]
    assert cli.main(words) == 130
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "during the search; nothing was saved; continue with: " in message
    assert message.endswith(f"--set data.source={clips}")


def test_command_line(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(short(clips, {"stopping": {"best": True}}).to_yaml())
    words = ["finetune", str(file), "--output", str(tmp_path / "out"), "--data", str(clips)]
    for extra, message in (
        (["--find-lr", "--search", "3"], "--find-lr: is set, and so is --search"),
        (["--space", "sampling=[shuffled]"], "--space: is set, and --search is not"),
        (["--find-lr", "--folds", "3"], "--folds: a search compares trials on one validation split"),
        (["--search", "3", "--space", "sampling"], "--space sampling: has no option or no values"),
    ):
        assert cli.main([*words, *extra]) == 65
        assert message in capsys.readouterr().err
    pytest.importorskip("optuna")
    assert cli.main([*words, "--search", "1", "--space", "training.learning_rate=1e-4..1e-2"]) == 0
    printed = capsys.readouterr().out
    assert "Compared on validation (5 clips, 20% of the training split, held out for the search)." in printed
    # the run stops early, so it needs the split that only the search held out
    changes = "--set data.validation_fraction=0.2 --set training.learning_rate=0.002"
    assert f"--output {tmp_path / 'out'} --data {clips} {changes}\n" in printed
    assert "logistic" not in printed


def test_a_split_that_only_the_search_had_is_for_recipes_that_stop_early() -> None:
    assert needed_split(Recipe(stopping=StoppingOptions(patience=3)), 0.2) == {
        "data.validation_fraction": 0.2
    }
    assert needed_split(Recipe(stopping=StoppingOptions(patience=3)), 0.0) == {}
    assert needed_split(Recipe(), 0.2) == {}


def test_changed_leaves_the_recipe_as_it_is(clips: Path) -> None:
    plan = short(clips)
    other = changed(plan, {"training.learning_rate": 1.0, "augmentation.speed": 1.5})
    assert (other.training["learning_rate"], other.augmentation.speed) == (1.0, 1.5)
    assert (plan.training["learning_rate"], plan.augmentation.speed) == (2e-3, 1.0)


# ---------------------------------------------------------------- transformers' hyperparameter_search


@pytest.mark.parametrize("save", ["no", "epoch"])
def test_transformers_own_search_trains_each_trial_from_the_start(
    clips: Path, tmp_path: Path, save: str
) -> None:
    """The average and the best weights of a trial are its own; trials with equal settings have equal results."""
    optuna = pytest.importorskip("optuna")
    split = load_audio_dataset(str(clips), check_files=False)["train"]
    extractor = ASTFeatureExtractor(num_mel_bins=TINY["num_mel_bins"], max_length=TINY["max_length"])
    inputs = ClipInputs(split, extractor)
    config = ASTConfig(**TINY, num_labels=2, problem_type="single_label_classification")
    trainer = ASTTrainer(
        model_init=lambda: ASTForAudioClassification(config),
        args=TrainingArguments(
            str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=8,
            use_cpu=True,
            report_to=[],
            save_strategy=save,
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
        ),
        train_dataset=inputs,
        eval_dataset=inputs,
        processing_class=extractor,
        compute_metrics=metrics_for("single_label_classification"),
        average=WeightAverage(0.9),
        stopping=StoppingOptions(patience=2),
    )
    seen: list[tuple[int, float]] = []

    class Note(TrainerCallback):
        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
        ) -> None:
            seen.append((state.global_step, metrics["eval_loss"]))

    trainer.add_callback(Note())
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [2e-3])},
        compute_objective=lambda metrics: metrics["eval_loss"],
        backend="optuna",
        n_trials=2,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    assert best.hyperparameters == {"learning_rate": 2e-3}
    half = len(seen) // 2
    assert half >= 2
    assert seen[:half] == seen[half:]
