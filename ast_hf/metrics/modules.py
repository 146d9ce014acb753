"""Base classes of the local `evaluate` modules over rows of scores.

`evaluate` stores its inputs in Arrow tables. Rows of numbers would come back as Python lists, which takes
longer than any metric (13 s for 20,000 clips of 527 classes), so batches are stored as bytes. Arrays that are
passed to `compute` are not stored at all: that would take 0.5 GB for so many clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from ..errors import error
from .ranking import class_report

#: Types in which rows are stored: float64 holds any score of a model exactly, float32 any class index up to
#: 2^24.
_DTYPES = {"prediction_scores": np.float64, "references": np.float32}


class InMemoryMetric(evaluate.Metric):
    """An `evaluate` module that creates no folder in the cache if constructed with `keep_in_memory=True`."""

    def _build_data_dir(self) -> str:
        # `evaluate` (0.4.6) creates the folder even for a module that never writes a file
        return "" if self.keep_in_memory else super()._build_data_dir()


class ScoresMetric(InMemoryMetric):
    """Metric of `prediction_scores` `(clips, classes)` and `references`, both arrays or lists of numbers."""

    #: Descriptions that `evaluate` shows: the inputs, and the publication to cite.
    inputs_text = "prediction_scores: scores, (clips, classes). references: 0/1 tags, (clips, classes)."
    citation_text = ""

    #: (scores `(clips, classes)`, references `(clips, numbers)`, **options) -> `{name: value}`.
    measure: Callable[..., dict[str, Any]]

    def add_batch(self, *, prediction_scores: Any = None, references: Any = None, **others: Any) -> None:
        """Add the rows of some clips; raise E108 if scores or references are missing."""
        rows = {"prediction_scores": prediction_scores, "references": references}
        packed = {name: [row.tobytes() for row in _as_array(values, name)] for name, values in rows.items()}
        super().add_batch(**packed, **others)

    def add(self, *, prediction_scores: Any = None, references: Any = None, **others: Any) -> None:
        """Add one clip."""
        self.add_batch(prediction_scores=[prediction_scores], references=[references], **others)

    def compute(self, *, prediction_scores: Any = None, references: Any = None, **options: Any) -> Any:
        """Return the metric of these rows and of those added before, None on all but the main process."""
        rows = {"prediction_scores": prediction_scores, "references": references}
        is_missing = prediction_scores is None and references is None
        if is_missing or self.writer is not None or self.num_process > 1:
            return super().compute(**rows, **options)
        return self.measure(*(_as_rows(_as_array(values, name)) for name, values in rows.items()), **options)

    def _info(self) -> evaluate.MetricInfo:
        packed = datasets.Value("large_binary")  # "binary" ends at 2 GiB a batch
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation=self.citation_text,
            inputs_description=self.inputs_text,
            features=datasets.Features({"prediction_scores": packed, "references": packed}),
        )

    def _compute(
        self, prediction_scores: list[bytes], references: list[bytes], **options: Any
    ) -> dict[str, Any]:
        scores = _unpack(prediction_scores, "prediction_scores")
        return self.measure(scores, _unpack(references, "references"), **options)


class RankingMetric(ScoresMetric):
    """A metric that follows from `class_report`; a subclass computes it in `summarize`."""

    #: A class report -> `{name: value}`.
    summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]

    def measure(self, scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Rank the clips of each class, and summarize the ranking."""
        return self.summarize(class_report(scores, references))


def _as_array(rows: Any, name: str) -> np.ndarray:
    if rows is None:
        raise error("E108", where=name, what="is missing", fix="give prediction_scores and references")
    return np.asarray(rows, dtype=_DTYPES[name])


def _as_rows(array: np.ndarray) -> np.ndarray:
    """Return an array as `(rows, numbers)`, class indices `(rows,)` as one number each; E106 for a number."""
    if not array.ndim:
        fix = "give every clip a number, or a number for each class"
        raise error("E106", where="scores and references", what=f"include the number {array}", fix=fix)
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _unpack(rows: list[bytes], name: str) -> np.ndarray:
    """Return packed rows as an array `(rows, numbers)`; raise E106 if their lengths differ."""
    dtype = np.dtype(_DTYPES[name])
    lengths = sorted({len(row) // dtype.itemsize for row in rows})
    if len(lengths) > 1:
        what = f"has rows of {lengths[0]} and of {lengths[-1]} numbers"
        raise error("E106", where=name, what=what, fix="give every clip a number for each class")
    columns = lengths[0] if lengths else 0
    return np.frombuffer(b"".join(rows), dtype=dtype).reshape(len(rows), columns)
