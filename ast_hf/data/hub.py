"""How does a data set on the Hub become labelled splits? Downloaded or streamed; its audio is not decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants

from ..errors import did_you_mean, error, nearest
from ..hub.access import reach
from ..weights.checkpoints import missing_path
from .conventions import BOUNDARIES, LABEL_COLUMNS, Row
from .features import STORED, class_feature
from .folds import fold_name
from .labels import LabelSet
from .option_spelling import option
from .reading_options import Reading, check_fold, no_fold_column


@dataclass(frozen=True)
class _Columns:
    """Which columns of a data set are the audio and the labels, and how its labels are written."""

    audio: str
    label: str
    kind: ClassLabel | None
    several: bool
    reading: Reading

    @property
    def target(self) -> str:
        return "labels" if self.several else "label"

    @property
    def discarded(self) -> list[str]:
        """Columns in the way: of the names that ours will have, or boundaries that mean something else."""
        ours = {"audio", "label", "labels"} - {self.audio, self.label}
        return [*ours, *(() if self.reading.boundaries else BOUNDARIES)]

    def labels(self, value: Any, where: str) -> list[str]:
        """The labels of a cell by name."""
        if value is None or (self.kind and value == -1):
            raise error("E208", where=where, what="has no label", fix="give it a label or remove the row")
        if self.kind is None:
            return self.reading.label_list(value, where)
        numbers = value if isinstance(value, list) else [value]
        return self.reading.label_list([self.kind.names[number] for number in numbers], where)

    def own_names(self) -> list[str] | None:
        """Class names in the data set's order, where it has one."""
        return [name for name in self.kind.names if name not in self.reading.dropped] if self.kind else None

    def feature(self, labels: LabelSet) -> Any:
        kind = ClassLabel(names=labels.names)
        return [kind] if self.several else kind


def read_hub(
    name: str, config: list[str], merge: Mapping[str, Sequence[str]] | None, streaming: bool, reading: Reading
) -> DatasetDict | IterableDatasetDict:
    """Splits of a data set on the Hub in the shape of `load_audio_dataset`.

    Args:
        name: of the data set.
        config: its configuration, where it has several.
        merge: split -> its splits that it is made of; None for its own.
        streaming: whether it is read while it is used, instead of downloaded.
        reading: what was asked for.

    Raises:
        AstDataError: E206 for a path that is not there, E208 for columns and labels (naming split and row), E209 for
            splits and folds that are not there.
        AstConfigError: E702 for a data set that is not there, or not for this token.
        AstRunError: E701 and E704 when the Hub does not let us, or cannot be reached.
    """
    _check_no_path(name)
    splits = reach(lambda: _load(name, config, streaming), where=f"data set {name!r}")
    for part in (part for parts in (merge or {}).values() for part in parts if part not in splits):
        raise error("E209", where=f"split {part!r}", what="does not exist", fix=did_you_mean(part, splits))
    if merge:
        splits = type(splits)(
            {split: datasets.concatenate_datasets([splits[part] for part in parts]) for split, parts in merge.items()}
        )
    columns = _find_columns(name, next(iter(splits.values())).features, reading)
    read = _encode_streams if streaming else _encode_stored
    return read(splits, columns)


def _check_no_path(name: str) -> None:
    """Raise E206, without asking the Hub, for what can only be a path of something that is not here."""
    from .catalog import KNOWN_SETS  # which reads by `data`, and that by this module

    told = None if "://" in name else missing_path(name, cached=_is_cached(name))
    if told is None:
        return
    what, fix = told
    known = nearest(name, KNOWN_SETS)
    if name in KNOWN_SETS:
        fix = f"read it by load_audio_dataset(**find_data_set({name!r}))"
    elif not fix.endswith("?"):
        fix = f"did you mean {known!r}?" if known else f"{fix}, or one of {', '.join(KNOWN_SETS)}"
    raise error("E206", where=repr(name), what=what, fix=fix)


def _is_cached(name: str) -> bool:
    """Whether a data set of the Hub is here already: its files, or what `datasets` made of them."""
    files = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
    return files.is_dir() or Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()


def _load(name: str, config: list[str], streaming: bool) -> DatasetDict | IterableDatasetDict:
    try:
        return datasets.load_dataset(name, *config, **({"streaming": True} if streaming else {}))
    except DatasetNotFoundError as problem:
        fix = "check the name, of a folder too; for a private one log in with `hf auth login`, or set HF_TOKEN"
        raise error("E702", where=repr(name), what=str(problem).rstrip("."), fix=fix) from None
    except ConnectionError as problem:
        if not datasets.config.HF_HUB_OFFLINE:
            raise
        what = "is not in the cache, and HF_HUB_OFFLINE forbids to reach the Hub"
        raise error("E704", where=f"data set {name!r}", what=what, fix="unset it") from problem
    except ValueError as problem:  # no configuration was named, or one that does not exist
        what = " ".join(str(problem).split())[:300]
        if "config" not in what.lower():
            raise
        raise error("E209", where=f"data set {name!r}", what=what, fix="name one with config_name") from problem


def _find_columns(name: str, features: Features | None, reading: Reading) -> _Columns:
    where = f"data set {name!r}"
    if features is None:
        what = "does not say which columns it has before it is read"
        raise error("E208", where=where, what=what, fix="read it without streaming")
    sounding = [column for column, feature in features.items() if isinstance(feature, Audio)]
    audio = reading.audio_column or (sounding[0] if sounding else None)
    label = reading.label_column or next((column for column in LABEL_COLUMNS if column in features), None)
    for column, found, argument in (("audio", audio, "audio_column"), ("label", label, "label_column")):
        if found not in features:
            named = f" {found!r}" if found else ""
            what = f"has no {column} column{named}; its columns are {', '.join(features)}"
            raise error("E208", where=where, what=what, fix=f"name it with {option(argument)}")
    if reading.test_fold is not None and reading.fold_column not in features:
        raise no_fold_column(where, features, reading)
    assert audio is not None
    assert label is not None
    several = not isinstance(features[label], (ClassLabel, Value)) or reading.separator is not None
    return _Columns(audio, label, class_feature(features[label]), several, reading)


