"""Adapters that plain peft made on transformers 5's AST give the same logits on ours."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import TINY, largest_gap, run_fresh
from hub_server import Hub
from huggingface_hub import HfApi
from packaging.version import Version
from safetensors.torch import load_file, save_file
from transformers.integrations.peft import MIN_PEFT_VERSION

from ast_hf import AstConfigError, ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.training import merge_adapter
from ast_hf.weights.peft_names import own_config, own_name, own_state, stock_name

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")

#: Needed to add, choose and save an adapter through the model, but not to load one.
needs_the_peft_of_transformers = pytest.mark.skipif(
    Version(peft.__version__) < Version(MIN_PEFT_VERSION),
    reason=f"transformers {transformers.__version__} asks for peft {MIN_PEFT_VERSION}, peft {peft.__version__} is here",
)

#: adapters that a script on transformers 5 makes: (class of the configuration, its arguments)
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "query and value": ("LoraConfig", {"r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "the other layers and the head": (
        "LoraConfig",
        {"r": 2, "target_modules": ["k_proj", "o_proj", "fc1", "fc2"], "modules_to_save": ["classifier"]},
    ),
    "pattern": ("LoraConfig", {"r": 2, "target_modules": r".*layers\.\d+\.(attention\.[qk]_proj|mlp\.fc1)"}),
    "pattern for both versions": ("LoraConfig", {"r": 2, "target_modules": r".*\.(query|q_proj)"}),
    "every linear layer": ("LoraConfig", {"r": 2, "target_modules": "all-linear"}),
    "a name that other layers have here": ("LoraConfig", {"r": 2, "target_modules": ["q_proj", "dense"]}),
    "some blocks, own ranks": (
        "LoraConfig",
        {
            "r": 4,
            "target_modules": ["q_proj", "o_proj"],
            "layers_to_transform": [1],
            "layers_pattern": "layers",
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"attention.o_proj": 32},
        },
    ),
    "exceptions": (
        "LoraConfig",
        {"r": 2, "target_modules": ["q_proj", "fc1"], "exclude_modules": ["layers.0.mlp.fc1"]},
    ),
    "a layer trained as a whole": (
        "LoraConfig",
        {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["layers.1.mlp.fc1", "layernorm_after"]},
    ),
    "dora": ("LoraConfig", {"r": 2, "target_modules": ["v_proj"], "use_dora": True}),
    "ia3": ("IA3Config", {"target_modules": ["k_proj", "v_proj", "fc2"], "feedforward_modules": ["fc2"]}),
    "loha": ("LoHaConfig", {"r": 2, "target_modules": ["q_proj", "fc1"], "rank_pattern": {"fc1": 3}}),
}

#: Run without ast_hf: a random AST, and for each request an adapter on it with its logits.
MAKE = """
import json, sys
from pathlib import Path
import peft, torch, transformers

folder, fields, requests = Path({folder!r}), json.loads({fields!r}), json.loads({requests!r})
assert "ast_hf" not in sys.modules
generator = torch.Generator().manual_seed(0)
model = transformers.ASTForAudioClassification(transformers.ASTConfig(**fields))
for parameter in model.parameters():
    parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
model.save_pretrained(folder / "base")
clips = torch.randn(3, fields["max_length"], fields["num_mel_bins"], generator=generator)
answers = {{"": model.eval()(clips).logits.detach()}}
for name, (kind, arguments) in requests.items():
    model = transformers.ASTForAudioClassification.from_pretrained(folder / "base")
    adapted = peft.get_peft_model(model, getattr(peft, kind)(**arguments))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder / name)
    answers[name] = adapted.eval()(clips).logits.detach()
torch.save((clips, answers), folder / "answers.pt")
"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return folders of a base and of adapters, made by transformers and peft alone, with their logits. Read only."""
    folder = tmp_path_factory.mktemp("stock")
    run_fresh(
        MAKE.format(folder=str(folder), fields=json.dumps(TINY), requests=json.dumps(REQUESTS)), timeout=600
    )
    sizes = {"max_length": TINY["max_length"], "num_mel_bins": TINY["num_mel_bins"]}
    ASTFeatureExtractor(**sizes).save_pretrained(folder / "base")
    return folder


def answers(stock: Path) -> dict[str, torch.Tensor]:
    return torch.load(stock / "answers.pt")[1]


@torch.no_grad()
def logits(model: Any, stock: Path) -> torch.Tensor:
    return model.eval()(torch.load(stock / "answers.pt")[0]).logits


def base(stock: Path) -> Any:
    return ASTForAudioClassification.from_pretrained(stock / "base")


