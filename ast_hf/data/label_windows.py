"""Windows of recordings as clips: placed, with the labels that are in each, and with a share of the empty ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import AstHfError, error
from ..scalars import is_finite_number
from ..timelines.events import Event
from ..timelines.windows import plan_windows, window_starts
from .naming_conventions import RECORDING
from .option_spelling import option
from .reading_options import ReadingOptions
from .table_clips import Clip
from .timed_labels import merged
from .timed_recordings import Recording

#: Frames of the longest window: no limit, since the length of the model is checked where it is known.
_MAX_FRAMES = 10**9

#: Seconds, far below a sample's, by which computed times may be wrong.
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How recordings are cut into windows.

    Attributes:
        seconds: length of a window.
        hop: seconds from window to window, in (0, `seconds`].
        empty: share of the windows without a label that are kept, in [0, 1].
        min_overlap: share of a sound, or of the window if that is shorter, that is in the window for its label
            to count, in [0, 1]; 0 for any overlap.
    """

    seconds: float
    hop: float
    empty: float = 1.0
    min_overlap: float = 0.0

    @classmethod
    def of(
        cls, seconds: float | None, hop: float | None, empty: float | None, min_overlap: float | None
    ) -> WindowOptions | None:
        """Return the arguments of `load_audio_dataset`, checked; None if they ask for no windows.

        Raises:
            AstInputError: E108 for values out of range, and for the others without `window_seconds`.
        """
        if seconds is None:
            others = {"window_hop_seconds": hop, "empty_windows": empty, "min_overlap": min_overlap}
            for name, value in others.items():
                if value is not None:
                    what = "has no effect without window_seconds"
                    raise error("E108", where=name, what=what, fix=f"set {option('window_seconds')}")
            return None
        _check_duration("window_seconds", seconds)
        if hop is not None:
            _check_duration("window_hop_seconds", hop)
            if hop > seconds:
                what = f"{hop:g} s is longer than the window, {seconds:g} s, and would skip sound"
                fix = f"give seconds above 0 and at most {seconds:g}"
                raise error("E108", where="window_hop_seconds", what=what, fix=fix)
        plan_windows(_MAX_FRAMES, 16_000, seconds)  # at least one frame
        share = 1.0 if empty is None else empty
        overlap = 0.0 if min_overlap is None else min_overlap
        _check_share("empty_windows", share)
        _check_share("min_overlap", overlap)
        return cls(seconds=seconds, hop=seconds if hop is None else hop, empty=share, min_overlap=overlap)


class _Window(NamedTuple):
    """Window of a recording: seconds of its start and end, None for all of it, and the labels in it."""

    start: float | None
    end: float | None
    labels: list[str]


def window_clips(
    recordings: Sequence[Recording], windows: WindowOptions, options: ReadingOptions
) -> list[Clip]:
    """Return the windows of recordings, in order, with the labels in each.

    Windows with dropped labels alone are left out. Of those without a label, every split keeps the share
    `windows.empty`, evenly spread over it, so that no draw decides. A recording shorter than the window is one
    window. One without a header is one clip with all its labels, which the checks of all clips refuse.

    Raises:
        AstInputError: E108 for a window longer than every recording.
    """
    _check_length(recordings, windows)
    dropped = options.labels.dropped
    clips: list[Clip] = []
    empty: dict[str, list[int]] = {}
    for recording in recordings:
        for window in _windows(recording, windows):
            labels = [label for label in window.labels if label not in dropped]
            if window.labels and not labels:
                continue
            if not labels:
                empty.setdefault(recording.split, []).append(len(clips))
            clips.append(_clip(recording, window, labels))
    left_out = {number for numbers in empty.values() for number in _left_out(numbers, windows.empty)}
    return [clip for number, clip in enumerate(clips) if number not in left_out]


def _left_out(numbers: Sequence[int], share: float) -> set[int]:
    """Return the numbers without the share of them, rounded, that is kept, at even distances."""
    total = len(numbers)
    kept = round(share * total)
    return set(numbers) - {numbers[(2 * place + 1) * total // (2 * kept)] for place in range(kept)}


def _clip(recording: Recording, window: _Window, labels: list[str]) -> Clip:
    others = {RECORDING: recording.name, "start": window.start, "end": window.end, **recording.others}
    return Clip(recording.where, 1, recording.split, recording.path, None, labels, others)


def _windows(recording: Recording, windows: WindowOptions) -> list[_Window]:
    """Return the windows of a recording, and the labels in each by name."""
    events = merged([sound.event for sound in recording.sounds])
    header = recording.header
    if header is None:
        return [_Window(None, None, sorted({event.label for event in events}))]
    plan = plan_windows(_MAX_FRAMES, header.rate, windows.seconds, windows.hop)
    length = round(header.seconds * header.rate)
    starts = window_starts(length, plan)
    ends = [start + plan.samples for start in starts]
    ends[-1] = length
    places = [(first / header.rate, last / header.rate) for first, last in zip(starts, ends, strict=True)]
    labels = _labels_in(places, events, windows.min_overlap)
    return [_Window(*place, sorted(found)) for place, found in zip(places, labels, strict=True)]


def _labels_in(
    places: Sequence[tuple[float, float]], events: Sequence[Event], min_overlap: float
) -> list[set[str]]:
    """Return the labels in each window: start and end of it, both ascending."""
    starts = [start for start, _ in places]
    ends = [end for _, end in places]
    labels: list[set[str]] = [set() for _ in places]
    for event in events:
        for number in range(bisect_right(ends, event.start), bisect_left(starts, event.end)):
            start, end = places[number]
            inside = min(end, event.end) - max(start, event.start)
            shorter = min(end - start, event.end - event.start)
            if inside > _TINY and inside >= min_overlap * shorter - _TINY:
                labels[number].add(event.label)
    return labels


def _check_length(recordings: Sequence[Recording], windows: WindowOptions) -> None:
    """Raise E108 for a window longer than every recording."""
    lengths = [recording.header.seconds for recording in recordings if recording.header is not None]
    longest = max(lengths, default=windows.seconds)
    if windows.seconds > longest + _TINY:
        what = f"{windows.seconds:g} s is longer than every recording; the longest lasts {longest:.3g} s"
        raise error(
            "E108", where="window_seconds", what=what, fix="give seconds, at most those of a recording"
        )


def _check_duration(name: str, value: object) -> None:
    if not (is_finite_number(value) and value > 0):  # type: ignore[operator]
        raise _invalid(name, f"{value!r} is not a duration", "give seconds above 0")


def _check_share(name: str, value: object) -> None:
    if not (is_finite_number(value) and 0 <= value <= 1):  # type: ignore[operator]
        raise _invalid(name, f"{value!r} is not a share", "give a number from 0 to 1")


def _invalid(name: str, what: str, fix: str) -> AstHfError:
    return error("E108", where=name, what=what, fix=fix)
