"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .weights.checkpoints import as_open_writes


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
