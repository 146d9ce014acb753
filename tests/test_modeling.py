"""`ASTModel` and `ASTForAudioClassification`: equal to the original and to transformers, strict about inputs."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, largest_gap, randomise
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import ASTForAudioClassification as StockClassifier
from transformers import ASTModel as StockModel

from ast_hf import (
    ASTConfig,
    AstConfigError,
    AstDataError,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    AstInputError,
    ASTModel,
)
from ast_hf.losses import classification_loss

DATA = Path(__file__).parent / "data"

#: Tensors of published checkpoints: name -> shape for TINY with three labels, one layer of two.
BACKBONE = "audio_spectrogram_transformer."
EMBEDDINGS = {
    "embeddings.cls_token": (1, 1, 24),
    "embeddings.distillation_token": (1, 1, 24),
    "embeddings.position_embeddings": (1, 23, 24),
    "embeddings.patch_embeddings.projection.weight": (24, 1, 16, 16),
    "embeddings.patch_embeddings.projection.bias": (24,),
    "layernorm.weight": (24,),
    "layernorm.bias": (24,),
}
LAYER = {
    "attention.attention.query.weight": (24, 24),
    "attention.attention.query.bias": (24,),
    "attention.attention.key.weight": (24, 24),
    "attention.attention.key.bias": (24,),
    "attention.attention.value.weight": (24, 24),
    "attention.attention.value.bias": (24,),
    "attention.output.dense.weight": (24, 24),
    "attention.output.dense.bias": (24,),
    "intermediate.dense.weight": (48, 24),
    "intermediate.dense.bias": (48,),
    "output.dense.weight": (24, 48),
    "output.dense.bias": (24,),
    "layernorm_before.weight": (24,),
    "layernorm_before.bias": (24,),
    "layernorm_after.weight": (24,),
    "layernorm_after.bias": (24,),
}
HEAD = {
    "classifier.layernorm.weight": (24,),
    "classifier.layernorm.bias": (24,),
    "classifier.dense.weight": (3, 24),
    "classifier.dense.bias": (3,),
}

#: Names of the original repository (pattern -> ours); query, key and value are one tensor there.
ORIGINAL_NAMES = [
    (r"^module\.mlp_head\.0\.", "classifier.layernorm."),
    (r"^module\.mlp_head\.1\.", "classifier.dense."),
    (r"^module\.v\.cls_token$", BACKBONE + "embeddings.cls_token"),
    (r"^module\.v\.dist_token$", BACKBONE + "embeddings.distillation_token"),
    (r"^module\.v\.pos_embed$", BACKBONE + "embeddings.position_embeddings"),
    (r"^module\.v\.patch_embed\.proj\.", BACKBONE + "embeddings.patch_embeddings.projection."),
    (r"^module\.v\.norm\.", BACKBONE + "layernorm."),
    (r"^module\.v\.blocks\.", BACKBONE + "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]


def tiny_config(**fields: Any) -> ASTConfig:
    return ASTConfig(**{**TINY, "num_labels": 3, **fields})


def spectrograms(count: int = 2, seed: int = 2) -> torch.Tensor:
    return torch.randn(count, 64, 32, generator=torch.Generator().manual_seed(seed))


pytestmark = pytest.mark.usefixtures("flex_attention_uncompiled")


@pytest.fixture(scope="module")
def model() -> ASTForAudioClassification:
    """Return a tiny model. Read only."""
    return randomise(ASTForAudioClassification(tiny_config()))


# Names, files


def test_parameter_names_and_shapes_are_those_of_published_checkpoints() -> None:
    expected = {BACKBONE + name: shape for name, shape in EMBEDDINGS.items()}
    expected |= {
        f"{BACKBONE}encoder.layer.{n}.{name}": shape for n in (0, 1) for name, shape in LAYER.items()
    }
    state = ASTForAudioClassification(tiny_config()).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected | HEAD


def test_no_bias_means_no_bias() -> None:
    without = ASTModel(tiny_config(qkv_bias=False)).state_dict().keys()
    assert ASTModel(tiny_config()).state_dict().keys() - without == {
        f"encoder.layer.{n}.attention.attention.{part}.bias"
        for n in (0, 1)
        for part in ("query", "key", "value")
    }


@pytest.mark.parametrize("qkv_bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (ASTForAudioClassification, StockClassifier),
        (StockClassifier, ASTForAudioClassification),
        (ASTForAudioClassification, ASTForAudioClassification),
        (ASTModel, StockModel),
        (StockModel, ASTModel),
        (ASTForAudioClassification, ASTModel),
        (StockClassifier, ASTModel),
    ],
    ids=["ours-stock", "stock-ours", "ours-ours", "base-stock", "stock-base", "head-base", "stock-head-base"],
)
def test_checkpoints_load_in_stock_and_back(writer: Any, reader: Any, qkv_bias: bool, tmp_path: Path) -> None:
    config = writer.config_class(**TINY, num_labels=3, qkv_bias=qkv_bias, layer_norm_eps=1e-6)
    written = randomise(writer(config))
    written.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        read, info = reader.from_pretrained(tmp_path, output_loading_info=True)
    lost = {name for name in info["unexpected_keys"] if not name.startswith("classifier.")}
    assert (set(info["missing_keys"]), lost, set(info["mismatched_keys"])) == (set(), set(), set())
    answer, expected = read.eval()(spectrograms()), written(spectrograms(), output_hidden_states=True)
    if hasattr(answer, "logits"):
        assert largest_gap(answer.logits, expected.logits) <= 1e-5
    else:
        base = getattr(written, "audio_spectrogram_transformer", written)
        assert largest_gap(answer.pooler_output, base(spectrograms()).pooler_output) <= 1e-5
        assert largest_gap(answer.last_hidden_state, base(spectrograms()).last_hidden_state) <= 1e-5


def test_file_holds_the_same_names_as_the_model(tmp_path: Path, model: ASTForAudioClassification) -> None:
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def test_head_is_new_on_a_base_checkpoint(tmp_path: Path) -> None:
    base = randomise(ASTModel(tiny_config()))
    base.save_pretrained(tmp_path)
    with pytest.warns(AstHfWarning, match=r"W303") as caught:
        loaded = ASTForAudioClassification.from_pretrained(tmp_path)
    (text,) = [str(entry.message) for entry in caught if issubclass(entry.category, AstHfWarning)]
    assert set(re.findall(r"[\w.]+\.(?:weight|bias)\b", text)) == set(HEAD)
    for name, tensor in base.state_dict().items():
        assert torch.equal(loaded.state_dict()[BACKBONE + name], tensor), name
    assert loaded.classifier.dense.weight.std() > 0.01


def test_other_number_of_labels_makes_only_the_last_layer_new(tiny_checkpoint: Path) -> None:
    before = ASTForAudioClassification.from_pretrained(tiny_checkpoint).state_dict()
    with pytest.warns(
        AstHfWarning, match=r"W303.*7 labels; classifier\.dense\.bias, classifier\.dense\.weight are"
    ):
        loaded, info = ASTForAudioClassification.from_pretrained(
            tiny_checkpoint, num_labels=7, output_loading_info=True
        )
    assert {entry[0] for entry in info["mismatched_keys"]} == {
        "classifier.dense.weight",
        "classifier.dense.bias",
    }
    assert loaded.classifier.dense.weight.shape == (7, 24)
    assert 0.01 < loaded.classifier.dense.weight.std() < 0.03
    assert torch.count_nonzero(loaded.classifier.dense.bias) == 0
    assert loaded.config.id2label[6] == "LABEL_6"
    loaded_names = [name for name in before if not name.startswith("classifier.dense.")]
    assert [name for name in loaded_names if not torch.equal(before[name], loaded.state_dict()[name])] == []


# Equal to the original, to stock, and to itself


def from_original(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, array in state.items():
        for pattern, replacement in ORIGINAL_NAMES:
            name = re.sub(pattern, replacement, name)
        tensor = torch.from_numpy(array)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
        else:
            renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["original_checkpoint", "original_imagenet_start"])
def test_logits_match_the_original_code(name: str, implementation: str, dtype: torch.dtype) -> None:
    with np.load(DATA / f"{name}.npz") as golden:
        sizes = json.loads(str(golden["about"]))
        state = {key.removeprefix("state/"): golden[key] for key in golden if key.startswith("state/")}
        inputs, logits, hidden = (
            torch.from_numpy(golden[key]) for key in ("input", "logits", "last_hidden_state")
        )
    config = ASTConfig(
        **{field: sizes[field] for field in (*TINY, "num_labels")},
        layer_norm_eps=sizes["encoder_layer_norm_eps"],
        classifier_layer_norm_eps=sizes["head_layer_norm_eps"],
        attn_implementation=implementation,
    )
    ours = ASTForAudioClassification(config)
    ours.load_state_dict(from_original(state), strict=True)
    ours.eval().to(dtype)
    answer = ours(inputs.to(dtype))
    # the softmax of "eager" is float32 at any dtype, as in stock
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    assert largest_gap(answer.logits, logits) <= tolerance
    assert (
        largest_gap(ours.audio_spectrogram_transformer(inputs.to(dtype)).last_hidden_state, hidden)
        <= tolerance
    )


def test_hidden_states_and_attentions_match_stock(model: ASTForAudioClassification, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    stock = StockClassifier.from_pretrained(tmp_path, attn_implementation="eager").eval()
    flags = {"output_hidden_states": True, "output_attentions": True}
    ours, theirs = model(spectrograms(), **flags), stock(spectrograms(), **flags)
    for field in ("hidden_states", "attentions"):
        assert (
            len(getattr(ours, field)) == len(getattr(theirs, field)) == (3 if field == "hidden_states" else 2)
        )
        for left, right in zip(getattr(ours, field), getattr(theirs, field), strict=True):
            assert left.shape == right.shape
            assert largest_gap(left, right) <= 1e-5


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_hidden_states_and_attentions(implementation: str, model: ASTForAudioClassification) -> None:
    ours = ASTForAudioClassification(tiny_config(attn_implementation=implementation)).eval()
    ours.load_state_dict(model.state_dict())
    with torch.no_grad():
        plain = ours(spectrograms())
        answer = ours(spectrograms(), output_hidden_states=True, output_attentions=True)
    base = ours.audio_spectrogram_transformer
    assert (plain.hidden_states, plain.attentions) == (None, None)
    assert [tuple(state.shape) for state in answer.hidden_states] == [(2, 23, 24)] * 3
    assert largest_gap(answer.hidden_states[0], base.embeddings(spectrograms())) == 0
    pooled = base.layernorm(answer.hidden_states[-1])[:, :2].mean(dim=1)
    assert largest_gap(ours.classifier(pooled), answer.logits) <= 1e-6
    assert [tuple(weights.shape) for weights in answer.attentions] == [(2, 3, 23, 23)] * 2
    for weights in answer.attentions:
        assert largest_gap(weights.sum(dim=-1), torch.ones(2, 3, 23)) <= 1e-5
    assert largest_gap(answer.logits, plain.logits) <= 1e-5
    assert largest_gap(answer.logits, model(spectrograms()).logits) <= 1e-5


def test_output_flags_of_the_config_and_tuples(model: ASTForAudioClassification) -> None:
    ours = copy.deepcopy(model)
    ours.config.output_hidden_states = True
    assert len(ours(spectrograms()).hidden_states) == 3
    assert ours(spectrograms(), output_hidden_states=False).hidden_states is None
    (logits,) = model(spectrograms(), return_dict=False)
    assert torch.equal(logits, model(spectrograms()).logits)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_attention_implementation_can_be_changed_on_a_model(implementation: str) -> None:
    ours = ASTForAudioClassification(
        tiny_config(attn_implementation="sdpa" if implementation == "eager" else "eager")
    )
    ours.set_attn_implementation(implementation)
    assert ours.config._attn_implementation == implementation


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_batches_match_single_clips(count: int, model: ASTForAudioClassification) -> None:
    batch = spectrograms(count)
    single = torch.cat([model(clip[None]).logits for clip in batch])
    assert largest_gap(model(batch).logits, single) <= 1e-6
    assert torch.equal(model(batch).logits, model(batch).logits)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_stays_close(dtype: torch.dtype, implementation: str, masked: bool) -> None:
    ours = randomise(ASTForAudioClassification(tiny_config(attn_implementation=implementation)))
    mask = frame_mask(40) if masked else None
    expected = ours(spectrograms(), attention_mask=mask).logits
    logits = ours.to(dtype)(spectrograms().to(dtype), attention_mask=mask).logits
    assert logits.dtype == dtype
    assert largest_gap(logits, expected) <= 0.05 * expected.abs().max()


@pytest.mark.long
def test_compiles_without_a_graph_break(model: ASTForAudioClassification) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    calls: list[dict[str, Any]] = [{}, {"attention_mask": frame_mask(40)}, {"labels": torch.tensor([0, 2])}]
    with torch.no_grad():
        for arguments in calls:
            expected, answer = model(spectrograms(), **arguments), compiled(spectrograms(), **arguments)
            assert largest_gap(answer.logits, expected.logits) <= 1e-5
            assert (answer.loss is None) == ("labels" not in arguments)


# Training


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        ours = randomise(ASTForAudioClassification(tiny_config())).train()
        if checkpointing:
            ours.gradient_checkpointing_enable()
            hook = ours.audio_spectrogram_transformer.encoder.layer[0].intermediate.register_forward_hook
            hook(lambda *_: calls.append(1))
        ours(spectrograms(), labels=torch.tensor([0, 2])).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in ours.named_parameters()})
    assert len(calls) == 2  # once forward, once more for backward
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert largest_gap(gradient, gradients[1][name]) <= 1e-6, name


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("field", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_acts_in_training_only(field: str, implementation: str) -> None:
    ours = randomise(
        ASTForAudioClassification(tiny_config(attn_implementation=implementation, **{field: 0.5}))
    )
    assert torch.equal(ours(spectrograms()).logits, ours(spectrograms()).logits)
    ours.train()
    assert largest_gap(ours(spectrograms()).logits, ours(spectrograms()).logits) > 1e-3


def test_lora_trains_adapters_only_and_merges_back() -> None:
    base = randomise(ASTForAudioClassification(tiny_config()))
    names = set(base.state_dict())
    before = base(spectrograms()).logits.detach()
    frozen = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(target_modules=["query", "value"], r=4))
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 2 * 2  # layers, query and value, A and B
    assert all("lora_" in name for name in trained)
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(input_values=spectrograms(), labels=torch.tensor([0, 2])).loss.backward()
        optimizer.step()
    adapted.eval()
    after = adapted(input_values=spectrograms()).logits.detach()
    assert largest_gap(after, before) > 1e-4
    merged = adapted.merge_and_unload()
    assert set(merged.state_dict()) == names
    assert type(merged) is ASTForAudioClassification
    assert largest_gap(merged(spectrograms()).logits, after) <= 1e-5
    changed = {name for name, tensor in merged.state_dict().items() if not torch.equal(tensor, frozen[name])}
    assert changed == {
        f"{BACKBONE}encoder.layer.{n}.attention.attention.{part}.weight"
        for n in (0, 1)
        for part in ("query", "value")
    }


@pytest.mark.parametrize("std", [0.02, 0.05])
def test_initialisation(std: float) -> None:
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 96,
        "intermediate_size": 384,
        "max_length": 1024,
        "num_hidden_layers": 1,
        "num_labels": 50,
    }
    state = ASTForAudioClassification(tiny_config(**sizes, initializer_range=std)).state_dict()
    for name, tensor in state.items():
        if "layernorm" in name:
            assert torch.all(tensor == (1.0 if name.endswith("weight") else 0.0)), name
        elif "projection" in name:  # torch's own initialisation: uniform in +-1/sqrt(16 * 16)
            assert 0.05 < tensor.abs().max() <= 1 / 16, name
        elif name.endswith("bias"):
            assert torch.count_nonzero(tensor) == 0, name
        else:
            spread = 0.25 if tensor.numel() < 1000 else 0.05
            assert abs(tensor.std().item() / std - 1) < spread, name
            assert abs(tensor.mean().item()) < 4 * std / tensor.numel() ** 0.5, name
            assert tensor.abs().max() <= 2.0, name
    embeddings = BACKBONE + "embeddings."
    assert not torch.equal(state[embeddings + "cls_token"], state[embeddings + "distillation_token"])


# Losses. Logits (0, ln 3): softmax (1/4, 3/4), sigmoids (1/2, 3/4).

LOGITS = torch.tensor([[0.0, 1.0986123]])
LOSSES = [
    ("index", LOGITS, torch.tensor([1]), "single_label_classification", 0.287682),
    ("index-inferred", LOGITS, torch.tensor([1]), None, 0.287682),
    (
        "index-int32-column",
        LOGITS,
        torch.tensor([[1]], dtype=torch.int32),
        "single_label_classification",
        0.287682,
    ),
    ("soft", LOGITS, torch.tensor([[0.25, 0.75]]), "single_label_classification", 0.562335),
    ("ignored", LOGITS.repeat(2, 1), torch.tensor([1, -100]), "single_label_classification", 0.287682),
    ("tags", LOGITS, torch.tensor([[0.0, 1.0]]), "multi_label_classification", 0.490415),
    ("tags-inferred", LOGITS, torch.tensor([[0.0, 1.0]]), None, 0.490415),
    ("tags-int", LOGITS, torch.tensor([[0, 1]]), "multi_label_classification", 0.490415),
    ("regression-inferred", torch.tensor([[1.5], [2.0]]), torch.tensor([1.0, 2.0]), None, 0.125),
    ("regression-two", torch.tensor([[1.5, 2.0]]), torch.tensor([[1.0, 0.0]]), "regression", 2.125),
    ("sigmoid-per-class", LOGITS, torch.tensor([1]), "sigmoid_per_class", 0.490415),
    ("sigmoid-per-class-soft", LOGITS, torch.tensor([[0.25, 0.75]]), "sigmoid_per_class", 0.627741),
    ("half", LOGITS.half(), torch.tensor([1]), None, 0.287682),
]


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "value"), [row[1:] for row in LOSSES], ids=[r[0] for r in LOSSES]
)
def test_loss_values(logits: torch.Tensor, labels: torch.Tensor, kind: str | None, value: float) -> None:
    loss = classification_loss(logits, labels, kind)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(value, abs=3e-4 if logits.dtype == torch.float16 else 1e-6)


@pytest.mark.parametrize(
    ("kind", "gradient"),
    [
        # mean over two clips of softmax - target: (1/4 - 0.6, 3/4 - 0.4) and (1/2 - 1, 1/2 - 0), halved
        ("single_label_classification", [[-0.175, 0.175], [-0.25, 0.25]]),
        # mean over four pairs of sigmoid - target: (1/2 - 0.6, 3/4 - 0.4) and (1/2 - 1, 1/2 - 0), quartered
        ("sigmoid_per_class", [[-0.025, 0.0875], [-0.125, 0.125]]),
    ],
)
def test_gradient_of_soft_labels_by_hand(kind: str, gradient: list) -> None:
    logits = torch.tensor([[0.0, 1.0986123], [0.0, 0.0]], requires_grad=True)
    classification_loss(logits, torch.tensor([[0.6, 0.4], [1.0, 0.0]]), kind).backward()
    torch.testing.assert_close(logits.grad, torch.tensor(gradient), rtol=0, atol=1e-6)


def test_the_problem_type_is_not_inferred_from_the_first_batch() -> None:
    ours = randomise(ASTForAudioClassification(tiny_config()))
    answer = ours(spectrograms(1)).logits[0]
    tags, index = torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([2])
    expected_tags = (torch.log1p(answer.exp()) - answer * tags[0]).mean()
    expected_index = answer.exp().sum().log() - answer[2]
    for labels, expected in ((tags, expected_tags), (index, expected_index), (tags, expected_tags)):
        assert ours(spectrograms(1), labels=labels).loss.item() == pytest.approx(expected.item(), abs=1e-5)
        assert ours.config.problem_type is None
    one = randomise(ASTForAudioClassification(tiny_config(num_labels=1)))
    value = one(spectrograms(1)).logits.item()
    assert one(spectrograms(1), labels=torch.tensor([2.0])).loss.item() == pytest.approx(
        (value - 2) ** 2, abs=1e-5
    )
    assert one.config.problem_type is None


# Masks


def frame_mask(*real: int) -> torch.Tensor:
    """Return a mask (2, 64): the first `real` frames of each clip are audio."""
    lengths = torch.tensor(real * 2 if len(real) == 1 else real)
    return (torch.arange(64) < lengths[:, None]).long()


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_masked_frames_have_no_influence(implementation: str) -> None:
    ours = randomise(ASTForAudioClassification(tiny_config(attn_implementation=implementation)))
    clean = spectrograms()
    mask = frame_mask(40, 24)
    padded, changed = clean.clone(), clean.clone()
    padded[0, 40:], padded[1, 24:] = 50.0, -50.0
    changed[0, 39], changed[1, 23] = 50.0, -50.0
    with torch.no_grad():
        expected = ours(clean, attention_mask=mask).logits
        assert largest_gap(ours(padded, attention_mask=mask).logits, expected) <= 1e-6
        assert largest_gap(ours(padded).logits, ours(clean).logits) > 1e-2
        for clip in (0, 1):
            assert largest_gap(ours(changed, attention_mask=mask).logits[clip], expected[clip]) > 1e-2
        assert largest_gap(ours(clean, attention_mask=frame_mask(64)).logits, ours(clean).logits) <= 1e-6


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_frame_mask_equals_its_token_mask(
    implementation: str, model: ASTForAudioClassification, tmp_path: Path
) -> None:
    ours = ASTForAudioClassification(tiny_config(attn_implementation=implementation)).eval()
    ours.load_state_dict(model.state_dict())
    columns = [[1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]]  # patches start every 8 frames and span 16
    tokens = torch.tensor([[1, 1] + row * 3 for row in columns])
    model.save_pretrained(tmp_path)
    stock = StockClassifier.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = stock(spectrograms(), attention_mask=tokens).logits
        assert largest_gap(ours(spectrograms(), attention_mask=tokens).logits, expected) <= 1e-5
        for frames in (
            frame_mask(40, 24),
            frame_mask(47, 31),
            frame_mask(40, 24).bool(),
            frame_mask(40, 24).float(),
        ):
            assert largest_gap(ours(spectrograms(), attention_mask=frames).logits, expected) <= 1e-5


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_mask_without_a_whole_patch_still_gives_numbers(implementation: str) -> None:
    ours = randomise(ASTForAudioClassification(tiny_config(attn_implementation=implementation)))
    first_patch_only = ours(spectrograms(), attention_mask=frame_mask(16)).logits
    for real in (0, 7):
        logits = ours(spectrograms(), attention_mask=frame_mask(real)).logits
        assert largest_gap(logits, first_patch_only) <= 1e-6


def test_attentions_leave_masked_tokens_out(model: ASTForAudioClassification) -> None:
    weights = model(spectrograms(), attention_mask=frame_mask(16), output_attentions=True).attentions[0]
    seen = weights.amax(dim=(0, 1, 2)).nonzero().flatten().tolist()
    assert seen == [0, 1, 2, 9, 16]  # the special tokens and the first column of three rows of seven


# Refusals

BAD_INPUTS: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("transposed", lambda: torch.zeros(1, 32, 64), ["(1, 32, 64)", "swap the last two axes"]),
    ("two-more-bins", lambda: torch.zeros(1, 64, 34), ["(1, 64, 34)", "num_mel_bins=32"]),
    ("less-than-a-patch", lambda: torch.zeros(1, 15, 32), ["(1, 15, 32)", "16 frames"]),
    ("no-batch-axis", lambda: torch.zeros(64, 32), ["(64, 32)", "batch axis"]),
    ("four-axes", lambda: torch.zeros(1, 1, 64, 32), ["(1, 1, 64, 32)"]),
    ("waveform", lambda: torch.zeros(16_000), ["(16000,)"]),
    ("scalar", lambda: torch.tensor(1.0), ["()"]),
    ("empty-batch", lambda: torch.zeros(0, 64, 32), ["(0, 64, 32)", "batch"]),
    ("int", lambda: torch.zeros(1, 64, 32, dtype=torch.int64), ["torch.int64", "float"]),
    ("bool", lambda: torch.zeros(1, 64, 32, dtype=torch.bool), ["torch.bool", "float"]),
    ("complex", lambda: torch.zeros(1, 64, 32, dtype=torch.complex64), ["torch.complex64", "float"]),
    ("none", lambda: None, ["NoneType"]),
    ("array", lambda: np.zeros((1, 64, 32), np.float32), ["ndarray", "return_tensors='pt'"]),
    ("list", lambda: [[0.0] * 32] * 64, ["list"]),
]


def assert_explains(error: AstHfError, code: str, names: list[str]) -> None:
    message = str(error)
    assert error.code == code, message
    assert [name for name in names if name not in message] == []
    assert "Fix: " in message
    assert len(message) <= 300
    assert "\n" not in message


@pytest.mark.parametrize(
    ("make", "names"), [row[1:] for row in BAD_INPUTS], ids=[row[0] for row in BAD_INPUTS]
)
@pytest.mark.parametrize("head", [True, False], ids=["head", "base"])
def test_input_is_refused(
    head: bool, make: Callable, names: list[str], model: ASTForAudioClassification
) -> None:
    with pytest.raises(AstInputError) as caught:
        (model if head else model.audio_spectrogram_transformer)(make())
    assert_explains(caught.value, "E304", ["input_values", *names])


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 63),
        torch.ones(1, 64),
        torch.ones(64),
        torch.ones(2, 21),
        torch.ones(2, 1, 23, 23),
        [[1] * 64] * 2,
    ],
    ids=["frames", "batch", "no-batch", "patches", "four-axes", "list"],
)
def test_mask_is_refused(mask: Any, model: ASTForAudioClassification) -> None:
    with pytest.raises(AstInputError) as caught:
        model(spectrograms(), attention_mask=mask)
    assert_explains(caught.value, "E304", ["attention_mask"])


def test_misspelt_argument_of_forward_is_warned_of(model: ASTForAudioClassification) -> None:
    with pytest.warns(AstHfWarning, match=r"W302.*attention_maks.*did you mean 'attention_mask'"):
        model(spectrograms(), attention_maks=frame_mask(40))


def test_other_columns_of_a_data_set_are_ignored(
    model: ASTForAudioClassification, recwarn: pytest.WarningsRecorder
) -> None:
    plain = model(spectrograms()).logits
    assert torch.equal(model(spectrograms(), fold=torch.tensor([1, 2]), use_cache=False).logits, plain)
    assert [str(entry.message) for entry in recwarn] == []


BAD_LABELS: list[tuple[str, str | None, torch.Tensor, list[str]]] = [
    ("all-ignored", None, torch.tensor([-100, -100]), ["-100"]),
    ("too-high", None, torch.tensor([0, 3]), ["labels[1]", "3", "0..2"]),
    ("negative", None, torch.tensor([-1, 0]), ["labels[0]", "-1"]),
    ("too-few", None, torch.tensor([0]), ["(1,)", "(2,)"]),
    ("float-indices", None, torch.tensor([0.0, 1.0]), ["(2,)", "(2, 3)"]),
    ("soft-shape", "single_label_classification", torch.ones(2, 2), ["(2, 2)", "(2, 3)"]),
    ("tags-shape", "multi_label_classification", torch.tensor([0, 1]), ["(2,)", "(2, 3)"]),
    ("numbers-shape", "regression", torch.ones(2), ["(2,)", "(2, 3)"]),
]


@pytest.mark.parametrize(
    ("kind", "labels", "names"), [row[1:] for row in BAD_LABELS], ids=[r[0] for r in BAD_LABELS]
)
def test_labels_are_refused(kind: str | None, labels: torch.Tensor, names: list[str]) -> None:
    with pytest.raises(AstDataError) as caught:
        ASTForAudioClassification(tiny_config(problem_type=kind))(spectrograms(), labels=labels)
    assert_explains(caught.value, "E208", ["labels", *names])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"max_length": 8, "num_mel_bins": 32}, ["(1, 8, 32)", "one patch (16 frames)"]),
        ({"max_length": 64, "num_mel_bins": 36}, ["(1, 64, 36)", "num_mel_bins=32"]),
    ],
    ids=["shorter", "bins"],
)
def test_features_of_another_extractor_are_refused(
    fields: dict[str, Any], names: list[str], model: ASTForAudioClassification, tone: np.ndarray
) -> None:
    features = ASTFeatureExtractor(**fields)(tone, sampling_rate=16_000, truncation=True, return_tensors="pt")
    with pytest.raises(AstInputError) as caught:
        model(**features)
    assert_explains(caught.value, "E304", ["input_values", *names])


@pytest.mark.parametrize("field", ["men", "max_lenght", "sampling_rte"])
def test_misspelt_extractor_field_is_refused(field: str) -> None:
    with pytest.raises(AstConfigError, match=rf"E301.*{field}"):
        ASTFeatureExtractor(**{field: 1})  # type: ignore[arg-type]
