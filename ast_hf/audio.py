"""One door for audio: a path, bytes, an array, a tensor or a dict in; a mono float32 waveform at a known rate out.

Decoding is soundfile (WAV, FLAC, OGG Vorbis/Opus, MP3, AIFF, ...), resampling is soxr's HQ setting (133 dB signal to
noise at 44.1 -> 16 kHz), channels are mixed by their mean. No ffmpeg, torchaudio or torchcodec is involved
(docs/decisions/0004-decode-through-soundfile.md).
"""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import AstHfWarning, error, nearest, warning_text
from .scalars import plain_whole

if TYPE_CHECKING:
    import torch

#: Everything `load_audio` takes.
AudioSource = str | PathLike | bytes | np.ndarray | Mapping[str, Any] | Any

#: Limits on what a header may claim, checked before any memory is asked for. 384 kHz and 8 channels are the largest of
#: ordinary equipment; one hour of 16 kHz mono float32 is 230 MB.
MIN_RATE, MAX_RATE, MAX_CHANNELS, MAX_SECONDS = 1_000, 384_000, 8, 3_600.0

#: An end so many seconds behind a file's own end is taken for that end: tables of clips are rounded.
PART_TOLERANCE = 0.1

#: Containers and sample formats that are decoded; libsndfile's others are rare, and its decoders for some are unsafe
#: (CVE-2026-37555: IMA-ADPCM).
CONTAINERS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"})
SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"}
    | {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
)

#: What libsndfile's log says of a file that ends before its header does, by container; it decodes them all the same.
#: Sizes from 0xFFFFFFF0 on mean "unknown" in a WAV that was written to a pipe.
CUT_MARKS = {
    "WAV": re.compile(r"^\s*data : (?!42949672(?:8|9)\d)\d+ \(should be", re.MULTILINE),
    "AIFF": re.compile(r"^\s*SSND : \d+ \(should be", re.MULTILINE),
    "AU": re.compile(r"Data Size +: \d+ \(should be"),
    "W64": re.compile(r"riff : \d+ \(should be"),
    "RF64": re.compile(r"Calculated frame count \d+ does not match"),
}
CUT_MARKS["WAVEX"] = CUT_MARKS["WAV"]

#: What libsndfile says of headers that no audio has.
IMPOSSIBLE_HEADER = ("SF_INFO struct incomplete", "Channel count is zero", "Too many channels")

#: dtype -> (zero point, full scale): integer samples become float32 in [-1, 1) by an exact power of two.
INTEGER_SCALES = {"int16": (0, 2.0**15), "int32": (0, 2.0**31), "uint8": (128, 2.0**7)}

#: First bytes of files that people hand over instead of audio -> what they are and what to do.
NOT_AUDIO = {
    b"version https://git-lfs": ("is a git-lfs pointer, not the file it points to", "run `git lfs pull`"),
    b"<!DOCTYPE": ("is an HTML page", "download the file itself, not the page about it"),
    b"<html": ("is an HTML page", "download the file itself, not the page about it"),
    b"PK\x03\x04": ("is a zip archive", "unpack it first"),
    b"{": ("looks like JSON text", "give the audio file itself"),
}

#: Container marks that soundfile has no decoder for -> their names.
UNSUPPORTED = {b"ftyp": "MP4/M4A (AAC)", b"\x1aE\xdf\xa3": "WebM/Matroska", b"0&\xb2u": "WMA"}

#: Marks of the containers above: a file that has one and cannot be decoded is broken, not something else.
AUDIO_MARKS = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"ID3", b"\xff\xfb")


class _Part(NamedTuple):
    """Which seconds of a clip are wanted; an end of None is the clip's own."""

    start: float
    end: float | None

    def samples(self, count: int, rate: int, where: str) -> slice:
        """The samples of this part in a clip of `count` samples; E208 when it does not lie in the clip."""
        first = round(self.start * rate)
        last = count if self.end is None else round(self.end * rate)
        if first >= count or last > count + PART_TOLERANCE * rate:
            wanted = f"{self.start:g} s to {'its end' if self.end is None else f'{self.end:g} s'}"
            what = f"lasts {count / rate:.3f} s, {wanted} is not all in it"
            fix = "correct start and end: seconds from the file's own beginning"
            raise error("E208", where=where, what=what, fix=fix)
        return slice(first, min(last, count))


