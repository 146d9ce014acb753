"""Checks of all clips of a split before any is needed: their headers, or all of their samples."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset

from ..audio_formats import MAX_DECODED, MAX_SAMPLES
from ..data.audio_headers import read_header
from ..data.clip_digests import ClipDigest, digest_clip, digest_content
from ..data.duplicates import Stretch, file_stretch
from ..data.naming_conventions import BOUNDARIES, Row
from ..data.option_spelling import AUDIO_ROOT, NO_BOUNDARIES
from ..errors import AstHfError, AstRunError, error
from ..feature_extraction_ast import level_problems
from ..files import write_text
from ..progress import progress_bar
from .processing import decode_clip

#: Rows that are in memory at a time; their audio may be embedded.
_BATCH = 64
#: Threads that read files: more of them wait for a network file system, or contend for one interpreter.
_MAX_THREADS = 8
#: Files whose header and digest are remembered: a recording may have many clips.
_RECENT_FILES = 64
#: Seconds up to which a clip is decoded: the number of its frames depends on the exact number of samples.
_SHORT = 0.1


@dataclass(frozen=True)
class BadClip:
    """A clip that cannot be used.

    Attributes:
        split: its split.
        row: its row there, from 1.
        path: its file, or the name of its embedded audio.
        code: code of the error that reading it raises.
        what: the problem.
        fix: what the user can do about it.
    """

    split: str
    row: int
    path: str
    code: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def where(self) -> str:
        """Split, row and file, for messages."""
        return f"{self.split} row {self.row}, {self.path!r}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the fix."""
        return {name: value for name, value in asdict(self).items() if name != "fix"}


class CheckedClip(NamedTuple):
    """A row of a split after `check_headers`.

    Attributes:
        path: its file, or the name of its embedded audio.
        stretch: file, start and end in seconds of a clip that is a file; None for embedded audio.
        digest: its digests.
        seconds: its length, NaN if it cannot be used.
    """

    path: str
    stretch: Stretch | None
    digest: ClipDigest
    seconds: float


@dataclass
class SplitCheck:
    """Result of `check_headers`.

    Attributes:
        clips: all rows.
        bad: those that cannot be used.
    """

    clips: list[CheckedClip] = field(default_factory=list)
    bad: list[BadClip] = field(default_factory=list)


class _Outcome(NamedTuple):
    digest: ClipDigest
    seconds: float
    problem: AstHfError | None


_NO_DIGEST = ClipDigest(b"", b"")

#: Outcomes by check, file, size and times, inside `remembered_checks`.
_remembered: dict[Any, _Outcome] | None = None


@contextmanager
def remembered_checks() -> Iterator[None]:
    """Check a file only once inside this context, unless it changes: for runs that share their clips."""
    global _remembered
    before = _remembered
    _remembered = {} if before is None else before
    try:
        yield
    finally:
        _remembered = before


def check_headers(
    name: str,
    split: Dataset,
    sampling_rate: int,
    *,
    reads_all: bool = False,
    disable_tqdm: bool | None = None,
) -> SplitCheck:
    """Check the header and the structure of every clip's file; raise nothing for bad clips.

    A header betrays a missing, empty or truncated file, one that is not audio, an impossible format or size,
    a clip shorter than a frame, and `start` and `end` outside of the file. A suspicion from a header is
    confirmed by decoding the clip, so that only clips are bad whose use would raise an error.

    Args:
        name: name of the split, for messages.
        split: a stored split of `load_audio_dataset`.
        sampling_rate: of the model, in Hz.
        reads_all: digests are of all bytes; otherwise of pieces of a file that is larger than 2 MiB.
        disable_tqdm: show no progress; None and False show it, see `progress.progress_bar`.
    """
    result = SplitCheck()
    text = f"checking headers of {name}"
    for outcome, row in _outcomes(split, _HeaderCheck(reads_all), sampling_rate, text, disable_tqdm):
        result.clips.append(_checked_clip(row, outcome))
        if outcome.problem is not None:
            result.bad.append(_bad_clip(name, len(result.clips), row, outcome.problem))
    return result


