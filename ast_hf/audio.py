"""One door for audio: a path, bytes, an array, a tensor or a dict in; a mono float32 waveform at a known rate out.

Decoding is soundfile (WAV, FLAC, OGG Vorbis/Opus, MP3, AIFF, ...), resampling is soxr's HQ setting (133 dB signal to
noise at 44.1 -> 16 kHz), channels are mixed by their mean. No ffmpeg, torchaudio or torchcodec is involved
(docs/decisions/0004-decode-through-soundfile.md).
"""

from __future__ import annotations

import difflib
import io
import stat
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import error

if TYPE_CHECKING:
    import torch

#: Everything `load_audio` takes.
AudioSource = str | PathLike | bytes | np.ndarray | Mapping[str, Any] | Any

#: Limits on what a header may claim, checked before any memory is asked for. 384 kHz and 8 channels are the largest of
#: ordinary equipment; one hour of 16 kHz mono float32 is 230 MB.
MIN_RATE, MAX_RATE, MAX_CHANNELS, MAX_SECONDS = 1_000, 384_000, 8, 3_600.0

#: dtype -> (zero point, full scale): integer samples become float32 in [-1, 1) by an exact power of two.
INTEGER_SCALES = {"int16": (0, 2.0**15), "int32": (0, 2.0**31), "uint8": (128, 2.0**7)}

#: First bytes of files that people hand over instead of audio -> what they are and what to do.
NOT_AUDIO = {
    b"": ("is empty (0 bytes)", "copy or download the file again"),
    b"version https://git-lfs": ("is a git-lfs pointer, not the file it points to", "run `git lfs pull`"),
    b"<!DOCTYPE": ("is an HTML page", "download the file itself, not the page about it"),
    b"<html": ("is an HTML page", "download the file itself, not the page about it"),
    b"PK\x03\x04": ("is a zip archive", "unpack it first"),
    b"{": ("looks like JSON text", "give the audio file itself"),
}

#: Container marks that soundfile has no decoder for -> their names.
UNSUPPORTED = {b"ftyp": "MP4/M4A (AAC)", b"\x1aE\xdf\xa3": "WebM/Matroska", b"0&\xb2u": "WMA"}


def load_audio(source: AudioSource, sampling_rate: int = 16_000, *, source_rate: int | None = None) -> np.ndarray:
    """Read any kind of audio as a mono waveform at `sampling_rate`.

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

    Returns:
        float32 array of shape `(time,)`, in [-1, 1] for ordinary files.

    Raises:
        AstDataError: E201-E207; the message names the file.
        AstInputError: E101-E107 for arrays, E703 for URLs.

    Example:
        >>> load_audio({"array": np.zeros(44_100), "sampling_rate": 44_100}).shape
        (16000,)
    """
    samples, rate, where = _read(source, source_rate)
    if samples.size == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it, or record it again")
    mono = mix_to_mono(samples, where)
    if not np.isfinite(mono).all():
        first = int(np.flatnonzero(~np.isfinite(mono))[0])
        what = f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite, the first at {first}"
        raise error("E104", where=where, what=what, fix="re-export the file, or drop it")
    return resample(mono, rate, sampling_rate)


