"""Windows of recordings as clips: placed, with the labels that are in each, and with a share of the empty ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import AstHfError, error, not_a_choice
from ..log_mel import FRAME_SECONDS
from ..scalars import is_finite_number
from ..timeline_fields import WINDOW_LABELS
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

#: Seconds between two sounds of a label at the least, for labels at the middle: two steps of the log-mel
#: spectrogram. Sounds that touch would be one in every timeline of a model that never sees the end of the first.
APART = 0.02
#: Share of a sound that is cut off at either end for that, at most.
_CUT = 0.25

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
        labels: `"overlap"` for the labels of the sounds that are in a window; `"centre"` for those at its middle.
            The scores of windows then follow the start and end of sounds that are shorter than a window. Of two
            sounds of a label that are less than 20 ms apart, both are shortened to leave such a gap.
    """

    seconds: float
    hop: float
    empty: float = 1.0
    min_overlap: float = 0.0
    labels: str = "overlap"

    @classmethod
    def of(
        cls,
        seconds: float | None,
        hop: float | None,
        empty: float | None,
        min_overlap: float | None,
        labels: str | None = None,
    ) -> WindowOptions | None:
        """Return the arguments of `load_audio_dataset`, checked; None if they ask for no windows.

        Raises:
            AstInputError: E108 for values out of range, and for the others without `window_seconds`.
        """
        if seconds is None:
            others: dict[str, object] = {"window_hop_seconds": hop, "empty_windows": empty}
            others |= {"min_overlap": min_overlap, "window_labels": labels}
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
        share = 1.0 if empty is None else empty
        overlap = 0.0 if min_overlap is None else min_overlap
        _check_share("empty_windows", share)
        _check_share("min_overlap", overlap)
        step = seconds if hop is None else hop
        rule = _checked_labels(labels, min_overlap)
        return cls(seconds=seconds, hop=step, empty=share, min_overlap=overlap, labels=rule)


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
    if windows.labels == "centre":
        labels = _labels_at([(start + end) / 2 for start, end in places], separated(events))
    else:
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


def _labels_at(times: Sequence[float], events: Sequence[Event]) -> list[set[str]]:
    """Return the labels at each of some ascending times; an event's end is after it."""
    labels: list[set[str]] = [set() for _ in times]
    for event in events:
        first = bisect_left(times, event.start - _TINY)
        for number in range(first, bisect_left(times, event.end - _TINY)):
            labels[number].add(event.label)
    return labels


def separated(events: Sequence[Event]) -> list[Event]:
    """Return events, sorted by start, of which those of one label are at least `APART` seconds apart.

    Where they are nearer, both are shortened alike, each by at most a quarter of its length.
    """
    last: dict[str, int] = {}  # label -> place of its last event
    ends = [event.end for event in events]
    starts = [event.start for event in events]
    for place, event in enumerate(events):
        before = last.get(event.label)
        last[event.label] = place
        missing = 0.0 if before is None else APART - (event.start - events[before].end)
        if before is not None and missing > 0:
            former = events[before]
            ends[before] -= min(missing / 2, _CUT * (former.end - former.start))
            starts[place] += min(missing / 2, _CUT * (event.end - event.start))
    return [
        event._replace(start=start, end=end) for event, start, end in zip(events, starts, ends, strict=True)
    ]


def _check_length(recordings: Sequence[Recording], windows: WindowOptions) -> None:
    """Raise E108 for a window longer than every recording."""
    lengths = [recording.header.seconds for recording in recordings if recording.header is not None]
    longest = max(lengths, default=windows.seconds)
    if windows.seconds > longest + _TINY:
        what = f"{windows.seconds:g} s is longer than every recording; the longest lasts {longest:.3g} s"
        raise error(
            "E108", where="window_seconds", what=what, fix="give seconds, at most those of a recording"
        )


def _checked_labels(labels: str | None, min_overlap: float | None) -> str:
    """Return the rule of labels; raise E108 for an unknown one, and for an overlap that it does not use."""
    rule = WINDOW_LABELS[0] if labels is None else labels
    if rule not in WINDOW_LABELS:
        raise not_a_choice("E108", where="window_labels", value=rule, choices=WINDOW_LABELS)
    if rule == "centre" and min_overlap is not None:
        what = "has no effect on labels at the middle of windows"
        raise error(
            "E108",
            where="min_overlap",
            what=what,
            fix=f"leave it out, or leave out {option('window_labels')}",
        )
    return rule


def _check_duration(name: str, value: object) -> None:
    if not (is_finite_number(value) and value > 0):  # type: ignore[operator]
        raise _invalid(name, f"{value!r} is not a duration", "give seconds above 0")
    if name == "window_seconds" and value < FRAME_SECONDS:  # type: ignore[operator]
        raise _invalid(name, f"{value!r} s is shorter than a frame", f"give at least {FRAME_SECONDS} s")


def _check_share(name: str, value: object) -> None:
    if not (is_finite_number(value) and 0 <= value <= 1):  # type: ignore[operator]
        raise _invalid(name, f"{value!r} is not a share", "give a number from 0 to 1")


def _invalid(name: str, what: str, fix: str) -> AstHfError:
    return error("E108", where=name, what=what, fix=fix)
