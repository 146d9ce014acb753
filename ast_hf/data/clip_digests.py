"""Digests of clips: what a clip sounds like and what it is called, from the bytes of its file, not decoded."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .naming_conventions import Row

#: Bytes of a file up to which all of it is read: 10 s of 44.1 kHz stereo in 16 bits are 1.8 MB.
WHOLE_FILE = 1 << 21

#: Pieces that are read of a larger file unless all of it is, evenly spaced from its first byte to its last, and
#: their length. An edit between them that keeps the file's size is not seen.
PIECES = 32
PIECE = 1 << 16

#: Bytes that are in memory of a file.
_BLOCK = WHOLE_FILE

#: Bytes of a digest: 2**32 clips have two of the same by chance with a probability of 2**-65.
DIGEST_SIZE = 16


class ClipDigest(NamedTuple):
    """Digests of a clip, `DIGEST_SIZE` bytes each.

    Attributes:
        sound: of size and content of its file, and of `start` and `end`. Clips with the same one are the same.
        identity: of the file's name too, without its folder.
    """

    sound: bytes
    identity: bytes


class ClipSounds(NamedTuple):
    """Clips of a split whose sound decides a run's result.

    Attributes:
        split: name of the split.
        rows: row of each clip there, from 0.
        paths: file of each clip.
        identities: `ClipDigest.identity` of each clip.
    """

    split: str
    rows: list[int]
    paths: list[str]
    identities: list[bytes]

    def describe(self, number: int) -> str:
        """Return split, row and file name of a clip, counted from 0, for messages that are published."""
        return f"{self.split} row {self.rows[number] + 1}, {Path(self.paths[number]).name!r}"


def digest_clip(
    row: Row, digest_file: Callable[[str], tuple[int, bytes]] | None = None, *, reads_all: bool = False
) -> ClipDigest:
    """Return the digests of a row.

    Args:
        row: a row of a stored split.
        digest_file: a `digest_content` that remembers some files, with the same `reads_all`.
        reads_all: read all of a large file, not only `PIECES` of it.
    """
    audio = row["audio"]
    content = audio.get("bytes")
    if content is None:
        digest_file = digest_file or partial(digest_content, reads_all=reads_all)
        size, digest = digest_file(str(audio.get("path")))
    else:
        size = len(content)
        digest = _digest_file(io.BytesIO(content), size, reads_all=reads_all)
    sound = _digest(repr((size, digest, row.get("start"), row.get("end"))).encode())
    name = Path(str(audio.get("path") or "")).name
    return ClipDigest(sound, _digest(sound + name.encode("utf-8", "surrogateescape")))


def combine(digests: list[bytes]) -> str:
    """Return one digest of many, in their order, as 16 hexadecimal digits."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def digest_content(path: str, *, reads_all: bool = False) -> tuple[int, bytes]:
    """Return the size of a file, -1 if it cannot be opened, and a digest of its content.

    `reads_all` reads all of a large file, not only `PIECES` of it.
    """
    try:
        state = Path(path).stat()
        if not stat.S_ISREG(state.st_mode):  # reading a pipe could wait for ever
            return -1, b""
        with Path(path).open("rb", buffering=0) as file:
            return state.st_size, _digest_file(file, state.st_size, reads_all=reads_all)
    except (OSError, ValueError):
        return -1, b""


def _digest_file(file: BinaryIO | io.FileIO, size: int, *, reads_all: bool) -> bytes:
    hasher = hashlib.sha256()
    if reads_all or size <= WHOLE_FILE:
        while part := file.read(_BLOCK):
            hasher.update(part)
        return hasher.digest()[:DIGEST_SIZE]
    for number in range(PIECES):
        file.seek((size - PIECE) * number // (PIECES - 1))
        hasher.update(file.read(PIECE) or b"")
    return hasher.digest()[:DIGEST_SIZE]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_SIZE]
