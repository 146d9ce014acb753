"""Decoding of audio files with soundfile, block by block, mixed to mono."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .audio_av import open_coded
from .audio_clips import BLOCK, CHECK, Clip, Mixer, Part, check_channels, check_rate, reading
from .audio_coded import coded_kind
from .audio_containers import read_layout
from .audio_content import CUT, Content, Layout, cut, damaged, unsupported
from .audio_flac import holds_second_flac
from .audio_formats import (
    AUDIO_MARKS,
    CONTAINERS,
    MAX_PIPED,
    NOT_AUDIO,
    SUBTYPES,
    UNSUPPORTED,
)
from .errors import AstHfError, error, nearest

#: Texts in libsndfile's errors for headers with impossible values.
_IMPOSSIBLE_HEADER = ("SF_INFO struct incomplete", "Channel count is zero", "Too many channels")

#: Texts in libsndfile's errors for valid files that it cannot decode.
_NOT_IMPLEMENTED = ("unsupported encoding", "unimplemented format")

#: Bytes that no header exceeds: a larger file that decodes to 0 samples has lost them or their count.
_LARGEST_HEADER = 1_024

#: Samples that are decoded in front of a part of an MP3: a frame uses bits of up to 511 bytes before it, and the
#: smallest frames have 24.
_MP3_RUN_UP = 32 * 1_152

#: Bytes of the ID3v1 tag at the end of an MP3.
_MP3_TAG = 128


@contextlib.contextmanager
def open_file(source: str | PathLike, part: Part | None, block: int | None = None) -> Iterator[Clip]:
    """Open a file by its path; raise E206 for a path that is no readable file, E703 for a URL."""
    text = os.fspath(source)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", str(text)):
        what = "is a URL, and URLs are not downloaded automatically"
        fix = "download the file first and pass its path or its bytes"
        raise error("E703", where=_shown(text), what=what, fix=fix)
    path = Path(os.fsdecode(text))
    where = _shown(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
            raise error("E206", where=where, what=what, fix="pass the path of one audio file")
        file = path.open("rb")
    except (OSError, ValueError) as problem:
        if isinstance(problem, AstHfError):
            raise
        raise _path_error(path, where, problem) from None
    with file, open_content(file, where, part, block) as clip:
        yield clip


def _shown(path: Any, limit: int = 300) -> str:
    """Return a path in quotes, shortened if it is no path but the content of a file."""
    text = str(path)
    return repr(text if len(text) <= limit else f"{text[:60]}... ({len(text):,} characters)")


def _path_error(path: Path, where: str, problem: Exception) -> AstHfError:
    """Return E206 for a path that cannot be opened, with the reason."""
    number = getattr(problem, "errno", None)
    if not isinstance(problem, OSError):
        return error("E206", where=where, what=f"is no path ({problem})", fix="check the path")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return _missing_file_error(path, where)
    if number == errno.ENAMETOOLONG:
        what = "is too long for a file name"
        return error("E206", where=where, what=what, fix="pass a path, or the bytes of the file as `bytes`")
    reason = problem.strerror or type(problem).__name__
    fix = "check its permissions" if number in (errno.EACCES, errno.EPERM) else "check the disk and the path"
    return error("E206", where=where, what=f"cannot be opened ({reason})", fix=fix)


def _missing_file_error(path: Path, where: str) -> AstHfError:
    siblings: list[str] = []
    with contextlib.suppress(OSError):
        if path.is_symlink():
            what = f"is a link to {_shown(path.readlink())}, which does not exist"
            return error("E206", where=where, what=what, fix="restore the file that it points to")
        siblings = [entry.name for entry in path.parent.iterdir() if entry.exists()]
    near = nearest(path.name, siblings)
    fix = f"did you mean {str(path.parent / near)!r}?" if near else "check the path"
    return error("E206", where=where, what="does not exist", fix=fix)


@contextlib.contextmanager
def open_object(file: Any, part: Part | None, block: int | None = None) -> Iterator[Clip]:
    """Open audio in an open binary file or a BytesIO, from its current position on.

    Raises E102 for a text file or a closed one, E207 for a pipe with more than `MAX_PIPED` bytes.
    """
    name = getattr(file, "name", None)
    where = _shown(name) if isinstance(name, (str, PathLike)) else f"open file ({type(file).__name__})"
    if getattr(file, "closed", False):
        raise error("E102", where=where, what="is a closed file", fix="pass its path, or an open file")
    with reading(where):
        if isinstance(file, io.TextIOBase) or isinstance(file.read(0), str):
            raise error("E102", where=where, what="is a text file", fix='open it with mode "rb"')
        if not (hasattr(file, "seekable") and file.seekable()):
            content = file.read(MAX_PIPED + 1)
            if len(content) > MAX_PIPED:
                what = f"is a pipe with more than {MAX_PIPED:,} bytes"
                raise error("E207", where=where, what=what, fix="write it to a file first")
            file = io.BytesIO(content)
    with open_content(file, where, part, block) as clip:
        yield clip


@contextlib.contextmanager
def open_content(file: Any, where: str, part: Part | None, block: int | None = None) -> Iterator[Clip]:
    """Open audio in a seekable binary file, and check its header and its structure.

    `block` is the number of samples of all channels that are decoded at once, `BLOCK` unless given. What a
    damaged block has before its damage is lost.
    """
    with reading(where):
        content = Content(file)
        _refuse_empty(content, where)
        kind = coded_kind(content)
    opened = (
        open_coded(content, kind, where, part, block) if kind else _open_sound(content, where, part, block)
    )
    with opened as clip:
        yield clip


@contextlib.contextmanager
def _open_sound(content: Content, where: str, part: Part | None, block: int | None) -> Iterator[Clip]:
    """Open a file that soundfile decodes."""
    import soundfile

    with reading(where):
        _refuse_non_audio(content.at(0, 512), where)
        layout = _layout(content, where, is_streamed=block is not None)
        reader = _Reader(content, layout)
        try:
            sound = soundfile.SoundFile(reader)
            # Else soundfile seeks after each block, and behind a jump the MP3 decoder lacks bits of former frames.
            sound.seekable = lambda: False
        except soundfile.LibsndfileError as problem:
            reader.raise_problem()
            if layout.missing:
                raise cut(where, layout.missing) from problem
            raise _decoding_error(str(problem), reader, where) from problem
    with sound:
        _check_header(sound, where)
        frames = sound.frames if layout.frames is None else layout.frames
        rate = sound.samplerate
        span = part.samples(frames, rate, where) if part else slice(0, frames)
        blocks = _Decoder(sound, reader, layout, where, block or BLOCK).blocks(span, whole=part is None)
        missing = cut(where, layout.missing) if layout.missing else None
        yield Clip(rate, sound.channels, span.stop - span.start, where, blocks, missing=missing)


def _layout(content: Content, where: str, *, is_streamed: bool) -> Layout:
    """Return the structure of a file; raise E202 if it is cut off, which a stream raises when its end is reached."""
    try:
        return read_layout(content, where)
    except AstHfError as problem:
        if problem.code != "E202" or not is_streamed:
            raise
        return Layout(missing=problem.what.removeprefix(CUT))


def _refuse_empty(content: Content, where: str) -> None:
    if content.size:
        return
    end = content.base > 0
    what = "is at its end" if end else "is empty (0 bytes)"
    fix = "call seek(0) first" if end else "copy or download the file again"
    raise error("E201", where=where, what=what, fix=fix)


def _refuse_non_audio(head: bytes, where: str) -> None:
    """Raise E201 or E205 unless a file begins as one of `CONTAINERS`."""
    for mark, name in UNSUPPORTED.items():
        if head.startswith(mark):
            raise unsupported(where, name)
    for mark, (what, fix) in NOT_AUDIO.items():
        if head.lstrip().startswith(mark):
            raise error("E201", where=where, what=what, fix=fix)
    if head.startswith(AUDIO_MARKS):
        return
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        what = "cannot be decoded and does not look like audio (its first bytes are of no known format)"
        raise error("E201", where=where, what=what, fix=CHECK)


def _check_header(sound: Any, where: str) -> None:
    if sound.format not in CONTAINERS or sound.subtype not in SUBTYPES:
        raise unsupported(where, f"{sound.format_info} with {sound.subtype_info} samples")
    check_rate(sound.samplerate, where, code="E204")
    check_channels(sound.channels, where)


class _Reader:
    """File object for soundfile, with a layout's changes.

    It has no name, so that soundfile detects the format from the content. It records whether the end of the
    file was reached, and what the disk raised: an exception must not pass through libsndfile. The end of FLAC is read
    in small pieces: a truncated file then reaches its end, a damaged one fails before.
    """

    _FLAC_PIECE = 1_024
    _FLAC_END = 65_536

    def __init__(self, content: Content, layout: Layout) -> None:
        self.content = content
        self._file = content.file
        self._base = content.base
        self._end = content.size
        self._size = content.size if layout.size is None else layout.size
        self._patches = layout.patches
        self.is_flac = content.at(0, 4) == b"fLaC"
        self._position = 0
        self._problem: BaseException | None = None
        self.reached_end = False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._position, self._size)[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        is_end = self._end - self._position <= self._FLAC_END
        view = memoryview(buffer)[: self._FLAC_PIECE if is_end and self.is_flac else None]
        try:
            data = self._read(len(view))
        except BaseException as problem:  # raised again by `raise_problem`: this is called by C
            self._problem = problem
            return 0
        self.reached_end |= len(data) < len(view)
        view[: len(data)] = data
        return len(data)

    def _read(self, count: int) -> bytes:
        if self._end < self._size - _MP3_TAG <= self._position:  # where the MP3 decoder looks for a tag first
            count = min(count, self._size - self._position)
            self._position += count
            return bytes(count)
        count = min(count, self._end - self._position)
        if count <= 0:
            return b""
        first = self._position
        self._file.seek(self._base + first)
        data = self._file.read(count)
        for offset, new in self._patches:
            if offset < first + len(data) and first < offset + len(new):
                data = _overwritten(data, offset - first, new)
        self._position = first + len(data)
        return data

    def raise_problem(self) -> None:
        """Raise what was raised while libsndfile read the file."""
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem


def _overwritten(data: bytes, place: int, new: bytes) -> bytes:
    """Return bytes with `new` at `place`, which may be before their start or reach over their end."""
    changed = bytearray(data)
    for position, byte in enumerate(new, place):
        if 0 <= position < len(changed):
            changed[position] = byte
    return bytes(changed)


class _Decoder:
    """Blocks of an open file, mixed to mono, and the checks that need decoded samples."""

    def __init__(self, sound: Any, reader: _Reader, layout: Layout, where: str, block: int) -> None:
        self.block = block
        self.sound = sound
        self.reader = reader
        self.layout = layout
        self.where = where

    def blocks(self, span: slice, *, whole: bool) -> Iterator[np.ndarray]:
        """Yield the mono samples of `span`; raise E202 or E203 at its end unless all could be decoded."""
        expected = span.stop - span.start
        mixer = Mixer(self.where)
        done = 0
        while done < expected:
            samples = self._read(span.start if not done and not whole else None, expected - done)
            if not len(samples):
                break
            done += len(samples)
            yield mixer.mix(samples)
        self._check_complete(done, expected, whole)
        mixer.warn()

    def _read(self, start: int | None, count: int) -> np.ndarray:
        import soundfile

        with reading(self.where):
            try:
                if start is not None:
                    self._seek(start)
                size = max(self.block // self.sound.channels, 1)
                samples = self.sound.read(min(count, size), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as problem:
                self.reader.raise_problem()
                raise _decoding_error(str(problem), self.reader, self.where) from problem
            self.reader.raise_problem()
            return samples

    def _seek(self, start: int) -> None:
        """Go to a sample; the MP3 decoder gives other samples right behind a jump than it does in a row."""
        run_up = min(start, _MP3_RUN_UP) if self.sound.format == "MP3" else 0
        self.sound.seek(start - run_up)
        if run_up:
            self.sound.read(run_up, dtype="float32")

    def _check_complete(self, done: int, expected: int, whole: bool) -> None:
        content = self.reader.content
        lost = whole and done == expected == 0 and content.size > _LARGEST_HEADER
        if done < expected or lost:
            seconds = done / self.sound.samplerate
            raise cut(self.where, f"{seconds:.3f} s could be decoded, its header declares more")
        if self.layout.missing:
            raise cut(self.where, self.layout.missing)
        if whole and self.sound.format == "FLAC":
            with reading(self.where):
                if holds_second_flac(content):
                    fix = "convert its parts one by one, for example with `ffmpeg -i IN OUT.flac`"
                    raise damaged(self.where, "holds several FLAC streams one after another", fix)


def _decoding_error(message: str, reader: _Reader, where: str) -> AstHfError:
    reason = message.rstrip(".").split(": ")[-1]
    if any(mark in message for mark in _IMPOSSIBLE_HEADER):
        return error("E204", where=where, what=f"has an impossible header ({reason})", fix=CHECK)
    if any(mark in message for mark in _NOT_IMPLEMENTED):
        return unsupported(where, f"a variant of its format ({reason})")
    if reader.is_flac and reader.reached_end:
        return cut(where, f"its stream ends early ({reason})")
    return error("E203", where=where, what=f"cannot be decoded ({reason})", fix=CHECK)
