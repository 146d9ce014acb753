"""Atomic writing: other processes see a file complete or not at all."""

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
    """Create a file atomically: `write` fills a temporary file, which is then renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        apply_default_mode(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


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
