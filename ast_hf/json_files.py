"""JSON files of a checkpoint, read strictly: every kind of damage is E306 with the path."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import AstHfError, error, unreadable

#: Largest JSON file that is read, in bytes. A config.json of 100,000 labels of 200 letters has 40 MB.
MAX_BYTES = 64 << 20

_FIX = "restore the file from its source"


def read_json(path: Path, most: int = MAX_BYTES) -> dict[str, Any]:
    """Return the fields of a JSON object, read from a UTF-8 file of at most `most` bytes.

    Raises E306 for a file that is missing, not a file, too large, not UTF-8, not JSON, nested too deeply, not
    an object, or that names a field twice.
    """
    where = repr(str(path))
    content = parse_json(_read_text(path, most), where)
    if not isinstance(content, dict):
        what = f"holds {_kind(content)}, not an object of fields"
        raise error("E306", where=where, what=what, fix=_FIX, detail="unreadable")
    return content


def parse_json(text: str, where: str) -> Any:
    """Return the content of JSON text; raise E306 if it cannot be parsed, or an object names a field twice."""

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = counts.most_common(1)[0][0]
            raise error("E306", where=where, what=f"names {twice!r} twice", fix=_FIX, detail="unreadable")
        return content

    try:
        return json.loads(text, object_pairs_hook=fields)
    except RecursionError:
        what = "is nested too deeply"
        raise error("E306", where=where, what=what, fix=_FIX, detail="unreadable") from None
    except AstHfError:
        raise
    except ValueError as problem:
        raise unreadable("E306", where=where, what="is not JSON", problem=problem, fix=_FIX) from problem


def _read_text(path: Path, most: int) -> str:
    where = repr(str(path))
    try:
        if path.is_dir():
            raise error("E306", where=where, what="is a folder", fix=_FIX, detail="unreadable")
        if not path.exists():
            raise error("E306", where=where, what="does not exist", fix=_FIX, detail="missing")
        if not path.is_file():
            raise error("E306", where=where, what="is not a regular file", fix=_FIX, detail="unreadable")
        if path.stat().st_size > most:
            what = f"has {path.stat().st_size:,} bytes, more than the {most:,} that such a file can have"
            raise error("E306", where=where, what=what, fix=_FIX, detail="unreadable")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as problem:
        what = "is not JSON, which is UTF-8"
        raise unreadable("E306", where=where, what=what, problem=problem, fix=_FIX) from problem
    except OSError as problem:
        fix = "check its permissions and the disk"
        raise unreadable("E306", where=where, problem=problem, fix=fix) from problem
    if text.startswith("\ufeff"):
        what = "is not JSON: it begins with a byte order mark"
        raise error("E306", where=where, what=what, fix="save it as UTF-8 without one", detail="unreadable")
    return text


def _kind(content: Any) -> str:
    names = {type(None): "null", int: "a number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(type(content), f"a {type(content).__name__}")
