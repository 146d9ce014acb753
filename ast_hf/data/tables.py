"""Which rows does a file or folder of labelled audio hold? CSV, TSV, JSON, JSONL, Parquet, label folders; label lists.

A row is a dict of what the file says about one clip. What the rows mean is decided in `data.py`. A `.csv` file whose
head line has no comma is separated by what that has in its place: `;`, tabs or `|`.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
import shlex
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Audio, ClassLabel, Dataset, Value
from pyarrow import ArrowInvalid
from pyarrow.parquet import ParquetFile

from ..errors import AstHfWarning, did_you_mean, error, warning_text

#: Files that are taken for audio in label folders: what soundfile decodes.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".mp2", ".aif", ".aiff", ".aifc"}
    | {".au", ".caf"}
)

#: Files that hold sound which soundfile does not decode: label folders warn that they leave these out.
UNREAD_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".m4r", ".aac", ".alac", ".ac3", ".eac3", ".dts", ".wma", ".amr", ".awb", ".ape", ".wv", ".tta"}
    | {".tak", ".mpc", ".shn", ".dsf", ".dff", ".spx", ".ra", ".mka", ".weba"}
    | {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".wmv", ".flv", ".ogv", ".mpg", ".mpeg", ".3gp", ".3g2"}
)

#: Names of columns, in the order they are looked for; `wav` is the original AST repository's.
PATH_COLUMNS = ("file_name", "path", "audio", "file", "filename", "wav")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "manifest.csv")

#: Folder and split names that mean the same.
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"} | {
    "val": "validation", "dev": "validation", "eval": "validation", "test": "test", "testing": "test"
}  # fmt: skip

#: What may separate the cells of a `.csv` file whose head line has no comma; Excel writes `;` in most of Europe.
SEPARATORS = (";", "\t", "|")

#: What several labels of one clip are often separated by; a comma with a space is part of many names.
_JOINED_LABELS = re.compile(r"[;|]|(?<=\S),(?=[^\s\d])")

#: Columns that bound a clip within its file, in seconds.
BOUNDARIES = ("start", "end")

#: What `datasets` stores of a clip: the file's bytes or its path. Streams have it in place of `Audio`, which `datasets`
#: encodes with torchcodec even where nothing is to be decoded.
STORED = {"bytes": Value("binary"), "path": Value("string")}

Row = dict[str, Any]

#: How many examples a message gives.
_EXAMPLES = 3

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

_SPACES = re.compile(r"\s{2,}")


@dataclass
class Table:
    """The rows of one file or folder.

    Attributes:
        rows: what each row says; embedded audio is left out, its name stands in its place.
        where: the file, for messages.
        root: paths in the rows are relative to it.
        embedded: column -> that column alone, as stored, for audio whose bytes are in the table.
        names: column -> class names in the file's own order, for columns that the file says are classes.
    """

    rows: list[Row]
    where: str
    root: Path
    embedded: dict[str, Dataset] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def column(self, wanted: str | None, usual: tuple[str, ...], argument: str) -> str:
        """The column of that name, or the first of the usual ones; raises E208 when there is none.

        Args:
            wanted: what `argument` of `load_audio_dataset` is.
            usual: the names to look for when it is None.
            argument: its name, for the message.
        """
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        for name in (wanted,) if wanted else usual:
            if name in names:
                return name
        what = f"has the columns {', '.join(names)}, none is {repr(wanted) if wanted else 'one of ' + ', '.join(usual)}"
        likely = self._column_of_files(names) if usual is PATH_COLUMNS else None
        fix = f"name the column with {chosen(**{argument: likely}) if likely else option(argument)}"
        raise error("E208", where=repr(self.where), what=what, fix=fix)

    def _column_of_files(self, names: Sequence[str]) -> str | None:
        """Return the first column that names an audio file in the first row."""
        cells = ((name, str(self.rows[0].get(name) or "")) for name in names)
        return next((name for name, cell in cells if Path(cell).suffix.lower() in AUDIO_SUFFIXES), None)

    def sounds(self, column: str) -> Dataset | None:
        """The embedded audio of a column, as the column `audio`; None where rows name files."""
        if column not in self.embedded:
            return None
        return self.embedded[column] if column == "audio" else self.embedded[column].rename_column(column, "audio")


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


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the caller of `load_audio_dataset` asked for."""

    audio_column: str | None
    label_column: str | None
    split_column: str
    separator: str | None
    labels: LabelSet | None
    dropped: frozenset[str]
    test_fold: str | None
    fold_column: str
    lists: dict[str, set[str]]
    root: Path | None
    boundaries: bool
    check_files: bool

    def written_labels(self, value: Any) -> list[str]:
        """The labels of a cell, as they are written. With a separator, a list written as text is the list."""
        if isinstance(value, list):
            parts = value
        elif self.separator and value is not None:
            listed = labels_in(str(value).strip())
            parts = str(value).split(self.separator) if listed is None else listed
        else:
            parts = [value]
        return [str(part).strip() for part in parts if part is not None and str(part).strip()]

    def label_list(self, value: Any, where: str) -> list[str]:
        """The labels of a cell that are not dropped; raises E208 where a cell has none, or is no label or list."""
        self._check_label(value, where)
        labels = self.written_labels(value)
        if not labels:
            raise error("E208", where=where, what="has no label", fix="give it a label or remove the row")
        return [label for label in dict.fromkeys(labels) if label not in self.dropped]

    def _check_label(self, value: Any, where: str) -> None:
        """Raise E208 for what would become a class by the text that Python writes for it."""
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, (list, dict)):
                what = f"{textwrap.shorten(repr(part), 60)} is no label"
                raise error("E208", where=where, what=what, fix="give the name of the class, or a list of names")
            self._check_text(part, where, listed=isinstance(value, list))

    def _check_text(self, value: Any, where: str, *, listed: bool) -> None:
        """Raise E208 for the text of a collection, unless a separator lets it be read or it is a class by name."""
        text = str(value).strip()
        if not isinstance(value, str) or (self.labels is not None and text in self.labels):
            return
        shown, labels = repr(textwrap.shorten(text, 60)), None if listed else labels_in(text)
        if labels is not None and self.separator is None:
            what = f"{shown} is a list written as text, and would be one class"
            fix = f"{chosen(label_separator=';')} reads such lists, for clips of several labels"
            raise error("E208", where=where, what=what, fix=f"{fix}; for one label a clip write it without brackets")
        if labels is None and _COLLECTION.match(text):
            what = f"{shown} is a collection written as text, and not a plain list of names or whole numbers"
            fix = "write the name alone, or several as dog;rain with label_separator ';'"
            raise error("E208", where=where, what=what, fix=f"{fix}; {INSIST.format('this is a class')}")

    def split(self, row: Row, paths: set[str], forced: str | None) -> str:
        """The split of a row: by its fold, its file, the lists, its own column; else `"train"`.

        Args:
            row: what the table says.
            paths: what lists may call its file.
            forced: the split of the whole file.
        """
        if self.test_fold is not None:
            return "test" if fold_name(row[self.fold_column]) == self.test_fold else "train"
        listed = next((split for split, names in self.lists.items() if not names.isdisjoint(paths)), None)
        given = str(forced or listed or row.get(self.split_column) or "train").strip()
        return SPLIT_NAMES.get(given.lower(), given)


