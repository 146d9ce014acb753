"""Copies of a classifier for inference: the same scores, with oneDNN's operators and without."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, largest_gap, randomise
from peft import LoraConfig, get_peft_model
from transformers import pipeline

from ast_hf import ASTConfig, AstConfigError, ASTFeatureExtractor, ASTForAudioClassification, AstInputError
from ast_hf.acceleration import attention, encoder, linears, optimize_for_inference, optimizing
from ast_hf.acceleration.linears import Int8Linear, PackedLinear, quantized
from ast_hf.acceleration.merging import merge_tokens
from ast_hf.batch.runner import model_digest
from ast_hf.last_block import NUM_SPECIAL


@pytest.fixture(scope="module")
def model() -> ASTForAudioClassification:
    torch.manual_seed(0)
    config = ASTConfig(**{**TINY, "num_labels": 4, "num_hidden_layers": 3})
    model = randomise(ASTForAudioClassification(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(
        2, TINY["max_length"], TINY["num_mel_bins"], generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(params=["oneDNN", "public functions"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with oneDNN's operators, and as if torch had none."""
    if request.param == "public functions":
        monkeypatch.setattr(linears, "can_pack", lambda dtype: False)
    elif not all(map(linears.can_pack, (torch.float32, torch.bfloat16, torch.int8))):
        pytest.skip("this build of torch has no such operators")
    return request.param


@pytest.mark.parametrize("asked", [{}, {"output_hidden_states": True}, {"output_attentions": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_float32_scores_are_the_same(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str, masked: bool, asked: dict[str, bool]
) -> None:
    mask = torch.ones(clips.shape[:2], dtype=torch.long)
    mask[1, 24:] = 0
    arguments = {"attention_mask": mask if masked else None, **asked}
    before = model(clips, **arguments)
    fast = optimize_for_inference(model)
    after = fast(clips, **arguments)
    assert largest_gap(after.logits, before.logits) <= 1e-5
    for name in ("hidden_states", "attentions"):
        for new, old in zip(getattr(after, name) or (), getattr(before, name) or (), strict=True):
            assert largest_gap(new, old) <= 1e-5
    assert not any(isinstance(module, PackedLinear) for module in model.modules()), "the model is not changed"


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("int8", 0.1), ("auto", 0.05)])
def test_lower_precisions_are_near(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str, precision: str, tolerance: float
) -> None:
    exact = model(clips).logits
    found = optimize_for_inference(model, precision)(clips).logits.float()
    assert largest_gap(found, exact) <= tolerance * float(exact.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("levels", [255, 127])
def test_int8_products_are_exact_but_for_rounding(dtype: torch.dtype, levels: int, products: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 5, 64, generator=generator)
    weight = torch.randn(48, 64, generator=generator)
    bias = torch.randn(48, generator=generator)
    layer = Int8Linear(weight, bias, dtype)
    layer.levels = levels
    exact = torch.nn.functional.linear(inputs, weight, bias)
    found = layer(inputs.to(dtype))
    assert found.dtype == dtype
    assert found.shape == exact.shape
    assert largest_gap(found.float(), exact) <= 0.05 * float(exact.abs().max())


#: Scale of the scores, and a number in all keys.
SCORES = {"small": (1.0, 0.0), "large": (16.0, 0.0), "far from 0": (1.0, 50.0), "equal": (0.0, 1.0)}


@pytest.mark.parametrize(("scale", "offset"), SCORES.values(), ids=SCORES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", ["exponentials", "softmax", "public functions"])
def test_attention_is_that_of_torch_however_large_the_scores(
    scale: float,
    offset: float,
    dtype: torch.dtype,
    tolerance: float,
    weighted: bool,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced = {"softmax": "can_exponentiate", "public functions": "can_pack"}
    if way in replaced:
        monkeypatch.setattr(attention, replaced[way], lambda dtype: False)
    monkeypatch.setattr(attention, "_SCORES", 700)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 2, 50, 24, generator=generator).to(dtype)  # heads, clips, tokens
    states[..., :8] *= scale
    states[..., 8:16] += offset
    bias = torch.rand(2, 50, generator=generator) if weighted else None
    query, key, value = attention.split_heads(states.double().unbind())
    mask = None if bias is None else bias[:, None, None, :].double()
    exact = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    found = attention.attend(iter(states.unbind()), 3, bias)
    assert found.dtype == dtype
    gap = largest_gap(found.double(), exact.transpose(1, 2).flatten(2))
    assert gap <= tolerance * max(1.0, scale)  # scores are rounded to the dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_rows_of_large_scores_take_the_passes_of_softmax(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not attention.can_exponentiate(dtype):
        pytest.skip("this build of torch has no such operators")
    calls = []
    softmax = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda *args, **kw: calls.append(0) or softmax(*args, **kw))
    for scale, expected in ((1.0, 0), (100.0, 1), (float("nan"), 2)):
        states = torch.randn(1, 50, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
        states[..., :8] *= scale
        found = attention.attend(iter([states]), 1)
        assert len(calls) == expected
        assert found.isnan().all() == (scale != scale)


def test_blocks_of_tokens_change_nothing(
    model: ASTForAudioClassification, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = optimize_for_inference(model)
    expected = fast(clips).logits
    monkeypatch.setattr(encoder, "_MLP_NUMBERS", 300)
    monkeypatch.setattr(attention, "_SCORES", 100)
    assert largest_gap(fast(clips).logits, expected) <= 1e-5


@pytest.mark.parametrize("values", [[0.0, 0.0], [-3.0, -1.0], [2.0, 5.0], [-1.0, 3.0], [1e-30, 0.0]])
def test_codes_stand_for_their_values(values: list[float]) -> None:
    given = torch.tensor([values])
    codes, scale, zero = quantized(given, 255)
    assert largest_gap((codes.float() - zero) * scale, given) <= scale * 0.51


def test_equal_tokens_can_be_merged_without_a_change(model: ASTForAudioClassification) -> None:
    """Attention weighted by size is exact for tokens that are equal: those of silence without positions."""
    silent = torch.zeros(1, TINY["max_length"], TINY["num_mel_bins"])
    fast = optimize_for_inference(model)
    merged = optimize_for_inference(model, merge_tokens=6)
    for each in (fast, merged):
        each.audio_spectrogram_transformer.embeddings.position_embeddings[:, NUM_SPECIAL:] = 0.0
    assert largest_gap(merged(silent).logits, fast(silent).logits) <= 1e-5


def test_the_most_similar_patches_are_averaged_by_size() -> None:
    """Patches 0 and 3 have the same key; 0 stands for three patches."""
    keys = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.1], [1.0, 0.0]]])
    hidden = torch.tensor([[[9.0], [8.0], [1.0], [2.0], [3.0], [5.0]]])
    sizes = torch.tensor([[1.0, 1.0, 3.0, 1.0, 1.0, 1.0]])
    tokens, counts = merge_tokens(hidden, keys, sizes, 1)
    assert tokens.flatten().tolist() == [9.0, 8.0, 3.0, 2.0, 2.0]
    assert counts.tolist() == [[1.0, 1.0, 1.0, 1.0, 4.0]]


