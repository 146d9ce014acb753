"""Lock of a run's output folder: one run at a time, from before data are read until everything is written.

The operating system holds the lock (`flock`) and drops it with the process, also after `kill -9`. The file
beside it says who holds it, for messages. `filelock` would do the same, but only its newest versions release
the lock in forked data loader workers, which outlive a killed run by seconds.

`flock` works across machines on NFS, GPFS and CephFS. Some network disks lock for one machine only, or not at
all. There the file decides: its owner touches it every few seconds, so that another machine sees it live.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import threading
import time
import uuid
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ...continuing import continuation
from ...errors import AstHfError, AstHfWarning, error, warning_text
from ...file_locks import lock
from ...processes import is_main_process
from ...writing_failures import cannot_write

#: In the output folder while a run uses it. Readers of the folder ignore it, and it is never published.
LOCK_FILE = ".run.lock"
#: Seconds between two touches of the file, and for which another machine watches for one.
_BEAT = 5.0
_WATCH = 3 * _BEAT
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class _Held:
    """Lock of a folder that this process holds, shared by everything in the thread that took it."""

    path: Path
    handle: int
    made_folder: bool
    thread: threading.Thread = field(default_factory=threading.current_thread)
    uses: int = 1
    ended: threading.Event = field(default_factory=threading.Event)

    def beat(self) -> None:
        while not self.ended.wait(_BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def end(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self.path.unlink()  # before the lock is dropped; `_take` notices that its file has no name
        os.close(self.handle)
        with contextlib.suppress(OSError):
            if not self.path.exists():  # Windows cannot remove an open file
                raise FileNotFoundError
            self.path.unlink()
        if self.made_folder:
            with contextlib.suppress(OSError):  # not empty
                self.path.parent.rmdir()


_held: dict[Path, _Held] = {}
_guard = threading.RLock()


class FolderLock:
    """Lock of a run's output folder, for a `with` block or until `release`.

    Locks of one folder in one thread share it: the last one releases it. Only the main process of a
    distributed run takes it. The folder is created, and removed again if it is still empty at the end.

    Args:
        root: the output folder; links and relative paths to it are the same folder.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        self._shared: _Held | None = None

    def __enter__(self) -> FolderLock:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    def acquire(self) -> FolderLock:
        """Take the lock; warn (W410) if the run that held it is gone.

        Raises:
            AstRunError: E402 if another run uses the folder, E401 if nothing can be written there.
            AstConfigError: E306 if the folder is a file.
        """
        if self._shared is not None or not is_main_process():
            return self
        with _guard:
            made_folder = _make_folder(self.root)
            key = self.root.resolve()
            held = _find(self.root, key)
            if held is None:
                held = _Held(key / LOCK_FILE, _take(self.root, key / LOCK_FILE), made_folder)
                _held[key] = held
                threading.Thread(target=held.beat, daemon=True).start()
            elif held.thread is not threading.current_thread() and held.thread.is_alive():
                raise _in_use(self.root, _owner())
            else:
                held.thread = threading.current_thread()
                held.uses += 1
                held.made_folder = held.made_folder or made_folder
            self._shared = held
        return self

    def release(self) -> None:
        """Give the lock back; without effect if it is not held."""
        held, self._shared = self._shared, None
        with _guard:
            key = next((key for key, other in _held.items() if other is held), None)
            if held is None or key is None:  # in a fork of the process that holds it
                return
            held.uses -= 1
            if not held.uses:
                del _held[key]
                held.end()


def check_free(root: Path) -> None:
    """Raise E402 if another run uses a folder, E306 if it is a file; nothing is written."""
    check_no_file(root)
    path = root / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    try:
        is_locked = lock(handle)
        record = _read(handle)
        if is_locked is False:
            raise _in_use(root, record)
        _check_gone(root, path, record, is_locked=is_locked is not None)
    finally:
        os.close(handle)


def ensure_lock(root: str | os.PathLike) -> None:
    """Raise E402 if another run took a folder meanwhile, after the lock's file was removed or the folder moved."""
    with FolderLock(root):
        pass


def _find(root: Path, key: Path) -> _Held | None:
    """Return the lock of a folder that this process holds, also of one that was renamed.

    One whose file was removed is taken again.
    """
    for place, held in list(_held.items()):
        if _is_at(held.handle, key / LOCK_FILE):
            _held[key] = _held.pop(place)
            held.path = key / LOCK_FILE
            return held
    removed = _held.get(key)
    if removed is not None:
        handle = _take(root, removed.path)
        os.close(removed.handle)
        removed.handle = handle
    return removed


