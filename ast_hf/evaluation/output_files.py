"""Files of an evaluation: results, table by class, pictures, logits."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..files import plain_values, write_json, write_text
from ..metrics.summary import as_tags
from ..printing import spreadsheet_text
from ..reports.evaluation_results import Evaluation
from ..task import Task
from .stored_logits import clip_digests, clip_keys, store_logits

#: Columns of numbers of clips.
_COUNTS = ("positives", "predicted")


def write_evaluation(evaluation: Evaluation, logits: np.ndarray, targets: np.ndarray, task: Task) -> None:
    """Write tables and pictures into the evaluation's folder, and results.json last.

    `logits` are those of `evaluation.main` on the evaluated split, `(clips, labels)`; `targets` are as
    `true_labels` returns them.
    """
    from ..reports.pictures import draw_confusion, draw_precision_recall

    folder = evaluation.folder
    labels = evaluation.labels
    _write_class_tables(evaluation)
    scores = task.scores(logits, evaluation.outcomes[evaluation.main].temperature)
    tags = as_tags(targets, len(labels), task)
    of = {"model": Path(evaluation.main).name, "split": evaluation.split}
    draw_precision_recall(scores, tags, labels, folder / "precision_recall.png", **of)
    if task is not Task.MULTI_LABEL:
        draw_confusion(scores.argmax(axis=1), targets, labels, folder / "confusion.png", **of)
    write_json(folder / "results.json", evaluation.to_dict())


def write_logits(path: str | Path, logits: np.ndarray, split: Dataset, evaluation: Evaluation) -> None:
    """Write the logits of `evaluation.main` on the evaluated split, see `load_logits`."""
    digests = clip_digests(split)
    store_logits(path, logits, clip_keys(split), evaluation.labels, evaluation.problem_type, digests)


def _write_class_tables(evaluation: Evaluation) -> None:
    """Write per_class.csv and per_class.json, a row for each model and label; NaN becomes empty or null.

    Columns are those of `Outcome.classes`, and `best_on`, the split that the columns after it are from.
    A spreadsheet shows the names in per_class.csv and runs none as a formula (`printing.spreadsheet_text`).
    """
    rows: list[dict[str, Any]] = []
    for model, outcome in evaluation.outcomes.items():
        for index, label in enumerate(evaluation.labels):
            values = {name: _cell(name, column[index]) for name, column in outcome.classes.items()}
            first_best = next(name for name in values if name.startswith("best_"))
            place = list(values).index(first_best)
            cells = [*values.items()]
            row: dict[str, Any] = {"model": model, "index": index, "label": label, **dict(cells[:place])}
            rows.append({**row, "best_on": outcome.best_on, **dict(cells[place:])})
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        texts = {name: spreadsheet_text(row[name]) for name in ("model", "label", "best_on")}
        table.writerow({**row, **texts})
    write_text(evaluation.folder / "per_class.csv", text.getvalue())
    write_json(evaluation.folder / "per_class.json", rows)


def _cell(name: str, value: Any) -> int | float | None:
    return int(value) if name in _COUNTS else plain_values(float(value))
