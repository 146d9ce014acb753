"""Options of `load_audio_dataset`, checked and parsed once."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import error
from .conventions import SPLIT_NAMES, Row
from .folds import fold_name
from .label_cells import _COLLECTION, labels_in
from .labels import LabelSet
from .option_spelling import INSIST, chosen, option


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
