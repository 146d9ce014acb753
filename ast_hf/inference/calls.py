"""One call of the pipeline: the sizes of its windows, its rules, and what makes its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..errors import error, warn_once
from ..feature_extraction_ast import ASTFeatureExtractor
from ..timelines.builder import TimelineBuilder
from ..timelines.rules import TimelineRules
from ..timelines.windows import WindowPlan, plan_windows
from ..window_features import source_name
from .arguments import CLIP_RESULTS
from .folding import ClipScores, Timeline, WindowScores
from .progress import ReadingBar
from .recordings import Recording
from .rules import WINDOWS, stored, timeline_rules
from .scores import WindowScorer, score_function
from .urls import fetch, is_url

#: Share of a window that neighbours have in common in a timeline, unless a hop is chosen.
_TIMELINE_OVERLAP = 0.75


class Call:
    """One call of the pipeline, from its arguments and the constructor's.

    Args:
        config: configuration of the model.
        source: name of the model for messages.
        extractor: its feature extractor.
        preprocess: arguments of `Arguments.preprocess`.
        postprocess: arguments of `Arguments.postprocess`.

    Attributes:
        is_timeline: whether events with times are returned.
        plan: sizes of the windows; None for an extractor that is not ours.
        rules: rules of the timeline, or None.
        function: "softmax", "sigmoid" or "none".
        score: scorer of windows.

    Raises:
        AstInputError: E108 for arguments that are impossible together.
    """

    def __init__(
        self,
        config: Any,
        source: str,
        extractor: Any,
        preprocess: Mapping[str, Any],
        postprocess: Mapping[str, Any],
    ) -> None:
        self.config = config
        self.extractor = extractor
        self.rate: int = extractor.sampling_rate
        self.is_timeline = bool(postprocess.get("return_timestamps", False))
        self.aggregate = postprocess.get("aggregate")
        self.source_rate = preprocess.get("sampling_rate")
        self.is_chosen = "window_seconds" in preprocess
        threshold = None if self.is_timeline else postprocess.get("threshold")
        self.function = score_function(config, source, postprocess.get("function_to_apply"), threshold)
        self.score = WindowScorer(config, self.function, self.rate)
        self.clip_arguments = {name: postprocess[name] for name in CLIP_RESULTS if name in postprocess}
        self.plan = self._plan(preprocess)
        self.rules = self._rules(source, postprocess) if self.is_timeline else None

    def _plan(self, preprocess: Mapping[str, Any]) -> WindowPlan | None:
        if not isinstance(self.extractor, ASTFeatureExtractor):
            if self.is_timeline or {*WINDOWS} & preprocess.keys():
                kind = type(self.extractor)
                what = f"is {kind.__module__}.{kind.__name__}, which makes no windows"
                fix = "use ast_hf.ASTFeatureExtractor.from_pretrained(checkpoint)"
                raise error("E108", where="feature_extractor", what=what, fix=fix)
            return None
        fitted = stored(self.config) if self.is_timeline else {}
        sizes = {name: preprocess.get(name, fitted.get(name)) for name in WINDOWS}
        if self.is_chosen and "hop_seconds" not in preprocess:
            sizes["hop_seconds"] = None  # a stored hop belongs to the stored window
        overlap = _TIMELINE_OVERLAP if self.is_timeline else 0.0
        least = getattr(self.config, "patch_size", 1)
        return plan_windows(self.extractor.max_length, self.rate, **sizes, overlap=overlap, min_frames=least)

    def _rules(self, source: str, postprocess: Mapping[str, Any]) -> TimelineRules:
        if self.aggregate is not None:
            what = "has no effect on a timeline"
            raise error("E108", where="aggregate", what=what, fix="leave it or return_timestamps out")
        if self.function == "none":
            what = "needs scores in [0, 1], and logits or the numbers of a regression have other values"
            fix = "use function_to_apply 'softmax' or 'sigmoid'"
            raise error("E108", where="return_timestamps", what=what, fix=fix)
        return timeline_rules(self.config, source, postprocess, is_exclusive=self.is_exclusive)

    @property
    def labels(self) -> list[str]:
        """The model's labels, in the order of its outputs."""
        return [self.config.id2label[index] for index in range(self.config.num_labels)]

    @property
    def is_exclusive(self) -> bool:
        """Whether one label excludes the others."""
        return self.function == "softmax"

    @property
    def has_edges(self) -> bool:
        """Whether shorter windows at both ends of a recording count: in a mean of all windows over a time."""
        return self.rules is not None and self.rules.mean in ("arithmetic", "geometric", "harmonic")

    @property
    def needs_columns(self) -> bool:
        """Whether the scores of time columns are needed."""
        return self.rules is not None and self.rules.column_weight > 0

    def open(self, source: Any, *, is_joint: bool = False) -> Recording:
        """Return a recording to be read; `source` is what a call takes, and `is_joint` as for `Recording`."""
        rate = self.source_rate
        if rate is None and isinstance(source, (np.ndarray, torch.Tensor)):
            what = f"is missing, and {self.rate} Hz is assumed; pass sampling_rate= if the array has another"
            warn_once("W212", where="sampling_rate", what=what)
            rate = self.rate
        name = source_name(source)
        content = fetch(source) if is_url(source) else source
        bar = ReadingBar(name, self.rate)
        return Recording(
            content,
            self.extractor,
            self.plan,
            name,
            source_rate=rate,
            is_chosen=self.is_chosen,
            has_edges=self.has_edges,
            progress=bar,
            is_joint=is_joint,
        )

    def builder(self) -> TimelineBuilder:
        """Return the builder of one recording's timeline."""
        assert self.rules is not None
        assert self.plan is not None
        return TimelineBuilder(self.labels, self.rules, self.plan, self.is_exclusive)

    def fold(self, finish_whole: Any, finish: Any) -> Any:
        """Return what makes one recording's result of its windows.

        Args:
            finish_whole: makes entries of the outputs for a recording with one window.
            finish: makes entries of scores `(classes,)`.
        """
        if self.is_timeline:
            return Timeline(self.score, self.builder())
        if self.aggregate == "none":
            return WindowScores(self.score, finish, self.rate)
        return ClipScores(self.score, finish_whole, finish, is_max=self.aggregate == "max")
