"""Results of an evaluation of timelines: F1 of segments and events, PSDS, and the baselines beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import plain_values
from ..metrics.timelines import Counts
from ..printing import printable
from ..versions import result_versions

#: Name of the outcome of the rules before a fit.
GIVEN = "before the fit"
#: Names of the baselines among the outcomes: every labelled class for all of the time, and no event at all.
ALWAYS = "always on"
NOTHING = "nothing"
#: Columns of the table, in order: key in results.json -> title.
COLUMNS = {
    "segment_micro": "segment F1",
    "segment_macro": "(macro)",
    "event_micro": "event F1",
    "event_macro": "(macro)",
    "psds": "PSDS1",
}
#: Classes in the printed table; per_class.csv has all of them.
_MOST_CLASSES = 40


@dataclass(frozen=True)
class TimelineOutcome:
    """Scores of one set of predicted events.

    Attributes:
        segments: counts of segments by class.
        events: counts of events by class.
        psds: PSDS1 in [0, 1]; None if it was not computed.
        psds_classes: PSDS of single classes.
        psds_exact: False if long recordings made PSDS a lower bound.
    """

    segments: Counts
    events: Counts
    psds: float | None = None
    psds_classes: dict[str, float] = field(default_factory=dict)
    psds_exact: bool = True

    def values(self) -> dict[str, float | None]:
        """Return the values of `COLUMNS`."""
        return {
            "segment_micro": self.segments.micro,
            "segment_macro": self.segments.macro,
            "event_micro": self.events.micro,
            "event_macro": self.events.macro,
            "psds": self.psds,
        }


@dataclass(frozen=True)
class TimelineFit:
    """Rules that were fitted on a split.

    Attributes:
        fitted_on: name of the split.
        target: "event" or "segment", whose macro F1 was maximised.
        before: that F1 of the given rules on that split.
        after: that F1 of the fitted rules on that split.
        recordings: number of its recordings.
        unfitted: labels without reference there, which keep the given threshold.
        unread: its recordings that could not be read -> why.
    """

    fitted_on: str
    target: str
    before: float
    after: float
    recordings: int
    unfitted: list[str]
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TimelineEvaluation:
    """Result of `evaluate_timelines`.

    Attributes:
        folder: folder of the files.
        checkpoint: name as in the call.
        source: the data set.
        split: the evaluated split.
        labels: the model's labels, in the order of all counts.
        seconds: length of the evaluated recordings together.
        recordings: number of evaluated recordings.
        unread: recording -> why it is not in the scores.
        rules: the rules of the events with the sizes of the windows, as in `timeline` of a configuration.
        segment_seconds: length of a segment.
        collar_seconds: tolerance of onsets and offsets.
        outcomes: by name: the checkpoint's, with a fit `"before the fit"`, `"always on"` and `"nothing"`.
        fit: what was fitted, or None.
        versions: of the packages that affect results.
        device: where the model computed.
        precision: of its arithmetic: `"float32"`, `"bfloat16"`, `"float16"` or `"int8"`.
    """

    folder: Path
    checkpoint: str
    source: str
    split: str
    labels: list[str]
    seconds: float
    recordings: int
    unread: dict[str, str]
    rules: dict[str, Any]
    segment_seconds: float
    collar_seconds: float
    outcomes: dict[str, TimelineOutcome]
    fit: TimelineFit | None = None
    versions: dict[str, str] = field(default_factory=result_versions)
    device: str = "cpu"
    precision: str = "float32"

    @property
    def main(self) -> TimelineOutcome:
        """Outcome of the checkpoint."""
        return self.outcomes[self.checkpoint]

    @property
    def without_reference(self) -> list[str]:
        """Labels of the model that the reference does not have; they have no F1."""
        counts = self.main.events.reference
        return [label for label, count in zip(self.labels, counts, strict=True) if not count]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each label: counts, F1 and PSDS; NaN for labels without reference."""
        segments, events = self.main.segments, self.main.events
        return [
            {
                "index": index,
                "label": label,
                "events": int(events.reference[index]),
                "predicted_events": int(events.predicted[index]),
                "correct_events": int(events.hits[index]),
                "event_f1": float(events.f1[index]),
                "segments": int(segments.reference[index]),
                "predicted_segments": int(segments.predicted[index]),
                "correct_segments": int(segments.hits[index]),
                "segment_f1": float(segments.f1[index]),
                "psds": self.main.psds_classes.get(label, float("nan")),
            }
            for index, label in enumerate(self.labels)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json; NaN becomes None."""
        names = ("source", "split", "checkpoint", "recordings", "seconds", "unread", "rules", "versions")
        definitions = {
            "segment_seconds": self.segment_seconds,
            "collar_seconds": self.collar_seconds,
            "psds": "PSDS1 (dtc 0.7, gtc 0.7, alpha_st 1, 100 false positives an hour)",
            "psds_is_exact": self.main.psds_exact,
        }
        return plain_values(
            {
                **{name: getattr(self, name) for name in names},
                "definitions": definitions,
                "metrics": {name: outcome.values() for name, outcome in self.outcomes.items()},
                "fit": None if self.fit is None else asdict(self.fit),
                "labels": self.labels,
                "without_reference": self.without_reference,
                "device": self.device,
                "precision": self.precision,
            }
        )

    def table(self) -> str:
        """Return text: the scores beside those of the baselines, then each class."""
        titles = {name: printable(name) for name in self.outcomes}
        first = max(map(len, (*titles.values(), "model")))
        lines = [f"{'model':{first}}  " + "  ".join(f"{title:>10}" for title in COLUMNS.values())]
        for name, outcome in self.outcomes.items():
            cells = "  ".join(f"{_cell(value):>10}" for value in outcome.values().values())
            lines.append(f"{titles[name]:{first}}  {cells}")
        return "\n".join([*lines, "", *self._class_lines(), "", *self._notes()])

    def _class_lines(self) -> list[str]:
        rows = [row for row in self.rows() if row["events"]]
        width = max([len(printable(row["label"])) for row in rows] + [len("class")])
        lines = [
            f"{'class':{width}}  {'events':>7}  {'found':>7}  {'right':>7}  event F1  segment F1   PSDS1"
        ]
        for row in rows[:_MOST_CLASSES]:
            counts = "  ".join(f"{row[name]:7d}" for name in ("events", "predicted_events", "correct_events"))
            scores = f"{_cell(row['event_f1']):>8}  {_cell(row['segment_f1']):>10}  {_cell(row['psds']):>6}"
            lines.append(f"{printable(row['label']):{width}}  {counts}  {scores}")
        if len(rows) > _MOST_CLASSES:
            lines.append(f"... and {len(rows) - _MOST_CLASSES} more in per_class.csv")
        return lines

    def _notes(self) -> list[str]:
        hours = f"{self.seconds / 60:.1f} min"
        place = f"rows, numbers and predicted events are in {printable(self.folder)}"
        lines = [f"{self.recordings} recordings of {printable(self.split)}, {hours}; {place}"]
        lines.append(f"computed on {self.device} in {self.precision}")
        if absent := self.without_reference:
            lines.append(f"labels of the model that are not in the reference, and have no F1: {len(absent)}")
        if self.main.psds is None:
            lines.append('PSDS needs sed_scores_eval: pip install "ast_hf[timelines]"')
        elif not self.main.psds_exact:
            lines.append("PSDS is a lower bound: the recordings are too long for all thresholds")
        for name, reason in self.unread.items():
            lines.append(f"not in the scores: {printable(name)}: {reason}")
        if self.fit is not None:
            fit = self.fit
            lines.append(
                f"rules fitted on {printable(fit.fitted_on)} ({fit.recordings} recordings): "
                f"{fit.target} F1 (macro) {fit.before:.4f} -> {fit.after:.4f}"
            )
            for name, reason in fit.unread.items():
                lines.append(f"not in the fit: {printable(name)}: {reason}")
        return lines


def _cell(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"
