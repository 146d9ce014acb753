"""Mean area under the ROC curve as a local `evaluate` module (the original's `stats.py`)."""

import numpy as np

from ast_hf.metrics import packed
from ast_hf.metrics.ranking import class_report, mean_over_classes


class MeanRocAuc(packed.PackedMetric):
    """Unweighted mean over classes of the ROC AUC, in [0, 1]; classes without a positive or a negative are left out.

    `mAUC_classes` is the number of classes that the mean is over. Scores may be logits: only their order counts.
    """

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
        value, classes = mean_over_classes(class_report(scores, references)["AUC"])
        return {"mAUC": value, "mAUC_classes": classes}
