"""Label folders: the name of a folder is the label of its clips, with or without folders of splits above.

Folders of folds or splits are refused as labels, and messages list tables that are not read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import AstHfWarning, error, shortlist, warning_text
from .folder_names import are_splits_or_folds, is_container, split_of_name
from .folder_scan import Folder, scan_folder
from .folder_tables import SplitTable, clips_without_row, read_folder_tables
from .labels import LabelSet
from .naming_conventions import AUDIO_SUFFIXES, METADATA_FILES, SPLIT_NAMES, Row
from .option_spelling import chosen_sources, unless_classes
from .table_search import ClipTable, how_to_read, shards_of
from .tables import Table, read_table

#: Number of names in a message, and of folders without a clip.
_EXAMPLES = 3
_EMPTY_FOLDERS = 10

#: Columns of a table, if the caller names none.
_COLUMNS = {"audio_column": None, "label_column": None, "split_column": "split"}

#: Arrangement of label folders in splits, for messages.
_ARRANGEMENT = "put a folder for each label into folders train and test (train/cat/1.wav)"


def read_label_folders(
    root: Path, labels: LabelSet | None, columns: Mapping[str, str | None] = _COLUMNS
) -> list[SplitTable]:
    """Return the rows of `label/clip` or `split/label/clip`; split folders are recognised by their names.

    Tables in the folders, as `datasets`' audiofolder has them (`train/metadata.csv`), are read instead if they
    label the clips. Warns (W205) about omissions: sound in formats that are not read, folders without a clip,
    hidden clips, archives, clips that no table names, and a table of the clips that is not read.

    Args:
        root: the folder.
        labels: the caller's classes, if any: folders with these names are label folders.
        columns: `audio_column`, `label_column` and `split_column` of `load_audio_dataset`.

    Raises:
        AstDataError: E206 for a folder that cannot be listed, E208 for clips without a label and for folders
            that are not labels, E209 without clips.
    """
    folder = scan_folder(root)
    if not folder.clips:
        raise _no_audio(folder)
    if not _are_label_folders(folder, labels) and (parts := read_folder_tables(folder, columns)):
        _warn_of(folder, [*folder.omissions(), *_unnamed(folder, parts, columns)])
        return parts
    return [(None, _read_labels(folder, labels))]


def read_root_table(root: Path, columns: Mapping[str, str | None] = _COLUMNS) -> Table | None:
    """Return the rows of the first of `METADATA_FILES` in a folder, None without one.

    Warns (W205) about clips that it does not name, and about others of these tables.
    """
    files = [root / name for name in METADATA_FILES if (root / name).exists()]
    if not files:
        return None
    table = read_table(files[0])
    folder = scan_folder(root)
    unnamed = _unnamed(folder, [(None, table)], columns)
    others = f"has tables that are not read ({', '.join(repr(file.name) for file in files[1:])})"
    _warn_of(folder, [*unnamed, *([others] if files[1:] else [])])
    return table


def _unnamed(folder: Folder, parts: Sequence[SplitTable], columns: Mapping[str, str | None]) -> list[str]:
    """Return what a warning says of clips that no table names; nothing if the tables name none at all."""
    clips = clips_without_row(folder, parts, columns)
    if len(clips) in (0, len(folder.clips)):
        return []
    names = [clip.relative_to(folder.root).as_posix() for clip in clips]
    return [f"has clips that no table names ({len(names)}: {shortlist(names, _EXAMPLES)})"]


def _are_label_folders(folder: Folder, labels: LabelSet | None) -> bool:
    """Return True if the caller's classes name the folder of every clip."""
    return labels is not None and all(clip.parent.name in labels for clip in folder.clips)


def _read_labels(folder: Folder, labels: LabelSet | None) -> Table:
    """Return the rows of label folders."""
    root = folder.root
    splits = {file.relative_to(root).parts[0] for file in folder.clips if _split_of_file(folder, file)}
    siblings = _siblings_of_splits(folder, splits)
    rows = [_row_of_file(folder, file, splits) for file in folder.clips]
    are_classes = _are_classes(rows, labels)
    if not are_classes and siblings and labels is not None:
        rows = next(filter(lambda other: _are_classes(other, labels), _rows_without_splits(folder)), rows)
        are_classes = _are_classes(rows, labels)
    if not are_classes:
        if siblings:
            raise _mixed_folders(folder, splits, siblings)
        _check_labels(folder, sorted({row["label"] for row in rows}))
    _warn_of(folder, _omissions(folder, labels_given=are_classes))
    return Table(rows, str(root), root, from_folders=True)


