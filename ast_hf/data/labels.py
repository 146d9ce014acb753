"""Class labels: their names and order, files that list them, and warnings about suspicious names."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ..errors import AstHfWarning, did_you_mean, error, shortlist, warning_text
from .option_spelling import option
from .tables import check_exists, read_csv, read_lines

#: Likely separators of several labels; a comma with a space is part of many names.
_JOINED_LABELS = re.compile(r"[;|]|(?<=\S),(?=[^\s\d])")

_SPACES = re.compile(r"\s{2,}")

#: How many names a warning lists.
_EXAMPLES = 3


class LabelSet:
    """Class names in their order, and aliases in the data.

    Args:
        names: class names by index.
        aliases: alias (a machine identifier of AudioSet) -> class name.
    """

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        self.names = list(names)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._index |= {alias: self._index[name] for alias, name in (aliases or {}).items()}

    def __contains__(self, label: object) -> bool:
        return label in self._index

    def index(self, label: str, where: str) -> int:
        """Return the class index of a name or alias; raise E208 for any other label."""
        if label not in self._index:
            what = f"{label!r} is not one of the {len(self.names)} class labels"
            raise error("E208", where=where, what=what, fix=did_you_mean(label, self.names))
        return self._index[label]


def read_class_labels(source: str | PathLike | Sequence[str]) -> LabelSet:
    """Return the class names in their order.

    Args:
        source: a CSV file of `index,mid,display_name` (the original repository's `*class_labels_indices.csv`;
            `index` and `mid` may be missing), a text file with one name per line, or the names themselves.

    Raises:
        AstDataError: E206 for a missing file, E208 for a file that is not a list of classes (naming the row),
            E209 for one that is empty.
    """
    if not isinstance(source, (str, PathLike)):
        return LabelSet(_check_names(list(source), "class_labels"))
    path = Path(source)
    check_exists(path)
    if path.suffix.lower() != ".csv":
        return LabelSet(_check_names(read_lines(path), path))
    rows = read_csv(path).rows
    for number, row in enumerate(rows, start=1):
        if not (row.get("display_name") or "").strip():
            what = f"has no display_name; its columns are {', '.join(row)}"
            raise error("E208", where=f"{path} row {number}", what=what, fix="use index,mid,display_name")
        if row.get("index", str(number - 1)) != str(number - 1):
            what = f"has index {row['index']!r} instead of {number - 1}"
            fix = "number the classes 0, 1, 2, ... in order"
            raise error("E208", where=f"{path} row {number}", what=what, fix=fix)
    names = _check_names([row["display_name"].strip() for row in rows], path)
    aliases = {row["mid"]: name for row, name in zip(rows, names, strict=True) if row.get("mid")}
    return LabelSet(names, aliases)


def _check_names(names: list[str], where: object) -> list[str]:
    """Return the class names; raise E209 if there are none, E208 for a name that is listed twice."""
    if not names:
        raise error("E209", where=f"{where}", what="names no class", fix="list at least two class names")
    for number, name in enumerate(names, start=1):
        if name in names[: number - 1]:
            what = f"names {name!r} a second time"
            raise error(
                "E208", where=f"{where} row {number}", what=what, fix="give each class a different name"
            )
    return names


def warn_of_labels(names: Iterable[str], where: str, *, separable: bool) -> None:
    """Warn about suspicious class names: several labels in one (W206), or one label spelled two ways (W207).

    Args:
        names: the classes of data without a list of classes.
        where: the source of the data, for the message.
        separable: True if a `label_separator` could split the names.
    """
    names = sorted(names)
    joined = [name for name in names if _JOINED_LABELS.search(name)] if separable else []
    if joined:
        what = f"{shortlist(joined, _EXAMPLES)}: each is one class; if it holds several labels, "
        what += f"name their separator with {option('label_separator')}"
        warnings.warn(warning_text("W206", where=where, what=what), AstHfWarning, 2)
    groups = list(_similar_names(names))
    if groups:
        pairs = ", ".join(" and ".join(map(_quote_spaces, group)) for group in groups[:_EXAMPLES])
        more = f" and {len(groups) - _EXAMPLES} more" if len(groups) > _EXAMPLES else ""
        is_composed = all(unicodedata.is_normalized("NFC", name) for group in groups for name in group)
        difference = "capitals or spaces" if is_composed else "capitals, spaces or separate accents"
        what = f"{pairs}{more} differ only in {difference}, and are separate classes; write them alike"
        warnings.warn(warning_text("W207", where=where, what=what), AstHfWarning, 2)


def _similar_names(names: Iterable[str]) -> Iterable[list[str]]:
    spellings: dict[str, list[str]] = {}
    for name in names:
        key = unicodedata.normalize("NFC", "".join(name.split())).casefold()
        spellings.setdefault(key, []).append(name)
    return (group for group in spellings.values() if len(group) > 1)


def _quote_spaces(name: str) -> str:
    """Return a quoted name with repeated spaces and separate accents made visible, which messages hide."""
    shown = repr if unicodedata.is_normalized("NFC", name) else ascii
    return shown(_SPACES.sub(lambda spaces: "\u2423" * len(spaces[0]), name))