def _forget() -> None:
    """Close the locks in a fork, which would otherwise hold them as long as it lives."""
    for held in _held.values():
        held.ended.set()
        with contextlib.suppress(OSError):
            os.close(held.handle)
    _held.clear()


@atexit.register
def _release_all() -> None:
    """Release the locks of runs that were prepared and not finished."""
    while _held:
        _held.popitem()[1].end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def check_no_file(root: Path) -> None:
    """Raise E306 if the output folder is a file."""
    if root.exists() and not root.is_dir():
        fix = "name a folder for the result"
        raise error("E306", where=repr(str(root)), what="is a file", fix=fix, detail="exists")


def _make_folder(root: Path) -> bool:
    """Create the output folder; return True if it did not exist."""
    if root.is_dir():
        return False
    check_no_file(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise cannot_write(root, problem) from problem
    return True


def _take(root: Path, path: Path) -> int:
    """Lock the file and write this process into it; return its handle."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as problem:
            raise cannot_write(path if os.path.lexists(path) else root, problem) from problem
        try:
            is_locked = lock(handle)
            record = _read(handle)
            if is_locked is False:
                raise _in_use(root, record)
            if not _is_at(handle, path):  # its owner just removed it
                os.close(handle)
                continue
            _check_gone(root, path, record, is_locked=is_locked is not None)
            _write(root, handle)
            if is_locked is None:
                _confirm(root, handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise
        if record:
            what = f"was locked by a run that is gone ({_describe(record)}); its lock is taken over"
            text = warning_text("W410", where=repr(str(root)), what=what)
            warnings.warn(text, AstHfWarning, stacklevel=3)
        return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _check_gone(root: Path, path: Path, record: dict[str, Any], *, is_locked: bool) -> None:
    """Raise E402 if the run in the file may live although the operating system's lock is free."""
    if not record:
        return
    own = _owner()
    if record.get("boot") == own["boot"]:  # this machine, or a container on it
        is_live = not is_locked and record.get("start") == _process_start(record.get("pid"))
    else:
        is_live = _beats(path)
    if is_live:
        raise _in_use(root, record)


def _beats(path: Path) -> bool:
    """Watch a file, and return True if its owner on another machine touches or removes it."""
    before = _modified(path)
    end = time.monotonic() + _WATCH
    while time.monotonic() < end:
        time.sleep(min(1.0, _WATCH / 5))
        if _modified(path) != before:
            return True
    return False


def _modified(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)  # network disks look up the time when a file is opened
        try:
            return os.fstat(handle).st_mtime_ns
        finally:
            os.close(handle)
    return None


def _confirm(root: Path, handle: int) -> None:
    """Raise E402 if another run wrote itself into the file at the same time, where disks have no locks."""
    own = _read(handle)
    time.sleep(0.5)
    record = _read(handle)
    if record != own:
        raise _in_use(root, record)


def _owner() -> dict[str, Any]:
    """Return this process as it is described in the file."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "boot": _boot_id(),
        "start": _process_start(os.getpid()),
        "id": uuid.uuid4().hex,
    }


def _boot_id() -> str:
    """Return an id of the running kernel, the same in its containers; elsewhere the host's name."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return socket.gethostname()


def _process_start(pid: Any) -> str:
    """Return when a process started, in the kernel's ticks; a recycled pid has another one."""
    with contextlib.suppress(OSError, IndexError):
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    return ""


def _read(handle: int) -> dict[str, Any]:
    """Return the run in the file; empty for a new file, and for one that was cut."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        record = json.loads(os.read(handle, 4096))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(root: Path, handle: int) -> None:
    text = json.dumps(_owner()) + "\n"
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text.encode())
    except OSError as problem:
        raise cannot_write(root, problem) from problem


def _describe(record: dict[str, Any]) -> str:
    return f"pid {record.get('pid', '?')} on {record.get('host', '?')!r}, since {record.get('since', '?')}"


def _in_use(root: Path, record: dict[str, Any]) -> AstHfError:
    owner = _describe(record) if record else "which is just starting"
    what = f"is in use by another run, {owner}"
    fix = f"wait until that run ends or stop it, then {continuation()}; or choose another folder"
    return error("E402", where=repr(str(root)), what=what, fix=fix)
