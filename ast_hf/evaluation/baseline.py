"""Baselines that a trained AST must beat: logistic regression on log-mel bands, the most frequent class."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from ..data.splits import label_counts, split_task
from ..inputs.clips import ClipInputs
from ..log_mel import log_mel
from ..task import Task

#: Mel bands of the baseline, and the inverse strength of its regularisation.
BANDS = 64
INVERSE_REGULARISATION = 0.1


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
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if split_task(train.split) is Task.MULTI_LABEL:
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000))
    model.fit(_compute_features(train), train.split["label"])
    return {
        name: float(model.score(_compute_features(inputs), inputs.split["label"]))
        for name, inputs in evaluation.items()
    }


def _compute_features(inputs: ClipInputs) -> np.ndarray:
    """Return mean and standard deviation of each band, `(clips, 2 * BANDS)`."""
    rows = []
    for clip in range(len(inputs)):
        bands = log_mel(torch.from_numpy(inputs.waveform(clip)), inputs.extractor.sampling_rate, BANDS)
        rows.append(torch.cat((bands.mean(dim=0), bands.std(dim=0, correction=0))))
    return torch.stack(rows).numpy()