def option(argument: str) -> str:
    """An argument of `load_audio_dataset` as it is written in Python, on the command line and in a recipe."""
    return f"{argument}= (--{argument}, in a recipe data.{argument})"


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


def chosen(**values: str | bool) -> str:
    """Return values of such arguments as they are written in Python and on the command line."""
    return f"{_in_python(values)} ({_as_flags(values)}; finetune takes {_as_changes(values)})"


def chosen_sources(parts: Mapping[str, Sequence[Path]], **values: str | bool) -> str:
    """Return a mapping from splits to files or folders, and other arguments, as `chosen` does."""
    sources = {split: str(paths[0]) if len(paths) == 1 else list(map(str, paths)) for split, paths in parts.items()}
    written = ", ".join(
        f"{_yaml_key(split)}: {json.dumps(value, ensure_ascii=False)}" for split, value in sources.items()
    )
    change = f"--set {shlex.quote('data.source={' + written + '}')}"
    python = f"{sources!r} with {_in_python(values)}" if values else repr(sources)
    one = "stats and evaluate take one of them at a time" + (f", with {_as_flags(values)}" if values else "")
    return f"{python} ({one}; finetune takes {' '.join([change, _as_changes(values)]).rstrip()})"


def _yaml_key(split: str) -> str:
    return split if split in SPLIT_NAMES else json.dumps(split, ensure_ascii=False)


