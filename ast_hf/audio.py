"""Reading of audio: paths, bytes, arrays, tensors and dicts become a mono float32 waveform at a given rate.

soundfile decodes (WAV, FLAC, OGG Vorbis/Opus, MP3, AIFF, ...), PyAV what phones and browsers record (M4A, WebM, WMA,
videos; in the extra `codecs`), soxr resamples with its HQ setting (133 dB
signal to noise at 44.1 -> 16 kHz), and channels are averaged. torchaudio and torchcodec are not used
(docs/decisions/0004-decode-through-soundfile.md, 0017-decode-recordings-with-pyav.md).
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .audio_clips import Clip, Mixer, Part, check_rate
from .audio_files import open_content, open_file, open_object
from .audio_formats import MAX_CHANNELS, MAX_DECODED, MAX_SAMPLES
from .errors import AstHfError, error
from .scalars import plain_whole

if TYPE_CHECKING:
    import torch

#: Types of the sources that `load_audio` reads.
AudioSource = str | PathLike | bytes | np.ndarray | Mapping[str, Any] | Any

#: Samples of all channels that `open_stream` decodes at once: damage loses at most those before it.
_STREAMED_BLOCK = 1 << 15

#: dtype -> (zero point, full scale): integer samples become float32 in [-1, 1) by an exact power of two.
INTEGER_SCALES = {"int16": (0, 2.0**15), "int32": (0, 2.0**31), "uint8": (128, 2.0**7)}


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
            - a path (`str` or `Path`) of a file that soundfile reads, or, with the extra `codecs`, PyAV,
            - the bytes of an audio file, or an open binary file (read from its current position on),
            - an array or tensor of samples, shape `(time,)`, or unambiguous `(channels, time)` or `(time,
              channels)`, float in [-1, 1] or int16/int32/uint8 at full scale, at the rate `source_rate`,
            - a dict with `array` (or `raw`) and `sampling_rate`, or with `bytes` and/or `path`, as in
              `datasets`,
            - a decoded `AudioDecoder` of torchcodec.
        sampling_rate: rate of the result in Hz.
        source_rate: rate in Hz of a bare array; files and dicts contain theirs.
        start: first second to read, None for the beginning. Only the requested part of a file is decoded, of
            files for PyAV all before it, too. It may have 57.6 million samples (an hour at 16 kHz), decoded from
            at most 1.38 billion of all channels (an hour at 48 kHz with 8 channels); `audio_blocks` has no limit.
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
    check_rate(sampling_rate, "sampling_rate", code="E107")
    with open_audio(source, source_rate, _make_part(start, end)) as clip:
        _check_size(clip, sampling_rate)
        length = _resampled_length(clip, sampling_rate)
        return _joined(_checked_blocks(clip, sampling_rate), length)


def audio_blocks(
    source: AudioSource,
    sampling_rate: int = 16_000,
    *,
    source_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[np.ndarray]:
    """Read audio of any length piece by piece; the arguments and errors are those of `load_audio`.

    Only a few MB are in memory at a time, so there is no limit (E207) on the length. An error in the middle of
    a file is raised when it is reached.

    Yields:
        float32 arrays of shape `(time,)`. Joined, they are bit by bit the result of `load_audio`. A file is
        one block for up to about a million samples of all channels.

    Example:
        >>> sum(len(block) for block in audio_blocks("day.flac")) / 16_000
        86400.0
    """
    check_rate(sampling_rate, "sampling_rate", code="E107")
    with open_audio(source, source_rate, _make_part(start, end)) as clip:
        yield from _checked_blocks(clip, sampling_rate)


class AudioStream(NamedTuple):
    """Open audio: its length in samples at the requested rate, its name for messages, and its blocks."""

    length: int
    where: str
    blocks: Iterator[np.ndarray]


@contextlib.contextmanager
def open_stream(
    source: AudioSource, sampling_rate: int, *, source_rate: int | None = None
) -> Iterator[AudioStream]:
    """Open audio of any length to read it in blocks of a second or so; the length is the header's.

    Joined, they are the blocks of `audio_blocks`. What is decoded before an error is yielded before it is raised.
    """
    check_rate(sampling_rate, "sampling_rate", code="E107")
    with open_audio(source, source_rate, block=_STREAMED_BLOCK) as clip:
        length = _resampled_length(clip, sampling_rate)
        yield AudioStream(length, clip.where, _checked_blocks(clip, sampling_rate))


def _resampled_length(clip: Clip, sampling_rate: int) -> int:
    """Return the number of samples of a clip at another rate, as soxr rounds it."""
    return (2 * clip.length * sampling_rate + clip.rate) // (2 * clip.rate)


def _check_size(clip: Clip, sampling_rate: int) -> None:
    """Raise E207 for a file with more samples than `MAX_SAMPLES`, or more work than `MAX_DECODED`."""
    if clip.in_memory:
        return
    allowed = min(MAX_SAMPLES / sampling_rate, MAX_DECODED / (clip.rate * clip.channels))
    seconds = clip.length / clip.rate
    if seconds > allowed:
        what = (
            f"declares {round(seconds, 3):,} s of audio ({clip.channels} channels at {clip.rate} Hz), "
            f"the limit is {allowed:,.0f} s"
        )
        fix = "split it into shorter files, or read parts of it (start, end)"
        raise error("E207", where=clip.where, what=what, fix=fix)


def _checked_blocks(clip: Clip, sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield resampled blocks; raise E101 for an empty clip and E104 for values that are not finite."""
    length = 0
    for block in _resampled(_finite(clip), clip, sampling_rate):
        if not np.isfinite(block).all():
            what = "has samples near the largest float32, which overflow when it is resampled"
            raise error("E104", where=clip.where, what=what, fix="re-export the file, or drop it")
        length += len(block)
        yield block
    if clip.length == 0:
        raise _empty_error(clip.where)
    if length == 0:
        what = f"is too short: {clip.length} samples at {clip.rate} Hz become 0 samples at {sampling_rate} Hz"
        raise error("E101", where=clip.where, what=what, fix="remove it, or record it again")


