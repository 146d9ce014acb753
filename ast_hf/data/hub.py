"""Data sets on the Hub as labelled splits, downloaded or streamed; their audio is not decoded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
)
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub import constants

from ..downloads import verify_download
from ..errors import AstHfError, did_you_mean, error, nearest, short_reason, unreadable
from ..hub.access import reach
from ..task import Task
from ..weights.paths import missing_path
from .catalog import KNOWN_SETS
from .labels import LabelSet
from .naming_conventions import BOUNDARIES, LABEL_COLUMNS, Row
from .option_spelling import option
from .reading_options import ReadingOptions
from .splits import STORED, class_feature, class_names_of, label_feature


@dataclass(frozen=True)
class _HubColumns:
    """Names of the audio and label columns of a data set on the Hub, and the storage of its labels.

    Attributes:
        classes: feature of the label column if it holds class indices, None if it holds text or numbers.
    """

    audio: str
    label: str
    classes: ClassLabel | None
    task: Task
    options: ReadingOptions

    @property
    def discarded(self) -> list[str]:
        """Columns to remove: those with names of our columns, and boundaries that must not be read."""
        ours = {"audio", "label", "labels"} - {self.audio, self.label}
        return [*ours, *(() if self.options.clip_boundaries else BOUNDARIES)]

    @property
    def class_order(self) -> list[str] | None:
        """Class names in the data set's order, None if it declares no classes."""
        return list(self.classes.names) if self.classes else None

    def read_labels(self, cell: Any, where: str) -> list[str]:
        """Return the labels of a cell by name; raise E208 for a cell without a label."""
        if self.classes is None:
            return self.options.labels.read(cell, where)
        names = class_names_of(cell, self.classes.names, where)
        return replace(self.options.labels, are_names=True).read(names, where)

    def feature(self, classes: LabelSet) -> Any:
        """Return the feature of our label column."""
        return label_feature(classes.names, self.task)


def read_hub(
    name: str,
    config: list[str],
    merge: Mapping[str, Sequence[str]] | None,
    streaming: bool,
    options: ReadingOptions,
) -> DatasetDict | IterableDatasetDict:
    """Return the splits of a data set on the Hub, in the form of `load_audio_dataset`.

    Args:
        name: name of the data set.
        config: its configuration, empty for the default.
        merge: split -> splits of the data set that it is made of; None for the splits as they are.
        streaming: read the data set while it is used, instead of downloading it.
        options: options of `load_audio_dataset`.

    Raises:
        AstDataError: E206 for a missing path, E208 for columns and labels (naming split and row), E209 for
            missing splits and folds.
        AstConfigError: E702 for a data set that does not exist or that the token may not see.
        AstRunError: E701 and E704 if the Hub refuses or cannot be reached. AstConfigError: E706 for files that
            differ from those on the Hub.
    """
    _check_not_a_path(name)
    try:
        splits = reach(lambda: _load(name, config, streaming), where=f"data set {name!r}")
    except DatasetsError as problem:
        _verify_files(name, DatasetDict())
        fix = f"check its files on the Hub, or delete its copy in {str(datasets.config.HF_DATASETS_CACHE)!r}"
        reason = problem.__cause__ or problem
        raise unreadable("E208", where=f"data set {name!r}", problem=reason, fix=fix) from problem
    if isinstance(splits, DatasetDict):
        _verify_files(name, splits)
    for part in (part for parts in (merge or {}).values() for part in parts if part not in splits):
        raise error("E209", where=f"split {part!r}", what="does not exist", fix=did_you_mean(part, splits))
    if merge:
        merged = type(splits)()
        for split, parts in merge.items():
            merged[split] = datasets.concatenate_datasets([splits[part] for part in parts])
        splits = merged
    columns = _find_columns(name, next(iter(splits.values())).features, options)
    return _encode_streams(splits, columns) if streaming else _encode_stored(splits, columns)


def _check_not_a_path(name: str) -> None:
    """Raise E206, without a request to the Hub, for a name that can only be the path of a missing file."""
    missing = None if "://" in name else missing_path(name, cached=is_cached(name))
    if missing is None:
        return
    what, fix = missing
    near = nearest(name, KNOWN_SETS)
    if name in KNOWN_SETS:
        fix = f"read it by load_audio_dataset(**find_data_set({name!r}))"
    elif near and not fix.endswith("?"):
        fix = f"did you mean {near!r}?"
    elif not fix.endswith("?"):
        fix = f"{fix}, or one of {', '.join(KNOWN_SETS)}"
    raise error("E206", where=repr(name), what=what, fix=fix)


