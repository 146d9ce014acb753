"""Label files beside recordings: Audacity label tracks, Raven selection tables, and others of one recording."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from ..errors import AstHfWarning, error, shortlist, warning_text
from ..table_text import read_text
from ..timelines.reading import LABEL_SUFFIXES, read_events, recording_stem
from ..timelines.rows import EventRow
from .folder_scan import Folder, scan_folder
from .naming_conventions import AUDIO_SUFFIXES, SPLIT_NAMES, Row
from .option_spelling import option
from .tables import Table
from .timed_rows import TimedPart

#: Number of names in a message.
_EXAMPLES = 3

#: Formats of label files, for messages.
_FORMATS = "rec.txt of Audacity, or rec.Table.1.selections.txt of Raven, for rec.wav"


def read_label_file(path: Path, audio_root: Path | None) -> TimedPart:
    """Return the labels of a file that is no table: their recordings are those it names, else the one beside it.

    Raises:
        AstDataError: E206 for a recording that does not exist, E208 for a file that cannot be read.
    """
    root = audio_root or path.parent
    clips = scan_folder(root).clips if audio_root else _siblings(path)
    beside = _of_stem(recording_stem(path), clips)
    return _part(path, root, clips, beside)


def read_labelled_folder(root: Path, audio_root: Path | None, *, is_complete: bool) -> list[TimedPart]:
    """Return the labels of each recording of a folder that has a label file, with the split of its folder.

    Warns (W205) of recordings that are not read: those without a label file, and those in other formats.

    Args:
        root: the folder; folders in it may be named after splits.
        audio_root: folder of the recordings, if it is another one.
        is_complete: recordings without a label file are known to have no sounds.

    Raises:
        AstDataError: E206 for a label file without its recording, E208 for a recording with two label files,
            and for one that cannot be read, E209 for a folder without recordings or label files.
    """
    place = audio_root or root
    sound = scan_folder(place)
    clips = sound.clips
    others = scan_folder(root).others
    files = [path for path in others if _is_label_name(path) and path.is_file()]
    found: dict[Path, Path] = {}  # recording -> label file
    for path in files:
        clip = _of_label_file(path.relative_to(root), place, clips)
        if clip is None:
            if not _is_labels(path):
                continue
            what = f"is a label file, and there is no recording {recording_stem(path)!r} in {str(place)!r}"
            fix = f"put the recording beside it, or name its folder with {option('audio_root')}"
            raise error("E206", where=repr(str(path)), what=what, fix=fix)
        if clip in found:
            what = f"has two label files, {found[clip].name!r} and {path.name!r}"
            raise error("E208", where=repr(str(clip)), what=what, fix="keep one of them")
        found[clip] = path
    if not found:
        raise _nothing(root, sound, others)
    unlabelled = [] if is_complete else [clip for clip in clips if clip not in found]
    _warn_of_unread(sound, unlabelled)
    return [
        _part(path, place, clips, clip)._replace(split=_split_of(path.relative_to(root)))
        for clip, path in sorted(found.items())
    ]


def _part(path: Path, root: Path, clips: Sequence[Path], beside: Path | None) -> TimedPart:
    """Return the labels of a file; a file without any says that the recording beside it has no sounds."""
    events = read_events(path) or [EventRow(None, None, "line 1")]
    rows = []
    for event in events:
        clip = _recording(event.recording, path, clips, beside)
        file = str(clip.relative_to(root)) if root in clip.parents else str(clip)
        row: Row = {"file": file, "start": None, "end": None, "label": None}
        if event.event is not None:
            row |= {"start": event.event.start, "end": event.event.end, "label": event.event.label}
        rows.append(row)
    return TimedPart(None, Table(rows, str(path), root), [event.place for event in events])


def _recording(name: str | None, path: Path, clips: Iterable[Path], beside: Path | None) -> Path:
    """Return the recording that a label file names, maybe by its path on another machine, else the one beside."""
    if name is not None:
        base = PureWindowsPath(name).name
        named = next((clip for clip in clips if clip.name == base), None) or _of_stem(Path(base).stem, clips)
        if named is not None:
            return named
        if beside is None or Path(base).suffix.lower() in AUDIO_SUFFIXES:
            return path.parent / name  # E206 names it
    if beside is None:
        what = f"names no recording, and there is none {recording_stem(path)!r} beside it"
        fix = f"put the recording beside it, or name its folder with {option('audio_root')}"
        raise error("E206", where=repr(str(path)), what=what, fix=fix)
    return beside


def _siblings(path: Path) -> list[Path]:
    return sorted(clip for clip in path.parent.iterdir() if clip.suffix.lower() in AUDIO_SUFFIXES)


def _of_stem(stem: str, clips: Iterable[Path]) -> Path | None:
    """Return the only recording of this name without its suffix, or with it (`rec.wav.txt`); else None."""
    found = [clip for clip in clips if stem in (clip.stem, clip.name)]
    return found[0] if len(found) == 1 else None


def _of_label_file(path: Path, place: Path, clips: Sequence[Path]) -> Path | None:
    """Return the recording of a label file: the one in the same folder, else the only one of its name."""
    stem = recording_stem(path)
    folder = place / path.parent
    return _of_stem(stem, (clip for clip in clips if clip.parent == folder)) or _of_stem(stem, clips)


def _is_label_name(path: Path) -> bool:
    return path.name.lower().endswith(tuple(suffix.lower() for suffix in LABEL_SUFFIXES))


def _is_labels(path: Path) -> bool:
    """Return True for a file of Raven by its name, and for text that begins like one of Audacity's."""
    if path.name.lower().endswith(".selections.txt"):
        return True
    if path.suffix.lower() != ".txt" or path.stat().st_size == 0:
        return False
    cells = read_text(path).lstrip().partition("\n")[0].split("\t")
    return len(cells) > 1 and all(cell.strip().replace(".", "", 1).isdigit() for cell in cells[:2])


