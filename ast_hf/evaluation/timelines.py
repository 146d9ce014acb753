"""Evaluation of a checkpoint's timelines on recordings whose labels have times, and fitting of their rules.

    evaluation = evaluate_timelines("outputs/birds", "birds.csv", output_dir="outputs/birds_timelines")
    print(evaluation.table())

What the numbers mean is in `docs/how-to/evaluate-timelines.md`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..data.naming_conventions import SPLIT_NAMES, Source
from ..data.timed_labels import TimedRecording, load_timed_labels
from ..errors import did_you_mean, error, not_a_choice, shortlist
from ..files import write_text
from ..label_order import model_labels
from ..metrics.psds import is_psds_available, psds
from ..metrics.timelines import (
    COLLAR_SECONDS,
    SEGMENT_SECONDS,
    Predictions,
    Reference,
    check_not_negative,
    check_positive,
    event_counts,
    segment_counts,
)
from ..reports.timeline_results import (
    ALWAYS,
    GIVEN,
    NOTHING,
    TimelineEvaluation,
    TimelineFit,
    TimelineOutcome,
)
from ..task import Task
from ..timelines.events import Event
from ..timelines.rules import MEANS, TimelineRules
from ..writing_failures import check_file
from .members import load_member
from .prediction import checked_device
from .request_checks import Request, check_counts, check_request
from .timeline_files import write_timeline_evaluation
from .timeline_fitting import GAIN, TARGETS, Criterion, Fitted, fit_rules
from .timeline_scoring import ScoredRecordings, TimelineModel, always_on, ranked, show_name

#: Rules that a fit chooses, unless they are given.
_FITTED_RULES = ("low_threshold", "min_seconds", "gap_seconds")
#: Arguments of a timeline.
RULES = (
    "window_seconds",
    "hop_seconds",
    "threshold",
    *_FITTED_RULES,
    "silence_db",
    "method",
    "column_weight",
)
#: Formats of the predicted events: those with one file for all recordings.
FORMATS = ("csv", "json", "parquet")


def evaluate_timelines(
    checkpoint: str,
    source: Source,
    *,
    output_dir: str | Path,
    split: str = "test",
    rules: Mapping[str, Any] | None = None,
    fit_on: str | None = None,
    fit_target: str = "event",
    store: bool = False,
    segment_seconds: float = SEGMENT_SECONDS,
    collar_seconds: float = COLLAR_SECONDS,
    format: str = "csv",
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    **reading: Any,
) -> TimelineEvaluation:
    """Evaluate the events with times that a checkpoint finds in recordings.

    Segment F1, event F1 and PSDS1 (with the extra `timelines`) are computed beside two baselines: every label of
    the reference for the whole of each recording, and nothing. A label without reference has no F1; its events
    count as wrong in the micro F1. Recordings that cannot be read are named and left out of the scores.

    Args:
        checkpoint: folder or name on the Hub.
        source: labels with times, as for `load_timed_labels`.
        output_dir: folder for `results.json`, `per_class.csv` and the predicted events (`events.csv`).
        split: the split to evaluate.
        rules: arguments of a timeline, named as in the pipeline: `window_seconds`, `hop_seconds`, `threshold`,
            `low_threshold`, `min_seconds`, `gap_seconds`, `silence_db`, `method`, `column_weight`. What is missing
            is as stored in the checkpoint, else the pipeline's default.
        fit_on: another split, on which each label's threshold is fitted, and unless they are given the low
            threshold, `min_seconds`, `gap_seconds` and whether columns are used (`column_weight` 0 or 1); also the
            mean of overlapping windows.
        fit_target: "event" or "segment", whose macro F1 the fit maximises.
        store: write the fitted rules into the `config.json` of the checkpoint, where the pipeline reads them.
        segment_seconds: length of a segment of segment F1.
        collar_seconds: tolerance of event F1 for onsets, and for offsets unless a fifth of the event is longer.
        format: format of the predicted events: "csv", "json" or "parquet".
        batch_size: windows at a time; if None, 8 on a CPU and 64 on a GPU.
        device: device of the model; if None, a GPU if there is one.
        precision: as for `evaluate_checkpoints`.
        **reading: as for `load_timed_labels`: `recordings`, `label_column`, `split_column`, ...

    Raises:
        AstInputError: E108 for arguments that are impossible or contradict each other.
        AstDataError: E208 for labels that the model does not have and for impossible times, E209 for splits and
            if no recording can be read, and errors of reading.
        AstConfigError: E306 for a broken checkpoint, E302 for a precision that is not possible.
        AstRunError: E401 for a result that cannot be written.
    """
    request = Request([checkpoint], Path(output_dir), split, False, False, fit_on, store, None)
    check_request(request)
    check_counts(batch_size=(batch_size, 1))
    if store:
        check_file(Path(checkpoint) / "config.json")
    criterion = _criterion(fit_target, segment_seconds, collar_seconds)
    given = _given(rules, request)
    if format not in FORMATS:
        raise not_a_choice("E108", where="format", value=format, choices=FORMATS)
    model_device = checked_device(device, precision)
    member = load_member(checkpoint)
    parts = {name: load_timed_labels(source, split=name, **reading) for name in request.splits}
    for name, part in parts.items():
        _check_labels(part, model_labels(member.config), name)
    model = TimelineModel(
        member, given, batch_size, model_device, precision=precision, keeps=fit_on is not None
    )
    chosen, fit = model.rules, None
    if fit_on is not None:
        fixed = [name for name in _FITTED_RULES if name in given]
        chosen, fit = _fit(model, parts[fit_on], fit_on, criterion, fixed, _folder(source))
    evaluation, events = _evaluate(model, parts[split], chosen, fit, request, source, criterion)
    write_timeline_evaluation(evaluation, events, format)
    if store:
        store_timeline(checkpoint, evaluation.rules, member.config.problem_type, exclusive=model.exclusive)
    return evaluation


def _criterion(target: str, segment_seconds: float, collar_seconds: float) -> Criterion:
    if target not in TARGETS:
        raise not_a_choice("E108", where="fit_target", value=target, choices=TARGETS)
    check_positive("segment_seconds", segment_seconds)
    check_not_negative(collar_seconds=collar_seconds)
    return Criterion(target, float(segment_seconds), float(collar_seconds))


def _given(rules: Mapping[str, Any] | None, request: Request) -> dict[str, Any]:
    """Return the given rules; raise E108 for unknown ones, and for a fit that contradicts the other arguments."""
    given = {name: value for name, value in (rules or {}).items() if value is not None}
    for name in given:
        if name not in RULES:
            raise error("E108", where=f"rules: {name}", what="is not a rule", fix=did_you_mean(name, RULES))
    if request.fit_on is None:
        return given
    if _split_name(request.fit_on) == _split_name(request.split):
        what = f"{request.fit_on!r} is the evaluated split: results on the recordings of the fit are too optimistic"
        raise error("E108", where="fit_on", what=what, fix="fit on a validation split")
    if "threshold" in given:
        what = "is given, but fit_on chooses the thresholds"
        raise error("E108", where="threshold", what=what, fix="leave one of the two out")
    return given


def _split_name(name: str) -> str:
    return SPLIT_NAMES.get(name.lower(), name)


def _check_labels(recordings: Mapping[str, TimedRecording], labels: Sequence[str], split: str) -> None:
    """Raise E208 for labels that the model does not have, with the nearest one; E209 if there is no event."""
    used = {event.label: name for name, part in recordings.items() for event in part.events}
    unknown = sorted(used.keys() - {*labels})
    if unknown:
        what = f"the model does not have {shortlist(unknown)} (first in {used[unknown[0]]!r})"
        fix = f"{did_you_mean(unknown[0], labels)}, or leave them out: drop_labels= of evaluate_timelines"
        raise error("E208", where=f"split {split!r}", what=what, fix=fix)
    if not used:
        what = "has no labelled sound"
        raise error("E209", where=f"split {split!r}", what=what, fix="choose a split with labels")


def _classes(recordings: Mapping[str, TimedRecording], labels: Sequence[str]) -> list[int]:
    """Return the indices of the labels that the reference has."""
    present = {event.label for part in recordings.values() for event in part.events}
    return [index for index, label in enumerate(labels) if label in present]


def _fit(
    model: TimelineModel,
    recordings: Mapping[str, TimedRecording],
    split: str,
    criterion: Criterion,
    fixed: Sequence[str],
    folder: Path,
) -> tuple[TimelineRules, TimelineFit]:
    """Return the rules of best F1 on a split, and what the fit did."""
    classes = _classes(recordings, model.labels)
    best: Fitted | None = None
    before = math.nan
    means = dict.fromkeys((model.rules.mean, *MEANS))
    for weight, mean in itertools.product(model.column_weights, means):
        rules = model.rules.replace(mean=mean, column_weight=weight)
        scored = _score(model, recordings, classes, rules, split)
        reference = _reference(recordings, scored.curves)
        fitted = fit_rules(reference, scored.curves, model.labels, classes, rules, criterion, fixed)
        before = fitted.before if best is None else before
        if best is None or fitted.after > best.after + GAIN:
            best = fitted
    assert best is not None
    fitted = best._replace(before=before)
    model.forget()
    unread = {show_name(name, folder): reason for name, reason in scored.unread.items()}
    fit = TimelineFit(
        split, criterion.target, fitted.before, fitted.after, len(reference), fitted.unfitted, unread
    )
    return fitted.rules, fit


def _score(
    model: TimelineModel,
    recordings: Mapping[str, TimedRecording],
    classes: Sequence[int],
    rules: TimelineRules,
    split: str,
) -> ScoredRecordings:
    """Score the recordings of a split; raise E209 if none can be read."""
    lengths = {name: part.seconds for name, part in recordings.items()}
    scored = model.score(lengths, classes, rules, f"timelines of {split}")
    if not scored.curves:
        name, reason = next(iter(scored.unread.items()))
        what = f"has no recording that can be evaluated; {name!r}: {reason}"
        raise error("E209", where=f"split {split!r}", what=what, fix="replace the files")
    return scored


def _reference(
    recordings: Mapping[str, TimedRecording], readable: Mapping[str, Any]
) -> dict[str, tuple[float, list[Event]]]:
    return {name: (part.seconds, part.events) for name, part in recordings.items() if name in readable}


def _evaluate(
    model: TimelineModel,
    recordings: Mapping[str, TimedRecording],
    rules: TimelineRules,
    fit: TimelineFit | None,
    request: Request,
    source: Source,
    criterion: Criterion,
) -> tuple[TimelineEvaluation, dict[str, list[Event]]]:
    """Return the evaluation of a split, and the predicted events by the recordings' names."""
    classes = _classes(recordings, model.labels)
    scored = _score(model, recordings, classes, rules, request.split)
    reference = _reference(recordings, scored.curves)
    labels = [model.labels[index] for index in classes]
    measure = _Measure(reference, model.labels, labels, criterion)
    outcomes = {
        request.checkpoints[0]: measure.outcome(
            {name: scored.events[name] for name in reference},
            ranked(scored.curves, rules, classes, len(model.labels)),
        ),
    }
    if fit is not None:
        before = _score(model, recordings, classes, model.rules, request.split)
        outcomes[GIVEN] = measure.outcome(
            {name: before.events[name] for name in reference},
            ranked(before.curves, model.rules, classes, len(model.labels)),
        )
    outcomes |= {ALWAYS: measure.always_on(), NOTHING: measure.nothing()}
    folder = _folder(source)
    evaluation = TimelineEvaluation(
        request.output_dir,
        request.checkpoints[0],
        str(source),
        request.split,
        model.labels,
        sum(seconds for seconds, _ in reference.values()),
        len(reference),
        {show_name(name, folder): reason for name, reason in scored.unread.items()},
        model.stored_rules(rules),
        criterion.segment_seconds,
        criterion.collar_seconds,
        outcomes,
        fit,
        device=str(model.placement.device),
        precision=model.placement.precision,
    )
    return evaluation, {show_name(name, folder): events for name, events in scored.events.items()}