def is_cached(name: str) -> bool:
    """Return True if the cache has the files of a data set, or tables made of them by `datasets`."""
    files = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
    return files.is_dir() or Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()


def _load(name: str, config: list[str], streaming: bool) -> DatasetDict | IterableDatasetDict:
    try:
        return datasets.load_dataset(name, *config, **({"streaming": True} if streaming else {}))
    except DatasetNotFoundError as problem:
        fix = "check the name of the data set or folder; for a private one log in with `hf auth login`, or set HF_TOKEN"
        raise error("E702", where=repr(name), what=str(problem).rstrip("."), fix=fix) from None
    except ConnectionError as problem:
        if not datasets.config.HF_HUB_OFFLINE:
            raise
        what = "is not in the cache, and HF_HUB_OFFLINE forbids to reach the Hub"
        raise error("E704", where=f"data set {name!r}", what=what, fix="unset it") from problem
    except ValueError as problem:  # the configuration is missing or does not exist
        what = short_reason(problem, 300)
        if "config" not in what.lower():
            raise
        raise error(
            "E209", where=f"data set {name!r}", what=what, fix="name one with config_name"
        ) from problem


def _verify_files(name: str, splits: DatasetDict) -> None:
    """Raise E706 if a downloaded file differs from the Hub's; remove it, and the tables made of it."""
    folder = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "snapshots")
    try:
        for path in sorted(folder.rglob("*")):
            verify_download(path)
    except AstHfError:
        made = {Path(entry["filename"]).parent for part in splits.values() for entry in part.cache_files}
        for tables in made:
            shutil.rmtree(tables, ignore_errors=True)
        raise


def _find_columns(name: str, features: Features | None, options: ReadingOptions) -> _HubColumns:
    """Return the columns of audio and labels; raise E208 if one is missing or not declared."""
    where = f"data set {name!r}"
    if features is None:
        what = "does not declare its columns before it is read"
        raise error("E208", where=where, what=what, fix="read it without streaming")
    audio_columns = (column for column, feature in features.items() if isinstance(feature, Audio))
    audio = options.audio_column or next(audio_columns, None)
    label = options.label_column or next((column for column in LABEL_COLUMNS if column in features), None)
    if audio is None or audio not in features:
        raise _missing_column(where, "audio", audio, features)
    if label is None or label not in features:
        raise _missing_column(where, "label", label, features)
    if options.fold is not None and options.fold.column not in features:
        raise options.fold.missing_column(where, features)
    has_lists = not isinstance(features[label], (ClassLabel, Value))
    task = Task.MULTI_LABEL if has_lists or options.labels.separator is not None else Task.SINGLE_LABEL
    return _HubColumns(audio, label, class_feature(features[label]), task, options)


def _missing_column(where: str, kind: str, name: str | None, features: Features) -> Exception:
    column = f"{kind} column {name!r}" if name else f"{kind} column"
    what = f"has no {column}; its columns are {', '.join(features)}"
    return error("E208", where=where, what=what, fix=f"name it with {option(f'{kind}_column')}")


def _encode_stored(splits: DatasetDict, columns: _HubColumns) -> DatasetDict:
    """Return downloaded splits in our form. Only labels are rewritten, audio is not copied."""
    options = columns.options
    renamed = DatasetDict({split: _rename_columns(part, columns) for split, part in splits.items()})
    labels = options.labels
    is_translated = columns.classes is None or labels.classes or labels.dropped or labels.separator
    if is_translated or not all(_has_classes_only(part, columns) for part in renamed.values()):
        rows = {split: _read_labels(part, split, columns) for split, part in renamed.items()}
        classes = labels.all_classes(
            columns.class_order, (name for split_rows in rows.values() for row in split_rows for name in row)
        )
        for split, part in renamed.items():
            renamed[split] = _with_labels(part, split, rows[split], classes, columns)
    return renamed if options.fold is None else _by_fold(renamed, options)


def _has_classes_only(part: Dataset, columns: _HubColumns) -> bool:
    """Return True if every clip of a split has a label, and every label is the index of a class."""
    assert columns.classes is not None
    name = columns.task.label_column
    cells = part.select_columns(name).with_format("arrow")[:][name]
    indices = pc.list_flatten(cells) if columns.task is Task.MULTI_LABEL else cells
    if cells.null_count or indices.null_count or not len(indices):
        return False
    bounds = pc.min_max(indices).as_py()
    return bounds["min"] >= 0 and bounds["max"] < len(columns.classes.names)


