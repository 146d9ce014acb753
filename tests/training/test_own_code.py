"""The user's own augmentation and callbacks: what they get, how they are checked, and that runs repeat them."""

from __future__ import annotations

import functools
import json
import pickle
import random as python_random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from transformers import EarlyStoppingCallback, TrainerCallback

from ast_hf import AstConfigError, AstHfWarning, AstInputError
from ast_hf.feature_extraction_ast import ASTFeatureExtractor
from ast_hf.inputs.own_augmentation import OwnAugmentation, code_name
from ast_hf.training import (
    Augmentation,
    ClipInputs,
    StreamedClipInputs,
    cross_validate,
    finetune,
    load_audio_dataset,
    prepare,
)
from ast_hf.training.own_code import own_code
from training.runs import Stop, checkpoint_digest, recipe


def quieter(waveform: np.ndarray, sampling_rate: int, random: np.random.Generator) -> np.ndarray:
    waveform *= random.uniform(0.1, 1.0)  # in place: the cache must not see it
    return waveform


def careless(waveform: np.ndarray, sampling_rate: int, random: np.random.Generator) -> np.ndarray:
    """Draws from the global generators."""
    return waveform * np.float32(
        0.5 + 0.1 * python_random.random() + 0.1 * np.random.random() + 0.1 * torch.rand(()).item()
    )


def darker(spectrogram: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    spectrogram[:, int(random.integers(spectrogram.shape[1])) :] -= 3.0
    return spectrogram


class Count(TrainerCallback):
    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs += 1


@pytest.fixture
def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(max_length=TINY["max_length"], num_mel_bins=TINY["num_mel_bins"])


@pytest.fixture(scope="module")
def split(clips: Path) -> Any:
    return load_audio_dataset(clips)["train"]


def test_inputs_are_keyed_and_change_every_epoch(split: Any, extractor: ASTFeatureExtractor) -> None:
    inputs = ClipInputs(split, extractor, augment=quieter, augment_spectrogram=darker)
    plain = ClipInputs(split, extractor)
    first = [inputs[key]["input_values"] for key in (0, 1, len(inputs))]
    again = ClipInputs(split, extractor, augment=quieter, augment_spectrogram=darker)
    assert torch.equal(again[len(again)]["input_values"], first[2])  # whatever was drawn before
    assert torch.equal(inputs[0]["input_values"], first[0])  # from the cache now
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], plain[0]["input_values"])
    assert np.array_equal(inputs.waveform(0), plain.waveform(0))


def test_functions_get_what_the_page_says(split: Any, extractor: ASTFeatureExtractor) -> None:
    seen: list[Any] = []

    def wave(waveform: Any, sampling_rate: Any, random: Any) -> Any:
        seen.append((waveform.dtype, waveform.ndim, sampling_rate, type(random)))
        return waveform

    def spectrogram(values: Any, random: Any) -> Any:
        seen.append((values.dtype, values.shape[1], type(random)))
        return values

    mixed = Augmentation(mixup_probability=1.0)
    ClipInputs(split, extractor, augmentation=mixed, augment=wave, augment_spectrogram=spectrogram)[0]
    once = (np.float32, 1, 16_000, np.random.Generator)
    assert seen == [once, once, (torch.float32, TINY["num_mel_bins"], np.random.Generator)]
    # functions that change nothing give the inputs of the run without them, but for the draws of their seeds
    same = ClipInputs(split, extractor, augment=wave, augment_spectrogram=spectrogram)[0]["input_values"]
    assert torch.equal(same, ClipInputs(split, extractor)[0]["input_values"])


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (lambda w: w * np.nan, "E104"),
        (lambda w: np.append(w, np.inf).astype(np.float32), "E104"),
        (lambda w: w[None], "E106"),
        (lambda w: w[:0], "E106"),
        (lambda w: (w * 32767).astype(np.int16), "E106"),
        (lambda w: w.astype(complex), "E106"),
        (lambda w: None, "E106"),
        (lambda w: (w, 16_000), "E106"),
        (lambda w: w.tolist(), "E106"),
        (lambda w: w / w[len(w)], "E108"),
        (lambda w: {"": w}["missing"], "E108"),
    ],
)
def test_bad_results_name_the_function_and_the_clip(
    split: Any, extractor: ASTFeatureExtractor, result: Any, code: str
) -> None:
    def bad(waveform: Any, sampling_rate: Any, random: Any) -> Any:
        with np.errstate(all="ignore"):
            return result(waveform)

    inputs = ClipInputs(split, extractor, augment=bad, name="train")
    with pytest.raises(AstInputError, match=rf"{code}.*train row 2, '.*wav', augment .*bad"):
        inputs[1]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (lambda s: s * np.nan, "E104"),
        (lambda s: s[:, :3], "E106"),
        (lambda s: s[:0], "E106"),
        (lambda s: s.T, "E106"),
        (lambda s: s.long(), "E106"),
        (lambda s: s.numpy()[0], "E106"),
        (lambda s: None, "E106"),
        (lambda s: s[len(s)], "E108"),
    ],
)
def test_bad_spectrograms(split: Any, extractor: ASTFeatureExtractor, result: Any, code: str) -> None:
    inputs = ClipInputs(split, extractor, augment_spectrogram=lambda s, random: result(s), name="train")
    with pytest.raises(AstInputError, match=rf"{code}.*train row 1, .*augment_spectrogram"):
        inputs[0]


