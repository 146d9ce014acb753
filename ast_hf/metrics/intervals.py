"""Confidence intervals of an accuracy or mAP, and of the difference of two models on the same clips.

All are two-sided 95% intervals. Clips of one speaker or recording depend on each other: with `groups`, whole groups
are resampled instead of clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Share of the probability outside of an interval.
_OUTSIDE = 0.05
#: Bootstrap resamples at most, at least, and the number of scores that all of them together may sort.
_RESAMPLES = 1000
_MIN_RESAMPLES = 100
_BUDGET = 5e7


class Interval(NamedTuple):
    """Bounds of a 95% interval and the name of the method, for text."""

    low: float
    high: float
    method: str

    def widened(self, other: Interval) -> Interval:
        """Return this interval with the bounds of another where those are further out."""
        return self._replace(low=min(self.low, other.low), high=max(self.high, other.high))

    def within(self, lowest: float, highest: float) -> Interval:
        """Return this interval without values that cannot be."""
        return self._replace(low=max(self.low, float(lowest)), high=min(self.high, float(highest)))


class Difference(NamedTuple):
    """Difference of two models on the same clips, the first minus the second, with its 95% interval.

    `first_only` and `second_only` count the clips that one model alone has right; None for mAP.
    """

    value: float
    interval: Interval
    first_only: int | None = None
    second_only: int | None = None


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Return the interval of the mean of `right` `(clips,)`, bool: Wilson's score interval (1927).

    With `groups` it is that of a bootstrap of the groups, but not narrower than Wilson's.
    """
    from scipy.stats import binomtest

    right = np.asarray(right, dtype=bool)
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(1 - _OUTSIDE, method="wilson")
    alone = Interval(float(low), float(high), "Wilson")
    return alone if groups is None else _bootstrap_mean(right, groups).widened(alone).within(0, 1)


def accuracy_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None
) -> Difference:
    """Return the difference of two accuracies; `first` and `second` `(clips,)` are True for right answers.

    With `groups` its interval is that of a bootstrap of the groups, but not narrower than `mcnemar_difference`.
    """
    first = np.asarray(first, dtype=bool)
    second = np.asarray(second, dtype=bool)
    wins = int((first & ~second).sum())
    losses = int((second & ~first).sum())
    alone = mcnemar_difference(wins, losses, len(first))
    if groups is None:
        return alone
    gain = first.astype(float) - second
    interval = _bootstrap_mean(gain, groups).widened(alone.interval).within(-1, 1)
    return Difference(alone.value, interval, wins, losses)


def mcnemar_difference(wins: int, losses: int, clips: int) -> Difference:
    """Return the difference of two accuracies from the clips that one model alone has right.

    The interval is Tango's score interval (1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design"). It is extended to 0 where the exact McNemar test has p >= 0.05, so
    that it excludes 0 exactly where that test is significant.
    """
    from scipy.stats import binomtest

    low = -_tango_bound(losses, wins, clips)
    high = _tango_bound(wins, losses, clips)
    differing = wins + losses
    if not differing or binomtest(wins, differing).pvalue >= _OUTSIDE:
        low = min(low, 0.0)
        high = max(high, 0.0)
    return Difference((wins - losses) / clips, Interval(low, high, "McNemar"), wins, losses)


def _tango_bound(wins: int, losses: int, clips: int) -> float:
    """Return the largest difference that the score test does not reject, in [-1, 1]."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile = float(norm.ppf(1 - _OUTSIDE / 2))

    def excess(difference: float) -> float:
        linear = (2 * clips - wins + losses) * difference - wins - losses
        root = math.sqrt(max(linear**2 + 8 * clips * losses * difference * (1 - difference), 0.0))
        share = (root - linear) / (
            4 * clips
        )  # of clips that the second alone has right, if `difference` is true
        variance = clips * (2 * share + difference * (1 - difference))
        return wins - losses - clips * difference + quantile * math.sqrt(max(variance, 0.0))

    if wins == clips:
        return 1.0
    above = (wins - losses) / clips + 1e-9  # where models never differ, the measured difference is a root too
    return float(brentq(excess, above, 1.0))


def map_interval(scores: np.ndarray, tags: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Return the interval of the mAP of `scores` for bool `tags`, both `(clips, labels)`, by bootstrap.

    The AP of a label with few clips is higher on average than that of all clips of its kind, and in a resample, where
    clips occur twice, again. Twice that bias is subtracted: of 100 clips with 5 of each label, 0.90 of the intervals
    have the true value instead of 0.70, and as many or more elsewhere (simulated).
    """
    ranked = _RankedClips.of(scores, tags)
    interval = _bootstrap_clips(ranked.mean_average_precision, len(tags), groups, tags.size, is_biased=True)
    return interval.within(0, 1)


def map_difference(
    first: np.ndarray, second: np.ndarray, tags: np.ndarray, groups: np.ndarray | None = None
) -> Difference:
    """Return the difference of the mAP of two models' scores, all `(clips, labels)`, by paired bootstrap."""
    models = [_RankedClips.of(scores, tags) for scores in (first, second)]

    def gain(weights: np.ndarray) -> float:
        return models[0].mean_average_precision(weights) - models[1].mean_average_precision(weights)

    interval = _bootstrap_clips(gain, len(tags), groups, 2 * tags.size)
    return Difference(gain(np.ones(len(tags))), interval.within(-1, 1))


