"""Sealed training checkpoints: written in a staging folder, sealed by a manifest of hashes, then renamed.

However a run ends, a `checkpoint-N` with a manifest is intact, and the one before it is still there.

Contents reach the disk before the name does (rename(2), fsync(2)), as in any crash-safe replacement of files.
transformers' own Trainer writes into the final folder, and resumes from the newest one, complete or not
(`trainer.py`: `_save_checkpoint`, `get_last_checkpoint`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...continuing import continuation
from ...files import sync
from ...writing_failures import cannot_write, writing_error

MANIFEST = "manifest.json"
#: The Trainer reads the step from it; a folder without it is not a training checkpoint.
STATE_FILE = "trainer_state.json"

#: Beginning of the name of a temporary folder with a checkpoint that the output folder has no room for.
REFUGE = "ast_hf-checkpoint-"
#: Folder next to the checkpoints for those being written or removed. Not of the form `checkpoint-N`.
_STAGING = ".partial"
_FORMAT = 1
_VERSIONS = ("ast_hf", "torch", "transformers", "accelerate", "safetensors")
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


class Manifest(NamedTuple):
    """Contents of a sealed checkpoint."""

    step: int  # of the optimizer
    processes: int  # that trained it; each stored its own random state
    files: dict[str, tuple[int, str]]  # path in the folder -> (size in bytes, sha256 in hexadecimal)


def checkpoint_folder(root: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return root / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def staging_folder(root: Path) -> Path:
    """Return the folder in which the checkpoints of `root` are written before they are renamed."""
    return root / _STAGING


def step_of(path: Path) -> int:
    """Return the step in the name `checkpoint-N`, or -1."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def checkpoints(root: Path) -> list[Path]:
    """Return everything named `checkpoint-N` in a folder, intact or not, oldest step first."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if step_of(path) >= 0), key=step_of)


# ---------------------------------------------------------------- sealing and verifying


def seal(folder: Path, *, step: int, processes: int = 1) -> None:
    """Sync all files of a complete training checkpoint to the disk, and write the manifest that lists them.

    Raises:
        OSError: if a file cannot be read or written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    for path in files:
        sync(path)
    values = {
        "format": _FORMAT,
        "step": step,
        "processes": processes,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _VERSIONS},
        },
        "files": [
            {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": sha256(path)}
            for path in files
        ],
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(path)


def find_corruption(folder: Path) -> str | None:
    """Return why a checkpoint is invalid, naming the file, or None if it is intact.

    Reads every file in the manifest, and ignores all others.
    """
    if not folder.is_dir():
        return "is not a folder" if folder.exists() else "does not exist"
    if not (folder / MANIFEST).exists():
        return f"{MANIFEST} is missing: its save was not finished, or plain transformers wrote it"
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is broken, or of a later version"
    if step_of(folder) not in (-1, manifest.step):
        return f"{MANIFEST} is that of step {manifest.step}"
    for name, (size, digest) in manifest.files.items():
        reason = _find_file_corruption(folder / name, name, size, digest)
        if reason is not None:
            return reason
    return None


def _find_file_corruption(path: Path, name: str, size: int, digest: str) -> str | None:
    try:
        actual_size = path.stat().st_size
        if actual_size != size:
            return f"{name} has {actual_size} bytes, not {size}"
        return None if sha256(path) == digest else f"{name} is not as it was written (sha256 differs)"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as problem:
        return f"{name} cannot be read ({problem.strerror})"


def newest_sealed(folder: str | os.PathLike) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Return the newest intact checkpoint in a folder, or None, and the newer ones as (checkpoint, reason)."""
    skipped: list[tuple[Path, str]] = []
    for path in reversed(checkpoints(Path(folder))):
        reason = find_corruption(path)
        if reason is None:
            return path, skipped
        skipped.append((path, reason))
    return None, skipped


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a checkpoint, or None if it is missing, broken or of a later version."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {entry["name"]: (int(entry["size"]), str(entry["sha256"])) for entry in values["files"]}
        if values["format"] != _FORMAT or STATE_FILE not in files:
            return None
        return Manifest(int(values["step"]), int(values["processes"]), files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


# ---------------------------------------------------------------- writing, renaming and removing


@contextmanager
def staged_save(
    root: Path, name: str, *, cleans_up: bool = True, needed: int | None = None
) -> Iterator[None]:
    """Write the checkpoint `name` in this block; older ones stay.

    An exception removes the staging folder, if the process `cleans_up`; only one may. `needed` is the size of
    the checkpoint in bytes, for the message.

    Raises:
        AstRunError: E401 if a file cannot be written, for example because the disk is full.
    """
    try:
        yield
    except BaseException as problem:
        if cleans_up:
            clear(root)
        staging = staging_folder(root)
        place = staging / name if staging.is_dir() or not staging.exists() else staging
        failure = writing_error(place, problem, needed=needed)
        if failure is None:
            raise
        newest, _ = newest_sealed(root)
        older = "there is no older checkpoint" if newest is None else f"{newest.name} is intact and stays"
        raise cannot_write(root / name, failure, kept=older, then=continuation()) from problem


def commit(
    root: Path,
    step: int,
    *,
    processes: int,
    limit: int | None = None,
    keep: Path | None = None,
    surplus: Sequence[Path] = (),
) -> None:
    """`seal` a complete checkpoint in the staging folder, rename it, and only then remove older ones.

    Those are the `surplus`, and others by `rotate`.
    """
    target = checkpoint_folder(root, step)
    seal(staging_folder(root) / target.name, step=step, processes=processes)
    put_in_place(root, target.name)
    remove_checkpoints(root, [path for path in surplus if path not in (target, keep)])
    rotate(root, target, limit, keep)


def put_in_place(root: Path, name: str) -> None:
    """Move a sealed checkpoint to its final name, replacing one of an earlier run."""
    staged = staging_folder(root) / name
    target = root / name
    replaced = staging_folder(root) / f"replaced-{name}"
    try:
        if target.exists() or target.is_symlink():
            target.replace(replaced)
        staged.replace(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        raise
    sync(root)
    clear(root)


def rotate(root: Path, newest: Path, limit: int | None, keep: Path | None = None) -> None:
    """Remove the oldest sealed checkpoints until `limit` are left; None or 0 removes none.

    The `newest`, which was just written, and `keep`, the best so far, always stay. Checkpoints of later steps
    belong to an earlier run, and are removed first.
    """
    protected = {path.name for path in (newest, keep) if path is not None}
    sealed = [path for path in checkpoints(root) if (path / MANIFEST).exists()]
    sealed.sort(key=lambda path: (step_of(path) <= step_of(newest), step_of(path)))
    removable = [path for path in sealed if path.name not in protected]
    surplus = len(sealed) - max(limit, len(protected)) if limit else 0
    remove_checkpoints(root, removable[: max(surplus, 0)])


def remove_checkpoints(root: Path, paths: Iterable[Path]) -> None:
    """Remove checkpoints, each whole or not at all."""
    for path in paths:
        staging_folder(root).mkdir(exist_ok=True)
        path.replace(staging_folder(root) / f"removed-{path.name}")  # atomic, unlike removing its files
    clear(root)


def clear(root: Path) -> None:
    """Remove the staging folder, with the remains of a killed save or removal."""
    shutil.rmtree(staging_folder(root), ignore_errors=True)
