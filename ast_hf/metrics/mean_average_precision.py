"""Mean average precision as a local `evaluate` module, the metric of AudioSet (AST paper, section 3.1)."""

import numpy as np

from ast_hf.metrics import modules
from ast_hf.metrics.ranking import mean_over_classes


class MeanAveragePrecision(modules.RankingMetric):
    """Unweighted mean over classes of the average precision, in [0, 1].

    `mAP_classes` is the number of classes in the mean, those with a positive. Scores may be logits: only
    their order counts.
    """

    @staticmethod
    def summarize(report: dict[str, np.ndarray]) -> dict[str, float]:
        mean, classes = mean_over_classes(report["AP"])
        return {"mAP": mean, "mAP_classes": classes}
