"""When does a training checkpoint count? It is written in a folder beside its place, sealed by a manifest of sizes and
hashes, and only then renamed: whatever ends a run, a `checkpoint-N` with a manifest is whole, and the one before it is
still there.

The order of writes, syncs and renames is the usual one for replacing files that have to survive a crash: contents are
on the disk before the name is (rename(2), fsync(2)). transformers' own Trainer writes into the final folder, and takes
the newest one whatever it holds (`trainer.py`: `_save_checkpoint`, `get_last_checkpoint`).
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...errors import AstHfError, AstHfWarning, error, warning_text

MANIFEST = "manifest.json"
#: What the Trainer reads the step from; a folder without it is no training checkpoint.
STATE_FILE = "trainer_state.json"

#: Beside the checkpoints: what is being written, and what is being removed. Not of the form `checkpoint-N`.
_STAGING = ".partial"
_FORMAT = 1
_VERSIONS = ("ast_hf", "torch", "transformers", "accelerate", "safetensors")
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
#: How torch's and safetensors' writers tell of a disk that is full or gone; theirs are no OSErrors.
_WRITING = re.compile(r"os error|I/O error|inline_container|PytorchStreamWriter|No space left", re.IGNORECASE)


class Manifest(NamedTuple):
    """What a sealed checkpoint says of itself."""

    step: int
    processes: int  # that trained it: each left its own random state
    files: dict[str, tuple[int, str]]  # path in the folder -> (size in bytes, sha256 in hexadecimal)


def checkpoint_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return root / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def staging_folder(root: Path) -> Path:
    """Where the checkpoints of `root` are written before they have their place."""
    return root / _STAGING


def step_of(path: Path) -> int:
    """The step in the name `checkpoint-N`, or -1."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def checkpoints(root: Path) -> list[Path]:
    """Everything named `checkpoint-N` in a folder, whole or not, oldest step first."""
    found = [path for path in root.iterdir() if step_of(path) >= 0] if root.is_dir() else []
    return sorted(found, key=step_of)


# ---------------------------------------------------------------- sealing and its proof


def seal(folder: Path, *, step: int, processes: int = 1) -> None:
    """Bring all files of a folder onto the disk, and write the manifest that names them.

    Args:
        folder: a complete training checkpoint.
        step: its optimizer step.
        processes: how many processes trained it.

    Raises:
        OSError: when a file cannot be read or written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    for path in files:
        _sync(path)
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
        _sync(path)


def flaw(folder: Path) -> str | None:
    """What keeps a checkpoint from counting, in words that name the file; None for a whole one.

    Every file of the manifest is read. Files that the manifest does not name are left out of account.
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
    return next(
        (told for name, fact in manifest.files.items() if (told := _file_flaw(folder / name, name, *fact))), None
    )


def _file_flaw(path: Path, name: str, size: int, digest: str) -> str | None:
    try:
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes, not {size}"
        return None if sha256(path) == digest else f"{name} is not as it was written (sha256 differs)"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as problem:
        return f"{name} cannot be read ({problem.strerror})"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint, or None when there is none that can be understood."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {entry["name"]: (int(entry["size"]), str(entry["sha256"])) for entry in values["files"]}
        known = values["format"] == _FORMAT and STATE_FILE in files
        return Manifest(int(values["step"]), int(values["processes"]), files) if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows has no handle for this, and orders renames itself
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as problem:
        if not (path.is_dir() and problem.errno in (errno.EINVAL, errno.ENOTSUP)):  # network disks without such a sync
            raise
    finally:
        os.close(handle)


# ---------------------------------------------------------------- into place, and out of it


@contextmanager
def writing(root: Path, name: str, *, tidies: bool = True) -> Iterator[None]:
    """Where a checkpoint is written: whatever goes wrong, what was staged is removed, the older ones stay.

    Args:
        root: the folder of the checkpoints.
        name: the one that is written.
        tidies: remove the rest; only one process may.

    Raises:
        AstRunError: E401 when a file cannot be written, a full disk among others.
    """
    try:
        yield
    except BaseException as problem:
        if tidies:
            clear(root)
        if isinstance(problem, (OSError, SafetensorError)) or _is_of_a_writer(problem):
            raise _not_written(root, name, problem) from problem
        raise


