"""The result of each class by itself as a local `evaluate` module."""

from typing import Any

import numpy as np

from ast_hf.metrics import packed
from ast_hf.metrics.ranking import class_report


class PerClass(packed.PackedMetric):
    """Lists with an entry for each class, and how many classes have no positive or no negative.

    `positives` (clips), `AP`, `AUC`, and the `threshold` of the best F1 with its `F1`, `precision` and `recall` when
    all clips of at least that score are taken. NaN where a class has no positive, for AUC also where no negative. The
    threshold is in the unit of the scores; chosen on the clips it is reported for, its F1 flatters.
    """

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, Any]:
        report = class_report(scores, references)
        positives = report.pop("positives").astype(int)
        counts = {"without_positive": int(np.sum(positives == 0))}
        counts["without_negative"] = int(np.sum(positives == len(scores)))
        return {"positives": positives.tolist(), **{name: values.tolist() for name, values in report.items()}, **counts}
