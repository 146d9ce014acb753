"""Journal of a batch: a line for each finished recording, so that an interrupted batch is continued.

The first line has the settings, which a continued batch must share. A line that was not written completely is
ignored. The files of results are made of the journal alone, so that they do not depend on interruptions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import error
from ..file_locks import lock
from ..writing_failures import explained

#: Name of the journal in the folder of results.
NAME = ".classify.jsonl"
#: Key of the line that follows the last recording's.
_FINISHED = "finished"


class Entry(NamedTuple):
    """Finished recording.

    Attributes:
        name: the recording, as it was named.
        stamp: size and time of change of its file, `[bytes, nanoseconds]`, or None if it had none.
        content: rows of its result as the pipeline returns them, rounded; None if it could not be classified.
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
        AstConfigError: E306 for an unfinished journal that is not to be continued, and for one with other settings.
        AstRunError: E401 if it cannot be written, E402 if another process has it open.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / NAME
        self._settings = json.loads(json.dumps(settings))
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        self._lock()
        self._entries = self._read(resume)

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

    def entry(self, name: str) -> Entry:
        """Return the entry of a recording."""
        return self._entries[name]

    def finish(self) -> None:
        """Note that the results are written. The journal stays only if a recording has a problem."""
        if all(entry.is_complete for entry in self._entries.values()):
            self.path.unlink(missing_ok=True)
        else:
            self._write({_FINISHED: True})

    def _lock(self) -> None:
        if lock(self._file.fileno()) is False:
            what = "is in use by another process"
            fix = "wait for it, or write to another folder"
            raise error("E402", where=str(self.path), what=what, fix=fix)

    def _read(self, resume: bool) -> dict[str, Entry]:
        self._file.seek(0)
        content = self._file.read()
        end = content.rfind(b"\n") + 1
        lines = content[:end].splitlines()
        if not lines or not resume:
            self._check_new(is_unfinished=bool(lines) and _FINISHED not in self._parsed(lines[-1]))
            self._file.truncate(0)
            self._write({"settings": self._settings})
            return {}
        self._file.truncate(end)
        self._check_settings(self._parsed(lines[0]).get("settings", {}))
        values = [each for each in map(self._parsed, lines[1:]) if _FINISHED not in each]
        return {each["name"]: Entry(**each) for each in values}

    def _check_new(self, *, is_unfinished: bool) -> None:
        if is_unfinished:
            what = "is the journal of a batch that was not finished"
            fix = "continue it with --resume, or remove it"
            raise error("E306", where=str(self.path), what=what, fix=fix, detail="exists")

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(line))
        except ValueError as problem:
            what = f"has a damaged line ({problem})"
            raise error(
                "E306", where=str(self.path), what=what, fix="remove it and start again", detail="unreadable"
            ) from problem

    def _check_settings(self, before: Mapping[str, Any]) -> None:
        for name in sorted(self._settings.keys() | before.keys()):
            now = self._settings.get(name)
            if now != before.get(name):
                what = f"was started with {name} {before.get(name)!r}, and this command has {now!r}"
                fix = "use the same model and options, or another folder"
                raise error("E306", where=str(self.path), what=what, fix=fix, detail="mismatch")

    def _write(self, values: Mapping[str, Any]) -> None:
        with explained(self.path):
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
