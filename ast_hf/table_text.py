"""Text of tables: files read strictly as UTF-8, and JSON, with errors (E206, E208) that name the line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import AstHfError, error, unreadable

#: Lists and objects within each other in a row of JSON: rows of labels need three, with `{"data": [...]}`.
_MAX_DEPTH = 32

#: Escapes of characters in two halves, such as emoji; a half alone is not text.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_exists(path: Path) -> None:
    """Raise E206 for a path that does not exist."""
    if not path.exists():
        raise error("E206", where=repr(str(path)), what="does not exist", fix="check the path")


def check_regular(path: Path) -> None:
    """Raise E206 for a pipe or a device, which could be read without end."""
    if not path.is_file():
        raise error(
            "E206", where=repr(str(path)), what="is a pipe or a device, not a file", fix="give a file"
        )


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file with newlines as line ends; raise E206 or E208 for another file."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise _unopened(path, problem) from problem
    try:
        text = content.decode("utf-8-sig").lstrip("\ufeff")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start}, line {line})"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8") from problem
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        what = f"holds a NUL character in line {line}: it is UTF-16, or damaged"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8")
    return text


def _unopened(path: Path, problem: OSError) -> AstHfError:
    """Return the E206 for a file that the system does not read: a folder, a file of another user, a bad disk."""
    fix = "give a readable file"
    return unreadable("E206", where=repr(str(path)), problem=problem.strerror or problem, fix=fix)


def parse_json(text: str, where: str) -> Any:
    """Return the content of JSON text; raise E208 for other text, for names given twice, and for deep nesting."""
    try:
        content = json.loads(text, object_pairs_hook=_unique_names)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # fails for half a character
    except RecursionError as problem:
        raise _too_deep(where) from problem
    except ValueError as problem:
        fix = "write one object per row, names in quotes"
        raise unreadable("E208", where=where, problem=problem, fix=fix, what="is not JSON") from problem
    if text.count("[") + text.count("{") > _MAX_DEPTH and _depth(content) > _MAX_DEPTH:
        raise _too_deep(where)
    return content


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raise ValueError if a name is in it twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"an object has the name {name!r} twice")
    return content


def _too_deep(where: str) -> AstHfError:
    what = f"has lists or objects more than {_MAX_DEPTH} levels deep"
    return error("E208", where=where, what=what, fix="write one plain object per row")


def _depth(content: Any) -> int:
    """Return how many lists and objects are within each other."""
    depth = 0
    level = [content]
    while level:
        inner = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [cell for part in inner if isinstance(part, list) for cell in part]
        depth += 1
    return depth - 1
