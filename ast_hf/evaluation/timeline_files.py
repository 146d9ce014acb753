"""Files of an evaluation of timelines: results, table by class, predicted events."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import plain_values, write_json, write_text
from ..printing import spreadsheet_text
from ..reports.timeline_results import TimelineEvaluation
from ..timelines.events import Event
from ..timelines.formats import write_events


def write_timeline_evaluation(
    evaluation: TimelineEvaluation, events: Mapping[str, Sequence[Event]], format: str
) -> None:
    """Write `events`, a table by class, and results.json last, into the evaluation's folder.

    `events` are the predicted ones by recording, also of recordings that are damaged after some time. NaN becomes
    empty or null. A spreadsheet shows the names in per_class.csv and runs none as a formula.
    """
    folder = evaluation.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_events(folder / f"events.{format}", list(events.items()), format)
    _write_class_table(folder / "per_class.csv", evaluation)
    write_json(folder / "results.json", evaluation.to_dict())


def _write_class_table(path: Path, evaluation: TimelineEvaluation) -> None:
    rows = evaluation.rows()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        values = {name: plain_values(value) for name, value in row.items()}
        table.writerow({**values, "label": spreadsheet_text(row["label"])})
    write_text(path, text.getvalue())
