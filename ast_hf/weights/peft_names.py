"""Adapters of peft for transformers 5's AST, translated to our module names, which are those on the Hub.

transformers 5 calls the layers of a block `layers.0.attention.q_proj`; checkpoints on the Hub, transformers 4
and `ast_hf` call them `encoder.layer.0.attention.attention.query`. An adapter names layers twice: in its
configuration (`target_modules`), and in the names of its weights.
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

from ..downloads import verify_loaded
from ..errors import error, shown
from .names import hub_name
from .reading import ADAPTER_CONFIG

#: Layers of a block that have other names in transformers 5.
_LAYERS = (
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.o_proj",
    "mlp.fc1",
    "mlp.fc2",
)

_STOCK_LAYER = re.compile(rf"((?:.*\.)?)(layers\.\d+\.(?:{'|'.join(map(re.escape, _LAYERS))}))(\..+)?")
_STOCK_BLOCK = re.compile(r"((?:.*\.)?)layers\.(\d+)(\..+)?")
_OWN_BLOCK = re.compile(r"((?:.*\.)?)encoder\.layer\.(\d+)\.(.+)")

#: Names that peft gives a layer that it has wrapped in an adapter.
_WRAPPED = re.compile(r"\.(?:base_layer|original_module)(?:\.|$)")

#: Fields of an adapter's configuration that restrict its layers, superfluous with a list of all layers.
_NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern")

#: Arguments of `load_adapter` that locate a file on the Hub.
_DOWNLOAD = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def own_name(name: str) -> str:
    """Return our name of a module or tensor that has transformers 5's name; any other name unchanged."""
    if layer := _STOCK_LAYER.fullmatch(name):
        before, module, after = layer.groups(default="")
        return before + hub_name(f"{module}.weight").removesuffix(".weight") + after
    if block := _STOCK_BLOCK.fullmatch(name):
        before, number, after = block.groups(default="")
        return f"{before}encoder.layer.{number}{after}"
    return name


_STOCK_NAMES = {own_name(f"layers.0.{layer}").removeprefix("encoder.layer.0."): layer for layer in _LAYERS}


def stock_name(name: str) -> str:
    """Return transformers 5's name of one of our modules; names outside the blocks are equal in both."""
    block = _OWN_BLOCK.fullmatch(name)
    if not block:
        return name
    before, number, inner = block.groups()
    return f"{before}layers.{number}.{_STOCK_NAMES.get(inner, inner)}"


def own_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an adapter's weights under our names."""
    return {own_name(name): tensor for name, tensor in state.items()}


def own_config(config: Any, model: nn.Module) -> Any:
    """Return an adapter's configuration with the module names of `model`, which may have adapters already.

    A `peft.PeftConfig` with names that only transformers 5 has is copied, and the copy lists the layers by
    our names; any other is returned itself.
    """
    if not is_peft_available() or getattr(config, "target_modules", None) is None:
        return config
    from peft.tuners.tuners_utils import check_target_module_exists

    names = _layer_names(model)
    targets = {stock: ours for stock, ours in names.items() if check_target_module_exists(config, stock)}
    if all(check_target_module_exists(config, ours) for ours in targets.values()):
        return config
    translated = copy.copy(config)
    translated.target_modules = sorted(targets.values())
    for field in _NARROWING:
        if hasattr(config, field):
            setattr(translated, field, None)
    for field in ("rank_pattern", "alpha_pattern"):
        if getattr(config, field, None):
            setattr(translated, field, _own_patterns(getattr(config, field), targets))
    if getattr(config, "feedforward_modules", None):
        pattern = config.feedforward_modules
        translated.feedforward_modules = [ours for stock, ours in targets.items() if _matches(stock, pattern)]
    if getattr(config, "modules_to_save", None):
        modules = [ours for module in config.modules_to_save for ours in _own_modules(module, names)]
        translated.modules_to_save = modules
    return translated


