"""Random changes of training clips that suit the data."""

from __future__ import annotations

from ..log_mel import FRAMES_PER_SECOND
from .choice import Choice
from .data_summary import DataSummary
from .input_choices import is_cropped, window_seconds
from .starts import Start

#: Longest clip in seconds that is taken as one sound, such as a word, a call or a note; longer ones of equal length
#: are taken as excerpts with a sound somewhere.
ONE_SOUND = 3.5


def is_excerpt(summary: DataSummary) -> bool:
    """Return True for clips of one length over 3.5 seconds: excerpts, with a sound anywhere in them."""
    return summary.has_equal_lengths and summary.lengths.median > ONE_SOUND


def choose_augmentation(summary: DataSummary, start: Start) -> list[Choice]:
    """Return the choices of augmentation."""
    choices = [*_choose_place(summary), *_choose_sound(summary, start)]
    if not summary.multi_label:
        smoothing = 0.1
        choices.append(
            Choice(
                "augmentation.label_smoothing", smoothing, "less certain about clips that are seen many times"
            )
        )
    return choices


def _choose_place(summary: DataSummary) -> list[Choice]:
    """Return what moves the sound within the window."""
    seconds = window_seconds(summary)
    if summary.reading.get("window_labels") == "centre":
        return []
    if is_cropped(summary):
        return [Choice("augmentation.random_crop", True, "a random part of a long recording in every pass")]
    if summary.windowed:
        return []
    if is_excerpt(summary):
        frames = round(seconds * FRAMES_PER_SECOND / 2)
        return [
            Choice("augmentation.roll_frames", frames, "a sound means the same wherever it is in the clip")
        ]
    shift = round(min(0.1, 0.1 * seconds), 3)
    choices = [
        Choice("augmentation.delay_seconds", shift, "a sound does not always begin at the same time"),
        Choice("augmentation.advance_seconds", round(shift / 2, 3)),
    ]
    if summary.lengths.longest > 1.2 * summary.lengths.high:
        choices.append(
            Choice("augmentation.random_crop", True, "a random part of clips longer than the window")
        )
    return choices


def _choose_sound(summary: DataSummary, start: Start) -> list[Choice]:
    """Return what changes the sound itself."""
    gain = Choice("augmentation.gain_db", 6.0, "louder and softer recordings")
    if summary.reading.get("window_labels") == "centre" or start.kind != "random":
        return [gain]
    return [
        Choice("augmentation.speed", 1.2, "pitch and tempo higher and lower, like other voices and sources"),
        gain,
        Choice("augmentation.equalizer_db", 4.0, "other microphones and rooms"),
        Choice("augmentation.mixstyle_probability", 0.3, "another clip's timbre: helps on unseen sources"),
        Choice("augmentation.frequency_masks", 1, "no single band decides"),
        Choice("augmentation.frequency_mask_width", 8),
    ]
