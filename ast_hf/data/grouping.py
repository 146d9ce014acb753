"""Groups of clips that belong together: the speaker, recording or source that a column or the file names show.

Clips of one group resemble each other in more than their label. A split that divides a group overstates accuracy.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict

from ..errors import error
from .group_statistics import GroupStatistics
from .group_words import COUNTED_COLUMNS, IDENTIFIERS, NAME_QUALIFIERS, group_word, words_of
from .label_cells import is_null
from .name_groups import find_name_pattern
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, PATH_COLUMNS, RECORDING, SPLIT_NAMES
from .splits import label_lists, label_names

#: Values of a column or of names that are enough to hold some of them out, and more for one whose name says
#: less. With fewer, a split by them is a comparison of single speakers.
MIN_GROUPS = 4
MIN_UNNAMED = 8

#: Clips that are looked at together; those with embedded audio are in memory.
_BATCH = 100

#: Columns that never group clips: what this package reads, and properties of the files.
_NO_GROUPS = frozenset({"audio", "split", "fold", "start", "end", *PATH_COLUMNS, *LABEL_COLUMNS, *BOUNDARIES})


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Groups of the clips of a data set.

    Attributes:
        column: the column that holds them, None if the paths do.
        pattern: the regular expression that finds them in paths (`group_of_path`), None for a column.
        values: split -> group of each of its clips.
        reason: why these are groups, in words, for people.
    """

    column: str | None
    pattern: str | None
    values: dict[str, list[str]]
    reason: str

    @property
    def count(self) -> int:
        """Number of groups."""
        return len({value for part in self.values.values() for value in part})

    @property
    def options(self) -> dict[str, str]:
        """Options of a recipe's `data` that keep the groups together."""
        if self.column is not None:
            return {"validation_group": self.column}
        return {"group_pattern": str(self.pattern)}


@dataclass(frozen=True)
class GroupSearch:
    """Result of `search_groups`: the grouping, if any, and why likely columns are none, in words."""

    found: Grouping | None
    rejected: list[str]


def find_groups(data: Dataset | DatasetDict) -> Grouping | None:
    """Return what groups the clips, None without a clear sign of it; see `search_groups`."""
    return search_groups(data).found


def search_groups(data: Any) -> GroupSearch:
    """Look for groups: in columns by their names, in rows of one file, then in the names of files and folders.

    A column or a part of the names counts if it has at least `MIN_GROUPS` values, some with several clips, none
    with more than half of all, and if it varies within most labels. Windows of recordings are grouped by these.

    Args:
        data: one split, or all of them, as `load_audio_dataset` returns them. Streams have no known groups.
    """
    parts = {"train": data} if isinstance(data, Dataset) else dict(data)
    if not all(isinstance(part, Dataset) for part in parts.values()) or not any(map(len, parts.values())):
        return GroupSearch(None, [])
    rejected: list[str] = []
    labels = [tuple(sorted(indices)) for part in parts.values() for indices in label_lists(part)]
    found = _of_columns(parts, labels, rejected)
    found = found or _of_files(parts, labels)
    found = found or _of_names(parts, labels)
    rejected += _of_labels(label_names(next(iter(parts.values()))))
    return GroupSearch(found, rejected)


def clip_paths(dataset: Dataset) -> list[str]:
    """Return the path of each clip with forward slashes, `""` for embedded audio without a name."""
    if "audio" not in dataset.column_names:
        return [""] * len(dataset)
    paths: list[str] = []
    for batch in dataset.select_columns(["audio"]).with_format("arrow").iter(_BATCH):
        for chunk in batch["audio"].chunks:
            paths += ((path or "").replace("\\", "/") for path in chunk.field("path").to_pylist())
    return paths


def unique_names(dataset: Dataset) -> list[str]:
    """Return a name for each clip, no two alike, that depends neither on the order nor on where the files are.

    It is the path below the folder that all clips share, with start and end; clips that are still alike are
    counted.
    """
    paths = clip_paths(dataset)
    folder = (
        os.path.commonpath([path.rpartition("/")[0] or "." for path in paths]) if _are_absolute(paths) else ""
    )
    bounds = [dataset[name] if name in dataset.column_names else [None] * len(paths) for name in BOUNDARIES]
    seen: Counter[str] = Counter()
    keys = []
    for path, start, end in zip(paths, *bounds, strict=True):
        key = repr((path[len(folder) :].lstrip("/"), start, end))
        keys.append(f"{key} {seen[key]}")
        seen[key] += 1
    return keys


def _are_absolute(paths: Sequence[str]) -> bool:
    return all(path.startswith("/") for path in paths)


def group_of_path(pattern: re.Pattern[str], path: str) -> str | None:
    """Return the group that a pattern finds in a path: its parts in parentheses, else all that it matches."""
    match = pattern.search(path)
    if match is None:
        return None
    return " ".join(part or "" for part in match.groups()) if match.groups() else match[0]


