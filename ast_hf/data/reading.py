"""Labelled audio from anywhere: label folders, tables, data sets on the Hub -> one shape of `DatasetDict`.

Every split has the columns `audio` (path or bytes, not decoded: `ast_hf.load_audio` does that, so no torchcodec is
needed) and `label` (a `ClassLabel`) or, for multi-label data, `labels` (a list of them). Columns `start` and `end`, in
seconds, bound the clip within its file. Other columns are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, Value

from ..errors import error, refuse
from .conventions import BOUNDARIES
from .features import STORED
from .folds import fold_name
from .hub import read_hub
from .labels import LabelSet, read_class_labels, warn_of_labels
from .reading_options import Reading, check_fold
from .sources import Source, _parts, is_local, read_source
from .splits import is_multi_label  # noqa: F401
from .table_clips import _Clip, _Columns
from .tables import Table, read_split_list

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