def decode_all(
    name: str, split: Dataset, sampling_rate: int, checked: SplitCheck, *, disable_tqdm: bool | None = None
) -> None:
    """Decode the clips of a split that `check_headers` passed, and add those that are bad to its result.

    This finds damage inside of files, and samples that are not finite. Arguments as for `check_headers`.
    """
    numbers = [number for number, clip in enumerate(checked.clips) if not math.isnan(clip.seconds)]
    text = f"decoding {name}"
    part = split if len(numbers) == len(split) else split.select(numbers)
    outcomes = _outcomes(part, _DecodingCheck(), sampling_rate, text, disable_tqdm)
    for number, (outcome, row) in zip(numbers, outcomes, strict=True):
        if outcome.problem is not None:
            checked.bad.append(_bad_clip(name, number + 1, row, outcome.problem))
    checked.bad.sort(key=lambda clip: clip.row)


def _outcomes(
    split: Dataset, check: _HeaderCheck | _DecodingCheck, sampling_rate: int, text: str, silent: bool | None
) -> Iterator[tuple[_Outcome, Row]]:
    """Yield the outcome of a check of each row, and the row; several threads read files."""
    columns = [column for column in ("audio", *BOUNDARIES) if column in split.column_names]
    check_row = partial(_remember, check, sampling_rate)
    bar = progress_bar(total=len(split), desc=text, unit="clip", leave=False, disable=silent)
    with bar, ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for batch in split.select_columns(columns).iter(_BATCH):
            cells = zip(*(batch[column] for column in columns), strict=True)
            rows = [dict(zip(columns, row, strict=True)) for row in cells]
            yield from zip(pool.map(check_row, rows), rows, strict=True)
            bar.update(len(rows))


def _checked_clip(row: Row, outcome: _Outcome) -> CheckedClip:
    return CheckedClip(_name(row), file_stretch(row), outcome.digest, outcome.seconds)


def _bad_clip(split: str, number: int, row: Row, problem: AstHfError) -> BadClip:
    return BadClip(split, number, _name(row), problem.code, problem.what, problem.fix)


def _name(row: Row) -> str:
    return row["audio"].get("path") or "embedded audio"


def _remember(check: _HeaderCheck | _DecodingCheck, sampling_rate: int, row: Row) -> _Outcome:
    """Return the outcome of a check, from memory inside `remembered_checks` for an unchanged file."""
    if _remembered is None or (state := _file_state(row)) is None:
        return check(row, sampling_rate)
    key = (check.key, sampling_rate, *state)
    if key not in _remembered:
        _remembered[key] = check(row, sampling_rate)
    return _remembered[key]


def _file_state(row: Row) -> tuple[Any, ...] | None:
    """Return what changes when a clip's file or its boundaries do; None for embedded or missing audio."""
    audio = row["audio"]
    if audio.get("bytes") is not None:
        return None
    try:
        state = Path(audio["path"]).stat()
    except (OSError, ValueError, TypeError):
        return None
    times = (state.st_mtime_ns, state.st_ctime_ns)
    return (audio["path"], state.st_ino, state.st_size, *times, row.get("start"), row.get("end"))


class _DecodingCheck:
    """Decodes a clip."""

    key = "decoding"

    def __call__(self, row: Row, sampling_rate: int, digest: ClipDigest = _NO_DIGEST) -> _Outcome:
        try:
            return _Outcome(digest, _decoded_length(row, sampling_rate), None)
        except AstHfError as problem:
            return _Outcome(digest, math.nan, problem)


