"""Recordings of a batch: files, folders and patterns, as a list in their order."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.folder_scan import scan_folder
from ..data.naming_conventions import AUDIO_SUFFIXES, UNREAD_SUFFIXES
from ..errors import AstHfError, AstHfWarning, error, warning_text
from ..inference.urls import is_url

_MARKS = "*?["
_SOUND_SUFFIXES = AUDIO_SUFFIXES | UNREAD_SUFFIXES


class Inputs(NamedTuple):
    """Recordings that words of a command name.

    Attributes:
        names: files and URLs in the order of the words, each once. A name of `problems` has the place of its word.
        problems: a word or a folder that gives no recordings -> why.
    """

    names: list[str]
    problems: dict[str, AstHfError]


def find_recordings(words: Sequence[str]) -> Inputs:
    """Return the recordings that words name, in the order of the words, each once.

    A word is a file (which need not exist: it is reported when it is read), a URL, a folder, whose audio files are
    taken at any depth by name, or a pattern (`*`, `?`, `[...]`, and `**` for any folders), whose matches are sorted.
    Of a pattern's matches, files with a suffix of audio are taken, and the audio files of folders; all files, if
    there are none of these. A folder that leaves some of its files out warns (W205).

    Raises:
        AstDataError: if no word gives recordings, the first one's problem: E209 for a folder without audio files,
            E206 for a folder that cannot be listed, and for a pattern that matches nothing.
    """
    search = _Search()
    for word in words:
        search.add_word(word)
    found = search.inputs
    if len(found.names) == len(found.problems):
        raise next(iter(found.problems.values()))
    return found


class _Search:
    """Recordings that were found so far."""

    def __init__(self) -> None:
        self.inputs = Inputs([], {})
        self._seen: set[str] = set()

    def add_word(self, word: str) -> None:
        """Add what a word names."""
        try:
            self._add(_named(word, self.inputs.problems))
        except AstHfError as problem:
            self.inputs.problems[word] = problem
            self._add([word])

    def _add(self, names: Iterable[str]) -> None:
        """Add names, except those of files that are in the list by another spelling of the same path."""
        for name in names:
            place = name if is_url(name) or not name else os.path.abspath(name)  # noqa: PTH100 (links stay)
            if place not in self._seen:
                self._seen.add(place)
                self.inputs.names.append(name)


def _named(word: str, problems: dict[str, AstHfError]) -> list[str]:
    """Return what a word names; parts of a folder that cannot be listed are added to `problems`."""
    if not word:
        fix = "name a file or a folder; a shell variable may be empty"
        raise error("E206", where="''", what="is an empty name", fix=fix)
    if os.path.isdir(word):  # noqa: PTH112 (a Path raises for names that are too long)
        return _in_folder(Path(word), problems)
    is_pattern = any(mark in word for mark in _MARKS) and not is_url(word)
    if not is_pattern or os.path.lexists(word):
        return [word]
    matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (a Path drops a leading "./")
    if not matches:
        raise error("E206", where=repr(word), what="matches no file", fix="check the pattern and the folder")
    return _matched(matches, problems)


def _matched(matches: Sequence[str], problems: dict[str, AstHfError]) -> list[str]:
    folders = [match for match in matches if os.path.isdir(match)]  # noqa: PTH112
    files = [match for match in matches if match not in set(folders)]
    sounds = [name for name in files if Path(name).suffix.lower() in _SOUND_SUFFIXES]
    empty: AstHfError | None = None
    for folder in folders:
        try:
            sounds += _in_folder(Path(folder), problems)
        except AstHfError as problem:
            empty = empty or problem
    if empty is not None and not sounds and not files:
        raise empty
    return sorted(sounds) or files


def _in_folder(folder: Path, problems: dict[str, AstHfError]) -> list[str]:
    unlisted: dict[Path, AstHfError] = {}
    contents = scan_folder(folder, unlisted)
    if folder in unlisted:
        raise unlisted[folder]
    omissions = contents.omissions()
    if not contents.clips and not unlisted:
        what = "; it ".join(["has no audio files", *omissions[:1]])
        raise error("E209", where=repr(str(folder)), what=what, fix="name a folder with recordings")
    if omissions:
        text = warning_text("W205", where=repr(str(folder)), what="; ".join(omissions))
        warnings.warn(text, AstHfWarning, stacklevel=2)
    problems.update({str(place): problem for place, problem in unlisted.items()})
    return sorted(map(str, [*contents.clips, *unlisted]))
