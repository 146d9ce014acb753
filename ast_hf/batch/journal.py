"""Journal of a batch: a line for each finished recording, so that an interrupted batch is continued.

The first line has the settings, which a continued batch must share. A last line that was not written completely is
dropped. The files of results are made of the journal's values alone, so that they do not depend on interruptions.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from ..errors import error, short_reason
from ..file_locks import lock
from ..versions import result_versions
from ..writing_failures import explained

#: Name of the journal in the folder of results.
NAME = ".classify.jsonl"
#: Key of the line that follows the last recording's.
_FINISHED = "finished"
#: Version of the journal's lines.
_VERSION = 1


class Entry(NamedTuple):
    """Finished recording.

    Attributes:
        name: the recording, as it was named.
        stamp: size and time of change of its file, `[bytes, nanoseconds]`, or None if it had none.
        content: its result as the pipeline returns it; None if it could not be classified.
        seconds: length of what was read.
        problem: why it was not classified, or only in part; None if it was, completely.
    """

    name: str
    stamp: list[int] | None
    content: list[dict[str, Any]] | None
    seconds: float
    problem: str | None

    @property
    def is_complete(self) -> bool:
        """Whether the recording was classified to its end."""
        return self.problem is None


def stamp_of(name: str) -> list[int] | None:
    """Return size and time of change of a file, or None if it cannot be had."""
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


class Journal:
    """Journal in a folder of results, open for one process at a time.

    Args:
        folder: folder of results; made if it does not exist.
        settings: what decides the results: the model and the options. Plain values.
        resume: whether a journal of before is continued.

    Raises:
        AstConfigError: E306 for an unfinished journal that is not to be continued, for one with other settings, and
            for a damaged one.
        AstRunError: E401 if it cannot be written, E402 if another process has it open.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / NAME
        values = {"journal": _VERSION, **result_versions(), **settings}
        self._settings = json.loads(json.dumps(values))
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
        try:
            self._entries = self._read(resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def finished(self, name: str) -> Entry | None:
        """Return the entry of a recording that needs no more work, or None.

        A recording that failed, or whose file has changed, is classified again.
        """
        entry = self._entries.get(name)
        return entry if entry is not None and entry.is_complete and entry.stamp == stamp_of(name) else None

    def add(self, entry: Entry) -> None:
        """Write an entry, and wait until the disk has it."""
        self._entries[entry.name] = entry
        self._write(entry._asdict())

    def finish(self, *, is_complete: bool) -> None:
        """Note that the results are written. The journal stays only if a recording has a problem."""
        if not is_complete:
            self._write({_FINISHED: True})
            return
        if os.name == "nt":  # Windows cannot remove an open file
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        """Return the file, locked; unbuffered, so that a failed write is not tried again when it is closed.

        The process that had the lock may have removed the file, which is then made anew.
        """
        while True:
            file = self.path.open("a+b", buffering=0)
            if lock(file.fileno()) is False:
                file.close()
                what = "is in use by another process"
                fix = "wait for it, or write to another folder"
                raise error("E402", where=repr(str(self.path)), what=what, fix=fix)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            file.close()

    def _read(self, resume: bool) -> dict[str, Entry]:
        self._file.seek(0)
        content = self._file.read()
        end = content.rfind(b"\n") + 1
        lines = content[:end].split(b"\n")[:-1]
        if len(lines) > 1 and not resume:
            self._check_finished(lines[-1])
        if not lines or not resume:
            with explained(self.path):
                self._file.truncate(0)
            self._write({"settings": self._settings})
            return {}
        with explained(self.path):
            self._file.truncate(end)
        self._check_settings(self._parsed(lines[0], 1).get("settings"))
        values = [self._parsed(line, number) for number, line in enumerate(lines[1:], 2)]
        entries = [_entry(each) for each in values if _FINISHED not in each]
        return {entry.name: entry for entry in entries}

    def _check_finished(self, last: bytes) -> None:
        """Raise E306 for a journal that ends with a recording: it may have hours of work."""
        if not last.startswith(json.dumps({_FINISHED: True}).encode()):
            what = "is the journal of a batch that was not finished"
            fix = "continue it with --resume, or remove it"
            raise error("E306", where=repr(str(self.path)), what=what, fix=fix, detail="exists")

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        """Return the values of a line; raise E306 for a damaged one."""
        try:
            values = json.loads(line)
            if number > 1 and _FINISHED not in values:
                _entry(values)
            return dict(values)
        except (ValueError, TypeError, RecursionError) as problem:
            what = f"is damaged in line {number} ({short_reason(problem, 80)})"
            fix = "remove that line with an editor, or remove the file and start again"
            raise error(
                "E306", where=repr(str(self.path)), what=what, fix=fix, detail="unreadable"
            ) from problem

    def _check_settings(self, before: Any) -> None:
        if not isinstance(before, dict):
            what = "does not begin with settings, so that it is no journal of this command"
            fix = "remove it and start again, or use another folder"
            raise error("E306", where=repr(str(self.path)), what=what, fix=fix, detail="unreadable")
        for name in [*self._settings, *sorted(before.keys() - self._settings.keys())]:
            now = self._settings.get(name)
            if now != before.get(name):
                what = f"was started with {name} {before.get(name)!r}, and this command has {now!r}"
                fix = "use the same model and options, or another folder"
                raise error("E306", where=repr(str(self.path)), what=what, fix=fix, detail="mismatch")

    def _write(self, values: Mapping[str, Any]) -> None:
        content = json.dumps(values).encode() + b"\n"
        with explained(self.path):
            while content:
                content = content[self._file.write(content) :]
            os.fsync(self._file.fileno())


def _entry(values: Mapping[str, Any]) -> Entry:
    """Return an entry; raise a TypeError for values that are none."""
    entry = Entry(**values)
    if not (isinstance(entry.name, str) and isinstance(entry.content, (list, type(None)))):
        raise TypeError("it is no recording")
    return entry