@pytest.mark.parametrize(
    "result",
    [
        lambda w: torch.from_numpy(w).requires_grad_() * 0.5,
        lambda w: w.astype(np.float64),
        lambda w: w[::-1],
        lambda w: np.tile(w, 40),
        lambda w: w[:1],
    ],
)
def test_other_results_of_the_right_kind(split: Any, extractor: ASTFeatureExtractor, result: Any) -> None:
    """Tensors, float64, views, longer and shorter clips."""
    item = ClipInputs(split, extractor, augment=lambda w, rate, random: result(w))[0]
    assert item["input_values"].shape == (TINY["max_length"], TINY["num_mel_bins"])
    assert item["input_values"].dtype == torch.float32


@pytest.mark.parametrize(
    "bad",
    [
        {"augment": "noise"},
        {"augment": Count},
        {"augment": lambda waveform: waveform},
        {"augment": lambda *, waveform, sampling_rate, random: waveform},
        {"augment_spectrogram": lambda spectrogram: spectrogram},
        {"callbacks": [print]},
        {"callbacks": Count()},
        {"callbacks": [Count(), Augmentation]},
        {"callbacks": "abc"},
    ],
)
def test_what_cannot_be_called_is_found_before_the_data_are_read(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AstInputError, match=f"E108.*{next(iter(bad))}"):
        prepare(recipe(tmp_path / "none"), tmp_path / "out", **bad)


def test_names() -> None:
    class Louder:
        def __call__(self, waveform: Any, sampling_rate: Any, random: Any) -> Any:
            return waveform

    assert code_name(quieter) == "quieter"
    assert code_name(functools.partial(quieter, sampling_rate=16_000)) == "quieter"
    assert code_name(Louder()) == "test_names.Louder"
    assert own_code(quieter, None, [Count, Count()]).names == {
        "augment": "quieter",
        "callbacks": ["Count", "Count"],
    }
    assert own_code(None, None, None).names == {}
    assert pickle.loads(pickle.dumps(OwnAugmentation(quieter, darker))).names == {
        "augment": "quieter",
        "augment_spectrogram": "darker",
    }


@pytest.mark.parametrize("callback", [EarlyStoppingCallback, EarlyStoppingCallback(2)])
def test_transformers_early_stopping_needs_its_arguments(clips: Path, tmp_path: Path, callback: Any) -> None:
    with pytest.raises(
        AstConfigError, match=r"E307.*callbacks: EarlyStoppingCallback.*use stopping\.patience"
    ):
        prepare(recipe(clips), tmp_path, callbacks=[callback])


def test_workers_that_are_not_forked_need_functions_with_a_name(clips: Path, tmp_path: Path) -> None:
    import multiprocessing

    before = multiprocessing.get_start_method(allow_none=True)
    plan = recipe(clips, dataloader_num_workers=1)
    try:
        multiprocessing.set_start_method("spawn", force=True)
        with pytest.raises(AstInputError, match=r"E108.*augment.*lambda.*top of a module"):
            prepare(plan, tmp_path / "a", augment=lambda w, rate, random: w)
        prepare(plan, tmp_path / "b", augment=quieter)
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_stream(clips: Path, extractor: ASTFeatureExtractor) -> None:
    stream = load_audio_dataset(clips, streaming=True)["train"]
    changed = StreamedClipInputs(stream, extractor, augment=quieter, augment_spectrogram=darker)
    items = {int(item["row"]): item["input_values"] for item in changed}
    again = {int(item["row"]): item["input_values"] for item in changed}
    plain = {int(item["row"]): item["input_values"] for item in StreamedClipInputs(stream, extractor)}
    assert items.keys() == plain.keys()
    assert all(torch.equal(items[row], again[row]) for row in items)
    assert not any(torch.equal(items[row], plain[row]) for row in items)


