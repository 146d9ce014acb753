"""Metrics against numbers computed by hand and scikit-learn, and as `evaluate` modules."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from conftest import count_calls
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from ast_hf import AstInputError
from ast_hf.metrics import (
    accuracy,
    calibration_error,
    d_prime,
    mean_average_precision,
    mean_roc_auc,
    metrics_for,
    per_class,
    ranking,
)
from ast_hf.metrics.accuracy import Accuracy
from ast_hf.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_loss,
)
from ast_hf.metrics.calibration_error import CalibrationError
from ast_hf.metrics.d_prime import DPrime
from ast_hf.metrics.mean_average_precision import MeanAveragePrecision
from ast_hf.metrics.mean_roc_auc import MeanRocAuc
from ast_hf.metrics.per_class import PerClass
from ast_hf.metrics.ranking import class_report, rank
from ast_hf.metrics.summary import all_metrics
from ast_hf.task import Task

SCORES = [0.9, 0.8, 0.7, 0.6]


@pytest.mark.parametrize(
    ("predictions", "references", "expected"),
    [([0, 1, 2, 2], [0, 1, 2, 1], 0.75), ([1, 1], [1, 1], 1.0), ([0, 1], [1, 0], 0.0), ([5], [5], 1.0)],
)
def test_accuracy(predictions: list[int], references: list[int], expected: float) -> None:
    assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": expected}


#: tags of the four clips, ranked in this order -> average precision
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
    assert MeanAveragePrecision().compute(prediction_scores=scores, references=tags)["mAP"] == pytest.approx(
        expected
    )


def test_only_ranks_matter() -> None:
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


def test_the_trainer_gets_the_metrics_of_its_task() -> None:
    logits = np.array([[0.1, 2.0], [3.0, -1.0], [-5.0, -6.0]], np.float32)
    single = SimpleNamespace(predictions=logits, label_ids=np.array([1, 1, 0]))
    # confidences 0.86989 (right), 0.98201 (wrong), 0.73106 (right), each alone in its fifteenth
    error = (1 - 0.869892 + 0.982014 + 1 - 0.731059) / 3
    expected = {"accuracy": pytest.approx(2 / 3), "ECE": pytest.approx(error, abs=1e-5)}
    assert metrics_for("single_label_classification")(single) == expected
    several = SimpleNamespace(predictions=logits, label_ids=np.array([[0, 1], [1, 0], [0, 1]], np.float32))
    # class 0: its one clip is ranked first; class 1: its clips are ranked 1 and 3, so its AUC is 1 of 2 pairs
    assert metrics_for("multi_label_classification")(several) == {
        "mAP": pytest.approx((1 + (1 + 2 / 3) / 2) / 2),
        "mAP_classes": 2,
        "mAUC": pytest.approx(0.75),
        "mAUC_classes": 2,
        "d_prime": pytest.approx(0.953872, abs=1e-6),  # sqrt(2) * 0.6744898
    }
    assert (Task.SINGLE_LABEL.main_metric, Task.MULTI_LABEL.main_metric) == ("accuracy", "mAP")


#: tags and scores of four clips -> ROC AUC: pairs in order, ties half
@pytest.mark.parametrize(
    ("tags", "scores", "expected"),
    [
        ([1, 1, 0, 0], [4, 3, 2, 1], 1.0),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0.0),
        ([1, 0, 1, 0], [4, 3, 2, 1], 3 / 4),
        ([1, 0, 1, 0], [4, 2, 2, 1], 3.5 / 4),
        ([1, 0, 1, 0], [5, 5, 5, 5], 0.5),
        ([1, 0, 0, 0], [1, 1, 1, 0], 2 / 3),
    ],
)
def test_auc_of_one_class(tags: list[int], scores: list[float], expected: float) -> None:
    result = MeanRocAuc().compute(
        prediction_scores=[[score] for score in scores], references=[[tag] for tag in tags]
    )
    assert result == {"mAUC": pytest.approx(expected), "mAUC_classes": 1}


#: tags and scores -> average precision: clips of equal score are taken together
@pytest.mark.parametrize(
    ("tags", "scores", "expected"),
    [
        ([1, 0, 0, 0], [2, 2, 2, 2], 1 / 4),
        ([1, 0, 1, 0], [3, 3, 2, 1], (1 / 2 + 2 / 3) / 2),
        ([0, 1, 1, 0], [3, 2, 2, 2], 2 / 4),
        ([1, 0, 1, 1], [9, 5, 5, 5], (1 / 1 + 3 / 4 + 3 / 4) / 3),
    ],
)
def test_average_precision_with_ties(tags: list[int], scores: list[float], expected: float) -> None:
    result = MeanAveragePrecision().compute(
        prediction_scores=[[score] for score in scores], references=[[tag] for tag in tags]
    )
    assert result["mAP"] == pytest.approx(expected)


def test_classes_without_positives_or_negatives_are_left_out_and_counted() -> None:
    scores = [[0.9, 0.9, 0.1, 0.5], [0.8, 0.2, 0.9, 0.5], [0.7, 0.8, 0.8, 0.6]]
    tags = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]  # AUC: no negative; 1; 0; no positive
    assert MeanRocAuc().compute(prediction_scores=scores, references=tags) == {"mAUC": 0.5, "mAUC_classes": 2}
    assert DPrime().compute(prediction_scores=scores, references=tags) == {
        "d_prime": 0.0,
        "d_prime_classes": 2,
    }
    assert MeanAveragePrecision().compute(prediction_scores=scores, references=tags)["mAP_classes"] == 3
    report = PerClass().compute(prediction_scores=scores, references=tags)
    assert (report["without_positive"], report["without_negative"]) == (1, 1)
    assert report["positives"] == [3, 2, 1, 0]
    assert report["AUC"] == pytest.approx([math.nan, 1.0, 0.0, math.nan], nan_ok=True)
    assert report["AP"] == pytest.approx([1.0, 1.0, 1 / 3, math.nan], nan_ok=True)
    for name in ("best_threshold", "best_F1", "best_precision", "best_recall"):
        assert [math.isnan(value) for value in report[name]] == [False, False, False, True]


@pytest.mark.parametrize(
    ("auc", "expected"),
    [
        (0.5, 0.0),
        (0.841344746, math.sqrt(2)),
        (0.979441, 2.888),
        (0.980985, 2.934),
        (1.0, math.inf),
        (0.0, -math.inf),
    ],
)
def test_d_prime(auc: float, expected: float) -> None:
    # 0.8413 is the share of a normal distribution below one standard deviation; 2.888 and 2.934 are the d' of the
    # original's ensembles (its README)
    from ast_hf.metrics.ranking import d_prime as of

    assert of(auc) == pytest.approx(expected, abs=1e-3)
    assert math.isnan(of(math.nan))


def test_best_f1_by_hand() -> None:
    scores, tags = np.array([[0.9], [0.8], [0.6], [0.4], [0.2]]), np.array([[1], [0], [1], [0], [0]])
    # F1 with the top 1, 2, ... taken: 2/3, 1/2, 4/5, 4/6, 4/7
    report = {name: values.tolist() for name, values in class_report(scores, tags).items()}
    assert report["best_F1"] == [pytest.approx(0.8)]
    assert report["best_threshold"] == [pytest.approx(0.5)]  # between 0.6 and 0.4
    assert (report["best_precision"], report["best_recall"]) == ([pytest.approx(2 / 3)], [1.0])
    everything = class_report(np.array([[0.3], [0.7]]), np.array([[1], [1]]))
    assert everything["best_threshold"][0] == 0.3  # nothing is missing


@pytest.mark.parametrize("digits", [1, 6], ids=["many-ties", "few-ties"])
def test_report_equals_sklearn(digits: int) -> None:
    random = np.random.default_rng(0)
    tags = random.random((300, 9)) < np.linspace(0.01, 0.9, 9)
    scores = np.round(random.random((300, 9)) + 0.3 * tags, digits)
    report = class_report(scores, tags)
    assert report["AP"] == pytest.approx(average_precision_score(tags, scores, average=None), abs=1e-12)
    assert report["AUC"] == pytest.approx(roc_auc_score(tags, scores, average=None), abs=1e-12)
    for index in range(9):
        precision, recall, _ = precision_recall_curve(tags[:, index], scores[:, index])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert report["best_F1"][index] == pytest.approx(best)
        taken = scores[:, index] >= report["best_threshold"][index]
        assert f1_score(tags[:, index], taken) == pytest.approx(best)
        assert report["best_precision"][index] == pytest.approx(tags[taken, index].mean())
        assert report["best_recall"][index] == pytest.approx(taken[tags[:, index]].mean())


MODULES: list[tuple[ModuleType, dict[str, Any]]] = [
    (mean_average_precision, {"mAP": (5 / 6 + 1) / 2}),
    (mean_roc_auc, {"mAUC": 0.875}),
    (d_prime, {"d_prime": pytest.approx(1.150349 * math.sqrt(2), abs=1e-5)}),
    (per_class, {"AP": [5 / 6, 1.0], "positives": [2, 1]}),
    # each pair in a bin of its own
    (calibration_error, {"ECE": (0.1 + 0.8 + 0.3 + 0.6 + 0.1 + 0.2 + 0.7 + 0.0) / 8}),
]


@pytest.mark.parametrize(("module", "expected"), MODULES, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_modules_through_evaluate_and_batches(
    module: ModuleType, expected: dict[str, Any], size: int
) -> None:
    scores, tags = np.array([SCORES, [0.1, 0.2, 0.3, 0.0]]).T, np.array([[1, 0, 1, 0], [0, 0, 1, 0]]).T
    metric = evaluate.load(module.__file__)
    for start in range(0, 4, size):
        rows = slice(start, start + size)
        if size == 1:
            metric.add(prediction_scores=scores[start], references=tags[start])
        else:
            metric.add_batch(prediction_scores=scores[rows].tolist(), references=tags[rows])
    result = metric.compute()
    assert {name: result[name] for name in expected} == {
        name: pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }


def test_calibration_error_by_hand() -> None:
    # two bins: (0, 0.5] and (0.5, 1]. Confidences 0.4 (right), 0.5 (wrong) and 0.6 (right), 0.9 (right), 1.0 (wrong)
    scores = np.array([[0.4, 0.3, 0.3], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])
    truth = np.array([0, 1, 1, 1, 0])
    assert expected_calibration_error(scores, truth, 2) == pytest.approx(abs(1 - 0.9) / 5 + abs(2 - 2.5) / 5)
    assert CalibrationError().compute(prediction_scores=scores, references=truth, bins=2)[
        "ECE"
    ] == pytest.approx(0.12)
    one_bin = abs(3 / 5 - 3.4 / 5)
    assert expected_calibration_error(scores, truth, 1) == pytest.approx(one_bin)


def test_calibration_error_of_tags_counts_every_pair() -> None:
    scores, tags = np.array([[0.1, 0.9], [0.1, 0.9], [0.1, 0.0]]), np.array([[0, 1], [1, 0], [0, 0]])
    # 15 bins: the three 0.1 have 1/3 of positives, the two 0.9 have 1/2, the one 0 has none
    assert expected_calibration_error(scores, tags) == pytest.approx((abs(1 - 0.3) + abs(1 - 1.8) + 0.0) / 6)


def test_bins_are_closed_above() -> None:
    # Guo et al. 2017: ((m - 1) / M, m / M]. With two bins 0.5 is in the lower one, with the wrong answer 0.4.
    scores, truth = np.array([[0.5, 0.5], [0.4, 0.3]]), np.array([0, 1])
    assert expected_calibration_error(scores, truth, 2) == pytest.approx(abs(1 - 0.9) / 2)


@pytest.mark.parametrize(("scale", "expected"), [(3.0, 3.0), (0.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_temperature_undoes_a_scale(scale: float, expected: float, problem_type: str) -> None:
    random = np.random.default_rng(0)
    logits = 1.5 * random.standard_normal((6000, 4))
    scores = Task(problem_type).scores(logits)
    if problem_type == "multi_label_classification":
        truth = random.random(scores.shape) < scores
    else:
        truth = (random.random((6000, 1)) < scores.cumsum(axis=1)).argmax(axis=1)
    temperature = fit_temperature(scale * logits, truth)
    assert temperature == pytest.approx(expected, rel=0.05)  # 6000 clips are a sample
    assert log_loss(scale * logits, truth, temperature) <= log_loss(scale * logits, truth)
    for other in (0.98 * temperature, 1.02 * temperature):
        assert log_loss(scale * logits, truth, other) > log_loss(scale * logits, truth, temperature)
    before, after = (
        expected_calibration_error(Task(problem_type).scores(scale * logits, value), truth)
        for value in (1.0, temperature)
    )
    assert after < 0.02
    assert after < before or scale == 1.0


def test_temperature_at_the_ends() -> None:
    logits, right = np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1])
    # all correct: the lowest temperature allowed
    assert fit_temperature(logits, right) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, 1 - right) == pytest.approx(20.0, rel=1e-3)
    assert fit_temperature(np.zeros((3, 2)), np.array([0, 1, 1])) == 1.0  # no better temperature


def test_probabilities_and_log_loss_are_torchs() -> None:
    logits = torch.tensor([[800.0, -800.0, 1.0], [0.3, 0.2, -30.0]], dtype=torch.float64)
    indices, tags = (
        torch.tensor([0, 2]),
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64),
    )
    scaled = logits / 2
    single, multi = "single_label_classification", "multi_label_classification"
    assert Task(single).scores(logits.numpy(), 2.0) == pytest.approx(scaled.softmax(-1).numpy(), abs=1e-15)
    assert Task(multi).scores(logits.numpy(), 2.0) == pytest.approx(scaled.sigmoid().numpy(), abs=1e-15)
    cross_entropy = torch.nn.functional.cross_entropy(scaled, indices)
    assert log_loss(logits.numpy(), indices.numpy(), 2.0) == pytest.approx(float(cross_entropy))
    binary = torch.nn.functional.binary_cross_entropy_with_logits(scaled, tags)
    assert log_loss(logits.numpy(), tags.numpy().astype(bool), 2.0) == pytest.approx(float(binary))


#: id -> metric, scores, references, code, text of the message
BAD_INPUTS: list[tuple[str, type, Any, Any, str, str]] = [
    ("nan", MeanAveragePrecision, [[0.1], [math.nan]], [[0], [1]], "E104", "clip 1, class 0"),
    ("infinite", MeanRocAuc, [[0.1], [math.inf]], [[0], [1]], "E104", "inf"),
    ("soft-tags", PerClass, [[0.1], [0.2]], [[0.5], [1]], "E108", "tags"),
    ("shapes", DPrime, [[0.1, 0.2], [0.2, 0.1]], [[0], [1]], "E106", "(2, 2) and (2, 1)"),
    ("logits", CalibrationError, [[2.0, -1.0]], [0], "E108", "apply softmax or sigmoid"),
    ("missing", MeanAveragePrecision, [[0.1]], None, "E108", "references"),
]


@pytest.mark.parametrize(
    ("metric", "scores", "references", "code", "text"),
    [row[1:] for row in BAD_INPUTS],
    ids=[row[0] for row in BAD_INPUTS],
)
def test_bad_input_is_refused(metric: type, scores: Any, references: Any, code: str, text: str) -> None:
    with pytest.raises(AstInputError) as caught:
        metric().compute(prediction_scores=scores, references=references)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_batches_of_different_widths_are_refused() -> None:
    metric = MeanAveragePrecision()
    metric.add_batch(prediction_scores=[[0.1, 0.2]], references=[[0, 1]])
    metric.add_batch(prediction_scores=[[0.1, 0.2, 0.3]], references=[[0, 1, 1]])
    with pytest.raises(AstInputError, match=r"E106.*rows of 2 and of 3"):
        metric.compute()


def test_work_grows_slower_than_the_number_of_clips() -> None:
    """All modules rank in numpy: ten times the clips need less than seven times the calls.

    datasets 4.0 encodes each row by a call of its own, 5.2 times in all; datasets 5 needs 2.4 times.
    """

    def compute(count: int) -> None:
        random = np.random.default_rng(0)
        scores = random.random((count, 100), dtype=np.float32)
        tags = random.random((count, 100)) < 0.1
        for metric in (MeanAveragePrecision(), MeanRocAuc(), DPrime(), PerClass(), CalibrationError()):
            for rows in np.split(np.arange(count), 20):
                metric.add_batch(prediction_scores=scores[rows], references=tags[rows])
            metric.compute()

    compute(200)  # work done once per process
    assert count_calls(lambda: compute(2000)) < 7 * count_calls(lambda: compute(200))


@pytest.mark.slow
def test_audioset_sized_input_takes_seconds() -> None:
    """Compute 20,000 clips of 527 classes: the metrics of `ast-hf evaluate`, and all modules in turn, each in less than
    10 s of processor time. Every module ranks anew, so together they take longer than all metrics at once.
    """
    random = np.random.default_rng(0)
    tags = random.random((20_000, 527)) < 0.01
    logits = (random.standard_normal(tags.shape) + 3 * tags - 4).astype(np.float32)
    start = time.process_time()
    all_metrics(logits, tags, Task.MULTI_LABEL)
    at_once = time.process_time() - start
    start = time.process_time()
    for metric in (MeanAveragePrecision(), MeanRocAuc(), DPrime(), PerClass(), CalibrationError()):
        scores = Task.MULTI_LABEL.scores(logits) if isinstance(metric, CalibrationError) else logits
        for rows in np.split(np.arange(20_000), 200):
            metric.add_batch(prediction_scores=scores[rows], references=tags[rows])
        metric.compute()
    one_by_one = time.process_time() - start
    print(f"at once {at_once:.1f} s, one by one {one_by_one:.1f} s")
    assert at_once < 10
    assert one_by_one < 10


@pytest.mark.parametrize("task", [Task.SINGLE_LABEL, Task.MULTI_LABEL], ids=lambda task: task.display_name)
@pytest.mark.parametrize("labels", [[[0], [1], [2]], [[0, 1, 2]], 1, [0, 1]], ids=str)
def test_labels_of_another_shape_are_refused(task: Task, labels: object) -> None:
    prediction = SimpleNamespace(predictions=np.zeros((3, 4)), label_ids=np.array(labels))
    with pytest.raises(AstInputError, match="E106"):
        metrics_for(task)(prediction)


def test_metrics_of_an_evaluation_share_one_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorting is most of the work, so each class is ranked once for mAP, mAUC, d-prime and the per-class report."""
    random = np.random.default_rng(0)
    calls = []
    tags = random.random((50, 7)) < 0.5
    logits = random.standard_normal(tags.shape)
    monkeypatch.setattr(ranking, "rank", lambda *arguments: calls.append(arguments) or rank(*arguments))
    values, classes = all_metrics(logits, tags, Task.MULTI_LABEL)
    assert {"mAP", "mAUC", "d_prime", "ECE"} <= set(values)
    assert len(classes["AP"]) == len(calls) == 7
    metrics_for("multi_label_classification")(
        SimpleNamespace(predictions=logits, label_ids=tags.astype(float))
    )
    assert len(calls) == 14


