"""Baselines that a trained AST must beat: logistic regression on log-mel bands, the most frequent class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from ..data.splits import label_counts, split_task
from ..inputs.clips import ClipInputs
from ..log_mel import log_mel
from ..metrics.ranking import class_report, mean_over_classes
from ..task import Task

#: Mel bands of the baseline, and the inverse strength of its regularisation.
BANDS = 64
INVERSE_REGULARISATION = 0.1
#: Clips that the regressions of multi-label data are fitted on, at most: more take minutes to decode.
MAX_CLIPS = 20_000


def most_frequent_class(
    train: Dataset | IterableDataset, evaluation: dict[str, Dataset | IterableDataset]
) -> dict[str, float]:
    """Return the accuracy on each split, in [0, 1], of always predicting the most frequent training class.

    Empty for multi-label clips, and for streams, whose labels are unknown until they are read.
    """
    if split_task(train) is Task.MULTI_LABEL or not isinstance(train, Dataset):
        return {}
    counts = label_counts(train)
    majority = max(counts, key=lambda index: counts[index])
    return {name: label_counts(split)[majority] / len(split) for name, split in evaluation.items()}


def baseline_accuracy(train: ClipInputs, evaluation: dict[str, ClipInputs]) -> dict[str, float]:
    """Return the accuracy on each split, in [0, 1], of logistic regression on standardised features.

    The features are mean and standard deviation over time of each log-mel band. Empty for multi-label clips.
    """
    if split_task(train.split) is Task.MULTI_LABEL:
        return {}
    answers = baseline_answers(train, evaluation)
    return {
        name: float(np.mean(answers[name] == np.asarray(inputs.split["label"])))
        for name, inputs in evaluation.items()
    }


def baseline_answers(
    train: ClipInputs, evaluation: dict[str, ClipInputs], *, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Return what logistic regression on standardised features answers on each split.

    The features are those of `baseline_accuracy`. Single-label clips get a class index each, `(clips,)`. Multi-label
    clips get a score for each label, `(clips, labels)`, from one regression per label against the rest. At most `limit`
    training clips are read, at even distances; None reads all, of multi-label ones `MAX_CLIPS`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if split_task(train.split) is Task.MULTI_LABEL:
        return _score_labels(train, evaluation, _spaced(train, limit or MAX_CLIPS))
    clips = _spaced(train, limit or len(train))
    labels = train.split["label"]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000))
    model.fit(_compute_features(train, clips), [labels[clip] for clip in clips])
    return {name: model.predict(_compute_features(inputs)) for name, inputs in evaluation.items()}


def baseline_metric(answers: np.ndarray, truth: np.ndarray, task: Task) -> float:
    """Return accuracy or mAP of `baseline_answers` for the true indices `(clips,)` or tags `(clips, labels)`."""
    if task is not Task.MULTI_LABEL:
        return float(np.mean(answers == truth))
    return mean_over_classes(class_report(answers, truth)["AP"])[0]


def _spaced(inputs: ClipInputs, limit: int) -> range:
    """Return at most `limit` clips, at even distances."""
    return range(0, len(inputs), -(-len(inputs) // limit))


def _score_labels(
    train: ClipInputs, evaluation: dict[str, ClipInputs], clips: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the scores of one regression per label; a label that all or no training clips have gets 0."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    labels = train.split["labels"]
    tags = Task.MULTI_LABEL.targets([labels[clip] for clip in clips], train.num_labels)
    scaler = StandardScaler()
    features = scaler.fit_transform(_compute_features(train, clips))
    inputs = {name: scaler.transform(_compute_features(part)) for name, part in evaluation.items()}
    scores = {name: np.zeros((len(rows), train.num_labels)) for name, rows in inputs.items()}
    for label, column in enumerate(tags.T):
        if column.all() or not column.any():
            continue
        model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000).fit(features, column)
        for name, rows in inputs.items():
            scores[name][:, label] = model.decision_function(rows)
    return scores


def _compute_features(inputs: ClipInputs, clips: Iterable[int] | None = None) -> np.ndarray:
    """Return mean and standard deviation of each band of some or all clips, `(clips, 2 * BANDS)`."""
    rows = []
    for clip in range(len(inputs)) if clips is None else clips:
        bands = log_mel(torch.from_numpy(inputs.waveform(clip)), inputs.extractor.sampling_rate, BANDS)
        rows.append(torch.cat((bands.mean(dim=0), bands.std(dim=0, correction=0))))
    return torch.stack(rows).numpy()
