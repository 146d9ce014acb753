"""Clips of mixed lengths without padding: batches of similar lengths, inputs of the model, and the same convention in
every later use of the checkpoint.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate.data_loader import BatchSamplerShard
from conftest import TINY, largest_gap, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler
from transformers import TrainingArguments, pipeline

from ast_hf import ASTConfig, AstConfigError, ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.data.audio_headers import read_header
from ast_hf.inputs.collation import Collator
from ast_hf.inputs.sampling import LengthGroupedSampler
from ast_hf.training import (
    Augmentation,
    ClipInputs,
    Report,
    evaluate_checkpoints,
    finish,
    load_audio_dataset,
    prepare,
)
from training.runs import VARIED, Stop, checkpoint_digest, recipe, sound

#: seconds of the clips of a class; the input of the model is 0.64 s. The first is 14 frames, less than one patch of 16.
SECONDS = (0.155, 0.2, 0.2, 0.25, 0.3, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 1.2)
FIXED = {"features": {"mean": -5.0, "std": 4.0}, "threads": 1}
GROUPED = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones, 0.155 to 1.2 s. Read only."""
    root = tmp_path_factory.mktemp("mixed")
    for split, step in (("train", 1), ("test", 3)):
        for kind in ("noise", "tone"):
            (root / split / kind).mkdir(parents=True)
            for number, seconds in enumerate(SECONDS[::step]):
                samples = np.tile(sound(kind, number + 50 * step), 5)[: int(16_000 * seconds)]
                soundfile.write(root / split / kind / f"{number:02}.wav", samples, 16_000)
    return root


def extractor(**fields: Any) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-5.0, std=4.0, **fields)


# ---------------------------------------------------------------- which clips share a step


@given(
    lengths=st.lists(st.integers(1, 1024), min_size=1, max_size=80),
    step=st.integers(1, 9),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
@settings(max_examples=15, deadline=None)
def test_every_clip_once_in_steps_of_neighbours(lengths: list[int], step: int, seed: int, epoch: int) -> None:
    sampler = LengthGroupedSampler(lengths, step, seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert sorted(keys) == [epoch * len(lengths) + clip for clip in range(len(lengths))]
    assert keys == list(sampler)
    drawn = np.array([lengths[key % len(lengths)] for key in keys])
    steps = drawn[: len(drawn) - len(drawn) % step].reshape(-1, step)
    spans = sorted((part.min(), part.max()) for part in steps)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))  # one pool: no overlap
    assert (np.diff(steps, axis=1) >= 0).all()


def test_pools_change_the_batches_between_epochs() -> None:
    """200 steps in four pools: the lengths of a step span more than in a full sort, and far less than unsorted."""
    lengths = np.random.default_rng(0).integers(1, 1025, size=1600)
    sampler = LengthGroupedSampler(lengths.tolist(), 8, 0)
    companies = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        steps = np.array(list(sampler)).reshape(-1, 8) % 1600
        spread = lengths[steps].max(axis=1) - lengths[steps].min(axis=1)
        assert 5 < spread.mean() < 40  # 1024 / 50 steps of a pool; unsorted, 7/9 of 1024
        # not ordered from short to long
        assert abs(np.corrcoef(np.arange(200), lengths[steps].mean(axis=1))[0, 1]) < 0.2
        companies.append({frozenset(step) for step in steps.tolist()})
    assert companies[0].isdisjoint(companies[1])


def test_ranks_get_batches_of_one_step() -> None:
    lengths = np.random.default_rng(1).integers(1, 1025, size=44).tolist()
    sampler = LengthGroupedSampler(lengths, 8, 3)
    batches = [list(BatchSamplerShard(BatchSampler(sampler, 4, False), 2, rank)) for rank in range(2)]
    steps = np.array(list(sampler)[:40]).reshape(-1, 8)
    for number, step in enumerate(steps.tolist()):
        assert [*batches[0][number], *batches[1][number]] == step


def test_frames_are_read_from_headers(mixed: Path) -> None:
    split = load_audio_dataset(mixed)["train"]
    inputs = ClipInputs(split, extractor(return_attention_mask=True))
    frames = [inputs.frames(clip) for clip in range(len(inputs))]
    assert inputs._cache is not None
    assert len(inputs._cache) == 0
    assert frames == [len(inputs[clip]["input_values"]) for clip in range(len(inputs))]
    assert frames[:12] == [14, 18, 18, 23, 28, 28, 38, 48, 58, 64, 64, 64]
    audio = {"bytes": Path(split[0]["audio"]["path"]).read_bytes(), "path": None}
    assert read_header(audio) == (16_000, 1, pytest.approx(0.155))