def mix_to_mono(samples: np.ndarray, where: str) -> np.ndarray:
    """Mean over the channels of `(time,)`, `(time, channels)` or `(channels, time)` samples."""
    if samples.ndim == 1:
        return samples
    if samples.ndim == 2 and min(samples.shape) <= MAX_CHANNELS < max(samples.shape):
        return samples.mean(axis=int(np.argmin(samples.shape)), dtype=np.float32)
    raise error(
        "E106",
        where=where,
        what=f"array of shape {samples.shape} is neither (time,) nor one clip of up to {MAX_CHANNELS} channels",
        fix="pass one waveform of shape (time,)",
    )


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
    import torch

    tensor = clip.detach() if isinstance(clip, torch.Tensor) else _tensor_of(clip, where)
    if tensor.device.type == "meta" or tensor.dtype == torch.bool or tensor.is_complex():
        what = f"{tensor.dtype} tensor on device {tensor.device}"
        raise error("E102", where=where, what=what, fix="pass real samples as float or int16")
    if tensor.numel() == 0:
        raise error("E101", where=where, what="holds no samples", fix="remove it from the batch")
    if tensor.ndim != 1:
        what = f"has shape {tuple(tensor.shape)}, a clip is one-dimensional"
        raise error("E106", where=where, what=what, fix="mix the channels first, or pass a list of 1-D clips")
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in INTEGER_SCALES:
        what = f"{name} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")
    zero, scale = INTEGER_SCALES[name]
    # Through float64: int32 has more bits than float32, and 31 bits + sign must round once, not twice.
    return ((tensor.to(torch.float64) - zero) / scale).to(torch.float32)


def _tensor_of(clip: Any, where: str) -> torch.Tensor:
    import torch

    kind = type(clip).__name__
    wrong = error(
        "E102", where=where, what=f"is a {kind}", fix="pass samples; `ast_hf.load_audio` reads files and dicts"
    )
    if isinstance(clip, (str, bytes, PathLike, Mapping)) or clip is None or np.isscalar(clip):
        raise wrong
    try:
        array = np.asarray(clip)
    except (ValueError, TypeError) as problem:
        raise wrong from problem
    if isinstance(clip, (list, tuple)) and array.dtype.kind in "iu":
        array = array.astype(np.float64)  # Python numbers carry no full scale: they are samples as they stand
    if array.dtype.kind not in "fiu":
        if array.size == 0:
            raise error("E101", where=where, what="holds no samples", fix="remove it from the batch")
        what = f"is a {kind} of {array.dtype}"
        raise error("E102", where=where, what=what, fix="pass float or integer samples")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.name not in INTEGER_SCALES and array.dtype.newbyteorder("=").name not in INTEGER_SCALES:
        what = f"{array.dtype.name} samples have no defined full scale"
        raise error("E102", where=where, what=what, fix="pass float in [-1, 1], int16, int32 or uint8")
    # A copy in native byte order and positive strides, which torch needs; the caller's array is never shared.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _read(source: AudioSource, source_rate: int | None) -> tuple[np.ndarray, int, str]:
    """Samples, rate in Hz, and the name of the source for messages."""
    if isinstance(source, (str, PathLike)):
        return _read_file(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), bytes(source[:512]), f"audio of {len(source)} bytes")
    if isinstance(source, Mapping):
        return _read_mapping(source, source_rate)
    if hasattr(source, "get_all_samples"):
        decoded = source.get_all_samples()
        return decoded.data.numpy(), int(decoded.sample_rate), "decoded audio"
    return _read_array(source, source_rate, "audio array")


def _read_mapping(source: Mapping[str, Any], source_rate: int | None) -> tuple[np.ndarray, int, str]:
    array = source.get("array", source.get("raw"))
    if array is not None:
        return _read_array(array, source.get("sampling_rate", source_rate), str(source.get("path") or "audio dict"))
    if source.get("bytes") is not None:
        content = source["bytes"]
        return _decode(io.BytesIO(content), content[:512], str(source.get("path") or f"audio of {len(content)} bytes"))
    if source.get("path") is not None:
        return _read_file(source["path"])
    raise error(
        "E102",
        where="audio dict",
        what=f"has the keys {sorted(map(str, source))}",
        fix='give {"array": samples, "sampling_rate": hertz}, or "bytes", or "path"',
    )


def _read_array(array: Any, rate: Any, where: str) -> tuple[np.ndarray, int, str]:
    if rate is None:
        raise error("E107", where=where, what="has no sampling rate", fix="pass sampling_rate= in Hz with the samples")
    _check_rate(rate, where, code="E107")
    if np.ndim(array) > 2:
        raise error("E106", where=where, what=f"has shape {np.shape(array)}", fix="pass one waveform of shape (time,)")
    if np.ndim(array) == 2:
        return np.stack([as_waveform(row, where).cpu().numpy() for row in array]), int(rate), where
    return as_waveform(array, where).cpu().numpy(), int(rate), where


