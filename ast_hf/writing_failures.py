"""Failures to write: recognised whoever raises them, explained by E401, and foreseen before the work."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError

from .errors import AstHfError, error, short_reason


class _Cause(NamedTuple):
    """A kind of failure: the detail of E401, and what to do about it."""

    detail: str
    fix: str


_FULL = _Cause("full", "make room on that disk, or write to another one")
_DEVICE = _Cause("device", "check that disk and its connection, or write to another one")
_IN_THE_WAY = _Cause("in_the_way", "remove or rename what has that name, or name another folder")
_NO_PERMISSION = _Cause("permission", "change its permissions, or name another folder")
_CAUSES = {
    0: _Cause("full", "make room on that disk, or raise its quota or the limit on the size of a file"),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _Cause("full", "make room within your quota on that disk, or write to another one"),
    errno.EFBIG: _Cause("full", "raise the limit on the size of a file (ulimit -f)"),
    errno.EROFS: _Cause("read_only", "make that disk writable, or name a folder on another one"),
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.ENOENT: _Cause(
        "missing", "name a folder that exists or can be made, and look for what removed this one"
    ),
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTEMPTY: _IN_THE_WAY,
    errno.ELOOP: _IN_THE_WAY,
    errno.ENAMETOOLONG: _Cause("name", "give a shorter name"),
    errno.EINVAL: _Cause("name", "give a name that this disk allows"),
    errno.EMFILE: _Cause("open_files", "raise the limit on open files (ulimit -n)"),
    errno.ENFILE: _Cause("open_files", "close other programs: the system has too many open files"),
}
#: Errors that only writing has, so that they need no context to be recognised.
_ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
#: Messages of torch's and safetensors' writers, which do not raise OSError.
_FOREIGN = re.compile(
    r"os error|I/O error|inline_container|PytorchStreamWriter|No space left|Parent directory .* does not exist",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"os error (\d+)")


def is_writing_failure(problem: BaseException) -> bool:
    """Return True for an exception that can only come from writing a file, whatever code was running."""
    if isinstance(problem, AstHfError):
        return problem.code == "E401"
    if isinstance(problem, OSError):
        return problem.errno in _ONLY_WRITING
    return _is_foreign(problem) and "inline_container" not in str(problem)


def _is_foreign(problem: BaseException) -> bool:
    """Return True for a failure of torch's or safetensors' writer; torch's reader has the same messages."""
    is_candidate = isinstance(problem, (SafetensorError, RuntimeError)) and not isinstance(
        problem, AstHfError
    )
    return is_candidate and bool(_FOREIGN.search(str(problem)))


def cannot_write(
    path: str | os.PathLike,
    problem: BaseException,
    *,
    needed: int | None = None,
    kept: str = "",
    then: str = "",
) -> AstHfError:
    """Return the E401 of a file or folder that cannot be written; its fix depends on the cause.

    Args:
        path: what was written.
        problem: the exception; for an E401 its file, cause and fix stay.
        needed: bytes of what was written, if they are known.
        kept: what is still there, for the message.
        then: what to do after the fix.
    """
    after = f", then {then}" if then else ""
    rest = f"; {kept}" if kept else ""
    if isinstance(problem, AstHfError):
        what = f"{problem.what}{rest}"
        return error("E401", where=problem.where, what=what, fix=problem.fix + after, detail=problem.detail)
    place = Path(path)
    number = _number(problem, place)
    cause = _CAUSES.get(number, _DEVICE)
    if number == errno.ENOTDIR:
        place = next((part for part in (place, *place.parents) if os.path.lexists(part)), place)
    reason = _without_path(problem)
    if "inline_container" in reason:  # places in torch's source code
        reason = os.strerror(number) if number else "the file could only be written in part"
    amount = "" if needed is None else f"; needs {megabytes(needed)}"
    what = f"cannot be written ({short_reason(reason, 160)}{amount}; {_free(place)}){rest}"
    where = repr(str(place))
    return error("E401", where=where, what=what, fix=cause.fix + after, detail=cause.detail)