def test_frames_of_a_stretch_of_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(16_000) / 2, 44_100)
    lines = ["path,label,start,end", "a.wav,x,0.1,0.3", "a.wav,y,0.2,", "a.wav,x,,0.25", "a.wav,y,,"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    inputs = ClipInputs(load_audio_dataset(tmp_path / "x.csv")["train"], extractor())
    assert [inputs.frames(clip) for clip in range(4)] == [18, 14, 23, 34]


# ---------------------------------------------------------------- what the model gets


def test_batches_are_as_long_as_their_longest_clip(mixed: Path) -> None:
    split = load_audio_dataset(mixed)["train"]
    inputs = ClipInputs(split, extractor(return_attention_mask=True))
    padded = ClipInputs(split, extractor())
    collate = Collator(extractor(), 16)
    batch = collate([inputs[1], inputs[3]])
    assert batch["input_values"].shape == (2, 23, 32)
    assert batch["attention_mask"].sum(dim=1).tolist() == [18, 23]
    # the padding value does not change
    assert torch.equal(batch["input_values"][0], padded[1]["input_values"][:23])
    assert collate([inputs[0]])["input_values"].shape == (1, 16, 32)  # one patch at least
    assert "attention_mask" not in padded[1]
    assert collate([padded[0], padded[1]])["input_values"].shape == (2, 64, 32)


def test_logits_do_not_depend_on_the_rest_of_the_batch(mixed: Path) -> None:
    split = load_audio_dataset(mixed)["train"]
    inputs = ClipInputs(split, extractor(return_attention_mask=True))
    collate = Collator(extractor(), 16)
    model = randomise(ASTForAudioClassification(ASTConfig(**TINY, num_labels=2)))

    def logits(clips: list[int]) -> torch.Tensor:
        batch = collate([inputs[clip] for clip in clips])
        with torch.no_grad():
            return model(batch["input_values"], attention_mask=batch["attention_mask"]).logits

    together = logits(list(range(12)))
    assert largest_gap(together, torch.cat([logits([clip]) for clip in range(12)])) < 1e-4
    assert largest_gap(together[0], together[11]) > 1e-2


def test_augmented_clips_have_their_own_length(mixed: Path) -> None:
    """Time masks shrink with the clip: a mask of 64 frames would cover all 14 frames."""
    split = load_audio_dataset(mixed)["train"]
    options = Augmentation(mixup_probability=0.5, speed=1.2, roll_frames=3, time_masks=1, time_mask_width=32)
    inputs = ClipInputs(split, extractor(return_attention_mask=True), augmentation=options)
    lengths = [[len(inputs[epoch * 24 + clip]["input_values"]) for clip in range(24)] for epoch in range(2)]
    assert lengths[0] != lengths[1]
    assert max(map(max, lengths)) == 64
    masked = ClipInputs(
        split,
        extractor(return_attention_mask=True),
        augmentation=Augmentation(time_masks=1, time_mask_width=64),
    )
    hidden = [
        (masked[24 * epoch]["input_values"] == 5.0 / 8.0).all(dim=1).sum().item() for epoch in range(40)
    ]
    assert 0 < max(hidden) <= 14
    assert sum(count == 14 for count in hidden) <= 2
    assert np.mean(hidden) < 9


# ---------------------------------------------------------------- a run, and what becomes of it


@pytest.fixture(scope="module")
def grouped(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, list[tuple]]:
    """Return a finished run, and shape and rows of its training batches."""
    run_folder = tmp_path_factory.mktemp("grouped")
    run = prepare(recipe(mixed, FIXED, **GROUPED), run_folder)
    seen: list[tuple] = []
    compute = run.trainer.compute_loss

    def watched(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.training:
            seen.append((inputs["input_values"].shape[1], inputs["row"].tolist()))
        return compute(model, inputs, *args, **kwargs)

    run.trainer.compute_loss = watched
    run.trainer.train()
    return finish(run), seen


def test_batches_of_a_run(grouped: tuple) -> None:
    """Sorted by hand: 14 14 18 18 | 18 18 23 23 | 28 28 28 28 | 38 38 48 48 | 58 58 64 64 | 64 64 64 64."""
    for epoch in (grouped[1][:6], grouped[1][6:]):
        assert sorted(frames for frames, _ in epoch) == [18, 23, 28, 48, 64, 64]
        assert sorted(row for _, rows in epoch for row in rows) == list(range(24))
    assert [frames for frames, _ in grouped[1][:6]] != [18, 23, 28, 48, 64, 64]


def test_checkpoint_records_that_it_was_trained_without_padding(grouped: tuple) -> None:
    folder = grouped[0].folder
    assert json.loads((folder / "preprocessor_config.json").read_text())["return_attention_mask"] is True
    assert "padding" in (folder / "README.md").read_text()
    assert "attention_mask" not in (folder / "config.json").read_text()


def test_pipeline_and_evaluation_use_inputs_without_padding(
    grouped: tuple, mixed: Path, tmp_path: Path
) -> None:
    """Compares each clip alone, in the pipeline's padded input, and in the batches of an evaluation."""
    report = grouped[0]
    model = ASTForAudioClassification.from_pretrained(report.folder)
    inputs = ClipInputs(load_audio_dataset(mixed)["test"], ASTFeatureExtractor.from_pretrained(report.folder))
    collate = Collator(inputs.extractor, 16)
    classifier = pipeline("audio-classification", model=str(report.folder))
    right = []
    for clip in range(len(inputs)):
        batch = collate([inputs[clip]])
        with torch.no_grad():
            alone = model(batch["input_values"], attention_mask=batch["attention_mask"]).logits.softmax(-1)[0]
        answer = {entry["label"]: entry["score"] for entry in classifier(inputs.split[clip]["audio"]["path"])}
        assert [answer[model.config.id2label[index]] for index in range(2)] == pytest.approx(
            alone.tolist(), abs=1e-4
        )
        right.append(int(alone.argmax()) == inputs.split[clip]["label"])
    evaluation = evaluate_checkpoints([str(report.folder)], mixed, output_dir=tmp_path, batch_size=3)
    assert evaluation.outcomes[str(report.folder)].metrics["accuracy"] == pytest.approx(np.mean(right))
    assert report.results["test"]["accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize("training", [{}, {"dataloader_num_workers": 2}], ids=["", "workers"])
def test_resumed_run_equals_an_unbroken_one(mixed: Path, tmp_path: Path, training: dict) -> None:
    plan = recipe(mixed, {**VARIED, **FIXED}, **GROUPED, save_strategy="steps", save_steps=8, **training)
    unbroken = prepare(plan, tmp_path / "unbroken").trainer
    unbroken.train()
    broken = prepare(plan, tmp_path / "broken").trainer
    broken.add_callback(Stop(step=8))
    broken.train()
    prepare(plan, tmp_path / "broken").trainer.train(resume_from_checkpoint=True)
    last = [checkpoint_digest(tmp_path / name / "checkpoint-12") for name in ("unbroken", "broken")]
    assert last[0] == last[1]


REFUSED = {
    "another order": ({}, {"train_sampling_strategy": "sequential"}, "'sequential' is not a valid choice"),
    "balanced": ({"sampling": "balanced"}, GROUPED, "sampling is 'balanced'"),
    "columns left out": ({"patchout": {"time": 2}}, GROUPED, "patchout.time"),
    "a stream": ({"data": {"streaming": True}}, {**GROUPED, "max_steps": 3}, "unknown in a stream"),
}


@pytest.mark.parametrize(("options", "training", "message"), REFUSED.values(), ids=REFUSED)
def test_options_incompatible_with_grouping_are_refused(options: dict, training: dict, message: str) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*train_sampling_strategy: .*{message}"):
        recipe(Path("nowhere"), {**FIXED, **options}, **training)


def test_grouping_clips_that_are_padded_is_refused(mixed: Path, tmp_path: Path) -> None:
    run = prepare(recipe(mixed, FIXED, **GROUPED), tmp_path)
    run.train.extractor.return_attention_mask = False
    with pytest.raises(AstConfigError, match=r"E307.*return_attention_mask"):
        run.trainer.train()


def test_masked_streams_of_several_processes_are_refused(
    mixed: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate joins the batches of the processes, which have different lengths."""
    shutil.copytree(tiny_checkpoint, tmp_path / "base")
    extractor(return_attention_mask=True).save_pretrained(tmp_path / "base")
    options = {**FIXED, "data": {"streaming": True}, "model": {"base": str(tmp_path / "base"), "config": {}}}
    plan = recipe(mixed, options, max_steps=2)
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda _: 2))
    with pytest.raises(AstConfigError, match=r"E307\] model\.base: masks padding"):
        prepare(plan, tmp_path / "out")


def test_frequency_patchout_works_with_grouping(mixed: Path, tmp_path: Path) -> None:
    plan = recipe(mixed, {**FIXED, "patchout": {"frequency": 1}}, **GROUPED, max_steps=2)
    trainer = prepare(plan, tmp_path).trainer
    trainer.train()
    assert trainer.state.global_step == 2