def test_merged_tokens_count_by_size_whatever_the_attention(
    model: ASTForAudioClassification, clips: torch.Tensor
) -> None:
    merged = optimize_for_inference(model, merge_tokens=6)
    expected = merged(clips).logits
    merged.set_attn_implementation("eager")
    assert largest_gap(merged(clips).logits, expected) <= 1e-5


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_merging_keeps_sums_and_special_tokens(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 13, 4, generator=generator)
    sizes = torch.randint(1, 4, (2, 13), generator=generator).float()
    tokens, counts = merge_tokens(hidden, torch.randn(2, 13, 3, generator=generator), sizes, count)
    assert tokens.shape[1] == counts.shape[1] == 13 - min(count, 5)
    assert largest_gap(tokens[:, :NUM_SPECIAL], hidden[:, :NUM_SPECIAL]) <= 1e-6
    assert largest_gap((tokens * counts[..., None]).sum(1), (hidden * sizes[..., None]).sum(1)) <= 1e-4


def test_a_pipeline_takes_the_copy(model: ASTForAudioClassification) -> None:
    extractor = ASTFeatureExtractor(max_length=TINY["max_length"], num_mel_bins=TINY["num_mel_bins"])
    sound = np.random.default_rng(0).standard_normal(9_000).astype(np.float32)
    results = []
    for each in (
        model,
        optimize_for_inference(model),
        optimize_for_inference(model, "bfloat16", merge_tokens=1),
    ):
        classify = pipeline("audio-classification", model=each, feature_extractor=extractor)
        results.append({item["label"]: item["score"] for item in classify(sound, top_k=None)})
    assert results[1] == pytest.approx(results[0], abs=1e-5)
    assert results[2] == pytest.approx(results[0], abs=0.1)


def _adapted(model: ASTForAudioClassification) -> Any:
    copied = ASTForAudioClassification(model.config)
    get_peft_model(copied, LoraConfig(target_modules=["value"]))
    return copied


