"""Padded clips on a GPU: segments without a mask give the results of a mask, and nothing waits for the device."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import TINY
from operators import Operators
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.modules.module import register_module_forward_hook

from ast_hf import ASTConfig, ASTForAudioClassification, ASTModel, padded_attention
from ast_hf.embeddings_ast import token_mask
from ast_hf.modeling_ast import ASTSelfAttention
from ast_hf.patchout import Patchout
from ast_hf.training.compilation import compile_blocks

FRAMES = 64
LENGTHS = (64, 37, 16, 5)


@pytest.fixture
def model() -> ASTForAudioClassification:
    torch.manual_seed(0)
    return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)).eval()


def clips() -> dict[str, torch.Tensor]:
    values = torch.randn(len(LENGTHS), FRAMES, 32, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(FRAMES) < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_values": values, "attention_mask": mask}


def plain_segments(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, *_: Any
) -> torch.Tensor:
    """Compute attention `(tokens, heads, columns)` segment by segment, as torch's operator on a GPU."""
    parts = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        part = (each[start:end].transpose(0, 1) for each in (query, key, value))
        parts.append(torch.nn.functional.scaled_dot_product_attention(*part).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def on_segments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compute attention on segments on the CPU too; return a list of the numbers of segments of each block."""
    counts: list[int] = []

    def attend(*arguments: Any) -> torch.Tensor:
        counts.append(len(arguments[3]) - 1)
        return plain_segments(*arguments)

    monkeypatch.setattr(padded_attention, "varlen_attn", attend)
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: True)
    return counts


def test_segments_sort_the_visible_tokens_first_and_back() -> None:
    visible = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    parts = padded_attention.segments(visible)
    assert parts.order.view(3, 5).tolist() == [[0, 1, 3, 2, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    assert parts.bounds.tolist() == [0, 3, 5, 10, 10, 12, 15]
    assert parts.bounds.dtype == torch.int32
    assert parts.visible.tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1, 1, 0, 0, 0]]
    tokens = torch.arange(30.0).view(3, 5, 2)
    assert parts.sort(tokens)[0, :, 0].tolist() == [0, 2, 6, 4, 8]
    assert torch.equal(parts.unsort(parts.sort(tokens)), tokens)


@pytest.mark.parametrize("patchout", [Patchout(), Patchout(time=2, unstructured=3)], ids=["all", "patchout"])
def test_scores_and_gradients_are_those_of_a_mask(
    patchout: Patchout,
    model: ASTForAudioClassification,
    on_segments: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model.train()
    model.base_model.patchout = patchout
    masked = copy.deepcopy(model)
    torch.manual_seed(3)
    logits = model(**clips()).logits
    assert on_segments == [2 * len(LENGTHS)] * (TINY["num_hidden_layers"] - 1)
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: False)
    torch.manual_seed(3)
    expected = masked(**clips()).logits
    assert (logits - expected).abs().max() <= 1e-6
    logits.square().sum().backward()
    expected.square().sum().backward()
    for (name, one), other in zip(model.named_parameters(), masked.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-5, name


@pytest.mark.parametrize("reads_special", [False, True], ids=["all tokens", "special tokens"])
def test_all_tokens_come_back_in_their_order(
    reads_special: bool, on_segments: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden tokens attend to visible ones where somebody may read them, as a column of an embedding does."""
    torch.manual_seed(0)
    base = ASTModel(ASTConfig(**TINY)).eval()
    base.layernorm.register_forward_hook(lambda *_: None)  # it reads all tokens after the last block
    states = base(**clips(), special_tokens_only=reads_special).last_hidden_state
    assert len(on_segments) == (TINY["num_hidden_layers"] if reads_special else 0)
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: False)
    expected = base(**clips()).last_hidden_state
    read = visible_tokens(base) if reads_special else slice(None)
    assert (states - expected)[read].abs().max() <= 1e-6


def visible_tokens(base: ASTModel) -> torch.Tensor:
    return token_mask(base.config, clips()["attention_mask"], len(LENGTHS), FRAMES)


def _hooked(model: ASTForAudioClassification) -> dict[str, Any]:
    model.base_model.encoder.layer[0].register_forward_hook(lambda *_: None)
    return {}


def _own_attention(model: ASTForAudioClassification) -> dict[str, Any]:
    class Own(ASTSelfAttention):
        pass

    model.base_model.encoder.layer[0].attention.attention.__class__ = Own
    return {}


def _token_mask(model: ASTForAudioClassification) -> dict[str, Any]:
    return {"attention_mask": visible_tokens(model.base_model)}


