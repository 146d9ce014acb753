"""Class labels: their names and order, files that list them, and warnings about suspicious names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ..errors import AstHfWarning, did_you_mean, error, warning_text
from .option_spelling import option
from .tables import _read_csv, _read_text, check_exists, some

#: What several labels of one clip are often separated by; a comma with a space is part of many names.
_JOINED_LABELS = re.compile(r"[;|]|(?<=\S),(?=[^\s\d])")


_SPACES = re.compile(r"\s{2,}")


class LabelSet:
    """Class names in their order, and what else the data may call them.

    Args:
        names: class names by index.
        aliases: other names, such as the machine identifiers of AudioSet -> class name.
    """

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        self.names = list(names)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._index |= {alias: self._index[name] for alias, name in (aliases or {}).items()}

    def __contains__(self, label: object) -> bool:
        return label in self._index

    def index(self, label: str, where: str) -> int:
        """Index of a name or alias; raises E208 naming `where` for another."""
        if label not in self._index:
            what = f"{label!r} is none of the {len(self.names)} class labels"
            raise error("E208", where=where, what=what, fix=did_you_mean(label, self.names))
        return self._index[label]


def read_class_labels(source: str | PathLike | Sequence[str]) -> LabelSet:
    """Class names in their order.

    Args:
        source: a CSV file of `index,mid,display_name` (what the original repository calls `*class_labels_indices.csv`;
            `index` and `mid` may be missing), a text file of one name a line, or the names themselves.

    Raises:
        AstDataError: E206 for a missing file, E208 for one that is no list of classes (naming the row).
    """
    if not isinstance(source, (str, PathLike)):
        return LabelSet(_without_repeats(list(source), "class_labels"))
    path = Path(source)
    check_exists(path)
    if path.suffix.lower() != ".csv":
        return LabelSet(
            _without_repeats([line.strip() for line in _read_text(path).splitlines() if line.strip()], path)
        )
    rows = _read_csv(path).rows
    for number, row in enumerate(rows, start=1):
        if not (row.get("display_name") or "").strip():
            what = f"has no display_name; its columns are {', '.join(row)}"
            raise error("E208", where=f"{path} row {number}", what=what, fix="use index,mid,display_name")
        if row.get("index", str(number - 1)) != str(number - 1):
            what = f"has index {row['index']!r}, it is class {number - 1}"
            raise error("E208", where=f"{path} row {number}", what=what, fix="number the classes 0, 1, 2, ... in order")
    names = _without_repeats([row["display_name"].strip() for row in rows], path)
    return LabelSet(names, {row["mid"]: name for row, name in zip(rows, names, strict=True) if row.get("mid")})


def _without_repeats(names: list[str], where: object) -> list[str]:
    if not names:
        raise error("E209", where=f"{where}", what="names no class", fix="list at least two class names")
    for number, name in enumerate(names, start=1):
        if name in names[: number - 1]:
            fix = "give each class a name of its own"
            raise error("E208", where=f"{where} row {number}", what=f"names {name!r} a second time", fix=fix)
    return names


def warn_of_labels(names: Iterable[str], where: str, *, separable: bool) -> None:
    """Warn of class names that were likely meant otherwise: W206 for several in one, W207 for one in two spellings.

    Args:
        names: the classes that the data have, where nobody has listed them.
        where: their source.
        separable: whether `label_separator` would divide them, and was not given.
    """
    names, spellings = sorted(names), dict[str, list[str]]()
    joined = [name for name in names if _JOINED_LABELS.search(name)] if separable else []
    if joined:
        what = f"{some(joined)}: each is one class; where it is several labels, name what separates them with "
        warnings.warn(warning_text("W206", where=where, what=what + option("label_separator")), AstHfWarning, 2)
    for name in names:
        spellings.setdefault("".join(name.split()).casefold(), []).append(name)
    alike = [" and ".join(map(_visible, group)) for group in spellings.values() if len(group) > 1]
    if alike:
        what = f"{some(alike, str)} differ only in capitals or spaces, and are classes of their own; write them alike"
        warnings.warn(warning_text("W207", where=where, what=what), AstHfWarning, 2)


def _visible(name: str) -> str:
    """A name in quotes in which spaces can be told from a single one: a message has no two in a row."""
    return repr(_SPACES.sub(lambda spaces: "\u2423" * len(spaces[0]), name))
