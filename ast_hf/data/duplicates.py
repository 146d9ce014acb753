"""Clips that are in a data set more than once, within a split and across splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from .naming_conventions import Row

#: A file, and start and end of a clip in it in seconds.
Stretch: TypeAlias = tuple[str, float, float]


@dataclass
class Repetition:
    """Clips of one split that are the same.

    Attributes:
        kind: `"path"` (the same stretch of one file) or `"content"` (the same decoded samples).
        clips: (row, file) of each, rows counted from 1.
        labels: label names of each.
        contradictory: True if the labels differ.
    """

    kind: str
    clips: list[tuple[int, str]]
    labels: list[list[str]]
    contradictory: bool


@dataclass
class Duplicate:
    """Clips of several splits that are the same.

    Attributes:
        kind: `"path"` (overlapping stretches of one file) or `"content"` (the same decoded samples).
        clips: (split, row, file) of each, rows counted from 1.
        contradictory: True if their labels differ.
    """

    kind: str
    clips: list[tuple[str, int, str]]
    contradictory: bool = False


class ClipPlace(NamedTuple):
    """Place of a clip in the data: its split, its row from 1, its file and its label names."""

    split: str
    row: int
    path: str
    labels: tuple[str, ...]


def file_stretch(row: Row) -> Stretch | None:
    """Return file, start and end in seconds of a row that is a file, None for embedded audio."""
    audio = row["audio"]
    if audio.get("bytes") is not None:
        return None
    end = math.inf if row.get("end") is None else row["end"]
    return audio["path"], row.get("start") or 0.0, end


class DuplicateFinder:
    """Finds clips that are the same stretch of a file, or the same audio unless they are silent."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[tuple[float, float, ClipPlace]]] = {}
        self._by_content: dict[bytes, list[ClipPlace]] = {}
        self._labels: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, clip: ClipPlace, stretch: Stretch | None, digest: bytes | None) -> None:
        """Add a clip: its stretch of a file (see `file_stretch`), and a digest of its content.

        The digest is None for a clip whose content does not count, such as silence.
        """
        # Equal labels share one tuple to save memory: there may be millions of clips.
        clip = clip._replace(labels=self._labels.setdefault(clip.labels, clip.labels))
        if stretch is not None:
            path, start, end = stretch
            self._by_path.setdefault(str(Path(path).resolve()), []).append((start, end, clip))
        if digest is not None:
            self._by_content.setdefault(digest, []).append(clip)

    def duplicates(self) -> list[Duplicate]:
        """Return duplicates across splits; clips of one file are not reported again as identical audio."""
        paths = [group for stretches in self._by_path.values() for group in _overlapping(stretches)]
        reported = {tuple(sorted(group)) for group in paths}
        contents = [group for group in self._by_content.values() if tuple(sorted(group)) not in reported]
        groups = [("path", group) for group in paths]
        groups += [("content", group) for group in contents if _in_several_splits(group)]
        return [Duplicate(kind, [clip[:3] for clip in group], _contradicts(group)) for kind, group in groups]

    def repetitions(self) -> dict[str, list[Repetition]]:
        """Return split -> repetitions; clips of one file are not reported again as identical audio."""
        by_stretch = (group for stretches in self._by_path.values() for group in _equal(stretches))
        paths = list(_within_splits(by_stretch))
        reported = {tuple(group) for group in paths}
        by_content = _within_splits(self._by_content.values())
        contents = [group for group in by_content if tuple(group) not in reported]
        repetitions: dict[str, list[Repetition]] = {}
        for kind, group in [
            *(("path", group) for group in paths),
            *(("content", group) for group in contents),
        ]:
            repetitions.setdefault(group[0].split, []).append(_repetition(kind, group))
        return repetitions


def digest_samples(samples: np.ndarray, rate: int) -> bytes:
    """Return a digest of decoded samples `(time,)` and their rate in Hz."""
    content = np.ascontiguousarray(samples).tobytes()
    return hashlib.blake2b(content, digest_size=16, salt=str(rate).encode()).digest()


def _repetition(kind: str, clips: list[ClipPlace]) -> Repetition:
    labels = [list(clip.labels) for clip in clips]
    return Repetition(kind, [(clip.row, clip.path) for clip in clips], labels, _contradicts(clips))


def _contradicts(clips: list[ClipPlace]) -> bool:
    return any(clip.labels != clips[0].labels for clip in clips)


def _within_splits(groups: Iterable[list[ClipPlace]]) -> Iterator[list[ClipPlace]]:
    """Yield the clips of each group that share a split."""
    for group in groups:
        by_split: dict[str, list[ClipPlace]] = {}
        for clip in group:
            by_split.setdefault(clip.split, []).append(clip)
        yield from (clips for clips in by_split.values() if len(clips) > 1)


def _equal(stretches: list[tuple[float, float, ClipPlace]]) -> Iterable[list[ClipPlace]]:
    """Return groups of stretches of one file that begin and end together."""
    by_bounds: dict[tuple[float, float], list[ClipPlace]] = {}
    for start, end, clip in stretches:
        by_bounds.setdefault((start, end), []).append(clip)
    return by_bounds.values()


def _in_several_splits(clips: list[ClipPlace]) -> bool:
    return len({clip.split for clip in clips}) > 1


def _overlapping(stretches: list[tuple[float, float, ClipPlace]]) -> Iterator[list[ClipPlace]]:
    """Yield groups of stretches of one file that overlap (not only touch) and are in several splits."""
    group: list[ClipPlace] = []
    group_end = -math.inf
    for start, end, clip in sorted(stretches, key=lambda stretch: stretch[:2]):
        if start >= group_end:
            if _in_several_splits(group):
                yield group
            group = []
        group.append(clip)
        group_end = max(group_end, end)
    if _in_several_splits(group):
        yield group