FRACTION: Any = 0.5
REFUSED: dict[str, tuple[Callable[[ASTForAudioClassification], Any], str]] = {
    "a misspelt precision": (lambda model: optimize_for_inference(model, "bf16"), "bfloat16"),
    "a fraction": (lambda model: optimize_for_inference(model, merge_tokens=FRACTION), "whole number"),
    "a negative number": (lambda model: optimize_for_inference(model, merge_tokens=-1), "whole number"),
    "the base model": (lambda model: optimize_for_inference(model.base_model), "ASTModel"),
    "an adapter": (lambda model: optimize_for_inference(_adapted(model)), "adapter"),
    "half precision": (
        lambda model: optimize_for_inference(ASTForAudioClassification(model.config).half()),
        "float16",
    ),
    "a copy": (lambda model: optimize_for_inference(optimize_for_inference(model)), "already"),
}


@pytest.mark.parametrize(("call", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_optimised_is_refused(
    model: ASTForAudioClassification, call: Callable[[ASTForAudioClassification], Any], text: str
) -> None:
    with pytest.raises(AstConfigError, match=rf"E302\] optimize_for_inference.*{text}"):
        call(model)


def test_a_batch_is_not_continued_with_other_arithmetic(model: ASTForAudioClassification) -> None:
    extractor = ASTFeatureExtractor(max_length=TINY["max_length"], num_mel_bins=TINY["num_mel_bins"])
    digests = []
    for precision in ("float32", "float32", "bfloat16", "int8"):
        copied = optimize_for_inference(model, precision)
        digests.append(
            model_digest(pipeline("audio-classification", model=copied, feature_extractor=extractor))
        )
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_weights_cannot_be_loaded_into_a_copy(model: ASTForAudioClassification) -> None:
    fast = optimize_for_inference(model)
    with pytest.raises(AstConfigError, match="E305"):
        fast.load_state_dict(fast.state_dict())


def test_int8_codes_are_made_of_whole_clips(
    model: ASTForAudioClassification, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four layers of each block but the last take codes; codes of single rows would be many times as slow."""
    fast = optimize_for_inference(model, "int8")
    shapes = []

    def noted(values: torch.Tensor, levels: int) -> Any:
        shapes.append(values.shape[0])
        return quantized(values, levels)

    monkeypatch.setattr(linears, "quantized", noted)
    fast(clips)
    blocks = model.config.num_hidden_layers - 1
    assert shapes == [model.config.num_tokens] * (4 * len(clips) * blocks)


def test_int8_scores_of_a_clip_do_not_depend_on_its_batch(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizing, "has_bfloat16", lambda: False)  # its rounding depends on the batch
    fast = optimize_for_inference(model, "int8")
    alone = fast(clips[:1]).logits
    together = fast(torch.cat((clips[:1], 50 * clips[1:]))).logits
    assert largest_gap(together[:1], alone) <= 1e-5


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_infinite_values_give_nan(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str, precision: str
) -> None:
    scores = optimize_for_inference(model, precision)(clips * torch.inf).logits
    assert bool(scores.isnan().all())


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_copy_has_no_gradients(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str, precision: str
) -> None:
    assert not optimize_for_inference(model, precision)(clips.requires_grad_()).logits.requires_grad


def test_a_copy_can_be_copied_but_not_pickled(
    model: ASTForAudioClassification, clips: torch.Tensor, products: str
) -> None:
    fast = optimize_for_inference(model)
    assert largest_gap(copy.deepcopy(fast)(clips).logits, fast(clips).logits) == 0.0
    with pytest.raises(AstConfigError, match=r"E305.*packed for inference"):
        pickle.dumps(fast)


def test_a_copy_cannot_be_saved(model: ASTForAudioClassification, tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E305.*packed for inference.*made of"):
        optimize_for_inference(model).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


HALF_SEEN = torch.cat((torch.ones(2, 32), torch.zeros(2, 32)), dim=1)


@pytest.mark.parametrize("asked", [{"output_hidden_states": True}, {"attention_mask": HALF_SEEN}])
def test_merged_tokens_leave_no_states(
    model: ASTForAudioClassification, clips: torch.Tensor, asked: dict[str, Any]
) -> None:
    fast = optimize_for_inference(model, merge_tokens=2)
    with pytest.raises(AstInputError, match=r"E304.*merge_tokens=0"):
        fast(clips, **asked)


def test_projections_may_have_no_biases(products: str) -> None:
    torch.manual_seed(0)
    model = randomise(
        ASTForAudioClassification(ASTConfig(**{**TINY, "num_hidden_layers": 2, "qkv_bias": False}))
    )
    clips = torch.randn(1, TINY["max_length"], TINY["num_mel_bins"])
    exact = model(clips).logits
    for precision, tolerance in (("float32", 1e-5), ("int8", 0.1)):
        found = optimize_for_inference(model, precision)(clips).logits.float()
        assert largest_gap(found, exact) <= tolerance * max(1.0, float(exact.abs().max()))
