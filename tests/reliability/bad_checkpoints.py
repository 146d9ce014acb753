"""Table D, second half, and H: weights files, indices of shards, adapters, state of training, conversion."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cases import Case
from .tiny_checkpoints import (
    MARKER,
    PICKLE,
    QUERY,
    WEIGHTS,
    Change,
    changed,
    classify,
    command,
    content,
    fields,
    info,
    is_finite,
    ours,
    stock,
    tensors,
    wav,
)

_BIAS = "classifier.dense.bias"
_INDEX = "model.safetensors.index.json"
_SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def _row(id: str, title: str, right: Any, *changes: Change, call: Any = ours, other: Any = stock) -> Case:
    return Case(id, title, changed(wav, *changes), call, right, other, seconds=10.0, megabytes=200.0)


class _Runs:
    """A pickle of it runs a command that leaves a marker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.folder / MARKER}",)


def _pickled(edit: Callable[[dict[str, Any]], Any] = lambda state: state, **options: Any) -> Change:
    from .tiny_checkpoints import pickled

    return pickled(edit, **options)


def _with_code(*, is_bare: bool = False, **options: Any) -> Change:
    def change(folder: Path) -> None:
        if is_bare:
            (folder / WEIGHTS).unlink()
            (folder / PICKLE).write_bytes(pickle.dumps(_Runs(folder)))
        else:
            _pickled(lambda state: {**state, "x": _Runs(folder)}, **options)(folder)

    return change