def _rename_columns(part: Dataset, columns: _HubColumns) -> Dataset:
    part = part.cast_column(columns.audio, Audio(decode=False))
    part = part.remove_columns([name for name in columns.discarded if name in part.column_names])
    for old, new in ((columns.audio, "audio"), (columns.label, columns.task.label_column)):
        part = part if old == new else part.rename_column(old, new)
    return part


def _read_labels(part: Dataset, split: str, columns: _HubColumns) -> list[list[str]]:
    cells = enumerate(part[columns.task.label_column])
    return [columns.read_labels(cell, _place(split, number, columns.label)) for number, cell in cells]


def _place(split: str, number: int, column: str) -> str:
    """Return the place of a cell for messages, with `number + 1` as its row."""
    return f"split {split!r} row {number + 1}, column {column!r}"


def _with_labels(
    part: Dataset, split: str, rows: list[list[str]], classes: LabelSet, columns: _HubColumns
) -> Dataset:
    """Return a split with its labels as indices, without the clips whose labels were all dropped."""
    indices = [
        list(dict.fromkeys(classes.index(name, _place(split, number, columns.label)) for name in names))
        for number, names in enumerate(rows)
    ]
    column = columns.task.label_column
    cells: list[Any] = indices
    if columns.task is Task.SINGLE_LABEL:
        cells = [row[0] if row else None for row in indices]
    encoded = part.remove_columns(column).add_column(column, cells, feature=columns.feature(classes))
    labelled = [number for number, row in enumerate(indices) if row]
    return encoded if len(labelled) == len(indices) else encoded.select(labelled)


def _by_fold(splits: DatasetDict, options: ReadingOptions) -> DatasetDict:
    fold = options.fold
    assert fold is not None
    clips = datasets.concatenate_datasets(list(splits.values()))
    folds = list(clips[fold.column])
    fold.check_not_empty(folds)
    numbers: dict[str, list[int]] = {"train": [], "test": []}
    for number, value in enumerate(folds):
        numbers[fold.split({fold.column: value})].append(number)
    return DatasetDict({split: clips.select(rows) for split, rows in numbers.items()})


@dataclass(frozen=True)
class _RowEncoder:
    """Converts rows of a stream to our form; the label is None if all labels of a row are dropped."""

    split: str
    columns: _HubColumns
    classes: LabelSet

    def __call__(self, row: Row, number: int) -> Row:
        columns = self.columns
        where = _place(self.split, number, columns.label)
        indices = [self.classes.index(name, where) for name in columns.read_labels(row[columns.label], where)]
        cell: Any = indices or None
        if indices and columns.task is Task.SINGLE_LABEL:
            cell = indices[0]
        return {"audio": row[columns.audio], columns.task.label_column: cell}


@dataclass(frozen=True)
class _RowFilter:
    """Selects rows of a stream with a label and, unless `split` is None, in a split."""

    columns: _HubColumns
    split: str | None

    def __call__(self, row: Row) -> bool:
        fold = self.columns.options.fold
        if fold is not None and self.split is not None and fold.split(row) != self.split:
            return False
        return row[self.columns.task.label_column] is not None


def _encode_streams(splits: IterableDatasetDict, columns: _HubColumns) -> IterableDatasetDict:
    """Return streams in our form; raise E208 if their classes are not declared."""
    classes = columns.options.labels.known_classes(columns.class_order)
    if classes is None:
        what = "are plain text or numbers, so the classes are unknown before the end of the stream"
        fix = "give class_labels=, or read it whole"
        raise error("E208", where=f"column {columns.label!r}", what=what, fix=fix)
    streams = {split: _encode_stream(part, split, columns, classes) for split, part in splits.items()}
    if columns.options.fold is None:
        labelled = _RowFilter(columns, None)
        return IterableDatasetDict({split: part.filter(labelled) for split, part in streams.items()})
    clips = datasets.concatenate_datasets(list(streams.values()))
    filters = {split: _RowFilter(columns, split) for split in ("train", "test")}
    return IterableDatasetDict({split: clips.filter(row_filter) for split, row_filter in filters.items()})


def _encode_stream(
    part: IterableDataset, split: str, columns: _HubColumns, classes: LabelSet
) -> IterableDataset:
    removed = {columns.audio, columns.label, *columns.discarded}
    others = {name: feature for name, feature in part.features.items() if name not in removed}
    features = Features({"audio": STORED, columns.task.label_column: columns.feature(classes), **others})
    stored = part.cast_column(columns.audio, STORED)
    surplus = [name for name in part.features if name not in features]
    encoder = _RowEncoder(split, columns, classes)
    return stored.map(encoder, with_indices=True, remove_columns=surplus, features=features)
