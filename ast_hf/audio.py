"""Reading of audio: paths, bytes, arrays, tensors and dicts become a mono float32 waveform at a given rate.

soundfile decodes (WAV, FLAC, OGG Vorbis/Opus, MP3, AIFF, ...), soxr resamples with its HQ setting (133 dB
signal to noise at 44.1 -> 16 kHz), and channels are averaged. ffmpeg, torchaudio and torchcodec are not used
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

#: Types of the sources that `load_audio` reads.
AudioSource = str | PathLike | bytes | np.ndarray | Mapping[str, Any] | Any

#: Limits on a header, checked before memory is allocated. 384 kHz and 8 channels are the largest of ordinary
#: equipment; one hour of 16 kHz mono float32 is 230 MB.
MIN_RATE = 1_000
MAX_RATE = 384_000
MAX_CHANNELS = 8
MAX_SECONDS = 3_600.0

#: Seconds that a requested end may be after the end of a file: times in tables are rounded.
PART_TOLERANCE = 0.1

#: Containers and sample formats that are decoded. libsndfile's other formats are rare, and some of its
#: decoders for them are unsafe (CVE-2026-37555: IMA-ADPCM).
CONTAINERS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"})
SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"}
    | {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
)

#: container -> text in libsndfile's log for a file that is shorter than its header says. libsndfile decodes
#: it anyway. Sizes from 0xFFFFFFF0 mean "unknown" in a WAV that was written to a pipe.
CUT_MARKS = {
    "WAV": re.compile(r"^\s*data : (?!42949672(?:8|9)\d)\d+ \(should be", re.MULTILINE),
    "AIFF": re.compile(r"^\s*SSND : \d+ \(should be", re.MULTILINE),
    "AU": re.compile(r"Data Size +: \d+ \(should be"),
    "W64": re.compile(r"riff : \d+ \(should be"),
    "RF64": re.compile(r"Calculated frame count \d+ does not match"),
}
CUT_MARKS["WAVEX"] = CUT_MARKS["WAV"]

#: Texts in libsndfile's errors for headers with impossible values.
IMPOSSIBLE_HEADER = ("SF_INFO struct incomplete", "Channel count is zero", "Too many channels")

#: dtype -> (zero point, full scale): integer samples become float32 in [-1, 1) by an exact power of two.
INTEGER_SCALES = {"int16": (0, 2.0**15), "int32": (0, 2.0**31), "uint8": (128, 2.0**7)}

#: First bytes of files that users pass by mistake -> (problem, fix).
NOT_AUDIO = {
    b"version https://git-lfs": ("is a git-lfs pointer, not the file it points to", "run `git lfs pull`"),
    b"<!DOCTYPE": ("is an HTML page", "download the file itself, not the page about it"),
    b"<html": ("is an HTML page", "download the file itself, not the page about it"),
    b"PK\x03\x04": ("is a zip archive", "unpack it first"),
    b"{": ("looks like JSON text", "give the audio file itself"),
}

#: Magic numbers of containers that soundfile cannot decode -> their names.
UNSUPPORTED = {b"ftyp": "MP4/M4A (AAC)", b"\x1aE\xdf\xa3": "WebM/Matroska", b"0&\xb2u": "WMA"}

#: Magic numbers of `CONTAINERS`: a file with one of these that cannot be decoded is damaged audio.
AUDIO_MARKS = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"ID3", b"\xff\xfb")


class _Part(NamedTuple):
    """Part of a clip to read, in seconds; an end of None is the clip's end."""

    start: float
    end: float | None

    def samples(self, count: int, rate: int, where: str) -> slice:
        """Return this part as a slice of a clip's `count` samples; raise E208 if it is not in the clip."""
        first = round(self.start * rate)
        stop = count if self.end is None else round(self.end * rate)
        if first >= count or stop > count + PART_TOLERANCE * rate:
            end = "its end" if self.end is None else f"{self.end:g} s"
            what = f"lasts {count / rate:.3f} s, so {self.start:g} s to {end} is not completely in it"
            fix = "correct start and end, in seconds from the beginning of the file"
            raise error("E208", where=where, what=what, fix=fix)
        return slice(first, min(stop, count))