def load_audio(
    source: AudioSource,
    sampling_rate: int = 16_000,
    *,
    source_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Read any kind of audio, or a part of it, as a mono waveform at `sampling_rate`.

    Args:
        source: one of
            - a path (`str` or `Path`) of a file that soundfile reads,
            - the bytes of such a file,
            - an array or tensor of samples, shape `(time,)` or unambiguous `(channels, time)` / `(time, channels)`,
              float in [-1, 1] or int16/int32/uint8 at full scale; its rate is `source_rate`,
            - a dict with `array` (or `raw`) and `sampling_rate`, or with `bytes` and/or `path` (what `datasets` gives),
            - a decoded `AudioDecoder` of torchcodec.
        sampling_rate: rate of the result in Hz.
        source_rate: rate in Hz of a bare array; files and dicts know their own.
        start: first second to read, None for the beginning. Of a file only the part is decoded, and only the part has
            to be shorter than an hour.
        end: second to stop at, None for the end; up to 0.1 s behind the end is taken for it, since tables round.

    Returns:
        float32 array of shape `(time,)`, in [-1, 1] for ordinary files.

    Raises:
        AstDataError: E201-E207, E208 for a part that is not in the audio; the message names the file.
        AstInputError: E101-E107 for arrays, E108 for a start or end that no audio has, E703 for URLs.

    Example:
        >>> load_audio({"array": np.zeros(44_100), "sampling_rate": 44_100}).shape
        (16000,)
    """
    _check_rate(sampling_rate, "sampling_rate", code="E107")
    samples, rate, where = _read(source, source_rate, _wanted_part(start, end))
    if samples.size == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it, or record it again")
    mono = mix_to_mono(samples, where)
    finite = np.isfinite(mono)
    if not finite.all():
        what = f"{int((~finite).sum())} samples are NaN or infinite, the first at {int(np.flatnonzero(~finite)[0])}"
        raise error("E104", where=where, what=what, fix="re-export the file, or drop it")
    resampled = resample(mono, rate, sampling_rate)
    if resampled.size == 0:
        what = f"is too short: {len(mono)} samples at {rate} Hz are none at {sampling_rate} Hz"
        raise error("E101", where=where, what=what, fix="remove it, or record it again")
    return resampled


def _wanted_part(start: float | None, end: float | None) -> _Part | None:
    """None for everything; raises E108 for what is no stretch of time."""
    if start is None and end is None:
        return None
    for name, value in (("start", start), ("end", end)):
        number = value is None or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool))
        if not number or (value is not None and not 0 <= value < float("inf")):
            raise error("E108", where=name, what=f"{value!r} is no time", fix="give seconds, 0 or more")
    part = _Part(float(start or 0.0), None if end is None else float(end))
    if part.end is not None and part.end <= part.start:
        what = f"{end!r} is not after start {start!r}"
        raise error("E108", where="end", what=what, fix="give seconds, the end after the start")
    return part


def _cut_array(samples: np.ndarray, rate: int, where: str, part: _Part | None) -> np.ndarray:
    """The wanted part of decoded samples, mixed to mono first, since a few samples look like channels."""
    if part is None:
        return samples
    mono = mix_to_mono(samples, where)
    return mono[part.samples(len(mono), rate, where)]


def mix_to_mono(samples: np.ndarray, where: str) -> np.ndarray:
    """Mean over the channels of `(time,)`, `(time, channels)` or `(channels, time)` samples; warns when they cancel."""
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or not (min(samples.shape) <= MAX_CHANNELS < max(samples.shape)):
        what = f"array of shape {samples.shape} is neither (time,) nor one clip of up to {MAX_CHANNELS} channels"
        raise error("E106", where=where, what=what, fix="pass one waveform of shape (time,)")
    return _mean_of_channels(samples if samples.shape[1] <= MAX_CHANNELS else samples.T, where)


def _mean_of_channels(samples: np.ndarray, where: str) -> np.ndarray:
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mono = samples.mean(axis=1, dtype=np.float32)
    power = float(np.square(samples, dtype=np.float64).mean())
    if float(np.square(mono, dtype=np.float64).mean()) < 1e-4 * power:
        text = "the channels cancel each other, their mean is almost silent; one may be wired upside down"
        warnings.warn(warning_text("W204", where=where, what=text), AstHfWarning, stacklevel=4)
    return mono


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Change the rate of a mono waveform (Hz); the identity when the rates are equal."""
    if source_rate == target_rate:
        return waveform
    import soxr

    return soxr.resample(waveform, source_rate, target_rate, quality="HQ")


def as_waveform(clip: Any, where: str) -> torch.Tensor:
    """One clip of samples as a 1-D float32 tensor on its own device, integers scaled exactly, nothing modified.

    Raises E101 (empty), E102 (type), E106 (not one-dimensional); `where` names the clip in the message.
    """
    tensor = as_samples(clip, where)
    if tensor.numel() == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it from the batch")
    if tensor.ndim != 1:
        what = f"has shape {tuple(tensor.shape)}, a clip is one-dimensional"
        raise error("E106", where=where, what=what, fix="mix the channels first, or pass a list of 1-D clips")
    return tensor


def as_samples(values: Any, where: str) -> torch.Tensor:
    """Numbers of any kind and shape as float32, integers scaled exactly; E102 for what is no array of samples."""
    import torch

    tensor = values.detach() if isinstance(values, torch.Tensor) else _tensor_of(values, where)
    if tensor.device.type == "meta" or tensor.layout != torch.strided or tensor.is_complex():
        what = f"is a {tensor.dtype} tensor ({tensor.layout}, {tensor.device})"
        raise error("E102", where=where, what=what, fix="pass real samples as float or int16")
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in INTEGER_SCALES:
        what = f"{name} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")
    zero, scale = INTEGER_SCALES[name]
    # Through float64: int32 has more bits than float32, and has to be rounded once, after scaling.
    return ((tensor.to(torch.float64) - zero) / scale).to(torch.float32)


