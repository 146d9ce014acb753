"""Files of a model's logits on a data set, for distillation and other tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import error, shortlist
from ..files import write_whole
from ..label_order import label_differences
from ..weights.reading import read_tensors

#: Length of a clip's digest; the probability that two clips share one is 2^-128.
_DIGEST_BYTES = 16


def clip_keys(split: Dataset) -> list[str]:
    """Return a name for each clip: its path or `row N`, with `#start-end` in seconds for a part of a file."""
    starts, ends = _read_bounds(split)
    keys = []
    for number, (audio, start, end) in enumerate(zip(split["audio"], starts, ends, strict=True)):
        key = audio.get("path") or f"row {number}"
        if start is not None or end is not None:
            key += f"#{'' if start is None else start}-{'' if end is None else end}"
        keys.append(key)
    return keys


def clip_digests(split: Dataset) -> torch.Tensor:
    """Return the BLAKE2b digest of each clip's file content and bounds, uint8 `(clips, 16)`.

    Reads every file once. A digest does not depend on the path, but a converted or retagged file has another.
    """
    files: dict[str, bytes] = {}
    digests = []
    for audio, *bounds in zip(split["audio"], *_read_bounds(split), strict=True):
        content = audio.get("bytes")
        path = audio.get("path")
        if content is None and path not in files:
            files[path] = _digest_file(path)
        file_digest = files[path] if content is None else hashlib.blake2b(content).digest()
        part = json.dumps([None if bound is None else float(bound) for bound in bounds]).encode()
        digests.append(hashlib.blake2b(file_digest + part, digest_size=_DIGEST_BYTES).digest())
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).reshape(-1, _DIGEST_BYTES)


def _read_bounds(split: Dataset) -> list[Sequence[float | None]]:
    """Return start and end of each clip in seconds; None for the start or end of the file."""
    return [split[name] if name in split.column_names else [None] * len(split) for name in ("start", "end")]


def _digest_file(path: str) -> bytes:
    digest = hashlib.blake2b()
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.digest()


class StoredLogits(NamedTuple):
    """Logits of clips, as `load_logits` returns them."""

    logits: torch.Tensor  # float32, (clips, labels)
    clips: list[str]  # as `clip_keys` names them
    labels: list[str]
    problem_type: str
    digests: torch.Tensor | None = None  # uint8, (clips, 16), as `clip_digests` returns them


def store_logits(
    path: str | Path,
    logits: np.ndarray,
    clips: Sequence[str],
    labels: Sequence[str],
    problem_type: str,
    digests: torch.Tensor | None = None,
) -> None:
    """Write logits `(clips, labels)` atomically as a safetensors file.

    Its tensors are `logits` (float32), `clips` (the bytes of a JSON list of names, since millions of names do
    not fit a safetensors header) and `digests` (`clip_digests`, by which clips are recognised under other
    names). Its metadata are label names and problem type.

    Raises:
        AstInputError: E108 for a file name that does not end in `.safetensors`.
        AstDataError: E208 for two clips with the same name and different logits.
    """
    check_name(path)
    rows: dict[str, int] = {}
    for row, name in enumerate(clips):
        first = rows.setdefault(name, row)
        if not np.allclose(logits[first], logits[row], atol=1e-3):
            what = "is the name of two different clips"
            raise error("E208", where=repr(name), what=what, fix="give each clip its own path")
    encoded_names = np.frombuffer(json.dumps(list(clips)).encode(), dtype=np.uint8).copy()
    tensors = {
        "logits": torch.tensor(np.ascontiguousarray(logits), dtype=torch.float32),
        "clips": torch.from_numpy(encoded_names),
    }
    if digests is not None:
        tensors["digests"] = digests
    metadata = {"labels": json.dumps(list(labels)), "problem_type": str(problem_type)}
    write_whole(Path(path), lambda part: save_file(tensors, part, metadata=metadata))


def load_logits(
    path: str | Path, *, labels: Sequence[str] | None = None, clips: Sequence[str] | None = None
) -> StoredLogits:
    """Read a file that `evaluate_checkpoints(save_logits=...)` wrote.

    Args:
        path: the file.
        labels: order of the columns, all label names of the file; None for the file's order.
        clips: names of the rows to return (`clip_keys`), in this order; None for all.

    Raises:
        AstDataError: E208 for labels or clips that the file does not have, and for missing names in `labels`.
        AstConfigError: E306 for a broken file.
    """
    stored = _read_file(Path(path))
    where = repr(str(path))
    labels = stored.labels if labels is None else list(labels)
    clips = stored.clips if clips is None else list(clips)
    _, surplus = label_differences(labels, stored.labels)
    if surplus:
        what = f"has labels that were not requested: {shortlist(surplus)}"
        raise error("E208", where=where, what=what, fix="use logits of a model with the same labels")
    columns = _find_positions(labels, stored.labels, "label", where)
    rows = _find_positions(clips, stored.clips, "clip", where)
    digests = None if stored.digests is None else stored.digests[rows]
    return StoredLogits(stored.logits[rows][:, columns], clips, labels, stored.problem_type, digests)


def _read_file(path: Path) -> StoredLogits:
    """Read a file of `store_logits`; raise E306 if it is not one."""
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    where = repr(str(path))
    if set(tensors) - {"digests"} != {"logits", "clips"} or not {"labels", "problem_type"} <= metadata.keys():
        fix = "make it with `ast-hf evaluate`"
        raise error("E306", where=where, what="holds no stored logits", fix=fix, detail="unsupported")
    logits = tensors["logits"]
    clips = json.loads(tensors["clips"].numpy().tobytes())
    labels = json.loads(metadata["labels"])
    if logits.shape != (len(clips), len(labels)):
        what = f"{tuple(logits.shape)} logits for {len(clips)} clips and {len(labels)} labels"
        raise error("E306", where=where, what=what, fix="make it again", detail="unreadable")
    return StoredLogits(logits, clips, labels, metadata["problem_type"], tensors.get("digests"))


def logits_of(stored: StoredLogits, split: Dataset, where: str) -> torch.Tensor:
    """Return the logits of a split's clips, `(clips, labels)`, matched by content: files may have moved.

    `where` is the name of the file in errors.

    Raises:
        AstDataError: E208 for clips without logits.
    """
    if stored.digests is None:
        fix = "make it again with `ast-hf evaluate --save-logits`"
        raise error("E208", where=where, what="holds no digests of the clips", fix=fix)
    position = {bytes(digest): row for row, digest in enumerate(stored.digests.numpy())}
    rows = [position.get(bytes(digest), -1) for digest in clip_digests(split).numpy()]
    missing = [name for name, row in zip(clip_keys(split), rows, strict=True) if row < 0]
    if missing:
        count = len(rows) - len(missing)
        what = f"has logits for {count} of {len(rows)} clips, none for {shortlist(missing)}"
        fix = "make it of all training clips: `ast-hf evaluate ... --split train --save-logits`"
        raise error("E208", where=where, what=what, fix=fix)
    return stored.logits[rows]


def _find_positions(names: list[str], stored_names: list[str], kind: str, where: str) -> list[int]:
    """Return the first position of each name among those of a file; raise E208 for missing names."""
    position: dict[str, int] = {}
    for number, name in enumerate(stored_names):
        position.setdefault(name, number)
    missing = [name for name in names if name not in position]
    if missing:
        what = f"has no {kind} {shortlist(missing)}"
        raise error("E208", where=where, what=what, fix="make it again, of the same data and labels")
    return [position[name] for name in names]


def check_name(path: str | Path) -> None:
    """Raise E108 unless a file name ends in `.safetensors`."""
    if Path(path).suffix != ".safetensors":
        what = f"{str(path)!r} does not end in .safetensors"
        raise error("E108", where="save_logits", what=what, fix="let it end in .safetensors")
