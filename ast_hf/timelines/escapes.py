"""Percent codes for characters that would break the lines and fields of label files.

A tab is `%09` and a space `%20`, as in addresses of the web (RFC 3986). The percent sign itself becomes `%25`
only where it would look like one of these codes, so that `50% rain` stays as it is.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

#: Characters that are ever written as a code: white space, the quote, `<`, which marks RTTM's missing values.
_CODED = [chr(number) for number in range(0x3001) if chr(number).isspace()] + ['"', "<", "%"]
_CODE = re.compile("|".join("".join(f"%{byte:02X}" for byte in char.encode()) for char in _CODED))

#: A percent sign that looks like the beginning of a code.
_PERCENT = f"%(?={_CODE.pattern.replace('%', '')})"

#: Tabs, all characters that Python takes for the end of a line, and white space at the beginning or the end.
_IN_TAB_LINES = re.compile(rf"[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|\A\s|\s\Z|{_PERCENT}")

#: What separates fields, and what readers of tables take for a quote or for a missing value.
_IN_SPACED_LINES = re.compile(rf"[\s\"<]|{_PERCENT}")


def encode_tabbed(text: str) -> str:
    """Return text for a field between tabs: line ends, tabs and outer white space become codes."""
    return _IN_TAB_LINES.sub(_code_of, text)


def encode_spaced(text: str) -> str:
    """Return text for a field between spaces: all white space, quotes and `<` become codes."""
    return _IN_SPACED_LINES.sub(_code_of, text)


def decode(text: str) -> str:
    """Return the text that `encode_tabbed` or `encode_spaced` was given; other codes (`%41`) stay."""
    return _CODE.sub(lambda code: unquote(code[0]), text)


def _code_of(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
