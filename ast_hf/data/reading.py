"""Labelled audio from anywhere: label folders, tables, data sets on the Hub -> one shape of `DatasetDict`.

Every split has the columns `audio` (path or bytes, not decoded: `ast_hf.load_audio` does that, so no torchcodec is
needed) and `label` (a `ClassLabel`) or, for multi-label data, `labels` (a list of them). Columns `start` and `end`, in
seconds, bound the clip within its file. Other columns are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value

from ..errors import did_you_mean, error, refuse
from .hub import read_hub
from .label_folders import read_source
from .layouts import ClipNames, clips_below, where_clips_are
from .tables import (
    BOUNDARIES,
    LABEL_COLUMNS,
    NO_BOUNDARIES,
    PATH_COLUMNS,
    STORED,
    LabelSet,
    Reading,
    Row,
    Source,
    Table,
    boundary,
    check_fold,
    fold_name,
    is_local,
    no_fold_column,
    read_class_labels,
    read_split_list,
    such_rows,
    warn_of_labels,
)

#: Shards of a stream that is made of local files: enough for the ranks and workers of one machine.
LOCAL_SHARDS = 64


def load_audio_dataset(
    source: Source,
    *,
    audio_column: str | None = None,
    label_column: str | None = None,
    split_column: str = "split",
    label_separator: str | None = None,
    class_labels: str | PathLike | Sequence[str] | None = None,
    drop_labels: Sequence[str] = (),
    test_fold: int | str | None = None,
    fold_column: str = "fold",
    split_lists: Mapping[str, str | PathLike] | None = None,
    audio_root: str | PathLike | None = None,
    clip_boundaries: bool = True,
    check_files: bool = True,
    config_name: str | None = None,
    merge_splits: Mapping[str, Sequence[str]] | None = None,
    streaming: bool = False,
) -> DatasetDict | IterableDatasetDict:
    """Read labelled audio.

    Args:
        source: one of
            - a folder of label folders (`cat/1.wav`), with or without split folders above them (`train/cat/1.wav`),
            - a folder with `metadata.csv`, `.jsonl` or `.parquet` (`file_name`, label, optional split column),
            - a CSV, TSV, JSONL or JSON file of paths and labels, or the original AST repository's JSON,
            - a Parquet file of paths, or of embedded audio as `datasets` writes it,
            - a list of those, or a mapping from splits to one or more of those,
            - the name of a data set on the Hub with an audio column.
        audio_column: column of the paths or the audio; found by its usual names when None.
        label_column: column of the labels; found by its usual names when None.
        split_column: column that names each row's split; without it everything is `"train"`.
        label_separator: what separates the labels of one clip, for multi-label tables (`"dog;bark"`); a list is
            multi-label by itself.
        class_labels: the classes in their order: a CSV of `index,mid,display_name` (rows may use either name), a text
            file of one name a line, or the names. None for the data's own, sorted where they have no order.
        drop_labels: labels that are left out, and with them the clips that have no other.
        test_fold: the fold that becomes the split `"test"`; all others are `"train"`. None to split otherwise.
        fold_column: column of the folds.
        split_lists: split -> text file of the paths in it, one a line; the others keep their split.
        audio_root: folder that paths are relative to, or that names alone are below; the table's own when None.
            Backslashes are read as slashes where only that finds a file.
        clip_boundaries: read columns `start` and `end` as seconds within the file; False drops such columns.
        check_files: raise for paths that do not exist, rather than when they are read (unless all lie elsewhere).
        config_name: configuration of a data set on the Hub.
        merge_splits: split -> the splits on the Hub that it is made of; None for those that there are.
        streaming: give streams (`IterableDatasetDict`, audio as bytes and path) instead of downloading everything.

    Returns:
        DatasetDict as the module describes; the label names are the same in all splits. What label folders leave out
        is warned about (W205), and so are labels of local files that look like several (W206) or like another (W207).

    Raises:
        AstDataError: E206 for missing paths, E208 for columns, labels (folders of splits or folds are none) and
            boundaries, E209 for splits and classes that are empty.
        AstInputError: E108 for arguments about local files with a data set on the Hub, or the other way round.
        AstHfError: E701, E702 and E704 for a name that the Hub does not have, or not for this token, and for a Hub that
            cannot be reached.
    """
    reading = Reading(
        audio_column=audio_column,
        label_column=label_column,
        split_column=split_column,
        separator=label_separator,
        labels=None if class_labels is None else read_class_labels(class_labels),
        dropped=frozenset(drop_labels),
        test_fold=None if test_fold is None else fold_name(test_fold),
        fold_column=fold_column,
        lists={split: read_split_list(path) for split, path in (split_lists or {}).items()},
        root=None if audio_root is None else Path(audio_root),
        boundaries=clip_boundaries,
        check_files=check_files,
    )
    name = source if isinstance(source, str) and not is_local(source) else None
    about_files = {"split_lists": split_lists, "audio_root": audio_root}
    _refuse_unused(name is not None, about_files, {"config_name": config_name, "merge_splits": merge_splits})
    if name is not None:
        return read_hub(name, [config_name] if config_name else [], merge_splits, streaming, reading)
    splits = _from_tables([(split, read_source(part, reading.labels)) for split, part in _parts(source)], reading)
    return _as_streams(splits) if streaming else splits


def _refuse_unused(on_hub: bool, about_files: dict[str, Any], about_hub: dict[str, Any]) -> None:
    """Raise E108 for the first argument that is about the other kind of source."""
    kind, given = ("a data set on the Hub", about_files) if on_hub else ("local files", about_hub)
    cases = {(name, f"has no effect on {kind}", "leave it out"): value for name, value in given.items()}
    refuse("E108", cases)


def label_names(dataset: Dataset | IterableDataset) -> list[str]:
    """Names of the classes of a split of `load_audio_dataset`, by index."""
    feature = dataset.features["labels" if "labels" in dataset.column_names else "label"]
    return list(getattr(feature, "feature", feature).names)


def is_multi_label(dataset: Dataset | IterableDataset) -> bool:
    """Whether clips may have several labels."""
    return "labels" in dataset.column_names


def check_splits(splits: DatasetDict | IterableDatasetDict, train: str, evaluation: Iterable[str]) -> None:
    """Raise E209 when a split is missing or empty, or the training split has fewer than two classes."""
    for name in (train, *evaluation):
        if name not in splits:
            raise error("E209", where=f"split {name!r}", what="does not exist", fix=did_you_mean(name, splits))
        if isinstance(splits[name], Dataset) and not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="add clips or leave it out")
    names = label_names(splits[train])
    if len(names) < 2:
        what = f"has {len(names)} class ({', '.join(names)}), there is nothing to tell apart"
        raise error("E209", where=f"split {train!r}", what=what, fix="give clips of at least two classes")
    if not isinstance(splits[train], Dataset):
        return  # a stream is not counted: that would be reading all of it
    counts = label_counts(splits[train])
    missing = [name for index, name in enumerate(names) if not counts[index]]
    if missing:
        what = f"has no clip of {', '.join(missing[:5])}"
        fix = "add clips, or drop the class; where clips were held out, hold out others"
        raise error("E209", where=f"split {train!r}", what=what, fix=fix)


def label_counts(dataset: Dataset) -> Counter[int]:
    """Clips of each class index."""
    if is_multi_label(dataset):
        return Counter(index for labels in dataset["labels"] for index in labels)
    return Counter(dataset["label"])


def hold_out(dataset: Dataset, fraction: float, *, group_column: str | None, seed: int) -> DatasetDict:
    """Split clips into `train` and `validation`, keeping whole groups (speakers, recordings) on one side.

    Single-label data are stratified. Without a group column rows are split, which overstates accuracy where clips of
    one source resemble each other. A stream cannot be split: E209.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

    if not isinstance(dataset, Dataset):
        what = "cannot hold out clips of a stream"
        raise error("E209", where="validation_fraction", what=what, fix="give a validation split, or do not stream")
    classes = None if is_multi_label(dataset) else dataset["label"]
    groups = _groups(dataset, group_column)
    for index, count in () if classes is None else label_counts(dataset).items():
        if count < 2:
            what = f"{label_names(dataset)[index]!r} has a single clip, which cannot stand on both sides"
            raise error("E209", where="validation_fraction", what=what, fix="add clips, or drop the class")
    if groups is not None and classes is not None:
        folds = min(max(2, round(1 / fraction)), len(set(groups)))
        splitter: Any = StratifiedGroupKFold(n_splits=max(2, folds), shuffle=True, random_state=seed)
    else:
        kind = GroupShuffleSplit if groups is not None else StratifiedShuffleSplit if classes else ShuffleSplit
        splitter = kind(n_splits=1, test_size=fraction, random_state=seed)
    try:
        train, validation = next(splitter.split(range(len(dataset)), classes, groups))
    except ValueError as problem:
        fix = "add clips or groups, hold out another share, or give a validation split of your own"
        raise error(
            "E209", where="validation_fraction", what=f"cannot hold out {fraction}: {problem}", fix=fix
        ) from None
    return DatasetDict(train=dataset.select(train), validation=dataset.select(validation))


