"""transformers' own Trainer with our classes: `pad` and the collators that call it, and the best epoch at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BatchFeature,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor as StockFeatureExtractor,
)
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTForAudioClassification as StockClassifier,
)

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

SIZES: dict[str, Any] = {"num_mel_bins": 32, "max_length": 64}


@pytest.fixture
def ours() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(**SIZES)


@pytest.fixture
def stock() -> Any:
    return StockFeatureExtractor(**SIZES)


def examples(*frames: int, **more: Any) -> list[dict[str, Any]]:
    """Return examples with features of these numbers of frames, and further entries."""
    random = np.random.default_rng(0)
    return [
        {"input_values": random.standard_normal((count, 32)).astype(np.float32), **more} for count in frames
    ]


def assert_same(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert (type(left[name]), left[name].dtype) == (type(right[name]), right[name].dtype), name
        assert np.array_equal(left[name], right[name]), name


CALLS: list[dict[str, Any]] = [
    {},
    {"padding": False},
    {"padding": "longest", "return_tensors": "np"},
    {"return_tensors": "pt"},
    {"padding": "max_length", "max_length": 64, "return_tensors": "pt"},
    {"padding": "max_length", "max_length": 30, "truncation": True, "return_tensors": "pt"},
    {"pad_to_multiple_of": 16, "return_tensors": "np"},
    {"return_attention_mask": True, "return_tensors": "pt"},
]


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("kind", ["list of dicts", "list of BatchFeatures", "dict of lists", "BatchFeature"])
def test_pad_is_transformers_for_features_of_one_length(
    ours: ASTFeatureExtractor, stock: Any, kind: str, call: dict[str, Any]
) -> None:
    """transformers' `pad` also pads mel bins, so only features of one length can be compared."""

    def features() -> Any:
        batch = examples(64, 64, 64)
        if kind == "list of BatchFeatures":
            return [BatchFeature(example) for example in batch]
        together = {"input_values": [example["input_values"] for example in batch]}
        return {"dict of lists": together, "BatchFeature": BatchFeature(together)}.get(kind, batch)

    assert_same(ours.pad(features(), **call), stock.pad(features(), **call))


@pytest.mark.parametrize("normalized", [True, False])
def test_padded_afterwards_is_padded_in_the_call(ours: ASTFeatureExtractor, normalized: bool) -> None:
    ours.do_normalize = normalized
    ours.return_attention_mask = True
    random = np.random.default_rng(0)
    clips = [0.1 * random.standard_normal(length) for length in (3_000, 9_000, 10_480)]
    single = [ours(clip, sampling_rate=16_000, padding=False)["input_values"][0] for clip in clips]
    assert [len(features) for features in single] == [17, 54, 64]
    expected = ours(clips, sampling_rate=16_000, return_tensors="np")
    together = [{"input_values": features} for features in single]
    padded = ours.pad(together, padding="max_length", max_length=64, return_tensors="np")
    assert padded["input_values"].dtype == np.float32
    assert np.array_equal(padded["input_values"], expected["input_values"])
    assert np.array_equal(padded["attention_mask"], expected["attention_mask"])


@pytest.mark.parametrize("name", ["label", "labels"])
def test_collator_with_padding(ours: ASTFeatureExtractor, stock: Any, name: str) -> None:
    """`Trainer` uses this collator for a feature extractor. It keeps labels under both names."""
    batches = [
        DataCollatorWithPadding(extractor)(examples(64, 64, **{name: 2})) for extractor in (ours, stock)
    ]
    assert_same(*batches)
    assert batches[0]["labels"].tolist() == [2, 2]


def test_collator_with_padding_pads(ours: ASTFeatureExtractor) -> None:
    batch = DataCollatorWithPadding(ours, padding="max_length", max_length=64)(examples(40, 64, labels=1))
    assert batch["input_values"].shape == (2, 64, 32)
    assert batch["input_values"].dtype == torch.float32
    padding = -ours.mean / (2 * ours.std)
    assert batch["input_values"][0, 40:].numpy() == pytest.approx(padding, abs=1e-6)


def test_default_collator_takes_rows_of_a_call(ours: ASTFeatureExtractor, tone: np.ndarray) -> None:
    clips = [tone[:10_000], tone[:4_000]]
    features = ours(clips, sampling_rate=16_000)["input_values"]
    batch = default_data_collator([{"input_values": row, "label": 1} for row in features])
    expected = ours(clips, sampling_rate=16_000, return_tensors="pt")["input_values"]
    assert torch.equal(batch["input_values"], expected)
    assert batch["labels"].tolist() == [1, 1]


def test_trainer_collates_by_the_extractor(ours: ASTFeatureExtractor, tmp_path: Path) -> None:
    """Trains on features of different lengths, which only the extractor pads into one tensor."""
    config = ASTConfig(
        **SIZES, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48
    )
    model = ASTForAudioClassification(config)
    arguments = TrainingArguments(str(tmp_path), max_steps=1, per_device_train_batch_size=2, report_to="none")
    data = examples(40, 64, labels=1)
    trainer = Trainer(model, arguments, train_dataset=data, processing_class=ours)
    assert isinstance(trainer.data_collator, DataCollatorWithPadding)
    assert trainer.train().global_step == 1


@pytest.mark.parametrize(
    ("model_class", "of_the_best"), [(ASTForAudioClassification, 43), (StockClassifier, 11)]
)
def test_the_best_epoch_at_the_end(
    tiny_checkpoint: Path, tmp_path: Path, model_class: Any, of_the_best: int
) -> None:
    """With transformers' AST, the Trainer restores only classifier and embeddings: in files the parameters of the
    encoder have other names.
    """
    scores = iter((2.0, 1.0))
    model = model_class.from_pretrained(tiny_checkpoint)
    arguments = TrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        learning_rate=1e-2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="score",
        report_to="none",
        disable_tqdm=True,
    )
    data: Any = examples(64, 64, labels=1)
    score = lambda prediction: {"score": next(scores)}  # noqa: E731
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, compute_metrics=score)
    trainer.train()
    assert (trainer.state.best_global_step, trainer.state.global_step) == (1, 2)
    best = model_class.from_pretrained(trainer.state.best_model_checkpoint)
    pairs = list(zip(model.parameters(), best.parameters(), strict=True))
    assert (sum(torch.equal(*pair) for pair in pairs), len(pairs)) == (of_the_best, 43)
