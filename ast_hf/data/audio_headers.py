"""Rate, channels and length of an audio file, from its header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..audio import open_audio


class Header(NamedTuple):
    """Sampling rate in Hz, number of channels and length in seconds of a file."""

    rate: int
    channels: int
    seconds: float


def read_header(audio: Mapping[str, Any]) -> Header:
    """Return the header of a stored clip; nothing is decoded.

    Raises the errors of `load_audio` that header and structure show: a path, a format, a header that is
    impossible, a file that is cut off, and many that are damaged.
    """
    with open_audio(audio) as clip:
        if clip.missing:
            raise clip.missing
        return Header(clip.rate, clip.channels, clip.length / clip.rate)
