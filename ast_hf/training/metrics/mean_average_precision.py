"""Mean average precision as a local `evaluate` module, the metric of AudioSet (AST paper, section 3.1)."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score


class MeanAveragePrecision(evaluate.Metric):
    """Unweighted mean over classes of the average precision, in [0, 1]; classes without a positive are left out."""

    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="Mean over classes of the area under the precision-recall curve.",
            citation="",
            inputs_description="prediction_scores: scores per class. references: 0/1 tags per class.",
            features=datasets.Features({"prediction_scores": scores, "references": scores}),
        )

    def _compute(self, prediction_scores: list[list[float]], references: list[list[float]]) -> dict[str, float]:
        scores, tags = np.asarray(prediction_scores), np.asarray(references)
        classes = [index for index in range(tags.shape[1]) if tags[:, index].any()]
        values = [average_precision_score(tags[:, index], scores[:, index]) for index in classes]
        return {"mAP": float(np.mean(values)) if values else float("nan"), "mAP_classes": len(classes)}
