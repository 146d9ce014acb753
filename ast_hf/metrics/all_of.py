"""All metrics at once: what do logits say of clips whose labels are known?"""

from __future__ import annotations

import numpy as np

from .calibration import expected_calibration_error, log_loss, probabilities
from .ranking import class_report, summarise


def measure(
    logits: np.ndarray, truth: np.ndarray, problem_type: str, temperature: float = 1.0
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """All metrics of logits `(clips, labels)` against `true_labels`, and `class_report` on the scores.

    Single-label classes are ranked one against the rest. `NLL` is in nats, see `log_loss`.
    """
    scores = probabilities(logits, problem_type, temperature)
    classes = class_report(scores, tags_of(truth, scores.shape[1]))
    own = {} if truth.ndim == 2 else {"accuracy": float(np.mean(scores.argmax(axis=1) == truth))}
    error_of_scores = expected_calibration_error(scores, truth)
    return {**own, **summarise(classes), "ECE": error_of_scores, "NLL": log_loss(logits, truth, temperature)}, classes


def tags_of(truth: np.ndarray, count: int) -> np.ndarray:
    """Truth as tags `(clips, count)`, whichever of the two it is."""
    return truth if truth.ndim == 2 else np.arange(count) == truth[:, None]
