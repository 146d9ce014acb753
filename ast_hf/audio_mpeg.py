"""Structure of MP3 files (ISO 11172-3, 13818-3): their frames, counted, and the tags around them."""

from __future__ import annotations

import re
from typing import NamedTuple

from .audio_content import Content, Layout, cut, damaged

_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BIT_RATES[2, 3] = _BIT_RATES[2, 2]
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

#: Tags in a row before they are taken for nonsense.
_MAX_TAGS = 1_000

#: Bytes of a Lyrics3 tag, whose length has six digits.
_LARGEST_LYRICS = 1 << 20


class _MpegFrame(NamedTuple):
    """Header of a frame: what must not change within a stream, its bytes, its samples per channel."""

    stream: tuple[int, int, int, bool]
    length: int
    samples: int


def _mpeg_frame(header: bytes) -> _MpegFrame | None:
    """Return the frame that 4 bytes begin, or None; free-format frames are not read."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate_code = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate_code == 3:
        return None
    generation = 1 if version == 3 else 2
    rate = _MPEG_RATES[version][rate_code]
    bit_rate = _BIT_RATES[generation, layer][bits] * 1_000
    padding = header[2] >> 1 & 1
    mono = header[3] >> 6 == 3
    if layer == 1:
        return _MpegFrame((version, layer, rate, mono), (12 * bit_rate // rate + padding) * 4, 384)
    samples = 576 if layer == 3 and generation == 2 else 1_152
    return _MpegFrame((version, layer, rate, mono), samples // 8 * bit_rate // rate + padding, samples)


def behind_id3(content: Content) -> int:
    """Return the offset behind the ID3v2 tags at the beginning of a file."""
    offset = 0
    for _ in range(_MAX_TAGS):
        end = _tag_end(content, offset)
        if end is None:
            break
        offset = end
    return offset


def _tag_end(content: Content, offset: int) -> int | None:
    """Return the end of the ID3v2 tag at `offset`, or None if there is none."""
    head = content.at(offset, 10)
    if len(head) < 10 or not head.startswith(b"ID3") or any(byte & 0x80 for byte in head[6:]):
        return None
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte
    return offset + 10 + size + (10 if head[5] & 0x10 else 0)


def read_mpeg(content: Content, begin: int, where: str) -> Layout:
    """Count the frames of an MP3, and compare them with the count of its first frame, if that has one."""
    first = _mpeg_frame(content.at(begin, 4))
    if first is None:
        if begin >= content.size:
            raise cut(where, "it ends in its tag")
        return Layout()  # libsndfile says what it is, or why it cannot be read
    declared, is_info = _declared_frames(content.at(begin, 200))
    count, longest, partial = _count_frames(content, begin, first, where)
    count -= is_info
    if declared and count < declared:
        raise cut(where, f"{count:,} frames are there, its header declares {declared:,}")
    if declared and count > declared + 1:
        fix = "convert its parts one by one, for example with `ffmpeg -i IN OUT.flac`"
        raise damaged(
            where, f"declares {declared:,} frames and holds {count:,}; it may be several files joined", fix
        )
    if declared:
        return Layout()
    if partial:
        raise cut(where, "its last frame is incomplete")
    # Without a count libsndfile takes its estimate for the length, and never reads more. Told a larger size,
    # it estimates too much, and reads up to the end.
    size = begin + 4 * (count + 8) * longest
    return Layout(size=max(size, content.size), frames=count * first.samples)


def _declared_frames(frame: bytes) -> tuple[int, int]:
    """Return the count in a Xing, Info or VBRI frame or 0, and 1 if it is such a frame, which has no audio.

    As in the decoder, a frame is only taken for one if the bytes in front of the name are zeros.
    """
    mpeg1 = frame[1] & 8
    mono = frame[3] >> 6 == 3
    place = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    if frame[place : place + 4] in (b"Xing", b"Info") and not any(frame[4:place]):
        flags = int.from_bytes(frame[place + 4 : place + 8], "big")
        return (int.from_bytes(frame[place + 8 : place + 12], "big") if flags & 1 else 0), 1
    if frame[36:40] == b"VBRI" and not any(frame[4:36]):
        return int.from_bytes(frame[50:54], "big"), 1
    return 0, 0


def _count_frames(content: Content, begin: int, first: _MpegFrame, where: str) -> tuple[int, int, bool]:
    """Return the number of whole frames, the bytes of the longest, and whether a part of one follows."""
    offset = begin
    count = longest = 0
    while True:
        frame = _mpeg_frame(content.at(offset, 4))
        if frame is None:
            behind = behind_tags(content, offset)
            if behind >= content.size:
                return count, longest, False
            if behind > offset and _mpeg_frame(content.at(behind, 4)):
                offset = behind
                continue
            return count, longest, _is_partial(content, behind, first, where)
        if frame.stream != first.stream:
            if not _follows(content, offset, frame):
                return count, longest, _is_partial(content, offset + 1, first, where)
            fix = "convert its parts one by one, for example with `ffmpeg -i IN OUT.flac`"
            raise damaged(where, f"changes its sampling rate, channels or layer at byte {offset:,}", fix)
        if offset + frame.length > content.size:
            return count, longest, True
        count += 1
        longest = max(longest, frame.length)
        offset += frame.length


def _follows(content: Content, offset: int, frame: _MpegFrame) -> bool:
    behind = _mpeg_frame(content.at(offset + frame.length, 4))
    return behind is not None and behind.stream == frame.stream


def _is_partial(content: Content, offset: int, first: _MpegFrame, where: str) -> bool:
    """Return False for bytes of another kind at the end of a stream; raise E203 if more frames follow."""
    data = content.at(offset, 1 << 16)
    for match in re.finditer(rb"\xff[\xe0-\xff]", data):
        frame = _mpeg_frame(data[match.start() : match.start() + 4])
        if (
            frame is not None
            and frame.stream == first.stream
            and _follows(content, offset + match.start(), frame)
        ):
            raise damaged(where, f"is damaged at byte {offset:,}, where a frame should begin")
    return False


def behind_tags(content: Content, offset: int) -> int:
    """Return the offset behind tags of other programs: ID3, APE, Lyrics3, zeros."""
    for _ in range(_MAX_TAGS):
        head = content.at(offset, 32)
        if head.startswith(b"TAG"):
            offset += 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            size = int.from_bytes(head[12:16], "little")
            offset += size + (32 if head[23] & 0x20 else 0) if head[23] & 0x80 else 32 + size
        elif head.startswith(b"LYRICSBEGIN"):
            end = content.at(offset, _LARGEST_LYRICS).find(b"LYRICS200")
            if end < 0:
                return offset
            offset += end + 9
        elif (end_of_tag := _tag_end(content, offset)) is not None:
            offset = end_of_tag
        elif head[:1] == b"\0":
            zeros = content.at(offset, 1 << 20)
            offset += len(zeros) - len(zeros.lstrip(b"\0"))
        else:
            return offset
    return offset
