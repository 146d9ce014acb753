"""Names of methods and metrics in text, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Key in `Report.by_method` and `CrossValidation.by_method` -> title.
METHOD_TITLES = {
    "model": "AST",
    "baseline": "logistic regression baseline",
    "chance": "always the most frequent class",
}


class Metric(NamedTuple):
    """Name and meaning of a metric in cards; of a score, higher is better."""

    title: str
    meaning: str
    is_score: bool


#: Key in results -> metric, in the order of tables.
METRICS = {
    "accuracy": Metric("accuracy", "share of clips whose best-scored label is correct", True),
    "mAP": Metric("mAP", "mean average precision of the labels, each against the rest", True),
    "mAUC": Metric("mAUC", "mean area under the ROC curve of the labels, each against the rest", True),
    "d_prime": Metric("d-prime", "class separation that corresponds to mAUC, in standard deviations", True),
    "ECE": Metric("ECE", "expected calibration error, 15 bins", False),
    "NLL": Metric("NLL", "negative log likelihood, in nats", False),
}
#: Metrics for the Hub's lists of results.
SCORES = [name for name, metric in METRICS.items() if metric.is_score]


def detailed_split(splits: Iterable[str]) -> str:
    """Return the split whose labels and confusion are shown: `test`, which chose no weights, else the first one."""
    names = list(splits)
    return "test" if "test" in names else names[0]
