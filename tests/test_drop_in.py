"""Code written for transformers' AST works here: its calls, values and files, at least one test for each kind."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import TINY, largest_gap, randomise, run_fresh
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.models import audio_spectrogram_transformer as stock
from transformers.utils import PaddingStrategy

import ast_hf
from ast_hf import (
    ASTConfig,
    AstConfigError,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    AstInputError,
    ASTModel,
    ASTPreTrainedModel,
)
from ast_hf.hub.access import as_error
from ast_hf.paper_data_sets import class_names
from ast_hf.weights.integrity import check_folder

RATE = 16_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
CLIP = NOISE[:9_600]  # 58 frames
OTHER = NOISE[8_000:14_400]  # 38 frames
SIZES: dict[str, Any] = {"num_mel_bins": 32, "max_length": 64}
NAMES = {0: "cat", 1: "dog", 2: "owl"}


@pytest.fixture
def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(**SIZES)


@pytest.fixture
def model() -> ASTForAudioClassification:
    return randomise(ASTForAudioClassification(ASTConfig(**TINY, id2label=NAMES)))


@pytest.fixture(scope="module")
def stock_model() -> Any:
    """Return transformers' own model, every parameter random."""
    return randomise(stock.ASTForAudioClassification(stock.ASTConfig(**TINY, num_labels=3)))


@pytest.fixture(scope="module")
def spectrograms() -> torch.Tensor:
    return torch.randn(5, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        yield


# `pad`, and the collators and the Trainer that call it.


def features_of(extractor: ASTFeatureExtractor, **options: Any) -> list[dict[str, np.ndarray]]:
    """Return the rows that `map` would store for two clips of 58 and 38 frames."""
    batch = extractor([CLIP, OTHER], sampling_rate=RATE, padding=False, **options)
    return [{name: values[row] for name, values in batch.items()} for row in range(2)]


@pytest.mark.parametrize("padding", ["longest", "max_length", True, PaddingStrategy.LONGEST])
@pytest.mark.parametrize("normalize", [True, False])
def test_pad_equals_padding_in_the_call(
    normalize: bool, padding: Any, extractor: ASTFeatureExtractor
) -> None:
    extractor.do_normalize = normalize
    padded = extractor.pad(features_of(extractor), padding=padding, max_length=64, return_tensors="pt")
    called = extractor([CLIP, OTHER], sampling_rate=RATE, padding=padding, return_tensors="pt")
    assert padded["input_values"].dtype == torch.float32
    assert largest_gap(padded["input_values"], called["input_values"]) == 0.0
    assert list(padded) == ["input_values"]


def test_pad_to_a_multiple_with_a_mask(extractor: ASTFeatureExtractor) -> None:
    padded = extractor.pad(features_of(extractor), pad_to_multiple_of=8, return_attention_mask=True)
    assert [rows.shape for rows in padded["input_values"]] == [(64, 32), (64, 32)]
    assert np.asarray(padded["attention_mask"]).sum(axis=1).tolist() == [58, 38]


def test_pad_keeps_the_masks_that_features_have(extractor: ASTFeatureExtractor) -> None:
    rows = features_of(extractor, return_attention_mask=True)
    padded = extractor.pad(rows, padding="longest", return_tensors="np")
    assert padded["attention_mask"].shape == (2, 58)
    assert padded["attention_mask"].sum(axis=1).tolist() == [58, 38]


def test_pad_truncates(extractor: ASTFeatureExtractor) -> None:
    rows = features_of(extractor)
    padded = extractor.pad(rows, padding="max_length", max_length=40, truncation=True, return_tensors="np")
    assert padded["input_values"].shape == (2, 40, 32)
    np.testing.assert_array_equal(padded["input_values"][0], rows[0]["input_values"][:40])
    with pytest.raises(ValueError, match="max_length"):
        extractor.pad(rows, padding="max_length")


def test_pad_of_vectors_is_that_of_the_base_class(extractor: ASTFeatureExtractor) -> None:
    vectors = {"input_values": [[1.0, 2.0, 3.0], [4.0]]}
    ours = extractor.pad(dict(vectors), return_tensors="np", return_attention_mask=True)
    theirs = stock.ASTFeatureExtractor(**SIZES).pad(
        dict(vectors), return_tensors="np", return_attention_mask=True
    )
    for name in ("input_values", "attention_mask"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(ours["input_values"], [[1, 2, 3], [4, 0, 0]])


def test_pad_of_features_with_a_batch_axis(extractor: ASTFeatureExtractor) -> None:
    rows = [dict(extractor(clip, RATE, "pt")) for clip in (CLIP, OTHER)]
    assert extractor.pad(rows, return_tensors="pt")["input_values"].shape == (2, 1, 64, 32)


def test_collator_with_padding(extractor: ASTFeatureExtractor, model: ASTForAudioClassification) -> None:
    rows = [
        {**row, "label": index}
        for index, row in enumerate(features_of(extractor, return_attention_mask=True))
    ]
    batch = DataCollatorWithPadding(extractor)(rows)
    assert batch["input_values"].shape == (2, 58, 32)
    assert batch["labels"].tolist() == [0, 1]
    with torch.no_grad():
        outputs = model(**batch)
        alone = model(torch.from_numpy(rows[1]["input_values"])[None]).logits[0]
    assert outputs.loss.isfinite()
    assert largest_gap(outputs.logits[1], alone) < 1e-5


def test_plain_trainer_with_the_extractor_as_processing_class(
    extractor: ASTFeatureExtractor, model: ASTForAudioClassification, tmp_path: Path
) -> None:
    rows = features_of(extractor) * 2
    data = Dataset.from_list([{**row, "label": index % 3} for index, row in enumerate(rows)]).with_format(
        "numpy"
    )
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True
    )
    trainer = Trainer(model, arguments, train_dataset=data, processing_class=extractor)
    assert isinstance(trainer.data_collator, DataCollatorWithPadding)
    assert np.isfinite(trainer.train().training_loss)
    trainer.save_model()
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
        file.name for file in tmp_path.iterdir()
    }


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_accumulated_gradients_are_those_of_one_batch(
    problem_type: str, model: ASTForAudioClassification, spectrograms: torch.Tensor, tmp_path: Path
) -> None:
    model.config.problem_type = problem_type
    single = problem_type == "single_label_classification"
    labels = torch.tensor([0, 1, 2, 1, 0]) if single else torch.eye(3)[[0, 1, 2, 1, 0]]
    data = [{"input_values": clip, "labels": label} for clip, label in zip(spectrograms, labels, strict=True)]
    losses = []
    for size, steps in ((5, 1), (2, 3)):
        arguments = TrainingArguments(
            str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=steps, learning_rate=0.0,
            num_train_epochs=1, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no",
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=data)
        trainer.train()
        losses.append(next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


# Label maps as in tutorials, and configurations rebuilt from their own fields.


@pytest.mark.parametrize("load", [ASTConfig, AutoConfig], ids=["own", "auto"])
def test_label_maps_of_texts(load: Any, tiny_checkpoint: Path, no_warnings: None) -> None:
    config = load.from_pretrained(
        tiny_checkpoint, num_labels=2, id2label={"0": "a", "1": "b"}, label2id={"a": "0", "b": "1"}
    )
    assert (config.id2label, config.label2id, config.num_labels) == ({0: "a", 1: "b"}, {"a": 0, "b": 1}, 2)


def test_label_maps_of_texts_for_a_model(tiny_checkpoint: Path) -> None:
    with pytest.warns(AstHfWarning, match="W303"):
        model = ASTForAudioClassification.from_pretrained(
            tiny_checkpoint, num_labels=2, id2label={"0": "a", "1": "b"}, label2id={"a": "0", "b": "1"}
        )
    assert model.config.id2label == {0: "a", 1: "b"}
    assert model.classifier.dense.out_features == 2


def test_either_label_map_is_enough(tiny_checkpoint: Path, no_warnings: None) -> None:
    assert ASTConfig.from_pretrained(tiny_checkpoint, id2label={"0": "a", "1": "b"}).label2id == {
        "a": 0,
        "b": 1,
    }
    assert ASTConfig.from_pretrained(tiny_checkpoint, label2id={"a": "1", "b": "0"}).id2label == {
        1: "a",
        0: "b",
    }
    assert ASTConfig(label2id={"a": 0, "b": 1}).id2label == {0: "a", 1: "b"}
    assert ASTConfig(id2label={0: 10, 1: 20}).id2label == {0: "10", 1: "20"}


STALE = [{}, {"cat": 0}, {"x": 0, "y": 1, "z": 2}, {"cat": 2, "dog": 1, "owl": 0}]


@pytest.mark.parametrize("stale", STALE)
def test_stale_label2id_of_a_file_follows_id2label(
    stale: dict, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    content = json.loads((tiny_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "label2id": stale}))
    with pytest.warns(AstHfWarning, match=r"W305\] ASTConfig.label2id: does not mirror id2label"):
        config = ASTConfig.from_pretrained(tmp_path)
    assert (config.id2label, config.label2id) == (NAMES, {"cat": 0, "dog": 1, "owl": 2})


@pytest.mark.parametrize("names", [{0: "a", 1: "b", 2: "c"}, {"0": "a", "1": "b", "2": "c"}])
def test_id2label_set_in_place_is_saved_and_loaded(
    names: dict, model: ASTForAudioClassification, tmp_path: Path
) -> None:
    model.config.id2label = names
    with pytest.warns(AstHfWarning, match="W305"):
        model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert written["label2id"] == {"a": 0, "b": 1, "c": 2}
    loaded = ASTForAudioClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert stock.ASTConfig.from_pretrained(tmp_path).id2label == {0: "a", 1: "b", 2: "c"}


def test_configuration_is_rebuilt_from_its_fields(no_warnings: None) -> None:
    config = ASTConfig(**TINY, id2label=NAMES, problem_type="multi_label_classification")
    assert ASTConfig(**config.to_dict()).to_dict() == config.to_dict()
    assert config.__class__(**json.loads(config.to_json_string(use_diff=False))).to_dict() == config.to_dict()
    theirs = stock.ASTConfig(**TINY, num_labels=3)
    assert ASTConfig(**theirs.to_dict()).geometry == config.geometry


def test_configuration_rebuilt_from_its_fields_keeps_foreign_ones(tmp_path: Path) -> None:
    content = {**TINY, "model_type": "audio-spectrogram-transformer", "recorded_in": "Oslo"}
    config = ASTConfig.from_dict(content)
    assert ASTConfig(**config.to_dict()).recorded_in == "Oslo"


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_sizes": 3},
        {"model_type": "audio-spectrogram-transformer", "hidden_sizes": 3},
        {"model_type": "vit"},
    ],
)
def test_fields_that_are_unknown_or_of_another_architecture_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(AstConfigError, match="E302"):
        ASTConfig(**fields)