def load_audio(
    source: AudioSource,
    sampling_rate: int = 16_000,
    *,
    source_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Read audio from any source, completely or in part, as a mono waveform at `sampling_rate`.

    Args:
        source: one of
            - a path (`str` or `Path`) of a file that soundfile reads,
            - the bytes of an audio file,
            - an array or tensor of samples, shape `(time,)`, or unambiguous `(channels, time)` or `(time,
              channels)`, float in [-1, 1] or int16/int32/uint8 at full scale, at the rate `source_rate`,
            - a dict with `array` (or `raw`) and `sampling_rate`, or with `bytes` and/or `path`, as in
              `datasets`,
            - a decoded `AudioDecoder` of torchcodec.
        sampling_rate: rate of the result in Hz.
        source_rate: rate in Hz of a bare array; files and dicts contain theirs.
        start: first second to read, None for the beginning. Only the requested part of a file is decoded, and
            only that part has to be shorter than an hour.
        end: second to stop at, None for the end. Since tables round, up to 0.1 s after the end is the end.

    Returns:
        float32 array of shape `(time,)`, in [-1, 1] for ordinary files.

    Raises:
        AstDataError: E201-E207, E208 for a part that is not in the audio; the message names the file.
        AstInputError: E101-E107 for arrays, E108 for an impossible start or end, E703 for URLs.

    Example:
        >>> load_audio({"array": np.zeros(44_100), "sampling_rate": 44_100}).shape
        (16000,)
    """
    _check_rate(sampling_rate, "sampling_rate", code="E107")
    samples, rate, where = _read(source, source_rate, _make_part(start, end))
    if samples.size == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it, or record it again")
    mono = mix_to_mono(samples, where)
    finite = np.isfinite(mono)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        what = f"{int((~finite).sum())} samples are NaN or infinite, the first at {first}"
        raise error("E104", where=where, what=what, fix="re-export the file, or drop it")
    resampled = resample(mono, rate, sampling_rate)
    if resampled.size == 0:
        what = f"is too short: {len(mono)} samples at {rate} Hz become 0 samples at {sampling_rate} Hz"
        raise error("E101", where=where, what=what, fix="remove it, or record it again")
    return resampled


def _make_part(start: float | None, end: float | None) -> _Part | None:
    """Return the part from `start` to `end`, or None for the whole clip; raise E108 for impossible times."""
    if start is None and end is None:
        return None
    for name, value in (("start", start), ("end", end)):
        if not _is_time(value):
            what = f"{value!r} is not a valid time"
            raise error("E108", where=name, what=what, fix="give seconds, 0 or more")
    part = _Part(float(start or 0.0), None if end is None else float(end))
    if part.end is not None and part.end <= part.start:
        what = f"{end!r} is not after start {start!r}"
        raise error("E108", where="end", what=what, fix="give an end after the start, in seconds")
    return part


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and bool(0 <= value < float("inf"))


def _cut_array(samples: np.ndarray, rate: int, where: str, part: _Part | None) -> np.ndarray:
    """Return a part of decoded samples as mono; mixed first, since a very short part looks like channels."""
    if part is None:
        return samples
    mono = mix_to_mono(samples, where)
    return mono[part.samples(len(mono), rate, where)]


def mix_to_mono(samples: np.ndarray, where: str) -> np.ndarray:
    """Return the mean over channels, `(time,)`; warn (W204) if the channels cancel each other.

    Takes `(time,)`, `(time, channels)` or `(channels, time)` samples. Raises E106 for any other shape.
    """
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or not (min(samples.shape) <= MAX_CHANNELS < max(samples.shape)):
        what = f"shape {samples.shape} is neither (time,) nor a clip with up to {MAX_CHANNELS} channels"
        raise error("E106", where=where, what=what, fix="pass one waveform of shape (time,)")
    return _mean_of_channels(samples if samples.shape[1] <= MAX_CHANNELS else samples.T, where)


def _mean_of_channels(samples: np.ndarray, where: str) -> np.ndarray:
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mono = samples.mean(axis=1, dtype=np.float32)
    power = float(np.square(samples, dtype=np.float64).mean())
    if float(np.square(mono, dtype=np.float64).mean()) < 1e-4 * power:
        text = "the channels cancel each other: their mean is almost silent; one may have inverted polarity"
        warnings.warn(warning_text("W204", where=where, what=text), AstHfWarning, stacklevel=4)
    return mono


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample a mono waveform `(time,)`, rates in Hz; return it unchanged if the rates are equal."""
    if source_rate == target_rate:
        return waveform
    import soxr

    return soxr.resample(waveform, source_rate, target_rate, quality="HQ")


def as_waveform(clip: Any, where: str) -> torch.Tensor:
    """Return one clip as a 1-D float32 tensor on its device, with integers scaled exactly.

    Raises E101 (empty), E102 (wrong type) or E106 (not one-dimensional); `where` names the clip.
    """
    tensor = as_samples(clip, where)
    if tensor.numel() == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it from the batch")
    if tensor.ndim != 1:
        what = f"has shape {tuple(tensor.shape)}, a clip is one-dimensional"
        raise error("E106", where=where, what=what, fix="mix the channels first, or pass a list of 1-D clips")
    return tensor


def as_samples(values: Any, where: str) -> torch.Tensor:
    """Return samples of any type and shape as a float32 tensor, with integers scaled exactly.

    Raises E102 for anything that is not an array of samples.
    """
    import torch

    tensor = values.detach() if isinstance(values, torch.Tensor) else _tensor_of(values, where)
    if tensor.device.type == "meta" or tensor.layout != torch.strided or tensor.is_complex():
        what = f"is a {tensor.dtype} tensor ({tensor.layout}, {tensor.device})"
        raise error("E102", where=where, what=what, fix="pass real samples as float or int16")
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    name = str(tensor.dtype).removeprefix("torch.")
    _check_full_scale(name, where)
    zero, scale = INTEGER_SCALES[name]
    # In float64: int32 has more bits than float32, so rounding must happen once, after scaling.
    return ((tensor.to(torch.float64) - zero) / scale).to(torch.float32)


def _check_full_scale(dtype: str, where: str) -> None:
    if dtype not in INTEGER_SCALES:
        what = f"{dtype} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")


