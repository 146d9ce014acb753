"""Clips and windows that are longer than a model's input: the rules, and their words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ..log_mel import frames_to_seconds, num_frames

#: Seconds of a clip up to which a cut is not worth a word.
LEAST_CUT = 0.1
#: Error of lengths in seconds, far below one sample.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class CutSound:
    """Sound of a split that a model's input leaves out.

    Attributes:
        clips: number of clips.
        seconds: seconds of all of them.
        cut_clips: number of clips that are at least `LEAST_CUT` longer than the input.
        unused_seconds: seconds of those that are not in the input.
        window: seconds of the input.
    """

    clips: int
    seconds: float
    cut_clips: int
    unused_seconds: float
    window: float

    @property
    def share(self) -> float:
        """Share of the split's sound that is not in the input, in 0..1."""
        return self.unused_seconds / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        if not self.cut_clips:
            return "no sound is left out"
        percent = f"{self.share:.0%}" if self.share >= 0.005 else "under 1%"
        return (
            f"{self.unused_seconds:.1f} s of {self.cut_clips} of {self.clips} clips are not used ({percent})"
        )

    def to_dict(self) -> dict[str, int | float]:
        """Return plain values for JSON."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


def is_cut(seconds: float, window: float) -> bool:
    """Return True for a clip of which a model's input of `window` seconds leaves out `LEAST_CUT` or more."""
    return seconds - window >= LEAST_CUT - _ROUNDING


def measure_cut(lengths: Iterable[float], window: float) -> CutSound:
    """Return what an input of `window` seconds leaves out of clips of these lengths in seconds."""
    known = list(lengths)
    cut = [length - window for length in known if is_cut(length, window)]
    return CutSound(len(known), math.fsum(known), len(cut), math.fsum(cut), window)


def cut_window(seconds: float, max_length: int, rate: int) -> tuple[str, str] | None:
    """Return what is wrong with windows that a model would cut, and the fix; None for windows that fit.

    Labels of what is cut off would count for the rest.

    Args:
        seconds: length of the windows.
        max_length: frames of the model's input.
        rate: sampling rate of the model in Hz.
    """
    frames = num_frames(round(seconds * rate), rate)
    if frames <= max_length:
        return None
    longest = frames_to_seconds(max_length)
    what = f"is {seconds:g} s, and the model takes {longest:g} s: it would not see all that is labelled"
    return what, f"give at most {longest:g}, or a model whose max_length is {frames} frames"
