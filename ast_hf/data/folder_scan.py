"""Contents of a folder of clips, with links to folders followed, and with what is left out.

No clip is lost without a word: a file that is there by name but not by content (a dangling link, a placeholder of
iCloud) counts as a clip, and is refused when the files are checked.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..errors import AstHfError, error, shortlist
from .naming_conventions import AUDIO_SUFFIXES, CODED_SUFFIXES, UNREAD_SUFFIXES
from .table_search import TABLE_SUFFIXES, ClipTable, tables_of

#: Suffixes of archives, whose clips are not read.
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".lz4"})

#: First bytes of audio files: WAV, FLAC, Ogg, MP3 with a tag, AIFF, RF64, CAF.
_AUDIO_STARTS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b"RF64", b"caff")

#: Folders of tools and systems, whose files are no clips: hidden ones, what macOS adds to archives, and those of
#: network drives.
_FOREIGN = frozenset(
    {".git", ".datalad", ".dvc", ".svn", ".hg", ".cache", ".ipynb_checkpoints", ".venv", "__pycache__"}
    | {"__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "lost+found"}
)

#: Mark of macOS's attributes next to a file (`._1.wav`), and suffix of files that iCloud has not downloaded.
_MAC_ATTRIBUTES = "._"
_ICLOUD = ".icloud"

#: Files of unknown kind whose first bytes are read.
_MAX_OPENED = 2_000

#: Number of names in a message.
_EXAMPLES = 3


class Folder(NamedTuple):
    """Contents of the folder `root` and of the folders below it, also of those that links lead to.

    Attributes:
        clips: audio files, and names of audio files without content.
        unread: suffix -> number of sound files in formats that are not read.
        others: all other files and folders.
        left_out: what was left out -> its files and folders.
    """

    root: Path
    clips: list[Path]
    unread: Counter[str]
    others: list[Path]
    left_out: dict[str, list[Path]]

    def table_files(self) -> list[Path]:
        """Return files in it with the suffix of a table."""
        return [entry for entry in self.others if entry.suffix.lower() in TABLE_SUFFIXES and entry.is_file()]

    def tables(self) -> list[ClipTable]:
        """Return the tables of its clips, in it or next to it."""
        return tables_of(self.clips, self.root, self.table_files())

    def omissions(self) -> list[str]:
        """Return what was left out, for a message."""
        counts = ", ".join(f"{count} {suffix}" for suffix, count in self.unread.most_common())
        fix = "convert them to WAV or FLAC"
        if not CODED_SUFFIXES.isdisjoint(self.unread):
            fix += ', or pip install "ast_hf[codecs]"'
        texts = [f"has files that are not read ({counts}), {fix}"] if counts else []
        for kind, paths in sorted(self.left_out.items()):
            names = [path.relative_to(self.root).as_posix() for path in sorted(paths)]
            texts.append(f"has {kind} ({len(names)}: {shortlist(names, _EXAMPLES)})")
        return texts


def scan_folder(root: Path, unlisted: dict[Path, AstHfError] | None = None) -> Folder:
    """Return the contents of a folder, sorted; hidden files and folders are left out.

    Links to folders are followed, except to a folder that they are in; below a link, only to new folders. So
    the search ends, whatever the links.

    Args:
        root: the folder.
        unlisted: takes the folders that cannot be listed, with the reason; without it, they are an error.

    Raises:
        AstDataError: E206 for a folder that cannot be listed.
    """
    search = _Search(root)
    waiting: list[tuple[Path, tuple[str, ...], bool]] = [(root, (os.path.realpath(root),), False)]
    while waiting:
        place, above, linked = waiting.pop()
        for entry in _entries(place, unlisted):
            path = place / entry.name
            if not _is_folder(entry):
                search.add_file(path, hidden=entry.name.startswith("."))
            elif entry.name in _FOREIGN:
                continue
            elif entry.name.startswith("."):
                search.add_hidden_folder(path)
            else:
                real = os.path.realpath(path)
                is_link = entry.is_symlink()
                if is_link and (real in above or (linked and real in search.seen)):
                    search.leave_out("links to folders that are read already", path)
                    continue
                search.folder.others.append(path)
                search.seen.add(real)
                waiting.append((path, (*above, real), linked or is_link))
    search.folder.clips.sort()
    search.folder.others.sort()
    return search.folder


def _entries(place: Path, unlisted: dict[Path, AstHfError] | None) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError as problem:
        what = f"cannot be listed ({problem.strerror})"
        fix = "check its permissions, or move it elsewhere"
        failure = error("E206", where=repr(str(place)), what=what, fix=fix)
        if unlisted is None:
            raise failure from problem
        unlisted[place] = failure
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder or a link to one; False for a link to itself, and without permission."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class _Search:
    """Search of a folder: what was found so far.

    Attributes:
        folder: the contents.
        seen: real paths of the folders that were found.
    """

    def __init__(self, root: Path) -> None:
        self.folder = Folder(root, [], Counter(), [], {})
        self.seen: set[str] = set()
        self._opened = 0

    def leave_out(self, kind: str, path: Path) -> None:
        """Record a file or folder that is left out."""
        self.folder.left_out.setdefault(kind, []).append(path)

    def add_file(self, path: Path, *, hidden: bool) -> None:
        """Record a file, or a name without a file."""
        suffix = path.suffix.lower()
        if hidden:
            self._add_hidden_file(path, suffix)
        elif suffix in AUDIO_SUFFIXES:
            self.folder.clips.append(path)
        elif suffix in UNREAD_SUFFIXES:
            self.folder.unread[suffix] += 1
        elif suffix in _ARCHIVES:
            self.leave_out("archives that are not opened", path)
        elif not path.exists():
            self.leave_out("links to nothing", path)
        elif self._is_audio(path):
            self.leave_out("audio files with other suffixes", path)
        else:
            self.folder.others.append(path)

    def _add_hidden_file(self, path: Path, suffix: str) -> None:
        name = path.name
        if suffix == _ICLOUD:
            self.add_file(path.with_name(name[1 : -len(_ICLOUD)]), hidden=False)
        elif suffix in AUDIO_SUFFIXES and not name.startswith(_MAC_ATTRIBUTES):
            self.leave_out("hidden clips", path)

    def add_hidden_folder(self, place: Path) -> None:
        """Record a hidden folder that has clips directly in it."""
        try:
            with os.scandir(place) as entries:
                names = [entry.name for entry in entries]
        except OSError:
            names = []
        if any(Path(name).suffix.lower() in AUDIO_SUFFIXES for name in names):
            self.leave_out("hidden folders of clips", place)

    def _is_audio(self, path: Path) -> bool:
        """Return True for a file of an unknown kind that begins like audio."""
        if path.suffix.lower() in TABLE_SUFFIXES or self._opened >= _MAX_OPENED or not path.is_file():
            return False
        self._opened += 1
        try:
            with path.open("rb") as file:
                return file.read(4).startswith(_AUDIO_STARTS)
        except OSError:
            return False