def _dropping(model: ASTForAudioClassification) -> dict[str, Any]:
    model.config.attention_probs_dropout_prob = 0.1
    model.train()
    return {}


def _eager(model: ASTForAudioClassification) -> dict[str, Any]:
    model.set_attn_implementation("eager")
    return {}


@pytest.mark.parametrize(
    "change",
    [
        _hooked,
        _own_attention,
        _token_mask,
        _dropping,
        _eager,
        lambda _: {"output_hidden_states": True},
        lambda _: {"output_attentions": True},
        lambda _: {"attention_mask": None},
    ],
    ids=["hook", "own attention", "mask over tokens", "dropout", "eager", "states", "weights", "no mask"],
)
def test_a_mask_is_used_where_tokens_may_not_be_sorted(
    change: Any, model: ASTForAudioClassification, on_segments: list[int]
) -> None:
    model(**{**clips(), **change(model)})
    assert on_segments == []


def test_a_hook_on_every_module_needs_a_mask(
    model: ASTForAudioClassification, on_segments: list[int]
) -> None:
    hook = register_module_forward_hook(lambda *_: None)
    try:
        model(**clips())
    finally:
        hook.remove()
    assert on_segments == []


def test_a_hook_on_the_last_norm_reads_tokens_in_their_order(
    model: ASTForAudioClassification, on_segments: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[torch.Tensor] = []
    model.base_model.layernorm.register_forward_hook(lambda *values: read.append(values[-1]))
    model(**clips())
    assert on_segments
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: False)
    model(**clips())
    assert (read[0] - read[1])[visible_tokens(model.base_model)].abs().max() <= 1e-5


def test_a_machine_without_the_kernel_uses_a_mask(model: ASTForAudioClassification) -> None:
    assert not padded_attention.is_able(torch.zeros(1, dtype=torch.bfloat16), 64)
    model(**clips())


@pytest.mark.parametrize("with_segments", [False, True], ids=["mask", "segments"])
def test_padding_does_not_wait_for_an_accelerator(
    with_segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without values stand for those on another device."""
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: with_segments)
    if with_segments and padded_attention.varlen_attn is None:
        pytest.skip("this torch has no attention on segments")
    model = on_no_device()
    with Operators() as operators:
        model(**batch_on_no_device(2, FRAMES)).loss.backward()
    assert operators.reads + operators.copies == []


def on_no_device() -> ASTForAudioClassification:
    with torch.device("meta"):
        return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)).train()


def batch_on_no_device(count: int, frames: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        mask = torch.ones(count, frames, dtype=torch.long)
        labels = torch.zeros(count, dtype=torch.long)
        return {"input_values": torch.empty(count, frames, 32), "attention_mask": mask, "labels": labels}


@pytest.mark.skipif(padded_attention.varlen_attn is None, reason="this torch has no attention on segments")
def test_compiled_blocks_take_segments_of_all_lengths_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padded_attention, "is_able", lambda *_: True)
    model = on_no_device()
    counter = CompileCounterWithBackend("eager")
    torch.compiler.reset()
    compile_blocks(model, backend=counter, dynamic=True, fullgraph=True)
    for count, frames in ((4, 64), (4, 48), (4, 32), (3, 64)):
        model(**batch_on_no_device(count, frames)).loss.backward()
    assert counter.frame_count == 2  # all blocks but the last, and the last


def test_compiled_blocks_project_to_queries_keys_and_values_in_one_product(
    model: ASTForAudioClassification,
) -> None:
    names = list(model.state_dict())
    expected = model(**clips()).logits
    counter = CompileCounterWithBackend("eager")
    torch.compiler.reset()
    compile_blocks(model, backend=counter, fullgraph=True)
    logits = model(**clips()).logits
    assert (logits - expected).abs().max() <= 1e-6
    calls = [str(node.target) for node in counter.graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("linear" in call for call in calls) == 4  # that product, attention's output, two of the MLP
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("names", [("key",), ("query",), ("query", "key", "value")])
def test_one_product_leaves_out_the_biases_that_are_not_there(
    names: tuple[str, ...], model: ASTForAudioClassification
) -> None:
    for block in model.base_model.encoder.layer:
        for name, linear in block.attention.attention.named_children():
            torch.nn.init.ones_(linear.bias)
            if name in names:
                linear.bias = None
    expected = model(**clips()).logits
    torch.compiler.reset()
    compile_blocks(model, backend="eager")
    assert (model(**clips()).logits - expected).abs().max() <= 1e-6