def _is_of_a_writer(problem: BaseException) -> bool:
    return (
        isinstance(problem, RuntimeError)
        and not isinstance(problem, AstHfError)
        and bool(_WRITING.search(str(problem)))
    )


def _not_written(root: Path, name: str, problem: BaseException) -> AstHfError:
    newest = newest_sealed(root)[0]
    left = "there is no older checkpoint" if newest is None else f"{newest.name} is whole and stays"
    free = f"{shutil.disk_usage(root).free / 1e6:.0f} MB are free" if root.is_dir() else "the folder is gone"
    what = f"cannot be written ({' '.join(str(problem).split())[:160]}; {free}); {left}"
    fix = "make room on the disk or lower save_total_limit, then go on with --resume auto"
    return error("E401", where=repr(str(root / name)), what=what, fix=fix)


def publish(root: Path, step: int, *, processes: int, limit: int | None = None, keep: Path | None = None) -> None:
    """Seal what is complete in the staging folder, give it its place, and only then remove older ones.

    Args:
        root: the folder of the checkpoints.
        step: the one that was written.
        processes: as for `seal`.
        limit: as for `rotate`.
        keep: the same.
    """
    target = checkpoint_folder(root, step)
    seal(staging_folder(root) / target.name, step=step, processes=processes)
    put_in_place(root, target.name)
    rotate(root, target, limit, keep)


