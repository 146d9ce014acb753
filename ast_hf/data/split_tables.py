"""Tables of a data set with a split and a group for each clip, which `load_audio_dataset` reads back."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets

from ..errors import AstHfWarning, error
from ..files import write_text
from ..task import Task
from .grouping import clip_paths
from .label_cells import MISSING, parse_label_list
from .labels import in_order
from .naming_conventions import BOUNDARIES
from .splits import label_lists, label_names, split_task

#: Separators of the labels of a clip; the first one that no label has is used.
_SEPARATORS = (";", "|", ",", "/", "\t")

#: Suffixes of tables that can be written.
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")

#: Order of the splits in tables.
_ORDER = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """A table that was written, and what it holds.

    Attributes:
        path: the table.
        options: arguments of `load_audio_dataset` that it needs to be read.
        clips: split -> label -> number of clips; a clip of several labels counts for each.
        groups: split -> label -> number of groups, equal to the clips without groups.
        sizes: split -> number of clips.
        group_counts: split -> number of groups.
        drawn: splits that were held out, the others are those of the data.
        shared: groups that are in several splits, which the data divide.
    """

    path: Path
    options: dict[str, str] = field(default_factory=dict)
    clips: dict[str, dict[str, int]]
    groups: dict[str, dict[str, int]]
    sizes: dict[str, int]
    group_counts: dict[str, int]
    drawn: list[str]
    shared: int

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain values."""
        return {**asdict(self), "path": str(self.path)}


def write_split_table(
    path: Path, splits: DatasetDict, groups: Mapping[str, Sequence[str]] | None, drawn: Sequence[str]
) -> SplitTable:
    """Write a row for each clip: `path`, `label` (or `labels`), `split`, `group`, and `start` and `end` if any.

    Paths are relative to the table's folder. The suffix of `path` chooses the format. A text file of the classes is
    written next to a table that would otherwise be read with other classes, or in another order.

    Args:
        path: the table, ending in one of `SUFFIXES`.
        splits: the clips, as `load_audio_dataset` returns them, of files.
        groups: split -> group of each clip; None without groups.
        drawn: splits that were held out.

    Raises:
        AstDataError: E208 for clips that a table cannot hold: without a label, inside a Parquet file or on the Hub,
            or in a file with a line break in its name, and if the table is not read back as it was written.
        AstRunError: E401 if it cannot be written.
    """
    first = next(iter(splits.values()))
    task = split_task(first)
    names = label_names(first)
    _check_clips(splits)
    options = _reading_options(path, names, splits, task)
    rows = [
        row
        for name in _in_order(splits)
        for row in _rows(path, name, splits[name], None if groups is None else groups[name], options)
    ]
    if "class_labels" in options:
        write_text(Path(options["class_labels"]), "".join(f"{name}\n" for name in names))
    write_text(path, _as_text(path, rows))
    _check_read_back(path, splits, options)
    return _summary(path, splits, groups, drawn, options)


def merge_splits(splits: DatasetDict) -> Dataset:
    """Return the clips of all splits as one."""
    return concatenate_datasets(list(splits.values()))


def _in_order(splits: Mapping[str, Any]) -> list[str]:
    return [name for name in _ORDER if name in splits] + [name for name in splits if name not in _ORDER]


def _check_clips(splits: DatasetDict) -> None:
    """Raise E208 for the first clip that a table cannot hold."""
    for name, split in splits.items():
        embedded = split.data.column("audio").combine_chunks().field("bytes").null_count < len(split.data)
        if embedded:
            what = "holds the audio itself, and a table names files"
            fix = "set data.test_fraction and data.validation_fraction in a recipe, which draw the same clips"
            raise error("E208", where=f"split {name!r}", what=what, fix=fix)
        for row, (path, labels) in enumerate(
            zip(clip_paths(split), label_lists(split), strict=True), start=1
        ):
            where = f"split {name!r} row {row}, {path!r}"
            if "\n" in path or "\r" in path:
                what = "has a line break in its name, which a table cannot hold"
                raise error("E208", where=where, what=what, fix="rename the file")
            if not labels:
                what = "has no label, which a table of clips cannot say"
                raise error("E208", where=where, what=what, fix="give it a label, such as 'none'")


