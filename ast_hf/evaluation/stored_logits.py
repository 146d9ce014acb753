"""A model's logits on a data set as a file, for a student to learn from or another tool to read."""

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

from ..errors import error
from ..files import write_whole
from ..weights.reading import read_tensors


def clip_keys(split: Dataset) -> list[str]:
    """A name for each clip: its path, with `#start-end` in seconds where it is part of a file; `row N` without one."""
    bounds = [split[name] if name in split.column_names else [None] * len(split) for name in ("start", "end")]
    keys = []
    for number, (audio, start, end) in enumerate(zip(split["audio"], *bounds, strict=True)):
        part = (
            "" if start is None and end is None else f"#{'' if start is None else start}-{'' if end is None else end}"
        )
        keys.append(f"{audio.get('path') or f'row {number}'}{part}")
    return keys


def clip_digests(split: Dataset) -> torch.Tensor:
    """What each clip is, wherever it lies: BLAKE2b of its file's bytes and of its bounds, uint8 `(clips, 16)`.

    Reads every file once. The same recording in another file (converted, copied with other tags) is another clip.
    """
    files: dict[str, bytes] = {}
    digests = []
    columns = [split[name] if name in split.column_names else [None] * len(split) for name in ("start", "end")]
    for audio, *bounds in zip(split["audio"], *columns, strict=True):
        content, path = audio.get("bytes"), audio.get("path")
        if content is None and path not in files:
            files[path] = _digest_of_file(path)
        own = files[path] if content is None else hashlib.blake2b(content).digest()
        part = json.dumps([None if bound is None else float(bound) for bound in bounds]).encode()
        digests.append(hashlib.blake2b(own + part, digest_size=_DIGEST_BYTES).digest())
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).reshape(-1, _DIGEST_BYTES)


#: Enough that two clips never share one by chance.
_DIGEST_BYTES = 16


def _digest_of_file(path: str) -> bytes:
    digest = hashlib.blake2b()
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.digest()


class StoredLogits(NamedTuple):
    """Logits of clips, as `load_logits` gives them."""

    logits: torch.Tensor  # float32, (clips, labels)
    clips: list[str]  # as `clip_keys` names them
    labels: list[str]
    problem_type: str
    digests: torch.Tensor | None = None  # uint8, (clips, 16), as `clip_digests` makes them


def store_logits(
    path: str | Path,
    logits: np.ndarray,
    clips: Sequence[str],
    labels: Sequence[str],
    problem_type: str,
    digests: torch.Tensor | None = None,
) -> None:
    """Write logits `(clips, labels)` as a safetensors file, whole or not at all.

    The file has the float32 tensor `logits`, and the clips' names as the bytes of a JSON list in the tensor `clips`
    (millions of names do not fit a safetensors header); label names and problem type are in its metadata. With
    `clip_digests` as the tensor `digests` the clips are known again where they have other names.

    Raises:
        AstInputError: E108 for a file's name that does not end in `.safetensors`.
        AstDataError: E208 when two clips of one name have different logits.
    """
    check_name(path)
    seen: dict[str, int] = {}
    for number, name in enumerate(clips):
        if not np.allclose(logits[seen.setdefault(name, number)], logits[number], atol=1e-3):
            what = "names two clips that are not the same"
            raise error("E208", where=repr(name), what=what, fix="give every clip a path of its own")
    named = np.frombuffer(json.dumps(list(clips)).encode(), dtype=np.uint8).copy()
    tensors = {
        "logits": torch.tensor(np.ascontiguousarray(logits), dtype=torch.float32),
        "clips": torch.from_numpy(named),
        **({} if digests is None else {"digests": digests}),
    }
    metadata = {"labels": json.dumps(list(labels)), "problem_type": problem_type}
    write_whole(Path(path), lambda part: save_file(tensors, part, metadata=metadata))


def load_logits(
    path: str | Path, *, labels: Sequence[str] | None = None, clips: Sequence[str] | None = None
) -> StoredLogits:
    """Read what `evaluate_checkpoints(save_logits=...)` wrote.

    Args:
        path: the file.
        labels: names the columns have to have; they come in this order. The file's own when None.
        clips: names of clips (`clip_keys`); the rows come in this order. The file's own when None.

    Raises:
        AstDataError: E208 for labels or clips that the file has not, and for labels of the file that are not asked for.
        AstConfigError: E306 for a broken file.
    """
    path = Path(path)
    tensors, where = read_tensors(path), repr(str(path))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if set(tensors) - {"digests"} != {"logits", "clips"} or not {"labels", "problem_type"} <= metadata.keys():
        raise error("E306", where=where, what="holds no stored logits", fix="make it with `ast-hf evaluate`")
    logits, own_clips = tensors["logits"], json.loads(tensors["clips"].numpy().tobytes())
    own_labels = json.loads(metadata["labels"])
    if logits.shape != (len(own_clips), len(own_labels)):
        what = f"{tuple(logits.shape)} logits for {len(own_clips)} clips and {len(own_labels)} labels"
        raise error("E306", where=where, what=what, fix="make it again")
    labels, clips = list(own_labels if labels is None else labels), list(own_clips if clips is None else clips)
    surplus = [name for name in own_labels if name not in set(labels)]
    if surplus:
        what = f"has labels that were not asked for: {listed(surplus)}"
        raise error("E208", where=where, what=what, fix="use logits of a model with the same labels")
    columns, rows = _places(labels, own_labels, "label", where), _places(clips, own_clips, "clip", where)
    digests = tensors["digests"][rows] if "digests" in tensors else None
    return StoredLogits(logits[rows][:, columns], clips, labels, metadata["problem_type"], digests)


def logits_of(stored: StoredLogits, split: Dataset, where: str) -> torch.Tensor:
    """The logits of a split's clips, `(clips, labels)`, found by what is in their files: these may have been moved.

    Args:
        stored: as `load_logits` gives it.
        split: one split of `load_audio_dataset`.
        where: how errors call the file.

    Raises:
        AstDataError: E208 for clips that have no logits.
    """
    if stored.digests is None:
        fix = "make it again with `ast-hf evaluate --save-logits`"
        raise error("E208", where=where, what="does not tell what is in the clips", fix=fix)
    place = {bytes(digest): row for row, digest in enumerate(stored.digests.numpy())}
    rows = [place.get(bytes(digest), -1) for digest in clip_digests(split).numpy()]
    missing = [name for name, row in zip(clip_keys(split), rows, strict=True) if row < 0]
    if missing:
        what = f"has logits for {len(rows) - len(missing)} of {len(rows)} clips, none for {listed(missing)}"
        fix = "make it of all the clips that are trained on: `ast-hf evaluate ... --split train --save-logits`"
        raise error("E208", where=where, what=what, fix=fix)
    return stored.logits[rows]


def _places(wanted: list[str], own: list[str], kind: str, where: str) -> list[int]:
    """Where each wanted name stands first among a file's own; raises E208 for those it has not."""
    place: dict[str, int] = {}
    for number, name in enumerate(own):
        place.setdefault(name, number)
    missing = [name for name in wanted if name not in place]
    if missing:
        what = f"has no {kind} {listed(missing)}"
        raise error("E208", where=where, what=what, fix="make it again, of the same data and labels")
    return [place[name] for name in wanted]


def check_name(path: str | Path) -> None:
    """Raise E108 unless a file for logits is named as what it is."""
    if Path(path).suffix != ".safetensors":
        fix = "let it end in .safetensors"
        raise error("E108", where="save_logits", what=f"{str(path)!r} names another kind of file", fix=fix)


def listed(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
