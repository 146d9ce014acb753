"""Options of `load_audio_dataset`, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .holding_out import FoldChoice
from .label_cells import LabelReader
from .naming_conventions import SPLIT_NAMES, Row


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