# Calls as for feature extractors of speech.


@pytest.mark.parametrize("samples", [16_000, 16_000 * 30, 8_000, np.int64(16_000)])
def test_max_length_in_samples_is_ignored(samples: Any, extractor: ASTFeatureExtractor) -> None:
    with pytest.warns(
        AstHfWarning, match=r"W210\] max_length: \d+ is ignored.*frames of 10 ms.*64 frames"
    ) as caught:
        features = extractor(
            [CLIP, OTHER], sampling_rate=RATE, max_length=samples, truncation=True, return_tensors="np"
        )
    assert features["input_values"].shape == (2, 64, 32)
    assert len(caught) == 1
    plain = extractor([CLIP, OTHER], sampling_rate=RATE, return_tensors="np")
    np.testing.assert_array_equal(features["input_values"], plain["input_values"])


def test_max_length_in_frames_is_honoured(extractor: ASTFeatureExtractor, no_warnings: None) -> None:
    for frames in (100, 641, 7_999):
        assert extractor(CLIP, RATE, "np", max_length=frames)["input_values"].shape == (1, frames, 32)
    long = ASTFeatureExtractor(num_mel_bins=8)(CLIP, RATE, "np", max_length=10_240)
    assert long["input_values"].shape == (1, 10_240, 8)  # exactly ten times its own 1,024


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_mono_clip_with_a_channel_axis(
    kind: Callable, extractor: ASTFeatureExtractor, no_warnings: None
) -> None:
    plain = extractor(CLIP, RATE, "np")["input_values"]
    both = extractor([CLIP, OTHER], RATE, "np")["input_values"]
    for clip in (kind(CLIP[None]), kind(CLIP[:, None]), [kind(CLIP[None])], [kind(CLIP[:, None])]):
        np.testing.assert_array_equal(extractor(clip, RATE, "np")["input_values"], plain)
    np.testing.assert_array_equal(
        extractor([kind(CLIP[None]), kind(OTHER[:, None])], RATE, "np")["input_values"], both
    )
    stacked = kind(np.stack([CLIP, CLIP])[:, None])
    assert extractor(stacked, RATE, "np")["input_values"].shape == (2, 64, 32)


