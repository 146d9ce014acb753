"""Content and layout of an audio file, and the errors for files that are cut off, damaged or not supported."""

from __future__ import annotations

from typing import Any, NamedTuple

from .errors import AstHfError, error

#: Beginning of what is wrong with a file that ends too early.
CUT = "is cut off: "


class Layout(NamedTuple):
    """What libsndfile needs to decode a file completely, and what is wrong with the file.

    Attributes:
        patches: (offset, bytes) that replace header fields without a valid count.
        size: bytes that libsndfile reads as the size, None for the true number.
        frames: length in frames, for files whose length libsndfile can only estimate.
        missing: why the file seems to be cut off, if decoding shows whether it is that or damaged.
    """

    patches: tuple[tuple[int, bytes], ...] = ()
    size: int | None = None
    frames: int | None = None
    missing: str | None = None


class Content:
    """Bytes of an open file from its current position on, read at any offset."""

    _WINDOW = 1 << 16

    def __init__(self, file: Any) -> None:
        self.file = file
        self.base = file.tell()
        self.size = max(file.seek(0, 2) - self.base, 0)
        self._start = 0
        self._bytes = b""

    def skip(self, count: int) -> None:
        """Move the beginning `count` bytes on."""
        self.base += count
        self.size -= count
        self._bytes = b""

    def at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, fewer at the end of the file."""
        if offset >= self.size:  # declared sizes lead to places where no disk can seek to
            return b""
        first = offset - self._start
        if first < 0 or first + count > len(self._bytes):
            self.file.seek(self.base + offset)
            self._bytes = self.file.read(max(count, self._WINDOW))
            self._start = offset
            first = 0
        return self._bytes[first : first + count]

    def find(self, mark: bytes, start: int) -> int:
        """Return the offset of the first `mark` at `start` or behind it, or -1."""
        step = 1 << 20
        for offset in range(start, self.size, step):
            self.file.seek(self.base + offset)
            position = self.file.read(step + len(mark) - 1).find(mark)
            if position >= 0:
                return offset + position
        return -1


def cut(where: str, reason: str) -> AstHfError:
    """Return E202 for a file that ends too early."""
    return error("E202", where=where, what=CUT + reason, fix="copy or download the file again")


def damaged(where: str, what: str, fix: str = "copy or download the file again, or drop it") -> AstHfError:
    """Return E203 for a file whose stream is damaged or contradicts itself."""
    return error("E203", where=where, what=what, fix=fix)


def unsupported(where: str, kind: str, *, extra: str = "") -> AstHfError:
    """Return E205 for a format that is not decoded, or not without an extra of the package."""
    fix = "convert it, for example with `ffmpeg -i IN OUT.flac`"
    if not extra:
        return error("E205", where=where, what=f"is {kind}, which is not supported", fix=fix)
    what = f"is {kind}, which needs the extra {extra!r}"
    return error("E205", where=where, what=what, fix=f'pip install "ast_hf[{extra}]", or {fix}')
