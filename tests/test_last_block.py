"""The last block for two tokens only: equal to the whole block, and off wherever something reads the patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, largest_gap, randomise
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.utils import parametrizations
from transformers import AttentionInterface

from ast_hf import ASTConfig, ASTForAudioClassification
from ast_hf.last_block import SPECIAL_TOKENS


def model_of(**fields: Any) -> ASTForAudioClassification:
    torch.manual_seed(0)
    model = ASTForAudioClassification(ASTConfig(**{**TINY, "num_labels": 3, **fields}))
    return randomise(model).eval()


def clips(batch: int = 3) -> torch.Tensor:
    config = ASTConfig(**TINY)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, config.max_length, config.num_mel_bins, generator=generator)


def kinds_of(model: ASTForAudioClassification, call: Callable[[], Any]) -> list[str]:
    """Return the kind of attention of each block during a call. A method is replaced, which is no hook."""
    kinds = []
    layers = model.audio_spectrogram_transformer.encoder.layer
    cls = type(layers[0].attention.attention)
    original = cls.forward

    def noted(self: nn.Module, hidden: torch.Tensor, mask: Any, implementation: str) -> Any:
        kinds.append(implementation)
        return original(self, hidden, mask, implementation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "forward", noted)
        call()
    return kinds


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_scores_and_gradients_are_those_of_the_whole_block(
    implementation: str, masked: bool, bias: bool
) -> None:
    model = model_of(qkv_bias=bias)
    model.set_attn_implementation(implementation)
    mask = None
    if masked:
        mask = torch.ones(clips().shape[:2], dtype=torch.long)
        mask[1, 20:] = 0
    results = []
    for whole in (False, True):
        model.zero_grad()
        labels = torch.tensor([0, 1, 2])
        output = model(clips(), attention_mask=mask, labels=labels, output_hidden_states=whole)
        output.loss.backward()
        gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        results.append({"logits": output.logits.detach(), **gradients})
    short, full = results
    assert all(torch.isfinite(tensor).all() for tensor in short.values())
    for name, tensor in full.items():
        assert largest_gap(short[name], tensor) <= 1e-5 * max(1.0, float(tensor.abs().max())), name


def test_only_the_last_block_is_shortened() -> None:
    model = model_of()
    kinds = kinds_of(model, lambda: model(clips()))
    assert kinds == ["sdpa"] * (model.config.num_hidden_layers - 1) + [SPECIAL_TOKENS]


def _lora(model: ASTForAudioClassification) -> None:
    get_peft_model(model, LoraConfig(target_modules=["value"]))


def _hook(place: str) -> Callable[[ASTForAudioClassification], None]:
    def register(model: ASTForAudioClassification) -> None:
        model.get_submodule(place).register_forward_hook(lambda *_: None)

    return register


def _backward_hook(model: ASTForAudioClassification) -> None:
    model.audio_spectrogram_transformer.encoder.layer[-1].register_full_backward_hook(lambda *_: None)


def _own_linear(model: ASTForAudioClassification) -> None:
    class Linear(nn.Linear):
        pass

    last = model.audio_spectrogram_transformer.encoder.layer[-1]
    size = model.config.hidden_size
    last.attention.attention.key = Linear(size, size)


def _own_forward(model: ASTForAudioClassification) -> None:
    last = model.audio_spectrogram_transformer.encoder.layer[-1]
    original = last.attention.forward
    last.attention.forward = lambda *args: original(*args)


def _spectral_norm(model: ASTForAudioClassification) -> None:
    parametrizations.spectral_norm(model.audio_spectrogram_transformer.encoder.layer[-1].output.dense)


def _own_attention(model: ASTForAudioClassification) -> None:
    def attend(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None

    AttentionInterface.register("own_attention", attend)
    model.config._attn_implementation = "own_attention"


def _factored_keys(model: ASTForAudioClassification) -> None:
    attention = model.base_model.encoder.layer[-1].attention.attention
    width = attention.key.in_features
    attention.key = nn.Sequential(nn.Linear(width, 4), nn.Linear(4, width))


def _dropout(model: ASTForAudioClassification) -> None:
    model.config.attention_probs_dropout_prob = 0.5
    model.train()


LAST = "audio_spectrogram_transformer.encoder.layer.1"

CHANGES: dict[str, Callable[[ASTForAudioClassification], None]] = {
    "an adapter": _lora,
    "a hook on the base model": _hook("audio_spectrogram_transformer"),
    "a hook on the encoder": _hook("audio_spectrogram_transformer.encoder"),
    "a hook on the last LayerNorm": _hook("audio_spectrogram_transformer.layernorm"),
    "a hook on the last block": _hook(LAST),
    "a hook on its keys": _hook(f"{LAST}.attention.attention.key"),
    "a hook for gradients": _backward_hook,
    "another linear layer": _own_linear,
    "keys of two layers": _factored_keys,
    "another forward": _own_forward,
    "a parametrised weight": _spectral_norm,
    "an attention function of one's own": _own_attention,
    "dropped attention weights": _dropout,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_whole_block_runs_where_its_result_could_be_read_or_differ(
    change: Callable[[ASTForAudioClassification], None],
) -> None:
    model = model_of()
    change(model)
    assert SPECIAL_TOKENS not in kinds_of(model, lambda: model(clips()))


def test_the_whole_block_runs_under_a_hook_on_all_modules() -> None:
    model = model_of()
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_full_backward_hook,
    ):
        handle = register(lambda *_: None)
        try:
            assert SPECIAL_TOKENS not in kinds_of(model, lambda: model(clips()))
        finally:
            handle.remove()


def test_the_whole_block_runs_if_a_function_of_transformers_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attend(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> Any:
        return value.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", attend)
    model = model_of()
    assert kinds_of(model, lambda: model(clips())) == ["sdpa"] * model.config.num_hidden_layers


def test_weights_in_float64_keep_their_precision() -> None:
    model = model_of().double()
    short = model(clips().double()).logits
    whole = model(clips().double(), output_hidden_states=True).logits
    assert largest_gap(short, whole) <= 1e-12


@pytest.mark.parametrize(
    "asked", [{"output_hidden_states": True}, {"output_attentions": True}, {"output_hidden_states": 0}]
)
def test_the_whole_block_runs_if_states_or_weights_are_asked_for(asked: dict[str, Any]) -> None:
    model = model_of()
    assert SPECIAL_TOKENS not in kinds_of(model, lambda: model(clips(), **asked))


def test_the_base_model_returns_every_token_unless_asked_not_to() -> None:
    model = model_of().audio_spectrogram_transformer
    whole = model(clips())
    assert whole.last_hidden_state.shape[1] == model.config.num_tokens
    short = model(clips(), special_tokens_only=True)
    assert short.last_hidden_state.shape[1] == 2
    assert largest_gap(short.pooler_output, whole.pooler_output) <= 1e-5


def test_compiles_into_one_graph_and_runs_under_checkpointing() -> None:
    model = model_of()
    expected = model(clips()).logits
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert largest_gap(compiled(clips()).logits, expected) <= 1e-6
    model.train()
    model.gradient_checkpointing_enable()
    kinds = kinds_of(model, lambda: model(clips(), labels=torch.tensor([0, 1, 2])).loss.backward())
    assert kinds.count(SPECIAL_TOKENS) == 2, "once forward, once again backward"


@pytest.mark.filterwarnings("ignore")
def test_the_older_export_to_onnx_takes_other_batches(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = model_of()

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.model(values).logits

    file = str(tmp_path / "model.onnx")
    axes = {"values": {0: "batch"}}
    torch.onnx.export(Logits(), (clips(2),), file, input_names=["values"], dynamic_axes=axes, dynamo=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"values": clips(3).numpy()})
    assert largest_gap(torch.from_numpy(found), model(clips(3)).logits.detach()) <= 1e-4
