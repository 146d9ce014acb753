"""Docstrings taken apart: prose, sections, and the entries of a section."""

from __future__ import annotations

import inspect
import re

#: Headings of the sections of a docstring, without the colon.
HEADINGS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example")
_ENTRY = re.compile(r"^(\*{0,2}\w[\w.]*(?:, \w[\w.]*)*): (.*)$")


def docstring_sections(text: str | None) -> dict[str, str]:
    """Split a docstring at its section headings. The prose before, between and after them is under `""`."""
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(text or "").splitlines():
        heading = line.rstrip(":")
        if line.endswith(":") and heading in HEADINGS:
            current = heading
            sections[current] = []
        else:
            if line and not line.startswith(" "):
                current = ""
            sections[current].append(line)
    return {name: dedent(lines) for name, lines in sections.items()}


def dedent(lines: list[str]) -> str:
    """Return lines without their common indentation, and without blank lines at the ends."""
    return inspect.cleandoc("\n".join(["", *lines]))


def entries(text: str) -> dict[str, str]:
    """Return the entries `name: text` of a docstring section; further lines of an entry are indented."""
    result: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        start = _ENTRY.match(line)
        if start:
            lines = result.setdefault(start[1], [])
            lines.append(start[2])
        else:
            lines.append(line)
    return {name: f"{first}\n{dedent(rest)}" for name, (first, *rest) in result.items()}


def joined(text: str) -> str:
    """Return prose with one line per paragraph and list item."""
    blocks: list[str] = []
    joins = False
    for line in text.splitlines():
        stripped = line.strip()
        if joins and stripped and not stripped.startswith("- "):
            blocks[-1] += " " + stripped
        elif stripped or joins:
            blocks.append(stripped)
        joins = bool(stripped)
    return "\n".join(blocks).strip()
