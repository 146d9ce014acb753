"""Rules of timelines that a model gets by its training, until they are fitted."""

from __future__ import annotations

from typing import Any

from ..recipe.options import DataOptions

#: Hops of a timeline in one window. A window is about five times as long as the sounds, which gives a sound five
#: hops. Twice as many gave the same event F1 (issue 15: syllables of 0.1 s, windows of 0.5 s).
_HOPS_PER_WINDOW = 25
#: Shortest hop in seconds, that of the log-mel spectrogram.
_SHORTEST = 0.01


def trained_rules(options: DataOptions) -> dict[str, Any] | None:
    """Return the rules that suit the windows of training, or None for the defaults.

    A model that was trained with the labels at the middle of windows needs a short hop and the mean `"centre"`.
    Its windows resolve gaps, so that none is filled. `ast-hf evaluate --timeline --fit-on ... --store` fits
    thresholds and durations.
    """
    if options.window_seconds is None or options.window_labels != "centre":
        return None
    hop = round(max(options.window_seconds / _HOPS_PER_WINDOW, _SHORTEST), 6)
    return {
        "window_seconds": options.window_seconds,
        "hop_seconds": min(hop, options.window_seconds),
        "mean": "centre",
        "min_seconds": hop,
        "gap_seconds": 0.0,
    }