def _number(problem: BaseException, path: Path) -> int:
    """Return the errno of an exception; 0 if it wrote a part, and torch's writer does not say why no more."""
    if isinstance(problem, OSError) and problem.errno:
        return problem.errno
    if match := _NUMBER.search(str(problem)):
        return int(match[1])
    if "does not exist" in str(problem):
        return errno.ENOENT
    named = [number for number in _CAUSES if number and os.strerror(number) in str(problem)]
    if named:
        return named[0]
    return _probe(nearest_folder(path))


def _probe(folder: Path) -> int:
    """Return the errno of writing a block into a folder, 0 if that works. A kill leaves no file."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


def _without_path(problem: BaseException) -> str:
    """Return the message of an exception; that of an OSError without the path, which the place names."""
    strerror = getattr(problem, "strerror", None)
    return strerror if isinstance(problem, OSError) and strerror else str(problem)


def _free(path: Path) -> str:
    try:
        return f"{megabytes(shutil.disk_usage(nearest_folder(path)).free)} are free"
    except OSError:
        return "its disk is gone"


def megabytes(count: int) -> str:
    """Return bytes for a message: `"346 MB"`, `"0.0655 MB"`, `"51 bytes"`."""
    if count < 10_000:
        return f"{count} bytes"
    return f"{count / 1e6:.3g} MB" if count < 1e9 else f"{count / 1e6:.0f} MB"


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    for folder in (path, *path.absolute().parents):
        if folder.is_dir():
            return folder
    return Path()


def writing_error(path: Path, problem: BaseException, *, needed: int | None = None) -> AstHfError | None:
    """Return the E401 for an exception of code that writes `path`; None if it is about something else.

    An OSError that names a file in the folder `path` is about that file.
    """
    if isinstance(problem, AstHfError):
        return problem if problem.code == "E401" else None
    if not (isinstance(problem, OSError) or _is_foreign(problem)):
        return None
    return cannot_write(_named(problem, path), problem, needed=needed)


@contextlib.contextmanager
def explained(path: str | os.PathLike, *, needed: int | None = None) -> Iterator[None]:
    """Raise E401, naming `path` or the file in it, for every failure to write in this block."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as problem:
        failure = writing_error(Path(path), problem, needed=needed)
        if failure is None or failure is problem:
            raise
        raise failure from problem


def _named(problem: BaseException, path: Path) -> Path:
    """Return the file within the folder `path` that an OSError names, else `path`."""
    name = getattr(problem, "filename", None)
    if isinstance(name, (str, os.PathLike)) and path in Path(name).parents:
        return Path(name)
    return path


# ---------------------------------------------------------------- before the work


def check_folder(folder: str | os.PathLike) -> None:
    """Raise E401 unless a folder can be made and written to. Folders made for the test are removed again."""
    path = Path(folder)
    made = [parent for parent in (path, *path.absolute().parents) if not os.path.lexists(parent)]
    try:
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
            if number := _probe(path):
                raise OSError(number, os.strerror(number))
    finally:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def check_file(file: str | os.PathLike, *, makes_folder: bool = True) -> None:
    """Raise E401 unless a file can be written, replacing one of that name, in a folder that `makes_folder`."""
    path = Path(file)
    with explained(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not (makes_folder or path.parent.exists()):
            raise FileNotFoundError(errno.ENOENT, "its folder does not exist")
    check_folder(path.parent)


def check_space(folder: str | os.PathLike, needed: int, *, what: str, then: str = "") -> None:
    """Raise E401 if a disk has less room than `needed` bytes; `what` names what will be written."""
    path = Path(folder)
    try:
        free = shutil.disk_usage(nearest_folder(path)).free
    except OSError:  # a file system that does not say it
        return
    if free < needed:
        text = f"has too little room: {what} needs about {megabytes(needed)}, and {megabytes(free)} are free"
        fix = "make room on that disk, or write to another one" + (f"; {then}" if then else "")
        raise error("E401", where=repr(str(path)), what=text, fix=fix, detail="full")
