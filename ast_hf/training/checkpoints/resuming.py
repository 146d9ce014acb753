"""Checkpoint that a run resumes from: the newest intact one, or one that the user names."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

from transformers.trainer_callback import TrainerState

from ...errors import AstHfError, AstHfWarning, error, warning_text
from ...files import sync
from ...recipe.precision import default_precision, names_precision
from ...recipe.recipe import Recipe
from .folder_lock import check_no_file
from .run_options import begun_precision
from .sealing import (
    MANIFEST,
    REFUGE,
    STATE_FILE,
    checkpoints,
    clear,
    find_corruption,
    newest_sealed,
    put_in_place,
    read_manifest,
    staging_folder,
    step_of,
)
from .state_files import check_state_files

#: Files that another run would overwrite.
_RESULT_FILES = ("README.md", "config.json", "model.safetensors", "model.safetensors.index.json")


def check_resumable(request: str | os.PathLike | bool | None, root: Path, *, overwrite: bool = False) -> None:
    """Raise the errors of `resume_folder` as far as file names show them, before data are read."""
    _check_staging(root)
    if request is None or request is False:
        _check_unused(root, overwrite)
    elif request is True:
        if not checkpoints(root) + checkpoints(staging_folder(root)):
            raise _nothing_to_resume(root, [])
    elif request not in ("auto", "hub") and not Path(request).is_dir():
        raise _not_resumable(Path(request), find_corruption(Path(request)))


def resume_folder(
    request: str | os.PathLike | bool | None, root: Path, processes: int = 1, *, overwrite: bool = False
) -> str | None:
    """Return the checkpoint that a run resumes from, or None for a fresh start; clean up after killed saves.

    Args:
        request: True for the newest intact one in `root`; `"auto"` for the same, or a fresh start without
            one; a checkpoint folder; None or False for a fresh start.
        root: the run's output folder.
        processes: number of processes that resume; another number than before is a warning (W404).
        overwrite: let a fresh start replace the result of a finished run.

    Raises:
        AstConfigError: E306 if no checkpoint is intact (True), or the named one is not; for a fresh start in
            a folder with checkpoints, which would mix two runs; and for one in a folder with a model or a
            README.md, unless `overwrite`.
        AstRunError: E401 if a file has the name of the folder in which checkpoints are written.
    """
    _check_staging(root)
    if request is None or request is False:
        _check_unused(root, overwrite)
        return None
    if request is True or request == "auto":
        checkpoint = _find_newest(root, required=request is True)
    else:
        checkpoint = _verify(Path(request))
    if checkpoint is None:
        return None
    check_state_files(checkpoint)
    manifest = read_manifest(checkpoint)
    if manifest is not None and manifest.processes != processes:
        what = f"was trained by {manifest.processes} processes and is resumed by {processes}"
        _warn("W404", checkpoint, f"{what}: the result differs from that of an unbroken run")
    return str(checkpoint)


def find_resumable(
    request: str | os.PathLike | bool | None, root: Path, *, overwrite: bool = False
) -> Path | None:
    """Return the checkpoint that `resume_folder` would return, with its errors and warnings; nothing is changed.

    None for a fresh start, and for `"hub"`, which is not asked.
    """
    check_resumable(request, root, overwrite=overwrite)
    if request in (None, False, "hub"):
        return None
    is_named = request is not True and request != "auto"
    checkpoint = _verify(Path(str(request))) if is_named else _look_for_newest(root, required=request is True)
    if checkpoint is not None:
        check_state_files(checkpoint)
    return checkpoint


def _look_for_newest(root: Path, *, required: bool) -> Path | None:
    """Return the checkpoint that `_find_newest` would return, which may still be in the staging folder."""
    skipped: list[tuple[Path, str]] = []
    found: list[Path] = []
    for folder in (root, staging_folder(root)):
        newest, broken = newest_sealed(folder)
        found += [] if newest is None else [newest]
        skipped += broken if folder == root else []
    if not found and required:
        raise _nothing_to_resume(root, skipped)
    checkpoint = max(found, key=step_of, default=None)
    kept = -1 if checkpoint is None else step_of(checkpoint)
    _warn_of_skipped(root, checkpoint, [(path, reason) for path, reason in skipped if step_of(path) > kept])
    return checkpoint


def steps_done(checkpoint: Path) -> int:
    """Return the step of a checkpoint that `find_resumable` returned, whatever its name is."""
    return int(TrainerState.load_from_json(str(checkpoint / STATE_FILE)).global_step)


def kept_precision(recipe: Recipe, root: Path, request: str | os.PathLike | bool | None) -> str | None:
    """Return a recipe's precision or the default; of a run that is resumed, what was chosen at its start.

    Args:
        recipe: its `precision` and its section `training`.
        root: the run's output folder.
        request: as for `resume_folder`. A fresh start in a folder with checkpoints is refused elsewhere.
    """
    precision = recipe.precision
    if precision is None and not names_precision(recipe.training):
        precision = default_precision(recipe.training)
    elif precision != "auto":
        return precision
    if request in (None, False, True, "auto", "hub"):
        folders = checkpoints(root) + checkpoints(staging_folder(root))
    else:
        folders = [Path(str(request))]
    begun = (begun_precision(folder) for folder in reversed(folders))
    return next((kept for kept in begun if kept is not None), precision)


def recover(root: Path) -> None:
    """Rename a checkpoint that was sealed when its run was killed, and remove the rest of the staging folder.

    A checkpoint that was written elsewhere for lack of room is moved here, if there is room now.
    """
    for staged in checkpoints(staging_folder(root)):
        if find_corruption(staged) is None and find_corruption(root / staged.name) is not None:
            put_in_place(root, staged.name)
    clear(root)
    for path in checkpoints(root):
        if path.resolve().parent.name.startswith(REFUGE) and find_corruption(path) is None:
            _bring_home(root, path)


def _bring_home(root: Path, link: Path) -> None:
    """Replace a link to a checkpoint by the checkpoint; leave it without room."""
    place = link.resolve()
    staged = staging_folder(root) / link.name
    try:
        shutil.copytree(place, staged)
        for file in staged.rglob("*"):
            sync(file)
        put_in_place(root, link.name)
    except OSError:
        clear(root)
    else:
        shutil.rmtree(place.parent, ignore_errors=True)


def _check_staging(root: Path) -> None:
    staging = staging_folder(root)
    if staging.exists() and not staging.is_dir():
        what = "is a file, and checkpoints are written in a folder of that name"
        fix = "remove or rename it"
        raise error("E401", where=repr(str(staging)), what=what, fix=fix, detail="in_the_way")


def _check_unused(root: Path, overwrite: bool) -> None:
    """Raise E306 for a fresh start in a folder with checkpoints or results."""
    where = repr(str(root))
    check_no_file(root)
    names = [path.name for path in checkpoints(root)]
    if names:
        what = f"holds {', '.join(names[:3])}{', ...' if len(names) > 3 else ''} of an earlier run"
        fix = "continue that run (--resume auto), choose another folder, or remove its checkpoints"
        raise error("E306", where=where, what=what, fix=fix, detail="exists")
    results = [name for name in _RESULT_FILES if (root / name).exists()]
    if results and not overwrite:
        what = f"holds {' and '.join(results[-2:])}, which this run would overwrite"
        fix = "choose another folder, or allow replacing it (--overwrite)"
        raise error("E306", where=where, what=what, fix=fix, detail="exists")


def _find_newest(root: Path, *, required: bool) -> Path | None:
    recover(root)
    checkpoint, skipped = newest_sealed(root)
    if checkpoint is None and required:
        raise _nothing_to_resume(root, skipped)
    _warn_of_skipped(root, checkpoint, skipped)
    return checkpoint


def _warn_of_skipped(root: Path, checkpoint: Path | None, skipped: list[tuple[Path, str]]) -> None:
    """Warn of checkpoints that are not intact (W401), and of a start from the beginning (W402)."""
    for path, reason in skipped:
        what = f"skipped, {reason}"
        if checkpoint is not None:
            what += f"; the run continues from {checkpoint.name}"
        _warn("W401", path, what)
    if checkpoint is None:
        _warn("W402", root, "holds no checkpoint that could be resumed, so the run starts from the beginning")


def _verify(folder: Path) -> Path:
    """Return a checkpoint that the user named; warn of one of plain transformers (W403)."""
    reason = find_corruption(folder)
    if reason is None:
        return folder
    if not folder.is_dir() or (folder / MANIFEST).exists():
        raise _not_resumable(folder, reason)
    if not (folder / STATE_FILE).is_file():
        raise _not_resumable(folder, f"{STATE_FILE} is missing")
    _warn("W403", folder, f"has no {MANIFEST}, so its files cannot be verified")
    return folder


def _not_resumable(folder: Path, reason: str | None) -> AstHfError:
    fix = "name another checkpoint, or resume with auto, which takes the newest intact one"
    detail = "unreadable" if folder.exists() else "missing"
    return error("E306", where=repr(str(folder)), what=f"cannot be resumed, {reason}", fix=fix, detail=detail)


def _nothing_to_resume(root: Path, skipped: list[tuple[Path, str]]) -> AstHfError:
    reasons = "; ".join(f"{path.name}: {reason}" for path, reason in skipped)
    what = f"holds no intact checkpoint ({reasons})" if skipped else "holds no checkpoint-N to resume from"
    fix = "start without resuming, or resume with auto"
    return error("E306", where=repr(str(root)), what=what, fix=fix, detail="missing")


def _warn(code: str, path: Path, what: str) -> None:
    warnings.warn(warning_text(code, where=repr(str(path)), what=what), AstHfWarning, stacklevel=3)
