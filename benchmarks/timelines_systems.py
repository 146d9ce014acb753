"""Ways from the scores of windows to events that `benchmarks.timelines` compares, and the parameters to choose from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from ast_hf.timelines.builder import ScoreCurve, score_curve
from ast_hf.timelines.hysteresis import best_only
from ast_hf.timelines.rules import TimelineRules

from .timelines_scores import Scored

#: Lengths of windows in seconds that every system chooses from; None is the model's, 5.12 s.
WINDOWS: tuple[float | None, ...] = (2.0, 3.0, None)
#: Threshold only: no low threshold, no shortest event, no shortest gap, no rule for silence.
_PLAIN = TimelineRules(
    threshold=0.5,
    low_threshold=0.5,
    min_seconds=0.0,
    gap_seconds=0.0,
    silence_db=None,
    column_weight=0.0,
    mean="arithmetic",
)


@dataclass(frozen=True)
class Settings:
    """Parameters of one system.

    Attributes:
        rules: rules of the events; their thresholds are fitted.
        window: length of a window in seconds, None for the model's.
        curve: `"fixed"`, `"centres"` or `"faded"`; see `curve_of`.
        filter: length of the median filter: windows for `"centres"`, seconds for `"faded"`; 0 for none.
        is_exclusive: only the best class of a step counts, as in the package for single-label models.
    """

    rules: TimelineRules
    window: float | None = None
    curve: str = "faded"
    filter: float = 0
    is_exclusive: bool = False

    def described(self) -> dict[str, object]:
        """Return the parameters that systems differ in, for the stored results."""
        rules = self.rules
        values: dict[str, object] = {"window": self.window or "model's"}
        if self.filter:
            values["filter"] = self.filter
        if self.curve == "faded":
            values |= {"mean": rules.mean, "column_weight": rules.column_weight}
        if rules.method == "boxes":
            values |= {"box_gap": rules.box_gap, "box_ratio": rules.box_ratio}
        return values


def curve_of(scored: Scored, settings: Settings) -> ScoreCurve:
    """Return the score curves of a mixture.

    - `"fixed"`: the windows that do not overlap, each for its own time; the last one ends with the recording.
    - `"centres"`: at each time the window whose middle is nearest, filtered over windows.
    - `"faded"`: the package's cross-fade of all windows, with its columns.
    """
    if settings.curve == "fixed":
        curve = _fixed(scored)
    elif settings.curve == "centres":
        curve = _centres(scored, int(settings.filter))
    else:
        rules = settings.rules
        curve = score_curve(scored.windows(), rules, scored.plan, scored.scores.shape[1])
        if settings.filter:
            curve = _filtered(curve, settings.filter)
    return ScoreCurve(curve.times, best_only(curve.scores)) if settings.is_exclusive else curve


def _fixed(scored: Scored) -> ScoreCurve:
    samples = scored.plan.samples
    length = int(scored.starts[-1]) + samples
    whole = np.arange(0, length - samples + 1, samples)
    used = [int(np.argmin(np.abs(scored.starts - start))) for start in whole]
    edges = [*whole.tolist(), int(whole[-1]) + samples]
    if edges[-1] < length:
        used.append(len(scored.starts) - 1)
        edges.append(length)
    return ScoreCurve(np.array(edges) / scored.plan.rate, scored.scores[used].astype(np.float64))


def _centres(scored: Scored, filter_windows: int) -> ScoreCurve:
    middles = scored.starts + scored.plan.samples / 2
    end = scored.starts[-1] + scored.plan.samples
    edges = np.concatenate(([0], (middles[1:] + middles[:-1]) / 2, [end])) / scored.plan.rate
    scores = scored.scores.astype(np.float64)
    return ScoreCurve(edges, median_filter(scores, (max(filter_windows, 1), 1), mode="nearest"))


def _filtered(curve: ScoreCurve, seconds: float) -> ScoreCurve:
    steps = max(round(seconds / float(np.median(np.diff(curve.times)))), 1)
    return ScoreCurve(curve.times, median_filter(curve.scores, (steps, 1), mode="nearest"))


def _fixed_settings() -> list[Settings]:
    return [Settings(_PLAIN, window, "fixed") for window in WINDOWS]


def _median_settings() -> list[Settings]:
    return [Settings(_PLAIN, window, "centres", size) for window in WINDOWS for size in (1, 3, 5, 7, 9)]


def _ours(window: float | None, *, overlapping: bool = False, **rules: object) -> Settings:
    """Return the package's defaults with some other rules."""
    return Settings(dataclasses.replace(TimelineRules(), **rules), window, is_exclusive=not overlapping)  # type: ignore[arg-type]


def _hysteresis_settings() -> list[Settings]:
    return [
        _ours(window, mean=mean, column_weight=0.0)
        for window, mean in itertools.product(WINDOWS, ("arithmetic", "geometric", "harmonic"))
    ]


def _boxes_settings(column_weight: float = 0.0) -> list[Settings]:
    return [
        _ours(window, method="boxes", mean="geometric", column_weight=column_weight) for window in WINDOWS
    ]


def _column_settings(*weights: float, overlapping: bool = False) -> list[Settings]:
    return [
        _ours(window, column_weight=weight, overlapping=overlapping)
        for window, weight in itertools.product(WINDOWS, weights)
    ]


def _column_median_settings() -> list[Settings]:
    plain = dataclasses.replace(_PLAIN, column_weight=1.0, mean="geometric")
    return [Settings(plain, window, "faded", 0.3) for window in WINDOWS]


#: system -> its settings to choose from.
SYSTEMS: dict[str, Callable[[], list[Settings]]] = {
    "fixed": _fixed_settings,
    "median": _median_settings,
    "default": lambda: [_ours(window, mean="arithmetic") for window in WINDOWS],  # that of single labels
    "columns": lambda: _column_settings(0.5, 1.0),
    "columns_overlapping": lambda: _column_settings(1.0, overlapping=True),
    "hysteresis": _hysteresis_settings,
    "column_median": _column_median_settings,
    "boxes": _boxes_settings,
    "column_boxes": lambda: _boxes_settings(1.0),
}