def test_array_of_two_rows_is_a_batch_with_a_warning(extractor: ASTFeatureExtractor) -> None:
    rows = np.stack([CLIP, CLIP[::-1]])
    with pytest.warns(AstHfWarning, match=r"W211\].*channels='first'"):
        features = extractor(rows, RATE, "np")["input_values"]
    np.testing.assert_array_equal(features, extractor(list(rows), RATE, "np")["input_values"])


def test_array_of_three_rows_is_a_batch(extractor: ASTFeatureExtractor, no_warnings: None) -> None:
    assert extractor(np.stack([CLIP] * 3), RATE, "np")["input_values"].shape == (3, 64, 32)
    assert extractor(np.stack([CLIP] * 2), RATE, "np", channels="batch")["input_values"].shape == (2, 64, 32)


def test_channels_of_clips_in_a_list(extractor: ASTFeatureExtractor, no_warnings: None) -> None:
    stereo = np.stack([CLIP, 0.5 * CLIP])
    mixed = extractor([0.75 * CLIP, OTHER], RATE, "np")["input_values"]
    features = extractor([stereo, OTHER], RATE, "np", channels="first")["input_values"]
    np.testing.assert_allclose(features, mixed, atol=1e-4)


def test_argument_of_other_extractors_is_warned_of(extractor: ASTFeatureExtractor) -> None:
    with pytest.warns(AstHfWarning, match=r"W302\] return_token_timestamps: is not an argument"):
        features = extractor(CLIP, RATE, "np", return_token_timestamps=True)
    assert features["input_values"].shape == (1, 64, 32)


def test_pad_to_multiple_of_in_a_call(extractor: ASTFeatureExtractor) -> None:
    assert extractor(CLIP, RATE, "np", padding=True, pad_to_multiple_of=50)["input_values"].shape == (
        1,
        100,
        32,
    )
    with pytest.raises(AstInputError, match="E108"):
        extractor(CLIP, RATE, pad_to_multiple_of=0)


@pytest.mark.parametrize("array", [CLIP, torch.from_numpy(CLIP), CLIP.astype(np.float64), CLIP[None]])
def test_pipeline_takes_bare_arrays_at_the_models_rate(
    array: Any, tiny_checkpoint: Path, unwarned: None
) -> None:
    classify = pipeline("audio-classification", model=str(tiny_checkpoint))
    with pytest.warns(AstHfWarning, match=r"W212\] sampling_rate: is missing, and 16000 Hz is assumed"):
        answer = classify(array)
    assert answer == classify({"array": CLIP, "sampling_rate": RATE})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classify([array, array]) == [answer, answer]


@pytest.mark.long
def test_missing_rate_is_warned_of_once_per_process(tiny_checkpoint: Path) -> None:
    code = f"""
import warnings
warnings.simplefilter("always")
import ast_hf, numpy as np
from transformers import pipeline, AutoFeatureExtractor
clip = np.linspace(-1, 1, 9600, dtype=np.float32)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    extractor = AutoFeatureExtractor.from_pretrained({str(tiny_checkpoint)!r})
    classify = pipeline("audio-classification", model={str(tiny_checkpoint)!r})
    for _ in range(3):
        extractor(clip)
        classify(clip)
print([str(entry.message)[:10] for entry in caught if "AST" in str(entry.message)])
"""
    assert run_fresh(code).strip() == "['[AST-W212]']"


# Numbers of numpy and torch.

NUMBERS = [
    np.float32(-4.5),
    np.float64(-4.5),
    np.array(-4.5),
    torch.tensor(-4.5),
    torch.tensor(-4.5).double(),
]


@pytest.mark.parametrize("mean", NUMBERS, ids=lambda value: f"{type(value).__name__}-{value.dtype}")
def test_statistics_from_numpy_and_torch(mean: Any, extractor: ASTFeatureExtractor, tmp_path: Path) -> None:
    plain = ASTFeatureExtractor(**SIZES, mean=-4.5, std=2.0)(CLIP, RATE, "np")["input_values"]
    extractor.mean = mean
    extractor.std = torch.tensor(2.0)
    np.testing.assert_array_equal(extractor(CLIP, RATE, "np")["input_values"], plain)
    extractor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (written["mean"], written["std"]) == (-4.5, 2.0)
    assert ASTFeatureExtractor(**SIZES, mean=mean).mean == -4.5
    assert ASTFeatureExtractor.from_pretrained(tmp_path, mean=mean).to_dict() == extractor.to_dict()


def test_counts_from_numpy_and_torch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = ASTConfig(
        **{**TINY, "max_length": np.int64(64), "time_stride": torch.tensor(8)}, num_labels=np.int64(3)
    )
    assert (config.num_labels, config.max_length, type(config.max_length)) == (3, 64, int)
    config.hidden_dropout_prob = np.float32(0.25)
    config.save_pretrained(tmp_path)
    assert ASTConfig.from_pretrained(tmp_path).hidden_dropout_prob == 0.25
    assert ASTConfig.from_pretrained(tiny_checkpoint, num_labels=np.int64(4)).num_labels == 4
    with pytest.warns(AstHfWarning, match="W303"):
        model = ASTForAudioClassification.from_pretrained(tiny_checkpoint, num_labels=np.int64(4))
    assert model.config.num_labels == 4


