"""Windows of a recording: sized, placed, and cut from a stream of samples.

Windows start at 0, `hop`, `2 * hop`, ... while they are completely in the recording. One more window, aligned
to the end, covers what remains. No window reaches over the end, and every sample is in at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..errors import error
from ..log_mel import frames_to_seconds, num_frames, num_samples
from ..scalars import is_finite_number

#: Seconds within which a requested window is the model's own: a clip of n frames lasts from 10 n to 10 n + 25 ms.
SAME_SECONDS = 0.026


class WindowPlan(NamedTuple):
    """Sizes of the windows that a recording is cut into.

    Attributes:
        samples: length of a window in samples.
        hop: samples from the start of a window to the next, in 1..samples.
        frames: log-mel frames of a window, which the model takes.
        slack: samples by which a recording may be longer than a window and still be one: they add no frame.
        rate: sampling rate in Hz.
        least: frames of the shortest input that the model takes.
    """

    samples: int
    hop: int
    frames: int
    slack: int
    rate: int
    least: int = 1


def plan_windows(
    max_frames: int,
    rate: int,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    *,
    overlap: float = 0.0,
    min_frames: int = 1,
) -> WindowPlan:
    """Return the sizes of windows for a model of `max_frames` log-mel frames at `rate` Hz.

    Args:
        max_frames: `max_length` of the model.
        rate: sampling rate in Hz.
        window_seconds: length of a window, at most the model's. None for the model's.
        hop_seconds: seconds from window to window, above 0 and at most the window. None for the one that makes
            neighbours share `overlap`.
        overlap: share of a window that neighbours have in common by default, in [0, 1).
        min_frames: frames of the shortest window that the model takes (its patch size).

    Raises:
        AstInputError: E108 for a window or a hop out of these ranges.
    """
    _check_seconds("window_seconds", window_seconds)
    _check_seconds("hop_seconds", hop_seconds)
    longest = frames_to_seconds(max_frames)
    if window_seconds is None or abs(window_seconds - longest) < SAME_SECONDS:
        samples = num_samples(max_frames, rate)
        frames = max_frames
    else:
        samples = round(min(window_seconds, 2 * longest) * rate)  # without overflow
        frames = num_frames(samples, rate)
    if frames > max_frames or frames < max(min_frames, 1):
        least = num_samples(max(min_frames, 1), rate) / rate
        what = f"{window_seconds:g} s is outside {least:.3g}..{longest:g} s, the lengths that the model takes"
        raise error("E108", where="window_seconds", what=what, fix="choose a length in that range, or None")
    hop = (
        max(round(samples * (1.0 - overlap)), 1)
        if hop_seconds is None
        else round(min(hop_seconds, 2 * longest) * rate)
    )
    slack = num_samples(frames + 1, rate) - 1 - samples
    longest_hop = max(
        samples + slack, round((window_seconds or longest) * rate)
    )  # as people write the window
    if not 1 <= hop <= longest_hop:
        what = f"{hop_seconds:g} s is not between 1 sample and the window, {samples / rate:g} s"
        fix = "choose a hop in that range: a longer one would skip audio"
        raise error("E108", where="hop_seconds", what=what, fix=fix)
    return WindowPlan(samples, min(hop, samples), frames, slack, rate, min_frames)


def _check_seconds(name: str, value: object) -> None:
    if value is not None and not (is_finite_number(value) and float(value) > 0):  # type: ignore[arg-type]
        raise error(
            "E108", where=name, what=f"{value!r} is not a duration", fix="give seconds above 0, or None"
        )


def window_starts(length: int, plan: WindowPlan) -> list[int]:
    """Return the first sample of each window of a recording of `length` samples, ascending."""
    if length <= plan.samples + plan.slack:
        return [0]
    starts = list(range(0, length - plan.samples + 1, plan.hop))
    if starts[-1] + plan.samples < length:
        starts.append(length - plan.samples)
    return starts


class Window(NamedTuple):
    """One window: its first sample's index in the recording, its samples `(time,)`, and whether it is the last."""

    start: int
    samples: np.ndarray
    is_last: bool = False


