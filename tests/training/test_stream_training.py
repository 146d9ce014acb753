"""Recipes on streams: clips of every pass, resuming bit for bit in any pass, errors and reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ast_hf import ASTFeatureExtractor, AstHfError, AstRunError, progress
from ast_hf.inputs.streams import Passes, RecentClips
from ast_hf.training import (
    ASTTrainer,
    Augmentation,
    Recipe,
    StreamedClipInputs,
    finetune,
    load_audio_dataset,
    measure_statistics,
    prepare,
)
from training.runs import VARIED, Stop, checkpoint_digest, digest, poison, recipe

STEPS = 8
STREAM = {"data": {"streaming": True}, "features": {"mean": -5.0, "std": 4.0}, "threads": 1}


def plan(source: Path, options: dict[str, Any] | None = None, **training: Any) -> Recipe:
    """Return a recipe of eight steps of 8 clips: two and two thirds passes over 24 clips."""
    return recipe(
        source, {**STREAM, **(options or {})}, **{"max_steps": STEPS, "save_steps": STEPS, **training}
    )


def watch_rows(trainer: ASTTrainer) -> list[int]:
    """Record the rows of the training batches, in order."""
    seen = []
    compute = trainer.compute_loss

    def watched(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.training:
            seen.extend(inputs["row"].tolist())
        return compute(model, inputs, *args, **kwargs)

    trainer.compute_loss = watched
    return seen


# ---------------------------------------------------------------- pass after pass


def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-5.0, std=4.0)


def stream(source: Path, **options: Any) -> StreamedClipInputs:
    split = load_audio_dataset(source, streaming=True)["train"]
    return StreamedClipInputs(split, extractor(), augmentation=Augmentation(gain_db=6.0), **options)


def take(passes: Passes, count: int) -> list[dict[str, Any]]:
    items = iter(passes)
    return [next(items) for _ in range(count)]


def test_each_pass_is_an_epoch_of_the_stream(clips: Path) -> None:
    items = take(Passes(stream(clips, seed=3), 5), 60)
    single = stream(clips, seed=3)
    for epoch in range(2):
        single.set_epoch(epoch)
        for item_of_pass, alone in zip(items[24 * epoch :], single, strict=False):
            assert item_of_pass["row"] == alone["row"]
            assert np.array_equal(item_of_pass["input_values"], alone["input_values"])
    orders = [[int(item["row"]) for item in items[start : start + 24]] for start in (0, 24)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(24))


def test_skipped_clips_keep_their_place_and_are_not_decoded(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unskipped = take(Passes(stream(clips), 5), 40)
    decoded = []
    waveform = RecentClips.waveform
    monkeypatch.setattr(
        RecentClips, "waveform", lambda source, clip: decoded.append(clip) or waveform(source, clip)
    )
    skipping = take(Passes(stream(clips), 5, skipped=6), 40)
    assert len(decoded) == 10
    assert [list(item) for item in skipping[:30]] == [["row"]] * 30
    for resumed, other in zip(skipping, unskipped, strict=True):
        assert all(np.array_equal(value, other[name]) for name, value in resumed.items())


def test_a_reader_without_clips_is_refused(clips: Path) -> None:
    with pytest.raises(AstHfError, match=r"E209.*fewer workers"):
        take(Passes(stream(clips, rank=30, world_size=31), 5), 1)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("workers", [0, 2])
def test_every_clip_once_in_a_pass(clips: Path, tmp_path: Path, workers: int) -> None:
    trainer = prepare(plan(clips, dataloader_num_workers=workers, max_steps=6), tmp_path).trainer
    rows = watch_rows(trainer)
    trainer.train()
    assert len(rows) == trainer.clips_trained == 48
    if not workers:  # each of two workers starts its second pass on its own
        assert sorted(rows[:24]) == sorted(rows[24:]) == list(range(24))
    assert sorted(rows) == sorted([*range(24), *range(24)])


RESUMED: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "in the first pass": ({}, {}, 2),
    "in a later pass": ({}, {}, 5),
    "with workers": ({}, {"dataloader_num_workers": 2}, 5),
    "with accumulated gradients": (
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
        5,
    ),
}


@pytest.mark.parametrize(("options", "training", "step"), RESUMED.values(), ids=RESUMED)
def test_resumed_run_equals_an_unbroken_one(
    clips: Path, tmp_path: Path, options: dict[str, Any], training: dict[str, Any], step: int
) -> None:
    varied = plan(
        clips,
        {**VARIED, "patchout": {"time": 2}, **options},
        save_steps=step,
        save_total_limit=None,
        **training,
    )
    unbroken = prepare(varied, tmp_path / "unbroken").trainer
    rows = watch_rows(unbroken)
    unbroken.train()
    broken = prepare(varied, tmp_path / "broken").trainer
    broken.add_callback(Stop(step=step))
    broken.train()
    resumed = prepare(varied, tmp_path / "broken").trainer
    later = watch_rows(resumed)
    resumed.train(resume_from_checkpoint="auto")
    assert later == rows[8 * step :]
    skipped = resumed.get_train_dataloader().dataset.skipped  # clips that are not decoded again
    assert skipped == step * resumed.args.gradient_accumulation_steps
    assert digest(resumed.model.state_dict()) == digest(unbroken.model.state_dict())
    ends = [checkpoint_digest(tmp_path / name / f"checkpoint-{STEPS}") for name in ("unbroken", "broken")]
    assert ends[0] == ends[1] != checkpoint_digest(tmp_path / "unbroken" / f"checkpoint-{step}")
    logs = [
        [(entry["step"], entry["epoch"]) for entry in trainer.state.log_history if "loss" in entry]
        for trainer in (unbroken, resumed)
    ]
    assert logs[0] == logs[1]


def test_a_broken_loss_names_the_clips(clips: Path, tmp_path: Path) -> None:
    trainer = prepare(plan(clips), tmp_path).trainer
    rows = watch_rows(trainer)
    poison(trainer.model, 2, float("nan"))
    with pytest.raises(AstRunError, match=r"E501.*step 2: loss is nan on the clips") as caught:
        trainer.train()
    assert f"the clips {[row + 1 for row in rows[8:16]]}" in str(caught.value)


# ---------------------------------------------------------------- report


def test_report_of_a_stream_is_that_of_stored_clips(clips: Path, tmp_path: Path) -> None:
    """Evaluation keeps the order and every clip: the same weights get the same metrics from both."""
    report = finetune(plan(clips, eval_strategy="no"), tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (stored["epochs"], stored["training_clips"], stored["clips"]) == (None, 64, {"test": 8})
    assert (stored["baseline"], stored["chance"], stored["watched"]) == ({}, {}, {})
    assert stored["clips_per_second"] == pytest.approx(64 / stored["seconds"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "\n64 clips of a stream, " in card
    assert re.search(r"^\| AST \|", card, re.MULTILINE)
    run = prepare(recipe(clips, {"features": {"mean": -5.0, "std": 4.0}}), tmp_path / "stored")
    run.trainer.model.load_state_dict(report_model(tmp_path / "out"))
    values = run.trainer.evaluate(run.evaluation["test"])
    assert report.results["test"]["accuracy"] == values["eval_accuracy"]
    assert report.results["test"]["loss"] == pytest.approx(values["eval_loss"], rel=1e-5)


def report_model(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_validation_stream_is_watched(clips: Path, tmp_path: Path) -> None:
    lines = ["path,label,split"]
    for split, part in (("train", "train"), ("test", "validation")):
        lines += [f"{file},{file.parent.name},{part}" for file in sorted(clips.glob(f"{split}/*/*.wav"))]
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    training: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4, "dataloader_num_workers": 1}
    report = finetune(plan(tmp_path / "clips.csv", **training), tmp_path / "out")
    assert report.clips == {"validation": 8}
    assert list(report.watched) == ["validation"]
    assert len(report.watched["validation"].values) == 2
    assert report.watched["validation"].values[-1] == report.results["validation"]["accuracy"]


# ---------------------------------------------------------------- mean and standard deviation


def test_statistics_of_some_clips(clips: Path, tmp_path: Path) -> None:
    """Uses the first clips of the first pass: the same in each process, independent of its part."""
    unmeasured = {"features": {"statistics_clips": 7}}
    measured = prepare(plan(clips, unmeasured), tmp_path).trainer.processing_class
    inputs = stream(clips, seed=42)
    first = [next(items) for items in [inputs.waveforms()] for _ in range(7)]
    frames = [
        extractor()(w, 16_000, padding=False, truncation=True, do_normalize=False)["input_values"][0]
        for w in first
    ]
    values = np.concatenate(frames)
    assert (measured.mean, measured.std) == pytest.approx((values.mean(), values.std()), rel=1e-5)
    everything = measure_statistics(stream(clips, seed=42))
    assert measured.mean != pytest.approx(everything[0], rel=1e-5)


def test_the_bar_of_the_statistics_can_be_turned_off(
    clips: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_shows_bars", lambda file: True)  # as on a terminal
    for quiet in (True, False):
        prepare(recipe(clips, disable_tqdm=quiet), tmp_path)
        assert ("measuring mean and std" in capsys.readouterr().err) is not quiet


# ---------------------------------------------------------------- refusals


REFUSED = {
    "no steps": ({}, {"max_steps": -1}, "training.max_steps"),
    "balanced": ({"sampling": "balanced"}, {}, "sampling"),
    "held out": ({"data": {"streaming": True, "validation_fraction": 0.2}}, {}, "data.validation_fraction"),
    "not measured": ({"features": {"mean": -5.0}}, {}, "features.mean, features.std"),
    "an epoch's average": ({"averaging_epochs": [1, 2]}, {}, "averaging_epochs"),
    "a ramp of epochs": ({"patchout": {"time": 1, "ramp_epochs": 2}}, {}, "patchout.ramp_epochs"),
    "dealt out twice": (
        {},
        {"accelerator_config": {"dispatch_batches": True}},
        "training.accelerator_config",
    ),
    "saved by epoch": ({}, {"save_strategy": "epoch"}, "training.save_strategy"),
    "logged by epoch": ({}, {"logging_strategy": "epoch"}, "training.logging_strategy"),
    "evaluated by epoch": ({}, {"eval_strategy": "epoch"}, "training.eval_strategy"),
}


@pytest.mark.parametrize(("options", "training", "option"), REFUSED.values(), ids=REFUSED)
def test_options_unsupported_by_streams_are_refused(options: dict, training: dict, option: str) -> None:
    """Raised before the source is opened: it does not exist."""
    with pytest.raises(AstHfError, match=rf"E307\] recipe: {re.escape(option)}"):
        plan(Path("no/such/folder"), options, **training)


def test_milestones_do_not_fit_a_stream() -> None:
    with pytest.raises(AstHfError, match=r"E307.*milestones"):
        plan(Path("no/such/folder"), {"optimization": {"milestones": [1]}})


def test_data_sets_that_are_always_streamed_are_checked(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("AST_HF_DATA", raising=False)
    with pytest.raises(AstHfError, match=r"E307\] 'audioset-full', a stream: training\.max_steps"):
        prepare(recipe(Path("audioset-full"), {"data": {"source": "audioset-full"}}), tmp_path)


def test_all_stored_clips_are_measured(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match=r"E307.*statistics_clips"):
        prepare(recipe(clips, {"features": {"statistics_clips": 5}}), tmp_path)


def test_streams_of_another_place_are_refused(clips: Path, tmp_path: Path) -> None:
    run = prepare(plan(clips), tmp_path)
    part = stream(clips, rank=1, world_size=2)
    arguments = {
        "model": run.trainer.model,
        "args": run.trainer.args,
        "processing_class": run.trainer.processing_class,
    }
    with pytest.raises(AstHfError, match=r"E108.*train_dataset.*reader 1 of 2"):
        ASTTrainer(**arguments, train_dataset=part)
    with pytest.raises(AstHfError, match=r"E108.*eval_dataset"):
        run.trainer.evaluate(part)
