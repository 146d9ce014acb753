"""What the model gets of a clip: sampling rate, mel bins, window, and the patches that it is cut into."""

from __future__ import annotations

import math

from ..log_mel import FRAMES_PER_SECOND, frames_to_seconds, num_frames
from .choice import Choice
from .data_summary import DataSummary
from .starts import Start

#: Sampling rates in Hz that are chosen where the clips have more: that of every published AST, and one for sounds
#: above 8 kHz (PaSST's, arXiv 2110.05069).
USUAL_RATE = 16_000
HIGH_RATE = 32_000
#: Mel bins of a model that brings none. With few clips 64 are more accurate than 128, at half the patches
#: (benchmarks/RESULTS.md, "What is the recipe worth?": 0.863 against 0.833, and 0.898 against 0.833).
MEL_BINS = 64
#: Longest window in seconds, that of the AudioSet models (AST paper, section 2.1).
LONGEST_WINDOW = 10.24
#: Window in seconds for recordings that are much longer: a random part of each in every pass.
CROP_WINDOW = 5.12
#: Smallest input in frames: two columns of patches.
LEAST_FRAMES = 32
#: Share of silence that is added to short clips, so that they can be shifted.
MARGIN = 0.1
#: Step from patch to patch in frames -> longest window in seconds for which it is chosen. A patch has 16 frames; a
#: word or a call of a second needs more columns than windows of 160 ms side by side give (spoken-words.yaml).
TIME_STRIDES = {4: 0.6, 8: 2.0, 16: math.inf}
#: Difference of lengths in seconds that is not worth a word.
ONE_LENGTH = 0.01
#: Step from patch to patch in mel bins: side by side.
FREQUENCY_STRIDE = 16


def choose_rate(summary: DataSummary, start: Start) -> Choice | None:
    """Return the sampling rate, None for a base, which brings its own."""
    if start.kind == "base":
        return None
    common = max(summary.rates, key=lambda rate: summary.rates[rate])
    most = "that of the clips" if len(summary.rates) == 1 else "that of most clips"
    if common < USUAL_RATE:
        reason = f"{most}, which have nothing above {common // 2:,} Hz"
        return Choice("features.sampling_rate", common, reason)
    if common > USUAL_RATE and (summary.bandwidth or 0) > USUAL_RATE / 2:
        rate = common if (summary.bandwidth or 0) > HIGH_RATE / 2 else min(common, HIGH_RATE)
        return Choice(
            "features.sampling_rate", rate, f"sounds reach {summary.bandwidth:,.0f} Hz (95 % of the power)"
        )
    if common == USUAL_RATE:
        return Choice("features.sampling_rate", USUAL_RATE, most)
    clips = "the clips" if len(summary.rates) == 1 else "most clips"
    reason = f"{clips} have {common:,} Hz; for sounds above 8,000 Hz set {min(common, HIGH_RATE)}"
    return Choice("features.sampling_rate", USUAL_RATE, reason)


def is_cropped(summary: DataSummary) -> bool:
    """Return True if most clips are longer than the longest window, so that each pass sees a random part."""
    return not summary.windowed and summary.lengths.median > LONGEST_WINDOW


def window_seconds(summary: DataSummary) -> float:
    """Return the seconds of a clip that the model is to see."""
    if summary.windowed:
        return float(summary.reading["window_seconds"])
    if is_cropped(summary):
        return CROP_WINDOW
    return min(summary.lengths.high, LONGEST_WINDOW)


def time_stride(seconds: float) -> int:
    """Return the step from patch to patch in frames, for a window of so many seconds."""
    return next(stride for stride, longest in TIME_STRIDES.items() if seconds <= longest)


def fit_frames(frames: int, stride: int, patch: int = 16) -> int:
    """Return the smallest number of frames, at least `frames`, that patches with this stride cover completely."""
    columns = max(1, math.ceil((frames - patch) / stride) + 1)
    return max(columns, 2) * stride + patch - stride


def choose_window(summary: DataSummary, start: Start) -> list[Choice]:
    """Return the choices of `max_length` and, without a base, of mel bins and strides."""
    seconds = window_seconds(summary)
    stride = start.time_stride if start.kind == "base" else time_stride(seconds)
    frames = _frames(summary, seconds)
    length = fit_frames(frames, stride, start.patch_size)
    if start.kind == "base" and length > start.max_length and not summary.windowed:
        length = max(start.max_length, min(length, round(LONGEST_WINDOW * FRAMES_PER_SECOND)))
    choices = [Choice("model.config.max_length", length, _window_reason(summary, length))]
    if start.kind == "base":
        return choices
    return [
        *choices,
        Choice(
            "model.config.num_mel_bins",
            MEL_BINS,
            "half the patches of 128, and no less accurate in benchmarks",
        ),
        Choice("model.config.time_stride", stride, f"a column of patches every {stride * 10} ms"),
        Choice("model.config.frequency_stride", FREQUENCY_STRIDE, "patches side by side"),
    ]


def _frames(summary: DataSummary, seconds: float) -> int:
    """Return the frames of a window: of whole short clips with some room to shift them."""
    room = 0.0 if summary.windowed or is_cropped(summary) or seconds >= LONGEST_WINDOW else MARGIN * seconds
    room = min(room, 0.2)
    rate = 16_000
    return max(LEAST_FRAMES, num_frames(round((seconds + room) * rate), rate))


def _window_reason(summary: DataSummary, length: int) -> str:
    lengths = summary.lengths
    window = f"{frames_to_seconds(length):.2f} s"
    if summary.windowed:
        return f"{window}: data.window_seconds in complete frames of 10 ms"
    if is_cropped(summary):
        return f"{window}, a random part in each pass: half of the clips last {lengths.median:.1f} s or more"
    if frames_to_seconds(length) < lengths.high:
        return f"{window}, the longest one that is chosen: the longest clips, up to {lengths.longest:.1f} s, are cut"
    if frames_to_seconds(length) < lengths.longest:
        return f"{window}: 95 % of the clips last at most {lengths.high:.2f} s"
    each = f"{lengths.shortest:.2f} to {lengths.longest:.2f} s"
    if lengths.longest - lengths.shortest < ONE_LENGTH:
        each = f"{lengths.median:.2f} s"
    room = frames_to_seconds(length) - lengths.longest
    return f"{window}: clips last {each}" + (", with room to shift them" if room >= ONE_LENGTH else "")