def fold_difference(values: list[float]) -> Difference:
    """Return the mean difference over the folds of a cross-validation, two at least.

    A t interval. Folds share training clips, so the variance is multiplied by (1/k + 1/(k-1)) instead of 1/k
    (Nadeau and Bengio 2003, "Inference for the generalization error", section 3).
    """
    from scipy.stats import t

    folds = len(values)
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) * math.sqrt(1 / folds + 1 / (folds - 1))
    width = float(t.ppf(1 - _OUTSIDE / 2, folds - 1)) * error
    return Difference(mean, Interval(mean - width, mean + width, f"corrected t over {folds} folds"))


def chance_average_precision(positives: np.ndarray, clips: int) -> float:
    """Return the mean AP, over labels with a clip, that a random order of the clips has on average.

    The expectation of `average_precision` over all orders: (H + (P - 1) / (N - 1) * (N - H)) / N for P positives
    among N clips, with the N-th harmonic number H.
    """
    present = np.asarray(positives, dtype=float)
    present = present[present > 0]
    if not len(present):
        return math.nan
    harmonic = float(np.sum(1 / np.arange(1, clips + 1)))
    others = (present - 1) / max(clips - 1, 1)
    return float(np.mean((harmonic + others * (clips - harmonic)) / clips))


def _bootstrap_mean(values: np.ndarray, groups: np.ndarray) -> Interval:
    """Return the interval of the mean of `values` `(clips,)` with whole groups resampled."""
    codes = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(codes, weights=values)
    sizes = np.bincount(codes)
    return _bootstrap(lambda draw: float(draw @ sums / (draw @ sizes)), codes, is_grouped=True)


def _bootstrap_clips(
    measure: Callable[[np.ndarray], float],
    clips: int,
    groups: np.ndarray | None,
    size: int,
    *,
    is_biased: bool = False,
) -> Interval:
    """Return the interval of `measure`, called with how often each clip counts; `size` scores are sorted for it."""
    codes = np.arange(clips) if groups is None else np.unique(groups, return_inverse=True)[1]
    is_grouped = groups is not None
    return _bootstrap(
        lambda draw: measure(draw[codes]), codes, is_grouped=is_grouped, size=size, is_biased=is_biased
    )


def _bootstrap(
    measure: Callable[[np.ndarray], float],
    codes: np.ndarray,
    *,
    is_grouped: bool,
    size: int = 0,
    is_biased: bool = False,
) -> Interval:
    """Return the percentile interval of `measure`, called with how often each unit was drawn; `codes` are the clips'.

    The percentiles are moved away from the estimate by sqrt(G / (G - 1)) * t / z for G units: with few of them the
    bootstrap is too narrow (Cameron, Gelbach and Miller 2008). With `is_biased` they are moved by twice the bias of
    the resamples; the interval has the estimate in any case.
    """
    from scipy.stats import norm, t

    units = int(codes.max()) + 1
    name = f"bootstrap of {units} groups" if is_grouped else "bootstrap of the clips"
    centre = measure(np.ones(units))
    if units < 2 or math.isnan(centre):
        return Interval(-math.inf, math.inf, name)
    random = np.random.default_rng(0)
    resamples = int(np.clip(_BUDGET / max(size, 1), _MIN_RESAMPLES, _RESAMPLES))
    draws = (random.integers(units, size=units) for _ in range(resamples))
    values = [measure(np.bincount(draw, minlength=units).astype(float)) for draw in draws]
    shift = 2 * (float(np.nanmean(values)) - centre) if is_biased else 0.0
    low, high = np.nanquantile(values, [_OUTSIDE / 2, 1 - _OUTSIDE / 2]) - shift
    low, high = min(low, centre), max(high, centre)
    tail = 1 - _OUTSIDE / 2
    factor = math.sqrt(units / (units - 1)) * float(t.ppf(tail, units - 1) / norm.ppf(tail))
    return Interval(float(centre + factor * (low - centre)), float(centre + factor * (high - centre)), name)


class _RankedClips(NamedTuple):
    """Clips of each label by falling score, sorted once for all resamples; arrays are `(clips, labels)`."""

    order: np.ndarray  # clip at each place
    tags: np.ndarray  # tags in that order
    ends: np.ndarray  # last place with the same score

    @classmethod
    def of(cls, scores: np.ndarray, tags: np.ndarray) -> _RankedClips:
        order = np.argsort(-np.asarray(scores, dtype=float), axis=0, kind="stable")
        falling = np.take_along_axis(np.asarray(scores), order, axis=0)
        places = np.arange(len(order))[:, None]
        is_last = np.append(falling[1:] != falling[:-1], np.ones((1, order.shape[1]), dtype=bool), axis=0)
        lasts = np.where(is_last, places, len(order))
        ends = np.minimum.accumulate(lasts[::-1], axis=0)[::-1]
        return cls(order, np.take_along_axis(np.asarray(tags, dtype=bool), order, axis=0), ends)

    def mean_average_precision(self, weights: np.ndarray) -> float:
        """Return the mAP of clips that count `weights` `(clips,)` times each; NaN without a positive."""
        taken = weights[self.order]
        gains = taken * self.tags
        hits = np.cumsum(gains, axis=0)
        counts = np.cumsum(taken, axis=0)
        positives = hits[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.take_along_axis(hits, self.ends, axis=0) / np.take_along_axis(
                counts, self.ends, axis=0
            )
            values = np.nansum(gains * precision, axis=0) / positives
        present = values[positives > 0]
        return float(present.mean()) if len(present) else math.nan
