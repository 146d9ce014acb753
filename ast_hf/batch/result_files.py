"""Files of a batch's results: their names, early checks, and writing."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import error
from ..files import part_stem, write_bytes
from ..inference.urls import is_url
from ..timelines.formats import FORMATS, Format, results_text, write_results
from ..timelines.results import Result
from ..writing_failures import check_file, check_folder
from .journal import Entry

#: Longest name of a file in bytes, on Linux and macOS (NAME_MAX).
_MAX_NAME = 255
#: Files of `files.write_whole` that a kill has left behind.
_PART = re.compile(r"\.(.*)\.\d+\.part(\.[^.]+)?")


def file_names(recordings: Sequence[str], suffix: str) -> list[str]:
    """Return the name of each recording's own result file, relative to the folder of results; all differ.

    The folders below the recordings' common one are kept. The recording's suffix is replaced, unless two
    recordings would then have the same name. A name that is too long for a disk is shortened, and ends with a digest.
    """
    relative = _relative(recordings)
    stems = [path.with_suffix("") for path in relative]
    counts = Counter(stems) + Counter(set(relative))
    pairs = zip(relative, stems, strict=True)
    names = [stem if counts[stem] == (2 if stem == whole else 1) else whole for whole, stem in pairs]
    return [_shortened(f"{name}{suffix}", suffix) for name in names]


def _relative(recordings: Sequence[str]) -> list[Path]:
    paths = [Path(re.sub(r"[/?:]+", "/", name) if is_url(name) else name) for name in recordings]
    paths = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (links keep their names)
    try:
        common = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # on several drives of Windows, or none
        return [path.relative_to(path.anchor) for path in paths]
    return [path.relative_to(common) for path in paths]


def _shortened(name: str, suffix: str) -> str:
    path = Path(name)
    content = os.fsencode(path.name)
    if len(content) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(content).hexdigest()[:8]
    end = f"~{digest}{suffix}"
    start = content[: _MAX_NAME - len(end)].decode(errors="ignore")
    return str(path.with_name(start + end))


def check_results(folder: Path, format: str) -> None:
    """Raise E401 unless the file of results can be written, and E108 for Parquet without pyarrow."""
    check_folder(folder)
    chosen = FORMATS[format]
    if not chosen.per_recording:
        check_file(folder / _together(chosen))
    if chosen.record is None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as problem:
            what = f"parquet needs pyarrow ({problem})"
            raise error("E108", where="format", what=what, fix="pip install pyarrow") from problem


def _together(format: Format) -> str:
    return f"results{format.suffix}"


def write_files(
    entries: Sequence[Entry], folder: Path, format: str, kind: str, top_hertz: float
) -> list[Path]:
    """Write the results of a batch into a folder, and return the paths of the files.

    Formats for one recording give a file for each, in the folders of the recordings; the others give one file,
    `results` with the suffix of the format. A recording that could not be classified is in none: an older file of
    its own is removed, and so are unfinished files of a process that was killed.

    Raises:
        AstRunError: E401 for a file that cannot be written.
    """
    if not FORMATS[format].per_recording:
        path = folder / _together(FORMATS[format])
        _remove_parts([path])
        results = [_result(entry, kind, top_hertz) for entry in entries if entry.content is not None]
        write_results(path, results, format, kind)
        return [path]
    names = file_names([entry.name for entry in entries], FORMATS[format].suffix)
    paths = [folder / name for name in names]
    _remove_parts(paths)
    written = []
    for path, entry in zip(paths, entries, strict=True):
        if entry.content is None:
            path.unlink(missing_ok=True)
            continue
        text = results_text([_result(entry, kind, top_hertz)], format, kind)
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
        written.append(path)
    return written


def _result(entry: Entry, kind: str, top_hertz: float) -> Result:
    return Result(entry.name, kind, entry.content or [], top_hertz)


def _remove_parts(paths: Iterable[Path]) -> None:
    """Remove unfinished files of these paths; the journal's lock keeps other processes away from them."""
    stems: dict[Path, set[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, set()).add(part_stem(path))
    for folder, known in stems.items():
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for match in filter(None, map(_PART.fullmatch, names)):
            if match[1] in known:
                (folder / match[0]).unlink(missing_ok=True)
