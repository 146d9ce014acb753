"""Options of `load_audio_dataset`, parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .holding_out import FoldChoice
from .label_cells import LabelReader
from .labels import read_class_labels
from .naming_conventions import SPLIT_NAMES, Row
from .tables import read_split_list


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options of `load_audio_dataset`; those that are not explained are its arguments.

    Attributes:
        labels: label separator, listed classes and dropped labels.
        fold: the test fold, None to split otherwise.
        split_lists: split -> the paths that its list names.
        recordings: table of the recordings, None if those with labels are all.
    """

    audio_column: str | None
    label_column: str | None
    split_column: str
    labels: LabelReader
    fold: FoldChoice | None
    split_lists: dict[str, set[str]]
    audio_root: Path | None
    clip_boundaries: bool
    check_files: bool
    recordings: Path | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> ReadingOptions:
        """Return the options in arguments of `load_audio_dataset` or `load_timed_labels`, by name.

        Raises:
            AstDataError: E206, E208 and E209 for files of classes and of splits.
        """
        class_labels = arguments["class_labels"]
        classes = None if class_labels is None else read_class_labels(class_labels)
        split_lists = arguments["split_lists"] or {}
        return cls(
            **{name: arguments[name] for name in ("audio_column", "label_column", "split_column")},
            labels=LabelReader(arguments["label_separator"], classes, frozenset(arguments["drop_labels"])),
            fold=FoldChoice.of(arguments["test_fold"], arguments["fold_column"]),
            split_lists={split: read_split_list(path) for split, path in split_lists.items()},
            audio_root=_path(arguments["audio_root"]),
            clip_boundaries=arguments.get("clip_boundaries", True),
            check_files=arguments.get("check_files", True),
            recordings=_path(arguments["recordings"]),
        )

    def split(self, row: Row, paths: set[str], source_split: str | None) -> str:
        """Return a row's split by its fold, its source, the lists (with one of `paths`) or its split column.

        Without any of these it is `"train"`.
        """
        if self.fold is not None:
            return self.fold.split(row)
        lists = self.split_lists.items()
        listed = next((split for split, names in lists if not names.isdisjoint(paths)), None)
        cell = row.get(self.split_column)
        named = None if cell != cell else cell  # NaN, as which pandas writes a missing value
        name = str(source_split or listed or named or "train").strip()
        return SPLIT_NAMES.get(name.lower(), name)


def _path(value: str | PathLike | None) -> Path | None:
    return None if value is None else Path(value)