def put_in_place(root: Path, name: str) -> None:
    """Give a sealed checkpoint its final name. One of that name, left by an earlier run, makes room only now."""
    staged, target, replaced = staging_folder(root) / name, root / name, staging_folder(root) / f"replaced-{name}"
    try:
        if target.exists() or target.is_symlink():
            target.replace(replaced)
        staged.replace(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        raise
    _sync(root)
    clear(root)


def rotate(root: Path, newest: Path, limit: int | None, keep: Path | None = None) -> None:
    """Remove the oldest sealed checkpoints, until so many are left.

    Args:
        root: the folder that holds them.
        newest: the one just put in place, which always stays. Later steps belong to an earlier run, and go first.
        limit: how many may stay; None or 0 for all.
        keep: another one that stays, the best so far.
    """
    protected = {path.name for path in (newest, keep) if path is not None}
    sealed = [path for path in checkpoints(root) if (path / MANIFEST).exists()]
    sealed.sort(key=lambda path: (step_of(path) <= step_of(newest), step_of(path)))
    removable = [path for path in sealed if path.name not in protected]
    surplus = len(sealed) - max(limit, len(protected)) if limit else 0
    for path in removable[: max(surplus, 0)]:
        staging_folder(root).mkdir(exist_ok=True)
        path.replace(staging_folder(root) / f"removed-{path.name}")  # gone at once, not file by file
    clear(root)


def clear(root: Path) -> None:
    """Remove what a killed save or removal left."""
    shutil.rmtree(staging_folder(root), ignore_errors=True)


def recover(root: Path) -> None:
    """Give a checkpoint its place that was sealed when its run was killed, and remove what else that run left."""
    for staged in checkpoints(staging_folder(root)):
        if flaw(staged) is None and flaw(root / staged.name) is not None:
            put_in_place(root, staged.name)
    clear(root)


# ---------------------------------------------------------------- resuming


def newest_sealed(folder: str | os.PathLike) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint of a folder that verifies, file by file.

    Args:
        folder: what holds the `checkpoint-N`.

    Returns:
        The checkpoint, or None when none verifies; and the newer ones that do not, each with the reason.
    """
    skipped: list[tuple[Path, str]] = []
    for path in reversed(checkpoints(Path(folder))):
        reason = flaw(path)
        if reason is None:
            return path, skipped
        skipped.append((path, reason))
    return None, skipped


def check_resumable(wanted: str | os.PathLike | bool | None, root: Path, *, overwrite: bool = False) -> None:
    """Raise E306 at once, before data are read, when names alone tell that `resume_folder` will."""
    if wanted is None or wanted is False:
        _check_unused(root, overwrite)
    if wanted is True and not checkpoints(root) + checkpoints(staging_folder(root)):
        raise _nothing_to_resume(root, [])
    if wanted not in (None, True, False, "auto", "hub") and not Path(str(wanted)).is_dir():
        _refuse(Path(str(wanted)), flaw(Path(str(wanted))))


def resume_folder(
    wanted: str | os.PathLike | bool | None, root: Path, processes: int = 1, *, overwrite: bool = False
) -> str | None:
    """The checkpoint that a run goes on from; what killed saves left is tidied up.

    Args:
        wanted: True for the newest of `root` that verifies; `"auto"` for the same, or a fresh start where none does; a
            checkpoint folder; None or False for a fresh start.
        root: the run's output folder.
        processes: how many processes go on.
        overwrite: a fresh start may write over the result of a run that is finished.

    Returns:
        The folder, or None for a fresh start.

    Raises:
        AstConfigError: E306 when no checkpoint verifies (True), or the named one does not; and for a fresh start (None)
            in a folder that has checkpoints: those of two runs would lie side by side, and the newest be taken for the
            one to go on from; or that has a model or a README.md, which would be written over.
    """
    if wanted is None or wanted is False:
        _check_unused(root, overwrite)
        return None
    chosen = _newest(root, required=wanted is True) if wanted is True or wanted == "auto" else _named(Path(wanted))
    manifest = None if chosen is None else read_manifest(chosen)
    if manifest is not None and manifest.processes != processes:
        what = (
            f"was trained by {manifest.processes} processes, and {processes} go on: not what an unbroken run would do"
        )
        _warn("W404", chosen, what)
    return None if chosen is None else str(chosen)


#: What a finished run leaves in its folder, or a person, and another run would write over.
_KEPT = ("README.md", "config.json", "model.safetensors", "model.safetensors.index.json")


def _check_unused(root: Path, overwrite: bool) -> None:
    if root.exists() and not root.is_dir():
        raise error("E306", where=repr(str(root)), what="is a file", fix="name a folder for the result")
    found = [path.name for path in checkpoints(root)]
    if found:
        what = f"holds {', '.join(found[:3])}{', ...' if len(found) > 3 else ''} of an earlier run"
        fix = "go on with that run (--resume auto), choose another folder, or remove its checkpoints"
        raise error("E306", where=repr(str(root)), what=what, fix=fix)
    kept = [name for name in _KEPT if (root / name).exists()]
    if kept and not overwrite:
        what = f"holds {' and '.join(kept[-2:])}, which this run would write over"
        fix = "choose another folder, or say that it may be replaced (--overwrite)"
        raise error("E306", where=repr(str(root)), what=what, fix=fix)


def _newest(root: Path, *, required: bool) -> Path | None:
    recover(root)
    chosen, skipped = newest_sealed(root)
    if chosen is None and required:
        raise _nothing_to_resume(root, skipped)
    for path, reason in skipped:
        _warn("W401", path, f"skipped, {reason}" + (f"; the run goes on from {chosen.name}" if chosen else ""))
    if chosen is None:
        _warn("W402", root, "holds no checkpoint that could be resumed, the run starts afresh")
    return chosen


def _named(folder: Path) -> Path:
    """A checkpoint that was named: one of plain transformers is taken too, as it cannot be verified with a warning."""
    reason = flaw(folder)
    if reason is not None and folder.is_dir() and not (folder / MANIFEST).exists():
        reason = None if (folder / STATE_FILE).is_file() else f"{STATE_FILE} is missing"
        if reason is None:
            _warn("W403", folder, f"has no {MANIFEST}, so nothing tells whether its files are whole")
    if reason is not None:
        _refuse(folder, reason)
    return folder


def _refuse(folder: Path, reason: str | None) -> None:
    fix = "name another checkpoint, or resume with auto, which takes the newest that verifies"
    raise error("E306", where=repr(str(folder)), what=f"cannot be resumed, {reason}", fix=fix)


def _nothing_to_resume(root: Path, skipped: list[tuple[Path, str]]) -> AstHfError:
    reasons = "; ".join(f"{path.name}: {reason}" for path, reason in skipped)
    what = f"holds no checkpoint that verifies ({reasons})" if skipped else "holds no checkpoint-N to resume from"
    return error("E306", where=repr(str(root)), what=what, fix="start without resuming, or resume with auto")


def _warn(code: str, where: Any, what: str) -> None:
    warnings.warn(warning_text(code, where=repr(str(where)), what=what), AstHfWarning, stacklevel=3)
