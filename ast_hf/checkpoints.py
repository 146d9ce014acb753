"""Is a checkpoint whole? Judged before its model is built, and again after its tensors were loaded."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from .configuration_ast import ASTConfig
from .errors import error

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "adapter_model.safetensors")

#: A tensor of the file -> (axis of its shape, the config field that axis has to equal).
_SIZES = {
    "embeddings.cls_token": (2, "hidden_size"),
    "encoder.layer.0.intermediate.dense.weight": (0, "intermediate_size"),
    "embeddings.patch_embeddings.projection.weight": (2, "patch_size"),
}
_BACKBONE = "audio_spectrogram_transformer."
_POSITIONS = "embeddings.position_embeddings"
#: The config fields that decide how many positions there are.
_GEOMETRY = ("max_length", "num_mel_bins", "patch_size", "time_stride", "frequency_stride")


def check_folder(source: str | PathLike | None, *, subfolder: str = "") -> None:
    """Raise E306 or E305 when `source` is a local folder that cannot give a whole model.

    Only headers are read: a config that claims another size than the file holds is refused before memory for it is
    asked. Names on the Hub are left to `from_pretrained`.
    """
    if source is None:
        return
    if not Path(source).is_dir():
        if str(source).startswith(("/", "./", "../", "~")) or Path(source).exists():
            what = "is not a folder" if Path(source).exists() else "does not exist"
            raise error("E306", where=repr(str(source)), what=what, fix="give a checkpoint's folder or its Hub name")
        return
    folder = Path(source) / subfolder
    config = _read_config(folder / "config.json")
    if not any((folder / name).exists() for name in WEIGHTS_FILES):
        what = f"holds no weights ({WEIGHTS_FILES[0]})"
        raise error("E306", where=repr(str(folder)), what=what, fix="copy the whole checkpoint folder again")
    files = _weights_files(folder)
    if files:
        _compare(config, {name: shape for file in files for name, shape in _shapes(file).items()}, files[0])


def _weights_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the weights: one, or the shards that an index names."""
    single, index = folder / WEIGHTS_FILES[0], folder / WEIGHTS_FILES[1]
    if single.exists():
        return [single]
    if not index.exists():
        return []
    shards = sorted({folder / name for name in _read_json(index).get("weight_map", {}).values()})
    for shard in shards:
        if not shard.exists():
            what = f"does not exist, but {index.name} names it"
            raise error("E306", where=repr(str(shard)), what=what, fix="copy the whole checkpoint folder again")
    return shards


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        fix = "copy the checkpoint's config.json beside it"
        raise error("E306", where=repr(str(path)), what="does not exist", fix=fix)
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    where, fix = repr(str(path)), "restore the file from its source"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise error("E306", where=where, what=f"is not JSON ({problem})", fix=fix) from problem
    if not isinstance(content, dict):
        what = f"holds a {type(content).__name__}, not an object of fields"
        raise error("E306", where=where, what=what, fix=fix)
    return content


def _shapes(path: Path) -> dict[str, list[int]]:
    """Name -> shape of every tensor, from the header alone; the header's sizes are checked against the file's."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(23) == b"version https://git-lfs":
            what = "is a git-lfs pointer, not the weights"
            raise error("E306", where=repr(str(path)), what=what, fix="run `git lfs pull`")
    try:
        with safe_open(path, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as problem:
        what = f"({size} bytes) is not a whole safetensors file: {problem}"
        raise error("E306", where=repr(str(path)), what=what, fix="copy or download it again") from problem


def _compare(config: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> None:
    if shapes and all(name.startswith("module.") for name in shapes):
        what = "has names of the original repository (module.v...)"
        raise error("E305", where=repr(str(path)), what=what, fix="rename its tensors as in published AST checkpoints")
    plain = {name.removeprefix(_BACKBONE): shape for name, shape in shapes.items()}
    for name, (axis, field) in _SIZES.items():
        if name in plain and field in config and plain[name][axis] != config[field]:
            what = f"says {config[field]!r}, but {path.name} holds {name} of shape {plain[name]}"
            where = f"{str(path.parent / 'config.json')!r}: {field}"
            raise error("E305", where=where, what=what, fix=f"set {field} to {plain[name][axis]}")
    layers = {name.split(".")[2] for name in plain if name.startswith("encoder.layer.")}
    claimed = config.get("num_hidden_layers")
    if layers and claimed is not None and claimed != len(layers):
        what = f"says {claimed}, but {path.name} holds {len(layers)} layers"
        where = f"{str(path.parent / 'config.json')!r}: num_hidden_layers"
        raise error("E305", where=where, what=what, fix=f"set num_hidden_layers to {len(layers)}")
    _compare_positions(config, plain.get(_POSITIONS), path)


def _compare_positions(config: dict[str, Any], shape: list[int] | None, path: Path) -> None:
    geometry = {name: config[name] for name in _GEOMETRY if name in config}
    tokens = ASTConfig(num_attention_heads=1, **geometry).num_tokens
    if shape is not None and shape[1] != tokens:
        what = (
            f"{', '.join(_GEOMETRY)} make {tokens} tokens, but {path.name} holds {_BACKBONE}{_POSITIONS} for {shape[1]}"
        )
        fix = "set them to what the weights were trained with"
        raise error("E305", where=repr(str(path.parent / "config.json")), what=what, fix=fix)


def check_loaded(model: PreTrainedModel, info: dict[str, Any], source: str) -> list[str]:
    """Raise E305 unless every tensor but a classifier was loaded in shape, E306 unless all are finite.

    Returns:
        The classifier tensors that stayed at their random start, or an empty list.
    """
    has_head = hasattr(model, "classifier")
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    fresh = sorted({*info["missing_keys"], *mismatched})
    lost = [name for name in fresh if not (has_head and name.startswith("classifier."))]
    if lost:
        detail = _shape_detail(mismatched.get(lost[0]))
        what = f"{len(lost)} of the model's tensors cannot be filled from it, first {lost[0]}{detail}"
        fix = "check that config.json belongs to these weights"
        raise error("E305", where=source, what=what, fix=fix)
    extra = sorted(name for name in info["unexpected_keys"] if has_head or not name.startswith("classifier."))
    if extra:
        what = f"holds {len(extra)} tensors that the model has no place for, first {extra[0]}"
        raise error("E305", where=source, what=what, fix="check that config.json belongs to these weights")
    for name, tensor in model.state_dict().items():
        if tensor.device.type != "meta" and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise error("E306", where=source, what=f"{name} holds NaN or infinity", fix="restore the weights file")
    return fresh


def _shape_detail(shapes: tuple[Any, ...] | None) -> str:
    return f" ({tuple(shapes[0])} in the file, {tuple(shapes[1])} in the model)" if shapes else ""