def _tensor_of(values: Any, where: str) -> torch.Tensor:
    """Return a copy of an array or nested list as a tensor with native byte order and positive strides.

    Floats become float32, integers keep their dtype.
    """
    import torch

    kind = type(values).__name__
    fix = "pass samples; `ast_hf.load_audio` reads files and dicts"
    if isinstance(values, (str, bytes, PathLike, Mapping)) or values is None or np.isscalar(values):
        raise error("E102", where=where, what=f"is a {kind}", fix=fix)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as problem:
        raise error("E102", where=where, what=f"is a ragged or mixed {kind}", fix=fix) from problem
    if isinstance(values, (list, tuple)) and array.dtype == np.int64:
        array = array.astype(np.float64)  # Python ints have no full scale, so they are not scaled
    if array.dtype.kind not in "fiu":
        what = f"is a {kind} of {array.dtype}"
        raise error("E102", where=where, what=what, fix="pass float or integer samples")
    if array.dtype.kind != "f":
        _check_full_scale(array.dtype.newbyteorder("=").name, where)
    else:
        with np.errstate(over="ignore"):  # an overflow becomes infinite, reported with its position later
            array = array.astype(np.float32)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _read(source: AudioSource, source_rate: int | None, part: _Part | None) -> tuple[np.ndarray, int, str]:
    """Return the samples of the requested part, their rate in Hz, and the source's name for messages."""
    if isinstance(source, (str, PathLike)):
        return _read_file(source, part)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), f"audio of {len(source)} bytes", part)
    if isinstance(source, Mapping):
        return _read_mapping(source, source_rate, part)
    if hasattr(source, "get_all_samples"):
        decoded = source.get_all_samples()
        rate = int(decoded.sample_rate)
        return _cut_array(decoded.data.numpy(), rate, "decoded audio", part), rate, "decoded audio"
    return _read_array(source, source_rate, "audio array", part)


def _read_mapping(
    source: Mapping[str, Any], source_rate: int | None, part: _Part | None
) -> tuple[np.ndarray, int, str]:
    # "raw" has precedence, as in transformers.
    array = source.get("array") if source.get("raw") is None else source["raw"]
    content = source.get("bytes")
    path = source.get("path")
    if array is not None:
        return _read_array(array, source.get("sampling_rate", source_rate), str(path or "audio dict"), part)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(content), str(path or f"audio of {len(content)} bytes"), part)
    if content is None and path is not None:
        return _read_file(path, part)
    fix = 'give {"array": samples, "sampling_rate": hertz}, or "bytes", or "path"'
    keys = sorted(map(str, source))
    what = f"has the keys {keys}" if content is None else f"bytes is a {type(content).__name__}"
    raise error("E102", where="audio dict", what=what, fix=fix)


def _read_array(array: Any, rate: Any, where: str, part: _Part | None) -> tuple[np.ndarray, int, str]:
    rate = plain_whole(rate)
    if rate is None:
        fix = "pass sampling_rate= in Hz with the samples"
        raise error("E107", where=where, what="has no sampling rate", fix=fix)
    _check_rate(rate, where, code="E107")
    samples = as_samples(array, where).cpu().numpy().copy()
    if samples.ndim not in (1, 2):
        what = f"has shape {samples.shape}"
        raise error("E106", where=where, what=what, fix="pass one waveform of shape (time,)")
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
        what = "is a URL, and URLs are not downloaded automatically"
        fix = "download the file first and pass its path or its bytes"
        raise error("E703", where=repr(str(source)), what=what, fix=fix)
    path = Path(source)
    where = repr(str(path))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise _missing_file_error(path, where) from None
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


