"""Which rows does a source hold: a table, a folder with a metadata file, or a folder of label folders?

Folders that are folds or splits are refused as labels, and tables that lie unread beside label folders are named.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from ..errors import AstHfWarning, error, warning_text
from .layouts import TABLE_SUFFIXES, ClipTable, how_to_read, tables_of
from .tables import (
    AUDIO_SUFFIXES,
    METADATA_FILES,
    SPLIT_NAMES,
    UNREAD_SUFFIXES,
    LabelSet,
    Row,
    Table,
    check_exists,
    read_table,
    some,
)

#: How many folders a message names.
_FOLDERS = 10

#: Words in the names of folders that are parts of a data set: alone, and with a number or a letter after them.
_SPLITS = frozenset({*SPLIT_NAMES, "devel", "development", "evaluation", "holdout", "heldout"})
_FOLDS = frozenset({"fold", "split", "part", "partition", "subset", "set", "cv", "chunk", "shard", "section"})
#: Words that say of a folder only that clips lie in it.
_CONTAINERS = frozenset(
    {"audio", "audios", "wav", "wavs", "flac", "mp3", "ogg", "clip", "clips", "sound", "sounds", "recording"}
    | {"recordings", "data", "dataset", "file", "files", "sample", "samples", "segment", "segments"}
)

_WORD = re.compile(r"[a-z]+|\d+")


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


def read_source(source: str | PathLike, labels: LabelSet | None = None) -> Table:
    """Return the rows of a table, of a folder with a metadata file, or of a folder of label folders.

    Args:
        source: the file or folder.
        labels: the classes, where they are given: folders of their names are label folders.

    Raises:
        AstDataError: E206 for what does not exist, E208 and E209 for what holds no labelled clips.
    """
    path = Path(source).expanduser()
    check_exists(path)
    if not path.is_dir():
        return read_table(path)
    metadata = next((path / name for name in METADATA_FILES if (path / name).exists()), None)
    return read_table(metadata) if metadata else _read_label_folders(path, labels)


def _read_label_folders(root: Path, labels: LabelSet | None) -> Table:
    """Return the rows of `label/clip` or `split/label/clip`; the split folders are known by their names.

    Warns (W205) of what is left out: sound in formats that are not read, folders without a clip, and a table of the
    clips.
    """
    folder = _look_into(root)
    if not folder.clips:
        raise _no_audio(folder)
    splits = {file.relative_to(root).parts[0] for file in folder.clips if _split_of(folder, file)}
    rows = [_row_of_file(folder, file, splits) for file in folder.clips]
    names = sorted({row["label"] for row in rows})
    meant = labels is not None and all(name in labels for name in names)
    if not meant:
        _check_names(folder, names)
    if left_out := _left_out(folder, known=meant):
        warnings.warn(warning_text("W205", where=repr(str(root)), what="; ".join(left_out)), AstHfWarning, 2)
    return Table(rows, str(root), root)


def _look_into(root: Path) -> _Folder:
    folder = _Folder(root, [], Counter(), [])
    for entry in sorted(root.rglob("*")):
        suffix = entry.suffix.lower()
        if entry.name.startswith("."):
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
    if tables:
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
    split = _split_of(folder, file)
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
    levels = [inner, *(level for level in outer if len(level) > 1)]
    parts = next((level for level in levels if _are_parts(level)), None)
    hint = "; class_labels that list these names say that they are meant"
    if parts is not None:
        what = f"has folders {some(parts)}, which are folds or splits of a data set, not labels"
        tables = folder.tables()
        fix = how_to_read(tables, folder.clips) if tables else _how_to_arrange(folder, names, parts)
        raise error("E208", where=repr(str(folder.root)), what=what, fix=fix + hint)
    if all(map(_is_container, inner)) and (tables := folder.tables()):
        what = f"has its clips in {some(inner)}, which says nothing of labels; a table names them"
        raise error("E208", where=repr(str(folder.root)), what=what, fix=how_to_read(tables, folder.clips) + hint)


def _is_container(name: str) -> bool:
    words = set(_WORD.findall(name.lower()))
    return bool(words) and words <= _CONTAINERS


def _are_parts(names: Sequence[str]) -> bool:
    """Return whether all names are those of folds or splits, what they begin with in common aside."""
    words = [_WORD.findall(name.lower()) for name in names]
    if all(map(_is_part, words)):
        return True
    while len(words) > 1 and all(len(each) > 1 for each in words) and len({each[0] for each in words}) == 1:
        words = [each[1:] for each in words]
        if all(map(_is_part, words)):
            return True
    return False


def _is_part(words: Sequence[str]) -> bool:
    """Return whether words make the name of a fold or split: `train`, `fold 3`, `test audio`, `dev a`."""
    plain = [word for word in words if word not in _CONTAINERS]
    numbers = [word for word in plain if word.isdecimal() or len(word) == 1]
    kinds = [word for word in plain if word not in numbers]
    if not kinds or not set(kinds) <= _SPLITS | _FOLDS:
        return False
    return bool(numbers) or bool(set(kinds) & _SPLITS)


def _how_to_arrange(folder: _Folder, names: Sequence[str], parts: Sequence[str]) -> str:
    """Return what to do with folders of folds or splits that no table tells of."""
    above = {name.rpartition(f"{part}/")[0] for name in names for part in parts if f"{part}/" in name}
    if len(above) == 1 and all(part.lower() in SPLIT_NAMES for part in parts):
        return f"give {str(folder.root / above.pop())!r} as the source"
    table = folder.root / METADATA_FILES[0]
    fix = "put a folder for each label into folders train and test (train/cat/1.wav)"
    return f"{fix}, or write {str(table)!r} with the columns file_name, label and split or fold"


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
