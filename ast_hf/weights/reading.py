"""Files of a checkpoint: config.json, tensors, and the names and shapes in safetensors headers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..errors import error, unreadable

WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",  # read by transformers alone
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


class Checkpoint(NamedTuple):
    """Contents of config.json and paths of the weights files of a checkpoint."""

    config: dict[str, Any]
    weights: list[Path]  # one safetensors file or its shards; or one `.bin`


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a config.json; raise E306 if it does not exist or is not a JSON object."""
    if not path.exists():
        fix = "copy the checkpoint's config.json next to its weights"
        raise error("E306", where=repr(str(path)), what="does not exist", fix=fix, detail="missing")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the fields of a JSON object; raise E306 for anything else."""
    where = repr(str(path))
    fix = "restore the file from its source"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise unreadable("E306", where=where, what="is not JSON", problem=problem, fix=fix) from problem
    if not isinstance(content, dict):
        what = f"holds a {type(content).__name__}, not an object of fields"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    return content


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Return True if weights are stored in a form that only their library reads (torchao, bitsandbytes)."""
    return config.get("quantization_config") is not None


def weights_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, one or the index's shards; raise E306 for a missing shard."""
    single = folder / WEIGHTS_FILES[0]
    if single.exists():
        return [single]
    shards = shard_files(folder)
    for shard in shards:
        if not shard.exists():
            what = f"does not exist, but {WEIGHTS_FILES[1]} names it"
            fix = "copy the whole checkpoint folder again"
            raise error("E306", where=repr(str(shard)), what=what, fix=fix, detail="missing")
    return shards


def shard_files(folder: Path) -> list[Path]:
    """Return the shards that the index of a folder names; empty if the weights are in one file."""
    index = folder / WEIGHTS_FILES[1]
    if (folder / WEIGHTS_FILES[0]).exists() or not index.exists():
        return []
    return sorted({folder / name for name in read_json(index).get("weight_map", {}).values()})


def read_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint's weights files; raise E306 as `read_tensors`."""
    return {name: tensor for path in files for name, tensor in read_tensors(path).items()}


def read_tensors(path: Path) -> Any:
    """Return the contents of a `.safetensors` file, or of a pickle of tensors; no code in it is executed.

    Raises E306 for a file that is missing, truncated, of another format, or would run code.
    """
    where = repr(str(path))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        what = "does not exist"
        raise error("E306", where=where, what=what, fix="check the path", detail="missing") from None
    except pickle.UnpicklingError as problem:
        what = "holds more than tensors, and reading it would run its code"
        fix = "save only its state dict again: torch.save(model.state_dict(), ...)"
        raise error("E306", where=where, what=what, fix=fix, detail="unsupported") from problem
    except Exception as problem:  # torch raises another class for each kind of damage
        raise unreadable("E306", where=where, problem=problem, fix="copy or download it again") from problem


def tensor_names(files: list[Path]) -> list[str]:
    """Return the names of all tensors; for safetensors from the headers alone."""
    if files[0].suffix != ".safetensors":
        return list(read_weights(files))
    return [name for path in files for name in tensor_shapes(path)]


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Return name -> shape of every tensor of a safetensors file, from the header alone.

    Raises E306 for a git-lfs pointer, and if the sizes in the header do not add up to the file's.
    """
    where = repr(str(path))
    with path.open("rb") as file:
        if file.read(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
            what = "is a git-lfs pointer, not the weights"
            raise error("E306", where=where, what=what, fix="run `git lfs pull`", detail="unreadable")
    try:
        with safe_open(path, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as problem:
        what = f"({path.stat().st_size} bytes) is not a complete safetensors file: {problem}"
        fix = "copy or download it again"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable") from problem