def _warn_of(folder: Folder, omissions: Sequence[str]) -> None:
    if omissions:
        where = repr(str(folder.root))
        warnings.warn(warning_text("W205", where=where, what="; ".join(omissions)), AstHfWarning, 2)


def _are_classes(rows: Sequence[Row], labels: LabelSet | None) -> bool:
    return labels is not None and all(row["label"] in labels for row in rows)


def _split_of_file(folder: Folder, file: Path) -> str | None:
    """Return the split of a clip by its outermost folder, None if that is not named after a split."""
    parts = file.relative_to(folder.root).parts
    return SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None


def _row_of_file(folder: Folder, file: Path, splits: set[str]) -> Row:
    """Return the row of a clip by the folders above it; raise E208 for a clip outside of label folders.

    `splits` are the folders with label folders in them, rather than clips of one label.
    """
    parts = file.relative_to(folder.root).parts
    split = _split_of_file(folder, file) if parts[0] in splits else None
    labels = parts[1:-1] if parts[0] in splits else parts[:-1]
    if not labels:
        what = "is next to the label folders and not in one, so it has no label"
        fix = "move it into a folder named after its label"
        if tables := folder.tables():
            fix += f", or {how_to_read(tables, folder.clips)}"
        raise error("E208", where=repr(str(file)), what=what, fix=fix)
    name = str(file.relative_to(folder.root))
    return {"file_name": name, "label": "/".join(labels), "split": split or "train"}


def _siblings_of_splits(folder: Folder, splits: set[str]) -> list[str]:
    """Return the folders next to splits that are not splits of label folders, except those like `_noise_`."""
    outermost = {parts[0] for clip in folder.clips if len(parts := clip.relative_to(folder.root).parts) > 1}
    return sorted(name for name in outermost - splits if not name.startswith("_")) if splits else []


def _rows_without_splits(folder: Folder) -> Iterator[list[Row]]:
    """Yield rows without splits: with labels from all folders above a clip, then from the outermost."""
    rows = [_row_of_file(folder, file, set()) for file in folder.clips]
    yield rows
    yield [{**row, "label": row["label"].partition("/")[0]} for row in rows]


def _mixed_folders(folder: Folder, splits: set[str], siblings: Sequence[str]) -> Exception:
    """Return the E208 for splits of label folders next to other folders."""
    unlabelled = [name for name in siblings if name.lower() in SPLIT_NAMES]
    others = [name for name in siblings if name not in unlabelled]
    kinds = [f"{shortlist(unlabelled, _EXAMPLES)} without label folders"] if unlabelled else []
    kinds += [f"{shortlist(others, _EXAMPLES)}, not named after splits"] if others else []
    what = f"has label folders in the splits {shortlist(sorted(splits), _EXAMPLES)}, and next to these "
    fix = _ARRANGEMENT
    if sources := _labelled_splits(folder):
        fix = f"to leave others out, give a source for each split, {chosen_sources(sources)}"
    fix += f"; {_unless_classes(sorted({*splits, *siblings}))}"
    return error("E208", where=repr(str(folder.root)), what=what + " and ".join(kinds), fix=fix)


def _unless_classes(names: Sequence[str]) -> str:
    return unless_classes(f"{shortlist(names, _EXAMPLES)} are your classes")


def _no_audio(folder: Folder) -> Exception:
    """Return the E209 for a folder without a clip; if it has tables, the fix names them."""
    what = [f"holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))}) and no metadata.csv", *folder.omissions()]
    tables = folder.table_files()
    fix = "give one folder of clips per label"
    if shards := shards_of(tables):
        fix += f", or the tables of each split as the source, {chosen_sources(shards)}"
    elif tables:
        fix += f", or a table as the source, such as {str(tables[0])!r}"
    return error("E209", where=repr(str(folder.root)), what="; ".join(what), fix=fix)


def _check_labels(folder: Folder, names: Sequence[str]) -> None:
    """Raise E208 for folders that are splits, folds or containers of audio, and for labels within labels."""
    innermost = sorted({name.split("/")[-1] for name in names})
    levels = [sorted(set(level)) for level in zip(*(name.split("/") for name in names), strict=False)]
    candidates = [innermost, *(level for level in levels if len(level) > 1), *_single_splits(names)]
    parts = next((level for level in candidates if are_splits_or_folds(level)), None)
    if parts is not None:
        folders = shortlist(parts, _EXAMPLES)
        what = f"has folders {folders}, which are folds or splits of a data set, not labels"
        tables = folder.tables()
        fix = how_to_read(tables, folder.clips) if tables else _how_to_arrange(folder)
        raise error("E208", where=repr(str(folder.root)), what=what, fix=f"{fix}; {_unless_classes(names)}")
    if all(map(is_container, innermost)) and (tables := folder.tables()):
        folders = shortlist(innermost, _EXAMPLES)
        what = f"has its clips in {folders}, which does not name labels; a table names them"
        fix = f"{how_to_read(tables, folder.clips)}; {_unless_classes(names)}"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix)
    _check_levels(folder, names)