def fold_names(splits: DatasetDict, column: str) -> list[str]:
    """The folds that a column names, numbers in their order; raises E208 for clips that are in none."""
    named: set[str] = set()
    for split, part in splits.items():
        for row, value in enumerate(part[column], start=1):
            if value is None or str(value).strip() == "":
                where = f"split {split!r} row {row}, column {column!r}"
                raise error("E208", where=where, what="has no fold", fix="give it a fold or remove the row")
            named.add(fold_name(value))
    return sorted(named, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def random_fold(
    dataset: Dataset, test_fold: int | str, count: int, *, group_column: str | None, seed: int
) -> DatasetDict:
    """One of `count` random folds as the split `test`, the others as `train`.

    Args:
        dataset: all clips. Single-label ones are stratified.
        test_fold: the fold, from 1 to `count`; all folds of one seed and count belong together.
        count: how many there are.
        group_column: column (speaker, recording) whose values stay together; None to draw clip by clip.
        seed: draws them; folds of groups of multi-label clips are the same for every seed.

    Raises:
        AstDataError: E208 for an unknown column, E209 for too few clips or groups and for a fold that there is not.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    names = [str(number) for number in range(1, count + 1)]
    if fold_name(test_fold) not in names:
        raise error("E209", where="test_fold", what=f"{test_fold!r} is no fold", fix=f"name one from 1 to {count}")
    groups = _groups(dataset, group_column)
    if len(units := range(len(dataset)) if groups is None else set(groups)) < count:
        what = f"{len(units)} {'clips' if groups is None else f'values of {group_column!r}'} do not make {count} folds"
        raise error("E209", where="folds", what=what, fix="add some, or make fewer folds")
    classes, drawn = None if is_multi_label(dataset) else dataset["label"], {"shuffle": True, "random_state": seed}
    kinds: dict[tuple[bool, bool], Any] = {
        (True, True): lambda: StratifiedGroupKFold(count, **drawn),
        (True, False): lambda: StratifiedKFold(count, **drawn),
        (False, True): lambda: GroupKFold(count),
        (False, False): lambda: KFold(count, **drawn),
    }
    splitter = kinds[classes is not None, groups is not None]()
    try:
        parts = list(splitter.split(range(len(dataset)), classes, groups))
    except ValueError as problem:
        what = f"cannot make {count}: {problem}"
        raise error("E209", where="folds", what=what, fix="add clips or make fewer folds") from None
    train, test = parts[names.index(fold_name(test_fold))]
    return DatasetDict(train=dataset.select(train), test=dataset.select(test))


def _groups(dataset: Dataset, column: str | None) -> Any:
    """The values of a column whose clips have to stay together; raises E208 for an unknown column, and for gaps."""
    if column is not None and column not in dataset.column_names:
        fix = did_you_mean(column, dataset.column_names)
        raise error("E208", where="validation_group", what=f"there is no column {column!r}", fix=fix)
    groups = list(dataset[column]) if column else None
    if groups is not None and None in groups:
        where = f"row {groups.index(None) + 1}, column {column!r}"
        raise error("E208", where=where, what="has no value", fix="give it one, its own where it belongs to no group")
    return groups


def _parts(source: Source) -> list[tuple[str | None, str | PathLike]]:
    """(split, file or folder) of every part of a source; the split is None where the rows decide."""
    parts: list[tuple[str | None, str | PathLike]]
    if isinstance(source, Mapping):
        parts = [(split, part) for split, files in source.items() for _, part in _parts(files)]
    elif isinstance(source, (str, PathLike)):
        parts = [(None, source)]
    else:
        parts = [(None, part) for part in source]
    if not parts:
        raise error("E209", where="source", what="names no file", fix="give at least one table or folder")
    return parts


class _Clip(NamedTuple):
    """A row that was understood; `sounds` is the table's embedded audio, None where `path` is a file."""

    where: str
    number: int
    split: str
    path: str
    sounds: Dataset | None
    labels: list[str]
    others: Row


def _from_tables(parts: list[tuple[str | None, Table]], reading: Reading) -> DatasetDict:
    columns = [_Columns(table, split, reading) for split, table in parts]
    clips = [clip for part in columns for clip in part.clips() if clip.labels]
    if not clips:
        fix = "leave out fewer labels"
        raise error("E209", where=parts[0][1].where, what="has no clip of another label than drop_labels", fix=fix)
    if reading.test_fold is not None:
        check_fold([row[reading.fold_column] for _, table in parts for row in table.rows], reading)
    several = reading.separator is not None or any(part.holds_lists for part in columns)
    labels = reading.labels or LabelSet(_names([part.own_names for part in columns], clips, reading))
    if reading.labels is None:
        where = repr(parts[0][1].where) + (f" and {len(parts) - 1} more" if len(parts) > 1 else "")
        warn_of_labels({label for clip in clips for label in clip.labels}, where, separable=not several)
    others = list(dict.fromkeys(name for clip in clips for name in clip.others))
    by_split: dict[str, list[_Clip]] = {}
    for clip in clips:
        by_split.setdefault(clip.split, []).append(clip)
    return DatasetDict({split: _encode(part, labels, several, others) for split, part in by_split.items()})


class _Columns:
    """What the columns of a table mean; raises E206 and E208 for rows that are not to be trained on."""

    def __init__(self, table: Table, split: str | None, reading: Reading) -> None:
        self.table, self.split, self.reading = table, split, reading
        self.audio = table.column(reading.audio_column, PATH_COLUMNS, "audio_column")
        self.label = table.column(reading.label_column, LABEL_COLUMNS, "label_column")
        self.root = reading.root or table.root
        self._clip_names: ClipNames | None = None
        self.sounds, self.own_names = table.sounds(self.audio), table.names.get(self.label)
        self.holds_lists = any(isinstance(row.get(self.label), list) for row in table.rows)
        self._check_rows()
        self._paths = [self._path(row) for row in table.rows]
        if self.sounds is None:
            self._check_files()

    def clips(self) -> Iterator[_Clip]:
        """Every row, in order."""
        for number, row in enumerate(self.table.rows, start=1):
            where = f"{self.table.where} row {number}"
            path = self._paths[number - 1]
            split = self.reading.split(row, {Path(path).as_posix(), str(row.get(self.audio))}, self.split)
            full = str((self.root / path).resolve()) if self.sounds is None else path
            labels = self.reading.label_list(row[self.label], f"{where}, column {self.label!r}")
            yield _Clip(where, number, split, full, self.sounds, labels, self._others(row, where))

    def _others(self, row: Row, where: str) -> Row:
        """The columns that are kept as they are, as text; the boundaries as numbers."""
        taken = {self.audio, self.label, "audio", "label", "labels", *BOUNDARIES}
        others = {name: None if value is None else str(value) for name, value in row.items() if name not in taken}
        bounded = self.reading.boundaries and any(name in row for name in BOUNDARIES)
        return others | _boundaries(row, where) if bounded else others

    def _check_rows(self) -> None:
        rows = dict(enumerate(self.table.rows, start=1))
        if unlabelled := [number for number, row in rows.items() if not self._is_labelled(row)]:
            where = f"{self.table.where} row {unlabelled[0]}, column {self.label!r}"
            fix = "give it a label or remove the row"
            raise error("E208", where=where, what=f"has no label{such_rows(unlabelled)}", fix=fix)
        for number, row in rows.items():
            if self.reading.test_fold is not None and row.get(self.reading.fold_column) in (None, ""):
                raise no_fold_column(f"{self.table.where} row {number}", row, self.reading)

    def _check_files(self) -> None:
        """Raise E206 for files that are not there; without `check_files` only if all lie in another folder nearby."""
        rows = range(1, len(self._paths) + 1)
        missing = [row for row, path in zip(rows, self._paths, strict=True) if not self._may_be_read(path)]
        lost = len(missing) == len(rows) if self.reading.check_files else not any(map(self._is_there, self._paths))
        elsewhere = where_clips_are(self._paths, self.root, self._bounded_rows()) if lost else None
        if elsewhere:
            missing = list(rows)
        if missing:
            where = f"{self.table.where} row {missing[0]}, column {self.audio!r}"
            what = f"{self.table.rows[missing[0] - 1].get(self.audio)!r} does not exist{such_rows(missing)}"
            raise error("E206", where=where, what=what, fix=self._how_to_find(missing[0], elsewhere))

    def _bounded_rows(self) -> list[Row]:
        """Return the rows whose boundaries are read."""
        return self.table.rows if self.reading.boundaries else []

    def _how_to_find(self, row: int, elsewhere: str | None) -> str:
        """Return what to do about a row whose file is not where it says; `elsewhere` is how to read all of them."""
        alike = self._clip_names.find(self._paths[row - 1]) if self._clip_names else []
        if len(alike) > 1:
            return f"{len(alike)} files below {str(self.root)!r} are called so; write their paths relative to it"
        return elsewhere or f"paths are taken relative to {str(self.root)!r}; correct them or remove the rows"

    def _is_labelled(self, row: Row) -> bool:
        return bool(self.reading.written_labels(row.get(self.label)))

    def _is_there(self, path: str) -> bool:
        return bool(path) and (self.root / path).is_file()

    def _may_be_read(self, path: str) -> bool:
        return self._is_there(path) if self.reading.check_files else bool(path)

    def _path(self, row: Row) -> str:
        """Return the path of a row from the root on.

        That is what the row says; with slashes for backslashes, or that of the only file of this name below
        `audio_root`, where only these find a file.
        """
        path = str(row.get(self.audio) or "")
        if self.sounds is not None or not path:
            return path
        slashed = path.replace("\\", "/")
        if slashed != path and not (self.root / path).exists() and self._is_there(slashed):
            return slashed
        if self.reading.root is None or self._is_there(path):
            return path
        if self._clip_names is None:
            self._clip_names = ClipNames(clips_below(self.root))
        return self._clip_names.below(self.root, path) or path


def _boundaries(row: Row, where: str) -> Row:
    """`start` and `end` in seconds; raises E208 naming the row when they are no stretch of time."""
    start, end = (boundary(row, name, where) for name in BOUNDARIES)
    if end is not None and end <= (start or 0.0):
        what = f"ends at {end:g} s, which is not after its start at {start or 0.0:g} s"
        fix = f"give seconds, the end after the start; {NO_BOUNDARIES}"
        raise error("E208", where=where, what=what, fix=fix)
    return {"start": start, "end": end}


def _names(orders: list[list[str] | None], clips: list[_Clip], reading: Reading) -> list[str]:
    """Class names in the order that all tables give, or sorted."""
    if orders[0] is not None and all(order == orders[0] for order in orders):
        return [name for name in orders[0] if name not in reading.dropped]
    return sorted({name for clip in clips for name in clip.labels})


def _encode(clips: list[_Clip], labels: LabelSet, several: bool, others: list[str]) -> Dataset:
    """The clips of one split."""
    by_table = groupby(clips, key=lambda clip: id(clip.sounds))
    parts = [_encode_part(list(part), labels, several, others) for _, part in by_table]
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _encode_part(clips: list[_Clip], labels: LabelSet, several: bool, others: list[str]) -> Dataset:
    """Those of one table. Embedded audio is not copied: labels stand beside all its rows, which are then selected."""
    column, kind = "labels" if several else "label", ClassLabel(names=labels.names)
    indices = [list(dict.fromkeys(labels.index(label, clip.where) for label in clip.labels)) for clip in clips]
    cells: dict[str, list[Any]] = {column: indices if several else [index for (index,) in indices]}
    cells |= {name: [clip.others.get(name) for clip in clips] for name in others}
    features = Features({column: [kind] if several else kind})
    features |= {name: Value("float64" if name in BOUNDARIES else "string") for name in others}
    sounds = clips[0].sounds
    if sounds is None:
        cells, features = {"audio": [clip.path for clip in clips], **cells}, Features(audio=Value("string"), **features)
        return Dataset.from_dict(cells, features=features).cast_column("audio", Audio(decode=False))
    numbers = [clip.number - 1 for clip in clips]
    beside = {name: _spread(values, numbers, len(sounds)) for name, values in cells.items()}
    return datasets.concatenate_datasets([sounds, Dataset.from_dict(beside, features=features)], axis=1).select(numbers)


def _spread(values: list[Any], numbers: list[int], length: int) -> list[Any]:
    """A column of so many rows that has the values in the rows of those numbers, and None in the others."""
    column: list[Any] = [None] * length
    for number, value in zip(numbers, values, strict=True):
        column[number] = value
    return column


def _as_streams(splits: DatasetDict) -> IterableDatasetDict:
    """Splits of local files as streams."""
    return IterableDatasetDict(
        {
            name: part.to_iterable_dataset(num_shards=min(len(part), LOCAL_SHARDS)).cast_column("audio", STORED)
            for name, part in splits.items()
        }
    )
