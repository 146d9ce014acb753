"""Adapters of peft that were made for transformers 5's AST, brought to our module names, which are those on the Hub.

transformers 5 calls the layers of a block `layers.0.attention.q_proj`, where checkpoints on the Hub, transformers 4 and
`ast_hf` have `encoder.layer.0.attention.attention.query`. An adapter names layers twice: its configuration says which
ones it changes, and its weights are called after them.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import is_peft_available

from .names import hub_name

#: The layers of a block that transformers 5 calls otherwise.
_LAYERS = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")

_STOCK_LAYER = re.compile(rf"((?:.*\.)?)(layers\.\d+\.(?:{'|'.join(map(re.escape, _LAYERS))}))(\..+)?")
_STOCK_BLOCK = re.compile(r"((?:.*\.)?)layers\.(\d+)(\..+)?")
_OWN_BLOCK = re.compile(r"((?:.*\.)?)encoder\.layer\.(\d+)\.(.+)")

#: How peft calls what it has put an adapter around.
_WRAPPED = re.compile(r"\.(?:base_layer|original_module)(?:\.|$)")

#: Fields of an adapter's configuration that narrow down its layers; a list of all layers by name needs none of them.
_NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern")

#: Arguments of `load_adapter` that say where a file on the Hub lies.
_DOWNLOAD = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def own_name(name: str) -> str:
    """Return our name of a module or tensor that has transformers 5's name; any other name as it is."""
    if layer := _STOCK_LAYER.fullmatch(name):
        before, module, after = layer.groups(default="")
        return before + hub_name(f"{module}.weight").removesuffix(".weight") + after
    if block := _STOCK_BLOCK.fullmatch(name):
        before, number, after = block.groups(default="")
        return f"{before}encoder.layer.{number}{after}"
    return name


_STOCK_NAMES = {own_name(f"layers.0.{layer}").removeprefix("encoder.layer.0."): layer for layer in _LAYERS}


def stock_name(name: str) -> str:
    """Return transformers 5's name of one of our modules; that of a module outside the blocks as it is."""
    block = _OWN_BLOCK.fullmatch(name)
    if not block:
        return name
    before, number, inner = block.groups()
    return f"{before}layers.{number}.{_STOCK_NAMES.get(inner, inner)}"


def own_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an adapter's weights under our names."""
    return {own_name(name): tensor for name, tensor in state.items()}


def own_config(config: Any, model: nn.Module) -> Any:
    """Return an adapter's configuration for a model of ours.

    Args:
        config: a `peft.PeftConfig`. It is not changed.
        model: one of ours, with or without adapters in it.

    Returns:
        A copy that lists the layers by our names, when `config` has layers that only transformers 5 calls so; else
        `config` itself.
    """
    if not is_peft_available() or getattr(config, "target_modules", None) is None:
        return config
    from peft.tuners.tuners_utils import check_target_module_exists

    names = _layer_names(model)
    asked = {stock: own for stock, own in names.items() if check_target_module_exists(config, stock)}
    if all(check_target_module_exists(config, own) for own in asked.values()):
        return config
    own = copy.copy(config)
    own.target_modules = sorted(asked.values())
    for field in _NARROWING:
        if hasattr(config, field):
            setattr(own, field, None)
    for field in ("rank_pattern", "alpha_pattern"):
        if getattr(config, field, None):
            setattr(own, field, _own_patterns(getattr(config, field), asked))
    if getattr(config, "feedforward_modules", None):
        wide = config.feedforward_modules
        own.feedforward_modules = [name for stock, name in asked.items() if _is_named(stock, wide)]
    if getattr(config, "modules_to_save", None):
        own.modules_to_save = [ours for module in config.modules_to_save for ours in _own_modules(module, names)]
    return own


def own_arguments(model: PreTrainedModel, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of `model.load_adapter` by name, with configuration and weights under our names.

    An adapter that has our names is left to transformers to read. Raises what peft raises for one that it cannot read.
    """
    bound = inspect.signature(PreTrainedModel.load_adapter).bind(model, *args, **kwargs).arguments
    given = {**bound, **bound.get("kwargs", {})}
    given = {name: value for name, value in given.items() if name not in ("self", "kwargs")}
    config, state = given.get("peft_config"), given.get("adapter_state_dict")
    if not is_peft_available():
        return given
    if given.get("peft_model_id") is not None:
        config, state = _read(given["peft_model_id"], config, state, _download(given))
    if config is None or state is None:
        return given
    own, named = own_config(config, model), {_loaded_name(name): state[name] for name in state}
    if own is config and named.keys() == state.keys():
        return given
    return {**given, "peft_config": own, "adapter_state_dict": named}


def _loaded_name(name: str) -> str:
    """Return our name of a tensor as transformers looks for it: DoRA's magnitudes as peft's module has them, not as
    peft writes them.
    """
    return own_name(f"{name}.weight" if name.endswith(".lora_magnitude_vector") else name)


def _read(source: str, config: Any, state: Any, download: dict[str, Any]) -> tuple[Any, Mapping[str, torch.Tensor]]:
    """Return the configuration and the weights of an adapter; those that are given are not read."""
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    if config is None:
        config = PeftConfig.from_pretrained(source, **download)
    return config, load_peft_weights(source, device="cpu", **download) if state is None else state


def _download(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return where on the Hub an adapter lies, out of all arguments of `load_adapter`."""
    of_model = getattr(given.get("load_config"), "download_kwargs", None) or {}
    merged = {**of_model, **given, **(given.get("download_kwargs") or {}), **(given.get("adapter_kwargs") or {})}
    return {name: merged[name] for name in _DOWNLOAD if merged.get(name) is not None}


def _layer_names(model: nn.Module) -> dict[str, str]:
    """Return transformers 5's name -> ours of each module with parameters of its own, adapters left out."""
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    wrapped = {_WRAPPED.split(owner)[0] for owner in owners if _WRAPPED.search(owner)}
    plain = {owner for owner in owners if not any(owner.startswith(f"{layer}.") for layer in wrapped)}
    return {stock_name(name): name for name in sorted(wrapped | plain)}


def _own_patterns(patterns: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, Any]:
    """Return the rank or alpha of each layer that has one of its own, by our name.

    AdaLoRA's ranks are kept by the names of tensors instead.
    """
    from peft.utils.other import get_pattern_key

    by_layer = {ours: get_pattern_key(list(patterns), stock) for stock, ours in asked.items()}
    own = {ours: patterns[key] for ours, key in by_layer.items() if key in patterns}
    return own or {own_name(name): value for name, value in patterns.items()}


def _own_modules(module: str, names: Mapping[str, str]) -> Iterable[str]:
    """Return the modules that are trained as a whole, by our names; peft names them by how their names end."""
    renamed = [own for stock, own in names.items() if own != stock and f".{stock}".endswith(f".{module}")]
    return renamed or [own_name(module)]


def _is_named(name: str, wanted: str | Iterable[str]) -> bool:
    """Return whether a pattern, or one of several endings, names a module."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name.endswith(ending) for ending in wanted)
