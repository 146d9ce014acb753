"""How well do scores rank the clips of each class? AP, ROC AUC and the best threshold, from one sort per class."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..errors import error

#: Columns of a class report, in order.
COLUMNS = ("positives", "AP", "AUC", "threshold", "F1", "precision", "recall")


class Ranking(NamedTuple):
    """One class's clips by falling score. Clips of equal score share an entry, so that ties favour nobody."""

    scores: np.ndarray  # (distinct scores,), falling
    hits: np.ndarray  # positives with at least that score
    taken: np.ndarray  # clips with at least that score


def rank(scores: np.ndarray, tags: np.ndarray) -> Ranking:
    """Rank clips by `scores` `(clips,)`; `tags` `(clips,)` are True for positives."""
    ranked, positives = np.sort(scores)[::-1], np.sort(scores[tags])  # values sort several times as fast as indices
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of equal scores
    return Ranking(ranked[last], len(positives) - np.searchsorted(positives, ranked[last]), last + 1)


def average_precision(ranking: Ranking) -> float:
    """Sum over the distinct scores of precision times the gain in recall, in [0, 1]; NaN without a positive.

    The step-wise sum of scikit-learn's `average_precision_score`, without interpolation.
    """
    positives = ranking.hits[-1]
    if not positives:
        return math.nan
    gain = np.diff(ranking.hits, prepend=0)
    return float(np.sum(gain * (ranking.hits / ranking.taken)) / positives)


def roc_auc(ranking: Ranking) -> float:
    """Chance that a positive scores above a negative, ties counting half, in [0, 1]; NaN without one or the other."""
    positives, clips = ranking.hits[-1], ranking.taken[-1]
    if positives in (0, clips):
        return math.nan
    misses, gain = np.diff(ranking.taken - ranking.hits, prepend=0), np.diff(ranking.hits, prepend=0)
    return float(np.sum(misses * (ranking.hits - gain / 2)) / (positives * (clips - positives)))


def best_threshold(ranking: Ranking) -> tuple[float, float, float, float]:
    """Threshold of the best F1, and F1, precision and recall of taking all clips that score at least that.

    The threshold lies halfway between the last score taken and the first left out (the last one taken when all are), so
    that rounding does not decide; of equal F1 the highest threshold wins. All NaN without a positive.
    """
    positives = ranking.hits[-1]
    if not positives:
        return math.nan, math.nan, math.nan, math.nan
    best = int(np.argmax(2 * ranking.hits / (ranking.taken + positives)))
    hits, taken = int(ranking.hits[best]), int(ranking.taken[best])
    threshold = float(np.mean(ranking.scores[best : best + 2], dtype=np.float64))
    return threshold, 2 * hits / (taken + int(positives)), hits / taken, hits / int(positives)


def class_report(scores: np.ndarray, tags: np.ndarray) -> dict[str, np.ndarray]:
    """Everything about each class.

    Args:
        scores: any finite numbers that rise with confidence, `(clips, classes)`.
        tags: 0 or 1, `(clips, classes)`.

    Returns:
        Arrays `(classes,)` under the names of `COLUMNS`; NaN where a class has no positive, for AUC also where it has
        no negative. The threshold is in the unit of the scores.

    Raises:
        AstInputError: E106 for shapes, E104 for scores that are not finite, E108 for tags other than 0 and 1.
    """
    scores, tags = checked(scores, tags)
    rows = [_class_row(rank(one, marked)) for one, marked in zip(scores.T.copy(), tags.T.copy(), strict=True)]
    return dict(zip(COLUMNS, np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS)).T, strict=True))


def _class_row(ranking: Ranking) -> tuple[float, ...]:
    return ranking.hits[-1], average_precision(ranking), roc_auc(ranking), *best_threshold(ranking)


def checked(scores: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boolean tags, both `(clips, classes)`; raises as `class_report` does."""
    scores, tags = np.asarray(scores), np.asarray(tags)
    if scores.ndim != 2 or scores.shape != tags.shape or not len(scores):
        what = f"are {scores.shape} and {tags.shape}"
        raise error("E106", where="scores and tags", what=what, fix="give both as (clips, classes), one clip at least")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        what = f"is {scores[row, column]}"
        raise error("E104", where=f"score of clip {row}, class {column}", what=what, fix="evaluate in float32")
    marked = tags.astype(bool)
    if not np.array_equal(marked, tags):
        raise error("E108", where="tags", what="hold other values than 0 and 1", fix="give the clips' true labels")
    return scores, marked


def mean_over_classes(values: np.ndarray) -> tuple[float, int]:
    """Mean of a report's column over the classes that have it, and their number; NaN and 0 when none has."""
    known = values[~np.isnan(values)]
    return (float(known.mean()) if len(known) else math.nan), len(known)


def d_prime(auc: float) -> float:
    """Separation, in standard deviations, of two normal distributions with that ROC AUC: sqrt(2) * Phi^-1(AUC).

    As the original's `stats.py`; infinite for 0 and 1, NaN for NaN.
    """
    if not 0.0 < auc < 1.0:
        return math.copysign(math.inf, auc - 0.5) if auc in (0.0, 1.0) else math.nan
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def summarise(report: dict[str, np.ndarray]) -> dict[str, float]:
    """mAP, mAUC and d-prime of a class report, and how many classes each mean is over."""
    (mean_ap, ap_classes), (mean_auc, auc_classes) = (mean_over_classes(report[name]) for name in ("AP", "AUC"))
    ranked = {"mAP": mean_ap, "mAP_classes": ap_classes, "mAUC": mean_auc, "mAUC_classes": auc_classes}
    return {**ranked, "d_prime": d_prime(mean_auc)}
