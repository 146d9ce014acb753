"""Checks of a checkpoint: its folder before the model is built, and the model after loading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ..configuration_ast import ASTConfig, Geometry
from ..configuration_ensemble import ASTEnsembleConfig, check_members
from ..errors import AstHfError, error
from .names import BACKBONE, HEAD, HEAD_KERNEL, KERNEL, POSITIONS, hub_name
from .paths import missing_checkpoint
from .reading import (
    ADAPTER_CONFIG,
    WEIGHTS_FILES,
    Checkpoint,
    is_quantized,
    read_config,
    read_tensors,
    tensor_shapes,
    weights_files,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: A tensor of the file -> (axis of its shape, the config field that axis has to equal).
_SIZES = {
    "embeddings.cls_token": (2, "hidden_size"),
    "encoder.layer.0.intermediate.dense.weight": (0, "intermediate_size"),
    KERNEL: (2, "patch_size"),
}
#: Tensors that an adapter's file may omit: copies of modules start from the base's own, and AdaLoRA counts
#: its ranks again.
_OPTIONAL_IN_ADAPTERS = re.compile(r"\.modules_to_save\.|\.ranknum(\.|$)")
#: Block of the model that a tensor of an adapter belongs to.
_BLOCK_OF = re.compile(r"(?:^base_model\.model\.)?((?:\w+\.)?encoder\.layer\.\d+)\.")


def check_folder(
    source: str | PathLike | None,
    *,
    subfolder: str = "",
    cache_dir: str | PathLike | None = None,
    classifier: bool = True,
) -> Path | None:
    """Raise E306 or E305 if `source` is a local folder without a complete model, or ensemble of models.

    Only headers are read, so a config of the wrong size is refused before memory is allocated for it. A name
    that can only be a local path is refused before any request to the Hub.

    Args:
        source: a folder, or a name on the Hub.
        subfolder: folder of the files within it.
        cache_dir: of the Hub's files, None for the default.
        classifier: require as many labels in config.json as the stored classifier has outputs.

    Returns:
        The folder of the files, or None for a name on the Hub.
    """
    if source is None:
        return None
    if not Path(source).is_dir():
        if problem := missing_checkpoint(str(source), cache_dir):
            raise error("E306", where=repr(str(source)), what=problem[0], fix=problem[1], detail="missing")
        return None
    folder = Path(source) / subfolder
    has_weights = any((folder / name).exists() for name in WEIGHTS_FILES)
    if not has_weights and (folder / ADAPTER_CONFIG).exists():
        what = "holds an adapter, not a whole model"
        fix = f"make a checkpoint of it and its base: ast-hf merge {folder} DESTINATION"
        raise error("E306", where=repr(str(folder)), what=what, fix=fix, detail="unsupported")
    config = read_config(folder / "config.json")
    if config.get("model_type") == ASTEnsembleConfig.model_type:
        for name in check_members(config.get("members")):
            check_folder(folder, subfolder=name)
        return folder
    if not has_weights:
        what = f"holds no weights ({WEIGHTS_FILES[0]})"
        fix = "copy the whole checkpoint folder again"
        raise error("E306", where=repr(str(folder)), what=what, fix=fix, detail="missing")
    _check_files(config, weights_files(folder), classifier)
    return folder


def _check_files(config: dict[str, Any], files: list[Path], classifier: bool) -> None:
    """Raise E305 if config.json contradicts the weights' headers; other architectures are not checked."""
    is_ast = config.get("model_type", ASTConfig.model_type) == ASTConfig.model_type
    if not files or not is_ast or is_quantized(config):
        return
    shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    _check_sizes(config, shapes, files[0])
    if classifier:
        check_label_count(Checkpoint(config, files))


