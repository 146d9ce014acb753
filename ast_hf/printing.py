"""Names of others (files, labels, splits) as text that a terminal or a spreadsheet shows and does not execute.

Escape sequences in a file name could clear the screen, retitle the window or hide text; a cell that begins with
`=` is a formula.
"""

from __future__ import annotations

import re
import unicodedata

#: Unicode categories of characters that are obeyed or hidden, not shown: control, format (direction, zero
#: width), surrogate, line and paragraph separator.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

#: First characters of cells that spreadsheets take for formulas, also in their full width.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def printable(name: object) -> str:
    """Return a name for a terminal or a picture: unchanged, or as `repr` does if characters need escapes."""
    text = str(name)
    escaped = visible(text, keep="")
    if escaped == text:
        return text
    quote = '"' if "'" in text and '"' not in text else "'"
    return quote + escaped + quote


def visible(text: str, keep: str = "\t\n") -> str:
    r"""Return text with escapes (`\x1b`, `\u202e`) for characters that are obeyed or hidden, not shown.

    Args:
        text: one or several lines.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(char) if unicodedata.category(char) in _UNSAFE and char not in keep else char
        for char in text
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def spreadsheet_text(text: str) -> str:
    """Return a CSV cell of text that no spreadsheet runs: `'` before what would begin a formula, unless a number.

    Text that already has such a `'` gets another, so that `spreadsheet_source` returns the text. Source: OWASP,
    "CSV Injection".
    """
    plain = text.lstrip("'")
    return "'" + text if plain.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(plain) else text


def spreadsheet_source(cell: str) -> str:
    """Return the text that `spreadsheet_text` was given."""
    text = cell[1:]
    return text if cell.startswith("'") and spreadsheet_text(text) == cell else cell
