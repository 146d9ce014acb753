"""Download of recordings that are given as URLs."""

from __future__ import annotations

import http.client
import time
import urllib.request
from typing import Any

from ..audio_formats import MAX_PIPED
from ..errors import AstHfError, error, unreadable

#: Longest wait for the next bytes of a URL, in seconds.
_TIMEOUT = 30.0
#: Longest download of a URL, in seconds.
_SECONDS = 600.0


def is_url(source: Any) -> bool:
    """Return True for the text of an http or https URL."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def fetch(url: str) -> bytes:
    """Return the bytes that a URL names; raise E703 if they cannot be had, or only too slowly."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            return _received(response, url)
    except AstHfError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as problem:
        what = "cannot be downloaded"
        fix = "check it, or download the file and pass its path"
        raise unreadable("E703", where=repr(url), what=what, problem=problem, fix=fix) from None


def _received(response: Any, url: str) -> bytes:
    """Return the bytes of a response; raise E703 for too many, or if they come too slowly."""
    deadline = time.monotonic() + _SECONDS
    parts = []
    size = 0
    while part := response.read1(1 << 20):
        parts.append(part)
        size += len(part)
        if size > MAX_PIPED or time.monotonic() > deadline:
            what = f"gave {size:,} bytes and no end; the limits are {MAX_PIPED:,} bytes and {_SECONDS:g} s"
            raise error("E703", where=repr(url), what=what, fix="download the file and pass its path")
    return b"".join(parts)
