"""The simple method that a trained AST has to beat: logistic regression on the mean and spread of log-mel bands."""

from __future__ import annotations

import numpy as np
import torch

from ..data.reading import is_multi_label
from ..inputs.clips import ClipInputs
from ..log_mel import log_mel

#: Mel bands of the baseline, and the inverse strength of its regularisation.
BANDS, INVERSE_REGULARISATION = 64, 0.1


def baseline_accuracy(train: ClipInputs, evaluation: dict[str, ClipInputs]) -> dict[str, float]:
    """Accuracy of StandardScaler + logistic regression on each evaluation split; single-label data only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if is_multi_label(train.split):
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000))
    model.fit(_features(train), train.split["label"])
    return {name: float(model.score(_features(inputs), inputs.split["label"])) for name, inputs in evaluation.items()}


def _features(inputs: ClipInputs) -> np.ndarray:
    return np.stack([_summary(inputs.waveform(clip), inputs.extractor.sampling_rate) for clip in range(len(inputs))])


def _summary(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Mean and standard deviation over time of each band, `(2 * BANDS,)`."""
    bands = log_mel(torch.from_numpy(waveform), sampling_rate, BANDS)
    return torch.cat((bands.mean(dim=0), bands.std(dim=0, correction=0))).numpy()
