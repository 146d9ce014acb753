"""Locks on open files, which the operating system drops with the process, also after `kill -9`."""

from __future__ import annotations

import errno
import os

#: Errors of a disk that has no locks.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
#: Errors of a lock that another process holds.
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def lock(handle: int) -> bool | None:
    """Lock a file; return False if another process holds it, and None if the disk has no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, 1 << 30, os.SEEK_SET)  # beyond the text: Windows forbids reading locked bytes
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in _HELD:
            return False
        if problem.errno in _UNSUPPORTED:
            return None
        raise
    return True