@pytest.mark.parametrize("name", REQUESTS)
def test_an_adapter_of_transformers_5_gives_the_same_logits(stock: Path, name: str) -> None:
    model = base(stock)
    info = model.load_adapter(str(stock / name))
    assert (info.missing_keys, info.unexpected_keys) == (set(), set())
    expected = answers(stock)[name]
    assert largest_gap(logits(model, stock), expected) <= 1e-5 * max(1.0, expected.abs().max().item())
    assert largest_gap(expected, answers(stock)[""]) > 1e-2


@pytest.mark.parametrize("name", REQUESTS)
def test_an_adapter_of_transformers_5_is_merged(stock: Path, tmp_path: Path, name: str) -> None:
    merge_adapter(stock / name, tmp_path / "plain")
    expected = answers(stock)[name]
    merged = logits(ASTForAudioClassification.from_pretrained(tmp_path / "plain"), stock)
    assert largest_gap(merged, expected) <= 1e-5 * max(1.0, expected.abs().max().item())


#: damage to the weights of an adapter -> part of the message
BROKEN: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "empty": (lambda state: {}, r"E305.*does not belong to this model: 8 tensors are missing"),
    "half": (lambda state: dict(list(state.items())[::2]), r"E305.*4 tensors are missing"),
    "of a deeper model": (
        lambda state: {**state, **{name.replace("layers.1", "layers.7"): state[name] for name in state}},
        r"E305.*0 tensors are missing, 4 have no place, first .*encoder\.layer\.7",
    ),
    "of a wider model": (
        lambda state: {name: torch.cat((tensor, tensor)) for name, tensor in state.items()},
        "E305.*tensors of other sizes",
    ),
    "nan": (lambda state: {name: tensor * torch.nan for name, tensor in state.items()}, "E306.*holds NaN"),
}


@pytest.mark.parametrize("change", BROKEN)
def test_an_adapter_of_another_model_is_refused(change: str, stock: Path, tmp_path: Path) -> None:
    made, text = BROKEN[change]
    state = load_file(stock / "query and value" / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes(
        (stock / "query and value" / "adapter_config.json").read_bytes()
    )
    broken = {name: tensor.clone() for name, tensor in made(state).items()}
    save_file(broken, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AstConfigError, match=text):
        base(stock).load_adapter(str(tmp_path))


def test_dora_under_our_names(stock: Path, tmp_path: Path) -> None:
    """transformers alone leaves DoRA's magnitudes at their initial values, with a table in the log."""
    config = peft.LoraConfig(r=2, target_modules=["value"], use_dora=True, init_lora_weights=False)
    wrapped = peft.get_peft_model(base(stock), config)
    for name, parameter in wrapped.named_parameters():
        if "magnitude" in name:
            parameter.data += 1.0
    wrapped.save_pretrained(str(tmp_path))
    model = base(stock)
    model.load_adapter(str(tmp_path))
    assert torch.allclose(logits(model, stock), logits(wrapped, stock), atol=1e-5)


@needs_the_peft_of_transformers
def test_adapters_can_be_added_and_deleted(stock: Path) -> None:
    first, second = "query and value", "pattern"
    model = base(stock)
    model.load_adapter(str(stock / first), "first")
    model.load_adapter(str(stock / second), adapter_name="second")
    model.set_adapter("second")
    assert torch.allclose(logits(model, stock), answers(stock)[second], atol=1e-5)
    model.set_adapter("first")
    assert torch.allclose(logits(model, stock), answers(stock)[first], atol=1e-5)
    model.disable_adapters()
    assert torch.allclose(logits(model, stock), answers(stock)[""], atol=1e-5)
    model.enable_adapters()
    model.delete_adapter("second")
    assert model.active_adapters() == ["first"]


def test_load_adapter_accepts_a_configuration_and_weights(stock: Path) -> None:
    folder = str(stock / "query and value")
    config = peft.PeftConfig.from_pretrained(folder)
    state = peft.utils.load_peft_weights(folder, device="cpu")
    requested = set(config.target_modules)
    model = base(stock)
    model.load_adapter(peft_config=config, adapter_state_dict=state)
    assert torch.allclose(logits(model, stock), answers(stock)["query and value"], atol=1e-5)
    assert set(config.target_modules) == requested == {"q_proj", "v_proj"}


@needs_the_peft_of_transformers
def test_adapters_load_in_a_fresh_process_and_are_saved_under_our_names(stock: Path, tmp_path: Path) -> None:
    """An adapter that is saved again has our names: peft alone loads it on our model."""
    run_fresh(
        "import ast_hf, torch\n"
        "from transformers import AutoModelForAudioClassification as Auto\n"
        f"clips, answers = torch.load({str(stock / 'answers.pt')!r})\n"
        f"model = Auto.from_pretrained({str(stock / 'base')!r})\n"
        f"model.load_adapter({str(stock / 'query and value')!r})\n"
        "gap = (model.eval()(clips).logits - answers['query and value']).abs().max().item()\n"
        "assert type(model).__module__ == 'ast_hf.modeling_ast' and gap <= 1e-5, gap\n"
        f"model.save_pretrained({str(tmp_path)!r})\n"
    )
    adapted = peft.PeftModel.from_pretrained(base(stock), str(tmp_path))
    assert torch.allclose(logits(adapted, stock), answers(stock)["query and value"], atol=1e-5)


@pytest.mark.parametrize(
    "through", [pytest.param("add_adapter", marks=needs_the_peft_of_transformers), "get_peft_model"]
)
def test_new_adapters_accept_module_names_of_transformers_5(stock: Path, through: str) -> None:
    model = base(stock)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    if through == "add_adapter":
        model.add_adapter(config)
    else:
        peft.get_peft_model(model, own_config(config, model))
    layers = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    attention = "audio_spectrogram_transformer.encoder.layer.{}.attention.attention.{}"
    assert layers == {attention.format(block, part) for block in (0, 1) for part in ("query", "value")}


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["query", "value"]},
        {"target_modules": ["dense"]},
        {"target_modules": r".*encoder\.layer\.0\..*query"},
        {"target_modules": ["query", "value", "q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": ["nothing"]},
        {},
    ],
    ids=str,
)
def test_a_configuration_under_our_names_is_not_changed(stock: Path, options: dict[str, Any]) -> None:
    config = peft.LoraConfig(**options)
    assert own_config(config, base(stock)) is config