def _tensor_of(values: Any, where: str) -> torch.Tensor:
    """Arrays and nested lists as a tensor of their own dtype; a copy, in native byte order and positive strides."""
    import torch

    kind = type(values).__name__
    fix = "pass samples; `ast_hf.load_audio` reads files and dicts"
    if isinstance(values, (str, bytes, PathLike, Mapping)) or values is None or np.isscalar(values):
        raise error("E102", where=where, what=f"is a {kind}", fix=fix)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as problem:
        raise error("E102", where=where, what=f"is a {kind} of unequal or odd parts", fix=fix) from problem
    if isinstance(values, (list, tuple)) and array.dtype == np.int64:
        array = array.astype(np.float64)  # Python's whole numbers carry no full scale: they are samples as they stand
    if array.dtype.kind not in "fiu":
        raise error("E102", where=where, what=f"is a {kind} of {array.dtype}", fix="pass float or integer samples")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite, with its position
            array = array.astype(np.float32)
    native = array.dtype.newbyteorder("=")
    if native.kind != "f" and native.name not in INTEGER_SCALES:
        what = f"{native.name} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")
    return torch.from_numpy(np.array(array, dtype=native, order="C"))


def _read(source: AudioSource, source_rate: int | None, part: _Part | None) -> tuple[np.ndarray, int, str]:
    """Samples of the wanted part, rate in Hz, and the name of the source for messages."""
    if isinstance(source, (str, PathLike)):
        return _read_file(source, part)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), f"audio of {len(source)} bytes", part)
    if isinstance(source, Mapping):
        return _read_mapping(source, source_rate, part)
    if hasattr(source, "get_all_samples"):
        decoded, where = source.get_all_samples(), "decoded audio"
        rate = int(decoded.sample_rate)
        return _cut_array(decoded.data.numpy(), rate, where, part), rate, where
    return _read_array(source, source_rate, "audio array", part)