@pytest.mark.parametrize("task", [Task.SINGLE_LABEL, Task.MULTI_LABEL], ids=lambda task: task.display_name)
def test_metrics_are_computed_in_memory(task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache of `evaluate` may not be writable: no folder, file or lock appears there."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    logits = np.random.default_rng(0).standard_normal((5, 3))
    targets = task.targets([[0], [1], [2], [0], [1]], 3)
    all_metrics(logits, targets, task)
    metrics_for(task)(SimpleNamespace(predictions=logits, label_ids=targets))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", [Task.SINGLE_LABEL, Task.MULTI_LABEL], ids=lambda task: task.display_name)
def test_float64_scores_reach_the_modules_exactly(task: Task) -> None:
    """Two float64 scores that are equal in float32 are not a tie."""
    logits = np.array([[0.0, 1.0], [0.0, 1.0 + 1e-12]])
    metrics, classes = all_metrics(logits, task.targets([[0], [1]], 2), task)
    assert classes["AUC"].tolist()[1] == 1.0
    assert metrics["ECE"] == expected_calibration_error(task.scores(logits), task.targets([[0], [1]], 2))


def test_single_class_of_a_single_label_task_is_calibrated() -> None:
    metrics, _ = all_metrics(np.zeros((4, 1)), np.zeros(4, dtype=int), Task.SINGLE_LABEL)
    assert (metrics["accuracy"], metrics["ECE"]) == (1.0, 0.0)
