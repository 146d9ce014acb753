"""Results of each class as a local `evaluate` module."""

from typing import Any

import numpy as np

from ast_hf.metrics import modules
from ast_hf.metrics.ranking import class_report


class PerClass(modules.ScoresMetric):
    """Lists with one entry per class, and the numbers of classes `without_positive` and `without_negative`.

    `positives` (clips), `AP`, `AUC`, and the `best_threshold` of the best F1 with `best_F1`, `best_precision` and
    `best_recall` if all clips of at least that score count as positive. NaN for a class without a positive, for
    AUC also without a negative. The threshold is in the unit of the scores; as it is chosen on the same
    clips, its F1 is optimistic: it is not that of the pipeline's decisions (`decisions.decision_report`).
    """

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, Any]:
        report = class_report(scores, references)
        positives = report.pop("positives").astype(int)
        return {
            "positives": positives.tolist(),
            **{name: values.tolist() for name, values in report.items()},
            "without_positive": int(np.sum(positives == 0)),
            "without_negative": int(np.sum(positives == len(scores))),
        }
