"""Labels in the cells of a table: one label, several with a separator, a list, or a list written as text."""

from __future__ import annotations

import ast
import json
import math
import re
import reprlib
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import AstHfError, error
from ..scalars import is_finite_number
from .labels import LabelSet, in_order
from .option_spelling import chosen, unless_classes

#: A quoted label, and lists of quoted labels and of integers as Python and NumPy print them, with commas or
#: spaces.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_TEXT = rf"(?:u?(?:{_QUOTED.pattern})|(?:np|numpy)\.str_\((?:{_QUOTED.pattern})\))"
_NUMBER = r"(?:-?\d+|(?:np|numpy)\.u?int\d*\(-?\d+\))"
_LIST_AS_TEXT = re.compile(rf"[\[({{]\s*(?:{_TEXT}(?:\s*,)?\s*)*[\])}}]")
_LIST_OF_NUMBERS = re.compile(
    rf"\[\s*{_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER})*\s*,?\s*\]"
    rf"|[({{]\s*(?:{_NUMBER}\s*,\s*)+(?:{_NUMBER}\s*)?[)}}]"
)
_WHOLE_NUMBER = re.compile(r"-?\d+(?![\d(])")

_CONSTANT = r"(?:None|nan|NaN|True|False|-?\d+(?:\.\d*)?)"

#: Collections that a library wrote as text, by their beginning or as a whole. `(unknown)` and `[noise]` are
#: labels.
_COLLECTION = re.compile(
    r"""[\[({]\s*(?:[bu]?['"\u2018\u201c]|np\.|numpy\.|[\[({])"""  # ['dog', None], [['dog']], {'dog': 1}
    r"""|(?:set|frozenset|list|tuple|dict|array|tensor|Index|Series)\(.*"""
    r"""|(?:np|numpy|torch)\.\w+\(.*"""
    r"""|[\[{].*[,:].*[\]}]\Z"""  # [dog, rain], {dog,rain}
    rf"""|[\[{{]\s*(?:{_CONSTANT}(?:\s+{_CONSTANT})*\s*)?[\]}}]\Z"""  # [nan], [0. 3.]
    rf"""|b(?:{_QUOTED.pattern})\Z|(?:{_QUOTED.pattern})\s*,""".replace("\n", ""),  # 'dog', 'rain'
    re.DOTALL,
)


#: Texts that stand for a missing value: the `na_values` that `pandas.read_csv` documents, which
#: `datasets.load_dataset("csv")` reads as None too.
MISSING = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
    | {"NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT"}
)

#: Characters that no name of a class has: NUL, and halves of a character in UTF-16; line ends if a cell begins
#: and ends with quotes, of which one may be missing.
_NOT_IN_NAMES = re.compile("[\0\ud800-\udfff]")
_NOT_IN_QUOTED_NAMES = re.compile("[\0\n\r\ud800-\udfff]")


