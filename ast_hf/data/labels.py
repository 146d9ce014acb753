"""Class labels: their names and order, files that list them, and warnings about suspicious names."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from os import PathLike
from pathlib import Path

from ..errors import AstHfWarning, did_you_mean, error, shortlist, warning_text
from ..table_text import check_exists, check_regular
from .naming_conventions import AUDIO_SUFFIXES
from .option_spelling import option
from .tables import read_csv, read_lines

#: Likely separators of several labels; a comma with a space is part of many names.
_JOINED_LABELS = re.compile(r"[;|]|(?<=\S),(?=[^\s\d])")

_SPACES = re.compile(r"\s{2,}")

#: A decimal number, and a whole one.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+")

#: Punctuation alone: `?`, `-`, `...`.
_MARKS = re.compile(r"[!-/:-@\[-`{-~\s]+")

#: Separators of labels that are part of many names; they count where each part is a class itself.
_LIKELY_SEPARATORS = re.compile(r"\s*[,/+&]\s*|_and_|\s+and\s+")

#: A date, as which tables write a column of times of recording.
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?")

#: Numbers with a comma: a decimal one, or several indices of classes.
_NUMBERS_WITH_COMMA = re.compile(r"[+-]?[0-9]+(?:,[0-9]+)+")

#: Labels, in lower case, that may stand for no label. `label_cells.MISSING` has those that always do.
_UNLABELLED = frozenset(
    {
        "nan",
        "na",
        "n/a",
        "n.a.",
        "null",
        "none",
        "nil",
        "nat",
        "inf",
        "-inf",
        "infinity",
        "-infinity",
        "undefined",
    }
    | {"#ref!", "#div/0!", "#value!", "#name?", "#num!", "#null!"}  # of spreadsheets
    | {"missing", "unlabelled", "unlabeled", "no label", "unannotated", "tbd", "todo", "true", "false"}
)

#: Cyrillic and Greek letters -> Latin ones that look like them.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u03bf\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7",
    "aeopcyxijsABEKMHOPCTXIoABEHIKMNOPTX",
)

#: Fewest classes of which W209 says that they are about as many as clips; below, examples would be warned of.
_MANY_CLASSES = 5

#: How many names a warning lists.
_EXAMPLES = 3


def in_order(names: Iterable[str]) -> list[str]:
    """Return class names sorted: by value if all are numbers (`"9"` before `"10"`), else as text."""
    names = sorted(names)
    return sorted(names, key=Decimal) if all(map(_NUMBER.fullmatch, names)) else names


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
        names = list(source)
        for name in names:
            if not isinstance(name, str) or not name.strip():
                what = f"{name!r} is not the name of a class"
                fix = f"give texts: {list(map(str, names[:_EXAMPLES]))!r}"
                raise error("E108", where="class_labels", what=what, fix=fix)
        return LabelSet(_check_names(names, "class_labels"))
    path = Path(source)
    check_exists(path)
    check_regular(path)
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
    seen = set[str]()
    for number, name in enumerate(names, start=1):
        if name in seen:
            what = f"names {name!r} a second time"
            raise error(
                "E208", where=f"{where} row {number}", what=what, fix="give each class a different name"
            )
        seen.add(name)
    return names


def warn_of_labels(names: Iterable[str], where: str, *, separable: bool, clips: int) -> None:
    """Warn about class names that are several labels (W206), spelled in two ways (W207), or no names (W209).

    Args:
        names: the classes of data without a list of classes.
        where: the source of the data, for the message.
        separable: True if each clip has one name, which a `label_separator` could split.
        clips: number of clips with these labels.
    """
    names = sorted(names)
    known = set(names)
    joined = [name for name in names if _seems_joined(name, known)] if separable else []
    if joined:
        what = f"{shortlist(joined, _EXAMPLES)}: each is one class; if it holds several labels, "
        what += f"name their separator with {option('label_separator')}"
        warnings.warn(warning_text("W206", where=where, what=what), AstHfWarning, 2)
    groups = list(_similar_names(names))
    if groups:
        pairs = ", ".join(_quote_differences(group) for group in groups[:_EXAMPLES])
        more = f" and {len(groups) - _EXAMPLES} more" if len(groups) > _EXAMPLES else ""
        kinds = (
            "capitals or spaces" if "\\" not in pairs else "capitals, spaces or characters that look the same"
        )
        what = f"{pairs}{more} differ only in {kinds}, and are separate classes; write them alike"
        warnings.warn(warning_text("W207", where=where, what=what), AstHfWarning, 2)
    doubts = list(_doubts(names))
    if not separable and set(names) == {"0", "1"}:
        doubts.append("'0' and '1' in lists look like 0/1 vectors, with a position for each class")
    if separable and len(names) >= _MANY_CLASSES and clips < 2 * len(names):
        doubts.append(f"{len(names)} classes for {clips} clips look like a column of ids or measurements")
    if doubts:
        what = f"{'; '.join(doubts)}; each is a class of its own: correct the labels, or name another column with "
        what += f"{option('label_column')}"
        warnings.warn(warning_text("W209", where=where, what=what), AstHfWarning, 2)


def _seems_joined(name: str, known: set[str]) -> bool:
    """Return True for a name that holds a separator of labels, or whose parts are all `known` classes."""
    if _JOINED_LABELS.search(name) or _NUMBERS_WITH_COMMA.fullmatch(name):
        return True
    parts = _LIKELY_SEPARATORS.split(name)
    return len(parts) > 1 and known.issuperset(parts)


def _doubts(names: Sequence[str]) -> Iterable[str]:
    """Yield the reasons why some names may not be names of classes."""
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if numbers and len(numbers) < len(names):
        yield f"{shortlist(numbers, _EXAMPLES)} are numbers among names"
    elif decimals := [name for name in numbers if not _WHOLE.fullmatch(name)]:
        yield f"{shortlist(decimals, _EXAMPLES)} are decimal numbers, as in a column of measurements"
    negative = [name for name in numbers if name.startswith("-")]
    if len(negative) == 1:
        yield f"{negative[0]!r} often marks clips without a label"
    values: dict[Decimal, list[str]] = {}
    for name in numbers:
        values.setdefault(Decimal(name), []).append(name)
    for group in values.values():
        if len(group) > 1:
            yield f"{shortlist(group, _EXAMPLES)} are the same number"
    unlabelled = [name for name in names if name.lower() in _UNLABELLED or _MARKS.fullmatch(name)]
    if unlabelled and {name.lower() for name in names} != {"true", "false"}:
        yield f"{shortlist(unlabelled, _EXAMPLES)} may stand for no label"
    dates = [name for name in names if _DATE.fullmatch(name)]
    if dates:
        yield f"{shortlist(dates, _EXAMPLES)} are dates"
    files = [name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES]
    if files:
        yield f"{shortlist(files, _EXAMPLES)} are names of files"


def _similar_names(names: Iterable[str]) -> Iterable[list[str]]:
    """Yield names that a reader takes for the same: without capitals, spaces, invisible and composed characters."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        plain = _as_seen(name)
        visible = "".join(mark for mark in plain if unicodedata.category(mark) not in ("Cf", "Cc"))
        spellings.setdefault("".join(visible.split()).casefold(), []).append(name)
    return (group for group in spellings.values() if len(group) > 1)


def _as_seen(name: str) -> str:
    """Return a name with composed characters, and Latin letters for the Cyrillic and Greek ones that look like them."""
    plain = unicodedata.normalize("NFKC", name)
    return plain if plain.isascii() else plain.translate(_LOOKALIKES)


def _quote_differences(names: Sequence[str]) -> str:
    """Return quoted names, with repeated spaces and characters that look the same spelled out."""
    shown = [repr(_SPACES.sub(lambda spaces: "\u2423" * len(spaces[0]), name)) for name in names]
    if len(set(map(_as_seen, names))) < len(names):
        shown = list(map(ascii, names))
    return " and ".join(shown)