@pytest.mark.parametrize("rate", [16_000.0, np.float64(16_000), np.array(16_000), torch.tensor([16_000])])
def test_rates_from_numpy_and_torch(rate: Any, extractor: ASTFeatureExtractor, tiny_checkpoint: Path) -> None:
    plain = extractor(CLIP, RATE, "np")["input_values"]
    np.testing.assert_array_equal(extractor(CLIP, rate, "np", max_length=64.0)["input_values"], plain)  # type: ignore[arg-type]
    classify = pipeline("audio-classification", model=str(tiny_checkpoint))
    answer = classify({"array": CLIP, "sampling_rate": RATE})
    assert classify({"array": CLIP, "sampling_rate": rate}) == answer
    assert classify({"raw": CLIP, "array": None, "sampling_rate": rate}) == answer
    with pytest.raises(AstInputError, match="E102"):
        extractor(CLIP, 16_000.5)  # type: ignore[arg-type]


def test_flags_and_statistics_of_one_element(extractor: ASTFeatureExtractor) -> None:
    extractor.do_normalize = 0  # type: ignore[assignment]
    extractor.mean = np.array([-3.0])  # type: ignore[assignment]
    assert (extractor.do_normalize, extractor.mean) == (False, -3.0)
    assert extractor(CLIP, RATE, "np")["input_values"].min() < -5


def test_fields_that_only_resemble_ours(tiny_checkpoint: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_checkpoint / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**content, "frame_length": 25, "min_length": 1})
    )
    assert ASTFeatureExtractor.from_pretrained(tmp_path).max_length == 64
    assert ASTConfig(**{**ASTConfig(**TINY).to_dict(), "min_length": 0}).max_length == 64
    with pytest.warns(AstHfWarning, match=r"W302\] ASTConfig.hidden_dropout: is not a field of AST"):
        config = AutoConfig.from_pretrained(
            tiny_checkpoint, hidden_dropout=0.1, attention_dropout=0.1, layerdrop=0.1
        )
    assert config.hidden_dropout_prob == 0.0


def test_field_of_the_extractor_in_a_call_is_warned_of(extractor: ASTFeatureExtractor) -> None:
    with pytest.warns(AstHfWarning, match=r"W302\] num_mel_bins: is a field of the extractor"):
        assert extractor(CLIP, RATE, "np", num_mel_bins=64)["input_values"].shape == (1, 64, 32)