def _empty_error(where: str) -> Exception:
    return error("E101", where=where, what="holds no samples", fix="remove it, or record it again")


def _finite(clip: Clip) -> Iterator[np.ndarray]:
    done = 0
    for block in clip.blocks:
        finite = np.isfinite(block)
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            what = f"{int((~finite).sum())} samples are NaN or infinite, the first at {done + first}"
            raise error("E104", where=clip.where, what=what, fix="re-export the file, or drop it")
        done += len(block)
        yield block


def _resampled(blocks: Iterator[np.ndarray], clip: Clip, sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield blocks at another rate; joined they are bit by bit what `resample` makes of the whole."""
    if clip.rate == sampling_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(clip.rate, sampling_rate, 1, dtype="float32", quality="HQ")
    previous: np.ndarray | None = None
    only = True
    try:
        for block in blocks:
            if previous is not None:
                only = False
                yield stream.resample_chunk(previous)
            previous = block
    except AstHfError:
        if previous is not None:
            yield stream.resample_chunk(previous)
        raise
    if previous is not None and only:
        yield resample(previous, clip.rate, sampling_rate)
    elif previous is not None:
        yield stream.resample_chunk(previous, last=True)


def _joined(blocks: Iterator[np.ndarray], length: int) -> np.ndarray:
    """Return all blocks as one array; `length` is what they have together, to the sample."""
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return first
    joined = np.empty(length + 1, np.float32)
    end = 0
    for block in itertools.chain([first, second], blocks):
        joined[end : end + len(block)] = block
        end += len(block)
    return joined[:end]


def _make_part(start: float | None, end: float | None) -> Part | None:
    """Return the part from `start` to `end`, or None for the whole clip; raise E108 for impossible times."""
    if start is None and end is None:
        return None
    for name, value in (("start", start), ("end", end)):
        if not _is_time(value):
            what = f"{value!r} is not a valid time"
            raise error("E108", where=name, what=what, fix="give seconds, 0 or more")
    part = Part(float(start or 0.0), None if end is None else float(end))
    if part.end is not None and part.end <= part.start:
        what = f"{end!r} is not after start {start!r}"
        raise error("E108", where="end", what=what, fix="give an end after the start, in seconds")
    return part


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and bool(0 <= value < float("inf"))


def mix_to_mono(samples: np.ndarray, where: str) -> np.ndarray:
    """Return the mean over channels, `(time,)`; warn (W204) if the channels cancel each other.

    Takes `(time,)`, `(time, channels)` or `(channels, time)` samples. Raises E106 for any other shape.
    """
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or not (min(samples.shape) <= MAX_CHANNELS < max(samples.shape)):
        what = f"shape {samples.shape} is neither (time,) nor a clip with up to {MAX_CHANNELS} channels"
        raise error("E106", where=where, what=what, fix="pass one waveform of shape (time,)")
    mixer = Mixer(where)
    mono = mixer.mix(samples if samples.shape[1] <= MAX_CHANNELS else samples.T)
    mixer.warn()
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

    Raises E102 for anything that is not an array of samples, E207 for a view that memory cannot hold.
    """
    import torch

    tensor = values.detach() if isinstance(values, torch.Tensor) else _tensor_of(values, where)
    unreal = tensor.is_nested or tensor.device.type == "meta" or tensor.layout != torch.strided
    if unreal or tensor.is_complex():
        what = f"is a {tensor.dtype} tensor ({tensor.layout}, {tensor.device})"
        raise error("E102", where=where, what=what, fix="pass real samples as float or int16")
    _check_view(tensor.stride(), tensor.numel(), where)
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    name = str(tensor.dtype).removeprefix("torch.")
    _check_full_scale(name, where)
    zero, scale = INTEGER_SCALES[name]
    if name != "int32":  # float32 holds every value exactly
        return tensor.to(torch.float32).sub_(zero).div_(scale)
    # In float64: int32 has more bits than float32, so rounding must happen once, after scaling.
    return ((tensor.to(torch.float64) - zero) / scale).to(torch.float32)


def _check_view(strides: tuple[int, ...], count: int, where: str) -> None:
    """Raise E207 for one sample repeated without memory (broadcast, expand) more often than memory may hold."""
    if 0 in strides and count > MAX_DECODED:
        what = f"repeats its samples without memory, {count:,} in all"
        raise error("E207", where=where, what=what, fix="pass the samples themselves, or a shorter clip")


def _check_full_scale(dtype: str, where: str) -> None:
    if dtype not in INTEGER_SCALES:
        what = f"{dtype} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")