def check_label_count(checkpoint: Checkpoint, arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Raise E305 if config.json names another number of labels than the stored classifier has outputs.

    `arguments` of `from_pretrained` that request another number, or ignore mismatched sizes, skip the check.
    """
    stored = _label_count(checkpoint.config)
    requested = _label_count(arguments, stored)
    if arguments.get("config") is not None:
        requested = getattr(arguments["config"], "num_labels", requested)
    rows = _classifier_rows(checkpoint)
    if rows in (None, stored) or requested != stored or arguments.get("ignore_mismatched_sizes"):
        return
    what = f"names {stored} labels, but {checkpoint.weights[0].name} holds a classifier of {rows} outputs"
    fix = f"set id2label to the {rows} names, or get a new classifier by from_pretrained(..., num_labels=...)"
    raise error("E305", where=repr(str(checkpoint.weights[0].parent / "config.json")), what=what, fix=fix)


def _label_count(fields: Mapping[str, Any], default: int = 2) -> int:
    """Return the number of labels in configuration fields; transformers omits its default of two."""
    for name in ("id2label", "label2id"):
        if fields.get(name):
            return len(fields[name])
    return int(default if fields.get("num_labels") is None else fields["num_labels"])


def _classifier_rows(checkpoint: Checkpoint) -> int | None:
    for path in checkpoint.weights:
        if path.suffix == ".safetensors":
            shape = {hub_name(name): shape for name, shape in tensor_shapes(path).items()}.get(HEAD_KERNEL)
        else:
            tensor = read_tensors(path).get(HEAD_KERNEL)
            shape = None if tensor is None else tensor.shape
        if shape:
            return int(shape[0])
    return None


def _check_sizes(config: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> None:
    if shapes and all(name.startswith("module.") for name in shapes):
        what = "has names of the original repository (module.v...)"
        fix = "run `ast-hf convert` on the .pth file it came from"
        raise error("E305", where=repr(str(path)), what=what, fix=fix)
    config_path = repr(str(path.parent / "config.json"))
    by_name = {hub_name(name).removeprefix(BACKBONE): shape for name, shape in shapes.items()}
    for name, (axis, field) in _SIZES.items():
        if name in by_name and field in config and by_name[name][axis] != config[field]:
            what = f"is {config[field]!r}, but {path.name} holds {name} of shape {by_name[name]}"
            fix = f"set {field} to {by_name[name][axis]}"
            raise error("E305", where=f"{config_path}: {field}", what=what, fix=fix)
    layers = {name.split(".")[2] for name in by_name if name.startswith("encoder.layer.")}
    claimed = config.get("num_hidden_layers")
    if layers and claimed is not None and claimed != len(layers):
        what = f"is {claimed}, but {path.name} holds {len(layers)} layers"
        fix = f"set num_hidden_layers to {len(layers)}"
        raise error("E305", where=f"{config_path}: num_hidden_layers", what=what, fix=fix)
    positions = by_name.get(POSITIONS)
    tokens = Geometry.of(config).num_tokens
    if positions is not None and positions[1] != tokens:
        stored = f"{path.name} holds {BACKBONE}{POSITIONS} for {positions[1]}"
        what = f"{', '.join(Geometry._fields)} make {tokens} tokens, but {stored}"
        fix = "restore them, and give other sizes to from_pretrained"
        raise error("E305", where=config_path, what=what, fix=fix)


def check_loaded(model: PreTrainedModel, info: dict[str, Any], source: str) -> list[str]:
    """Raise E305 unless every tensor but a classifier was loaded in shape, E306 unless all are finite.

    `info` is the `output_loading_info` of `from_pretrained`, `source` the checkpoint in the message.

    Returns:
        Names of the classifier tensors that are still random; may be empty.
    """
    has_head = hasattr(model, "classifier")
    package = __name__.split(".")[0]
    is_subclass = type(model).__module__.split(".")[0] != package  # a user's class, with other parts
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    fresh = sorted({*info["missing_keys"], *mismatched})
    missing = [name for name in fresh if not (has_head and name.startswith(HEAD))]
    if is_subclass:
        missing = [name for name in missing if name.startswith(BACKBONE)]
    if missing:
        shapes = _shapes_text(mismatched.get(missing[0]))
        what = f"{len(missing)} of the model's tensors cannot be filled from it, first {missing[0]}{shapes}"
        raise error("E305", where=source, what=what, fix="check that config.json belongs to these weights")
    extra = sorted(name for name in info["unexpected_keys"] if not is_subclass or name.startswith(BACKBONE))
    if extra:
        what = f"holds {len(extra)} tensors that the model has no place for, first {extra[0]}"
        raise error("E305", where=source, what=what, fix="check that config.json belongs to these weights")
    for name, tensor in model.state_dict().items():
        if not _is_finite(tensor):
            raise _not_finite(name, source, "restore the weights file")
    return fresh


def check_adapter(model: PreTrainedModel, info: Any, source: str, adapter: str) -> None:
    """Raise E305 unless every tensor of an adapter has its place in the model, E306 unless all are finite.

    Args:
        model: with the adapter in it.
        info: result of transformers' `load_adapter`; None (older versions) skips the check of places.
        source: the adapter, for the message.
        adapter: its name in the model, which may hold others.
    """
    modules = {name for name, _ in model.named_modules()}
    missing = [name for name in getattr(info, "missing_keys", None) or () if f".{adapter}." in f"{name}."]
    missing = [name for name in missing if not _OPTIONAL_IN_ADAPTERS.search(name)]
    blocks = {name: _BLOCK_OF.search(name) for name in getattr(info, "unexpected_keys", None) or ()}
    extra = [name for name, block in blocks.items() if block and block[1] not in modules]
    if missing or extra:
        counts = f"{len(missing)} tensors are missing, {len(extra)} have no place"
        what = f"does not belong to this model: {counts}, first {min(missing + extra)}"
        fix = "load it onto a model of the sizes that it was trained on"
        raise error("E305", where=source, what=what, fix=fix)
    for name, tensor in model.named_parameters():
        if not _is_finite(tensor):
            raise _not_finite(name, source, "restore the adapter's file")


def check_state(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise E305 unless `state` has the names and shapes of `expected`, E306 unless all is finite."""
    for name in [*expected, *state]:
        if name not in state or name not in expected:
            what = f"{'has no' if name not in state else 'has the unexpected tensor'} {name}"
            raise error("E305", where=source, what=what, fix="check that the weights are complete")
        if state[name].shape != expected[name].shape:
            shapes = _shapes_text((state[name].shape, expected[name].shape))
            fix = "check that config and weights belong together"
            raise error("E305", where=source, what=f"{name} does not fit{shapes}", fix=fix)
        if not torch.isfinite(state[name]).all():
            raise _not_finite(name, source, "restore the weights file")


def _is_finite(tensor: Any) -> bool:
    """Return False for NaN or infinity; tensors of other kinds (torchao's classes, meta, integers) pass."""
    is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not is_plain or tensor.device.type == "meta" or not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor).all())


def _not_finite(name: str, source: str, fix: str) -> AstHfError:
    return error("E306", where=source, what=f"{name} holds NaN or infinity", fix=fix, detail="not_finite")


def _shapes_text(shapes: tuple[Any, ...] | None) -> str:
    return f" ({tuple(shapes[0])} in the file, {tuple(shapes[1])} in the model)" if shapes else ""
