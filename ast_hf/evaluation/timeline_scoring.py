"""Score curves and events of recordings by a checkpoint, with those that cannot be read named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..acceleration.placement import default_batch_size, place
from ..audio_clips import PART_TOLERANCE
from ..errors import AstHfError
from ..inference.pipeline import ASTAudioClassificationPipeline
from ..printing import visible
from ..progress import progress_bar
from ..timelines.builder import ScoreCurve, curve_events, score_curve
from ..timelines.events import Event
from ..timelines.hysteresis import best_only, ranking_curve
from ..timelines.rules import TimelineRules
from .members import Member, load_model

#: Errors of one recording: its content and its path, or a length below the window. The others are of the call.
_OF_RECORDING = ("E101", "E103", "E104", "E106", "E201", "E202", "E203", "E204", "E205", "E206", "E207")


#: Values of `column_weight` that a fit tries: how good the columns are depends on the training of the checkpoint.
COLUMN_WEIGHTS = (0.0, 1.0)


class ScoredRecordings(NamedTuple):
    """Recordings as a model heard them.

    Attributes:
        curves: recording -> curves of the classes that were asked for, float32, to be fitted or ranked; for
            single-label models 0 where another class is better.
        events: recording -> predicted events of all classes; those of a damaged file up to the damage.
        unread: recording -> why its curves are missing.
    """

    curves: dict[str, ScoreCurve]
    events: dict[str, list[Event]]
    unread: dict[str, str]


class TimelineModel:
    """Checkpoint that scores recordings by the rules of a timeline.

    Args:
        member: the checkpoint.
        arguments: arguments of a timeline, as for the pipeline: `window_seconds`, `threshold`, ...; None for the
            pipeline's defaults.
        batch_size: windows at a time; None for what fits the device.
        device: of the model.
        precision: of its arithmetic, see `place`.
        keeps: keep the scores of windows until `forget`, to try several rules.

    Attributes:
        labels: names of the classes, in the model's order.
        rules: rules of the events.
        placement: where and in which precision the model computes.
        column_weights: values of `column_weight` to try; more than one if it is not given and windows are kept.
        exclusive: whether one label excludes the others.

    Raises:
        AstInputError: E108 for impossible arguments.
    """

    def __init__(
        self,
        member: Member,
        arguments: Mapping[str, Any],
        batch_size: int | None,
        device: torch.device,
        *,
        precision: str | None = None,
        keeps: bool = False,
    ) -> None:
        model, self.placement = place(load_model(member).eval(), device, precision)
        self.pipe = ASTAudioClassificationPipeline(
            model=model, feature_extractor=member.extractor, device=device
        )
        self._arguments = {name: value for name, value in arguments.items() if value is not None}
        self._batch_size = batch_size or default_batch_size(device)
        self._keeps = keeps
        self._kept: dict[str, list[Any] | AstHfError] = {}
        call = self.pipe.call(return_timestamps=True, **self._arguments)
        assert call.rules is not None
        assert call.plan is not None
        self.labels: list[str] = call.labels
        self.rules: TimelineRules = call.rules
        self.column_weights: tuple[float, ...] = (call.rules.column_weight,)
        if keeps and "column_weight" not in self._arguments and self.pipe.has_columns:
            self.column_weights = tuple(dict.fromkeys((call.rules.column_weight, *COLUMN_WEIGHTS)))
            self._arguments["column_weight"] = 1.0  # any above 0 computes the columns
        self.plan = call.plan
        self.exclusive: bool = call.is_exclusive

    def stored_rules(self, rules: TimelineRules) -> dict[str, Any]:
        """Return rules with the sizes of the windows, as `timeline` of a configuration."""
        rate = self.plan.rate
        sizes = {"window_seconds": self.plan.samples / rate, "hop_seconds": self.plan.hop / rate}
        return {**sizes, **rules.as_dict()}

    def curve(self, source: str, rules: TimelineRules) -> ScoreCurve:
        """Return the score curves of a recording, float64 `(steps, classes)`; the model runs once for it."""
        return score_curve(self._windows(source), rules, self.plan, len(self.labels))

    def forget(self) -> None:
        """Drop the scores of windows that were kept for further rules."""
        self._kept.clear()

    def _windows(self, source: str) -> list[Any]:
        """Return the scored windows of a recording; keep them, or the error, if they are needed again."""
        found = self._kept.get(source)
        if isinstance(found, AstHfError):
            raise found
        if found is not None:
            return found
        try:
            windows = list(
                self.pipe.scored_windows(
                    source, batch_size=self._batch_size, return_timestamps=True, **self._arguments
                )
            )
        except AstHfError as problem:
            if self._keeps:
                self._kept[source] = problem
            raise
        if self._keeps:
            self._kept[source] = windows
        return windows

    def score(
        self, recordings: Mapping[str, float], classes: Sequence[int], rules: TimelineRules, text: str
    ) -> ScoredRecordings:
        """Return the curves and events of recordings.

        Args:
            recordings: path -> length in seconds.
            classes: indices of the classes whose curves are kept.
            rules: rules of the events.
            text: shown by the progress bar.
        """
        scored = ScoredRecordings({}, {}, {})
        for name, seconds in progress_bar(recordings.items(), desc=visible(text, keep=""), leave=False):
            try:
                curve = self.curve(name, rules)
            except AstHfError as problem:
                if problem.code not in _OF_RECORDING:
                    raise
                scored.unread[name] = f"[AST-{problem.code}] {problem.what}"
                continue
            scored.events[name] = curve_events(curve, self.labels, rules, self.exclusive)
            heard = float(curve.times[-1])
            if heard < seconds - PART_TOLERANCE:
                scored.unread[name] = f"unreadable from {heard:.1f} s on, of {seconds:.1f} s"
                continue
            kept = best_only(curve.scores) if self.exclusive else curve.scores
            scored.curves[name] = ScoreCurve(curve.times, kept[:, list(classes)].astype(np.float32))
        return scored


def ranked(curves: Mapping[str, ScoreCurve], rules: TimelineRules, classes: Sequence[int], count: int) -> Any:
    """Return curves whose steps above any h are the events of the rules with the threshold h, for PSDS.

    The low threshold keeps its share of the threshold. Shortest events and gaps are not applied.

    Args:
        curves: recording -> curves of some classes.
        rules: rules of the events.
        classes: indices of these classes.
        count: number of all classes.
    """
    if rules.method == "boxes":
        return {name: (curve.times, _box_ranking(curve, rules)) for name, curve in curves.items()}
    high, low = rules.thresholds(count)
    ratio = np.maximum(low / high, 1e-6)[list(classes)]
    return {name: (curve.times, ranking_curve(curve.scores, ratio)) for name, curve in curves.items()}


def _box_ranking(curve: ScoreCurve, rules: TimelineRules) -> np.ndarray:
    """Return a curve that is the mean of each box within it and 0 elsewhere: what thresholds of boxes compare."""
    scores = np.asarray(curve.scores, np.float64)
    labels = list(map(str, range(scores.shape[1])))
    every = TimelineRules.from_dict(
        {**rules.as_dict(), "threshold": 1e-6, "low_threshold": None, "min_seconds": 0.0, "gap_seconds": 0.0}
    )
    ranking = np.zeros_like(scores)
    for event in curve_events(ScoreCurve(curve.times, scores), labels, every):
        first, end = np.searchsorted(curve.times, (event.start, event.end))
        column = int(event.label)
        ranking[first:end, column] = scores[first:end, column].mean()
    return ranking


def always_on(recordings: Mapping[str, float], labels: Iterable[str]) -> dict[str, list[Event]]:
    """Return the baseline that predicts every label for the whole of each recording."""
    names = list(labels)
    return {name: [Event(0.0, seconds, label) for label in names] for name, seconds in recordings.items()}


def show_name(path: str, folder: str | Path) -> str:
    """Return the path of a recording below a folder, else all of it."""
    try:
        return Path(path).relative_to(Path(folder).resolve()).as_posix()
    except ValueError:
        return path
