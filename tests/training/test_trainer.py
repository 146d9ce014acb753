"""Training from start to end on tones and noise: learning, resuming bit for bit, stopping, averaging, and the files of
a run.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from matplotlib.image import imread
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTModel, pipeline
from transformers.audio_utils import mel_filter_bank, spectrogram

from ast_hf import AstConfigError, ASTForAudioClassification, AstHfError, AstRunError
from ast_hf.evaluation.baseline import baseline_accuracy
from ast_hf.files import plain_values
from ast_hf.inputs.collation import collate
from ast_hf.inputs.sampling import EpochSampler
from ast_hf.reports.model_card import write_card
from ast_hf.training import Report, finetune, finish, load_recipe, measure_statistics, prepare
from ast_hf.training.checkpoints.sealing import MANIFEST
from training.runs import SIZES, VARIED, Stop, checkpoint_digest, digest, flat, poison, recipe, sound


class FirstStep(TrainerCallback):
    """Callback that records digests of model and optimizer before the first step."""

    seen: dict[str, dict[str, str]] | None = None

    def on_step_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        if self.seen is None:
            optimizer = getattr(optimizer, "optimizer", optimizer)
            self.seen = {
                "weights": digest(model.state_dict()),
                "optimizer": digest(flat(optimizer.state_dict())),
            }


# ---------------------------------------------------------------- one run and its folder


def top(classifier: Any, file: Path) -> str:
    return classifier(str(file))[0]["label"]


def accuracy(folder: Path, files: list[Path]) -> float:
    classifier = pipeline("audio-classification", model=str(folder))
    return float(np.mean([top(classifier, file) == file.parent.name for file in files]))


def test_training_learns_to_classify(trained: Report, clips: Path) -> None:
    assert accuracy(trained.folder, sorted(clips.glob("train/*/*.wav"))) >= 0.9


def test_loss_falls(trained: Report) -> None:
    history = json.loads((max(trained.folder.glob("checkpoint-*")) / "trainer_state.json").read_text())[
        "log_history"
    ]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0] / 2


def test_reported_accuracy_is_that_of_the_saved_folder(trained: Report, clips: Path) -> None:
    stored = json.loads((trained.folder / "results.json").read_text())
    assert stored["metric"] == "accuracy"
    assert list(stored["results"]) == ["test"]
    assert stored["results"]["test"]["accuracy"] == accuracy(
        trained.folder, sorted(clips.glob("test/*/*.wav"))
    )


def test_the_finished_folder_has_every_file(trained: Report) -> None:
    names = {path.name for path in trained.folder.iterdir() if path.is_file()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "curves.png",
        "results.json",
        "recipe.yaml",
        "training_args.json",
    }
    assert not list(trained.folder.rglob("training_args.bin"))
    assert len(list(trained.folder.glob("checkpoint-*"))) == 2


def test_results_file_equals_the_report(trained: Report) -> None:
    stored = json.loads((trained.folder / "results.json").read_text())
    assert stored["results"] == plain_values(trained.results)
    assert stored["results"]["test"]["d_prime"] is None  # infinite, since no answer is wrong
    assert stored["baseline"] == trained.baseline == {"test": 1.0}
    assert (stored["clips"], stored["training_clips"]) == ({"test": 8}, 24)
    assert (stored["epochs"], stored["chance"]) == (12.0, {"test": 0.5})
    assert stored["parameters"] == sum(
        value.numel() for value in load_file(trained.folder / "model.safetensors").values()
    )


def test_recipe_file_reads_back_equal(trained: Report) -> None:
    read = load_recipe(trained.folder / "recipe.yaml")
    source = Path(str(trained.recipe.data.source))
    assert read.data.source == source.name  # only the last part of an absolute path is stored
    assert replace(read, data=replace(read.data, source=str(source))) == trained.recipe


def test_curves_are_a_picture(trained: Report) -> None:
    picture = imread(trained.folder / "curves.png")
    assert picture.shape[0] >= 300
    assert picture.shape[1] >= 600
    assert 0.01 < (picture[..., :3].min(axis=-1) < 0.9).mean() < 0.9  # neither blank nor black


def test_saved_files_agree_with_each_other(trained: Report) -> None:
    config, features = (
        json.loads((trained.folder / name).read_text())
        for name in ("config.json", "preprocessor_config.json")
    )
    assert config["id2label"] == {"0": "noise", "1": "tone"}
    assert config["problem_type"] == "single_label_classification"
    assert (features["max_length"], features["num_mel_bins"]) == (
        config["max_length"],
        config["num_mel_bins"],
    )
    assert (features["mean"], features["std"]) == (trained.extractor.mean, trained.extractor.std)


def test_no_file_holds_the_token(clips: Path, tmp_path: Path) -> None:
    finetune(recipe(clips, num_train_epochs=1, hub_token="hf_secretsecret"), tmp_path / "out")
    leaks = [
        str(path)
        for path in tmp_path.rglob("*")
        if path.is_file() and b"hf_secretsecret" in path.read_bytes()
    ]
    assert leaks == []


def test_no_split_to_evaluate_on(clips: Path, tmp_path: Path) -> None:
    report = finetune(recipe(clips / "train", num_train_epochs=1), tmp_path / "out")
    assert report.results == {}
    assert (tmp_path / "out" / "README.md").is_file()


def test_held_out_clips_are_evaluated_but_not_trained_on(clips: Path, tmp_path: Path) -> None:
    options = {"data": {"validation_fraction": 0.25}}
    run = prepare(recipe(clips / "train", options), tmp_path / "out")
    trained_on, held = (
        {row["audio"]["path"] for row in part.split} for part in (run.train, run.evaluation["validation"])
    )
    assert (len(trained_on), len(held), trained_on & held) == (18, 6, set())
    assert {row["audio"]["path"] for row in run.trainer.eval_dataset.split} == held


def test_held_out_clips_can_be_evaluated_next_to_other_splits(clips: Path, tmp_path: Path) -> None:
    options = {"data": {"validation_fraction": 0.25, "eval_splits": ["test", "validation"]}}
    run = prepare(recipe(clips, options), tmp_path)
    assert {name: len(inputs) for name, inputs in run.evaluation.items()} == {"test": 8, "validation": 6}


def table(file: Path, clips: Path, column: str, noise: list[str], tone: list[str], tones: int = 12) -> Path:
    """Write a CSV of 12 noises and these tones to train on, 4 of each to test on, and one more column."""
    lines = [f"path,label,split,{column}"]
    for split, counts in (("train", {"noise": 12, "tone": tones}), ("test", {"noise": 4, "tone": 4})):
        for kind, values in (("noise", noise), ("tone", tone)):
            for number in range(counts[kind]):
                path = clips / split / kind / f"{number}.wav"
                lines.append(f"{path},{kind},{split},{values[number % len(values)]}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("seed", range(3))
def test_a_class_of_one_group_does_not_vanish_from_training(clips: Path, tmp_path: Path, seed: int) -> None:
    """The class stays in training, or the run is refused."""
    source = table(tmp_path / "clips.csv", clips, "group", ["a", "b", "c", "d"], ["t"])
    options = {"data": {"validation_fraction": 0.34, "validation_group": "group"}}
    try:
        run = prepare(recipe(source, options, seed=seed), tmp_path / "out")
    except AstHfError as problem:
        assert "tone" in str(problem)  # noqa: PT017 (both outcomes are right)
    else:
        assert set(run.train.split["label"]) == {0, 1}


def test_most_frequent_class_on_the_card_is_scored_on_the_test_split(clips: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "clips.csv", clips, "note", ["x"], ["x"], tones=4)
    finetune(recipe(source, num_train_epochs=1), tmp_path / "out")
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    row = next(line for line in text.splitlines() if line.startswith("| always the most frequent class"))
    # noise, half of the test clips; 0.750 of the training clips
    assert row.strip("|").split("|")[1].strip() == "0.500"


def test_a_split_may_have_any_name(clips: Path, tmp_path: Path) -> None:
    names = ["train", "te$x_{$ | <b>"]
    source = table(tmp_path / "clips.csv", clips, "fold", names, names)
    report = finetune(
        recipe(source, {"data": {"split_column": "fold"}}, num_train_epochs=1), tmp_path / "out"
    )
    assert list(report.results) == ["te$x_{$ | <b>"]
    assert (tmp_path / "out" / "curves.png").is_file()


# ---------------------------------------------------------------- resuming

BY_STEP = {"save_strategy": "steps", "save_steps": 4}
#: variant -> (options of the recipe, training arguments, step of the stop, newest checkpoint)
RESUMED = {
    "after an epoch": ({}, {}, Stop(epoch=1), 3),
    "in the middle of an epoch": ({}, BY_STEP, Stop(step=4), 4),
    "with workers": (
        {"patchout": {"time": 2, "unstructured": 3, "ramp_epochs": 2}},
        {**BY_STEP, "dataloader_num_workers": 2},
        Stop(step=4),
        4,
    ),
    "with accumulated gradients": ({}, {"gradient_accumulation_steps": 2}, Stop(epoch=2), 4),
    "without averaging": ({"averaging_decay": None}, BY_STEP, Stop(step=4), 4),
    "with the original's recipe": (
        {
            "averaging_decay": None,
            "averaging_epochs": [1, 3],
            "optimization": {"optimizer": "adam", "milestones": [1, 2], "warmup": "staircase"},
            "sampling": "balanced",
            "augmentation": {"mixup_probability": 0.5, "noise": 0.1, "roll_frames": 5},
            "patchout": {"time": 2, "unstructured": 3, "ramp_epochs": 2},
        },
        {"save_strategy": "steps", "save_steps": 4, "warmup_steps": 2},
        Stop(step=4),
        4,
    ),
    "with factored positions": (
        {"model": {**VARIED["model"], "factored_positions": True}},  # type: ignore[dict-item]
        BY_STEP,
        Stop(step=4),
        4,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(("options", "training", "stop", "step"), RESUMED.values(), ids=RESUMED)
def test_resumed_run_equals_an_unbroken_one(
    clips: Path, tmp_path: Path, options: dict[str, Any], training: dict[str, Any], stop: Stop, step: int
) -> None:
    plan = recipe(clips, {**VARIED, **options}, num_train_epochs=3, save_total_limit=None, **training)
    unbroken = prepare(plan, tmp_path / "unbroken").trainer
    unbroken.train()
    broken = prepare(plan, tmp_path / "broken").trainer
    broken.add_callback(stop)
    broken.train()
    left = tmp_path / "broken" / f"checkpoint-{step}"
    assert broken.state.global_step == step < unbroken.state.global_step
    stored = checkpoint_digest(left)
    assert stored == checkpoint_digest(tmp_path / "unbroken" / left.name)

    resumed = prepare(plan, tmp_path / "broken").trainer
    first = FirstStep()
    resumed.add_callback(first)
    resumed.train(resume_from_checkpoint=str(left))
    assert first.seen == {name: stored[name] for name in ("weights", "optimizer")}

    last = f"checkpoint-{unbroken.state.global_step}"
    assert resumed.state.global_step == unbroken.state.global_step
    assert checkpoint_digest(tmp_path / "broken" / last) == checkpoint_digest(tmp_path / "unbroken" / last)
    assert digest(resumed.model.state_dict()) == digest(unbroken.model.state_dict())
    assert stored["weights"] != checkpoint_digest(tmp_path / "unbroken" / last)["weights"]


@pytest.mark.long
def test_finetune_resumes_from_the_newest_checkpoint(clips: Path, tmp_path: Path) -> None:
    plan = recipe(clips, VARIED)
    unbroken = finetune(plan, tmp_path / "whole")
    broken = prepare(plan, tmp_path / "broken").trainer
    broken.add_callback(Stop(epoch=1))
    broken.train()
    before = json.loads((tmp_path / "broken" / "checkpoint-3" / "effort.json").read_text(encoding="utf-8"))
    report = finetune(plan, tmp_path / "broken", resume_from_checkpoint=True)
    assert report.results == unbroken.results
    assert before["clips"] == 24
    assert report.seconds > before["seconds"] > 0  # of the complete run, not only of its last part
    assert report.clips_per_second * report.seconds == pytest.approx(48)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]


def test_unknown_training_time_is_left_out(clips: Path, tmp_path: Path) -> None:
    """Plain transformers stores no time in its checkpoints."""
    plan = recipe(clips)
    prepare(plan, tmp_path).trainer.train()
    (tmp_path / "checkpoint-3" / "effort.json").unlink()
    (tmp_path / "checkpoint-3" / MANIFEST).unlink()
    report = finetune(plan, tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert (report.seconds, report.clips_per_second) == (0.0, 0.0)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "24 clips, 2 epochs, on " in card
    assert "clips per second" not in card


def test_a_second_run_removes_the_outputs_of_the_first(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removes them even if the second run fails before it has results."""
    voice = tmp_path / "voice.wav"
    soundfile.write(voice, sound("tone", 1), 16_000)
    output = tmp_path / "out"
    training: dict[str, Any] = {"save_strategy": "no", "max_steps": 1}
    card = {"card": {"samples": [str(voice)], "data_sets": ["someone/clips"]}}
    finetune(recipe(clips, card, **training), output)
    (output / "samples" / "mine.wav").write_bytes(voice.read_bytes())
    assert {path.name for path in (output / "samples").iterdir()} == {"voice.wav", "mine.wav"}
    assert len(list(output.glob(".eval_results/*.yaml"))) == 1

    run = prepare(recipe(clips, **training), output, overwrite=True)
    run.trainer.train()
    monkeypatch.delattr(Trainer, "predict")
    monkeypatch.delattr(type(run.trainer), "predict", raising=False)
    with pytest.raises(AttributeError):
        finish(run)
    assert not [name for name in ("results.json", "README.md", "confusion.png") if (output / name).exists()]
    assert [path.name for path in (output / "samples").iterdir()] == ["mine.wav"]  # a file of the user
    assert not list(output.glob(".eval_results/*.yaml"))


