"""Atomic writing: other processes see a file complete or not at all, also after a crash or on a full disk."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .writing_failures import explained


def write_whole(path: Path, write: Callable[[Path], Any], *, needed: int | None = None) -> None:
    """Create a file atomically: `write` fills a temporary file, which is synced and renamed to `path`.

    Args:
        path: the file; its folder is made.
        write: called with the temporary file, which has the suffix of `path`.
        needed: size of the file in bytes, if it is known, for the message.

    Raises:
        AstRunError: E401 if it cannot be written; a file of that name is then unchanged.
    """
    part = path.with_name(f".{part_stem(path)}.{os.getpid()}.part{path.suffix}")
    with explained(path, needed=needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            apply_default_mode(part)
            sync(part)
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        sync(path.parent)


def part_stem(path: Path) -> str:
    """Return the stem of a file, short enough for a temporary name beside it: names have at most 255 bytes."""
    return os.fsencode(path.stem)[:200].decode(errors="ignore")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; raise E401 if it cannot be written."""
    write_whole(path, lambda part: part.write_bytes(content), needed=len(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; raise E401 if it cannot be written."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose files are moved into `folder` at the end, by `move_whole`.

    Files of other names stay in `folder`. After an exception it is unchanged. Raises E401 for what cannot be
    written in this block.
    """
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with explained(folder):
            staged.mkdir(parents=True)
            yield staged
        move_whole(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def move_whole(staged: Path, folder: Path) -> None:
    """Move the files below a staging folder into `folder` on the same disk, each one atomically.

    All files reach the disk before the first one gets its final name. Files of other names stay.

    Raises:
        AstRunError: E401 if a file cannot be written or renamed.
    """
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in files:
        with explained(folder / path.relative_to(staged), needed=path.stat().st_size):
            sync(path)
    for path in files:
        target = folder / path.relative_to(staged)
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    for parent in {folder, *((folder / path.relative_to(staged)).parent for path in files)}:
        sync(parent)


def sync(path: Path) -> None:
    """Wait until a file's contents, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders, and orders renames itself
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as problem:
        # Some network disks cannot sync a folder.
        if not (path.is_dir() and problem.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically; NaN and infinities become null."""
    write_text(path, json.dumps(plain_values(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def plain_values(value: Any) -> Any:
    """Return nested dicts and lists with None in place of NaN and infinities, which JSON cannot express."""
    if isinstance(value, dict):
        return {name: plain_values(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def apply_default_mode(*paths: Path) -> None:
    """Give private files, as safetensors (0.8) creates them, the mode of a new file in their folder."""
    private = [path for path in paths if os.name == "posix" and not path.stat().st_mode & 0o077]
    if not private:
        return
    probe = private[0].with_name(f".mode-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # some file systems have no modes, and the files are complete without
        probe.touch()  # os.umask can only be read by changing it, which would affect other threads
        try:
            mode = stat.S_IMODE(probe.stat().st_mode)
        finally:
            probe.unlink()
        for path in private:
            path.chmod(mode)
