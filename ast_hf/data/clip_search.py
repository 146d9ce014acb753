"""Files that a table names: by name below a folder, and the roots of relative paths, for error messages.

Downloaded data sets often have tables and audio in different folders. The results are printed as options that
read the data; nothing is read automatically.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from .audio_headers import read_header
from .clip_paths import is_file
from .naming_conventions import AUDIO_SUFFIXES, BOUNDARIES, Row
from .option_spelling import chosen

#: Limits, so that a message never takes long: rows of a table, and entries below a folder.
FIRST_ROWS = 100
_MAX_ENTRIES = 50_000

#: Remark of messages about boundaries that must not be read.
FOREIGN_BOUNDARIES = "; its start and end are times in other files"

#: Seconds by which a boundary may exceed the end of its file: lengths in tables are rounded.
_TOLERANCE = 0.1


class ClipNames:
    """Index of audio files by the last part of their paths."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        for file in files:
            for name in {file.name, file.stem}:
                self._by_name.setdefault(name, []).append(file)

    def find(self, path: str) -> list[Path]:
        """Return the files whose name, with or without suffix, is the last part of a path."""
        return self._by_name.get(PurePosixPath(path).name, [])

    def matches(self, path: str, folder: Path) -> bool:
        """Return True if a path from `folder` leads to one of the files, or only has the name of one."""
        place = folder / path
        files = self.find(path)
        return bool(files) and (not place.is_file() or any(map(place.samefile, files)))

    def below(self, folder: Path, name: str) -> str | None:
        """Return the path in `folder` of the only file with a name, None if there are several or none."""
        files = self.find(name) if PurePosixPath(name).name == name else []
        return files[0].relative_to(folder).as_posix() if len(files) == 1 else None

    def is_ambiguous(self, names: Sequence[str]) -> bool:
        """Return True if several names are equal and fit several files, of which they would share one."""
        counts = Counter(names)
        return any(count > 1 and len(self.find(name)) > 1 for name, count in counts.items())


def clips_below(folder: Path, limit: int | None = None) -> list[Path]:
    """Return the audio files in and below a folder, no dangling links; [] for more than `limit` entries."""
    entries = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    files = list(itertools.islice(entries, None if limit is None else limit + 1))
    if limit is not None and len(files) > limit:
        return []
    return sorted(file for file in files if file.suffix.lower() in AUDIO_SUFFIXES and is_file(file))


def where_clips_are(names: Sequence[str], folder: Path, rows: Sequence[Row] = ()) -> str | None:
    """Return the fix for a table whose clips are in another folder nearby, None without one.

    Args:
        names: the paths in the table.
        folder: the table's folder.
        rows: the row of each path, if its boundaries are read.
    """
    paths = [name.replace("\\", "/") for name in names if name]
    sample = paths[:FIRST_ROWS]
    for place in (folder, parent_of(folder)):
        clips = [clip for clip in clips_below(place, _MAX_ENTRIES) if clip.is_file()]
        clip_names = ClipNames(clips)
        roots = roots_of(sample, clips)
        if roots and not clip_names.is_ambiguous(paths):
            pairs = zip(rows[:FIRST_ROWS], names, strict=False)
            foreign = any(is_beyond_end(row, clip_names.find(name)) for row, name in pairs)
            return _how_to_read(roots, foreign=foreign)
        if sample and all(map(clip_names.find, sample)):
            return f"files of these names are below {str(place)!r}: write their paths relative to the table"
    return None


def _how_to_read(roots: Sequence[Path], *, foreign: bool) -> str:
    """Return the options that read clips below one of `roots`; `foreign` if boundaries are of other files."""
    folders = " and in ".join(repr(str(root)) for root in roots)
    options = chosen(audio_root=str(roots[0]), **({"clip_boundaries": False} if foreign else {}))
    return f"its files are in {folders}: {options}{FOREIGN_BOUNDARIES if foreign else ''}"


def parent_of(folder: Path) -> Path:
    """Return the parent of a folder, also for a relative path without one."""
    return folder.parent if folder.parent != folder else folder.resolve().parent


def roots_of(names: Sequence[str], clips: Sequence[Path]) -> list[Path]:
    """Return the folders that all names are relative to, candidates for `audio_root`."""
    clip_names = ClipNames(clips)
    candidates = [(PurePosixPath(name).parts, clip_names.find(name)) for name in names]
    if not candidates or not all(files for _, files in candidates):
        return []
    roots = [
        {file.parents[len(parts) - 1] for file in files if file.parts[-len(parts) :] == parts}
        for parts, files in candidates
    ]
    if common := set.intersection(*roots):
        return sorted(common)
    if all(len(parts) == len(files) == 1 for parts, files in candidates):
        return [Path(os.path.commonpath([file.parent for _, (file,) in candidates]))]
    return []


def is_beyond_end(row: Mapping[str, object], files: Sequence[Path]) -> bool:
    """Return True if a boundary of a row is after the end of the first of its files."""
    try:
        latest = max(float(str(row[name])) for name in BOUNDARIES if row.get(name))
        return bool(files) and latest > read_header({"path": str(files[0])}).seconds + _TOLERANCE
    except ValueError:  # also of a file that cannot be read
        return False
