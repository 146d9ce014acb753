"""Where do a checkpoint's files lie, and are they whole? Judged before the model is built, and after it was loaded."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..configuration_ast import ASTConfig, Geometry
from ..configuration_ensemble import ASTEnsembleConfig, check_members
from ..errors import error, nearest
from .names import BACKBONE, HEAD, HEAD_KERNEL, KERNEL, POSITIONS, hub_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",  # left to transformers
)

#: A tensor of the file -> (axis of its shape, the config field that axis has to equal).
_SIZES = {
    "embeddings.cls_token": (2, "hidden_size"),
    "encoder.layer.0.intermediate.dense.weight": (0, "intermediate_size"),
    KERNEL: (2, "patch_size"),
}
#: Arguments of `from_pretrained` that say where files are.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
#: Arguments that choose other weights files than the plain ones; these are left to transformers.
_OTHER_FILES = ("gguf_file", "variant", "quantization_config")
#: How many names of a folder are looked at for the one that may be meant.
_LOOKED_AT = 10_000


#: Tensors of an adapter that may be missing: copies of modules start as the base's own, ranks are counted anew.
_STARTS_AT_THE_BASE = re.compile(r"\.modules_to_save\.|\.ranknum(\.|$)")
#: The block of the model that a tensor of an adapter is for.
_BLOCK_OF = re.compile(r"(?:^base_model\.model\.)?((?:\w+\.)?encoder\.layer\.\d+)\.")


class Checkpoint(NamedTuple):
    """The files of a checkpoint."""

    config: dict[str, Any]
    weights: list[Path]  # safetensors, one or its shards; or one `.bin`


def find_checkpoint(source: str | PathLike | None, arguments: dict[str, Any]) -> Checkpoint | None:
    """The files of a folder or a name on the Hub, downloaded into the cache when they are not there.

    Args:
        source: as for `from_pretrained`.
        arguments: its keyword arguments.

    Returns:
        None for what only transformers can read or explain: other formats, names that are not there.

    Raises:
        AstConfigError: as `check_folder`.
    """
    if source is None or any(arguments.get(name) for name in _OTHER_FILES):
        return None
    subfolder = arguments.get("subfolder") or ""
    folder = check_folder(source, subfolder=subfolder, cache_dir=arguments.get("cache_dir"), classifier=False)
    if folder is None:
        where = {name: arguments[name] for name in HUB_ARGUMENTS if arguments.get(name) is not None}
        config = _cached(source, "config.json", where)
        if config is not None:
            _refuse_ensemble(config, source)
        if config is None or not any(_cached(source, name, where) for name in WEIGHTS_FILES[:3]):
            return None
        folder = config.parent
        for shard in _shards(folder):
            _cached(source, shard.name, where)
        check_folder(folder, classifier=False)
    _refuse_ensemble(folder / "config.json", source)
    if _is_quantised(_read_config(folder / "config.json")):
        return None
    weights = _weights_files(folder) or [path for path in [folder / WEIGHTS_FILES[2]] if path.exists()]
    return Checkpoint(_read_config(folder / "config.json"), weights) if weights else None


def _is_quantised(config: Mapping[str, Any]) -> bool:
    """Return whether weights are stored in a form that only their library knows (torchao, bitsandbytes)."""
    return config.get("quantization_config") is not None


def _refuse_ensemble(config: Path, source: str | PathLike) -> None:
    content = _read_config(config)
    if content.get("model_type") == ASTEnsembleConfig.model_type:
        first = check_members(content.get("members"))[0]
        fix = f"load all of it with ASTEnsembleForAudioClassification, or one member with subfolder={first!r}"
        raise error("E306", where=repr(str(source)), what="holds an ensemble, not one model", fix=fix)


def pinned_revision(source: str | PathLike, arguments: dict[str, Any]) -> str | None:
    """The commit that a revision on the Hub is now, so that all files come from one; as it was given where none is."""
    where = {name: arguments[name] for name in HUB_ARGUMENTS if arguments.get(name) is not None}
    config = None if Path(source).is_dir() else _cached(source, "config.json", where)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", config.as_posix()) if config is not None else None
    return found[1] if found else arguments.get("revision")


def _cached(source: str | PathLike, name: str, where: dict[str, Any]) -> Path | None:
    from transformers.utils import cached_file

    try:
        path = cached_file(source, name, **where)
    except OSError:  # not there, or the Hub cannot be reached: from_pretrained says which
        return None
    except HTTPError as problem:  # the client made several attempts
        what = f"{name} cannot be downloaded ({' '.join(str(problem).split())[:120]})"
        raise error("E704", where=repr(str(source)), what=what, fix="check the connection, then try again") from problem
    return None if path is None else Path(path)


def read_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint's weights files; raises E306 for what is not one."""
    return {name: tensor for path in files for name, tensor in read_tensors(path).items()}


