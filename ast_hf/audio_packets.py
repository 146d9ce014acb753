"""Structure of files that are rows of packets: AAC (ADTS), AMR, ASF, AVI, CAF, FLV and MPEG streams."""

from __future__ import annotations

import uuid

from .audio_content import Content, cut, damaged, unsupported
from .audio_mpeg import behind_id3, behind_tags

AMR_MARK = b"#!AMR\n"
AMR_WIDE_MARK = b"#!AMR-WB\n"
ASF_MARK = uuid.UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le

#: Bytes of a frame by its mode, with its own (RFC 4867); 0 for modes without a meaning.
_AMR_SIZES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_AMR_WIDE_SIZES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)

_ASF_DATA = uuid.UUID("75b22636-668e-11cf-a6d9-00aa0062ce6c").bytes_le
#: Objects in the header of a protected file: content encryption, extended content encryption.
_ASF_PROTECTION = (
    uuid.UUID("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e").bytes_le,
    uuid.UUID("298ae614-2622-4c17-b935-dae07ee9289c").bytes_le,
)
#: Bytes of a header at most: pictures and the names of tags are in it.
_LARGEST_ASF_HEADER = 1 << 26

#: Bytes of a packet of a transport stream, and of the one of cameras, which has a time stamp of 4 bytes in front.
TRANSPORT_PACKET = 188
CAMERA_PACKET = 192
_SYNC = 0x47

#: First bytes of a pack of an MPEG program stream (ISO 13818-1).
PROGRAM_MARK = b"\x00\x00\x01\xba"


def begins_adts(header: bytes) -> bool:
    """Return True if bytes begin a frame of AAC with an ADTS header (ISO 13818-7)."""
    return len(header) >= 2 and header[0] == 0xFF and header[1] & 0xF6 == 0xF0


def check_adts(content: Content, where: str) -> int:
    """Return the number of frames; raise E202 if the last one is incomplete, E203 where none begins."""
    offset = behind_id3(content)
    first = content.at(offset, 4)
    count = 0
    while offset < content.size:
        header = content.at(offset, 7)
        if not begins_adts(header):
            if behind_tags(content, offset) >= content.size:
                break
            raise damaged(where, f"is damaged at byte {offset:,}, where a frame should begin")
        if len(header) < 7:
            raise cut(where, "its last frame is incomplete")
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        # Profile, rate and channels are in these bits.
        if length < 7 or header[2] != first[2] or (header[3] ^ first[3]) & 0xC0:
            raise damaged(
                where, f"is damaged at byte {offset:,}, or changes its sampling rate or channels there"
            )
        if offset + length > content.size:
            raise cut(where, "its last frame is incomplete")
        offset += length
        count += 1
    return count


def check_amr(content: Content, where: str) -> int:
    """Return the number of frames.

    Raises:
        AstDataError: E202 if the last one is incomplete, E203 for a mode without a meaning, E205 for several
            channels.
    """
    wide = content.at(0, len(AMR_WIDE_MARK)) == AMR_WIDE_MARK
    mark = AMR_WIDE_MARK if wide else AMR_MARK
    if content.at(0, len(mark)) != mark:
        raise unsupported(where, "AMR with several channels")
    sizes = _AMR_WIDE_SIZES if wide else _AMR_SIZES
    offset = len(mark)
    count = 0
    while offset < content.size:
        head = content.at(offset, 1)[0]
        size = sizes[head >> 3 & 15]
        if not size or head & 0x83:
            raise damaged(where, f"is damaged at byte {offset:,}, where a frame should begin")
        offset += size
        count += 1
    if offset > content.size:
        raise cut(where, "its last frame is incomplete")
    return count


def check_asf(content: Content, where: str) -> None:
    """Raise E202 for a WMA or WMV file that is cut off, E205 for a protected one."""
    size = int.from_bytes(content.at(16, 8), "little")
    if size > content.size:
        raise cut(where, "its header ends early")
    header = content.at(0, min(size, _LARGEST_ASF_HEADER))
    if any(mark in header for mark in _ASF_PROTECTION):
        raise unsupported(where, "protected against copying (DRM)")
    offset = size
    has_data = False
    while offset < content.size:
        head = content.at(offset, 24)
        size = int.from_bytes(head[16:24], "little")
        if head[:16] == _ASF_DATA and size in (0, 50):  # written to a pipe
            return
        if len(head) < 24 or offset + size > content.size:
            raise cut(where, "its last object is longer than the file")
        if size < 24:
            raise damaged(where, f"has an object with an impossible size at byte {offset:,}")
        has_data |= head[:16] == _ASF_DATA
        offset += size
    if not has_data:
        raise cut(where, "it has no packets of samples")