class _HeaderCheck:
    """Reads the header and the content of a clip's file: once for the clips that are parts of one file."""

    def __init__(self, reads_all: bool = False) -> None:
        self.key = f"headers {reads_all}"
        self._reads_all = reads_all
        self._digest = lru_cache(_RECENT_FILES)(partial(digest_content, reads_all=reads_all))
        self._header = lru_cache(_RECENT_FILES)(lambda path: read_header({"path": path}))
        self._decode = _DecodingCheck()

    def __call__(self, row: Row, sampling_rate: int) -> _Outcome:
        digest = digest_clip(row, self._digest, reads_all=self._reads_all)
        seconds = self._length(row, sampling_rate)
        if seconds is None:
            return self._decode(row, sampling_rate, digest)
        return _Outcome(digest, seconds, None)

    def _length(self, row: Row, sampling_rate: int) -> float | None:
        """Return the length of a clip in seconds if its header and structure are right, else None."""
        audio = row["audio"]
        try:
            header = read_header(audio) if audio.get("bytes") is not None else self._header(audio["path"])
        except AstHfError:
            return None
        start = row.get("start") or 0.0
        end = header.seconds if row.get("end") is None else row["end"]
        allowed = min(MAX_SAMPLES / sampling_rate, MAX_DECODED / (header.rate * header.channels))
        is_plain = end <= header.seconds and _SHORT <= end - start <= allowed
        return end - start if is_plain else None


def _decoded_length(row: Row, sampling_rate: int) -> float:
    """Return the length of a clip in seconds, all of which is decoded; raise the error of a bad one."""
    waveform = decode_clip(0, row, sampling_rate)
    level_problems(torch.from_numpy(waveform), "clip")
    return len(waveform) / sampling_rate


# ---------------------------------------------------------------- refusing bad clips

#: File in the output folder with all clips that stopped a run or an evaluation, one JSON object a line.
UNREADABLE_FILE = "unreadable_clips.jsonl"
#: How many clips an error names; of more, `UNREADABLE_FILE` has all.
_NAMED = 8


def refuse(bad: Sequence[BadClip], clips: int, folder: Path | None, *, skipping: str = "") -> AstHfError:
    """Return the error for clips that cannot be used: the first one's, which names the next ones too.

    Args:
        bad: the clips, at least one.
        clips: number of all clips that were checked.
        folder: output folder; if there are many bad clips, they are listed in its `UNREADABLE_FILE`. None writes no
            list.
        skipping: what to set to leave them out, for the fix.
    """
    first = bad[0]
    if len(bad) == 1:
        return error(first.code, where=first.where, what=first.what, fix=first.fix)
    what = (
        f"{first.what}; {len(bad)} of {clips} clips cannot be used, the next ones are {name_first(bad[1:])}"
    )
    fix = "repair or remove them"
    if any(clip.code == "E206" for clip in bad):
        fix += f", {AUDIO_ROOT}"
    if skipping:
        fix += f", or leave them out with {skipping}"
    if any(clip.code == "E208" for clip in bad):
        fix += f"; correct start and end, or {NO_BOUNDARIES}"
    return error(first.code, where=first.where, what=what, fix=fix + where_listed(bad, folder))


def name_first(bad: Sequence[BadClip]) -> str:
    """Return the first clips with what is wrong with each."""
    return "; ".join(map(str, bad[:_NAMED]))


def where_listed(bad: Sequence[BadClip], folder: Path | None) -> str:
    """Write the list of more clips than a message names into `folder`, and return where all are listed."""
    if len(bad) <= _NAMED or folder is None:
        return ""
    path = folder / UNREADABLE_FILE
    try:
        write_clips(path, bad)
    except AstRunError:  # the list is only a help
        return "; `ast-hf stats DATA` lists all"
    return f"; {str(path)!r} lists all"


def write_clips(path: Path, clips: Iterable[BadClip]) -> None:
    """Write clips as JSON lines: split, row, path, code, what."""
    lines = [json.dumps(clip.to_dict(), ensure_ascii=False) + "\n" for clip in clips]
    write_text(path, "".join(lines))
