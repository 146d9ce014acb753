"""Kinds of files that phones, browsers and cameras record, and PyAV decodes: how each is recognised and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .audio_content import Content
from .audio_matroska import MARK as MATROSKA_MARK
from .audio_matroska import check_matroska
from .audio_mp4 import FIRST_BOXES, check_mp4
from .audio_mpeg import behind_id3
from .audio_packets import (
    ASF_MARK,
    PROGRAM_MARK,
    begins_adts,
    begins_transport,
    caf_code,
    check_adts,
    check_amr,
    check_asf,
    check_avi,
    check_caf,
    check_flv,
    check_program,
    check_transport,
)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: name for messages.
        demuxer: the only part of FFmpeg that may take it apart: it chooses none by itself.
        check: raises E202 or E203 for a file that is cut off or damaged, and E205 for a protected one; returns
            how many packets of sound a file has at least, if its structure says that.
    """

    name: str
    demuxer: str
    check: Callable[[Content, str], int | None]


_ADTS = Kind("AAC (ADTS)", "aac", check_adts)
_AVI = Kind("AVI", "avi", check_avi)
_CAF = Kind("Core Audio with compressed samples", "caf", check_caf)
_MP4 = Kind("MP4/M4A (AAC)", "mov", check_mp4)
_TRANSPORT = Kind("MPEG transport stream", "mpegts", check_transport)

#: First bytes -> kind.
_BY_MARK = {
    MATROSKA_MARK: Kind("WebM/Matroska", "matroska", check_matroska),
    ASF_MARK[:4]: Kind("WMA", "asf", check_asf),
    b"#!AMR": Kind("AMR", "amr", check_amr),
    b"FLV\x01": Kind("Flash video", "flv", check_flv),
    PROGRAM_MARK: Kind("MPEG program stream", "mpeg", check_program),
}

#: Codecs in Core Audio files that libsndfile does not decode.
_CAF_CODES = frozenset({b"aac ", b"opus", b"ima4", b".mp3"})


def coded_kind(content: Content) -> Kind | None:
    """Return the kind of a file by its content, or None if PyAV is not needed for it or does not read it."""
    head = content.at(0, 16)
    for mark, kind in _BY_MARK.items():
        if head.startswith(mark):
            return kind
    if head[4:8] in FIRST_BOXES:
        return _MP4
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _AVI
    if head[:4] == b"caff":
        return _CAF if caf_code(content) in _CAF_CODES else None
    if begins_transport(content):
        return _TRANSPORT
    return _ADTS if begins_adts(content.at(behind_id3(content), 2)) else None