def check_avi(content: Content, where: str) -> None:
    """Raise E202 for a file whose parts are longer than it; those above 1 GB have several."""
    offset = 0
    while offset + 12 <= content.size:
        head = content.at(offset, 12)
        if head[:4] != b"RIFF":
            return
        size = int.from_bytes(head[4:8], "little")
        if size == 0:
            raise cut(where, "its size is missing, which is written when a recording ends")
        if offset + 8 + size > content.size:
            raise cut(
                where, f"it is {offset + 8 + size - content.size:,} bytes shorter than its header declares"
            )
        offset += 8 + size + size % 2


def check_flv(content: Content, where: str) -> None:
    """Raise E202 if the last tag is incomplete, E203 where a tag should begin and none does."""
    offset = int.from_bytes(content.at(5, 4), "big") + 4
    while offset < content.size:
        head = content.at(offset, 11)
        end = offset + 11 + int.from_bytes(head[1:4], "big") + 4
        if len(head) == 11 and head[0] & 0x1F not in (8, 9, 18):
            raise damaged(where, f"is damaged at byte {offset:,}, where a tag should begin")
        if len(head) < 11 or end > content.size:
            raise cut(where, "its last tag is incomplete")
        if int.from_bytes(content.at(end - 4, 4), "big") not in (0, end - 4 - offset):
            raise damaged(where, f"has a tag at byte {offset:,} whose two sizes differ")
        offset = end


def begins_transport(content: Content) -> int:
    """Return the bytes of a packet if a file begins as an MPEG transport stream, else 0."""
    for size, place in ((TRANSPORT_PACKET, 0), (CAMERA_PACKET, 4)):
        packets = min(content.size // size, 3)
        marks = [content.at(place + number * size, 1) for number in range(packets)]
        if packets and all(mark == bytes([_SYNC]) for mark in marks):
            return size
    return 0


def check_transport(content: Content, where: str) -> None:
    """Raise E202 if the last packet is incomplete, E203 where a packet should begin and none does."""
    size = begins_transport(content)
    place = size - TRANSPORT_PACKET
    step = size * 1_000
    for offset in range(0, content.size, step):
        marks = content.at(offset, step)[place::size]
        bad = next((number for number, mark in enumerate(marks) if mark != _SYNC), None)
        if bad is not None:
            raise damaged(where, f"is damaged at byte {offset + bad * size:,}, where a packet should begin")
    if content.size % size:
        raise cut(where, "its last packet is incomplete")


def check_program(content: Content, where: str) -> None:
    """Raise E202 if the last packet of an MPEG program stream is incomplete, E203 where none begins."""
    offset = 0
    while offset < content.size:
        head = content.at(offset, 14)
        if head[:4] == PROGRAM_MARK and len(head) == 14:
            size = 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
        elif head[:4] == b"\x00\x00\x01\xb9":
            size = 4
        elif head[:3] == b"\x00\x00\x01" and head[3:4] > b"\xba" and len(head) >= 6:
            size = 6 + int.from_bytes(head[4:6], "big")
        elif len(head) >= 4 and not any(content.at(offset, 1 << 16)):
            return
        elif len(head) < 14:
            raise cut(where, "its last packet is incomplete")
        else:
            raise damaged(where, f"is damaged at byte {offset:,}, where a packet should begin")
        if offset + size > content.size:
            raise cut(where, "its last packet is incomplete")
        offset += size


def caf_code(content: Content) -> bytes:
    """Return the four letters of the codec of a Core Audio file (Apple, CAF 1.0), or nothing."""
    return content.at(28, 4) if content.at(8, 4) == b"desc" else b""


def check_caf(content: Content, where: str) -> None:
    """Raise E202 for a Core Audio file that is cut off; a size of -1 means up to the file's end."""
    offset = 8
    while offset < content.size:
        head = content.at(offset, 12)
        size = int.from_bytes(head[4:12], "big", signed=True)
        if head[:4] == b"data" and size == -1:
            return
        if len(head) < 12 or offset + 12 + size > content.size:
            raise cut(where, "its last chunk is longer than the file")
        if size < 0:
            raise damaged(where, "has a chunk with an impossible size")
        offset += 12 + size
