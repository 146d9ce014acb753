"""Calibration of scores: expected calibration error, log loss, and the temperature that minimises it."""

from __future__ import annotations

import math

import numpy as np

from ..errors import error

#: Bins of the expected calibration error, as in Guo et al. 2017 (arXiv 1706.04599).
BINS = 15

#: Range of temperatures that are searched, and the relative error of the result.
COLDEST = 0.05
HOTTEST = 20.0
TOLERANCE = 1e-4


def expected_calibration_error(scores: np.ndarray, references: np.ndarray, bins: int = BINS) -> float:
    """Return the gap between confidence and the share of right answers (Guo et al. 2017, equation 3).

    Answers are sorted by confidence into `bins` intervals of equal width, open below and closed above (0
    belongs to the first). The error is the mean over answers of |share of right answers - mean confidence| in
    their interval.

    Args:
        scores: probabilities in [0, 1], `(clips, classes)`.
        references: class indices `(clips,)`, where a clip's answer is its best class and the confidence is
            that class's score. Or tags `(clips, classes)` of 0 and 1, where each pair of clip and class is an
            answer and the score is the confidence that it is 1. Most pairs of a large vocabulary are easy
            negatives, so the error of tags is smaller by nature.
        bins: number of intervals.

    Returns:
        The error, in [0, 1].

    Raises:
        AstInputError: E106 for shapes that differ, E108 for scores outside [0, 1] and for less than 1 bin.
    """
    confidence, right = _answers(np.asarray(scores), np.asarray(references))
    if bins < 1:
        raise error("E108", where="bins", what=f"{bins} is not a number of intervals", fix=f"use {BINS}")
    if not ((confidence >= 0.0) & (confidence <= 1.0)).all():
        what = "are not probabilities in [0, 1]"
        raise error("E108", where="prediction_scores", what=what, fix="apply softmax or sigmoid first")
    interval = np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
    gaps = np.bincount(interval, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _answers(scores: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence and the correctness (0 or 1) of each answer, both one-dimensional."""
    if scores.ndim == 2 and len(scores) and scores.shape == references.shape:
        return scores.ravel(), references.ravel()
    if scores.ndim != 2 or not len(scores) or references.shape != scores.shape[:1]:
        what = f"are {scores.shape} and {references.shape}"
        fix = "give (clips, classes) and (clips,) or (clips, classes), one clip at least"
        raise error("E106", where="scores and references", what=what, fix=fix)
    return scores.max(axis=1), scores.argmax(axis=1) == references


def log_loss(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log likelihood of the truth, in nats.

    Args:
        logits: `(clips, classes)`, divided by the temperature first.
        truth: class indices `(clips,)`, for softmax; or tags `(clips, classes)`, for sigmoid, where the mean
            is over all pairs of clip and class.
        temperature: positive number.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if truth.ndim == 2:
        return float(np.mean(np.logaddexp(0.0, np.where(truth, -scaled, scaled))))
    logits_of_truth = scaled[np.arange(len(scaled)), truth]
    top = scaled.max(axis=1)
    return float(np.mean(np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top - logits_of_truth))


def fit_temperature(logits: np.ndarray, truth: np.ndarray, *, start: float = 1.0) -> float:
    """Return the temperature of the lowest `log_loss`, in 0.05..20, never worse than 1 or `start`.

    Temperature scaling of Guo et al. 2017 (section 4.2): one number, which cannot change the best label. The
    loss is convex in 1/T, so it has one minimum in log T, where a golden-section search finds it.

    Args:
        logits: `(clips, classes)`, as the model returns them.
        truth: class indices `(clips,)` or tags `(clips, classes)`.
        start: the temperature in use so far.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low = math.log(COLDEST)
    high = math.log(HOTTEST)
    inner = high - ratio * (high - low)
    outer = low + ratio * (high - low)
    at_inner = log_loss(logits, truth, math.exp(inner))
    at_outer = log_loss(logits, truth, math.exp(outer))
    while high - low > TOLERANCE:
        if at_inner <= at_outer:
            high = outer
            outer = inner
            at_outer = at_inner
            inner = high - ratio * (high - low)
            at_inner = log_loss(logits, truth, math.exp(inner))
        else:
            low = inner
            inner = outer
            at_inner = at_outer
            outer = low + ratio * (high - low)
            at_outer = log_loss(logits, truth, math.exp(outer))
    return min((1.0, start, math.exp((low + high) / 2)), key=lambda value: log_loss(logits, truth, value))
