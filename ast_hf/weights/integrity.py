"""Checks of a checkpoint: its folder before the model is built, and the model after loading."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ..configuration_ast import (
    ASTConfig,
    Geometry,
    check_label_arguments,
    check_quantization,
    plain_field,
    sizes_of,
)
from ..configuration_ensemble import ASTEnsembleConfig, check_members
from ..errors import AstHfError, error, shown, unreadable
from ..json_files import read_json
from ..scalars import plain_scalar
from .names import BACKBONE, HEAD, HEAD_KERNEL, KERNEL, POSITIONS, hub_name
from .paths import missing_checkpoint
from .reading import (
    ADAPTER_CONFIG,
    WEIGHTS_FILES,
    Checkpoint,
    Header,
    is_quantized,
    model_type_of,
    read_config,
    tensor_headers,
    weights_files,
)
from .shapes import backbone_shapes, head_shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: A tensor of the file -> (axis of its shape, the config field that axis has to equal).
_SIZES = {
    "embeddings.cls_token": (2, "hidden_size"),
    "encoder.layer.0.intermediate.dense.weight": (0, "intermediate_size"),
    KERNEL: (2, "patch_size"),
}
#: Element types of weights in files; others are of quantised models.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
#: Names of `architectures` in config.json whose tensors are known.
_OUR_CLASSES = frozenset({"ASTModel", "ASTForAudioClassification"})
#: A checkpoint that is described as this much larger than its files is not built.
_SURPLUS = 4
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
    if not has_weights and not (folder / "config.json").exists():
        what = "holds no model: neither config.json nor weights"
        fix = "give the folder that training or save_pretrained wrote"
        raise error("E306", where=repr(str(folder)), what=what, fix=fix, detail="missing")
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
    if (folder / ADAPTER_CONFIG).exists():  # transformers adds it to the model
        read_json(folder / ADAPTER_CONFIG)
    return folder


def _check_files(config: dict[str, Any], files: list[Path], classifier: bool) -> None:
    """Raise E305 if config.json contradicts the weights' headers, E302 for sizes that no model can have.

    Other architectures are not checked.
    """
    if not files or model_type_of(config) != ASTConfig.model_type:
        return
    check_quantized(config, repr(str(files[0].parent / "config.json")))
    headers = tensor_headers(files)
    if not is_quantized(config):
        _check_sizes(config, headers, files[0])
    _check_shapes(config, headers, files[0])
    if classifier:
        check_label_count(Checkpoint(config, files))


def check_quantized(config: Mapping[str, Any], source: str) -> None:
    """Raise E302 for a `quantization_config` that transformers cannot read; the library may be missing."""
    check_quantization(config.get("quantization_config"))
    if not is_quantized(config):
        return
    from transformers.quantizers.auto import AutoQuantizationConfig

    try:
        AutoQuantizationConfig.from_dict(dict(config["quantization_config"]))
    except ImportError:  # reported when the weights are read
        return
    except Exception as problem:  # each method raises other classes
        raise quantization_error(source, problem) from problem


def quantization_error(source: str, problem: Exception) -> AstHfError:
    """Return E302 for a `quantization_config` that transformers cannot use."""
    fix = "install the library that it names, or restore config.json"
    where = f"{source}: quantization_config"
    return unreadable("E302", where=where, what="cannot be used", problem=problem, fix=fix)


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
        if isinstance(fields.get(name), dict) and fields[name]:
            return len(fields[name])
    count = plain_scalar(fields.get("num_labels"))
    check_label_arguments(None, count)
    return default if count is None else int(count)


def _classifier_rows(checkpoint: Checkpoint) -> int | None:
    headers = tensor_headers(checkpoint.weights)
    kernel = next((header for name, header in headers.items() if hub_name(name) == HEAD_KERNEL), None)
    if kernel is None or kernel.dtype not in FLOATS or not kernel.shape:  # quantised weights are packed
        return None
    return int(kernel.shape[0])


def _check_sizes(config: dict[str, Any], headers: dict[str, Header], path: Path) -> None:
    """Raise E305 if a size in config.json is not that of the weights; the message has the right one."""
    if headers and all(name.startswith("module.") for name in headers):
        what = "has names of the original repository (module.v...)"
        fix = "run `ast-hf convert` on the .pth file it came from"
        raise error("E305", where=repr(str(path)), what=what, fix=fix)
    config_path = repr(str(path.parent / "config.json"))
    by_name = {hub_name(name).removeprefix(BACKBONE): header.shape for name, header in headers.items()}
    for name, (axis, field) in _SIZES.items():
        claimed = config.get(field, getattr(ASTConfig, field))
        if len(by_name.get(name, ())) > axis and plain_field(claimed) != by_name[name][axis]:
            what = f"is {shown(claimed)}, but {path.name} holds {name} of shape {by_name[name]}"
            fix = f"set {field} to {by_name[name][axis]}"
            raise error("E305", where=f"{config_path}: {field}", what=what, fix=fix)
    layers = {name.split(".")[2] for name in by_name if name.startswith("encoder.layer.")}
    claimed = config.get("num_hidden_layers", ASTConfig.num_hidden_layers)
    if layers and claimed != len(layers):
        what = f"is {shown(claimed)}, but {path.name} holds {len(layers)} layers"
        fix = f"set num_hidden_layers to {len(layers)}"
        raise error("E305", where=f"{config_path}: num_hidden_layers", what=what, fix=fix)
    positions = by_name.get(POSITIONS, [])
    tokens = Geometry.of(sizes_of(config)).num_tokens
    if len(positions) > 1 and positions[1] != tokens:
        stored = f"{path.name} holds {BACKBONE}{POSITIONS} for {positions[1]}"
        what = f"{', '.join(Geometry._fields)} make {tokens} tokens, but {stored}"
        fix = "restore them, and give other sizes to from_pretrained"
        raise error("E305", where=config_path, what=what, fix=fix)


def _check_shapes(config: dict[str, Any], headers: dict[str, Header], path: Path) -> None:
    """Raise E305 for a tensor of another shape or type than config.json describes, and for missing ones.

    Of quantised weights, only the tensors that are stored as numbers are compared. A user's own architecture
    may have fewer tensors of the backbone, but not many more weights than its files.
    """
    sizes = sizes_of(config)
    expected = backbone_shapes(sizes)
    stored = {hub_name(name).removeprefix(BACKBONE): name for name in headers}
    shapes = dict(expected)
    if HEAD_KERNEL in stored and _is_our_class(config):  # other classes may have another head
        kernel = headers[stored[HEAD_KERNEL]]
        is_packed = kernel.dtype not in FLOATS  # quantised: its shape says nothing of the number of labels
        rows = [_label_count(config)] if is_packed else kernel.shape[:1] or [0]
        shapes |= head_shapes(sizes.hidden_size, *rows)
    for name in stored.keys() & shapes.keys():
        header = headers[stored[name]]
        is_number = header.dtype in FLOATS
        if is_quantized(config) and not is_number:
            continue
        if not is_number or tuple(header.shape) != shapes[name]:
            found = f"{tuple(header.shape)} in the file, {shapes[name]} by config.json"
            what = f"{hub_name(stored[name])} does not fit ({found if is_number else header.dtype})"
            fix = "check that config.json belongs to these weights"
            raise error("E305", where=repr(str(path)), what=what, fix=fix)
    missing = [name for name in expected if name not in stored]
    if is_quantized(config):
        missing = [name for name in missing if not _is_matrix(name)]
    described = sum(map(math.prod, expected.values()))
    held = sum(math.prod(header.shape) for header in headers.values())
    if missing and (_is_our_class(config) or described > _SURPLUS * held):
        prefix = BACKBONE if any(name.startswith(BACKBONE) for name in headers) else ""
        what = f"{len(missing)} of the model's tensors cannot be filled from it, first {prefix}{missing[0]}"
        fix = "check that config.json belongs to these weights"
        raise error("E305", where=repr(str(path)), what=what, fix=fix)


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and "layernorm" not in name


def _is_our_class(config: Mapping[str, Any]) -> bool:
    """Return False if config.json names a class that is neither transformers' nor ours."""
    names = config.get("architectures")
    return not isinstance(names, list) or not names or bool({*map(str, names)} & _OUR_CLASSES)


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


def require_classifier(info: Mapping[str, Any], source: str) -> None:
    """Raise E305 if a loaded classifier is random; `info` is as for `check_loaded`, `source` for the message."""
    if info["missing_keys"] or info["mismatched_keys"]:
        what = "has no classifier, so its scores would be random"
        raise error("E305", where=source, what=what, fix="use checkpoints that were trained to classify")


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
