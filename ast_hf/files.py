"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file under another name, then give it its own: nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        as_open_writes(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The same for a text, in UTF-8."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: Any) -> None:
    """The same for plain values; what is not defined or infinite is null."""
    write_text(path, json.dumps(plain_values(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def plain_values(value: Any) -> Any:
    """The same with None for numbers that JSON has not: NaN and infinities."""
    if isinstance(value, dict):
        return {name: plain_values(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_open_writes(*paths: Path) -> None:
    """Give files the mode that `open` gives a new one beside them; safetensors (0.8) writes for the owner alone."""
    private = [path for path in paths if os.name == "posix" and not path.stat().st_mode & 0o077]
    if not private:
        return
    probe = private[0].with_name(f".mode-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # some drives have no modes to set, and the files are whole without
        probe.touch()  # asking for the umask would change it for other threads
        try:
            mode = stat.S_IMODE(probe.stat().st_mode)
        finally:
            probe.unlink()
        for path in private:
            path.chmod(mode)
