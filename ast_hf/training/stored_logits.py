"""A model's logits on a data set as a file, for a student to learn from or another tool to read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save_file

from ..checkpoints import read_tensors
from ..errors import error


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


class StoredLogits(NamedTuple):
    """Logits of clips, as `load_logits` gives them."""

    logits: torch.Tensor  # float32, (clips, labels)
    clips: list[str]  # as `clip_keys` names them
    labels: list[str]
    problem_type: str


def store_logits(
    path: str | Path, logits: np.ndarray, clips: Sequence[str], labels: Sequence[str], problem_type: str
) -> None:
    """Write logits `(clips, labels)` as a safetensors file, whole or not at all.

    The file has the float32 tensor `logits`, and the clips' names as the bytes of a JSON list in the tensor `clips`
    (millions of names do not fit a safetensors header); label names and problem type are in its metadata.

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
    if set(tensors) != {"logits", "clips"} or not {"labels", "problem_type"} <= metadata.keys():
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
    return StoredLogits(logits[rows][:, columns], clips, labels, metadata["problem_type"])


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


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file under another name, then give it its own: nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def listed(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
