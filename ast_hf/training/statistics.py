"""Mean and standard deviation of a data set's log-mel values: what the feature extractor normalises with."""

from __future__ import annotations

import math

from tqdm.auto import tqdm

from ..errors import error
from .inputs import ClipInputs


def measure_statistics(inputs: ClipInputs) -> tuple[float, float]:
    """Mean and standard deviation over all real frames and mel bins of a split.

    Frame-weighted, without augmentation and without padding, in one pass (the original's script leaves all three in).
    Only the first `max_length` frames of each clip count, as in training.
    """
    extractor = inputs.extractor
    count, total, squares = 0, 0.0, 0.0
    for clip in tqdm(range(len(inputs)), desc="measuring mean and std", unit="clip", leave=False):
        values = extractor(
            inputs.waveform(clip), extractor.sampling_rate, padding=False, truncation=True, do_normalize=False
        )["input_values"][0].astype("float64")
        count += values.size
        total += values.sum()
        squares += (values**2).sum()
    mean = total / count
    std = math.sqrt(max(squares / count - mean**2, 0.0))
    if std == 0.0:
        what = "every log-mel value is the same, the recordings are silent"
        raise error("E209", where="training split", what=what, fix="check that the files hold sound")
    return mean, std
