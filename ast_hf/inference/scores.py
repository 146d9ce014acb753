"""Scores of windows, from a model's logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..embeddings_ast import column_times
from ..errors import error, warn_once
from ..task import Task
from ..timelines.curves import Columns
from .arguments import FITTED
from .folding import ScoredWindow
from .recordings import WindowInputs

_FUNCTION_OF = {Task.SINGLE_LABEL: "softmax", Task.MULTI_LABEL: "sigmoid", Task.REGRESSION: "none"}
_TASK_OF = {function: task for task, function in _FUNCTION_OF.items()}


def score_function(config: Any, source: str, chosen: str | None, threshold: Any = None) -> str:
    """Return "softmax", "sigmoid" or "none", the function that makes scores of logits.

    Args:
        config: the model's; its task decides if none is chosen.
        source: name of the model for messages.
        chosen: the user's choice, or None.
        threshold: E108 is raised for "fitted" with a function that thresholds are not fitted to.
    """
    task = Task.of_config(config) or Task.SINGLE_LABEL
    function = chosen or _FUNCTION_OF[task]
    if chosen is None and config.problem_type is None and function == "sigmoid":
        text = (
            "names no problem_type, but AudioSet's labels: scores are sigmoids, one for each tag; set "
            "config.problem_type, or pass function_to_apply, for something else"
        )
        warn_once("W307", where=f"config of {source}", what=text)
    if isinstance(threshold, str) and threshold == FITTED and function != "sigmoid":
        what = f"{function!r} gives scores that the thresholds were not fitted to"
        fix = "use 'sigmoid', or give threshold a number"
        raise error("E108", where="function_to_apply", what=what, fix=fix)
    return function


class WindowScorer:
    """Scores of windows: logits, divided by the checkpoint's temperature, through a function.

    Args:
        config: the model's.
        function: result of `score_function`.
        rate: sampling rate in Hz.
    """

    def __init__(self, config: Any, function: str, rate: int) -> None:
        self._config = config
        self._task = _TASK_OF[function]
        self._temperature = 1.0 if function == "none" else config.temperature or 1.0
        self._rate = rate

    def __call__(self, window: WindowInputs, outputs: Any) -> ScoredWindow:
        """Return the scores of a window; `outputs` has its `logits` and perhaps `columns`, with a batch axis."""
        columns = outputs.get("columns")
        parts = None if columns is None else self._columns(window, columns[0])
        scores = self._scores(outputs["logits"])[0]
        return ScoredWindow(window.start, window.length, scores, window.levels, parts)

    def _scores(self, logits: Any) -> np.ndarray:
        return self._task.scores(logits.float().numpy(), self._temperature)

    def _columns(self, window: WindowInputs, logits: Any) -> Columns:
        """Return the scores of the columns that begin in the window; the others are padding."""
        times = np.array(column_times(self._config, window.frames)) - window.before / self._rate
        inside = (times[:, 1] > 0) & (times[:, 0] * self._rate < window.length)
        return Columns(self._scores(logits[: len(times)][inside]), times[inside])