def _read_mapping(
    source: Mapping[str, Any], source_rate: int | None, part: _Part | None
) -> tuple[np.ndarray, int, str]:
    array = source.get("array") if source.get("raw") is None else source["raw"]  # "raw" first, as in transformers
    content = source.get("bytes")
    path = source.get("path")
    if array is not None:
        return _read_array(array, source.get("sampling_rate", source_rate), str(path or "audio dict"), part)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(content), str(path or f"audio of {len(content)} bytes"), part)
    if content is None and path is not None:
        return _read_file(path, part)
    fix = 'give {"array": samples, "sampling_rate": hertz}, or "bytes", or "path"'
    what = f"bytes is a {type(content).__name__}" if content is not None else f"has the keys {sorted(map(str, source))}"
    raise error("E102", where="audio dict", what=what, fix=fix)


def _read_array(array: Any, rate: Any, where: str, part: _Part | None) -> tuple[np.ndarray, int, str]:
    rate = plain_whole(rate)
    if rate is None:
        raise error("E107", where=where, what="has no sampling rate", fix="pass sampling_rate= in Hz with the samples")
    _check_rate(rate, where, code="E107")
    samples = as_samples(array, where).cpu().numpy().copy()
    if samples.ndim not in (1, 2):
        raise error("E106", where=where, what=f"has shape {samples.shape}", fix="pass one waveform of shape (time,)")
    return _cut_array(samples, int(rate), where, part), int(rate), where


def _check_rate(rate: Any, where: str, code: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        what = f"sampling rate {rate!r} is a {type(rate).__name__}"
        raise error("E102", where=where, what=what, fix="give a whole number of Hz")
    if not MIN_RATE <= rate <= MAX_RATE:
        what = f"sampling rate {rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz"
        raise error(code, where=where, what=what, fix="check how the audio was written")


def _read_file(source: str | PathLike, part: _Part | None) -> tuple[np.ndarray, int, str]:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(source)):
        what = "is a URL, and nothing is fetched silently"
        fix = "download the file first and pass its path or its bytes"
        raise error("E703", where=repr(str(source)), what=what, fix=fix)
    path = Path(source)
    where = repr(str(path))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise _missing(path, where) from None
    if not stat.S_ISREG(mode):
        what = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
        raise error("E206", where=where, what=what, fix="pass the path of one audio file")
    try:
        file = path.open("rb")
    except OSError as problem:
        what = f"cannot be opened ({problem.strerror})"
        raise error("E206", where=where, what=what, fix="check its permissions") from problem
    with file:
        return _decode(file, where, part)


def _missing(path: Path, where: str) -> Exception:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    fix = f"did you mean {str(path.parent / near)!r}?" if near else "check the path"
    return error("E206", where=where, what="does not exist", fix=fix)


class _Reader:
    """A file for soundfile: nameless, so that its content decides the format; it notes whether its end was met.

    A FLAC is handed over in small pieces, so that meeting the end tells a cut file from a damaged one.
    """

    _FLAC_PIECE = 1024

    def __init__(self, file: Any, head: bytes) -> None:
        self._file, self.met_end = file, False
        self._piece = self._FLAC_PIECE if head.startswith(b"fLaC") else None
        self.seek, self.tell = file.seek, file.tell

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._piece]
        count = self._file.readinto(view)
        self.met_end |= count < len(view)
        return count


def _decode(file: Any, where: str, part: _Part | None) -> tuple[np.ndarray, int, str]:
    """Decode an open file, or a part of it, to mono; the header is judged before the samples, their count after."""
    import soundfile

    head = file.read(512)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    _refuse_non_audio(head, where)
    reader = _Reader(file, head)
    try:
        with soundfile.SoundFile(reader) as sound:
            _check_header(sound, where)
            rate = sound.samplerate
            wanted = part.samples(sound.frames, rate, where) if part else slice(0, sound.frames)
            _check_length(wanted.stop - wanted.start, rate, where)
            if part:
                sound.seek(wanted.start)
            samples = sound.read(wanted.stop - wanted.start if part else -1, dtype="float32", always_2d=True)
            _check_complete(sound, len(samples), wanted.stop - wanted.start, size, where)
    except soundfile.LibsndfileError as problem:
        raise _decoding_error(str(problem), head, reader, file, where) from problem
    return _mean_of_channels(samples, where), rate, where