def _reading_options(path: Path, names: Sequence[str], splits: DatasetDict, task: Task) -> dict[str, str]:
    """Return the arguments of `load_audio_dataset` with which the table has the same labels."""
    options = {}
    used = {names[index] for split in splits.values() for labels in label_lists(split) for index in labels}
    is_plain = not any(name in MISSING or name.startswith(("[", "(", "{", "'", '"', "b'")) for name in names)
    if list(names) != in_order(used) or not is_plain:
        options["class_labels"] = str(path.with_name(f"{path.stem}_classes.txt"))
    if task is Task.MULTI_LABEL and path.suffix.lower() in (".csv", ".tsv"):
        free = [mark for mark in _SEPARATORS if not any(mark in name for name in names)]
        options["label_separator"] = free[0] if free else _SEPARATORS[0]
    return options


def _rows(
    path: Path, name: str, split: Dataset, groups: Sequence[str] | None, options: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the rows of a split."""
    folder = os.path.realpath(path.parent)
    task = split_task(split)
    names = label_names(split)
    bounds = [column for column in BOUNDARIES if column in split.column_names]
    places = {column: split[column] for column in bounds}
    rows = []
    for number, (file, labels) in enumerate(zip(clip_paths(split), label_lists(split), strict=True)):
        texts = [names[index] for index in labels]
        row: dict[str, Any] = {"path": os.path.relpath(file, folder)}
        row[task.label_column] = _label_cell(texts, task, options.get("label_separator"))
        row["split"] = name
        if groups is not None:
            row["group"] = groups[number]
        row |= {column: places[column][number] for column in bounds}
        rows.append(row)
    return rows


def _label_cell(texts: list[str], task: Task, separator: str | None) -> Any:
    """Return the labels of a clip as a cell: a name, a list, or names with a separator."""
    if task is not Task.MULTI_LABEL:
        return texts[0]
    if separator is None:
        return texts
    joined = separator.join(texts)
    is_clear = joined.split(separator) == texts and parse_label_list(joined) is None
    return joined if is_clear else json.dumps(texts, ensure_ascii=False)


def _as_text(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows in the format of a file's suffix."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if suffix == ".json":
        return json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"
    cells = [str(cell) for row in rows for cell in row.values() if cell is not None]
    has_spaces = any(cell != cell.strip() for cell in cells)  # readers skip spaces of cells without quotes
    content = io.StringIO()
    writer = csv.DictWriter(
        content,
        list(rows[0]),
        delimiter="\t" if suffix == ".tsv" else ",",
        quoting=csv.QUOTE_ALL if has_spaces else csv.QUOTE_MINIMAL,
        lineterminator="\n",
    )
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()


def _check_read_back(path: Path, splits: DatasetDict, options: Mapping[str, str]) -> None:
    """Raise E208 unless the table is read as the same clips with the same labels."""
    from .reading import load_audio_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstHfWarning)
        found = load_audio_dataset(
            path, label_separator=options.get("label_separator"), class_labels=options.get("class_labels")
        )
    for name, split in splits.items():
        if name in found and _content(found[name]) == _content(split):
            continue
        what = f"is not read back as it was written (split {name!r})"
        fix = "rename files or labels with unusual characters; write .jsonl, which keeps all of them"
        raise error("E208", where=repr(str(path)), what=what, fix=fix)


def _content(split: Dataset) -> list[tuple[Any, ...]]:
    """Return path, label names and boundaries of each clip."""
    names = label_names(split)
    bounds = [split[column] if column in split.column_names else [None] * len(split) for column in BOUNDARIES]
    labels = [tuple(names[index] for index in indices) for indices in label_lists(split)]
    return list(zip(map(os.path.realpath, clip_paths(split)), labels, *bounds, strict=True))


def _summary(
    path: Path,
    splits: DatasetDict,
    groups: Mapping[str, Sequence[str]] | None,
    drawn: Sequence[str],
    options: dict[str, str],
) -> SplitTable:
    """Return the counts of a table."""
    clips: dict[str, dict[str, int]] = {}
    counts: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    holders: Counter[str] = Counter()
    for name in _in_order(splits):
        split = splits[name]
        texts = label_names(split)
        keys = list(map(str, range(len(split)))) if groups is None else list(groups[name])
        pairs = [
            (texts[index], key)
            for key, labels in zip(keys, label_lists(split), strict=True)
            for index in labels
        ]
        clips[name] = dict(Counter(label for label, _ in pairs))
        counts[name] = dict(Counter(label for label, _ in set(pairs)))
        totals[name] = len(set(keys))
        holders.update(set(keys) if groups is not None else ())
    return SplitTable(
        path=path,
        options=options,
        clips=clips,
        groups=counts,
        sizes={name: len(splits[name]) for name in clips},
        group_counts=totals,
        drawn=list(drawn),
        shared=sum(count > 1 for count in holders.values()),
    )