#: Shortest part of a recording that is a window at one of its ends, in seconds: a label needs some sound.
_SHORTEST_EDGE = 0.05


def with_edges(windows: Iterable[Window], plan: WindowPlan) -> Iterator[Window]:
    """Yield the windows of a recording, and shorter ones at both of its ends.

    Inside of a recording, many windows overlap, and each hop more shows what a window adds. In the first and the last
    hop only one window is there, so that a sound that it holds would seem to begin or end with the recording. The
    shorter windows are what windows that reach over the ends would hold: parts that are a hop shorter each, from the
    beginning in order of length, and to the end. `filled` makes them as long as the others. A recording of a single
    window has none.
    """
    for window in windows:
        beginning = window.start == 0 and not window.is_last
        ending = window.start > 0 and window.is_last
        lengths = _edge_lengths(plan) if beginning or ending else []
        if beginning:
            yield from (Window(0, window.samples[:length]) for length in reversed(lengths))
        yield window._replace(is_last=window.is_last and not lengths)
        end = window.start + len(window.samples)
        for length in lengths if ending else []:
            yield Window(end - length, window.samples[-length:], is_last=length == lengths[-1])


def _edge_lengths(plan: WindowPlan) -> list[int]:
    """Return the lengths of the windows at an end in samples, descending."""
    least = max(round(_SHORTEST_EDGE * plan.rate), 1)
    return [length for length in range(plan.samples - plan.hop, 0, -plan.hop) if length >= least]


def filled(window: Window, plan: WindowPlan) -> np.ndarray:
    """Return a window's samples; one of `with_edges` as long as the others.

    The part is mirrored towards the end of the recording, as often as necessary. There is then no sudden jump, no
    silence that the model was not trained with, and nothing that the part does not hold.
    """
    missing = plan.samples - len(window.samples)
    if missing <= 0 or (window.start == 0 and window.is_last):
        return window.samples
    sides = (missing, 0) if window.start == 0 else (0, missing)
    return np.pad(window.samples, sides, mode="symmetric")


class WindowCutter:
    """Cuts a stream of samples into windows, the same ones for any sizes of the pieces.

    At most a window, a hop and a piece of samples are kept.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.length = 0  # samples so far
        self._next = 0  # start of the next window on the grid
        self._pieces: list[np.ndarray] = []  # samples from `_first` on
        self._first = 0

    @property
    def next_length(self) -> int:
        """Number of samples at which `push` yields the next window."""
        return max(self._next + self.plan.samples, self.plan.samples + self.plan.slack) + 1

    def push(self, samples: np.ndarray) -> Iterator[Window]:
        """Take the next samples `(time,)`, and yield the windows that they complete; none is the last one."""
        self._pieces.append(samples)
        self.length += len(samples)
        plan = self.plan
        if self.length <= plan.samples + plan.slack:  # the recording may end as a single window
            return
        buffer = self._joined()
        while self._next + plan.samples < self.length:  # the last window ends with the recording
            start = self._next - self._first
            yield Window(self._next, buffer[start : start + plan.samples])
            self._next += plan.hop
        self._forget(buffer)

    def close(self) -> Window:
        """Return the last window, aligned to the end; a short recording is one window, as long as it is."""
        buffer = self._joined()
        single = self.length <= self.plan.samples + self.plan.slack
        start = 0 if single else self.length - self.plan.samples
        return Window(start, buffer[start - self._first :], is_last=True)

    def _joined(self) -> np.ndarray:
        if len(self._pieces) != 1:
            self._pieces = [np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)]
        return self._pieces[0]

    def _forget(self, buffer: np.ndarray) -> None:
        """Drop samples before the next window, of the grid or aligned to the end."""
        first = max(self._first, min(self._next, self.length - self.plan.samples))
        self._pieces = [buffer[first - self._first :].copy()]
        self._first = first


def windows_of(blocks: Iterator[np.ndarray], plan: WindowPlan) -> Iterator[Window]:
    """Yield the windows of a recording that is read in blocks."""
    cutter = WindowCutter(plan)
    for block in blocks:
        yield from cutter.push(block)
    yield cutter.close()