def _view(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {**state, QUERY: torch.zeros(1).expand(10**6, 10**6)}


def _cast(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    import torch

    return lambda state: {key: tensor.to(getattr(torch, name)) for key, tensor in state.items()}


def _replaced(make: Callable[[Any], Any], name: str = QUERY) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, name: make(state[name])}


def _deflated(folder: Path) -> None:
    """Store 200 MB of zeros in a compressed archive of some 200 kB."""
    import torch

    _pickled(lambda state: {**state, "x": torch.zeros(50_000_000)})(folder)
    whole = (folder / PICKLE).rename(folder / "whole")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / PICKLE, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    whole.unlink()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _short_record(folder: Path) -> None:
    """Store half of a tensor's values, with a checksum that is right."""
    _pickled()(folder)
    whole = (folder / PICKLE).rename(folder / "whole")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / PICKLE, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[: len(data) // 2] if name.endswith("/data/3") else data)
    whole.unlink()


def _embedded(data: bytes) -> Change:
    """Return a change that puts the configuration of an adapter beside the weights."""
    return lambda folder: (folder / "adapter_config.json").write_bytes(data)


def _header(edit: Callable[[dict[str, Any]], Any]) -> Change:
    """Return a change of a safetensors header; `edit` returns a dict or bytes, or changes its argument."""

    def change(old: bytes) -> bytes:
        size = struct.unpack("<Q", old[:8])[0]
        header = json.loads(old[8 : 8 + size])
        edited = edit(header)
        text = edited if isinstance(edited, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + old[8 + size :]

    return content(WEIGHTS, change)


def _sharded(edit: Callable[[dict[str, Any]], Any] = lambda index: None, *, repeats: int = 0) -> Change:
    """Return a change into two shards; `edit` changes the index, `repeats` tensors are in both shards."""

    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = sorted(state)
        half = len(names) // 2
        index: dict[str, Any] = {"metadata": {}, "weight_map": {}}
        for shard, part in zip(_SHARDS, (names[:half], names[half - repeats :]), strict=True):
            save_file({name: state[name] for name in part}, folder / shard, metadata={"format": "pt"})
            index["weight_map"] |= dict.fromkeys(part, shard)
        edited = edit(index)
        (folder / _INDEX).write_text(json.dumps(index if edited is None else edited))

    return change


def _named(place: str) -> Callable[[dict[str, Any]], None]:
    return lambda index: index["weight_map"].update(x=place)


def _tensor(value: float) -> Any:
    import torch

    return torch.tensor(value)


def _original(edit: Callable[[dict[str, Any]], Any] = lambda state: state, **options: Any) -> Any:
    """Return a `prepare` that writes `weights.pth` with the names and sizes of the original repository."""

    def prepare(folder: Path) -> Path:
        import torch

        path = folder / "weights.pth"
        torch.save(edit(_original_state()), path, **options)
        return path

    return prepare


def _original_state(width: int = 192, inner: int = 64) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "v.cls_token": (1, 1, width),
        "v.dist_token": (1, 1, width),
        "v.pos_embed": (1, 1214, width),
        "v.patch_embed.proj.weight": (width, 1, 16, 16),
        "v.patch_embed.proj.bias": (width,),
        "v.blocks.0.attn.qkv.weight": (3 * width, width),
        "v.blocks.0.attn.qkv.bias": (3 * width,),
        "v.blocks.0.attn.proj.weight": (width, width),
        "v.blocks.0.mlp.fc1.weight": (inner, width),
        "v.blocks.0.mlp.fc1.bias": (inner,),
        "v.blocks.0.mlp.fc2.weight": (width, inner),
        "mlp_head.1.weight": (527, width),
        "mlp_head.1.bias": (527,),
    }
    ones = ("v.blocks.0.norm1", "v.blocks.0.norm2", "v.norm", "mlp_head.0")
    shapes |= {f"{name}.{part}": (width,) for name in ones for part in ("weight", "bias")}
    shapes |= {f"v.blocks.0.{name}.bias": (width,) for name in ("attn.proj", "mlp.fc2")}
    return {f"module.{name}": 0.1 * torch.randn(shape) for name, shape in shapes.items()}


def _convert(path: Path) -> Any:
    command("convert", "{}", "{}-converted")(path)
    return (path.parent / f"{path.name}-converted" / WEIGHTS).exists()


def _is_true(value: Any) -> bool:
    return value is True


def _stock_load(path: Path) -> Any:
    import torch

    return {name: tensor + 0 for name, tensor in torch.load(path, weights_only=True).items()}.keys()


def _conversion(id: str, title: str, right: Any, prepare: Any) -> Case:
    return Case(id, title, prepare, _convert, right, _stock_load, seconds=20.0, megabytes=300.0)


def _flipped_file(folder: Path) -> Path:
    path = _original()(folder)
    path.write_bytes(_flipped(path.read_bytes()))
    return path


def _cut_file(folder: Path) -> Path:
    path = _original()(folder)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def _adapter(**values: Any) -> Any:
    """Return a `prepare` of an adapter whose configuration has other values than its weights."""

    def prepare(folder: Path) -> Path:
        from ast_hf import ASTForAudioClassification
        from ast_hf.adapters.lora import Adapter, AdapterOptions

        base = changed()(folder)
        model = ASTForAudioClassification.from_pretrained(base)
        adapter = Adapter(model, AdapterOptions(rank=2), base=str(base))
        adapter.save(folder / "adapter")
        fields("adapter_config.json", base_model_name_or_path=str(base), **values)(folder / "adapter")
        return folder / "adapter"

    return prepare


def _merge(adapter: Path) -> Any:
    command("merge", "{}", "{}-merged")(adapter)
    return (adapter.parent / "adapter-merged" / WEIGHTS).exists()


def _merged(id: str, title: str, right: Any, prepare: Any) -> Case:
    return Case(id, title, prepare, _merge, right, seconds=20.0, megabytes=300.0)


def _broken_adapter(data: bytes) -> Any:
    def prepare(folder: Path) -> Path:
        adapter = _adapter()(folder)
        (adapter / "adapter_config.json").write_bytes(data)
        return adapter

    return prepare


def _state(name: str, make: Callable[[Path], Any]) -> Any:
    """Return a `prepare` of a training checkpoint with a file of state that is not one."""

    def prepare(folder: Path) -> Path:
        import torch

        checkpoint = folder / "checkpoint-1"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text('{"global_step": 1, "log_history": []}')
        torch.save({"state": {}, "param_groups": []}, checkpoint / "optimizer.pt")
        torch.save({"last_epoch": 1}, checkpoint / "scheduler.pt")
        torch.save(make(checkpoint), checkpoint / name)
        return checkpoint

    return prepare


def _resume(checkpoint: Path) -> Any:
    from ast_hf.training.checkpoints.resuming import resume_folder

    return resume_folder(str(checkpoint), checkpoint.parent)


def _resumed(id: str, title: str, right: Any, name: str, make: Callable[[Path], Any]) -> Case:
    return Case(id, title, _state(name, make), _resume, right, seconds=10.0, megabytes=100.0)


_HUGE = fields(hidden_size=16_000, num_attention_heads=10)
_SMALL = _pickled(lambda state: {"a": state[_BIAS]})

CASES = [
    _row("D0-bin", "intact .bin", is_finite, _pickled()),
    _row(
        "D0-legacy",
        "intact .bin of torch before 1.6",
        is_finite,
        _pickled(_use_new_zipfile_serialization=False),
    ),
    _row("D0-half", "intact .bin in float16", is_finite, _pickled(_cast("float16"))),
    _row("D0-shards", "intact shards", is_finite, _sharded()),
    _row(
        "D22-bin", ".bin cut in half", "E306", _pickled(), content(PICKLE, lambda old: old[: len(old) // 2])
    ),
    _row("D22-byte", ".bin without its last byte", "E306", _pickled(), content(PICKLE, lambda old: old[:-1])),
    _row("D22-zero", "empty .bin", "E306", _pickled(), content(PICKLE, b"")),
    _row("D22-html", ".bin is a web page", "E306", _pickled(), content(PICKLE, b"<html>404</html>")),
    _row("D22-cut", "safetensors cut", "E306", content(WEIGHTS, lambda old: old[:-1])),
    _row("D22-huge", "shape of 10^12", "E306", _header(lambda h: h[_BIAS].update(shape=[10**12]))),
    _row("D22-negative", "negative shape", "E306", _header(lambda h: h[_BIAS].update(shape=[-3]))),
    _row(
        "D22-overlap",
        "two tensors in one place",
        "E306",
        _header(lambda h: h[_BIAS].update(data_offsets=h["classifier.dense.weight"]["data_offsets"])),
    ),
    _row("D22-list", "header is a list", "E306", _header(lambda h: b"[1]")),
    _row("D22-nested", "nested header", "E306", _header(lambda h: b"[" * 90_000)),
    _row("D22-type", "unknown type", "E306", _header(lambda h: h[_BIAS].update(dtype="X9"))),
    _row(
        "D22-info",
        "safetensors cut, `info`",
        "E306",
        content(WEIGHTS, lambda b: b[:-1]),
        call=info,
        other=None,
    ),
    _row("D21-type", "weights are whole numbers", "E305", tensors(_cast("int64"))),
    _row("D21-bool", "weights are true or false", "E305", tensors(_cast("bool"))),
    _row("D21-float8", "weights in float8", "E305", tensors(_cast("float8_e4m3fn"))),
    _row("D21-scalar", "a matrix is one number", "E305", tensors(_replaced(lambda old: _tensor(1.0)))),
    _row("D21-zero", "a matrix without rows", "E305", tensors(_replaced(lambda old: old[:0].clone()))),
    _row(
        "D21-head",
        "a classifier that is one number",
        "E305",
        tensors(_replaced(lambda old: _tensor(1.0), "classifier.dense.weight")),
    ),
    _row(
        "D21-bias",
        "a bias of four for three labels",
        "E305",
        tensors(_replaced(lambda old: old.repeat(2)[:4], _BIAS)),
    ),
    _row("D21-other", "hidden_size 48 for weights of 24", "E305", fields(hidden_size=48)),
    _row("D20", "one layer fewer", "E305", fields(num_hidden_layers=1)),
    _row("D23", "NaN in a .bin", "E306", _pickled(_replaced(lambda old: old * float("nan")))),
    _row("D23-flip", "flipped byte in a .bin", "E306", _pickled(), content(PICKLE, _flipped)),
    _row("D23-short", "a .bin with half of a tensor's values", "E306", _short_record),
    _row("D36-few", "1-kB .bin, 16,000 wide", "E305", _SMALL, _HUGE),
    _row("D36-class", "the same, of a class of its own", "E305", _SMALL, _HUGE, fields(architectures=["X"])),
    _row("D36-more", "1-kB .bin, 10^7 wide", "E302|E305", _SMALL, fields(hidden_size=10**7)),
    _row("D36-info", "1-kB .bin, 16,000 wide, `info`", "E305", _SMALL, _HUGE, call=info, other=None),
    _row("D37-keys", "names that are numbers", "E306", _pickled(lambda state: {1: state[_BIAS]})),
    _row("D37-list", "a list of tensors", "E306", _pickled(lambda state: list(state.values()))),
    _row("D37-nested", "a training script's dict", "E306", _pickled(lambda state: {"state_dict": state})),
    _row("D37-none", "one tensor is None", "E306", _pickled(_replaced(lambda old: None))),
    _row("D37-sparse", "a sparse tensor", "E306", _pickled(_replaced(lambda old: old.to_sparse()))),
    _row("D37-meta", "a tensor without values", "E306", _pickled(_replaced(lambda old: old.to("meta")))),
    _row("D38", "shard of a folder above", "E306", _sharded(_named(f"../{WEIGHTS}"))),
    _row("D38-absolute", "shard with an absolute path", "E306", _sharded(_named(f"/tmp/{WEIGHTS}"))),
    _row("D38-number", "shard that is a number", "E306", _sharded(lambda i: i["weight_map"].update(x=5))),
    _row("D38-other", "shard that is config.json", "E306", _sharded(_named("config.json"))),
    _row(
        "D38-long",
        "shard with a name of 5,000 letters",
        "E306",
        _sharded(_named("a" * 5_000 + ".safetensors")),
    ),
    _row("D38-nothing", "metadata is null", "E306", _sharded(lambda index: index.update(metadata=None))),
    _row(
        "D40-beside",
        "adapter_config.json beside weights is a list",
        "E306",
        _embedded(b"[1]"),
        call=classify,
        other=None,
    ),
    _row("D40-beside-null", "adapter_config.json beside weights is null", "E306", _embedded(b"null")),
    _row("D38-list", "index is a list", "E306", _sharded(lambda index: [1])),
    _row("D38-empty", "index without a map", "E306", _sharded(lambda index: {})),
    _row("D38-map", "map is a list", "E306", _sharded(lambda index: {"weight_map": ["a"]})),
    _row("D38-about", "metadata is a number", "E306", _sharded(lambda index: index.update(metadata=5))),
    _row("D38-missing", "missing shard", "E306", _sharded(), lambda folder: (folder / _SHARDS[0]).unlink()),
    _row("D38-twice", "tensor in two shards", "E306", _sharded(repeats=1)),
    _row(
        "D39",
        "no classifier, `classify`",
        "E305",
        tensors(lambda s: {name: tensor for name, tensor in s.items() if "classifier" not in name}),
        call=classify,
        other=None,
    ),
    _row("H1", "code in an archive", "E306", _with_code()),
    _row(
        "H1-legacy",
        "code in a pickle of torch before 1.6",
        "E306",
        _with_code(_use_new_zipfile_serialization=False),
    ),
    _row("H1-bare", "code in a bare pickle", "E306", _with_code(is_bare=True)),
    _row("H1-classify", "code in an archive, `classify`", "E306", _with_code(), call=classify, other=None),
    _row("H4-view", "a view of 10^12 elements", "E306", _pickled(_view)),
    _row(
        "H4-legacy",
        "the same before torch 1.6",
        "E306",
        _pickled(_view, _use_new_zipfile_serialization=False),
    ),
    _row("H5", "200 kB that unpack to 200 MB", "E306", _deflated),
    _conversion("D0-convert", "intact .pth, `convert`", _is_true, _original()),
    _conversion(
        "H4-convert",
        "a view of 10^12 elements, `convert`",
        "E306",
        _original(lambda s: {**s, "module.v.norm.weight": s["module.v.norm.weight"][:1].expand(10**12)}),
    ),
    _conversion("H6", "flipped byte, `convert`", "E306", _flipped_file),
    _conversion("H7", "cut off, `convert`", "E306", _cut_file),
    _conversion(
        "D37-convert",
        "names that are numbers, `convert`",
        "E306",
        _original(lambda s: dict(enumerate(s.values()))),
    ),
    _conversion(
        "D21-convert",
        "a token that is one number, `convert`",
        "E305",
        _original(lambda s: {**s, "module.v.cls_token": _tensor(1.0)}),
    ),
    _conversion(
        "D21-whole",
        "whole numbers, `convert`",
        "E305",
        _original(lambda s: {name: value.int() for name, value in s.items()}),
    ),
    _conversion(
        "D20-convert",
        "layer 999 of 1, `convert`",
        "E305",
        _original(lambda s: {**s, "module.v.blocks.999.norm1.weight": s["module.v.norm.weight"]}),
    ),
    _merged("D40", "intact adapter, `merge`", _is_true, _adapter()),
    _merged("D40-rank", "rank 10^9, `merge`", "E305", _adapter(r=10**9)),
    _merged("D40-pattern", "rank_pattern 10^9, `merge`", "E305", _adapter(rank_pattern={"query": 10**9})),
    _merged("D40-text", "rank is a text, `merge`", "E305|E306", _adapter(r="x")),
    _merged("D40-list", "adapter_config.json is a list, `merge`", "E306", _broken_adapter(b"[1]")),
    _merged("D40-null", "adapter_config.json is null, `merge`", "E306", _broken_adapter(b"null")),
    _merged("D40-deep", "adapter_config.json is nested, `merge`", "E306", _broken_adapter(b"[" * 100_000)),
    _merged(
        "H1-import",
        "adapter that names a module to import",
        "E305",
        _adapter(megatron_config={"a": 1}, megatron_core="evil"),
    ),
    _resumed("H1-optimizer", "code in optimizer.pt", "E306", "optimizer.pt", _Runs),
    _resumed("H1-scheduler", "code in scheduler.pt", "E306", "scheduler.pt", _Runs),
    _resumed("H1-random", "code in rng_state.pth", "E306", "rng_state.pth", _Runs),
    _resumed("D41-optimizer", "optimizer.pt is a list", "E306", "optimizer.pt", lambda folder: [1]),
    _resumed("D41-scheduler", "scheduler.pt is a number", "E306", "scheduler.pt", lambda folder: 5),
    _resumed(
        "D41-random", "rng_state.pth of other contents", "E306", "rng_state.pth", lambda folder: {"python": 1}
    ),
]