def read_groups(dataset: Dataset, pattern: str) -> list[str]:
    """Return the group of each clip by a pattern in its path; raise E208 for a path without a match."""
    compiled = re.compile(pattern)
    groups = []
    for row, path in enumerate(clip_paths(dataset), start=1):
        group = group_of_path(compiled, path)
        if not group:
            where = f"row {row}, {path!r}"
            fix = "write one that finds the group in every path, or name a column with data.validation_group"
            raise error("E208", where=where, what=f"has no match of data.group_pattern {pattern!r}", fix=fix)
        groups.append(group)
    return groups


def _of_columns(
    parts: Mapping[str, Dataset], labels: Sequence[tuple[int, ...]], rejected: list[str]
) -> Grouping | None:
    """Return the groups of the column whose name says most, None without one."""
    columns = list(dict.fromkeys(name for part in parts.values() for name in part.column_names))
    if all(RECORDING in part.column_names and "start" in part.column_names for part in parts.values()):
        values = {split: list(map(str, part[RECORDING])) for split, part in parts.items()}
        if len({value for part in values.values() for value in part}) > 1:
            reason = f"column {RECORDING!r}: windows of one recording stay together"
            return Grouping(column=RECORDING, pattern=None, values=values, reason=reason)
    ranked = [(rank, name) for name in columns if (rank := _rank(name)) is not None]
    for rank, name in sorted(ranked, key=lambda item: item[0]):
        if not all(name in part.column_names for part in parts.values()):
            continue
        values = {split: part[name] for split, part in parts.items()}
        cells = [cell for part in values.values() for cell in part]
        problem = _problem(cells, labels, is_named=rank < _UNNAMED)
        if problem is None:
            texts = {split: list(map(str, part)) for split, part in values.items()}
            statistics = GroupStatistics.of(list(map(str, cells)), labels)
            reason = f"column {name!r}: {statistics.describe()}"
            return Grouping(column=name, pattern=None, values=texts, reason=reason)
        rejected.append(f"column {name!r} {problem}")
    return None


#: Rank of columns whose names only say that they identify something.
_UNNAMED = 10


def _rank(name: str) -> int | None:
    """Return how much the name of a column says, 0 for most; None for a column that is not of groups."""
    if name.lower() in _NO_GROUPS:
        return None
    words = words_of(name)
    nouns = [rank for word in words if (rank := group_word(word)) is not None]
    others = [word for word in words if group_word(word) is None and word not in NAME_QUALIFIERS]
    if nouns and not others:
        return min(nouns)
    if words and words[-1] in IDENTIFIERS and not set(words) & COUNTED_COLUMNS and len(words) > 1:
        return _UNNAMED
    return None


def _problem(cells: Sequence[Any], labels: Sequence[tuple[int, ...]], *, is_named: bool) -> str | None:
    """Return why the cells of a column are not groups, None if they are."""
    empty = sum(is_null(cell) or str(cell).strip() == "" for cell in cells)
    if empty:
        return f"has no value for {empty} of {len(cells)} clips"
    texts = list(map(str, cells))
    if {text.strip().lower() for text in texts} <= SPLIT_NAMES.keys():
        return "names splits"
    statistics = GroupStatistics.of(texts, labels)
    problem = statistics.problem(MIN_GROUPS if is_named else MIN_UNNAMED)
    if problem is None and not is_named and statistics.clips < 2 * statistics.groups:
        return "has less than two clips for each value"
    return problem


def _of_files(parts: Mapping[str, Dataset], labels: Sequence[tuple[int, ...]]) -> Grouping | None:
    """Return the files as groups if clips are stretches of longer files."""
    if not all(set(BOUNDARIES) <= set(part.column_names) for part in parts.values()):
        return None
    values = {split: clip_paths(part) for split, part in parts.items()}
    paths = [path for part in values.values() for path in part]
    statistics = GroupStatistics.of(paths, labels)
    if not all(paths) or statistics.problem(MIN_GROUPS):
        return None
    reason = f"clips are stretches of longer files: {statistics.describe(shown=False)}"
    return Grouping(column=None, pattern=".+", values=values, reason=reason)


def _of_names(parts: Mapping[str, Dataset], labels: Sequence[tuple[int, ...]]) -> Grouping | None:
    """Return the groups in the names of files or folders, None without clear ones."""
    paths = {split: clip_paths(part) for split, part in parts.items()}
    every = [path for part in paths.values() for path in part]
    found = find_name_pattern(every, labels, label_names(next(iter(parts.values()))))
    if found is None:
        return None
    pattern, reason = found
    compiled = re.compile(pattern)
    values = {split: [group_of_path(compiled, path) or "" for path in part] for split, part in paths.items()}
    return Grouping(column=None, pattern=pattern, values=values, reason=reason)


def _of_labels(names: Sequence[str]) -> list[str]:
    """Return what to say of labels that are folders of two kinds, such as `yes/anna`: each with each."""
    levels = list(zip(*(name.split("/") for name in names), strict=False))
    is_even = len({name.count("/") for name in names}) == 1
    if not is_even or len(levels) < 2 or any(min(Counter(level).values()) < 2 for level in levels):
        return []
    return [
        f"the {len(names)} labels are folders in folders, such as {names[0]!r}; if one of them is a speaker or a "
        "recording, write a table with a column for each"
    ]
