"""Accuracy as a local `evaluate` module, used by its class or offline by `evaluate.load(path of this file)`."""

import datasets
import evaluate
import numpy as np

from ast_hf.metrics import modules


class Accuracy(modules.InMemoryMetric):
    """Share of clips whose best class is the right one, in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference.",
            citation="",
            inputs_description="predictions: class indices. references: class indices.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}