@pytest.mark.long
def test_a_sample_inside_the_output_folder_is_kept(clips: Path, tmp_path: Path) -> None:
    place = tmp_path / "samples" / "voice.wav"
    place.parent.mkdir()
    soundfile.write(place, sound("tone", 1), 16_000)
    plan = recipe(clips, {"card": {"samples": [str(place)]}}, save_strategy="no", max_steps=1)
    for again in (False, True):
        finetune(plan, tmp_path, overwrite=again)
        assert place.is_file()


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "config.json"])
def test_a_folder_with_a_model_or_notes_is_not_overwritten(clips: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("three years of work")
    plan = recipe(clips, save_strategy="no", max_steps=1)
    with pytest.raises(AstConfigError, match=rf"E306.*holds {name}.*--overwrite"):
        finetune(plan, tmp_path)
    with pytest.raises(AstConfigError, match=rf"E306.*holds {name}.*--overwrite"):
        prepare(plan, tmp_path).trainer.train()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "three years of work"}
    finetune(plan, tmp_path, overwrite=True)
    assert (tmp_path / "results.json").is_file()


def test_an_invalid_results_file_is_replaced(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("my notes")
    finetune(recipe(clips, save_strategy="no", max_steps=1), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["metric"] == "accuracy"


def test_the_output_must_be_a_folder_outside_the_clips(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AstConfigError, match=r"E306.*file': is a file"):
        finetune(recipe(clips), tmp_path / "file")
    for place in (clips, clips / "model"):
        with pytest.raises(AstConfigError, match=r"E307.*output .*is in the folder of the clips"):
            finetune(recipe(clips), place)


def test_a_missing_sample_reports_the_base_of_relative_paths(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(
        AstHfError, match=r"E206.*card\.samples: .*paths are relative to the current directory"
    ):
        finetune(recipe(clips, {"card": {"samples": ["no/such.wav"]}}), tmp_path)


def test_resume_under_the_plain_trainer(clips: Path, tmp_path: Path) -> None:
    """Stock transformers leaves 98 % of an AST's parameters at random values here."""
    run = prepare(recipe(clips), tmp_path / "unused")

    def trainer(folder: str, *callbacks: TrainerCallback) -> Trainer:
        torch.manual_seed(5)
        arguments = TrainingArguments(
            str(tmp_path / folder),
            num_train_epochs=2,
            per_device_train_batch_size=8,
            learning_rate=2e-3,
            save_strategy="epoch",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        )

        def batch(items: list[dict]) -> dict:
            return {name: value for name, value in collate(items).items() if name != "row"}

        model = ASTForAudioClassification(run.trainer.model.config)
        parts = {"train_dataset": run.train, "data_collator": batch, "callbacks": list(callbacks)}
        return Trainer(model=model, args=arguments, **parts)

    trainer("whole").train()
    trainer("broken", Stop(epoch=1)).train()
    first = FirstStep()
    trainer("broken", first).train(resume_from_checkpoint=True)
    stored = checkpoint_digest(tmp_path / "broken" / "checkpoint-3")
    assert first.seen == stored
    assert stored == checkpoint_digest(tmp_path / "whole" / "checkpoint-3")
    last = [checkpoint_digest(tmp_path / name / "checkpoint-6") for name in ("whole", "broken")]
    assert last[0] == last[1] != stored


def test_resume_with_averaging_needs_the_average(clips: Path, tmp_path: Path) -> None:
    prepare(recipe(clips, num_train_epochs=1), tmp_path).trainer.train()
    run = prepare(recipe(clips, {"averaging_decay": 0.9}), tmp_path)
    with pytest.raises(AstConfigError, match=r"E306.*checkpoint-3.*average\.safetensors"):
        run.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_best_model_is_loaded_at_the_end(clips: Path, tmp_path: Path) -> None:
    """The highest loss counts as the best; it comes first, so the last weights are not the best."""
    options = {"data": {"validation_fraction": 0.25}}
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    plan = recipe(clips, options, num_train_epochs=3, greater_is_better=True, save_total_limit=None, **best)
    trainer = prepare(plan, tmp_path).trainer
    trainer.train()
    losses = {
        entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry
    }
    step = max(losses, key=lambda number: losses[number])
    assert step < max(losses)
    assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{step}"
    weights = {
        number: digest(load_file(tmp_path / f"checkpoint-{number}" / "model.safetensors"))
        for number in losses
    }
    assert digest(trainer.model.state_dict()) == weights[step] != weights[max(losses)]


# ---------------------------------------------------------------- a loss that is not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_broken_loss_stops_the_run(clips: Path, tmp_path: Path, value: float, strategy: str) -> None:
    plan = recipe(
        clips, VARIED, num_train_epochs=3, save_strategy=strategy, save_steps=1, save_total_limit=None, seed=7
    )
    run = prepare(plan, tmp_path)
    poison(run.trainer.model, 5, value)
    sampler = EpochSampler(24, 7)
    sampler.set_epoch(1)
    rows = [key % 24 + 1 for key in sampler][8:16]  # the second batch of the second epoch, counted from 1
    with pytest.raises(AstRunError, match=r"E501.*step 5") as caught:
        run.trainer.train()
    assert str(rows) in str(caught.value)
    steps = sorted(int(folder.name.split("-")[1]) for folder in tmp_path.glob("checkpoint-*"))
    assert steps == ([3] if strategy == "epoch" else [1, 2, 3, 4])
    assert not (tmp_path / "model.safetensors").exists()
    for folder in tmp_path.glob("checkpoint-*"):
        for file in ("model.safetensors", "average.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load_file(folder / file).values())


def test_broken_gradient_is_never_saved(clips: Path, tmp_path: Path) -> None:
    """A finite loss may have an infinite gradient; after the last step no later loss would show it."""
    plan = recipe(clips)
    run = prepare(plan, tmp_path)
    calls: list[int] = []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * (float("nan") if len(calls) == 6 else 1.0)

    run.trainer.model.classifier.dense.weight.register_hook(spoil)
    try:
        run.trainer.train()
        finish(run)
    except AstHfError as stopped:
        assert stopped.code == "E501"  # noqa: PT017 (both a clean stop and a clean result are right)
    for file in tmp_path.rglob("model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file


# ---------------------------------------------------------------- averaging


def loss_of(model: nn.Module, inputs: Any) -> float:
    model.eval()
    batch = collate([inputs[clip] for clip in range(len(inputs))])
    with torch.no_grad():
        return model(batch["input_values"], labels=batch["labels"]).loss.item()


def test_the_average_is_evaluated_and_training_keeps_its_own_weights(clips: Path, tmp_path: Path) -> None:
    options = {"averaging_decay": 0.9, "data": {"validation_fraction": 0.25}}
    watched = prepare(recipe(clips, options, eval_strategy="epoch"), tmp_path / "watched").trainer
    unwatched = prepare(recipe(clips, options), tmp_path / "unwatched").trainer
    watched.train()
    unwatched.train()
    folder = max((tmp_path / "watched").glob("checkpoint-*"))
    assert checkpoint_digest(folder) == checkpoint_digest(tmp_path / "unwatched" / folder.name)

    last_model = ASTForAudioClassification.from_pretrained(folder)
    average = ASTForAudioClassification.from_pretrained(folder)
    average.load_state_dict(load_file(folder / "average.safetensors"))
    logged = [entry["eval_loss"] for entry in watched.state.log_history if "eval_loss" in entry][-1]
    assert logged == pytest.approx(loss_of(average, watched.eval_dataset), abs=1e-5)
    assert logged != pytest.approx(loss_of(last_model, watched.eval_dataset), abs=1e-4)


def test_finished_folder_holds_the_average(trained: Report) -> None:
    folder = max(trained.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    saved = digest(load_file(trained.folder / "model.safetensors"))
    assert saved == digest(load_file(folder / "average.safetensors"))
    assert saved != digest(load_file(folder / "model.safetensors"))


# ---------------------------------------------------------------- preparation


def test_weight_decay_applies_to_matrix_weights_only(clips: Path, tmp_path: Path) -> None:
    trainer = prepare(recipe(clips, weight_decay=0.05), tmp_path).trainer
    names = {id(value): name for name, value in trainer.model.named_parameters()}
    groups: dict[float, set[str]] = {}
    for group in trainer.create_optimizer().param_groups:
        groups.setdefault(group["weight_decay"], set()).update(names[id(value)] for value in group["params"])
    products = {
        f"{name}.weight"
        for name, part in trainer.model.named_modules()
        if isinstance(part, (nn.Linear, nn.Conv2d))
    }
    assert groups == {0.05: products, 0.0: set(names.values()) - products}
    assert len(products) == 2 * 6 + 2


def numpy_log_mel(samples: np.ndarray) -> np.ndarray:
    """Return transformers' own log-mel in numpy, `(frames, 32)`."""
    filters = mel_filter_bank(
        257, 32, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return spectrogram(
        samples.astype(np.float64) * 2.0**15,
        np.hanning(400),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07 * 2.0**30,
        remove_dc_offset=True,
    ).T - 30 * np.log(2)


def test_mean_and_std_ignore_padding(clips: Path, tmp_path: Path) -> None:
    files = sorted(clips.glob("train/*/*.wav"))
    varied = {"augmentation": {"gain_db": 20.0, "time_masks": 2, "time_mask_width": 30}}
    run = prepare(recipe(clips, varied), tmp_path)
    values = np.concatenate([numpy_log_mel(soundfile.read(file)[0])[:64].ravel() for file in files])
    extractor = run.trainer.processing_class
    assert extractor.mean == pytest.approx(values.mean(), abs=2e-3)
    assert extractor.std == pytest.approx(values.std(), abs=2e-3)


@pytest.mark.parametrize("statistics", [{"mean": -4.0, "std": 3.0}, {"mean": -4.0}, {"std": 3.0}], ids=str)
def test_given_statistics_are_used(clips: Path, tmp_path: Path, statistics: dict) -> None:
    run = prepare(recipe(clips, {"features": statistics}), tmp_path)
    measured = dict(zip(("mean", "std"), measure_statistics(run.train), strict=True))
    extractor = run.trainer.processing_class
    assert {"mean": extractor.mean, "std": extractor.std} == {**measured, **statistics}


def test_silence_has_no_statistics(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / "clips" / kind).mkdir(parents=True)
        soundfile.write(tmp_path / "clips" / kind / "1.wav", np.zeros(8000), 16_000)
    with pytest.raises(AstHfError, match="silent") as caught, pytest.warns(UserWarning, match="no signal"):
        prepare(recipe(tmp_path / "clips"), tmp_path / "out")
    assert caught.value.code == "E209"


def test_baseline_separates_what_is_separable(clips: Path, tmp_path: Path) -> None:
    run = prepare(recipe(clips), tmp_path)
    assert baseline_accuracy(run.train, run.evaluation) == {"test": 1.0}


#: mistake -> (sections of the recipe, training arguments, part of the message)
REFUSED = {
    "no source": ({"data": {"source": ""}}, {}, "data.source"),
    "split misspelt": ({"data": {"eval_splits": ["tset"]}}, {}, "did you mean 'test'"),
    "train split misspelt": ({"data": {"train_split": "trian"}}, {}, "did you mean 'train'"),
    "unknown group": ({"data": {"validation_fraction": 0.2, "validation_group": "speakr"}}, {}, "speakr"),
    "model field misspelt": ({"model": {"config": {"hiden_size": 24}}}, {}, "did you mean 'hidden_size'"),
    "base is not there": ({"model": {"config": {}, "base": "./no/such/folder"}}, {}, "no/such/folder"),
    "output folder in the recipe": ({}, {"output_dir": "elsewhere"}, "output_dir"),
    "no workers to stay": ({}, {"dataloader_persistent_workers": True}, "dataloader_persistent_workers"),
    "argument of the wrong type": ({}, {"learning_rate": "fast"}, "learning_rate"),
    "evaluation without validation": ({}, {"eval_strategy": "epoch"}, "validation"),
}


@pytest.mark.parametrize(("options", "training", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_runs_are_refused_before_training(
    clips: Path, tmp_path: Path, options: dict, training: dict, message: str
) -> None:
    with pytest.raises(AstHfError, match=re.escape(message)):
        prepare(recipe(clips, options, **training), tmp_path).trainer.train()


# ---------------------------------------------------------------- a base


@pytest.fixture(scope="session")
def pitches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return three classes of tones, with two training clips each. Read only."""
    root = tmp_path_factory.mktemp("pitches")
    for hertz in (300, 900, 2700):
        (root / f"{hertz} Hz").mkdir()
        for number in range(2):
            samples = 0.3 * np.sin(2 * np.pi * hertz * np.arange(8000 + number) / 16_000)
            soundfile.write(root / f"{hertz} Hz" / f"{number}.wav", samples, 16_000)
    return root


def test_starts_from_a_base(trained: Report, pitches: Path, tmp_path: Path) -> None:
    options = {"model": {"base": str(trained.folder), "config": {}}}
    with pytest.warns(UserWarning, match=r"W303.*3 labels"):
        run = prepare(recipe(pitches, options), tmp_path)
    model = run.trainer.model
    base, trained_digests = (
        digest(load_file(trained.folder / "model.safetensors")),
        digest(model.state_dict()),
    )
    assert {name for name in base if base[name] != trained_digests[name]} <= {
        "classifier.dense.weight",
        "classifier.dense.bias",
    }
    assert model.config.id2label == {0: "2700 Hz", 1: "300 Hz", 2: "900 Hz"}
    assert (model.config.num_labels, model.classifier.dense.out_features) == (3, 3)
    assert run.trainer.processing_class.max_length == 64
    report = finetune(recipe(pitches, options), tmp_path)
    assert report.recipe.model.base == str(trained.folder)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model is None  # the Hub accepts no folders
    assert f"from `{trained.folder.name}`" in card.text


def test_a_base_in_half_precision_trains_in_full(trained: Report, clips: Path, tmp_path: Path) -> None:
    """bfloat16 weights lose small steps, and float32 features with them raised an error of torch."""
    half = shutil.copytree(trained.folder, tmp_path / "half", ignore=shutil.ignore_patterns("checkpoint-*"))
    ASTForAudioClassification.from_pretrained(trained.folder, dtype=torch.bfloat16).save_pretrained(half)
    report = finetune(recipe(clips, {"model": {"base": str(half), "config": {}}}), tmp_path / "out")
    assert {value.dtype for value in load_file(report.folder / "model.safetensors").values()} == {
        torch.float32
    }
    assert json.loads((report.folder / "config.json").read_text())["dtype"] == "float32"


def test_base_and_sampling_rate_contradict(trained: Report, pitches: Path, tmp_path: Path) -> None:
    options = {"model": {"config": {}, "base": str(trained.folder)}, "features": {"sampling_rate": 8_000}}
    with pytest.raises(AstHfError, match=r"E307.*features\.sampling_rate.*8000 Hz"):
        prepare(recipe(pitches, options), tmp_path)


def test_base_and_config_contradict(trained: Report, pitches: Path, tmp_path: Path) -> None:
    options = {"model": {"base": str(trained.folder), "config": {"hidden_size": 24}}}
    with pytest.raises(AstConfigError, match=r"E307.*model\.config\.hidden_size.*brings its own.*max_length"):
        prepare(recipe(pitches, options), tmp_path)


def test_base_is_adapted_to_other_sizes(trained: Report, pitches: Path, tmp_path: Path) -> None:
    options = {"model": {"base": str(trained.folder), "config": {"max_length": 40, "time_stride": 12}}}
    with pytest.warns(UserWarning, match=r"W303.*3 labels"):
        run = prepare(recipe(pitches, options), tmp_path)
    assert run.trainer.model.config.patch_grid == (3, 3)
    assert run.trainer.processing_class.max_length == 40
    assert run.train[0]["input_values"].shape == (40, 32)
    table = run.trainer.model.base_model.embeddings.position_embeddings
    base_table = load_file(trained.folder / "model.safetensors")[
        "audio_spectrogram_transformer.embeddings.position_embeddings"
    ]
    assert torch.equal(table[:, :2], base_table[:, :2])
    assert torch.equal(table[:, 2:].unflatten(1, (3, 3)), base_table[:, 2:].unflatten(1, (3, 7))[:, :, 2:5])


def test_starts_from_an_image_transformer(clips: Path, tmp_path: Path) -> None:
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**small, image_size=64)).save_pretrained(tmp_path / "vit")
    sizes = {"max_length": 64, "num_mel_bins": 32, "hidden_dropout_prob": 0.1, "position_init": "nearest"}
    options = {"model": {"vit": str(tmp_path / "vit"), "config": sizes}}
    run = prepare(recipe(clips, options, num_train_epochs=1), tmp_path / "out")
    images = load_file(tmp_path / "vit" / "model.safetensors")
    state = run.trainer.model.base_model.state_dict()
    name = "encoder.layer.1.intermediate.dense.weight"
    assert torch.equal(state[name], images[name])
    assert (run.trainer.model.config.patch_grid, run.trainer.model.config.hidden_dropout_prob) == (
        (2, 5),
        0.1,
    )
    run.trainer.train()
    finish(run)
    assert "from the image transformer `vit`" in ModelCard.load(tmp_path / "out" / "README.md").text
    with pytest.raises(AstConfigError, match=r"E307.*model\.vit.*one of the two"):
        prepare(recipe(clips, {"model": {**options["model"], "base": "b", "config": {}}}), tmp_path)


def test_factored_positions_are_plain_in_the_finished_folder(clips: Path, tmp_path: Path) -> None:
    finetune(recipe(clips, {"model": {"factored_positions": True}}, num_train_epochs=1), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (name,) = [name for name in state if "position" in name]
    assert name.endswith(".embeddings.position_embeddings")
    patches = state[name][0, 2:].unflatten(0, (3, 7))
    crossed = patches[:1, :1] + patches - patches[:1] - patches[:, :1]  # zero for sums of a row and a column
    assert crossed.abs().max() < 1e-6
    assert not list(tmp_path.glob("position_factors*"))


# ---------------------------------------------------------------- labels of every kind, and the card

HOSTILE = ["a|b <script>alert(1)</script>", "two\nlines", "# [x](http://y) `z` *w* _v_", "---"]


@pytest.fixture(scope="session")
def tagged(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a multi-label JSONL with labels that have a meaning in Markdown, HTML or YAML. Read only."""
    lines = []
    for split, count in SIZES.items():
        for number in range(count):
            tags = {"noise": HOSTILE[:2], "tone": HOSTILE[2:]}
            for kind, labels in tags.items():
                file = str(clips / split / kind / f"{number}.wav")
                lines.append({"path": file, "labels": labels if number % 2 else labels[:1], "split": split})
    jsonl = tmp_path_factory.mktemp("tagged") / "clips.jsonl"
    jsonl.write_text("\n".join(map(json.dumps, lines)))
    return jsonl


@pytest.fixture(scope="session")
def tags(tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a finished multi-label run. Read only."""
    return finetune(recipe(tagged, {"name": "a|b <i>\n# c"}), tmp_path_factory.mktemp("tags"))


def test_multi_label_run(tags: Report) -> None:
    stored = json.loads((tags.folder / "results.json").read_text())
    assert stored["metric"] == "mAP"
    ranked = {"mAP", "mAP_classes", "mAUC", "mAUC_classes", "d_prime"}
    assert set(stored["results"]["test"]) == {*ranked, "ECE", "NLL", "loss"}
    assert 0.0 < stored["results"]["test"]["mAP"] <= 1.0
    assert 0.0 < stored["baseline"]["test"] <= 1.0
    assert stored["chance"] == {}
    config = json.loads((tags.folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert sorted(config["id2label"].values()) == sorted(HOSTILE)


def test_multi_label_result_is_that_of_the_saved_folder(tags: Report, tagged: Path) -> None:
    from sklearn.metrics import average_precision_score

    classifier = pipeline(
        "audio-classification", model=str(tags.folder), function_to_apply="sigmoid", top_k=None
    )
    rows = [row for row in map(json.loads, tagged.read_text().splitlines()) if row["split"] == "test"]
    scores = [{entry["label"]: entry["score"] for entry in classifier(row["path"])} for row in rows]
    expected = np.mean(
        [
            average_precision_score(
                [label in row["labels"] for row in rows], [score[label] for score in scores]
            )
            for label in HOSTILE
        ]
    )
    assert tags.results["test"]["mAP"] == pytest.approx(expected, abs=1e-6)


def test_problem_type_survives_soft_labels(clips: Path, tmp_path: Path) -> None:
    trainer = prepare(recipe(clips, VARIED, num_train_epochs=1), tmp_path).trainer
    trainer.train()
    assert trainer.model.config.problem_type == "single_label_classification"
    assert json.loads((tmp_path / "checkpoint-3" / "config.json").read_text())["problem_type"] == (
        "single_label_classification"
    )


@pytest.mark.parametrize("run", ["trained", "tags"])
def test_card_holds_the_results(run: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(run)
    card = ModelCard.load(report.folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "audio-classification")
    card_metrics = {
        (entry.dataset_split, entry.metric_type): entry.metric_value for entry in card.data.eval_results
    }
    finite = {name: value for name, value in report.results["test"].items() if math.isfinite(value)}
    assert card_metrics.keys() == {
        ("test", name) for name in finite if name != "loss" and not name.endswith("_classes")
    }
    for (split, name), value in card_metrics.items():
        assert value == pytest.approx(report.results[split][name], abs=5e-5)
    assert f"{report.results['test'][report.metric]:.3f}" in card.text


def test_card_table_has_the_baseline(trained: Report) -> None:
    text = ModelCard.load(trained.folder / "README.md").text
    parts = text.split("## Results")[1].strip().split("\n\n")
    table = next(part for part in parts if part.startswith("| accuracy"))  # after the verdict
    rows = dict(line.strip("| ").split(" | ") for line in table.splitlines() if not line.startswith("|---"))
    assert rows.pop("accuracy") == "test"
    assert list(rows.values()) == ["1.000", "1.000", "0.500"]
    assert [name.split()[0] for name in rows] == ["AST", "logistic", "always"]


def test_card_recipe_stays_inside_its_code_block(tags: Report) -> None:
    name = "x\n```\n<script>alert(1)</script>\n# hi"
    text = write_card(replace(tags, recipe=replace(tags.recipe, name=name)).to_dict(), "user/model").text
    fences = [line.strip() for line in text.splitlines() if re.match(r" {0,3}```", line)]
    assert fences[:4] == ["```python", "```"] * 2
    assert fences[4:] == ["````yaml", "```", "````", "```bibtex", "```"]


@pytest.mark.long
def test_the_recipe_on_the_card_trains_the_model_again(trained: Report, clips: Path, tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", ModelCard.load(trained.folder / "README.md").text, re.DOTALL)
    assert block is not None
    (tmp_path / "recipe.yaml").write_text(block[1], encoding="utf-8")
    report = finetune(load_recipe(tmp_path / "recipe.yaml", [f"data.source={clips}"]), tmp_path / "again")
    again, before = (load_file(folder / "model.safetensors") for folder in (report.folder, trained.folder))
    assert digest(again) == digest(before)


def test_emissions_of_an_earlier_run_are_not_counted(clips: Path, tmp_path: Path) -> None:
    """A resumed run continues its own file."""
    run = prepare(recipe(clips, save_strategy="steps", save_steps=2), tmp_path)
    run.trainer.add_callback(Stop(step=2))
    (tmp_path / "emissions.csv").write_text("an earlier run")
    run.trainer.train()
    assert not (tmp_path / "emissions.csv").exists()
    (tmp_path / "emissions.csv").write_text("the first part")
    prepare(recipe(clips, save_strategy="steps", save_steps=2), tmp_path).trainer.train(
        resume_from_checkpoint=True
    )
    assert (tmp_path / "emissions.csv").read_text() == "the first part"


def test_card_cannot_be_broken_by_a_name(tags: Report) -> None:
    text = ModelCard.load(tags.folder / "README.md").text
    prose = re.sub(r"```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"(?<!\\)<(?:script|/script|i>)", prose)
    assert not re.findall(r"(?<!\\)\[x\]", prose)
    assert [line for line in prose.splitlines() if line.startswith("# ")] == [r"# a\|b \<i\> \# c"]
    labels = prose.split("## Labels")[1].split("##")[0].strip()
    assert "\n" not in labels
    assert re.sub(r"\\(.)", r"\1", labels).startswith('"# [x](http://y)')
    assert "two lines" in labels
    assert not [line for line in prose.splitlines() if line.strip() == "---"]
    tables = [block.splitlines() for block in prose.split("\n\n") if block.startswith("|")]
    assert [{line.count("|") - line.count(r"\|") for line in table} for table in tables] == [{3}, {4}, {10}]


# ---------------------------------------------------------------- optimizer, learning rates, losses, patchout


def test_optimizer_and_learning_rates_of_the_recipe(clips: Path, tmp_path: Path) -> None:
    options = {"optimization": {"optimizer": "adam", "milestones": [1, 2], "milestone_factor": 0.1}}
    training = {"num_train_epochs": 3, "logging_steps": 1, "logging_strategy": "steps", "warmup_steps": 0}
    run = prepare(recipe(clips, options, **training), tmp_path)
    run.trainer.train()
    rates = [entry["learning_rate"] for entry in run.trainer.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([2e-3] * 3 + [2e-4] * 3 + [2e-5] * 3)
    assert type(getattr(run.trainer.optimizer, "optimizer", run.trainer.optimizer)) is torch.optim.Adam


def test_layer_decay_reaches_the_optimizer(clips: Path, tmp_path: Path) -> None:
    run = prepare(
        recipe(clips, {"optimization": {"layer_decay": 0.5}}, weight_decay=0.1, warmup_steps=0), tmp_path
    )
    optimizer = run.trainer.create_optimizer()
    assert type(optimizer) is torch.optim.AdamW
    assert {round(group["lr"], 7) for group in optimizer.param_groups} == {2e-3, 1e-3, 5e-4, 2.5e-4}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}


def test_linear_probe_does_not_change_the_backbone(clips: Path, tmp_path: Path) -> None:
    options = {"optimization": {"frozen": "backbone"}, "model": {"factored_positions": True}}
    run = prepare(recipe(clips, options), tmp_path)
    before = digest(run.trainer.model.state_dict())
    run.trainer.train()
    after = digest(run.trainer.model.state_dict())
    assert {name.split(".")[0] for name in before if before[name] != after[name]} == {"classifier"}


def test_binary_cross_entropy_for_single_labels(clips: Path, tmp_path: Path) -> None:
    run = prepare(recipe(clips, {"loss": "binary_cross_entropy"}), tmp_path)
    model = run.trainer.model.eval()
    item = run.train[0]
    logits = model(item["input_values"][None]).logits[0]
    target = torch.nn.functional.one_hot(item["labels"], 2).float()
    expected = (torch.log1p(logits.exp()) - logits * target).mean()
    loss = model(item["input_values"][None], labels=item["labels"][None]).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert model.config.problem_type == "single_label_classification"


def test_patchout_grows_and_is_for_training_only(clips: Path, tmp_path: Path) -> None:
    options = {"patchout": {"time": 4, "ramp_epochs": 2}}
    run = prepare(recipe(clips, options, num_train_epochs=3), tmp_path)
    tokens: list[int] = []
    layer = run.trainer.model.base_model.encoder.layer[0]
    layer.register_forward_pre_hook(lambda _, arguments: tokens.append(arguments[0].shape[1]))
    run.trainer.train()
    assert tokens == [23] * 3 + [23 - 3 * 2] * 3 + [23 - 3 * 4] * 3
    tokens.clear()
    finish(run)
    assert set(tokens) == {23}


def test_results_are_logged_to_the_trackers_of_the_run(clips: Path, tmp_path: Path) -> None:
    run = prepare(recipe(clips, num_train_epochs=1), tmp_path)
    run.trainer.train()
    report = finish(run)
    logged = run.trainer.state.log_history[-1]
    assert logged["eval_test_accuracy"] == report.results["test"]["accuracy"]
    assert logged["eval_test_loss"] == report.results["test"]["loss"]


def test_average_over_epochs_is_the_mean_of_their_ends(clips: Path, tmp_path: Path) -> None:
    plan = recipe(clips, {"averaging_epochs": [2, 3]}, num_train_epochs=3, save_total_limit=None)
    run = prepare(plan, tmp_path)
    run.trainer.train()
    ends = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (6, 9)]
    for name, tensor in run.trainer.model.state_dict().items():
        assert torch.allclose(tensor, (ends[0][name] + ends[1][name]) / 2, atol=1e-7), name


def test_a_validation_split_of_the_data_is_watched(clips: Path, tmp_path: Path) -> None:
    names = ["train", "validation"]
    source = table(tmp_path / "clips.csv", clips, "part", names, names)
    options = {"data": {"split_column": "part"}}
    run = prepare(recipe(source, options, eval_strategy="epoch", num_train_epochs=1), tmp_path / "out")
    watched = {row["audio"]["path"] for row in run.trainer.eval_dataset.split}
    assert len(watched) == 16
    assert watched.isdisjoint(row["audio"]["path"] for row in run.train.split)
    run.trainer.train()
    assert any("eval_accuracy" in entry for entry in run.trainer.state.log_history)


def test_only_training_clips_are_augmented(clips: Path, tmp_path: Path) -> None:
    """Evaluations during and after training get the same inputs in every epoch."""
    varied = {
        "gain_db": 6.0,
        "noise": 0.1,
        "mel_high_jitter_hz": 500.0,
        "mixup_probability": 1.0,
        "label_smoothing": 0.1,
    }
    options = {"augmentation": varied, "data": {"validation_fraction": 0.25}}
    run = prepare(recipe(clips, options), tmp_path)
    for inputs in (run.trainer.eval_dataset, *run.evaluation.values()):
        first, later = inputs[0], inputs[3 * len(inputs)]
        assert torch.equal(first["input_values"], later["input_values"])
        assert first["labels"].dtype == torch.int64
    first, later = run.train[0], run.train[3 * len(run.train)]
    assert not torch.equal(first["input_values"], later["input_values"])
    assert first["labels"].dtype == torch.float32