class OwnExtractor(ASTFeatureExtractor):
    """Extractor with a field of its own, and another normalisation."""

    def __init__(self, shift: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shift = shift

    def normalize(self, input_values: Any) -> Any:
        return super().normalize(input_values) + self.shift


def test_subclass_of_the_extractor(extractor: ASTFeatureExtractor, tmp_path: Path) -> None:
    OwnExtractor(**SIZES, shift=7.0).save_pretrained(tmp_path)
    subclass = OwnExtractor.from_pretrained(tmp_path)
    plain = extractor(CLIP, RATE, "np")["input_values"]
    np.testing.assert_allclose(subclass(CLIP, RATE, "np")["input_values"], plain + 7.0, atol=1e-5)


# Replaced classifiers.


def test_head_of_another_size_is_saved_with_generic_names(
    model: ASTForAudioClassification, tmp_path: Path
) -> None:
    model.classifier.dense = nn.Linear(24, 5)
    with pytest.warns(AstHfWarning, match=r"W306\] classifier: has 5 outputs, but the config has 3 labels"):
        model.save_pretrained(tmp_path)
    assert list(json.loads((tmp_path / "config.json").read_text())["id2label"].values()) == [
        "LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4",
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        loaded = ASTForAudioClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.classifier.dense.weight, model.classifier.dense.weight)
    stock_loaded, info = stock.ASTForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert stock_loaded.config.num_labels == 5


def test_head_of_another_size_keeps_its_label_names(
    model: ASTForAudioClassification, tmp_path: Path, no_warnings: None
) -> None:
    model.classifier.dense = nn.Linear(24, 2)
    model.config.id2label = {0: "low", 1: "high"}
    model.config.label2id = {"low": 0, "high": 1}
    model.save_pretrained(tmp_path)
    assert ASTForAudioClassification.from_pretrained(tmp_path).config.id2label == {0: "low", 1: "high"}


def test_head_of_another_size_drops_thresholds(model: ASTForAudioClassification, tmp_path: Path) -> None:
    model.config.thresholds = [0.1, 0.2, 0.3]
    model.config.timeline = {"threshold": [0.1, 0.2, 0.3]}
    model.classifier.dense = nn.Linear(24, 2)
    with pytest.warns(AstHfWarning, match="W306"):
        model.save_pretrained(tmp_path)
    config = ASTForAudioClassification.from_pretrained(tmp_path).config
    assert (config.thresholds, config.timeline) == (None, None)


def test_head_without_a_bias_is_saved_with_zeros(model: ASTForAudioClassification, tmp_path: Path) -> None:
    model.classifier.dense = nn.Linear(24, 3, bias=False)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        loaded = ASTForAudioClassification.from_pretrained(tmp_path)
    assert loaded.classifier.dense.bias.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(loaded.classifier.dense.weight, model.classifier.dense.weight)


def test_head_of_another_kind_is_saved_with_a_warning(
    model: ASTForAudioClassification, tmp_path: Path
) -> None:
    model.classifier = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.warns(AstHfWarning, match=r"W306\] classifier: is a Sequential"):
        model.save_pretrained(tmp_path)
    with pytest.raises(AstConfigError, match="E305"):
        ASTForAudioClassification.from_pretrained(tmp_path)


@pytest.fixture
def disagreeing(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a folder whose config names three labels and whose classifier has four outputs."""
    folder = tmp_path / "disagreeing"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((tiny_checkpoint / name).read_bytes())
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    wider = {"classifier.dense.weight": torch.ones(4, 24), "classifier.dense.bias": torch.ones(4)}
    save_file({**tensors, **wider}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize(
    "load",
    [
        ASTForAudioClassification.from_pretrained,
        AutoModelForAudioClassification.from_pretrained,
        lambda folder: pipeline("audio-classification", model=str(folder)),
        lambda folder: ASTForAudioClassification.from_pretrained(
            folder, config=ASTConfig.from_pretrained(folder)
        ),
        lambda folder: ASTForAudioClassification.from_pretrained(folder, num_labels=3),
    ],
    ids=["own", "auto", "pipeline", "same-config", "same-number"],
)
def test_head_that_the_config_does_not_describe_is_refused(
    load: Callable, binary: bool, disagreeing: Path
) -> None:
    if binary:
        torch.save(load_file(disagreeing / "model.safetensors"), disagreeing / "pytorch_model.bin")
        (disagreeing / "model.safetensors").unlink()
    with pytest.raises(
        AstHfError, match=r"E305.*config.json.*names 3 labels, but .* holds a classifier of 4 outputs"
    ):
        load(disagreeing)


def test_folder_whose_head_and_config_disagree_is_refused(disagreeing: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E305.*names 3 labels.*4 outputs"):
        check_folder(disagreeing)
    assert check_folder(disagreeing, classifier=False) == disagreeing


def test_another_number_of_labels_is_a_new_head(disagreeing: Path) -> None:
    with pytest.warns(AstHfWarning, match=r"W303.*no classifier for 5 labels"):
        model = ASTForAudioClassification.from_pretrained(disagreeing, num_labels=5)
    assert model.classifier.dense.out_features == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        right = ASTForAudioClassification.from_pretrained(disagreeing, num_labels=4)
    assert torch.equal(right.classifier.dense.weight, torch.ones(4, 24))
    assert ASTModel.from_pretrained(disagreeing).config.num_labels == 3


class OwnHead(ASTPreTrainedModel):
    """Base model with a user's own classifier."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.audio_spectrogram_transformer = ASTModel(config)
        self.head = nn.Linear(config.hidden_size, 2)
        self.post_init()


class OwnPart(ASTForAudioClassification):
    """Classification model with an extra module."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.aux = nn.Linear(config.hidden_size, 2)
        self.post_init()


class WideHead(ASTForAudioClassification):
    """Classification model whose classifier takes two pooled tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.classifier.dense = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()


class OwnConfig(ASTConfig):
    model_type = "somebodys-ast"


class OwnType(ASTForAudioClassification):
    config_class = OwnConfig


@pytest.mark.parametrize("kind", [OwnHead, OwnPart, WideHead])
def test_subclasses_with_extra_modules_load_a_checkpoint(
    kind: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.warns(AstHfWarning, match="W303.*newly initialised"):
        model = kind.from_pretrained(tiny_checkpoint)
    stored = ASTModel.from_pretrained(tiny_checkpoint).state_dict()
    assert all(torch.equal(model.base_model.state_dict()[name], stored[name]) for name in stored)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        again = kind.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_subclass_with_another_model_type(tmp_path: Path) -> None:
    model = OwnType(OwnConfig(**TINY, num_labels=3))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "somebodys-ast"
    assert torch.equal(
        OwnType.from_pretrained(tmp_path).classifier.dense.weight, model.classifier.dense.weight
    )


# The pipeline's options, and the task that follows from labels.


def test_top_k_at_construction(tiny_checkpoint: Path) -> None:
    clip = {"array": CLIP, "sampling_rate": RATE}
    classify = pipeline("audio-classification", model=str(tiny_checkpoint), top_k=2)
    assert len(classify(clip)) == 2
    assert len(classify(clip, top_k=1)) == 1
    assert len(classify(clip, top_k=None)) == 3
    assert len(classify(clip, top_k=np.int64(9))) == 3
    assert len(classify(clip)) == 2
    assert len(pipeline("audio-classification", model=str(tiny_checkpoint))(clip)) == 3


def test_function_at_construction(tiny_checkpoint: Path) -> None:
    classify = pipeline("audio-classification", model=str(tiny_checkpoint), function_to_apply="sigmoid")
    scores = [entry["score"] for entry in classify({"array": CLIP, "sampling_rate": RATE})]
    assert sum(scores) > 1.2  # three sigmoids of small logits


def audioset_pipeline(**fields: Any) -> Any:
    names = class_names("audioset")
    config = ASTConfig(**TINY, id2label=dict(enumerate(names)), **fields)
    extractor = ASTFeatureExtractor(**SIZES)
    return pipeline(
        "audio-classification", model=ASTForAudioClassification(config), feature_extractor=extractor
    )


def test_audioset_labels_without_a_problem_type_are_tags(unwarned: None) -> None:
    classify = audioset_pipeline()
    clip = {"array": CLIP, "sampling_rate": RATE}
    with pytest.warns(AstHfWarning, match=r"W307\].*names no problem_type, but AudioSet's labels"):
        scores = [entry["score"] for entry in classify(clip)]
    assert min(scores) > 0.3  # sigmoids of small logits; softmax over 527 would give 0.002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classify(clip)
        chosen = classify(clip, function_to_apply="softmax")
    assert sum(entry["score"] for entry in chosen) == pytest.approx(1.0, abs=1e-4)
    assert classify.model.config.problem_type is None


def test_audioset_labels_with_a_problem_type_follow_it(no_warnings: None) -> None:
    classify = audioset_pipeline(problem_type="single_label_classification")
    assert sum(entry["score"] for entry in classify({"array": CLIP, "sampling_rate": RATE})) == pytest.approx(
        1.0
    )


def test_one_output_is_a_regression(tmp_path: Path) -> None:
    model = ASTForAudioClassification(ASTConfig(**TINY, num_labels=1))
    with torch.no_grad():
        model.classifier.dense.bias.fill_(4.0)
    classify = pipeline("audio-classification", model=model, feature_extractor=ASTFeatureExtractor(**SIZES))
    assert classify({"array": CLIP, "sampling_rate": RATE})[0]["score"] == pytest.approx(4.0, abs=0.5)


def test_labels_without_a_problem_type_are_warned_of(
    model: ASTForAudioClassification, spectrograms: torch.Tensor, unwarned: None
) -> None:
    with pytest.warns(AstHfWarning, match=r"W309\] config.problem_type: is not set"):
        model(spectrograms, labels=torch.eye(3)[[0, 1, 2, 1, 0]])
    assert model.config.problem_type is None


def test_return_attention_mask_of_the_extractor_is_warned_of(unwarned: None) -> None:
    extractor = ASTFeatureExtractor(**SIZES, return_attention_mask=True)
    with pytest.warns(
        AstHfWarning, match=r"W213\] attention_mask: .*the extractor's own return_attention_mask is set"
    ):
        assert extractor(CLIP, RATE, "np")["attention_mask"].sum() == 58


@pytest.fixture
def web_server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Return the address of a local server, and its content by path."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    thread.join()
    server.server_close()


def test_pipeline_reads_urls(
    web_server: tuple[str, dict[str, bytes]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    import soundfile

    url, files = web_server
    soundfile.write(tmp_path / "clip.wav", CLIP, RATE)
    files["/clip.wav"] = (tmp_path / "clip.wav").read_bytes()
    classify = pipeline("audio-classification", model=str(tiny_checkpoint))
    assert classify(f"{url}/clip.wav") == classify(str(tmp_path / "clip.wav"))
    with pytest.raises(AstInputError, match=r"E703.*none.wav.*404"):
        classify(f"{url}/none.wav")


@pytest.mark.parametrize(
    "copy", [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))], ids=["copy", "pickle"]
)
def test_pipelines_are_copied(copy: Callable, tiny_checkpoint: Path) -> None:
    classify = pipeline("audio-classification", model=str(tiny_checkpoint), top_k=2)
    clip = {"array": CLIP, "sampling_rate": RATE}
    assert copy(classify)(clip) == classify(clip)


def test_argument_of_other_pipelines_is_warned_of(tiny_checkpoint: Path) -> None:
    with pytest.warns(AstHfWarning, match=r"W302\] chunk_length_s: is not an argument of this pipeline"):
        classify = pipeline("audio-classification", model=str(tiny_checkpoint), chunk_length_s=10)
    with pytest.raises(AstInputError, match=r"E108.*did you mean 'top_k'"):
        classify({"array": CLIP, "sampling_rate": RATE}, topk=1)


def test_threshold_after_labels_were_renamed_in_place(tiny_checkpoint: Path) -> None:
    classify = pipeline("audio-classification", model=str(tiny_checkpoint))
    classify.model.config.id2label = {0: "x", 1: "y", 2: "z"}
    assert {entry["label"] for entry in classify({"array": CLIP, "sampling_rate": RATE}, threshold=0.0)} == {
        *"xyz"
    }


# Configurations and state dicts of transformers.


@pytest.mark.parametrize(
    "kind", [ASTForAudioClassification, ASTModel, AutoModel, AutoModelForAudioClassification]
)
def test_models_of_transformers_configuration(kind: Any) -> None:
    config = stock.ASTConfig(**TINY, num_labels=4)
    model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    assert type(model).__module__ == "ast_hf.modeling_ast"
    assert type(model.config) is ASTConfig
    assert (model.config.num_labels, model.config.geometry) == (4, ASTConfig(**TINY).geometry)


@pytest.mark.parametrize(
    "kind", [ASTForAudioClassification, AutoModelForAudioClassification], ids=["own", "auto"]
)
def test_from_pretrained_with_transformers_configuration(kind: Any, tiny_checkpoint: Path) -> None:
    config = stock.ASTConfig.from_pretrained(tiny_checkpoint)
    model = kind.from_pretrained(tiny_checkpoint, config=config)
    plain = ASTForAudioClassification.from_pretrained(tiny_checkpoint)
    assert type(model.config) is ASTConfig
    assert model.config.id2label == NAMES
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_configuration_of_another_architecture_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E302.*'wav2vec2' configuration"):
        ASTForAudioClassification.from_pretrained(tiny_checkpoint, config=transformers.Wav2Vec2Config())


def version_5_names(model: Any) -> dict[str, torch.Tensor]:
    return model.state_dict()


def hub_names(model: Any) -> dict[str, torch.Tensor]:
    ours = ASTForAudioClassification(model.config)
    ours.load_state_dict(model.state_dict())
    return ours.state_dict()


def original_names(model: Any) -> dict[str, torch.Tensor]:
    """Return the state dict with the original's names: blocks below `v`, query, key and value in one tensor."""
    state = hub_names(model)
    tensors = {}
    renamed = {
        "embeddings.cls_token": "v.cls_token",
        "embeddings.distillation_token": "v.dist_token",
        "embeddings.position_embeddings": "v.pos_embed",
        "embeddings.patch_embeddings.projection": "v.patch_embed.proj",
        "encoder.layer": "v.blocks",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "audio_spectrogram_transformer.layernorm": "v.norm",
        "audio_spectrogram_transformer.": "",
        "classifier.layernorm": "mlp_head.0",
        "classifier.dense": "mlp_head.1",
    }
    for name, tensor in state.items():
        if ".query." in name or ".key." in name or ".value." in name:
            if ".query." in name:
                parts = [state[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
                block = name.split("encoder.layer.")[1].split(".")[0]
                tensors[f"v.blocks.{block}.attn.qkv.{name.rsplit('.', 1)[1]}"] = torch.cat(parts)
            continue
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor
    return tensors


def of_data_parallel(model: Any) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in original_names(model).items()}


def of_compiled(model: Any) -> dict[str, torch.Tensor]:
    return {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}


def of_the_base(model: Any) -> dict[str, torch.Tensor]:
    base = model.audio_spectrogram_transformer.state_dict()
    return {
        **base,
        **{name: tensor for name, tensor in model.state_dict().items() if name.startswith("classifier.")},
    }


SCHEMES = [version_5_names, hub_names, original_names, of_data_parallel, of_compiled, of_the_base]


@pytest.mark.parametrize("renamed", SCHEMES, ids=lambda renamed: renamed.__name__)
def test_state_dict_under_any_names(
    renamed: Callable, stock_model: Any, spectrograms: torch.Tensor, no_warnings: None
) -> None:
    model, info = ASTForAudioClassification.from_pretrained(
        None, config=stock_model.config, state_dict=renamed(stock_model), output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        assert largest_gap(model.eval()(spectrograms).logits, stock_model(spectrograms).logits) < 1e-5
    base = ASTModel.from_pretrained(None, config=stock_model.config, state_dict=renamed(stock_model))
    with torch.no_grad():
        theirs = stock_model.audio_spectrogram_transformer(spectrograms).pooler_output
        assert largest_gap(base.eval()(spectrograms).pooler_output, theirs) < 1e-5


def test_state_dict_that_lacks_tensors_is_refused(stock_model: Any) -> None:
    state = stock_model.state_dict()
    del state["audio_spectrogram_transformer.layers.1.mlp.fc1.weight"]
    with pytest.raises(
        AstConfigError, match=r"E305\] state_dict: .*encoder.layer.1.intermediate.dense.weight"
    ):
        ASTForAudioClassification.from_pretrained(None, config=stock_model.config, state_dict=state)


def test_load_state_dict_of_transformers(stock_model: Any, spectrograms: torch.Tensor) -> None:
    model = ASTForAudioClassification(stock_model.config).eval()
    assert str(model.load_state_dict(stock_model.state_dict())) == "<All keys matched successfully>"
    with torch.no_grad():
        assert largest_gap(model(spectrograms).logits, stock_model(spectrograms).logits) < 1e-5
    assert len(model.base_model.layers) == len(stock_model.base_model.layers)
    assert model.base_model.layers[1] is model.base_model.encoder.layer[1]


def test_load_state_dict_of_a_module_that_holds_the_model(stock_model: Any) -> None:
    ours = nn.ModuleDict({"ast": ASTForAudioClassification(stock_model.config)})
    theirs = nn.ModuleDict({"ast": stock_model})
    assert str(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(ours["ast"].classifier.dense.weight, stock_model.classifier.dense.weight)


def test_blocks_are_dropped_by_either_name(
    stock_model: Any, spectrograms: torch.Tensor, tmp_path: Path
) -> None:
    model = ASTForAudioClassification(stock_model.config).eval()
    model.load_state_dict(stock_model.state_dict())
    theirs = copy.deepcopy(stock_model)
    for kind in (model, theirs):
        kind.base_model.layers = kind.base_model.layers[:1]
        kind.config.num_hidden_layers = 1
    with torch.no_grad():
        assert largest_gap(model(spectrograms).logits, theirs(spectrograms).logits) < 1e-5
    model.save_pretrained(tmp_path)
    assert len(ASTModel.from_pretrained(tmp_path).layers) == 1


# Calls of `forward` that transformers documents.


def test_forward_has_the_signature_of_transformers(
    model: ASTForAudioClassification, spectrograms: torch.Tensor, no_warnings: None
) -> None:
    theirs = list(inspect.signature(stock.ASTForAudioClassification.forward).parameters.values())
    ours = inspect.signature(ASTForAudioClassification.forward).parameters
    assert [parameter.name for parameter in theirs] == [
        "self",
        "input_values",
        "labels",
        "attention_mask",
        "kwargs",
    ]
    assert {parameter.name for parameter in theirs} <= set(ours)
    assert ours["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    labels = torch.tensor([0, 1, 2, 0, 1])
    as_tuple = model(spectrograms, labels=labels, return_dict=False)
    outputs = model(spectrograms, labels, output_attentions=True, output_hidden_states=True, use_cache=False)
    assert torch.equal(as_tuple[0], outputs.loss)
    assert (len(outputs.attentions), len(outputs.hidden_states)) == (2, 3)
    model.config.return_dict = False
    assert isinstance(model(spectrograms), tuple)


def half_loss(labels: torch.Tensor, logits: torch.Tensor, config: Any, **kwargs: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels) / 2


def test_loss_function_that_was_set_or_overridden(
    model: ASTForAudioClassification, spectrograms: torch.Tensor
) -> None:
    labels = torch.tensor([0, 1, 2, 0, 1])
    plain = model(spectrograms, labels=labels).loss

    class Halved(ASTForAudioClassification):
        def loss_function(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return half_loss(*args, **kwargs)

    subclass = Halved(model.config).eval()
    subclass.load_state_dict(model.state_dict())
    model.loss_function = half_loss
    for halved in (model, subclass):
        assert halved(spectrograms, labels=labels).loss.item() == pytest.approx(plain.item() / 2)


def test_unknown_problem_type_is_refused(
    model: ASTForAudioClassification, spectrograms: torch.Tensor
) -> None:
    model.config.problem_type = "multilabel"
    with pytest.raises(AstConfigError, match=r"E302.*'multilabel' is not a valid choice"):
        model(spectrograms, labels=torch.tensor([0, 1, 2, 0, 1]))


def test_float64_models_return_float64(model: ASTForAudioClassification, spectrograms: torch.Tensor) -> None:
    outputs = model.double()(spectrograms.double(), labels=torch.tensor([0, 1, 2, 0, 1]))
    assert (outputs.loss.dtype, outputs.logits.dtype) == (torch.float64, torch.float64)


def test_some_hidden_states(model: ASTForAudioClassification, spectrograms: torch.Tensor) -> None:
    every = model(spectrograms, output_hidden_states=True).hidden_states
    some = model(spectrograms, output_hidden_states=[0, -1, 9]).hidden_states
    assert [state is None for state in some] == [False, True, False]
    assert torch.equal(some[2], every[2])
    assert [state is None for state in model(spectrograms, output_hidden_states=1).hidden_states] == [
        True,
        False,
        True,
    ]


# Exports with any batch size.


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_export_with_a_dynamic_batch(
    masked: bool, model: ASTForAudioClassification, spectrograms: torch.Tensor
) -> None:
    mask = (torch.arange(64) < torch.tensor([64, 50, 33, 20, 64])[:, None]).long() if masked else None
    inputs = (
        {"input_values": spectrograms, "attention_mask": mask} if masked else {"input_values": spectrograms}
    )
    batch = torch.export.Dim("batch", min=1, max=64)
    two = {name: values[:2] for name, values in inputs.items()}
    exported = torch.export.export(model, (), two, dynamic_shapes={name: {0: batch} for name in two}).module()
    for count in (1, 2, 5):
        some = {name: values[:count] for name, values in inputs.items()}
        with torch.no_grad():
            assert largest_gap(exported(**some).logits, model(**some).logits) < 1e-5


# A checkpoint whose extractor was never saved.


def test_folder_without_an_extractor(model: ASTForAudioClassification, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(
        AstConfigError, match=r"E306.*never saved there.*Fix: save .*ASTFeatureExtractor\("
    ) as caught:
        ASTFeatureExtractor.from_pretrained(tmp_path)
    loads = (
        AutoFeatureExtractor.from_pretrained,
        lambda folder: pipeline("audio-classification", model=str(folder)),
    )
    for load in loads:
        with pytest.raises(
            OSError, match=r"E306.*never saved there.*Fix: save .*ASTFeatureExtractor\("
        ) as refused:
            load(tmp_path)
        assert str(as_error(refused.value)) == str(caught.value)
    line = caught.value.fix.split("for example ")[1].split(", with its mean")[0]
    exec(line, {"ASTFeatureExtractor": ASTFeatureExtractor})  # the text of the message
    assert AutoFeatureExtractor.from_pretrained(tmp_path).max_length == 64
    assert (
        len(pipeline("audio-classification", model=str(tmp_path))({"array": CLIP, "sampling_rate": RATE}))
        == 3
    )


# Names that code imports.

REPLACED = """
import ast_hf
if BEFORE:
    import transformers
    from transformers import ASTModel as first
ast_hf.register(replace_names=True)
ast_hf.register()
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, ASTPreTrainedModel
from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification as Longer
ours = [kind.__module__ for kind in (ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel,
                                     ASTPreTrainedModel, Longer)]
if BEFORE:
    assert transformers.ASTFeatureExtractor is ASTFeatureExtractor
ast_hf.unregister()
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel
from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification as Longer
theirs = [kind.__module__ for kind in (ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, Longer)]
print(sum(name.startswith("ast_hf.") for name in ours), sum(name.startswith("transformers.") for name in theirs))
"""


@pytest.mark.long
@pytest.mark.parametrize("before", [False, True], ids=["first", "after-transformers"])
def test_register_replaces_names_and_unregister_restores_them(before: bool) -> None:
    assert run_fresh(f"BEFORE = {before}\n{REPLACED}").split() == ["6", "5"]


@pytest.mark.long
def test_import_alone_does_not_replace_names_of_transformers() -> None:
    code = "import ast_hf\nfrom transformers import ASTForAudioClassification as kind\nprint(kind.__module__)"
    assert run_fresh(code).startswith("transformers.models.")


@pytest.mark.long
def test_future_audio_processors_are_registered() -> None:
    """`AutoAudioProcessor` is not released yet (transformers#48113); a stand-in has the names of that draft."""
    if hasattr(transformers, "AutoAudioProcessor"):
        pytest.fail("transformers has it now: load a saved folder through it here instead of this stand-in")
    code = """
import ast_hf, importlib.abc, importlib.machinery, importlib.util, sys, types
NAME = "transformers.models.auto.audio_processing_auto"
class Loader(importlib.abc.Loader):
    def create_module(self, spec): return None
    def exec_module(self, module):
        class Mapping:
            _extra_content = {}
        class AutoAudioProcessor:
            @staticmethod
            def register(config, kind, exist_ok=False): Mapping._extra_content[config] = kind
        module.AUDIO_PROCESSOR_MAPPING = Mapping
        module.AUDIO_PROCESSOR_MAPPING_NAMES = {"audio-spectrogram-transformer": {"torch": "AST"}, "clap": 1}
        module.AutoAudioProcessor = AutoAudioProcessor
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, Loader()) if name == NAME else None
sys.meta_path.insert(0, Finder())
import importlib
table = importlib.import_module(NAME)
import ast_hf.feature_extraction_ast  # hooks wait for modules that are being imported; every model imports this one
modules = {config.__name__: kind.__module__ for config, kind in table.AUDIO_PROCESSOR_MAPPING._extra_content.items()}
print(modules["ASTConfig"], sorted(table.AUDIO_PROCESSOR_MAPPING_NAMES))
ast_hf.unregister()
print(table.AUDIO_PROCESSOR_MAPPING._extra_content, sorted(table.AUDIO_PROCESSOR_MAPPING_NAMES))
"""
    assert run_fresh(code).splitlines() == [
        "ast_hf.feature_extraction_ast ['clap']",
        "{} ['audio-spectrogram-transformer', 'clap']",
    ]


# The load report of transformers has the content of W303.


def test_new_head_is_reported_in_one_line(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.addHandler(caplog.handler)  # transformers' logger does not propagate
    logger.setLevel(logging.WARNING)
    try:
        with pytest.warns(AstHfWarning) as caught:
            ASTForAudioClassification.from_pretrained(tiny_checkpoint, num_labels=7)
        assert [str(entry.message)[:10] for entry in caught] == ["[AST-W303]"]
        assert "LOAD REPORT" not in caplog.text
        stock.ASTForAudioClassification.from_pretrained(
            tiny_checkpoint, num_labels=7, ignore_mismatched_sizes=True
        )
        assert "LOAD REPORT" in caplog.text  # it stays for other models
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)


# Names of base classes.


def own_classes() -> list[type]:
    """Return every class of the package that extends one of another library."""
    script = Path(ast_hf.__file__).parent
    for path in sorted(script.rglob("*.py")):
        name = ".".join(path.relative_to(script.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            __import__(name)
    classes = {
        kind
        for name, module in sys.modules.items()
        if name.split(".")[0] == "ast_hf"
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__.split(".")[0] == "ast_hf"
    }
    return sorted(classes, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def refused_parameters(method: Callable, base: Callable) -> list[str]:
    """Return the parameters of a base method that the override does not accept by name."""
    ours = inspect.signature(method).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in ours):
        return []
    names = {parameter.name for parameter in ours}
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    theirs = [entry for entry in inspect.signature(base).parameters.values() if entry.kind not in variadic]
    taken_by_position = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in ours)
    return [entry.name for entry in theirs if entry.name not in names and not taken_by_position]


#: Overrides that torch and Python call with positional arguments only.
BY_POSITION = {"_load_from_state_dict", "__getitem__", "__setattr__"}


def test_no_method_shadows_one_of_a_base_class_with_another_signature() -> None:
    refused = {}
    for kind in own_classes():
        for name, override in vars(kind).items():
            base = next((vars(parent)[name] for parent in kind.__mro__[1:] if name in vars(parent)), None)
            override, base = (getattr(method, "__func__", method) for method in (override, base))
            if not (inspect.isfunction(override) and inspect.isfunction(base)) or name in BY_POSITION | {
                "__init__"
            }:
                continue
            if base.__module__.split(".")[0] != "ast_hf" and (names := refused_parameters(override, base)):
                refused[f"{kind.__name__}.{name}"] = names
    assert refused == {}