def _in_python(values: Mapping[str, str | bool]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _as_flags(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--{name} {_shell_word(value)}" for name, value in values.items())


def _as_changes(values: Mapping[str, str | bool]) -> str:
    return " ".join(f"--set data.{name}={_shell_word(value)}" for name, value in values.items())


def _shell_word(value: str | bool) -> str:
    return shlex.quote(str(value).lower() if isinstance(value, bool) else value)


#: What to do where columns `start` and `end` are something else, for messages.
NO_BOUNDARIES = f"{chosen(clip_boundaries=False)} for columns that mean something else"

#: What to do where the names that a message refuses are the classes; `{}` says so.
INSIST = (
    "if {}, list all classes in a text file, one a line: --class_labels FILE (finetune: --set data.class_labels=FILE)"
)


def such_rows(numbers: Sequence[int]) -> str:
    """What a message about the first of several rows says of all of them, `""` for one."""
    told = ", ".join(map(str, numbers[:_EXAMPLES])) + (", ..." if len(numbers) > _EXAMPLES else "")
    return f" ({len(numbers)} such rows: {told})" if len(numbers) > 1 else ""


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


def some(names: Sequence[str], written: Callable[[str], str] = repr, *, shown: int = _EXAMPLES) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(written, names[:shown])) + more


def fold_name(value: Any) -> str:
    """1, "1" and 1.0 (how pandas writes a column that has gaps) are the same fold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else str(value)


def check_fold(folds: Iterable[Any], reading: Reading) -> None:
    """Raise E209 when no clip is in the fold that was asked for."""
    names = sorted({fold_name(fold) for fold in folds})
    if reading.test_fold not in names:
        what = f"no clip is in fold {reading.test_fold}, the folds are {', '.join(names)}"
        raise error("E209", where="test_fold", what=what, fix="name one of them")


def no_fold_column(where: str, columns: Iterable[str], reading: Reading) -> Exception:
    """The E208 for a table or row without folds."""
    what = f"has no column {reading.fold_column!r}; its columns are {', '.join(columns)}"
    return error("E208", where=where, what=what, fix=f"name the column with {option('fold_column')}")


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


def is_local(source: str) -> bool:
    """Whether a source is, or should be, a file or folder here rather than a name on the Hub."""
    path = Path(source)
    return path.exists() or path.suffix.lower() in _READERS or source.startswith((".", "/", "~"))


def read_split_list(path: str | PathLike) -> set[str]:
    """The paths that a text file lists, one a line, as Speech Commands' `validation_list.txt` does."""
    check_exists(Path(path))
    return set(_lines(Path(path)))


def boundary(row: Row, name: str, where: str) -> float | None:
    """`start` or `end` of a row in seconds, None where it has none; raises E208 for what is no time."""
    value = row.get(name)
    if value is None or value == "" or value != value:  # pandas writes NaN for a missing number
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        fix = "give seconds from the file's beginning, with a decimal point; " + NO_BOUNDARIES
        raise error("E208", where=f"{where}, column {name!r}", what=f"{value!r} is no time", fix=fix)
    return seconds


def check_exists(path: Path) -> None:
    """Raise E206 for a path that is not there."""
    if not path.exists():
        raise error("E206", where=repr(str(path)), what="does not exist", fix="check the path")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8") from problem


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _read_text(path).splitlines() if line.strip()]


def _table(path: Path, rows: list[Row], **more: Any) -> Table:
    return Table(rows, str(path), path.parent, **more)


def _read_csv(path: Path) -> Table:
    """Lines under a head line; spaces after a separator and lines without any value are skipped."""
    lines = [line for line in _read_text(path).splitlines() if line.strip()] or [""]
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(lines[0])
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    reader.fieldnames = _checked_head([name.strip() for name in reader.fieldnames or ()], path)
    rows = [row for row in reader if any(map(_has_value, row.values()))]
    for number, row in enumerate(rows, start=1):
        if None in row:
            what = f"has {len(row[None])} fields more than the head line"
            raise error("E208", where=f"{path} row {number}", what=what, fix="quote fields that hold the separator")
    return _table(path, rows)


def _has_value(cell: str | list[str] | None) -> bool:
    return bool("".join(cell or "").strip())


def separator_of(head: str) -> str:
    """What separates the cells of a `.csv` file: the comma, or what its head line has in its place."""
    found = [mark for mark in SEPARATORS if mark in head]
    return found[0] if len(found) == 1 and "," not in head else ","


def _checked_head(names: list[str], path: Path) -> list[str]:
    """The names of a table's columns; raises E208 when a clip stands in their place, or a name stands there twice."""
    for name in names:
        if Path(name).suffix.lower() in AUDIO_SUFFIXES | UNREAD_SUFFIXES:
            what = f"has no head line: its first line names the file {name!r}"
            raise error("E208", where=repr(str(path)), what=what, fix="name the columns above it, such as path,label")
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        fix = "give each column a name of its own"
        raise error("E208", where=repr(str(path)), what=f"names the column {twice[0]!r} more than once", fix=fix)
    return names


def _read_jsonl(path: Path) -> Table:
    lines = [(number, line) for number, line in enumerate(_read_text(path).splitlines(), start=1) if line.strip()]
    places = [f"{path} line {number}" for number, _ in lines]
    rows = [_parsed(line, place) for place, (_, line) in zip(places, lines, strict=True)]
    return _table(path, [_object(row, place) for place, row in zip(places, rows, strict=True)])


