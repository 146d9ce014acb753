"""Labelled audio from any source as a `DatasetDict` of one form: label folders, tables, data sets on the Hub.

Every split has the columns `audio` (path or bytes, not decoded: `ast_hf.load_audio` does that, so no
torchcodec is needed) and `label` (a `ClassLabel`) or, for multi-label data, `labels` (a list of them).
Columns `start` and `end`, in seconds, bound the clip within its file. Other columns are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Audio, Dataset, DatasetDict, Features, IterableDatasetDict, Value

from ..errors import AstHfWarning, error, warning_text
from ..table_text import check_exists, check_regular
from ..task import Task
from .clip_paths import is_unicode
from .folder_tables import SplitTable
from .hub import read_hub
from .label_folders import read_label_folders, read_root_table
from .label_windows import WindowOptions, window_clips
from .labels import LabelSet, warn_of_labels
from .naming_conventions import BOUNDARIES, Source
from .publishing_rights import remember_outside
from .reading_arguments import check_arguments
from .reading_options import ReadingOptions
from .sources import is_local, source_parts
from .splits import STORED, label_feature
from .table_clips import Clip, TableClips
from .table_files import TableFiles
from .tables import Table, read_table
from .timed_recordings import Recordings, read_recordings

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
    window_seconds: float | None = None,
    window_hop_seconds: float | None = None,
    empty_windows: float | None = None,
    min_overlap: float | None = None,
    window_labels: str | None = None,
    recordings: str | PathLike | None = None,
    check_files: bool = True,
    config_name: str | None = None,
    merge_splits: Mapping[str, Sequence[str]] | None = None,
    streaming: bool = False,
) -> DatasetDict | IterableDatasetDict:
    """Read labelled audio.

    Args:
        source: a folder of label folders (`cat/1.wav`), with or without split folders above them
            (`train/cat/1.wav`); a folder with `metadata.csv`, `.jsonl` or `.parquet` (`file_name`, label,
            optional split column); a CSV, TSV, JSONL or JSON file of paths and labels, or the original AST
            repository's JSON; a Parquet file of paths, or of embedded audio as `datasets` writes it (files, or
            structs of `array` and `sampling_rate`); a list of those, or a mapping from splits to one or more
            of those; or the name of a data set on the Hub with an audio column.
        audio_column: column of the paths or the audio; None to detect it by its name.
        label_column: column of the labels; None to detect it by its name.
        split_column: column of each row's split; without it all rows are `"train"`.
        label_separator: separator of a clip's labels in multi-label tables (`"dog;bark"`); lists need none.
        class_labels: the classes in their order: a CSV of `index,mid,display_name` (rows may use either
            name), a text file of names, or the names. None for the data's order, else sorted, numbers by value.
        drop_labels: labels to leave out, together with the clips that have no other label.
        test_fold: the fold that becomes the split `"test"`, the others `"train"`; None to split otherwise.
        fold_column: column of the folds.
        split_lists: split -> text file of the paths in it, one a line; other clips keep their split.
        audio_root: folder that paths are relative to; None for the table's folder. A name without a folder is
            also searched for below it. Backslashes are read as slashes if only that leads to a file.
        clip_boundaries: read columns `start` and `end` as seconds within the file; False drops these columns.
        window_seconds: length of the windows to cut recordings into. Rows are then labels with times, as
            `load_timed_labels` reads them, and a window has the labels that are in it. None: a row is a clip.
        window_hop_seconds: seconds from window to window, at most `window_seconds`, the default.
        empty_windows: share of the windows without a label that every split keeps, in [0, 1]; None for 1.
        min_overlap: share of a sound, or of a window that is shorter, that must be in the window for the label
            to count, in [0, 1]; None for 0, any overlap.
        window_labels: `"overlap"` for the labels of the sounds in a window; `"centre"` for those at its middle,
            which suits sounds that are shorter than a window. None for `"overlap"`.
        recordings: table of all recordings, also of those without labels.
        check_files: raise for missing files now, not when they are read; False: only if all are elsewhere.
        config_name: configuration of a data set on the Hub.
        merge_splits: split -> splits on the Hub that it is made of; None for no change.
        streaming: return streams (`IterableDatasetDict`, audio as bytes and path), and download nothing.

    Returns:
        DatasetDict in the form described by the module, with the same label names in all splits. Warns of files
        and tables that are not read (W205), and in local files of labels that look like several (W206), another
        (W207) or none (W209), and of columns of times, labels or splits that are not read (W208).

    Raises:
        AstDataError: E206 for missing paths, E208 for columns, labels and times, E209 for empty splits.
        AstInputError: E107 for samples in place of files; E108 for arguments of a wrong type or out of range.
        AstHfError: E701, E702 and E704 for the Hub.
    """
    check_arguments(locals())
    windows = WindowOptions.of(window_seconds, window_hop_seconds, empty_windows, min_overlap, window_labels)
    return _load(source, locals(), windows)


def _load(
    source: Source, arguments: Mapping[str, Any], windows: WindowOptions | None
) -> DatasetDict | IterableDatasetDict:
    """Return the splits of a source on the Hub or on this machine."""
    options = ReadingOptions.of(arguments)
    local = {"split_lists", "audio_root", "window_seconds", "recordings"}
    remote = {"config_name", "merge_splits"}
    if isinstance(source, str) and not is_local(source):
        _check_unused("a data set on the Hub", {name: arguments[name] for name in sorted(local)})
        names = [arguments["config_name"]] if arguments["config_name"] else []
        return read_hub(source, names, arguments["merge_splits"], arguments["streaming"], options)
    _check_unused("local files", {name: arguments[name] for name in sorted(remote)})
    if windows is None:
        _check_unused("clips: it needs window_seconds", {"recordings": arguments["recordings"]})
        splits = _from_tables(_read_tables(source, options), options)
    else:
        if not options.clip_boundaries:
            what = "is False, and windows get their labels by times"
            fix = "leave it out, or leave out window_seconds"
            raise error("E108", where="clip_boundaries", what=what, fix=fix)
        splits = _from_recordings(read_recordings(source, options), windows, options)
    return _as_streams(splits) if arguments["streaming"] else splits


def _read_tables(source: Source, options: ReadingOptions) -> list[SplitTable]:
    """Return the tables of a source; the split that the caller gives a part decides over that of its folder."""
    names = ("audio_column", "label_column", "split_column")
    columns = {name: getattr(options, name) for name in names}
    tables: list[SplitTable] = []
    for split, part in source_parts(source):
        parts = read_source(part, options.labels.classes, columns)
        tables += [(split or own_split, table) for own_split, table in parts]
    return tables


def read_source(
    source: str | PathLike, labels: LabelSet | None, columns: Mapping[str, str | None]
) -> list[SplitTable]:
    """Return the rows of a table, of a folder with metadata files, or of a folder of label folders.

    Each part has the split of its folder, None if the rows decide. Folders that are named after `labels` are
    label folders. Raises E206 for a path that does not exist, E208 and E209 for one without labelled clips.
    """
    if "://" in str(source):
        fix = "download the files, and give their path"
        raise error("E206", where=repr(str(source)), what="is a URL, which is not downloaded", fix=fix)
    path = Path(source).expanduser()
    check_exists(path)
    if not path.is_dir():
        check_regular(path)
        return [(None, read_table(path))]
    table = read_root_table(path, columns)
    return read_label_folders(path, labels, columns) if table is None else [(None, table)]


def _check_unused(kind: str, arguments: Mapping[str, Any]) -> None:
    """Raise E108 for the first argument that is set."""
    for name, value in arguments.items():
        if value:
            raise error("E108", where=name, what=f"has no effect on {kind}", fix="leave it out")


def _from_tables(tables: list[tuple[str | None, Table]], options: ReadingOptions) -> DatasetDict:
    """Return the splits of (split of all rows or None, table) pairs."""
    parts = [TableClips(table, split, options) for split, table in tables]
    clips = [clip for part in parts for clip in part.clips() if clip.labels]
    _warn_of_outside([part.files for part in parts])
    for clip in clips:
        _check_unicode(clip)
    if not clips:
        what = "has no clip of another label than drop_labels"
        raise error("E209", where=tables[0][1].where, what=what, fix="drop fewer labels")
    if options.fold is not None:
        options.fold.check_not_empty(row[options.fold.column] for _, table in tables for row in table.rows)
    multi_label = options.labels.separator is not None or any(part.holds_lists for part in parts)
    task = Task.MULTI_LABEL if multi_label else Task.SINGLE_LABEL
    names = {label for clip in clips for label in clip.labels}
    if options.labels.classes is None:
        where = repr(tables[0][1].where) + (f" and {len(tables) - 1} more" if len(tables) > 1 else "")
        warn_of_labels(names, where, separable=not multi_label, clips=len(clips))
    classes = options.labels.all_classes(_common_order(parts), names)
    return _splits_of(clips, classes, task, options)


def _from_recordings(found: Recordings, windows: WindowOptions, options: ReadingOptions) -> DatasetDict:
    """Return the splits of the windows of recordings."""
    _warn_of_outside([table.files for table in found.tables])
    labels = {sound.event.label for recording in found.recordings for sound in recording.sounds}
    names = labels - options.labels.dropped
    where = repr(found.tables[-1].table.where)
    if not names:
        what = "has no label with times, or of drop_labels only"
        raise error("E209", where=where, what=what, fix="label some sounds, or drop fewer labels")
    clips = window_clips(found.recordings, windows, options)
    for clip in clips:
        _check_unicode(clip)
    if options.labels.classes is None:
        warn_of_labels(names, where, separable=False, clips=len(clips))
    classes = options.labels.all_classes(found.class_order, names)
    return _splits_of(clips, classes, Task.MULTI_LABEL, options)


def _splits_of(clips: Sequence[Clip], classes: LabelSet, task: Task, options: ReadingOptions) -> DatasetDict:
    """Return clips by split, with the same columns in each."""
    others = list(dict.fromkeys(name for clip in clips for name in clip.others))
    by_split: dict[str, list[Clip]] = {}
    for clip in clips:
        by_split.setdefault(clip.split, []).append(clip)
    _check_lists(by_split, options)
    return DatasetDict({split: _encode(part, classes, task, others) for split, part in by_split.items()})


def _check_lists(by_split: Mapping[str, Any], options: ReadingOptions) -> None:
    """Raise E209 for a list of a split that names none of the clips."""
    for split in options.split_lists if options.fold is None else ():
        if split not in by_split:
            what = "lists none of the clips"
            fix = "write their paths as in the table, or relative to the folder, one a line"
            raise error("E209", where=f"split_lists, {split!r}", what=what, fix=fix)


def _warn_of_outside(parts: Sequence[TableFiles]) -> None:
    """Warn (W216) about clips that are not in their table's folder or `audio_root`, and remember them."""
    remember_outside(path for part in parts for path in part.outside)
    strays = [path for part in parts for path in part.strays]
    if strays:
        first = next(part for part in parts if part.strays)
        where = repr(first.table.where)
        what = (
            f"clips outside of {str(first.root)!r}, by a link or `..`: {len(strays)}, first {strays[0]!r}; "
        )
        what += "they are read, but not published"
        warnings.warn(warning_text("W216", where=where, what=what), AstHfWarning, stacklevel=2)


