"""Mean average precision as a local `evaluate` module, the metric of AudioSet (AST paper, section 3.1)."""

import numpy as np

from ast_hf.metrics import packed
from ast_hf.metrics.ranking import class_report, mean_over_classes


class MeanAveragePrecision(packed.PackedMetric):
    """Unweighted mean over classes of the average precision, in [0, 1]; classes without a positive are left out.

    `mAP_classes` is the number of classes that the mean is over. Scores may be logits: only their order counts.
    """

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
        value, classes = mean_over_classes(class_report(scores, references)["AP"])
        return {"mAP": value, "mAP_classes": classes}
