"""Rate, channels and length of an audio file, from its header."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from ..audio import MAX_RATE, MIN_RATE, load_audio


class Header(NamedTuple):
    """What a file says of itself: its rate in Hz, channels and length in seconds."""

    rate: int
    channels: int
    seconds: float


def read_header(audio: Mapping[str, Any]) -> Header:
    """The header of a clip's file; `load_audio` says what is wrong with a bad one."""
    content, path = audio.get("bytes"), Path(str(audio.get("path")))
    if content is None and not path.is_file():
        load_audio(audio)
    try:
        with io.BytesIO(content) if content is not None else path.open("rb") as file:
            info = soundfile.info(file)
    except (OSError, soundfile.LibsndfileError):
        load_audio(audio)
        raise
    rate = min(max(info.samplerate, MIN_RATE), MAX_RATE)  # `load_audio` refuses rates outside of these
    return Header(rate, info.channels, info.frames / rate)
