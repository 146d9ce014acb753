"""Structure of audio files: what their chunks, pages and frames say about their length, before decoding.

libsndfile believes the counts in a header. Files that were written to a pipe have none, or a placeholder, and
files that were cut, joined or damaged have wrong ones. `read_layout` compares the counts with the file, and
returns what libsndfile needs to decode it completely.
"""

from __future__ import annotations

from .audio_chunks import read_aiff, read_au, read_caf, read_wave, read_wave64
from .audio_content import Content, Layout
from .audio_flac import read_flac
from .audio_mpeg import behind_id3, read_mpeg
from .audio_ogg import read_ogg

_READERS = (
    ((b"RIFF", b"RIFX", b"RF64"), read_wave),
    ((b"riff",), read_wave64),
    ((b"FORM",), read_aiff),
    ((b".snd", b"dns."), read_au),
    ((b"caff",), read_caf),
    ((b"OggS",), read_ogg),
    ((b"fLaC",), read_flac),
)
_ALL_MARKS = tuple(mark for marks, _ in _READERS for mark in marks)


def read_layout(content: Content, where: str) -> Layout:
    """Return the layout of an audio file, and move `content` behind a tag that libsndfile cannot skip.

    Raises:
        AstDataError: E202 for a file that is cut off, E203 for one that is damaged or contradicts itself, E205
            for a kind of samples that is not decoded.
    """
    begin = behind_id3(content)
    if begin and content.at(begin, 4).startswith(_ALL_MARKS):
        content.skip(begin)
        begin = 0
    head = content.at(0, 4)
    for marks, read in _READERS:
        if head.startswith(marks):
            return read(content, where)
    return read_mpeg(content, begin, where)
