"""Structure of Matroska and WebM files (RFC 9559): their elements, compared with the file."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from .audio_content import Content, cut, damaged

MARK = b"\x1aE\xdf\xa3"

_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
#: Void and CRC-32, which may be anywhere.
_ANYWHERE = frozenset({b"\xec", b"\xbf"})
#: SeekHead, Info, Tracks, Cluster, Cues, Attachments, Chapters, Tags.
_IN_SEGMENT = _ANYWHERE | {
    *(b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", _CLUSTER),
    *(b"\x1c\x53\xbb\x6b", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70", b"\x12\x54\xc3\x67"),
}
#: Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock.
_IN_CLUSTER = _ANYWHERE | {b"\xe7", b"\x58\x54", b"\xa7", b"\xab", b"\xa3", b"\xa0", b"\xaf"}

_SIMPLE_BLOCK = b"\xa3"
_BLOCK_GROUP = b"\xa0"
_BLOCK = b"\xa1"

#: Bytes of the id and the size of an element at most.
_HEADER = 12


class _Element(NamedTuple):
    """Id, first byte of the content, and end of an element; the end is None if its size is unknown."""

    id: bytes
    start: int
    end: int | None


def check_matroska(content: Content, where: str) -> int:
    """Return the number of blocks of a file with one track, else 0: each holds one packet or more.

    Browsers write segments and clusters of unknown size: they last until the next element of a higher level.

    Raises:
        AstDataError: E202 for a file that is cut off, E203 for one that is damaged or holds several recordings.
    """
    head = _element(content, 0, where)
    segment = _element(content, head.end or 0, where)
    if segment.id != _SEGMENT:
        raise damaged(where, f"is damaged at byte {head.end:,}, where its segment should begin")
    end = content.size if segment.end is None else segment.end
    if end > content.size:
        raise cut(where, f"its segment is {end - content.size:,} bytes longer than the file")
    offset = segment.start
    clusters = 0
    tracks: Counter[bytes] = Counter()
    while offset < end:
        element = _element(content, offset, where)
        if element.id == MARK:
            raise damaged(
                where, "holds several recordings one after another", "split it, or convert its parts"
            )
        if element.id not in _IN_SEGMENT or (element.end is None and element.id != _CLUSTER):
            raise damaged(where, f"is damaged at byte {offset:,}, where an element should begin")
        clusters += element.id == _CLUSTER
        offset = element.end or end
        if element.id == _CLUSTER:
            offset = _behind_cluster(content, element, end, tracks, where)
    if not clusters:
        raise cut(where, "it has no cluster of samples")
    return tracks.total() if len(tracks) == 1 else 0


def _behind_cluster(
    content: Content, cluster: _Element, segment_end: int, tracks: Counter[bytes], where: str
) -> int:
    """Check the elements of a cluster, count the blocks of each track, and return the offset behind it."""
    end = segment_end if cluster.end is None else cluster.end
    offset = cluster.start
    while offset < end:
        element = _element(content, offset, where)
        if cluster.end is None and (element.id in _IN_SEGMENT - _ANYWHERE or element.id == MARK):
            return offset
        if element.id not in _IN_CLUSTER or element.end is None or element.end > end:
            raise damaged(where, f"is damaged at byte {offset:,}, where a block should begin")
        if element.id in (_SIMPLE_BLOCK, _BLOCK_GROUP):
            is_simple = element.id == _SIMPLE_BLOCK
            tracks[content.at(element.start, 1) if is_simple else _track(content, element, where)] += 1
        offset = element.end
    return offset


def _track(content: Content, group: _Element, where: str) -> bytes:
    """Return the first byte of the number of the track that a group of elements belongs to."""
    offset = group.start
    while group.end is not None and offset < group.end:
        element = _element(content, offset, where)
        if element.id == _BLOCK:
            return content.at(element.start, 1)
        offset = element.end or group.end
    raise damaged(where, f"has a group without a block at byte {group.start:,}")


def _element(content: Content, offset: int, where: str) -> _Element:
    """Return the element at an offset; raise E202 if it is longer than the file, E203 if it is none."""
    head = content.at(offset, _HEADER)
    id_length = 9 - head[0].bit_length() if head else 9
    size_length = 9 - head[id_length].bit_length() if len(head) > id_length else 9
    start = id_length + size_length
    if id_length <= 4 and size_length <= 8 and len(head) >= start:
        size = int.from_bytes(head[id_length:start], "big") ^ 1 << 7 * size_length
        unknown = size == (1 << 7 * size_length) - 1
        end = None if unknown else offset + start + size
        if end is None or end <= content.size or head[:id_length] == _SEGMENT:
            return _Element(head[:id_length], offset + start, end)
        raise cut(where, f"its last element is {end - content.size:,} bytes longer than the file")
    if offset + _HEADER > content.size:
        raise cut(where, "its last element is incomplete")
    raise damaged(where, f"is damaged at byte {offset:,}, where an element should begin")