def _tensor_of(values: Any, where: str) -> torch.Tensor:
    """Return an array or nested list as a tensor with native byte order and positive strides.

    Floats become float32, integers keep their dtype. The tensor may share the array's memory.
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
    _check_view(array.strides, array.size, where)
    if np.ma.is_masked(values):
        raise error(
            "E102", where=where, what="is an array with masked samples", fix="fill or drop them first"
        )
    if isinstance(values, (list, tuple)) and array.dtype == np.int64:
        array = array.astype(np.float64)  # Python ints have no full scale, so they are not scaled
    if array.dtype.kind not in "fiu":
        what = f"is a {kind} of {array.dtype}"
        raise error("E102", where=where, what=what, fix="pass float or integer samples")
    if array.dtype.kind != "f":
        _check_full_scale(array.dtype.newbyteorder("=").name, where)
    else:
        with np.errstate(over="ignore"):  # an overflow becomes infinite, reported with its position later
            array = array.astype(np.float32, copy=False)
    # torch takes neither negative strides nor another byte order, and warns of memory that is read-only.
    array = np.require(array, dtype=array.dtype.newbyteorder("="), requirements=("C", "W", "A"))
    return torch.from_numpy(array.copy() if min(array.strides, default=0) < 0 else array)


@contextlib.contextmanager
def open_audio(
    source: AudioSource, source_rate: int | None = None, part: Part | None = None, block: int | None = None
) -> Iterator[Clip]:
    """Open any source of `load_audio`; raise its errors that can be known before decoding.

    `block` is the number of samples of all channels that are decoded at once; None for about a million.
    """
    if isinstance(source, Mapping):
        opened = _open_mapping(source, source_rate, part, block)
    elif isinstance(source, (str, PathLike)):
        opened = open_file(source, part, block)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        opened = open_content(io.BytesIO(source), f"audio of {len(source)} bytes", part, block)
    elif hasattr(source, "get_all_samples"):
        decoded = source.get_all_samples()
        opened = _open_array(decoded.data.numpy(), int(decoded.sample_rate), "decoded audio", part)
    elif callable(getattr(source, "read", None)):
        opened = open_object(source, part, block)
    else:
        _refuse_other_types(source)
        opened = _open_array(source, source_rate, "audio array", part)
    with opened as clip:
        yield clip


def _refuse_other_types(source: Any) -> None:
    """Raise E102 for a source that is no array: None, a number, paths in a list, or samples beside a rate."""
    kind = type(source).__name__
    if not isinstance(source, (list, tuple)):
        if np.isscalar(source) or not (
            hasattr(source, "__array__") or hasattr(source, "__array_interface__")
        ):
            fix = "pass a path, the bytes or an open file, or an array of samples with its rate"
            raise error("E102", where="audio", what=f"is of type {kind}", fix=fix)
        return
    kinds = ", ".join(type(entry).__name__ for entry in source[:3])
    if any(isinstance(entry, (str, PathLike, bytes, Mapping)) for entry in source[:3]):
        what = f"is a {kind} of files ({kinds})"
        raise error("E102", where="audio", what=what, fix="pass one file at a time")
    has_samples = [_has_samples(entry) for entry in source[:3]]
    if len(source) == 2 and any(has_samples) and not all(has_samples):
        fix = 'pass {"array": samples, "sampling_rate": hertz}'
        raise error("E102", where="audio", what=f"is a {kind} of ({kinds}), samples with their rate", fix=fix)


def _has_samples(value: Any) -> bool:
    return isinstance(value, list) or getattr(value, "ndim", 0) > 0


def _open_mapping(
    source: Mapping[str, Any], source_rate: int | None, part: Part | None, block: int | None
) -> contextlib.AbstractContextManager[Clip]:
    # "raw" has precedence, as in transformers.
    array = source.get("array") if source.get("raw") is None else source["raw"]
    content = source.get("bytes")
    path = source.get("path")
    if array is not None:
        return _open_array(array, source.get("sampling_rate", source_rate), str(path or "audio dict"), part)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return open_content(io.BytesIO(content), str(path or f"audio of {len(content)} bytes"), part, block)
    if content is None and isinstance(path, (str, PathLike)):
        return open_file(path, part, block)
    fix = 'give {"array": samples, "sampling_rate": hertz}, or "bytes", or "path"'
    keys = sorted(map(str, source))
    what = f"has the keys {keys}" if content is None else f"bytes is a {type(content).__name__}"
    raise error("E102", where="audio dict", what=what, fix=fix)


@contextlib.contextmanager
def _open_array(array: Any, rate: Any, where: str, part: Part | None) -> Iterator[Clip]:
    rate = plain_whole(rate)
    if rate is None:
        fix = "pass sampling_rate= in Hz with the samples"
        raise error("E107", where=where, what="has no sampling rate", fix=fix)
    check_rate(rate, where, code="E107")
    samples = as_samples(array, where).cpu().numpy().copy()
    if samples.ndim not in (1, 2):
        what = f"has shape {samples.shape}"
        raise error("E106", where=where, what=what, fix="pass one waveform of shape (time,)")
    if samples.size == 0:
        raise _empty_error(where)
    mono = mix_to_mono(samples, where)
    if part is not None:
        mono = mono[part.samples(len(mono), rate, where)]
    yield Clip(int(rate), 1, len(mono), where, iter([mono]), in_memory=True)
