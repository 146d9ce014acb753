"""Accuracy and mean average precision against numbers worked out by hand, and as `evaluate` modules."""

from __future__ import annotations

from types import SimpleNamespace

import evaluate
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ast_hf.training.metrics import MAIN_METRIC, accuracy, mean_average_precision, metrics_for
from ast_hf.training.metrics.accuracy import Accuracy
from ast_hf.training.metrics.mean_average_precision import MeanAveragePrecision

SCORES = [0.9, 0.8, 0.7, 0.6]


@pytest.mark.parametrize(
    ("predictions", "references", "expected"),
    [([0, 1, 2, 2], [0, 1, 2, 1], 0.75), ([1, 1], [1, 1], 1.0), ([0, 1], [1, 0], 0.0), ([5], [5], 1.0)],
)
def test_accuracy(predictions: list[int], references: list[int], expected: float) -> None:
    assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": expected}


#: tags of the four clips, which are ranked in this order -> average precision
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([1, 1, 0, 0], 1.0),
        ([0, 0, 0, 1], 1 / 4),
        ([0, 0, 1, 1], (1 / 3 + 2 / 4) / 2),
        ([1, 0, 1, 0], (1 / 1 + 2 / 3) / 2),
        ([0, 1, 1, 0], (1 / 2 + 2 / 3) / 2),
        ([1, 1, 1, 1], 1.0),
    ],
)
def test_average_precision_of_one_class(tags: list[int], expected: float) -> None:
    result = MeanAveragePrecision().compute(
        prediction_scores=[[score] for score in SCORES], references=[[tag] for tag in tags]
    )
    assert result == {"mAP": pytest.approx(expected), "mAP_classes": 1}


def test_classes_weigh_the_same_and_those_without_a_positive_are_left_out() -> None:
    scores = [[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5], [0.6, 0.4, 0.5]]
    tags = [[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]  # average precisions 1, 1/4, none
    result = MeanAveragePrecision().compute(prediction_scores=scores, references=tags)
    assert result == {"mAP": pytest.approx(0.625), "mAP_classes": 2}


def test_no_positive_at_all_is_nan() -> None:
    result = MeanAveragePrecision().compute(prediction_scores=[[0.1, 0.2]], references=[[0, 0]])
    assert np.isnan(result["mAP"])
    assert result["mAP_classes"] == 0


def test_equals_sklearn_on_random_data() -> None:
    random = np.random.default_rng(0)
    scores = random.standard_normal((200, 7)).astype(np.float32)
    tags = (random.random((200, 7)) < 0.2).astype(np.float32)
    expected = average_precision_score(tags, scores, average="macro")
    assert MeanAveragePrecision().compute(prediction_scores=scores, references=tags)["mAP"] == pytest.approx(expected)


def test_ranks_only_matter() -> None:
    scores = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    tags = np.eye(3, dtype=np.float32)[np.arange(50) % 3]
    results = [
        MeanAveragePrecision().compute(prediction_scores=values, references=tags)["mAP"]
        for values in (scores, 1 / (1 + np.exp(-scores)))
    ]
    assert results[0] == pytest.approx(results[1])


def test_accuracy_through_evaluate_and_batches() -> None:
    metric = evaluate.load(accuracy.__file__)
    metric.add_batch(predictions=np.array([0, 1]), references=np.array([0, 1]))
    metric.add_batch(predictions=np.array([2, 2]), references=np.array([2, 1]))
    assert metric.compute() == {"accuracy": 0.75}


def test_average_precision_through_evaluate_and_batches() -> None:
    metric = evaluate.load(mean_average_precision.__file__)
    for score, tag in zip(SCORES, [1, 0, 1, 0], strict=True):
        metric.add_batch(prediction_scores=np.array([[score, 0.0]]), references=np.array([[tag, 0]]))
    assert metric.compute() == {"mAP": pytest.approx(5 / 6), "mAP_classes": 1}


def test_the_trainer_gets_the_metric_of_its_task() -> None:
    logits = np.array([[0.1, 2.0], [3.0, -1.0], [-5.0, -6.0]], np.float32)
    single = SimpleNamespace(predictions=logits, label_ids=np.array([1, 1, 0]))
    assert metrics_for("single_label_classification")(single) == {"accuracy": pytest.approx(2 / 3)}
    several = SimpleNamespace(predictions=logits, label_ids=np.array([[0, 1], [1, 0], [0, 1]], np.float32))
    # class 0: its one clip is ranked first; class 1: its clips are ranked 1 and 3
    assert metrics_for("multi_label_classification")(several)["mAP"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    assert MAIN_METRIC == {"single_label_classification": "accuracy", "multi_label_classification": "mAP"}
