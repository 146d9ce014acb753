"""Store of clips on disk: features or samples in files that all processes map, and that later runs find again.

A folder has one kind of content, made in one way. It holds segments, each a folder with the clips that one run
added: `values.npy` (all clips, one after the other), `clips.npy` (where each one is, and its digest) and
`segment.json`. A segment gets its name when all of it is on the disk. Mapped pages belong to the system's file cache:
processes share them, and they count as free memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..device_features import FULL_SCALE, whole_samples
from ..errors import warn_once
from ..file_locks import lock
from ..files import sync, write_json
from ..writing_failures import cannot_write, explained

#: Version of the files below.
FORMAT = 1
_VALUES = "values.npy"
_CLIPS = "clips.npy"
_SEGMENT = "segment.json"
_LOCK = ".lock"
#: Suffix of a segment that is being written.
_PART = ".part"
#: Seconds between two attempts to lock a folder.
_WAIT = 0.2
#: Bytes of the header of `values.npy`: numpy's format 1.0, padded, since the number of rows is known last.
_HEADER = 128
#: Digest of a clip, first row and number of rows of it in the values, their CRC-32, extremes of its samples, and 1 if
#: its rows are pairs of a float32's halves.
_CLIP = np.dtype(
    [
        *(("digest", "V16"), ("first", "<i8"), ("rows", "<i8"), ("crc", "<u4")),
        *(("low", "<f4"), ("high", "<f4"), ("is_halved", "u1")),
    ]
)


class StoredClip:
    """A clip to be stored.

    Args:
        array: float32 features `(frames, mel)` or samples `(time,)`.
        low: smallest sample of the clip.
        high: largest sample.
    """

    def __init__(self, array: np.ndarray, low: float, high: float) -> None:
        self.array = array
        self.low = low
        self.high = high


class ClipStore:
    """Clips of a split by number, in segments of a store. Copies in other processes map the same files.

    Args:
        segments: folders of complete segments.
        places: segment and row of each clip, int64 `(clips, 2)`.
    """

    def __init__(self, segments: Sequence[Path], places: np.ndarray) -> None:
        self.segments = list(segments)
        self.places = places
        #: 1 for a clip whose bytes were compared with its CRC, 2 for one that is damaged; shared with forked workers.
        self._states = torch.zeros(len(places), dtype=torch.uint8).share_memory_()
        self._open()

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: the names of the files, not their content."""
        return {name: value for name, value in vars(self).items() if name not in ("_values", "_clips")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def _open(self) -> None:
        self._values = [_map(segment / _VALUES) for segment in self.segments]
        self._clips = [_map(segment / _CLIPS) for segment in self.segments]

    def read(self, clip: int) -> np.ndarray | None:
        """Return a new array of a clip: samples as float32, features as they are stored; None for damage (W409)."""
        segment, row = self.places[clip].tolist()
        entry = self._clips[segment][row]
        first = int(entry["first"])
        values = self._values[segment][first : first + int(entry["rows"])]
        if self._states[clip] != 1 and not self._is_whole(clip, values, int(entry["crc"])):
            return None
        if values.ndim == 2:
            return values.copy()
        return _samples(values, is_halved=bool(entry["is_halved"]))

    def extremes(self, clip: int) -> tuple[float, float]:
        """Return the smallest and the largest sample of a clip."""
        segment, row = self.places[clip].tolist()
        entry = self._clips[segment][row]
        return float(entry["low"]), float(entry["high"])

    def _is_whole(self, clip: int, values: np.ndarray, crc: int) -> bool:
        """Compare a clip's bytes with its CRC; of a damaged segment, remove the mark that it is complete."""
        is_whole = zlib.crc32(np.ascontiguousarray(values).data) == crc
        self._states[clip] = 1 if is_whole else 2
        if not is_whole:
            segment = self.segments[int(self.places[clip, 0])]
            with contextlib.suppress(OSError):
                (segment / _SEGMENT).unlink()
            text = (
                f"{str(segment)!r} is damaged: its damaged clips are decoded again in every epoch. The results are "
                "the same, and the next run writes it anew"
            )
            warn_once("W409", where="data.store", what=text)
        return is_whole


def find_clips(folder: Path, digests: Sequence[bytes]) -> tuple[ClipStore | None, list[int]]:
    """Return the store of these clips, if a folder has all of them, and the numbers of those that it lacks.

    Incomplete and damaged segments count as missing, as far as sizes, names and tables show the damage.
    """
    wanted = set(digests)
    found: dict[bytes, tuple[int, int]] = {}
    used: list[Path] = []
    for segment in sorted(folder.glob("*")) if folder.is_dir() else ():
        clips = None if segment.name.endswith(_PART) else _read_segment(segment)
        if clips is None:
            continue
        rows = {digest.tobytes(): row for row, digest in enumerate(clips["digest"])}
        new = {digest: (len(used), row) for digest, row in rows.items() if digest in wanted}
        if new:
            found |= new
            wanted -= new.keys()
            used.append(segment)
    missing = [number for number, digest in enumerate(digests) if digest not in found]
    if missing:
        return None, missing
    places = np.array([found[digest] for digest in digests], dtype=np.int64).reshape(-1, 2)
    return ClipStore(used, places), []


def add_clips(
    folder: Path,
    digests: Sequence[bytes],
    compute: Callable[[list[int]], Iterable[StoredClip]],
    *,
    dtype: np.dtype,
    width: int,
    waiting: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> ClipStore:
    """Return a store of clips, after adding those that a folder lacks.

    Args:
        folder: of clips of this kind; it is made.
        digests: of each clip, 16 bytes: a clip is found again by it.
        compute: called with the numbers of the missing clips; returns them in that order.
        dtype: of the values: float32 or float16 for features, int16 for samples.
        width: mel bins of a frame; 0 for samples.
        waiting: context around the wait for another process that adds clips to the folder; a bar, or None.

    Raises:
        AstRunError: E401 if the folder cannot be written or the disk is full; no part stays there.
        AstHfError: those of `compute`.
    """
    store, missing = find_clips(folder, digests)
    if store is not None:
        return store
    with _locked(folder, waiting) as is_locked:
        store, missing = find_clips(folder, digests)  # another run may have written it in the meantime
        if store is not None:
            return store
        if is_locked:
            _remove_rest(folder)
        first = {digests[number]: number for number in reversed(missing)}
        numbers = sorted(first.values())  # a clip that is there twice is stored once
        _write_segment(folder, [digests[number] for number in numbers], compute(numbers), dtype, width)
    store, missing = find_clips(folder, digests)
    if store is None:
        problem = OSError(f"{len(missing)} clips are not what was written")
        raise cannot_write(folder, problem)
    return store


@contextlib.contextmanager
def _locked(folder: Path, waiting: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[bool]:
    """Hold the lock of a folder, which is waited for; yield False on a disk that has no locks."""
    with explained(folder / _LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = lock(handle)
        if held is False:
            with waiting() as bar:
                while (held := lock(handle)) is False:
                    time.sleep(_WAIT)
                    if bar is not None:
                        bar.refresh()
        yield held is not None
    finally:
        os.close(handle)


def _remove_rest(folder: Path) -> None:
    """Remove what killed runs have left, and damaged segments; only with the lock."""
    for segment in folder.iterdir():
        if segment.is_dir() and (segment.name.endswith(_PART) or _read_segment(segment) is None):
            shutil.rmtree(segment, ignore_errors=True)


def _write_segment(
    folder: Path, digests: list[bytes], clips: Iterable[StoredClip], dtype: np.dtype, width: int
) -> None:
    name = f"{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}-{uuid.uuid4().hex[:8]}"
    part = folder / f"{name}{_PART}"
    table = np.zeros(len(digests), _CLIP)
    table["digest"] = np.array(digests, dtype="V16")
    try:
        with explained(part):
            part.mkdir()
        shape = _write_values(part / _VALUES, clips, table, dtype, width)
        with explained(part):
            np.save(part / _CLIPS, table, allow_pickle=False)
            sync(part / _CLIPS)
            digest = _file_digest(part / _CLIPS)
            facts = {"format": FORMAT, "dtype": dtype.str, "shape": list(shape), "clips": digest}
            write_json(part / _SEGMENT, {**facts, "seal": _seal(facts)})
            part.replace(folder / name)
            sync(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_values(
    path: Path, clips: Iterable[StoredClip], table: np.ndarray, dtype: np.dtype, width: int
) -> tuple[int, ...]:
    """Write the values of all clips, fill the table, and return the shape of the values."""
    rows = 0
    with contextlib.ExitStack() as stack:
        with explained(path):
            file = stack.enter_context(path.open("wb"))
            file.write(bytes(_HEADER))
        for entry, clip in zip(table, clips, strict=True):
            values, is_halved = _stored_form(clip.array, dtype)
            with explained(path):
                file.write(values.data)
            count = len(values)
            entry["first"], entry["rows"], entry["crc"] = rows, count, zlib.crc32(values.data)
            entry["low"], entry["high"], entry["is_halved"] = clip.low, clip.high, is_halved
            rows += count
        shape = (rows, width) if width else (rows,)
        with explained(path):
            file.seek(0)
            file.write(_header(dtype, shape))
            file.flush()
            os.fsync(file.fileno())
    return shape


def _stored_form(array: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, bool]:
    """Return what is written of a clip, and True for samples as halves of float32, since int16 is not exact."""
    if array.ndim == 2:
        kind = torch.float16 if dtype.itemsize == 2 else torch.float32
        return torch.from_numpy(array).to(kind).contiguous().numpy(), False  # faster than numpy
    whole = whole_samples(array)
    if whole is not None:
        return whole.astype(dtype, copy=False), False
    return np.ascontiguousarray(array, dtype="<f4").view(dtype), True


def _samples(values: np.ndarray, *, is_halved: bool) -> np.ndarray:
    """Return new float32 samples of what `_stored_form` returns of them."""
    if is_halved:
        return values.copy().view(np.float32)
    return values.astype(np.float32) / np.float32(FULL_SCALE)


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the header of a `.npy` file, format 1.0 of `numpy.lib.format`, `_HEADER` bytes long."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    start = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
    return start + text.ljust(_HEADER - 11).encode("latin1") + b"\n"


def _read_segment(segment: Path) -> np.ndarray | None:
    """Return the table of clips of a segment, None for one that is incomplete, damaged or of another format."""
    try:
        facts = json.loads((segment / _SEGMENT).read_text(encoding="utf-8"))
        seal = facts.pop("seal")
        if seal != _seal(facts) or facts["format"] != FORMAT:
            return None
        if _file_digest(segment / _CLIPS) != facts["clips"]:
            return None
        values = _map(segment / _VALUES)
        if (values.dtype.str, list(values.shape)) != (facts["dtype"], facts["shape"]):
            return None
        return np.load(segment / _CLIPS, allow_pickle=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError):
        return None


def _map(path: Path) -> np.ndarray:
    """Return the array of a `.npy` file, mapped from disk to be read only."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _seal(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