def _check_levels(folder: Folder, names: Sequence[str]) -> None:
    """Raise E208 for a label folder inside another one, and for several splits next to other labels."""
    nested = [name for name in names if any(name.startswith(f"{other}/") for other in names)]
    if nested:
        outer = nested[0].rpartition("/")[0]
        what = f"has clips in {outer!r} and in {nested[0]!r}, which would be two classes"
        fix = f"move them into folders of one level; {_unless_classes(names)}"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix)
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    if len({SPLIT_NAMES[name.lower()] for name in splits}) > 1:
        what = f"has folders {shortlist(splits, _EXAMPLES)}, named after splits, next to others"
        fix = f"{_ARRANGEMENT}; {_unless_classes(names)}"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix)


def _single_splits(names: Sequence[str]) -> list[list[str]]:
    """Return the levels with a single folder that is named after a split: `train` of `train/cat`."""
    above = [set(level) for level in zip(*(name.split("/")[:-1] for name in names), strict=False)]
    return [list(level) for level in above if len(level) == 1 and min(level).lower() in SPLIT_NAMES]


def _labelled_splits(folder: Folder) -> dict[str, list[Path]]:
    """Return split -> folders that hold its label folders; of splits within splits, the innermost."""
    labels: dict[Path, set[str]] = {}
    for clip in folder.clips:
        parts = clip.relative_to(folder.root).parts
        depths = (number for number, part in enumerate(parts[:-2], start=1) if split_of_name(part))
        depth = max(depths, default=0)
        if depth:
            labels.setdefault(folder.root.joinpath(*parts[:depth]), set()).add(parts[-2])
    outer = {parent for place in labels for parent in place.parents}
    places: dict[str, list[Path]] = {}
    for place, names in labels.items():
        if place in outer or are_splits_or_folds(sorted(names)):
            continue
        if not all(map(is_container, names)):
            places.setdefault(str(split_of_name(place.name)), []).append(place)
    return dict(sorted(places.items(), key=lambda part: part[0] != "train"))


def _how_to_arrange(folder: Folder) -> str:
    """Return the fix for folders of folds or splits without a table."""
    splits = _labelled_splits(folder)
    places = [place for split_places in splits.values() for place in split_places]
    parents = {place.parent for place in places} - {folder.root}
    siblings = len(parents) == 1 and all(place.parent in parents for place in places)
    if siblings and all(place.name.lower() in SPLIT_NAMES for place in places):
        return f"give {str(parents.pop())!r} as the source"
    if splits:
        return f"give a source for each split, {chosen_sources(splits)}"
    table = folder.root / METADATA_FILES[0]
    return f"{_ARRANGEMENT}, or write {str(table)!r} with the columns file_name, label and split or fold"


def _omissions(folder: Folder, *, labels_given: bool) -> list[str]:
    """Return the omissions for the warning; a table is one if the caller does not list the labels."""
    omissions = folder.omissions()
    tables = [] if labels_given else list(filter(_is_of_labels, folder.tables()))
    table_folders = {table.path.parent for table in tables}
    if empty := [name for name in _without_clips(folder) if folder.root / name not in table_folders]:
        omissions.append(f"has folders without a clip ({shortlist(empty, _EMPTY_FOLDERS)})")
    if tables:
        fix = how_to_read(tables, folder.clips)
        omissions.append(f"has a table of its clips that is not read; to read it, {fix}")
    return omissions


def _is_of_labels(table: ClipTable) -> bool:
    """Return True for a table with a column of labels, or with a name that `datasets` reads as labels."""
    return table.has_labels or table.path.name in METADATA_FILES


def _without_clips(folder: Folder) -> list[str]:
    """Return the outermost folders without a clip in or below them."""
    places = {clip.parent for clip in folder.clips}
    filled = {parent for place in places for parent in (place, *place.parents)}
    empty = (entry for entry in folder.others if entry not in filled and entry.parent in filled)
    return [entry.relative_to(folder.root).as_posix() for entry in empty if entry.is_dir()]