@pytest.mark.parametrize(
    ("function", "workers"),
    [
        pytest.param(quieter, 0, marks=pytest.mark.slow),
        pytest.param(quieter, 1, marks=pytest.mark.slow),
        pytest.param(careless, 0, marks=pytest.mark.slow),
        (careless, 1),
    ],
)
def test_a_resumed_run_equals_the_whole_one(clips: Path, tmp_path: Path, function: Any, workers: int) -> None:
    plan = recipe(clips, save_strategy="steps", save_steps=2, dataloader_num_workers=workers)
    own = {"augment": function, "augment_spectrogram": darker, "callbacks": [Count]}
    whole = prepare(plan, tmp_path / "whole", **own).trainer
    whole.train()
    broken = prepare(plan, tmp_path / "broken", **own).trainer
    broken.add_callback(Stop(step=2))
    broken.train()
    prepare(plan, tmp_path / "broken", **own).trainer.train(resume_from_checkpoint=True)
    last = "checkpoint-6"
    assert checkpoint_digest(tmp_path / "whole" / last) == checkpoint_digest(tmp_path / "broken" / last)


def test_other_code_is_refused_or_warned_of(clips: Path, tmp_path: Path) -> None:
    plan = recipe(clips, save_strategy="steps", save_steps=2)
    broken = prepare(plan, tmp_path, augment=quieter, callbacks=[Count()]).trainer
    broken.add_callback(Stop(step=2))
    broken.train()
    for other in ({}, {"augment": quieter}, {"augment": careless, "callbacks": [Count]}):
        with pytest.raises(AstConfigError, match=r"E306.*other options: (augment|callbacks) was"):
            prepare(plan, tmp_path, **other).trainer.train(resume_from_checkpoint=True)
    with pytest.warns(AstHfWarning, match=r"W406.*augment was 'quieter' and is None"):
        report = finetune(plan, tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "augment was 'quieter' and is None" in report.changes[0]
    assert report.own_code == {}


def test_results_and_card_name_the_code(clips: Path, tmp_path: Path) -> None:
    count = Count()
    report = finetune(
        recipe(clips),
        tmp_path,
        augment=quieter,
        augment_spectrogram=lambda spectrogram, random: spectrogram,
        callbacks=[count],
    )
    assert count.epochs == 2
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["own_code"] == report.own_code
    assert report.own_code["augment"] == "quieter"
    assert report.own_code["callbacks"] == ["Count"]
    card = (tmp_path / "README.md").read_text()
    assert "the augmentation of waveforms `quieter`; the augmentation of spectrograms `" in card
    assert "the callback `Count`." in card
    assert "repeats the training without that code" in card


@pytest.mark.slow
def test_folds(clips: Path, tmp_path: Path) -> None:
    """Each fold has a fresh copy of a callback; finished folds of other code are refused."""
    count = Count()
    plan = recipe(clips, num_train_epochs=1)
    own: dict[str, Any] = {"augment": quieter, "callbacks": [count]}
    cross_validate(plan, tmp_path, folds=2, **own)
    assert count.epochs == 0
    for number in (1, 2):
        stored = json.loads((tmp_path / f"fold-{number}" / "results.json").read_text())
        assert stored["own_code"] == {"augment": "quieter", "callbacks": ["Count"]}
    cross_validate(plan, tmp_path, folds=2, resume="auto", **own)
    with pytest.raises(AstConfigError, match=r"E306.*own code.*quieter"):
        cross_validate(plan, tmp_path, folds=2, resume="auto")
    count.lock = (tmp_path / "file").open("w")
    with pytest.raises(AstInputError, match=r"E108.*Count cannot be copied"):
        cross_validate(plan, tmp_path / "b", folds=2, callbacks=[count])
    count.lock.close()
