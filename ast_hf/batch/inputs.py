"""Recordings of a batch: files, folders and patterns, as a list in their order."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..data.folder_scan import scan_folder
from ..errors import AstHfWarning, error, warning_text

_MARKS = "*?["


def find_recordings(words: Sequence[str]) -> list[str]:
    """Return the recordings that words name, in the order of the words, each once.

    A word is a file (which need not exist: it is reported when it is read), a folder, whose audio files are taken
    at any depth by name, or a pattern (`*`, `?`, `[...]`, and `**` for any folders), whose matches are sorted.

    Warns (W205) of sound in folders that is not read: in other formats, hidden, or in archives.

    Raises:
        AstDataError: E209 for a folder without audio files, E206 for a pattern that matches none.
    """
    found: dict[str, None] = {}
    for word in words:
        found.update(dict.fromkeys(_named(word)))
    return list(found)


def _named(word: str) -> list[str]:
    path = Path(word)
    if path.is_dir():
        return _in_folder(path)
    if path.exists() or not any(mark in word for mark in _MARKS):
        return [word]
    matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (a Path drops a leading "./")
    files = [match for match in matches if not Path(match).is_dir()]
    folders = [match for match in matches if Path(match).is_dir()]
    if not files and not folders:
        raise error("E206", where=repr(word), what="matches no file", fix="check the pattern and the folder")
    return files or [name for folder in folders for name in _in_folder(Path(folder))]


def _in_folder(folder: Path) -> list[str]:
    """Return the recordings in a folder; warn (W205) of sound in it that is not read."""
    contents = scan_folder(folder)
    omissions = contents.omissions()
    if not contents.clips:
        what = "has no audio files"
        fix = "name a folder with recordings"
        if omissions:
            what = f"{what}; it {omissions[0]}"
        raise error("E209", where=repr(str(folder)), what=what, fix=fix)
    if omissions:
        text = warning_text("W205", where=repr(str(folder)), what="; ".join(omissions))
        warnings.warn(text, AstHfWarning, stacklevel=4)
    return sorted(map(str, contents.clips))


def file_names(recordings: Sequence[str], suffix: str) -> list[str]:
    """Return the name of each recording's own result file, relative to the folder of results.

    The folders below the recordings' common one are kept. The recording's suffix is replaced, unless two
    recordings differ only in it.
    """
    paths = [Path(os.path.abspath(name)) for name in recordings]  # noqa: PTH100 (links keep their names)
    common = Path(os.path.commonpath([path.parent for path in paths]))
    relative = [path.relative_to(common) for path in paths]
    stems = [path.with_suffix("") for path in relative]
    counts: dict[Path, int] = {}
    for stem in stems:
        counts[stem] = counts.get(stem, 0) + 1
    pairs = zip(relative, stems, strict=True)
    return [f"{stem if counts[stem] == 1 else whole}{suffix}" for whole, stem in pairs]