def test_an_adapter_under_our_names_is_read_by_transformers_alone(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = peft.get_peft_model(
        base(stock), peft.LoraConfig(target_modules=["query"], init_lora_weights=False)
    )
    wrapped.save_pretrained(str(tmp_path))
    seen: list[dict[str, Any]] = []
    parent = sys.modules["transformers"].PreTrainedModel
    load_adapter = parent.load_adapter

    @functools.wraps(load_adapter)
    def recording(self: Any, **arguments: Any) -> Any:
        seen.append(arguments)
        return load_adapter(self, **arguments)

    monkeypatch.setattr(parent, "load_adapter", recording)
    model = base(stock)
    model.load_adapter(str(tmp_path), is_trainable=True)
    assert [sorted(arguments) for arguments in seen] == [["is_trainable", "peft_model_id"]]
    assert torch.allclose(logits(model, stock), logits(wrapped, stock), atol=1e-6)


@pytest.mark.parametrize("place", [None, "lora"])
def test_an_adapter_on_the_hub(hub: Hub, stock: Path, place: str | None) -> None:
    api = HfApi(endpoint=hub.url)
    api.create_repo("user/lora")
    folder = stock / "query and value"
    files = "adapter_*"
    api.upload_folder(repo_id="user/lora", folder_path=folder, path_in_repo=place, allow_patterns=files)
    model = base(stock)
    model.load_adapter("user/lora", **({} if place is None else {"adapter_kwargs": {"subfolder": place}}))
    assert torch.allclose(logits(model, stock), answers(stock)["query and value"], atol=1e-5)


def test_a_missing_adapter_is_reported(stock: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"adapter_config\.json"):
        base(stock).load_adapter(str(tmp_path))


BACKBONE = "audio_spectrogram_transformer"
NAMES = {
    "layers.0.attention.q_proj": "encoder.layer.0.attention.attention.query",
    "layers.11.mlp.fc2": "encoder.layer.11.output.dense",
    f"{BACKBONE}.layers.3.mlp.fc1": f"{BACKBONE}.encoder.layer.3.intermediate.dense",
    "layers.2.layernorm_before": "encoder.layer.2.layernorm_before",
    "audio_spectrogram_transformer.layernorm": "audio_spectrogram_transformer.layernorm",
    "classifier.dense": "classifier.dense",
    "embeddings.patch_embeddings.projection": "embeddings.patch_embeddings.projection",
}


@pytest.mark.parametrize(("theirs", "ours"), NAMES.items())
def test_module_names_are_translated(theirs: str, ours: str) -> None:
    assert (own_name(theirs), own_name(ours), stock_name(ours)) == (ours, ours, theirs)


def test_tensor_names_are_translated() -> None:
    head = "base_model.model.audio_spectrogram_transformer."
    tensor = torch.zeros(1)
    state = {
        f"{head}layers.0.attention.v_proj.lora_A.weight": tensor,
        f"{head}layers.1.attention.o_proj.lora_magnitude_vector": tensor,
        f"{head}layers.1.mlp.fc1.ia3_l": tensor,
        "base_model.model.classifier.dense.bias": tensor,
    }
    assert list(own_state(state)) == [
        f"{head}encoder.layer.0.attention.attention.value.lora_A.weight",
        f"{head}encoder.layer.1.attention.output.dense.lora_magnitude_vector",
        f"{head}encoder.layer.1.intermediate.dense.ia3_l",
        "base_model.model.classifier.dense.bias",
    ]
