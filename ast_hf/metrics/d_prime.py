"""d-prime as a local `evaluate` module (the original's `stats.py`)."""

import numpy as np

from ast_hf.metrics import packed
from ast_hf.metrics.ranking import class_report, d_prime, mean_over_classes


class DPrime(packed.PackedMetric):
    """sqrt(2) * Phi^-1 of the mean over classes of the ROC AUC; classes without a positive or a negative are left out.

    0 for guessing, infinite when every class is ranked without a fault. `d_prime_classes` is the number of classes that
    the mean is over. Scores may be logits: only their order counts.
    """

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
        value, classes = mean_over_classes(class_report(scores, references)["AUC"])
        return {"d_prime": d_prime(value), "d_prime_classes": classes}
