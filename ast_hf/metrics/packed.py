"""The common ground of metrics over rows of scores, which hands them to `evaluate` as bytes.

`evaluate` keeps what it is given in Arrow files. A row of numbers becomes a list there, and a Python list on the way
back, which takes longer than any metric (13 s for 20,000 clips of 527 classes); bytes take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from ..errors import error


class PackedMetric(evaluate.Metric):
    """A metric of `prediction_scores` `(clips, classes)` and `references`, both arrays or lists of numbers.

    A subclass computes in `measure` what its docstring says.
    """

    #: What `evaluate` tells about the inputs, and whom to cite.
    inputs_text = "prediction_scores: scores, (clips, classes). references: 0/1 tags, (clips, classes)."
    citation_text = ""

    #: (scores `(clips, classes)`, references `(clips, numbers)`, both float32, **options) -> `{name: value}`.
    measure: Callable[..., dict[str, Any]]

    def add_batch(self, *, prediction_scores: Any = None, references: Any = None, **others: Any) -> None:
        """Take in rows of some clips."""
        rows = {"prediction_scores": prediction_scores, "references": references}
        super().add_batch(**{name: _pack(values, name) for name, values in rows.items()}, **others)

    def add(self, *, prediction_scores: Any = None, references: Any = None, **others: Any) -> None:
        """Take in one clip."""
        self.add_batch(prediction_scores=[prediction_scores], references=[references], **others)

    def _info(self) -> evaluate.MetricInfo:
        packed = datasets.Value("binary")
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation=self.citation_text,
            inputs_description=self.inputs_text,
            features=datasets.Features({"prediction_scores": packed, "references": packed}),
        )

    def _compute(self, prediction_scores: list[bytes], references: list[bytes], **options: Any) -> dict[str, Any]:
        scores, truth = _unpack(prediction_scores, "prediction_scores"), _unpack(references, "references")
        return self.measure(scores, truth, **options)


def _pack(rows: Any, name: str) -> list[bytes]:
    """Each row's numbers as float32, in which whole numbers are exact up to 2^24."""
    if rows is None:
        raise error("E108", where=name, what="is missing", fix="give prediction_scores and references")
    return [row.tobytes() for row in np.asarray(rows, dtype=np.float32)]


def _unpack(rows: list[bytes], name: str) -> np.ndarray:
    """Rows of numbers, `(rows, numbers)`."""
    lengths = sorted({len(row) // 4 for row in rows})
    if len(lengths) > 1:
        what = f"has rows of {lengths[0]} and of {lengths[-1]} numbers"
        raise error("E106", where=name, what=what, fix="give every clip a number for each class")
    return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(len(rows), -1)