@dataclass(frozen=True)
class LabelReader:
    """Reads label cells, and decides which classes a data set has.

    Attributes:
        separator: separator of the labels in a cell; None if a cell of text is one label.
        classes: the classes that the caller listed, if any.
        dropped: labels to leave out.
        are_names: True for labels that cannot be missing values: names of folders, and declared classes.
        are_quoted: True for cells of CSV, in which an unclosed quote joins lines.
    """

    separator: str | None
    classes: LabelSet | None
    dropped: frozenset[str]
    are_names: bool = False
    are_quoted: bool = False
    _read: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, cell: Any) -> list[str]:
        """Return the labels of a cell, unchecked; with a separator, lists written as text are parsed."""
        parts = [cell]
        if isinstance(cell, list):
            parts = cell
        elif self.separator and cell is not None:
            listed = parse_label_list(str(cell).strip())
            parts = str(cell).split(self.separator) if listed is None else listed
        return [str(part).strip() for part in parts if part is not None and str(part).strip()]

    def is_missing(self, cell: Any) -> bool:
        """Return True for a cell without a label, and for one that holds a missing value as text."""
        if isinstance(cell, str):
            text = cell.strip()
            return not self.split(cell) or (text in MISSING and not self._is_name(text))
        return is_null(cell) or not self.split(cell)

    def read(self, cell: Any, where: str) -> list[str]:
        """Return the labels of a cell that are not dropped; raise E208 unless it has labels only."""
        if isinstance(cell, str) and cell in self._read:
            return self._read[cell]
        if self.is_missing(cell):
            raise self.missing(cell, where)
        self._check(cell, where)
        labels = self.split(cell)
        for label in labels:
            if self.is_missing(label):
                raise self.missing(label, where)
        labels = [label for label in dict.fromkeys(labels) if label not in self.dropped]
        if isinstance(cell, str):
            self._read[cell] = labels
        return labels

    def missing(self, cell: Any, where: str, count: str = "") -> AstHfError:
        """Return the E208 for a cell without a label; `count` is a suffix that lists the rows like it."""
        fix = "give it a label or remove the row"
        if not isinstance(cell, str) or cell.strip() not in MISSING:
            return error("E208", where=where, what=f"has no label{count}", fix=fix)
        what = f"{cell.strip()!r} stands for a missing value{count}"
        return error("E208", where=where, what=what, fix=f"{fix}; {unless_classes('this is a class')}")

    def _is_name(self, text: str) -> bool:
        return self.are_names or text in self.dropped or (self.classes is not None and text in self.classes)

    def known_classes(self, order: Sequence[str] | None) -> LabelSet | None:
        """Return the classes listed by the caller or by the data (in `order`), None without a list."""
        if self.classes is not None:
            return self.classes
        names = [name for name in order or () if name not in self.dropped]
        return LabelSet(names) if names else None

    def all_classes(self, order: Sequence[str] | None, labels: Iterable[str]) -> LabelSet:
        """Return the listed classes, or the distinct `labels` of all clips by `in_order`."""
        return self.known_classes(order) or LabelSet(in_order(set(labels)))

    def _check(self, cell: Any, where: str) -> None:
        """Raise E208 for a collection that would become a class by its text, and for a 0/1 vector."""
        if isinstance(cell, list) and len(cell) > 2 and _is_vector(cell):
            what = f"{reprlib.repr(cell)} is a 0/1 vector with a position for each class"
            raise error(
                "E208", where=where, what=what, fix="give the names of the classes whose position is 1"
            )
        for part in cell if isinstance(cell, list) else [cell]:
            if is_null(part):
                what = "has a missing value in its list of labels"
                raise error("E208", where=where, what=what, fix="leave it out of the list, or remove the row")
            if isinstance(part, (list, dict, tuple, bytes)):
                what = f"{reprlib.repr(part)} is not a label"
                fix = "give the name of the class, or a list of names"
                raise error("E208", where=where, what=what, fix=fix)
            if isinstance(part, str):
                self._check_text(part.strip(), where, listed=isinstance(cell, list))

    def _check_text(self, text: str, where: str, *, listed: bool) -> None:
        """Raise E208 for a collection written as text, unless a separator or a listed class allows it."""
        if mark := (_NOT_IN_QUOTED_NAMES if self.are_quoted else _NOT_IN_NAMES).search(text):
            what = f"the label {reprlib.repr(text)} holds the character {mark[0]!r}"
            fix = "write the name of the class on one line; a quote may not be closed"
            raise error("E208", where=where, what=what, fix=fix)
        if self.classes is not None and text in self.classes:
            return
        labels = None if listed else parse_label_list(text)
        if labels is None and not _COLLECTION.match(text):
            return
        excerpt = repr(textwrap.shorten(text, 60))
        if labels is not None and self.separator is None:
            what = f"{excerpt} is a list written as text, and would be one class"
            fix = f"for clips of several labels, read it with {chosen(label_separator=';')}"
            raise error(
                "E208", where=where, what=what, fix=f"{fix}; for one label a clip, remove the brackets"
            )
        if labels is None:
            what = f"{excerpt} is a collection written as text, and not a plain list of names or integers"
            fix = "write the name alone, or several as dog;rain with label_separator ';'"
            raise error("E208", where=where, what=what, fix=f"{fix}; {unless_classes('this is a class')}")


def is_null(cell: Any) -> bool:
    """Return True for None and NaN, as which pandas writes a missing value."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def parse_label_list(text: str) -> list[str] | None:
    """Return the labels of a list that a library wrote as text, `"['dog', 'bark']"`; None for other texts."""
    if not text.startswith(("[", "(", "{")):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return _parse_python_list(text)
    if isinstance(content, list) and all(map(_is_plain, content)):
        return _without_one_hot([str(label) for label in content])
    return None


def _parse_python_list(text: str) -> list[str] | None:
    """Return the labels of a list as Python or NumPy prints it, None for other texts."""
    if _LIST_OF_NUMBERS.fullmatch(text):
        return _without_one_hot([str(int(number)) for number in _WHOLE_NUMBER.findall(text)])
    if _LIST_AS_TEXT.fullmatch(text):
        return [_unquote(label) for label in _QUOTED.findall(text)]
    return None


def _without_one_hot(labels: list[str]) -> list[str] | None:
    """Return the labels, or None for a 0/1 vector with one position per class: `[0, 1, 0]`."""
    return None if set(labels) == {"0", "1"} and len(labels) > 2 else labels


def _is_vector(cells: Sequence[Any]) -> bool:
    """Return True for numbers that are all 0 or 1."""
    return all(is_finite_number(cell) and cell in (0, 1) for cell in cells)


def _is_plain(label: Any) -> bool:
    return isinstance(label, str) or is_finite_number(label)


def _unquote(text: str) -> str:
    """Return the text of a Python literal, or `text` without its quotes if it is not a valid literal."""
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text[1:-1]
