"""Label cells of a table: the labels of a cell, also where a list was written as text."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

#: A quoted label, and lists of such and of whole numbers as Python and NumPy write them: with commas, or spaces alone.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


_TEXT = rf"(?:u?(?:{_QUOTED.pattern})|(?:np|numpy)\.str_\((?:{_QUOTED.pattern})\))"


_NUMBER = r"(?:-?\d+|(?:np|numpy)\.u?int\d*\(-?\d+\))"


_LIST_AS_TEXT = re.compile(rf"[\[({{]\s*(?:{_TEXT}(?:\s*,)?\s*)*[\])}}]")


_LIST_OF_NUMBERS = re.compile(
    rf"\[\s*{_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER})*\s*,?\s*\]|[({{]\s*(?:{_NUMBER}\s*,\s*)+(?:{_NUMBER}\s*)?[)}}]"
)


_WHOLE_NUMBER = re.compile(r"-?\d+(?![\d(])")


_CONSTANT = r"(?:None|nan|NaN|True|False|-?\d+(?:\.\d*)?)"


#: How texts begin, or are altogether, that a library wrote for a collection. `(unknown)` and `[noise]` are names.
_COLLECTION = re.compile(
    r"""[\[({]\s*(?:[bu]?['"\u2018\u201c]|np\.|numpy\.|[\[({])"""  # ['dog', None], [['dog']], {'dog': 1}
    r"""|(?:set|frozenset|list|tuple|dict|array|tensor|Index|Series)\(.*"""
    r"""|(?:np|numpy|torch)\.\w+\(.*"""
    r"""|[\[{].*[,:].*[\]}]\Z"""  # [dog, rain], {dog,rain}
    rf"""|[\[{{]\s*(?:{_CONSTANT}(?:\s+{_CONSTANT})*\s*)?[\]}}]\Z"""  # [nan], [0. 3.]
    rf"""|b(?:{_QUOTED.pattern})\Z|(?:{_QUOTED.pattern})\s*,""".replace("\n", ""),  # 'dog', 'rain'
    re.DOTALL,
)


def labels_in(text: str) -> list[str] | None:
    """Return the labels of a list that a library wrote as text, such as `"['dog', 'bark']"`; None for another."""
    if not text.startswith(("[", "(", "{")):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        if _LIST_OF_NUMBERS.fullmatch(text):
            return _without_one_hot([str(int(number)) for number in _WHOLE_NUMBER.findall(text)])
        return [_unquoted(label) for label in _QUOTED.findall(text)] if _LIST_AS_TEXT.fullmatch(text) else None
    plain = isinstance(found, list) and all(map(_is_plain, found))
    return _without_one_hot([str(label) for label in found]) if plain else None


def _without_one_hot(labels: list[str]) -> list[str] | None:
    """Return labels, None for a vector of 0 and 1 that marks classes by their places: `[0, 1, 0]`."""
    return None if set(labels) == {"0", "1"} and len(labels) > 2 else labels


def _is_plain(label: Any) -> bool:
    """Return whether a member of a list is a text or a finite number."""
    number = isinstance(label, (int, float)) and not isinstance(label, bool)
    return isinstance(label, str) or (number and math.isfinite(label))


def _unquoted(text: str) -> str:
    """Return the text of a Python literal; one that is none loses its quotes."""
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text[1:-1]
