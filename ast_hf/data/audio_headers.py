"""Rate, channels and length of an audio file, from its header."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from ..audio import MAX_RATE, MIN_RATE, load_audio


class Header(NamedTuple):
    """Sampling rate in Hz, number of channels and length in seconds of a file."""

    rate: int
    channels: int
    seconds: float


def read_header(audio: Mapping[str, Any]) -> Header:
    """Return the header of a stored clip, or raise the error of `load_audio` for an unreadable file."""
    content = audio.get("bytes")
    path = Path(str(audio.get("path")))
    if content is None and not path.is_file():
        load_audio(audio)
    try:
        with io.BytesIO(content) if content is not None else path.open("rb") as file:
            info = soundfile.info(file)
    except (OSError, soundfile.LibsndfileError):
        load_audio(audio)
        raise
    rate = min(max(info.samplerate, MIN_RATE), MAX_RATE)  # `load_audio` refuses rates outside this range
    return Header(rate, info.channels, info.frames / rate)