def _encode_stored(splits: DatasetDict, columns: _Columns) -> DatasetDict:
    """Downloaded splits in our shape. Only the labels are rewritten: the audio stays where it is."""
    reading = columns.reading
    renamed = DatasetDict({split: _renamed(part, columns) for split, part in splits.items()})
    if columns.kind is None or reading.labels or reading.dropped or reading.separator:
        read = {split: _read_labels(part, split, columns) for split, part in renamed.items()}
        own = columns.own_names() or sorted({name for rows in read.values() for row in rows for name in row})
        labels = reading.labels or LabelSet(own)
        renamed = DatasetDict(
            {split: _with_labels(part, split, read[split], labels, columns) for split, part in renamed.items()}
        )
    return renamed if reading.test_fold is None else _by_fold(renamed, reading)


def _renamed(part: Dataset, columns: _Columns) -> Dataset:
    part = part.cast_column(columns.audio, Audio(decode=False))
    part = part.remove_columns([name for name in columns.discarded if name in part.column_names])
    for old, new in ((columns.audio, "audio"), (columns.label, columns.target)):
        part = part if old == new else part.rename_column(old, new)
    return part


def _read_labels(part: Dataset, split: str, columns: _Columns) -> list[list[str]]:
    values = enumerate(part[columns.target])
    return [columns.labels(value, _place(split, number, columns.label)) for number, value in values]


def _place(split: str, number: int, column: str) -> str:
    return f"split {split!r} row {number + 1}, column {column!r}"


def _with_labels(part: Dataset, split: str, read: list[list[str]], labels: LabelSet, columns: _Columns) -> Dataset:
    """A split with its labels as indices, without the clips whose labels were all dropped."""
    indices = [
        list(dict.fromkeys(labels.index(name, _place(split, number, columns.label)) for name in names))
        for number, names in enumerate(read)
    ]
    cells: list[Any] = indices if columns.several else [row[0] if row else None for row in indices]
    encoded = part.remove_columns(columns.target).add_column(columns.target, cells, feature=columns.feature(labels))
    kept = [number for number, row in enumerate(indices) if row]
    return encoded if len(kept) == len(indices) else encoded.select(kept)


def _by_fold(splits: DatasetDict, reading: Reading) -> DatasetDict:
    clips = datasets.concatenate_datasets(list(splits.values()))
    folds = [fold_name(fold) for fold in clips[reading.fold_column]]
    check_fold(folds, reading)
    chosen: dict[str, list[int]] = {"train": [], "test": []}
    for number, fold in enumerate(folds):
        chosen["test" if fold == reading.test_fold else "train"].append(number)
    return DatasetDict({split: clips.select(numbers) for split, numbers in chosen.items()})


@dataclass(frozen=True)
class _StreamRow:
    """A row of a stream -> a row in our shape; its labels are None where all of them were dropped."""

    split: str
    columns: _Columns
    label_set: LabelSet

    def __call__(self, row: Row, number: int) -> Row:
        where = _place(self.split, number, self.columns.label)
        indices = [self.label_set.index(name, where) for name in self.columns.labels(row[self.columns.label], where)]
        cell = (indices if self.columns.several else indices[0]) if indices else None
        return {"audio": row[self.columns.audio], self.columns.target: cell}


@dataclass(frozen=True)
class _Kept:
    """Whether a row of a stream has a label, and is in the fold or in another."""

    columns: _Columns
    in_fold: bool | None

    def __call__(self, row: Row) -> bool:
        reading = self.columns.reading
        fold = self.in_fold is None or (fold_name(row[reading.fold_column]) == reading.test_fold) is self.in_fold
        return fold and row[self.columns.target] is not None


def _encode_streams(splits: IterableDatasetDict, columns: _Columns) -> IterableDatasetDict:
    """Streams in our shape. Nothing is read yet, so the classes have to be known."""
    names = columns.own_names()
    labels = columns.reading.labels or (LabelSet(names) if names else None)
    if labels is None:
        what = "are plain text or numbers, and a stream does not tell which there are before its end"
        raise error("E208", where=f"column {columns.label!r}", what=what, fix="give class_labels=, or read it whole")
    streams = {split: _encode_stream(part, split, columns, labels) for split, part in splits.items()}
    if columns.reading.test_fold is not None:
        clips = datasets.concatenate_datasets(list(streams.values()))
        return IterableDatasetDict(
            {split: clips.filter(_Kept(columns, split == "test")) for split in ("train", "test")}
        )
    return IterableDatasetDict({split: part.filter(_Kept(columns, None)) for split, part in streams.items()})


def _encode_stream(part: IterableDataset, split: str, columns: _Columns, labels: LabelSet) -> IterableDataset:
    gone = {columns.audio, columns.label, *columns.discarded}
    kept = {name: feature for name, feature in part.features.items() if name not in gone}
    features = Features({"audio": STORED, columns.target: columns.feature(labels), **kept})
    stored = part.cast_column(columns.audio, STORED)
    removed = [name for name in part.features if name not in features]
    return stored.map(_StreamRow(split, columns, labels), with_indices=True, remove_columns=removed, features=features)
