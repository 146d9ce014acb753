"""Markdown of the model cards: templates, escaped text of users, tables and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

#: Folder of the cards' Jinja templates.
_TEMPLATES = Path(__file__).parent / "templates"
#: Maximum number of labels that are listed by name.
_MAX_LABELS = 50

#: Characters with a meaning in Markdown, HTML or on the Hub's pages: links, code, emphasis, tables, formulas,
#: entities, user names.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&@])")
#: Characters that start a list, a rule or a headline at the beginning of a line.
_BLOCK_START = re.compile(r"^((?:\d+(?=[.)](?:\s|$)))?)([-+=.)])")
#: Parts of an address that make it a link without markup.
_BARE_LINK = re.compile(r"(?i)\b(https?|ftp)(:)(?=//)|\b(www)(\.)")
#: Control characters, and characters that change the direction of text.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
#: Label that cannot be told apart from its neighbours or from a figure in a line of text.
_UNCLEAR = re.compile(r"[,;]|^[\s\d.+-]*$")


def render_card(template: str, data: ModelCardData, values: Mapping[str, Any]) -> ModelCard:
    """Return a card from a file in the folder `templates`.

    Values are inserted unchanged and never interpreted as a template: escape text from users with `plain`.
    """
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    text += "\n"  # Jinja removes the last line break
    return ModelCard.from_template(data, template_str=text, **values)


def one_line(text: object) -> str:
    """Return text as one line of visible characters."""
    return _INVISIBLE.sub("", " ".join(str(text).split()))


def plain(text: object) -> str:
    """Return text as one line without meaning to Markdown or HTML."""
    escaped = _BLOCK_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", one_line(text)))
    return _BARE_LINK.sub(lambda match: "\\".join(part for part in match.groups() if part), escaped)


def inline_code(text: object) -> str:
    """Return text as inline code."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`"


def fence_for(text: str) -> str:
    """Return a code fence that the text cannot close: longer than any run of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are already Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells of plain text, which is escaped."""
    return table([plain(cell) for cell in head], [[plain(cell) for cell in row] for row in rows])


def label_names(labels: Sequence[str]) -> list[str]:
    """Return label names for a line of text, in quotes if a number or a comma among them would blur their ends."""
    is_unclear = any(_UNCLEAR.search(str(label)) for label in labels)
    return [f'"{plain(label)}"' if is_unclear else plain(label) for label in labels]


def label_list(labels: Sequence[str]) -> str:
    """Return the first 50 label names, and the number of the others, as a sentence."""
    names = ", ".join(label_names(labels)[:_MAX_LABELS])
    more = f" and {len(labels) - _MAX_LABELS} more, in config.json" if len(labels) > _MAX_LABELS else ""
    return f"{names}{more}."


def version_list(versions: Mapping[str, str]) -> str:
    """Return packages and their versions as a sentence."""
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
