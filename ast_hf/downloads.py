"""Verification of downloaded files by the Hub's own hashes, which name them in its client's cache."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

from .errors import AstHfError, AstRunError, error
from .files import write_text

#: Names of files in the cache: SHA-256 for large files (LFS and Xet), git's SHA-1 for others.
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")
_PIECE = 2**22


def verify_download(path: Path) -> None:
    """Raise E706 and remove the file if a file in the Hub's cache differs from the file on the Hub.

    A file is read once (1 GB/s) and noted in `HF_HOME/ast_hf/verified` with its size and time of change; later calls
    compare these. Files outside the cache, and in caches without links (Windows), have no hash and pass.
    """
    blob = _blob_of(path)
    if blob is None:
        return
    note = _note_of(blob)
    state = _state_of(blob)
    with suppress(OSError):
        if note.read_text(encoding="utf-8") == state:
            return
    actual = git_hash(blob) if _GIT.fullmatch(blob.name) else file_hash(blob)
    if actual != blob.name:
        raise refuse_download(path, blob, expected=blob.name, actual=actual)
    with suppress(AstRunError):  # a cache that is read only is verified each time
        write_text(note, state)


def verify_folder(folder: Path) -> None:
    """Verify the files of a folder in the Hub's cache, without its subfolders."""
    for path in sorted(folder.iterdir()):
        verify_download(path)


def verify_loaded(
    source: str | os.PathLike | None, name: str, arguments: Mapping[str, Any], *, with_others: bool = False
) -> None:
    """Verify the cached copy of a file that `from_pretrained` has read by its name on the Hub.

    `arguments` are those of `from_pretrained`; `with_others` verifies all files beside it too. Makes no request; a
    local folder has nothing to compare.
    """
    if source is None or Path(source).exists():
        return
    file = f"{arguments['subfolder']}/{name}" if arguments.get("subfolder") else name
    places = {key: arguments.get(key) for key in ("cache_dir", "revision")}
    with suppress(HFValidationError):
        path = try_to_load_from_cache(str(source), file, **places)
        if not isinstance(path, str):
            return
        verify_download(Path(path))
        if with_others:
            verify_folder(Path(path).parent)


def verify_local_download(folder: Path) -> None:
    """Raise E706 and remove the file if one of `snapshot_download(local_dir=folder)` is not the Hub's.

    Its client notes commit, hash and time of each file in `.cache/huggingface/download/NAME.metadata`.
    """
    notes = folder / ".cache" / "huggingface" / "download"
    for note in sorted(notes.rglob("*.metadata")):
        path = folder / note.relative_to(notes).with_suffix("")
        expected = note.read_text(encoding="utf-8").split()[1]
        is_known = _SHA256.fullmatch(expected) or _GIT.fullmatch(expected)
        if not path.is_file() or not is_known:
            continue
        actual = file_hash(path) if _SHA256.fullmatch(expected) else git_hash(path)
        if actual != expected:
            note.unlink()
            raise refuse_download(path, path, expected=expected, actual=actual)


def refuse_download(path: Path, blob: Path, *, expected: str, actual: str) -> AstHfError:
    """Remove a wrong file from the cache, so that it is downloaded again, and return E706."""
    what = f"is not the file on the Hub, whose hash is {expected}; that of the download is {actual}"
    fix = "repeat the command, which downloads it again: the wrong copy was removed"
    for wrong in (path, blob):
        try:
            wrong.unlink(missing_ok=True)
        except OSError:
            fix = f"delete {blob}, then repeat the command, which downloads it again"
    return error("E706", where=repr(str(path)), what=what, fix=fix)


def is_passing(problem: BaseException) -> bool:
    """Return True if another try of a download may succeed: after a broken connection, 408, 429, 5xx, a wrong size.

    A Hub that does not answer at all is not tried again: its client reports that by the missing copy in the cache.
    """
    causes = [problem, problem.__cause__]
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return False
    for cause in causes:
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            return status in (408, 429) or status >= 500
    return isinstance(problem, HTTPError) or is_wrong_size(problem)


def is_wrong_size(problem: BaseException) -> bool:
    """Return True for the exception of the Hub's client for a download of the wrong size, which has no class."""
    return type(problem) is OSError and str(problem).startswith("Consistency check failed")


def file_hash(content: Path | bytes) -> str:
    """Return the SHA-256 of a file or of bytes, the Hub's name for large files."""
    return _digest(content, hashlib.sha256())


def git_hash(content: Path | bytes) -> str:
    """Return the SHA-1 that git names a file by, the Hub's name for small files."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return _digest(content, hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False))


def _digest(content: Path | bytes, digest: hashlib._Hash) -> str:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _blob_of(path: Path) -> Path | None:
    """Return the file in `blobs` that a path in `snapshots` links to, None for any other path."""
    if not path.is_symlink():
        return None
    blob = path.parent / path.readlink()
    is_blob = blob.parent.name == "blobs" and (_SHA256.fullmatch(blob.name) or _GIT.fullmatch(blob.name))
    return blob if is_blob and blob.is_file() else None


def _state_of(blob: Path) -> str:
    facts = blob.stat()
    return f"{blob.name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def _note_of(blob: Path) -> Path:
    name = hashlib.sha256(os.fsencode(blob.absolute())).hexdigest()
    return Path(constants.HF_HOME, "ast_hf", "verified", name)
