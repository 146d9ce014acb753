"""Clips and windows that are longer than a model's input: the rules, and their words."""

from __future__ import annotations

from ..log_mel import frames_to_seconds, num_frames

#: How many times as long as the model's input a clip is to be much longer: less than half of it is used.
_MUCH = 2


def is_much_longer(seconds: float, window: float) -> bool:
    """Return True for a clip that is much longer than a model's input of `window` seconds."""
    return seconds > _MUCH * window


def describe_much_longer(window: float) -> str:
    """Return in words what `is_much_longer` means."""
    return f"more than twice as long as the model's input of {window:.2f} s"


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
