"""What a store holds of a split, and the key of its folder: found again by later runs, and written once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..errors import error
from ..log_mel import num_frames
from ..progress import progress_bar
from ..writing_failures import check_folder, check_space, megabytes
from .clip_checks import check_headers
from .clip_store import FORMAT, ClipStore, StoredClip, add_clips, find_clips
from .clips import ClipInputs

#: Packages that decode and compute: another version may change the last bit.
_PACKAGES = ("torch", "numpy", "soundfile", "soxr", "av")
#: Modules of this package that decode and compute, in the package's folder.
_MODULES = (
    "audio*.py",
    "device_features.py",
    "log_mel.py",
    "inputs/processing.py",
    "inputs/clip_store.py",
    "inputs/stored_clips.py",
)
#: Types of stored features.
STORE_DTYPES = ("float32", "float16")
#: Clips that are in memory for each thread while a store is written.
_AHEAD = 4
#: Threads that decode and compute: more of them would wait for the one that writes.
_MAX_THREADS = 8


@dataclass
class StorePlan:
    """Store of a split.

    Attributes:
        inputs: the split.
        folder: of the store's clips of this kind.
        digests: of each clip.
        seconds: length of each clip.
        dtype: of stored features; None for samples.
        missing: numbers of the clips that the folder lacks.
    """

    inputs: ClipInputs
    folder: Path
    digests: list[bytes]
    seconds: list[float]
    dtype: np.dtype | None
    missing: list[int]

    @property
    def bytes(self) -> int:
        """Largest size of what is to be written."""
        return sum(self._clip_bytes(self.seconds[number]) for number in self.missing)

    def __str__(self) -> str:
        content = "samples" if self.dtype is None else f"{self.dtype} features"
        where = f"{self.folder}: {content} of {self.inputs.name or 'a split'}"
        if not self.missing:
            return f"{where} ({len(self.digests)} clips) are there"
        return f"{where} ({len(self.missing)} of {len(self.digests)} clips, {megabytes(self.bytes)} at most)"

    def _clip_bytes(self, seconds: float) -> int:
        rate = self.inputs.extractor.sampling_rate
        samples = int(seconds * rate) + 1
        if self.dtype is None:
            return 4 * samples
        frames = min(num_frames(samples, rate), self.inputs.processor.max_frames)
        return frames * self.inputs.extractor.num_mel_bins * self.dtype.itemsize


def store_clips(
    inputs: ClipInputs, folder: str | Path, *, dtype: str = "float32", disable_tqdm: bool | None = None
) -> None:
    """Let a split read its clips from a store in `folder`; what the store lacks is written first.

    It holds raw log-mel features, or samples where augmentation or a teacher needs waveforms. Clips are found by the
    content of their files, `start` and `end`, and by the settings of the extractor (`mean` and `std` excepted): a
    changed one is never read stale. Several processes and the workers of a data loader share the mapped files.

    Args:
        inputs: the split, changed in place.
        folder: of the store, for any number of splits and settings.
        dtype: of stored features: `"float32"` for the same inputs to the bit, or `"float16"`, which rounds raw
            log-mel values by at most 0.004. Samples are exact: int16 where that is, else float32.
        disable_tqdm: show no progress; None and False show it.

    Raises:
        AstRunError: E401 if the store cannot be written.
        AstHfError: the error of a clip that cannot be decoded.
        AstInputError: E108 for another `dtype`.

    Examples:
        >>> inputs = ClipInputs(splits["train"], extractor)
        >>> store_clips(inputs, "outputs/store")
    """
    if dtype not in STORE_DTYPES:
        fix = f"use {' or '.join(map(repr, STORE_DTYPES))}"
        raise error("E108", where="store_clips: dtype", what=f"{dtype!r} is not one of them", fix=fix)
    plan = plan_store(inputs, Path(folder), dtype, disable_tqdm=disable_tqdm)
    check_room([plan])
    inputs.use_store(fill_store(plan, disable_tqdm=disable_tqdm), plan.dtype)


def plan_store(inputs: ClipInputs, root: Path, dtype: str, *, disable_tqdm: bool | None = None) -> StorePlan:
    """Return what a store under `root` has of a split, and what it lacks; nothing is written.

    It reads all bytes of the clips' files, for their digests (see `clip_checks.remembered_checks`).

    Args:
        inputs: the split.
        root: folder of all stores.
        dtype: `"float32"` or `"float16"`, of features.
        disable_tqdm: as for `check_headers`.
    """
    rate = inputs.extractor.sampling_rate
    checked = check_headers(inputs.name, inputs.split, rate, reads_all=True, disable_tqdm=disable_tqdm)
    digests = [clip.digest.sound for clip in checked.clips]
    seconds = [clip.seconds for clip in checked.clips]
    stored = None if inputs.processor.needs_waveforms else np.dtype(dtype)
    folder = root / _folder_name(inputs, stored)
    _, missing = find_clips(folder, digests)
    return StorePlan(inputs, folder, digests, seconds, stored, missing)


def check_room(plans: Sequence[StorePlan]) -> None:
    """Raise E401 if a store cannot be written, or the disk has less room than all of them need."""
    needed = [plan for plan in plans if plan.missing]
    if needed:
        check_folder(needed[0].folder)
        check_space(needed[0].folder, sum(plan.bytes for plan in needed), what="data.store")


def fill_store(plan: StorePlan, *, disable_tqdm: bool | None = None) -> ClipStore:
    """Return the store of a split, after writing the clips that it lacks.

    Args:
        plan: from `plan_store`.
        disable_tqdm: show no progress; None and False show it, see `progress.progress_bar`.

    Raises:
        AstRunError: E401 if it cannot be written.
        AstHfError: the error of a clip that cannot be decoded.
    """
    name = plan.inputs.name
    text = f"waiting for another run, which writes {plan.folder}"
    return add_clips(
        plan.folder,
        plan.digests,
        partial(_computed, plan, text=f"storing {name}".rstrip(), disable_tqdm=disable_tqdm),
        dtype=np.dtype("<i2") if plan.dtype is None else plan.dtype.newbyteorder("<"),
        width=0 if plan.dtype is None else plan.inputs.extractor.num_mel_bins,
        waiting=lambda: progress_bar(desc=text, leave=False, disable=disable_tqdm),
    )


def _computed(
    plan: StorePlan, numbers: list[int], *, text: str, disable_tqdm: bool | None
) -> Iterator[StoredClip]:
    """Yield the content of clips in this order; several threads decode and compute."""
    bar = progress_bar(total=len(numbers), desc=text, unit="clip", leave=False, disable=disable_tqdm)
    with bar:
        for clip in _in_threads(partial(_compute, plan), numbers):
            yield clip
            bar.update()


def _in_threads(compute: Callable[[int], StoredClip], numbers: list[int]) -> Iterator[StoredClip]:
    """Yield the results of a function in order: a thread for each clip, and none within it, which is too small."""
    within = torch.get_num_threads()
    threads = min(_MAX_THREADS, os.cpu_count() or 1, within)
    if threads == 1:
        yield from map(compute, numbers)
        return
    step = _AHEAD * threads
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for first in range(0, len(numbers), step):
                yield from pool.map(compute, numbers[first : first + step])
    finally:
        torch.set_num_threads(within)


def _compute(plan: StorePlan, number: int) -> StoredClip:
    """Return what is stored of a clip, and the extremes of its samples."""
    inputs = plan.inputs
    waveform = inputs.decode(number)
    array = waveform if plan.dtype is None else inputs.processor.features(waveform).numpy()
    low, high = torch.from_numpy(waveform).aminmax()
    return StoredClip(array, float(low), float(high))


def _folder_name(inputs: ClipInputs, dtype: np.dtype | None) -> str:
    """Return a name that depends on everything besides a clip that its stored content depends on."""
    rate = inputs.extractor.sampling_rate
    facts = {"format": FORMAT, "front end": front_end(), "sampling_rate": rate}
    if dtype is None:
        kind = f"samples-{rate}"
    else:
        bins = inputs.extractor.num_mel_bins
        frames = inputs.processor.max_frames
        facts |= {"num_mel_bins": bins, "frames": frames, "dtype": dtype.name}
        kind = f"features-{frames}x{bins}-{dtype.name}"
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return f"{kind}-{key}"


@functools.lru_cache(maxsize=1)
def front_end() -> str:
    """Return a digest of what turns a file into features: code, packages, and the processor's instructions.

    A store that was written with another front end is not read.
    """
    root = Path(__file__).parent.parent
    versions = {"processor": torch.backends.cpu.get_cpu_capability()}
    for package in ("ast_hf", *_PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for pattern in _MODULES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()
