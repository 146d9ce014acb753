"""d-prime as a local `evaluate` module (the original's `stats.py`)."""

import numpy as np

from ast_hf.metrics import modules
from ast_hf.metrics.ranking import d_prime, mean_over_classes


class DPrime(modules.RankingMetric):
    """sqrt(2) * Phi^-1 of the mean over classes of the ROC AUC: 0 for guessing, infinite for perfect ranking.

    `d_prime_classes` is the number of classes in the mean, those with a positive and a negative. Scores may
    be logits: only their order counts.
    """

    @staticmethod
    def summarize(report: dict[str, np.ndarray]) -> dict[str, float]:
        mean, classes = mean_over_classes(report["AUC"])
        return {"d_prime": d_prime(mean), "d_prime_classes": classes}
