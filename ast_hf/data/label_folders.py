"""Which rows does a source hold: a table, a folder with a metadata file, or a folder of label folders?

Folders that are folds or splits are refused as labels, and tables that lie unread beside label folders are named.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import AstHfWarning, error, warning_text
from .conventions import AUDIO_SUFFIXES, METADATA_FILES, SPLIT_NAMES, UNREAD_SUFFIXES, Row
from .folder_names import _are_parts, _is_container, _spelled_split
from .labels import LabelSet
from .layouts import TABLE_SUFFIXES, ClipTable, how_to_read, shards_of, tables_of
from .option_spelling import INSIST, chosen_sources
from .tables import Table, some

#: How many folders a message names.
_FOLDERS = 10


#: How label folders lie in splits, for messages.
_ARRANGED = "put a folder for each label into folders train and test (train/cat/1.wav)"


class _Folder(NamedTuple):
    """What lies in and below a folder."""

    root: Path
    clips: list[Path]
    unread: Counter[str]  # suffixes of sound that is not read
    others: list[Path]

    def tables(self) -> list[ClipTable]:
        """The tables that name clips of it, in it or beside it."""
        inside = [entry for entry in self.others if entry.suffix.lower() in TABLE_SUFFIXES and entry.is_file()]
        return tables_of(self.clips, self.root, inside)


def _read_label_folders(root: Path, labels: LabelSet | None) -> Table:
    """Return the rows of `label/clip` or `split/label/clip`; the split folders are known by their names.

    Warns (W205) of what is left out: sound in formats that are not read, folders without a clip, and a table of the
    clips.
    """
    folder = _look_into(root)
    if not folder.clips:
        raise _no_audio(folder)
    splits = {file.relative_to(root).parts[0] for file in folder.clips if _split_of(folder, file)}
    beside = _beside_splits(folder, splits)
    rows = [_row_of_file(folder, file, splits) for file in folder.clips]
    meant = _are_meant(rows, labels)
    if not meant and beside and labels is not None:
        rows = next(filter(lambda other: _are_meant(other, labels), _without_splits(folder)), rows)
        meant = _are_meant(rows, labels)
    if not meant:
        if beside:
            raise _splits_among_others(folder, splits, beside)
        _check_names(folder, sorted({row["label"] for row in rows}))
    if left_out := _left_out(folder, known=meant):
        warnings.warn(warning_text("W205", where=repr(str(root)), what="; ".join(left_out)), AstHfWarning, 2)
    return Table(rows, str(root), root)


def _are_meant(rows: Sequence[Row], labels: LabelSet | None) -> bool:
    return labels is not None and all(row["label"] in labels for row in rows)


def _beside_splits(folder: _Folder, splits: set[str]) -> list[str]:
    """Return the folders beside splits that are none, or hold no label folders; not those like `_background_noise_`."""
    tops = {parts[0] for clip in folder.clips if len(parts := clip.relative_to(folder.root).parts) > 1}
    return sorted(top for top in tops - splits if not top.startswith("_")) if splits else []


def _without_splits(folder: _Folder) -> Iterator[list[Row]]:
    """Yield the rows of folders that are no splits: labelled by all folders above a clip, then by the outermost."""
    rows = [_row_of_file(folder, file, set()) for file in folder.clips]
    yield rows
    yield [{**row, "label": row["label"].partition("/")[0]} for row in rows]


def _splits_among_others(folder: _Folder, splits: set[str], beside: Sequence[str]) -> Exception:
    """Return the E208 for splits of label folders beside folders that are something else."""
    unlabelled = [name for name in beside if name.lower() in SPLIT_NAMES]
    others = [name for name in beside if name not in unlabelled]
    what = f"has label folders in the splits {some(sorted(splits))}, and beside these "
    found = [f"{some(unlabelled)} without label folders"] if unlabelled else []
    found += [f"{some(others)}, not named after splits"] if others else []
    labelled = _labelled_splits(folder)
    sources = f"to leave others out, give a source for each split, {chosen_sources(labelled)}"
    fix = sources if labelled else _ARRANGED
    insist = INSIST.format(f"{some(sorted({*splits, *beside}))} are your classes")
    return error("E208", where=repr(str(folder.root)), what=what + " and ".join(found), fix=f"{fix}; {insist}")


def _look_into(root: Path) -> _Folder:
    folder = _Folder(root, [], Counter(), [])
    for entry in sorted(root.rglob("*")):
        suffix = entry.suffix.lower()
        if any(part.startswith(".") for part in entry.relative_to(root).parts):
            continue
        if suffix in AUDIO_SUFFIXES and entry.is_file():
            folder.clips.append(entry)
        elif suffix in UNREAD_SUFFIXES and entry.is_file():
            folder.unread[suffix] += 1
        else:
            folder.others.append(entry)
    return folder


def _no_audio(folder: _Folder) -> Exception:
    """Return the E209 for a folder without a clip, which may be the one of the tables."""
    what = [f"holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))}) and no metadata.csv", *_unread(folder)]
    tables = [entry for entry in folder.others if entry.suffix.lower() in TABLE_SUFFIXES and entry.is_file()]
    fix = "give one folder of clips per label"
    if shards := shards_of(tables):
        fix += f", or the tables of each split as the source, {chosen_sources(shards)}"
    elif tables:
        fix += f", or a table as the source, such as {str(tables[0])!r}"
    return error("E209", where=repr(str(folder.root)), what="; ".join(what), fix=fix)


def _split_of(folder: _Folder, file: Path) -> str | None:
    """Return the split that a clip is in by the outermost of its folders."""
    parts = file.relative_to(folder.root).parts
    return SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None


def _row_of_file(folder: _Folder, file: Path, splits: set[str]) -> Row:
    """Return what the folders above a clip say of it; raises E208 for one that lies in none.

    Args:
        folder: the whole.
        file: the clip.
        splits: the folders of `folder` that hold label folders, rather than clips of one label.
    """
    parts = file.relative_to(folder.root).parts
    split = _split_of(folder, file) if parts[0] in splits else None
    labels = parts[1:-1] if parts[0] in splits else parts[:-1]
    if not labels:
        what = "lies beside the label folders, so it has no label"
        fix = "move it into a folder named after its label"
        if tables := folder.tables():
            fix += f", or {how_to_read(tables, folder.clips)}"
        raise error("E208", where=repr(str(file)), what=what, fix=fix)
    return {"file_name": str(file.relative_to(folder.root)), "label": "/".join(labels), "split": split or "train"}


def _check_names(folder: _Folder, names: Sequence[str]) -> None:
    """Raise E208 for folders that are parts of a data set, or only hold its audio, rather than labels."""
    inner = sorted({name.split("/")[-1] for name in names})
    outer = [sorted(set(level)) for level in zip(*(name.split("/") for name in names), strict=False)]
    levels = [inner, *(level for level in outer if len(level) > 1), *_nested_splits(names)]
    parts = next((level for level in levels if _are_parts(level)), None)
    hint = f"; {INSIST.format(f'{some(names)} are your classes')}"
    if parts is not None:
        what = f"has folders {some(parts)}, which are folds or splits of a data set, not labels"
        tables = folder.tables()
        fix = how_to_read(tables, folder.clips) if tables else _how_to_arrange(folder)
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix + hint)
    if all(map(_is_container, inner)) and (tables := folder.tables()):
        what = f"has its clips in {some(inner)}, which says nothing of labels; a table names them"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=how_to_read(tables, folder.clips) + hint)


def _nested_splits(names: Sequence[str]) -> list[list[str]]:
    """Return the only folder of each level above all labels, where it is called as a split: `train` of `train/cat`."""
    above = [set(level) for level in zip(*(name.split("/")[:-1] for name in names), strict=False)]
    return [list(level) for level in above if len(level) == 1 and min(level).lower() in SPLIT_NAMES]


def _labelled_splits(folder: _Folder) -> dict[str, list[Path]]:
    """Return the folders of each split that hold label folders, the innermost where splits are in splits."""
    labels: dict[Path, set[str]] = {}
    for clip in folder.clips:
        parts = clip.relative_to(folder.root).parts
        depth = max((number for number, part in enumerate(parts[:-2], start=1) if _spelled_split(part)), default=0)
        if depth:
            labels.setdefault(folder.root.joinpath(*parts[:depth]), set()).add(parts[-2])
    around = {parent for place in labels for parent in place.parents}
    found: dict[str, list[Path]] = {}
    for place, names in labels.items():
        if place not in around and not _are_parts(sorted(names)) and not all(map(_is_container, names)):
            found.setdefault(str(_spelled_split(place.name)), []).append(place)
    return dict(sorted(found.items(), key=lambda part: part[0] != "train"))


def _how_to_arrange(folder: _Folder) -> str:
    """Return what to do with folders of folds or splits that no table tells of."""
    splits = _labelled_splits(folder)
    places = [place for several in splits.values() for place in several]
    above = {place.parent for place in places} - {folder.root}
    if len(above) == 1 and all(place.name.lower() in SPLIT_NAMES and place.parent in above for place in places):
        return f"give {str(above.pop())!r} as the source"
    if splits:
        return f"give a source for each split, {chosen_sources(splits)}"
    table = folder.root / METADATA_FILES[0]
    return f"{_ARRANGED}, or write {str(table)!r} with the columns file_name, label and split or fold"


def _left_out(folder: _Folder, *, known: bool) -> list[str]:
    """Return what is said of a folder's contents that are not read; a table only where the labels are not given."""
    said = _unread(folder)
    tables = [] if known else [table for table in folder.tables() if table.has_labels]
    homes = {table.path.parent for table in tables}
    if empty := [name for name in _without_clips(folder) if folder.root / name not in homes]:
        said.append(f"has folders without a clip ({some(empty, shown=_FOLDERS)})")
    if tables:
        said.append(f"has a table of its clips that is not read; to read it, {how_to_read(tables, folder.clips)}")
    return said


def _unread(folder: _Folder) -> list[str]:
    counted = ", ".join(f"{count} {suffix}" for suffix, count in folder.unread.most_common())
    return [f"has files that are not read ({counted}), convert them to WAV or FLAC"] if counted else []


def _without_clips(folder: _Folder) -> list[str]:
    """Return the folders that no clip lies in or below; those within them are not named too."""
    holding = {parent for place in {clip.parent for clip in folder.clips} for parent in (place, *place.parents)}
    empty = [entry for entry in folder.others if entry not in holding and entry.parent in holding and entry.is_dir()]
    return [entry.relative_to(folder.root).as_posix() for entry in empty]