def _read_json(path: Path) -> Table:
    """A list of rows, or the original repository's `{"data": [{"wav": path, "labels": "/m/a,/m/b"}]}`."""
    content = _parsed(_read_text(path), str(path))
    original = isinstance(content, dict) and isinstance(content.get("data"), list)
    rows = content["data"] if original else content
    if not isinstance(rows, list):
        what = f"is a {type(content).__name__}, not a list of rows"
        fix = 'write [{"path": ..., "label": ...}, ...] or {"data": [{"wav": ..., "labels": ...}, ...]}'
        raise error("E208", where=repr(str(path)), what=what, fix=fix)
    rows = [_object(row, f"{path} row {number}") for number, row in enumerate(rows, start=1)]
    return _table(path, [_split_identifiers(row) for row in rows] if original else rows)


def _split_identifiers(row: Row) -> Row:
    """The original's comma-separated identifiers as a list, where there are several."""
    labels = row.get("labels")
    if not isinstance(labels, str) or "," not in labels:
        return row
    return {**row, "labels": [part.strip() for part in labels.split(",") if part.strip()]}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        what = f"is not JSON ({problem})"
        raise error("E208", where=where, what=what, fix="write one object per row, names in quotes") from problem


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise error(
            "E208", where=where, what=f"is a {type(row).__name__}, not an object", fix="write one object per row"
        )
    return row


def _read_parquet(path: Path) -> Table:
    """Rows of a Parquet file; embedded audio stays in the file's memory map."""
    try:
        ParquetFile(path).close()
    except ArrowInvalid as problem:
        fix = "copy it again; a git-lfs pointer needs `git lfs pull`"
        raise error("E208", where=repr(str(path)), what=f"is no Parquet file ({problem})", fix=fix) from problem
    stored = Dataset.from_parquet(str(path))
    sounding = [name for name, feature in stored.features.items() if _is_stored_audio(feature)]
    names = {name: kind.names for name, feature in stored.features.items() if (kind := class_feature(feature))}
    rows = [{name: _named(row[name], names.get(name)) for name in row} for row in stored.remove_columns(sounding)]
    rows = rows or [{} for _ in range(len(stored))]  # without its audio, a table may have no columns
    embedded = {}
    for name in sounding:
        chunks = stored.data.column(name).chunks  # not copied: the bytes of a large table do not fit into memory
        for row, file in zip(rows, (file for chunk in chunks for file in chunk.field("path").to_pylist()), strict=True):
            row[name] = file
        if _has_bytes([valid for chunk in chunks for valid in chunk.field("bytes").is_valid().to_pylist()], name, path):
            embedded[name] = stored.select_columns([name]).cast_column(name, Audio(decode=False))
    return _table(path, rows, embedded=embedded, names=names)


def _has_bytes(valid: list[bool], name: str, path: Path) -> bool:
    """Whether all rows embed audio, rather than none; raises E208 naming the first row that does not as the others."""
    if any(valid) and not all(valid):
        where = f"{path} row {valid.index(False) + 1}, column {name!r}"
        raise error("E208", where=where, what="embeds no audio, other rows do", fix="embed all files or none")
    return any(valid)


def _is_stored_audio(feature: Any) -> bool:
    return isinstance(feature, Audio) or (isinstance(feature, dict) and feature.keys() == STORED.keys())


def class_feature(feature: Any) -> ClassLabel | None:
    """The `ClassLabel` of a column of classes, or of lists of classes."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return inner if isinstance(inner, ClassLabel) else None


def _named(value: Any, names: list[str] | None) -> Any:
    """Class indices as names; a missing class (None or -1, as `datasets` writes it) as None."""
    if names is None:
        return value
    if isinstance(value, list):
        return [names[index] for index in value]
    return None if value is None or value < 0 else names[value]


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet
}  # fmt: skip


def read_table(path: Path) -> Table:
    """Return the rows of a file; raises E208 for what is no table, and E209 for one without a row."""
    if path.suffix.lower() not in _READERS:
        fix = "give a folder, or a file ending in " + ", ".join(_READERS)
        raise error("E208", where=repr(str(path)), what="is no table of labels", fix=fix)
    table = _READERS[path.suffix.lower()](path)
    if not table.rows:
        raise error("E209", where=repr(str(path)), what="has no rows", fix="list at least one clip per class")
    return table


#: A file or folder, a name on the Hub, several files or folders, or those of each split.
Source: TypeAlias = str | PathLike | Sequence[str | PathLike] | Mapping[str, str | PathLike | Sequence[str | PathLike]]
