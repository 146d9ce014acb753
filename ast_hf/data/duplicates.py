"""Clips that are in a data set more than once, within a split and across splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .conventions import Row


@dataclass
class Repetition:
    """Clips of one split that are the same.

    Attributes:
        kind: `"path"` (the same stretch of one file) or `"content"` (the same decoded samples).
        clips: (row, file) of each, rows counted from 1.
        labels: label names of each.
        contradictory: whether these differ.
    """

    kind: str
    clips: list[tuple[int, str]]
    labels: list[list[str]]
    contradictory: bool


@dataclass
class Duplicate:
    """Clips of several splits that are the same: `"path"` (the same stretch of one file) or `"content"` (the same
    decoded samples). `clips` are (split, row, file), rows counted from 1.
    """

    kind: str
    clips: list[tuple[str, int, str]]


class _Heard(NamedTuple):
    """A clip that was read."""

    split: str
    row: int
    path: str
    labels: tuple[str, ...]


class _Sameness:
    """Which clips are the same stretch of a file, or the same audio? Silence is not compared."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[tuple[float, float, _Heard]]] = {}
        self._by_content: dict[bytes, list[_Heard]] = {}
        self._labels: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, clip: _Heard, row: Row, samples: np.ndarray | None, rate: int) -> None:
        """A clip, its row, and its samples unless it is silent."""
        # Equal labels are kept once: there may be millions of clips.
        clip = clip._replace(labels=self._labels.setdefault(clip.labels, clip.labels))
        if row["audio"].get("bytes") is None:
            start, end = row.get("start") or 0.0, row.get("end")
            stretch = (start, math.inf if end is None else end, clip)
            self._by_path.setdefault(str(Path(clip.path).resolve()), []).append(stretch)
        if samples is not None:
            digest = hashlib.blake2b(np.ascontiguousarray(samples).tobytes(), digest_size=16, salt=str(rate).encode())
            self._by_content.setdefault(digest.digest(), []).append(clip)

    def duplicates(self) -> list[Duplicate]:
        """Those in several splits, the same file first; what is the same file is not told again as the same audio."""
        paths = [same for stretches in self._by_path.values() for same in _overlapping(stretches)]
        told = {tuple(sorted(same)) for same in paths}
        contents = [clips for clips in self._by_content.values() if tuple(sorted(clips)) not in told]
        found = [("path", same) for same in paths]
        found += [("content", clips) for clips in contents if _several_splits(clips)]
        return [Duplicate(kind, [(clip.split, clip.row, clip.path) for clip in clips]) for kind, clips in found]

    def repetitions(self) -> dict[str, list[Repetition]]:
        """Split -> those within it, the same file first; what is the same file is not told again either."""
        paths = list(_within_splits(same for stretches in self._by_path.values() for same in _equal(stretches)))
        told = {tuple(same) for same in paths}
        contents = [same for same in _within_splits(self._by_content.values()) if tuple(same) not in told]
        found: dict[str, list[Repetition]] = {}
        for kind, clips in [("path", same) for same in paths] + [("content", same) for same in contents]:
            found.setdefault(clips[0].split, []).append(_repetition(kind, clips))
        return found


def _repetition(kind: str, clips: list[_Heard]) -> Repetition:
    labels = [list(clip.labels) for clip in clips]
    return Repetition(kind, [(clip.row, clip.path) for clip in clips], labels, any(one != labels[0] for one in labels))


def _within_splits(groups: Iterable[list[_Heard]]) -> Iterator[list[_Heard]]:
    """Of each group the clips that have a split in common, where there are several."""
    for group in groups:
        by_split: dict[str, list[_Heard]] = {}
        for clip in group:
            by_split.setdefault(clip.split, []).append(clip)
        yield from (clips for clips in by_split.values() if len(clips) > 1)


def _equal(stretches: list[tuple[float, float, _Heard]]) -> Iterable[list[_Heard]]:
    """Groups of stretches of one file that begin and end together."""
    by_bounds: dict[tuple[float, float], list[_Heard]] = {}
    for start, end, clip in stretches:
        by_bounds.setdefault((start, end), []).append(clip)
    return by_bounds.values()


def _several_splits(clips: list[_Heard]) -> bool:
    return len({clip.split for clip in clips}) > 1


def _overlapping(stretches: list[tuple[float, float, _Heard]]) -> Iterator[list[_Heard]]:
    """Groups of stretches of one file that overlap and are in several splits; stretches that only touch do not."""
    group: list[_Heard] = []
    reached = -math.inf
    for start, end, clip in sorted(stretches, key=lambda stretch: stretch[:2]):
        if start >= reached:
            if _several_splits(group):
                yield group
            group = []
        group.append(clip)
        reached = max(reached, end)
    if _several_splits(group):
        yield group