def _split_of(path: Path) -> str | None:
    """Return the split that the outermost folder of a file is named after, None for any other."""
    return SPLIT_NAMES.get(path.parts[0].lower()) if len(path.parts) > 1 else None


def _nothing(root: Path, sound: Folder, others: Sequence[Path]) -> Exception:
    """Return the E209 for a folder without recordings, or without label files; the fix names a table in it."""
    clips = sound.clips
    if not clips:
        what = "; ".join((f"holds no recording ({', '.join(sorted(AUDIO_SUFFIXES))})", *sound.omissions()))
        fix = f"give a folder of recordings with a label file beside each ({_FORMATS}), or a table"
        return error("E209", where=repr(str(sound.root)), what=what, fix=fix)
    tables = [
        path for path in others if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json", ".parquet")
    ]
    fix = f"put one beside each ({_FORMATS}), or give a table with a row for each label as the source"
    if tables:
        fix += f", such as {str(tables[0])!r}"
    what = f"holds {len(clips)} recordings, and no label file beside one"
    return error("E209", where=repr(str(root)), what=what, fix=fix)


def _warn_of_unread(sound: Folder, unlabelled: Sequence[Path]) -> None:
    """Warn (W205) of recordings of a folder that are not read."""
    omissions = sound.omissions()
    if unlabelled:
        names = shortlist([clip.relative_to(sound.root).as_posix() for clip in unlabelled], _EXAMPLES)
        what = (
            f"has recordings without a label file, which are not read ({len(unlabelled)}: {names}); an empty "
        )
        what += f"label file says that one has no sounds, as does a table of all, {option('recordings')}"
        omissions.append(what)
    if omissions:
        where = repr(str(sound.root))
        warnings.warn(warning_text("W205", where=where, what="; ".join(omissions)), AstHfWarning, 2)
