"""Clips that can be used but make results doubtful: in several splits, with two labels, or longer than the input."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from ..data.audit import SILENT_PEAK
from ..data.duplicates import ClipPlace, DuplicateFinder
from ..data.long_clips import CutSound, is_cut, measure_cut
from ..data.splits import label_lists, label_names
from ..errors import AstHfError, AstHfWarning, warning_text
from .clip_checks import CheckedClip, SplitCheck
from .processing import decode_clip

#: Sampling rate at which clips are decoded to find silent ones, in Hz.
_RATE = 16_000
#: How many clips that are there several times are decoded, to leave out silent ones.
_DECODED = 100


class _Place(NamedTuple):
    """A clip that is used: its split as it was read, its row there from 1, its labels, what its file shows."""

    source: Dataset
    row: int
    labels: tuple[str, ...]
    clip: CheckedClip

    def is_silent(self) -> bool:
        """Return True if the clip can be decoded and has no sound."""
        try:
            waveform = decode_clip(self.row - 1, self.source[self.row - 1], _RATE)
        except AstHfError:
            return False
        return float(np.abs(waveform).max()) <= SILENT_PEAK


@dataclass
class SuspiciousClips:
    """Clips of the splits that are used, and what is doubtful about them.

    Attributes:
        window: seconds of the model's input; None to leave the clips' length unchecked.
        cropped: split whose clips are cropped at random, so that all of them is used in time.
    """

    window: float | None = None
    cropped: str | None = None
    _splits: dict[str, list[_Place]] = field(default_factory=dict)
    _origins: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, split: Dataset, check: SplitCheck, rows: Iterable[int]) -> None:
        """Add the clips of a split, `rows` (from 0) of those that were checked."""
        names = label_names(split)
        labels = label_lists(split)
        self._splits[name] = [
            _Place(split, row + 1, tuple(sorted(names[index] for index in labels[row])), check.clips[row])
            for row in rows
        ]

    def divide(self, name: str, parts: Mapping[str, Sequence[int]]) -> None:
        """Replace a split by parts of it: name -> numbers of its clips, from 0."""
        places = self._splits.pop(name)
        origin = self._origins.pop(name, name)
        for part, numbers in parts.items():
            self._splits[part] = [places[number] for number in numbers]
            if part != origin:
                self._origins[part] = origin
        if name == self.cropped:
            self.cropped = next(iter(parts))

    def find(self, *, is_main: bool = True) -> dict[str, Any]:
        """Return what was found, plain values for results.json; warn of it on the main process."""
        shared, contradictory = self._repeated()
        if is_main and shared:
            what = f"clips that are in several splits inflate the results on them: {len(shared)}"
            _warn("W215", "data", f"{what}, the first is {shared[0]}; `ast-hf stats DATA` lists them")
        if is_main and contradictory:
            what = f"clips that are there several times have different labels: {len(contradictory)}"
            _warn("W215", "data", f"{what}, the first is {contradictory[0]}; `ast-hf stats DATA` lists them")
        sound: dict[str, dict[str, Any]] = {}
        used: dict[str, float] = {}
        for name, places in self._splits.items():
            if self.window is None or not places:
                continue
            is_cropped = name == self.cropped
            cut = self._measure_sound(name, places, self.window, is_main=is_main and not is_cropped)
            sound[name] = {**cut.to_dict(), "random_crop": is_cropped}
            if not is_cropped:
                used[name] = round(1 - cut.share, 4)
        return {"shared": len(shared), "contradictory": len(contradictory), "used": used, "sound": sound}

    def _measure_sound(self, name: str, places: list[_Place], window: float, *, is_main: bool) -> CutSound:
        """Return how much of a split's sound the model leaves out; the main process warns of it (W201)."""
        cut = measure_cut((place.clip.seconds for place in places), window)
        if cut.cut_clips and is_main:
            first = next(place for place in places if is_cut(place.clip.seconds, window))
            what = (
                f"{cut}: the model's input is {window:.2f} s, and the first longer clip is "
                f"{self._named(name, first.row, first.clip.path)}, {first.clip.seconds:.2f} s"
            )
            _warn(
                "W201",
                f"split {name!r}",
                f"{what}. Cut the clips into pieces, or raise the model's max_length",
            )
        return cut

    def _repeated(self) -> tuple[list[str], list[str]]:
        """Return the clips in several splits, and those whose labels contradict each other, in words."""
        finder = DuplicateFinder()
        silent = self._silent_sounds()
        for name, places in self._splits.items():
            for _, row, labels, clip in places:
                sound = None if clip.digest.sound in silent else clip.digest.sound
                finder.add(ClipPlace(name, row, clip.path, labels), clip.stretch, sound)
        across = finder.duplicates()
        shared = [
            _pair([(split, self._named(split, row, path)) for split, row, path in group.clips])
            for group in across
        ]
        contradictory = [
            _pair(
                [
                    (labels, f"{self._named(split, row, path)} ({', '.join(map(repr, labels))})")
                    for (row, path), labels in zip(group.clips, group.labels, strict=True)
                ]
            )
            for split, groups in finder.repetitions().items()
            for group in groups
            if group.contradictory
        ]
        contradictory += [text for text, group in zip(shared, across, strict=True) if group.contradictory]
        return shared, contradictory

    def _silent_sounds(self) -> set[bytes]:
        """Return digests of silent clips among the first ones that are there several times."""
        seen: dict[bytes, _Place] = {}
        repeated: dict[bytes, _Place] = {}
        for place in itertools.chain.from_iterable(self._splits.values()):
            sound = place.clip.digest.sound
            if sound in seen and len(repeated) < _DECODED:
                repeated[sound] = place
            seen[sound] = place
        return {sound for sound, place in repeated.items() if place.is_silent()}

    def _named(self, split: str, row: int, path: str) -> str:
        """Return the split, row and file of a clip; of a held-out one, its row is that in the data."""
        origin = self._origins.get(split)
        held_out = "" if origin is None else f"{split} (held out), "
        return f"{held_out}{origin or split} row {row} {path!r}"


def _pair(clips: Sequence[tuple[Any, str]]) -> str:
    """Return two clips of a group that are the same, with different keys: (split or labels, name) of each."""
    first_key, first = clips[0]
    other = next(name for key, name in clips if key != first_key)
    more = f" and {len(clips) - 2} more" if len(clips) > 2 else ""
    return f"{first} = {other}{more}"


def _warn(code: str, where: str, what: str) -> None:
    warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=4)
