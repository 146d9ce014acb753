"""Files of a checkpoint: config.json, tensors, and names, shapes and types of tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..configuration_ast import ASTConfig
from ..errors import error, shown, unreadable
from ..json_files import read_json
from .pickles import as_state_dict, read_pickle

WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: Patterns of the files of one model with its feature extractor, as it is published.
MODEL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)

#: peft's files of an adapter: its configuration and its weights.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_GIT_LFS_POINTER = b"version https://git-lfs"
#: Names of shards: a file next to the index.
_SHARD = re.compile(r"[\w-][\w.-]{0,250}")


class Checkpoint(NamedTuple):
    """Contents of config.json and paths of the weights files of a checkpoint."""

    config: dict[str, Any]
    weights: list[Path]  # one file, `.safetensors` or `.bin`, or its shards


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a config.json; raise E306 if it does not exist or is not a JSON object."""
    if not path.exists():
        fix = "copy the checkpoint's config.json next to its weights"
        raise error("E306", where=repr(str(path)), what="does not exist", fix=fix, detail="missing")
    return read_json(path)


class Header(NamedTuple):
    """Shape and element type of a tensor, `"F32"` or another name of safetensors."""

    shape: list[int]
    dtype: str


#: Name of a type in safetensors files -> in torch. Others, of quantised weights, keep torch's name.
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def model_type_of(config: Mapping[str, Any]) -> str:
    """Return the `model_type` in a config.json; `"timm"` for timm's, which has none, and AST's by default."""
    default = "timm" if "architecture" in config else ASTConfig.model_type
    return str(config.get("model_type", default))


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Return True if weights are stored in a form that only their library reads (torchao, bitsandbytes)."""
    return config.get("quantization_config") is not None


def weights_files(folder: Path) -> list[Path]:
    """Return the weights files of a folder that transformers reads: one file, or the shards of an index.

    Empty if there are none. Raises E306 for a missing shard.
    """
    for name, index in zip(WEIGHTS_FILES[::2], WEIGHTS_FILES[1::2], strict=True):
        if (folder / name).exists():
            return [folder / name]
        shards = _shards_of(folder / index)
        for shard in shards:
            if not shard.exists():
                what = f"does not exist, but {index} names it"
                fix = "copy the whole checkpoint folder again"
                raise error("E306", where=repr(str(shard)), what=what, fix=fix, detail="missing")
        if shards:
            return shards
    return []


def shard_files(folder: Path) -> list[Path]:
    """Return the shards that the index of a folder names; empty if the weights are in one file."""
    for name, index in zip(WEIGHTS_FILES[::2], WEIGHTS_FILES[1::2], strict=True):
        if (folder / name).exists():
            return []
        if shards := _shards_of(folder / index):
            return shards
    return []


def _shards_of(index: Path) -> list[Path]:
    """Return the shards that an index names; raise E306 unless they are files next to it."""
    if not index.exists():
        return []
    where = repr(str(index))
    fix = "copy the whole checkpoint folder again"
    content = read_json(index)
    names = content.get("weight_map")
    if not isinstance(names, dict) or not names or not isinstance(content.get("metadata"), dict):
        what = "has no weight_map from names of tensors to files, or no metadata"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    suffix = (
        Path(WEIGHTS_FILES[0]).suffix if WEIGHTS_FILES[0] in index.name else Path(WEIGHTS_FILES[2]).suffix
    )
    for name in names.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name) or not name.endswith(suffix):
            what = f"names {shown(name)}, which is not a {suffix} file next to it"
            raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    return sorted({index.parent / name for name in names.values()})


def read_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint's weights files; raise E306 as `read_tensors`."""
    return {
        name: tensor for path in files for name, tensor in as_state_dict(read_tensors(path), path).items()
    }


def check_adapter_weights(folder: Path) -> None:
    """Raise E306 for an adapter whose weights are missing or damaged, or claim more than their file holds."""
    names = (ADAPTER_WEIGHTS, Path(ADAPTER_WEIGHTS).with_suffix(".bin").name)
    path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    if path.suffix == ".bin":
        as_state_dict(read_tensors(path), path, copy=False)
    else:
        tensor_headers([path])


def read_tensors(path: Path) -> Any:
    """Return the contents of a `.safetensors` file, or of a pickle of tensors; no code in it is executed.

    Raises E306 for a file that is missing, truncated, of another format, or would run code.
    """
    where = repr(str(path))
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise error("E306", where=where, what=what, fix="check the path", detail="missing")
    _refuse_pointer(path)
    if path.suffix != ".safetensors":
        return read_pickle(path)
    try:
        return load_file(path)
    except Exception as problem:  # safetensors and torch raise several classes
        raise unreadable("E306", where=where, problem=problem, fix="copy or download it again") from problem


def tensor_headers(files: list[Path]) -> dict[str, Header]:
    """Return name -> shape and type of all tensors; their values are not read.

    Raises E306 for a file that is damaged, and for a tensor that is in two files.
    """
    headers: dict[str, Header] = {}
    for path in files:
        of_file = _headers(path) if path.suffix == ".safetensors" else _pickled_headers(path)
        if twice := headers.keys() & of_file.keys():
            what = f"holds {min(twice)}, which is in another file of the checkpoint too"
            fix = "copy the whole checkpoint folder again"
            raise error("E306", where=repr(str(path)), what=what, fix=fix, detail="unreadable")
        headers |= of_file
    return headers


def _pickled_headers(path: Path) -> dict[str, Header]:
    state = as_state_dict(read_tensors(path), path, copy=False)
    return {
        name: Header(list(tensor.shape), _DTYPES.get(tensor.dtype, str(tensor.dtype)))
        for name, tensor in state.items()
    }


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
            what = "is a git-lfs pointer, not the weights"
            where = repr(str(path))
            raise error("E306", where=where, what=what, fix="run `git lfs pull`", detail="unreadable")


def _headers(path: Path) -> dict[str, Header]:
    """Return shapes and types of a safetensors file, from the header alone.

    Raises E306 for a git-lfs pointer, and if the sizes in the header do not add up to the file's.
    """
    where = repr(str(path))
    if not path.is_file():
        raise error("E306", where=where, what="is not a file", fix="check the path", detail="missing")
    _refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {name: Header(part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as problem:
        what = f"({path.stat().st_size} bytes) is not a complete safetensors file: {problem}"
        fix = "copy or download it again"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable") from problem
