"""Mean area under the ROC curve as a local `evaluate` module (the original's `stats.py`)."""

import numpy as np

from ast_hf.metrics import modules
from ast_hf.metrics.ranking import mean_over_classes


class MeanRocAuc(modules.RankingMetric):
    """Unweighted mean over classes of the ROC AUC, in [0, 1].

    `mAUC_classes` is the number of classes in the mean, those with a positive and a negative. Scores may be
    logits: only their order counts.
    """

    @staticmethod
    def summarize(report: dict[str, np.ndarray]) -> dict[str, float]:
        mean, classes = mean_over_classes(report["AUC"])
        return {"mAUC": mean, "mAUC_classes": classes}