def _folder(source: Source) -> Path:
    """Return the folder below which recordings have short names."""
    if not isinstance(source, (str, Path)):
        return Path.cwd()
    path = Path(source).expanduser()
    return path if path.is_dir() else path.parent


class _Measure(NamedTuple):
    """Scores of predicted events against a reference: `labels` are those of the model, `present` those in it."""

    reference: Reference
    labels: list[str]
    present: list[str]
    criterion: Criterion

    def outcome(self, predictions: Predictions, curves: Any = None) -> TimelineOutcome:
        """Return the scores; PSDS of `curves` of the classes in `present`, if its library is installed."""
        seconds, collar = self.criterion.segment_seconds, self.criterion.collar_seconds
        segments = segment_counts(self.reference, predictions, self.labels, segment_seconds=seconds)
        events = event_counts(self.reference, predictions, self.labels, collar_seconds=collar)
        if curves is None or not is_psds_available():
            return TimelineOutcome(segments, events)
        result = psds(self.reference, curves, self.present)
        return TimelineOutcome(segments, events, result.value, result.classes, result.exact)

    def always_on(self) -> TimelineOutcome:
        """Return the scores of the baseline that predicts every label in the reference for all of the time."""
        lengths = {name: seconds for name, (seconds, _) in self.reference.items()}
        flat = {
            name: (np.array([0.0, seconds]), np.ones((1, len(self.present))))
            for name, seconds in lengths.items()
        }
        return self.outcome(always_on(lengths, self.present), flat)

    def nothing(self) -> TimelineOutcome:
        """Return the scores of the baseline without events, whose PSDS is 0."""
        scores = self.outcome({name: [] for name in self.reference})
        return replace(scores, psds=0.0) if is_psds_available() else scores


def store_timeline(
    folder: str | Path, rules: Mapping[str, Any], problem_type: str | None, *, exclusive: bool
) -> None:
    """Write rules of timelines into a checkpoint's `config.json`, where the pipeline reads them.

    Scores depend on the task, so it is written as `problem_type` if the configuration has none.
    """
    path = Path(folder) / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["timeline"] = dict(rules)
    task = Task.SINGLE_LABEL if exclusive else Task.MULTI_LABEL
    content["problem_type"] = problem_type or task.value
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