def own_arguments(model: PreTrainedModel, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of `model.load_adapter` by name, with configuration and weights under our names.

    An adapter that has our names already is left to transformers to read. An adapter that peft cannot read
    raises peft's exception.
    """
    bound = inspect.signature(PreTrainedModel.load_adapter).bind(model, *args, **kwargs).arguments
    arguments = {**bound, **bound.get("kwargs", {})}
    arguments = {name: value for name, value in arguments.items() if name not in ("self", "kwargs")}
    config = arguments.get("peft_config")
    state = arguments.get("adapter_state_dict")
    if not is_peft_available():
        return arguments
    if arguments.get("peft_model_id") is not None:
        config, state = _read(arguments["peft_model_id"], config, state, _hub_arguments(arguments))
    if config is None or state is None:
        return arguments
    translated = own_config(config, model)
    renamed = {_loaded_name(name): state[name] for name in state}
    if translated is config and renamed.keys() == state.keys():
        return arguments
    return {**arguments, "peft_config": translated, "adapter_state_dict": renamed}


def _loaded_name(name: str) -> str:
    """Return our name of a tensor as transformers expects it: DoRA's magnitudes as in peft's module."""
    return own_name(f"{name}.weight" if name.endswith(".lora_magnitude_vector") else name)


def _read(
    source: str, config: Any, state: Any, hub: dict[str, Any]
) -> tuple[Any, Mapping[str, torch.Tensor]]:
    """Return the configuration and the weights of an adapter; only those that are None are read."""
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    if config is None:
        config = PeftConfig.from_pretrained(source, **hub)
    if state is None:
        state = load_peft_weights(source, device="cpu", **hub)
    verify_loaded(source, "adapter_config.json", hub, with_others=True)
    check_sizes(config, state, str(source))
    return config, state


#: Fields of adapters that are sizes of their tensors.
_SIZES = ("r", "init_r", "target_r")


def check_sizes(config: Any, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise E305 for ranks above any size of the adapter's tensors, and for a module to import.

    peft would allocate what the rank says, and import the module that `megatron_core` names.
    """
    where = f"{source!r}: {ADAPTER_CONFIG}"
    if getattr(config, "megatron_config", None):
        what = "asks for Megatron's layers, whose module would be imported by name"
        raise error("E305", where=where, what=what, fix="remove megatron_config")
    largest = max((size for tensor in state.values() for size in tensor.shape), default=0)
    patterns = getattr(config, "rank_pattern", None) or {}
    values = [getattr(config, name, None) for name in _SIZES]
    values += patterns.values() if isinstance(patterns, dict) else [patterns]
    for value in values:
        # AdaLoRA stores the ranks of its tensors as masks, lists of true and false
        if isinstance(value, list) or value is None:
            continue
        if not isinstance(value, int) or not 0 <= value <= max(largest, _SMALL_RANK):
            what = f"has the rank {shown(value)}, but no tensor has more than {largest} rows or columns"
            raise error("E305", where=where, what=what, fix="restore the file from its source")


#: Ranks up to this need little memory whatever the weights; AdaLoRA's initial rank may be above its tensors'.
_SMALL_RANK = 64


def _hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `load_adapter` that locate the adapter on the Hub, from all of its options."""
    of_model = getattr(arguments.get("load_config"), "download_kwargs", None) or {}
    of_adapter = {**(arguments.get("download_kwargs") or {}), **(arguments.get("adapter_kwargs") or {})}
    merged = {**of_model, **arguments, **of_adapter}
    return {name: merged[name] for name in _DOWNLOAD if merged.get(name) is not None}


def _layer_names(model: nn.Module) -> dict[str, str]:
    """Return transformers 5's name -> ours of each module that has parameters, without adapters."""
    modules = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    wrapped = {_WRAPPED.split(module)[0] for module in modules if _WRAPPED.search(module)}
    plain = {module for module in modules if not any(module.startswith(f"{layer}.") for layer in wrapped)}
    return {stock_name(name): name for name in sorted(wrapped | plain)}


def _own_patterns(patterns: Mapping[str, Any], targets: Mapping[str, str]) -> dict[str, Any]:
    """Return our name -> rank or alpha of each layer with its own value; AdaLoRA's are of tensors."""
    from peft.utils.other import get_pattern_key

    keys = {ours: get_pattern_key(list(patterns), stock) for stock, ours in targets.items()}
    values = {ours: patterns[key] for ours, key in keys.items() if key in patterns}
    return values or {own_name(name): value for name, value in patterns.items()}


def _own_modules(module: str, names: Mapping[str, str]) -> Iterable[str]:
    """Return our names of the modules that `modules_to_save` refers to; peft matches the ends of names."""
    renamed = [ours for stock, ours in names.items() if ours != stock and f".{stock}".endswith(f".{module}")]
    return renamed or [own_name(module)]


def _matches(name: str, pattern: str | Iterable[str]) -> bool:
    """Return True if a module's name matches a regular expression, or ends in one of several suffixes."""
    if isinstance(pattern, str):
        return re.fullmatch(pattern, name) is not None
    return any(name.endswith(ending) for ending in pattern)
