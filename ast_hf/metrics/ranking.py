"""Ranking of the clips of each class: AP, ROC AUC and the best threshold, from one sort per class."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..errors import error

#: Columns of a class report, in order. Those of `best_` are of the threshold that is best on these very clips.
COLUMNS = ("positives", "AP", "AUC", "best_threshold", "best_F1", "best_precision", "best_recall")


class Ranking(NamedTuple):
    """Clips of one class by falling score. Clips of equal score share an entry, so ties favour no side."""

    scores: np.ndarray  # (distinct scores,), falling
    hits: np.ndarray  # positives with at least that score
    taken: np.ndarray  # clips with at least that score


def rank(scores: np.ndarray, tags: np.ndarray) -> Ranking:
    """Rank clips by `scores` `(clips,)`; `tags` `(clips,)` are True for positives."""
    ranked = np.sort(scores)[::-1]  # values sort several times as fast as indices
    positives = np.sort(scores[tags])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of equal scores
    return Ranking(ranked[last], len(positives) - np.searchsorted(positives, ranked[last]), last + 1)


def average_precision(ranking: Ranking) -> float:
    """Return the sum over distinct scores of precision times gain in recall, in [0, 1]; NaN without positive.

    The step-wise sum of scikit-learn's `average_precision_score`, without interpolation.
    """
    positives = ranking.hits[-1]
    if not positives:
        return math.nan
    gain = np.diff(ranking.hits, prepend=0)
    return float(np.sum(gain * (ranking.hits / ranking.taken)) / positives)


def roc_auc(ranking: Ranking) -> float:
    """Return the probability that a positive scores above a negative, in [0, 1]; NaN if either is missing.

    A tie counts half.
    """
    positives = ranking.hits[-1]
    clips = ranking.taken[-1]
    if positives in (0, clips):
        return math.nan
    misses = np.diff(ranking.taken - ranking.hits, prepend=0)
    gain = np.diff(ranking.hits, prepend=0)
    return float(np.sum(misses * (ranking.hits - gain / 2)) / (positives * (clips - positives)))


def best_threshold(ranking: Ranking) -> tuple[float, float, float, float]:
    """Return the threshold of the best F1, and F1, precision and recall of clips of at least that score.

    The threshold is halfway between the lowest score above it and the highest below it, so that rounding does
    not decide (the lowest score itself if all are above). Of equal F1 the highest threshold wins. All NaN
    without a positive.
    """
    positives = ranking.hits[-1]
    if not positives:
        return math.nan, math.nan, math.nan, math.nan
    best = int(np.argmax(2 * ranking.hits / (ranking.taken + positives)))
    hits = int(ranking.hits[best])
    taken = int(ranking.taken[best])
    threshold = float(np.mean(ranking.scores[best : best + 2], dtype=np.float64))
    return threshold, 2 * hits / (taken + int(positives)), hits / taken, hits / int(positives)


def class_report(scores: np.ndarray, tags: np.ndarray) -> dict[str, np.ndarray]:
    """Return positives, AP, ROC AUC and best threshold of each class.

    Args:
        scores: any finite numbers that rise with confidence, `(clips, classes)`.
        tags: 0 or 1, `(clips, classes)`.

    Returns:
        Arrays `(classes,)` under the names of `COLUMNS`; NaN where a class has no positive, for AUC also
        where it has no negative. The best threshold is in the unit of the scores, and chosen on these clips.

    Raises:
        AstInputError: E106 for shapes that differ, E104 for scores that are not finite, E108 for tags other
            than 0 and 1.
    """
    scores, tags = _check_arrays(scores, tags)
    rankings = (rank(one, marked) for one, marked in zip(scores.T.copy(), tags.T.copy(), strict=True))
    rows = [
        (each.hits[-1], average_precision(each), roc_auc(each), *best_threshold(each)) for each in rankings
    ]
    return dict(zip(COLUMNS, np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS)).T, strict=True))


def _check_arrays(scores: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and boolean tags, both `(clips, classes)`; raise as `class_report` does."""
    scores = np.asarray(scores)
    tags = np.asarray(tags)
    if scores.ndim != 2 or scores.shape != tags.shape or not len(scores):
        fix = "give both as (clips, classes), one clip at least"
        raise error("E106", where="scores and tags", what=f"are {scores.shape} and {tags.shape}", fix=fix)
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        where = f"score of clip {row}, class {column}"
        raise error("E104", where=where, what=f"is {scores[row, column]}", fix="evaluate in float32")
    marked = tags.astype(bool)
    if not np.array_equal(marked, tags):
        what = "have values other than 0 and 1"
        raise error("E108", where="tags", what=what, fix="give the clips' true labels")
    return scores, marked


def mean_over_classes(values: np.ndarray) -> tuple[float, int]:
    """Return the mean of the values that are not NaN, and their number; NaN and 0 if there are none."""
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if len(defined) else math.nan
    return mean, len(defined)


def d_prime(auc: float) -> float:
    """Return the separation of two normal distributions with that ROC AUC: sqrt(2) * Phi^-1(AUC), in sigmas.

    As the original's `stats.py`; infinite for 0 and 1, NaN for NaN.
    """
    if not 0.0 < auc < 1.0:
        return math.copysign(math.inf, auc - 0.5) if auc in (0.0, 1.0) else math.nan
    return math.sqrt(2) * NormalDist().inv_cdf(auc)