def _refuse_non_audio(head: bytes, where: str) -> None:
    if not head:
        raise error("E201", where=where, what="is empty (0 bytes)", fix="copy or download the file again")
    for mark, name in UNSUPPORTED.items():
        if mark in head[:12]:
            fix = "convert it, for example with `ffmpeg -i IN OUT.flac`"
            raise error("E205", where=where, what=f"is {name}, which soundfile cannot decode", fix=fix)
    for mark, (what, fix) in NOT_AUDIO.items():
        if head.lstrip().startswith(mark):
            raise error("E201", where=where, what=what, fix=fix)


def _check_header(sound: Any, where: str) -> None:
    if sound.format not in CONTAINERS or sound.subtype not in SUBTYPES:
        what = f"is {sound.format_info} with {sound.subtype_info} samples, which is not decoded here"
        raise error("E205", where=where, what=what, fix="convert it to WAV or FLAC")
    _check_rate(sound.samplerate, where, code="E204")
    if sound.channels > MAX_CHANNELS:
        what = f"declares {sound.channels} channels, the limit is {MAX_CHANNELS}"
        raise error("E204", where=where, what=what, fix="mix it down first")


def _check_length(samples: int, rate: int, where: str) -> None:
    seconds = samples / rate
    if seconds > MAX_SECONDS:
        what = f"declares {round(seconds, 3):,} s of audio, the limit is {MAX_SECONDS:,.0f} s"
        fix = "split it into shorter files, or read parts of it (start, end)"
        raise error("E207", where=where, what=what, fix=fix)


#: A file larger than this that decodes to nothing has lost its samples or their count; headers are smaller.
_LARGEST_HEADER = 1024


def _check_complete(sound: Any, decoded: int, wanted: int, size: int, where: str) -> None:
    """Truncated files decode without an error: libsndfile's log tells, or an MP3's count of frames."""
    mark = CUT_MARKS.get(sound.format)
    lost = decoded == sound.frames == 0 and size > _LARGEST_HEADER
    if decoded < wanted or lost or (mark is not None and mark.search(sound.extra_info)):
        raise _cut_off(f"{decoded / sound.samplerate:.3f} s could be decoded, its header declares more", where)


def _cut_off(detail: str, where: str) -> Exception:
    return error("E202", where=where, what=f"is cut off: {detail}", fix="copy or download the file again")


def _decoding_error(message: str, head: bytes, reader: _Reader, file: Any, where: str) -> Exception:
    reason = message.rstrip(".").split(": ")[-1]
    fix = "check that it plays, convert it to WAV or FLAC, or drop it"
    if any(mark in message for mark in IMPOSSIBLE_HEADER):
        return error("E204", where=where, what=f"has an impossible header ({reason})", fix=fix)
    if not head.startswith(AUDIO_MARKS):
        return error("E201", where=where, what=f"cannot be decoded, it does not look like audio ({reason})", fix=fix)
    if _ends_early(head, reader, file):
        return _cut_off(f"its stream ends early ({reason})", where)
    return error("E203", where=where, what=f"cannot be decoded ({reason})", fix=fix)


def _ends_early(head: bytes, reader: _Reader, file: Any) -> bool:
    """Whether a stream that failed lacks its end, rather than being damaged before it.

    An Ogg's last page carries the flag of the stream's end, and its table says how long it is (RFC 3533).
    """
    if not head.startswith(b"OggS"):
        return reader.met_end
    file.seek(-min(65_536, file.seek(0, io.SEEK_END)), io.SEEK_END)  # a page is shorter than 64 KiB
    page = b"OggS" + file.read().rpartition(b"OggS")[2]
    if len(page) < 27 or not page[5] & 4:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