def read_tensors(path: Path) -> Any:
    """What a `.safetensors` file, or a pickle of tensors, holds. Nothing in it is executed.

    Raises:
        AstConfigError: E306 for a file that is cut, is something else, or would run code.
    """
    where = repr(str(path))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise error("E306", where=where, what="does not exist", fix="check the path") from None
    except pickle.UnpicklingError as problem:
        what = "holds more than tensors, and reading it would run its code"
        fix = "save only its state dict again: torch.save(model.state_dict(), ...)"
        raise error("E306", where=where, what=what, fix=fix) from problem
    except Exception as problem:  # torch has one for each way of being broken
        what = f"cannot be read ({' '.join(str(problem).split())[:120]})"
        raise error("E306", where=where, what=what, fix="copy or download it again") from problem


def tensor_names(files: list[Path]) -> list[str]:
    """The names of those tensors, read without the tensors where the format allows."""
    if files[0].suffix != ".safetensors":
        return list(read_weights(files))
    return [name for path in files for name in _shapes(path)]


def _classifier_rows(checkpoint: Checkpoint) -> int | None:
    """Return how many outputs the stored classifier has, read from headers; None where there is none to tell."""
    for path in checkpoint.weights:
        if path.suffix == ".safetensors":
            shape = {hub_name(name): shape for name, shape in _shapes(path).items()}.get(HEAD_KERNEL)
        else:
            tensor = read_tensors(path).get(HEAD_KERNEL)
            shape = None if tensor is None else tensor.shape
        if shape:
            return int(shape[0])
    return None