def _missing_file_error(path: Path, where: str) -> Exception:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    fix = f"did you mean {str(path.parent / near)!r}?" if near else "check the path"
    return error("E206", where=where, what="does not exist", fix=fix)


class _Reader:
    """File object for soundfile that records whether the end of the file was reached.

    It has no name, so that soundfile detects the format from the content. FLAC is read in small pieces: a
    truncated file then reaches its end, a damaged one fails before.
    """

    _FLAC_PIECE = 1024

    def __init__(self, file: Any, head: bytes) -> None:
        self._file = file
        self._piece = self._FLAC_PIECE if head.startswith(b"fLaC") else None
        self.reached_end = False
        self.seek = file.seek
        self.tell = file.tell

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._piece]
        count = self._file.readinto(view)
        self.reached_end |= count < len(view)
        return count


def _decode(file: Any, where: str, part: _Part | None) -> tuple[np.ndarray, int, str]:
    """Decode an open file or a part of it to mono, and check its header and its length."""
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
            span = part.samples(sound.frames, rate, where) if part else slice(0, sound.frames)
            count = span.stop - span.start
            _check_length(count, rate, where)
            if part:
                sound.seek(span.start)
            samples = sound.read(count if part else -1, dtype="float32", always_2d=True)
            _check_complete(sound, len(samples), count, size, where)
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
        what = f"is {sound.format_info} with {sound.subtype_info} samples, which is not supported"
        raise error("E205", where=where, what=what, fix="convert it to WAV or FLAC")
    _check_rate(sound.samplerate, where, code="E204")
    if sound.channels > MAX_CHANNELS:
        what = f"declares {sound.channels} channels, the limit is {MAX_CHANNELS}"
        raise error("E204", where=where, what=what, fix="mix the channels down first")


def _check_length(samples: int, rate: int, where: str) -> None:
    seconds = samples / rate
    if seconds > MAX_SECONDS:
        what = f"declares {round(seconds, 3):,} s of audio, the limit is {MAX_SECONDS:,.0f} s"
        fix = "split it into shorter files, or read parts of it (start, end)"
        raise error("E207", where=where, what=what, fix=fix)


#: Bytes that no header exceeds: a larger file that decodes to 0 samples has lost them or their count.
_LARGEST_HEADER = 1024


def _check_complete(sound: Any, decoded: int, expected: int, size: int, where: str) -> None:
    """Raise E202 for a truncated file. libsndfile decodes it; its log, or an MP3's frame count, shows it."""
    mark = CUT_MARKS.get(sound.format)
    lost = decoded == sound.frames == 0 and size > _LARGEST_HEADER
    if decoded < expected or lost or (mark is not None and mark.search(sound.extra_info)):
        reason = f"{decoded / sound.samplerate:.3f} s could be decoded, its header declares more"
        raise _truncation_error(reason, where)


def _truncation_error(reason: str, where: str) -> Exception:
    return error("E202", where=where, what=f"is cut off: {reason}", fix="copy or download the file again")


def _decoding_error(message: str, head: bytes, reader: _Reader, file: Any, where: str) -> Exception:
    reason = message.rstrip(".").split(": ")[-1]
    fix = "check that it plays, convert it to WAV or FLAC, or drop it"
    if any(mark in message for mark in IMPOSSIBLE_HEADER):
        return error("E204", where=where, what=f"has an impossible header ({reason})", fix=fix)
    if not head.startswith(AUDIO_MARKS):
        what = f"cannot be decoded and does not look like audio ({reason})"
        return error("E201", where=where, what=what, fix=fix)
    if _ends_early(head, reader, file):
        return _truncation_error(f"its stream ends early ({reason})", where)
    return error("E203", where=where, what=f"cannot be decoded ({reason})", fix=fix)


def _ends_early(head: bytes, reader: _Reader, file: Any) -> bool:
    """Return True if decoding failed because the end of the stream is missing, not because it is damaged.

    The last page of an Ogg has the end-of-stream flag, and a page's table gives its length (RFC 3533).
    """
    if not head.startswith(b"OggS"):
        return reader.reached_end
    file.seek(-min(65_536, file.seek(0, io.SEEK_END)), io.SEEK_END)  # a page is shorter than 64 KiB
    page = b"OggS" + file.read().rpartition(b"OggS")[2]
    if len(page) < 27 or not page[5] & 4:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