def _check_rate(rate: Any, where: str, code: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        what = f"sampling rate {rate!r} is a {type(rate).__name__}"
        raise error("E102", where=where, what=what, fix="give a whole number of Hz")
    if not MIN_RATE <= rate <= MAX_RATE:
        what = f"sampling rate {rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz"
        raise error(code, where=where, what=what, fix="check how the audio was written")


def _read_file(source: str | PathLike) -> tuple[np.ndarray, int, str]:
    if str(source).startswith(("http://", "https://")):
        fix = "download the file first and pass its path or its bytes"
        raise error("E703", where=repr(str(source)), what="is a URL, and nothing is fetched silently", fix=fix)
    path = Path(source)
    where = repr(str(path))
    try:
        mode = path.stat().st_mode
    except OSError:
        raise _missing(path, where) from None
    if not stat.S_ISREG(mode):
        what = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
        raise error("E206", where=where, what=what, fix="pass the path of one audio file")
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        return _decode(file, head, where)


def _missing(path: Path, where: str) -> Exception:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    fix = f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
    return error("E206", where=where, what="does not exist", fix=fix)


def _decode(file: Any, head: bytes, where: str) -> tuple[np.ndarray, int, str]:
    """Decode an open file; the header is judged before any sample is read, the count of samples after."""
    import soundfile

    _refuse_non_audio(head, where)
    try:
        with soundfile.SoundFile(file) as sound:
            _check_header(sound, where)
            samples = sound.read(dtype="float32")
            declared, log = sound.frames, sound.extra_info
    except soundfile.LibsndfileError as problem:
        what = f"cannot be decoded ({str(problem).rstrip('.').split(': ')[-1]})"
        fix = "check that it plays, convert it to WAV or FLAC, or drop it"
        known = head[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM") or head[:3] == b"ID3"
        raise error("E203" if known else "E201", where=where, what=what, fix=fix) from problem
    _check_complete(samples, declared, log, sound.samplerate, where)
    return samples, sound.samplerate, where


def _refuse_non_audio(head: bytes, where: str) -> None:
    for mark, name in UNSUPPORTED.items():
        if mark in head[:12]:
            fix = "convert it, for example with `ffmpeg -i IN OUT.flac`"
            raise error("E205", where=where, what=f"is {name}, which soundfile cannot decode", fix=fix)
    for mark, (what, fix) in NOT_AUDIO.items():
        if head.lstrip()[: len(mark)] == mark and (mark or not head):
            raise error("E201", where=where, what=what, fix=fix)


def _check_header(sound: Any, where: str) -> None:
    _check_rate(sound.samplerate, where, code="E204")
    if sound.channels > MAX_CHANNELS:
        what = f"declares {sound.channels} channels, the limit is {MAX_CHANNELS}"
        raise error("E204", where=where, what=what, fix="mix it down first")
    seconds = sound.frames / sound.samplerate
    if seconds > MAX_SECONDS:
        what = f"declares {seconds:,.0f} s of audio, the limit is {MAX_SECONDS:,.0f} s"
        raise error("E207", where=where, what=what, fix="split it into shorter files")


def _check_complete(samples: np.ndarray, declared: int, log: str, rate: int, where: str) -> None:
    """Truncated files decode without an error: a WAV says so in libsndfile's log, an MP3 by its frame count."""
    wav_cut = any(line.lstrip().startswith("data :") and "should be" in line for line in log.splitlines())
    streamed = "0xffffff" in log.lower() or "4294967" in log
    if len(samples) < declared or (wav_cut and not streamed):
        what = f"is cut off: {len(samples) / rate:.3f} s could be decoded, its header declares more"
        raise error("E202", where=where, what=what, fix="copy or download the file again")
