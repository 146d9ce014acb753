"""Pickled tensors (`.bin`, `.pth`, ...): read without running code, and checked before they take memory."""

from __future__ import annotations

import functools
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import AstHfError, error, unreadable

#: First bytes of the archives that `torch.save` writes since torch 1.6.
_ZIP = b"PK\x03\x04"
#: Bytes read at once for a checksum.
_BLOCK = 1 << 20
#: Members of an archive that hold the values of tensors.
_RECORD = re.compile(r"[^/]+/data/\d+")
#: Tensors may claim this multiple of their file's size, since several can be views of one storage.
_VIEWS = 4
#: Bytes that tensors may claim in any file.
_SMALL = 1 << 20


def read_pickle(path: Path) -> Any:
    """Return the contents of a pickle of tensors; no code in it is executed.

    Tensors of an archive stay in the file until they are used. An archive's checksums are verified.

    Raises E306 for a file that is damaged, of another format, would run code, or claims more than it holds.
    """
    where = repr(str(path))
    with path.open("rb") as file:
        is_archive = file.read(len(_ZIP)) == _ZIP
    records: Counter[int] = Counter()
    if is_archive:
        state = path.stat()
        records = _checked_records(path, state.st_mtime_ns, state.st_size, state.st_ino)
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as problem:
        if "invalid load key" in str(problem):
            what = "is not a file of torch.save"
            fix = "copy or download it again"
            raise error("E306", where=where, what=what, fix=fix, detail="unreadable") from problem
        what = "holds more than tensors, and reading it would run its code"
        fix = "save only its state dict again: torch.save(model.state_dict(), ...)"
        raise error("E306", where=where, what=what, fix=fix, detail="unsupported") from problem
    except Exception as problem:  # torch raises another class for each kind of damage
        raise unreadable("E306", where=where, problem=problem, fix="copy or download it again") from problem
    size = path.stat().st_size
    views = {_place(tensor): _bytes(tensor) for tensor in _tensors(content)}
    if sum(views.values()) > _VIEWS * size + _SMALL:
        what = f"claims {sum(views.values()):,} bytes of tensors, but has {size:,}"
        fix = "save contiguous copies of its tensors"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    if is_archive and not _storage_sizes(content) <= records:
        what = "describes tensors of other sizes than it holds"
        fix = "copy or download it again"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    return content


def as_state_dict(content: Any, path: Path, *, copy: bool = True) -> dict[str, torch.Tensor]:
    """Return the contents of a file as tensors by name, as copies in memory unless `copy` is False.

    Raises E306 for anything but a dict from names to dense tensors.
    """
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise _not_a_state_dict(path, "is not a state dict: names of tensors have to be text")
    for name, tensor in content.items():
        if not torch.is_tensor(tensor):
            raise _not_a_state_dict(path, f"is not a state dict: {name!r} is a {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise _not_a_state_dict(path, f"holds {name!r} in a form that is not read, such as a sparse one")
    if path.suffix == ".safetensors" or not copy:
        return dict(content)
    return {name: tensor.detach().clone() for name, tensor in content.items()}


def _not_a_state_dict(path: Path, what: str) -> AstHfError:
    fix = "save model.state_dict() alone"
    return error("E306", where=repr(str(path)), what=what, fix=fix, detail="unsupported")


@functools.lru_cache(maxsize=64)
def _checked_records(path: Path, *_version: int) -> Counter[int]:
    """Return size -> number of an archive's records of tensor values.

    Raises E306 if an archive declares more bytes than the file has, or a checksum differs.

    `torch.save` stores without compression. If no checksum is right, it was asked to leave them out
    (`torch.serialization.set_crc32_options`).
    """
    where = repr(str(path))
    fix = "copy or download it again"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > path.stat().st_size:
                what = f"declares {declared:,} bytes of contents, but has {path.stat().st_size:,}"
                fix = "save it again with torch.save, which does not compress"
                raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
            damaged = [member.filename for member in members if not _is_intact(archive, member)]
    except AstHfError:
        raise
    except Exception as problem:  # zipfile raises several classes
        raise unreadable("E306", where=where, problem=problem, fix=fix) from problem
    if damaged and len(damaged) < len(members):
        what = f"is damaged: the checksum of {damaged[0]!r} differs"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable")
    return Counter(member.file_size for member in members if _RECORD.fullmatch(member.filename))


def _is_intact(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(member) as file:
            while file.read(_BLOCK):
                pass
    except zipfile.BadZipFile as problem:
        if "CRC" not in str(problem):
            raise
        return False
    return True


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor inside nested dicts, lists and tuples, each once."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        entry = waiting.pop()
        if id(entry) in seen:
            continue
        seen.add(id(entry))
        if torch.is_tensor(entry):
            yield entry
        elif isinstance(entry, dict):
            waiting.extend(entry.values())
        elif isinstance(entry, (list, tuple, set)):
            waiting.extend(entry)


def _storage_sizes(content: Any) -> Counter[int]:
    """Return size -> number of the storages of tensors; one that is larger than its record reads the next one."""
    storages = [tensor.untyped_storage() for tensor in _tensors(content) if _is_dense(tensor)]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return Counter(size for size in sizes.values() if size)


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu"


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    if not _is_dense(tensor):
        return (id(tensor),)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size() if _is_dense(tensor) else 0
