"""Expected calibration error as a local `evaluate` module."""

import numpy as np

from ast_hf.metrics import modules
from ast_hf.metrics.calibration import BINS, expected_calibration_error


class CalibrationError(modules.ScoresMetric):
    """`expected_calibration_error`: gap between confidence and share of right answers, in [0, 1]."""

    inputs_text = (
        "prediction_scores: probabilities, (clips, classes). references: class indices, (clips,), where a clip's "
        "answer is its best class; or 0/1 tags, (clips, classes), where each pair of clip and class is an answer. "
        "bins: number of intervals of equal width, 15 by default."
    )
    citation_text = "Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599)"

    def measure(self, scores: np.ndarray, references: np.ndarray, bins: int = BINS) -> dict[str, float]:
        """Return `ECE`; one column of references with several classes holds class indices."""
        indices = references.shape[1] == 1 < scores.shape[1]
        return {"ECE": expected_calibration_error(scores, references[:, 0] if indices else references, bins)}