def check_label_count(checkpoint: Checkpoint, arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Raise E305 when config.json names another number of labels than the file's classifier has.

    Whoever asks `from_pretrained` for another number (`num_labels`, `id2label`, `config`), or to ignore mismatched
    sizes, gets a new classifier anyway.
    """
    stored = _label_count(checkpoint.config)
    wanted = _label_count(arguments, stored)
    if arguments.get("config") is not None:
        wanted = getattr(arguments["config"], "num_labels", wanted)
    rows = _classifier_rows(checkpoint)
    if rows in (None, stored) or wanted != stored or arguments.get("ignore_mismatched_sizes"):
        return
    what = f"names {stored} labels, but {checkpoint.weights[0].name} holds a classifier of {rows} outputs"
    fix = f"set id2label to the {rows} names, or ask for a new classifier: from_pretrained(..., num_labels=...)"
    where = repr(str(checkpoint.weights[0].parent / "config.json"))
    raise error("E305", where=where, what=what, fix=fix)


def _label_count(fields: Mapping[str, Any], default: int = 2) -> int:
    """Return how many labels a configuration's fields name; transformers writes none for its default of two."""
    for name in ("id2label", "label2id"):
        if fields.get(name):
            return len(fields[name])
    return int(default if fields.get("num_labels") is None else fields["num_labels"])


def missing_path(name: str, *, cached: bool) -> tuple[str, str] | None:
    """What is wrong with a name that can only be a path of what is not here, known without asking the Hub.

    Names there are user/name. Where a folder `user` is here with something of a name like that, a path is meant, unless
    it was ever downloaded.

    Args:
        name: of something that does not exist here.
        cached: whether the Hub's cache has something of that name.

    Returns:
        What and how to mend it, for an error; None for a name to ask the Hub for.
    """
    first, *rest = name.rstrip("/").split("/")
    near = near_path(name)
    if len(rest) == 1 and (cached or near is None or not Path(first).is_dir()):
        return None
    what = "there is no such file or folder here, and on the Hub names are user/name"
    if len(rest) == 1:
        what = f"is taken for a path, since a folder {first!r} is here, and it holds nothing of that name"
    return what, f"did you mean {near!r}?" if near else "check the path, or give user/name"


def near_path(name: str) -> str | None:
    """The path here that `name`, which is none, most likely stands for: its first missing part is replaced."""
    path = Path(name)
    try:
        here = next(folder for folder in path.parents if folder.is_dir())
        missing, *rest = path.relative_to(here).parts
        names = [entry.name for entry in itertools.islice(here.iterdir(), _LOOKED_AT)]
    except (OSError, StopIteration, ValueError):  # a folder that may not be read has no names to offer
        return None
    near = nearest(missing, (entry for entry in names if not entry.startswith(".")))
    if near is None:
        return None
    whole = here.joinpath(near, *rest)
    return str(whole if whole.exists() else here / near)


def _missing_checkpoint(name: str, cache_dir: str | PathLike | None) -> tuple[str, str] | None:
    """The same for a checkpoint, `./` and `~` included."""
    if Path(name).exists():
        return "is not a folder", "give a checkpoint's folder or its Hub name"
    if name.startswith(("/", "./", "../", "~")):
        near = near_path(name)
        return "does not exist", f"did you mean {near!r}?" if near else "give a checkpoint's folder or its Hub name"
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    return missing_path(name, cached=(cache / f"models--{name.replace('/', '--')}").is_dir())


def check_folder(
    source: str | PathLike | None,
    *,
    subfolder: str = "",
    cache_dir: str | PathLike | None = None,
    classifier: bool = True,
) -> Path | None:
    """Raise E306 or E305 when `source` is a local folder that cannot give a whole model, or ensemble of models.

    Only headers are read: a config that claims another size than the file holds is refused before memory for it is
    asked. What can only be a path, and is none here, is refused before the Hub is asked for it.

    Args:
        source: a folder, or a name on the Hub.
        subfolder: where in it the files lie.
        cache_dir: of the Hub's files, where it is not the usual one.
        classifier: whether config.json has to name as many labels as the stored classifier has outputs; False where
            another classifier may be asked for.

    Returns:
        The folder of the files, or None for a name on the Hub.
    """
    if source is None:
        return None
    if not Path(source).is_dir():
        told = _missing_checkpoint(str(source), cache_dir)
        if told is not None:
            raise error("E306", where=repr(str(source)), what=told[0], fix=told[1])
        return None
    folder = Path(source) / subfolder
    whole = any((folder / name).exists() for name in WEIGHTS_FILES)
    if not whole and (folder / "adapter_config.json").exists():
        fix = f"make a checkpoint of it and its base: ast-hf merge {folder} DESTINATION"
        raise error("E306", where=repr(str(folder)), what="holds an adapter, not a whole model", fix=fix)
    config = _read_config(folder / "config.json")
    if config.get("model_type") == ASTEnsembleConfig.model_type:
        for name in check_members(config.get("members")):
            check_folder(folder, subfolder=name)
        return folder
    if not whole:
        what = f"holds no weights ({WEIGHTS_FILES[0]})"
        raise error("E306", where=repr(str(folder)), what=what, fix="copy the whole checkpoint folder again")
    files = _weights_files(folder)
    plain = config.get("model_type", ASTConfig.model_type) == ASTConfig.model_type and not _is_quantised(config)
    if files and plain:
        _compare(config, {name: shape for file in files for name, shape in _shapes(file).items()}, files[0])
        if classifier:
            check_label_count(Checkpoint(config, files))
    return folder


def _weights_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the weights: one, or the shards that an index names."""
    single = folder / WEIGHTS_FILES[0]
    if single.exists():
        return [single]
    shards = _shards(folder)
    for shard in shards:
        if not shard.exists():
            what = f"does not exist, but {WEIGHTS_FILES[1]} names it"
            raise error("E306", where=repr(str(shard)), what=what, fix="copy the whole checkpoint folder again")
    return shards


def _shards(folder: Path) -> list[Path]:
    index = folder / WEIGHTS_FILES[1]
    if (folder / WEIGHTS_FILES[0]).exists() or not index.exists():
        return []
    return sorted({folder / name for name in _read_json(index).get("weight_map", {}).values()})


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
        raise error("E305", where=repr(str(path)), what=what, fix="run `ast-hf convert` on the .pth file it came from")
    plain = {hub_name(name).removeprefix(BACKBONE): shape for name, shape in shapes.items()}
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
    _compare_positions(config, plain.get(POSITIONS), path)


def _compare_positions(config: dict[str, Any], shape: list[int] | None, path: Path) -> None:
    tokens = Geometry.of(config).num_tokens
    if shape is not None and shape[1] != tokens:
        what = (
            f"{', '.join(Geometry._fields)} make {tokens} tokens, "
            f"but {path.name} holds {BACKBONE}{POSITIONS} for {shape[1]}"
        )
        fix = "restore them, and give other sizes to from_pretrained"
        raise error("E305", where=repr(str(path.parent / "config.json")), what=what, fix=fix)


def check_loaded(model: PreTrainedModel, info: dict[str, Any], source: str) -> list[str]:
    """Raise E305 unless every tensor but a classifier was loaded in shape, E306 unless all are finite.

    Returns:
        The classifier tensors that stayed at their random start, or an empty list.
    """
    has_head = hasattr(model, "classifier")
    package = __name__.split(".")[0]
    extended = type(model).__module__.split(".")[0] != package  # somebody's subclass, with parts of its own
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    fresh = sorted({*info["missing_keys"], *mismatched})
    lost = [name for name in fresh if not (has_head and name.startswith(HEAD))]
    if extended:
        lost = [name for name in lost if name.startswith(BACKBONE)]
    if lost:
        detail = _shape_detail(mismatched.get(lost[0]))
        what = f"{len(lost)} of the model's tensors cannot be filled from it, first {lost[0]}{detail}"
        fix = "check that config.json belongs to these weights"
        raise error("E305", where=source, what=what, fix=fix)
    extra = sorted(name for name in info["unexpected_keys"] if not extended or name.startswith(BACKBONE))
    if extra:
        what = f"holds {len(extra)} tensors that the model has no place for, first {extra[0]}"
        raise error("E305", where=source, what=what, fix="check that config.json belongs to these weights")
    for name, tensor in model.state_dict().items():
        if _is_plain_float(tensor) and not torch.isfinite(tensor).all():
            raise error("E306", where=source, what=f"{name} holds NaN or infinity", fix="restore the weights file")
    return fresh


def check_adapter(model: PreTrainedModel, info: Any, source: str, adapter: str) -> None:
    """Raise E305 unless every tensor of an adapter found its place in the model, E306 unless all are finite.

    Args:
        model: with the adapter in it.
        info: what transformers' `load_adapter` returned; versions that return nothing are not judged.
        source: the adapter, for the message.
        adapter: its name in the model, which may hold others.
    """
    modules = {name for name, _ in model.named_modules()}
    missing = [name for name in getattr(info, "missing_keys", None) or () if f".{adapter}." in f"{name}."]
    lost = [name for name in missing if not _STARTS_AT_THE_BASE.search(name)]
    blocks = {name: _BLOCK_OF.search(name) for name in getattr(info, "unexpected_keys", None) or ()}
    extra = [name for name, block in blocks.items() if block and block[1] not in modules]
    if lost or extra:
        what = f"does not belong to this model: {len(lost)} tensors are missing, {len(extra)} have no place"
        fix = "load it onto a model of the sizes that it was trained on"
        raise error("E305", where=source, what=f"{what}, first {min(lost + extra)}", fix=fix)
    for name, tensor in model.named_parameters():
        if _is_plain_float(tensor) and not torch.isfinite(tensor).all():
            raise error("E306", where=source, what=f"{name} holds NaN or infinity", fix="restore the adapter's file")


def _is_plain_float(tensor: Any) -> bool:
    """Return whether a tensor holds numbers to look at; quantised ones (torchao) are of other classes."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return plain and tensor.device.type != "meta" and tensor.is_floating_point()


def check_state(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise E305 unless `state` holds just the tensors that are wanted, in shape, E306 unless all are finite."""
    for name in [*wanted, *state]:
        if name not in state or name not in wanted:
            what = f"{'has no' if name not in state else 'has a tensor too many,'} {name}"
            raise error("E305", where=source, what=what, fix="check that the weights are whole")
        if state[name].shape != wanted[name].shape:
            detail = _shape_detail((state[name].shape, wanted[name].shape))
            fix = "check that config and weights belong together"
            raise error("E305", where=source, what=f"{name} does not fit{detail}", fix=fix)
        if not torch.isfinite(state[name]).all():
            raise error("E306", where=source, what=f"{name} holds NaN or infinity", fix="restore the weights file")


def _shape_detail(shapes: tuple[Any, ...] | None) -> str:
    return f" ({tuple(shapes[0])} in the file, {tuple(shapes[1])} in the model)" if shapes else ""
