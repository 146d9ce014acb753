"""Baseline that a trained AST must beat: logistic regression on mean and spread of log-mel bands."""

from __future__ import annotations

import numpy as np
import torch

from ..data.splits import split_task
from ..inputs.clips import ClipInputs
from ..log_mel import log_mel
from ..task import Task

#: Mel bands of the baseline, and the inverse strength of its regularisation.
BANDS = 64
INVERSE_REGULARISATION = 0.1


def baseline_accuracy(train: ClipInputs, evaluation: dict[str, ClipInputs]) -> dict[str, float]:
    """Return the accuracy of StandardScaler + logistic regression on each evaluation split.

    Args:
        train: clips to fit on.
        evaluation: clips to test on, by split.

    Returns:
        Accuracy in [0, 1] by split; nothing for multi-label data.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if split_task(train.split) is Task.MULTI_LABEL:
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000))
    model.fit(_features(train), train.split["label"])
    accuracies = {}
    for name, inputs in evaluation.items():
        accuracies[name] = float(model.score(_features(inputs), inputs.split["label"]))
    return accuracies


def _features(inputs: ClipInputs) -> np.ndarray:
    """Return the features of all clips, `(clips, 2 * BANDS)`."""
    rate = inputs.extractor.sampling_rate
    return np.stack([_summary(inputs.waveform(clip), rate) for clip in range(len(inputs))])


def _summary(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return mean and standard deviation over time of each band, `(2 * BANDS,)`."""
    bands = log_mel(torch.from_numpy(waveform), sampling_rate, BANDS)
    return torch.cat((bands.mean(dim=0), bands.std(dim=0, correction=0))).numpy()