def _check_unicode(clip: Clip) -> None:
    """Raise E208 for a cell that UTF-8 cannot hold, as Arrow and the Hub need it."""
    for cell in (*clip.labels, *clip.others, *clip.others.values()):
        if isinstance(cell, str) and not is_unicode(cell):
            what = f"{cell!r} holds half of a surrogate pair, which is no character"
            raise error("E208", where=clip.where, what=what, fix="write it in UTF-8")


def _common_order(parts: Sequence[TableClips]) -> list[str] | None:
    """Return the order of the classes if all tables declare the same one."""
    order = parts[0].class_order
    return order if all(part.class_order == order for part in parts) else None


def _encode(clips: list[Clip], classes: LabelSet, task: Task, others: list[str]) -> Dataset:
    by_table = groupby(clips, key=lambda clip: id(clip.sounds))
    parts = [_encode_table(list(part), classes, task, others) for _, part in by_table]
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _encode_table(clips: list[Clip], classes: LabelSet, task: Task, others: list[str]) -> Dataset:
    """Return the clips of one table and split with the columns `others`; raise E208 for unknown labels."""
    # labels may be aliases of one class
    indices = [
        list(dict.fromkeys(classes.index(label, clip.where) for label in clip.labels)) for clip in clips
    ]
    labels: Any = indices if task is Task.MULTI_LABEL else [index for (index,) in indices]
    cells: dict[str, list[Any]] = {task.label_column: labels}
    cells |= {name: [clip.others.get(name) for clip in clips] for name in others}
    features = Features({task.label_column: label_feature(classes.names, task)})
    features |= {name: Value("float64" if name in BOUNDARIES else "string") for name in others}
    sounds = clips[0].sounds
    if sounds is not None:
        return _with_sounds(sounds, [clip.number - 1 for clip in clips], cells, features)
    cells = {"audio": [clip.path for clip in clips], **cells}
    features = Features(audio=Value("string"), **features)
    # Arrow arrays are taken as they are, while a list is encoded cell by cell.
    columns = {
        name: pa.array(values, features.arrow_schema.field(name).type) for name, values in cells.items()
    }
    return Dataset.from_dict(columns, features=features).cast_column("audio", Audio(decode=False))


def _with_sounds(
    sounds: Dataset, rows: list[int], cells: dict[str, list[Any]], features: Features
) -> Dataset:
    """Return rows of embedded audio with their cells.

    To copy no audio, the cells are spread over all rows of the table, from which `rows` are then selected.
    """
    spread = {name: _spread(values, rows, len(sounds)) for name, values in cells.items()}
    table = datasets.concatenate_datasets([sounds, Dataset.from_dict(spread, features=features)], axis=1)
    return table.select(rows)


def _spread(values: list[Any], rows: list[int], length: int) -> list[Any]:
    """Return a column of `length` cells with the values in `rows`, and None in the others."""
    column: list[Any] = [None] * length
    for row, value in zip(rows, values, strict=True):
        column[row] = value
    return column


def _as_streams(splits: DatasetDict) -> IterableDatasetDict:
    streams = {}
    for name, part in splits.items():
        stream = part.to_iterable_dataset(num_shards=min(len(part), LOCAL_SHARDS))
        streams[name] = stream.cast_column("audio", STORED)
    return IterableDatasetDict(streams)
