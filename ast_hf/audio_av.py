"""Decoding of what phones, browsers and cameras record with PyAV (FFmpeg), block by block, mixed to mono.

FFmpeg gets an open file, the one demuxer of its kind, and a list of decoders: it opens no other file and no
address, guesses no format, and decodes no video (docs/decisions/0017-decode-recordings-with-pyav.md).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .audio_clips import BLOCK, CHECK, Clip, Mixer, Part, check_channels, check_rate, reading
from .audio_coded import Kind
from .audio_content import Content, cut, damaged, unsupported
from .errors import AstHfError, error

if TYPE_CHECKING:
    import av

#: Decoders of FFmpeg that are used: those of what devices and browsers record. The others are rare, and tested less.
DECODERS = (
    *(
        "aac",
        "aac_latm",
        "ac3",
        "eac3",
        "alac",
        "amrnb",
        "amrwb",
        "flac",
        "mp1",
        "mp2",
        "mp3",
        "mp1float",
        "mp2float",
        "mp3float",
    ),
    *("opus", "vorbis", "wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_bluray"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_dvd"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)

#: Samples of every packet: AAC without doubling of the rate (ISO 14496-3), AC-3 (ATSC A/52), AMR (3GPP TS 26.101).
_FIXED = {"aac": 1_024, "ac3": 1_536, "amrnb": 160, "amrwb": 320}

#: Samples at 48 kHz of a frame of Opus by the configuration in its first byte (RFC 6716, table 2).
_OPUS_FRAMES = (*(480, 960, 1_920, 2_880) * 3, *(480, 960) * 2, *(120, 240, 480, 960) * 4)

#: Seconds by which times in ASF may be wrong: they are whole milliseconds.
_ROUNDED = Fraction(10, 1_000)

#: Sample format -> (zero point, full scale).
_SCALES = {"u8": (128, 2.0**7), "s16": (0, 2.0**15), "s32": (0, 2.0**31), "flt": (0, 1.0), "dbl": (0, 1.0)}

#: Number of planes from which on PyAV's `to_ndarray` is not used: it looks for an empty plane behind the last one,
#: and a frame has at most 8 (PyAV 17.1 and 18.1 end the process with SIGSEGV).
_ALL_PLANES = 8


class _Survey(NamedTuple):
    """What a pass over the packets of a file finds.

    Attributes:
        rate: in Hz.
        channels: number of channels.
        length: samples per channel that are decoded, up to a problem if there is one.
        problem: the error for what cannot be read.
    """

    rate: int
    channels: int
    length: int
    problem: AstHfError | None


@contextlib.contextmanager
def open_coded(
    content: Content, kind: Kind, where: str, part: Part | None, block: int | None = None
) -> Iterator[Clip]:
    """Open a file that PyAV decodes; raise E205 without PyAV, E201 without sound, E202-E204 for bad files.

    The number of samples is counted in a first pass over the packets, since no header has it: decoders add a
    delay, and browsers write no length. A part is decoded from the beginning of the file, because the decoders of
    AAC and Opus depend on what came before.
    """
    _require_av(kind, where)
    with reading(where):
        expected = kind.check(content, where) or 0
        survey = _survey(content, kind, where, expected)
    span = part.samples(survey.length, survey.rate, where) if part else slice(0, survey.length)
    with _Stream(content, kind, where, expected) as stream:
        blocks = _blocks(stream, survey, span, block or BLOCK)
        length = span.stop - span.start
        yield Clip(survey.rate, survey.channels, length, where, blocks, missing=survey.problem)


def _require_av(kind: Kind, where: str) -> None:
    try:
        import av  # noqa: F401
    except ImportError:
        raise unsupported(where, kind.name, extra="codecs") from None


class _Input:
    """File object for FFmpeg: it begins where the content does, and has no name."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0

    def read(self, count: int) -> bytes:
        count = min(count, self._content.size - self._position)
        if count <= 0:
            return b""
        self._content.file.seek(self._content.base + self._position)
        data = self._content.file.read(count)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max((0, self._position, self._content.size)[whence] + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


def _refuse_other_file(*_: Any) -> None:
    raise PermissionError("no other file is read")


class _Stream:
    """The audio of an open file: its packets, at least `expected` ones, and their decoder."""

    def __init__(self, content: Content, kind: Kind, where: str, expected: int) -> None:
        import av

        self.where = where
        self._kind = kind
        self._expected = expected
        self._problems = av.FFmpegError
        options = {
            "codec_whitelist": ",".join(DECODERS),
            "format_whitelist": kind.demuxer,
            "protocol_whitelist": "",
        }
        with self._reading():
            self._container: Any = av.open(
                _Input(content),
                format=kind.demuxer,
                container_options=options,
                metadata_errors="ignore",
                io_open=_refuse_other_file,
            )
        try:
            self.audio = self._choose()
            self.decoder = self._prepare()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of FFmpeg into E203 and E206."""
        with reading(self.where):
            try:
                yield
            except self._problems as problem:
                reason = problem.strerror or type(problem).__name__
                raise error(
                    "E203", where=self.where, what=f"cannot be decoded ({reason})", fix=CHECK
                ) from problem

    def _choose(self) -> av.AudioStream:
        """Return the stream that FFmpeg chooses: the default one, of several that with the most channels."""
        streams = self._container.streams.audio
        if not streams:
            what = "has no sound, only pictures or data" if len(self._container.streams) else "has no sound"
            raise error("E201", where=self.where, what=what, fix="drop it, or give the file with the sound")
        decoded = [stream for stream in streams if stream.codec_context is not None]
        if not decoded:
            raise unsupported(self.where, "compressed by an unknown codec")
        return max(decoded, key=lambda stream: (bool(stream.disposition & 1), stream.codec_context.channels))

    def _prepare(self) -> av.AudioCodecContext:
        from av.stream import Discard

        decoder = self.audio.codec_context
        if decoder.name not in DECODERS:
            raise unsupported(self.where, f"{self._kind.name} with {decoder.name} samples")
        for stream in self._container.streams:
            if stream is not self.audio:
                stream.discard = Discard.all
        decoder.thread_count = 1
        decoder.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        return decoder

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the stream, and an empty one at its end.

        Raises E202 for a packet that is incomplete, E203 unless all are there: FFmpeg searches for the next packet
        after damage, and says nothing.
        """
        packets = self._container.demux(self.audio)
        count = 0
        end: Fraction | None = None
        while True:
            with self._reading():
                packet = next(packets, None)
            if packet is None:
                break
            if packet.is_corrupt:
                raise cut(self.where, f"its packet {count:,} of sound is incomplete")
            count += bool(packet.size)
            if not packet.size:
                self._check_count(count)
            elif self._kind.demuxer == "asf":
                end = self._check_gap(packet, end)
            yield packet

    def _check_gap(self, packet: av.Packet, end: Fraction | None) -> Fraction | None:
        """Return the end of a packet in seconds; raise E203 if packets between it and the one before are lost."""
        if packet.pts is None or not packet.duration:
            return None
        start = packet.pts * packet.time_base
        duration = packet.duration * packet.time_base
        if end is not None and start - end > duration / 2 + _ROUNDED:
            raise damaged(self.where, f"lacks {float(start - end):.3f} s of sound at {float(end):.3f} s")
        return start + duration

    def _check_count(self, count: int) -> None:
        indexed = len(self.audio.index_entries) if self._kind.demuxer == "mov" else 0
        expected = max(self._expected, indexed)
        if count < expected:
            raise damaged(self.where, f"has {expected:,} packets of sound, of which {count:,} can be read")

    def frames(self, packet: av.Packet) -> list[av.AudioFrame]:
        """Return what a packet is decoded to; raise E203 for one that is damaged."""
        with self._reading():
            return self.decoder.decode(packet if packet.size else None)


def _survey(content: Content, kind: Kind, where: str, expected: int) -> _Survey:
    """Count the samples of a file: by its packets where they say it, else by decoding."""
    with _Stream(content, kind, where, expected) as stream:
        first = _first_frame(stream)
        if first is None:
            raise error("E101", where=where, what="holds no samples", fix="remove it, or record it again")
        rate = first.sample_rate
        channels = first.layout.nb_channels
        name = stream.decoder.name
    check_rate(rate, where, code="E204")
    check_channels(channels, where)
    length = 0
    problem = None
    with _Stream(content, kind, where, expected) as stream:
        by_packets = _FIXED.get(name) == first.samples or (name == "opus" and kind.demuxer != "mpegts")
        counts = _counted(stream, first.samples) if by_packets else _decoded(stream, rate, channels)
        try:
            for count in counts:
                length += count
        except AstHfError as found:
            problem = found
    return _Survey(rate, channels, length, problem)


def _first_frame(stream: _Stream) -> av.AudioFrame | None:
    """Return the first frame before anything of it is left out."""
    from av.codec.context import Flags2

    stream.decoder.flags2 |= Flags2.skip_manual
    for packet in stream.packets():
        for frame in stream.frames(packet):
            return frame
    return None


def _counted(stream: _Stream, samples: int) -> Iterator[int]:
    """Yield the samples of each packet without decoding; what FFmpeg leaves out of it is left out."""
    is_opus = stream.decoder.name == "opus"
    header = stream.decoder.extradata or b""
    skipped = int.from_bytes(header[10:12], "little") if is_opus and header.startswith(b"OpusHead") else 0
    for packet in stream.packets():
        if not packet.size:
            continue
        count = _opus_samples(bytes(packet)[:2]) if is_opus else samples
        padding = 0
        if packet.has_sidedata("skip_samples"):
            marks = bytes(packet.get_sidedata("skip_samples"))
            skipped = int.from_bytes(marks[:4], "little")
            padding = int.from_bytes(marks[4:8], "little")
        kept = 0 if packet.is_discard else max(count - skipped, 0)
        skipped = max(skipped - count, 0)
        yield kept - padding if padding <= kept else kept


def _opus_samples(head: bytes) -> int:
    frames = (1, 2, 2, head[1] & 63 if len(head) > 1 else 0)[head[0] & 3]
    return _OPUS_FRAMES[head[0] >> 3] * frames


def _decoded(stream: _Stream, rate: int, channels: int) -> Iterator[int]:
    for packet in stream.packets():
        for frame in stream.frames(packet):
            _check_frame(frame, rate, channels, stream.where)
            yield frame.samples


def _check_frame(frame: av.AudioFrame, rate: int, channels: int, where: str) -> None:
    """Raise E203 for a frame of another rate or number of channels than the first, or one marked as damaged."""
    if frame.is_corrupt:
        raise damaged(where, "has a packet that is damaged")
    if frame.sample_rate != rate or frame.layout.nb_channels != channels:
        fix = "convert it, for example with `ffmpeg -i IN OUT.flac`"
        raise damaged(where, "changes its sampling rate or channels in the middle", fix)


def _blocks(stream: _Stream, survey: _Survey, span: slice, block: int) -> Iterator[np.ndarray]:
    """Yield the mono samples of `span`; what is before damage is yielded before its error is raised."""
    mixer = Mixer(stream.where)
    size = max(block // survey.channels, 1)
    problems: list[AstHfError] = []
    waiting: list[np.ndarray] = []
    kept = 0
    for piece in _pieces(stream, survey, span, problems):
        waiting.append(piece)
        kept += len(piece)
        if kept >= size:
            joined = np.concatenate(waiting)
            whole = kept - kept % size
            yield from (mixer.mix(joined[first : first + size]) for first in range(0, whole, size))
            waiting = [joined[whole:]]
            kept -= whole
    if kept:
        yield mixer.mix(np.concatenate(waiting))
    if problems:
        raise problems[0]
    mixer.warn()


def _pieces(
    stream: _Stream, survey: _Survey, span: slice, problems: list[AstHfError]
) -> Iterator[np.ndarray]:
    """Yield the samples of the frames in `span` as float32 `(time, channels)`; append the problem that ends them."""
    done = 0
    try:
        for packet in stream.packets():
            for frame in stream.frames(packet):
                _check_frame(frame, survey.rate, survey.channels, stream.where)
                samples = _samples(frame, stream.where)
                yield samples[max(span.start - done, 0) : max(span.stop - done, 0)]
                done += len(samples)
            if done >= span.stop and (span.stop < survey.length or survey.problem is not None):
                break
        else:
            if done != survey.length:
                what = f"is decoded to {done:,} samples, and its packets declare {survey.length:,}"
                raise damaged(stream.where, what)
        if survey.problem is not None and span.stop == survey.length:
            raise survey.problem
    except AstHfError as problem:
        problems.append(problem)


def _samples(frame: av.AudioFrame, where: str) -> np.ndarray:
    """Return the samples of a frame as float32 `(time, channels)`, integers scaled exactly."""
    name = frame.format.name.removesuffix("p")
    if name not in _SCALES:
        raise unsupported(where, f"compressed to {frame.format.name} samples")
    zero, scale = _SCALES[name]
    values = _values(frame, name)
    if scale == 1.0:
        return np.ascontiguousarray(values, np.float32)
    # In float64: int32 has more bits than float32, so rounding must happen once, after scaling.
    return np.ascontiguousarray((values.astype(np.float64) - zero) / scale, np.float32)


def _values(frame: av.AudioFrame, name: str) -> np.ndarray:
    """Return the samples of a frame as `(time, channels)`, of the type `name`."""
    import av

    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        return frame.to_ndarray().reshape(-1, channels)
    if channels < _ALL_PLANES:
        return frame.to_ndarray().T
    frame.pts = None
    parts = av.AudioResampler(format=name).resample(frame)
    return np.concatenate([part.to_ndarray().reshape(-1, channels) for part in parts])
