"""What commands print: results as a table, and less noise from libraries."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .training import Report


_METHODS = {
    "model": "AST",
    "baseline": "logistic regression baseline",
    "chance": "always the most frequent class",
}


def quiet_transformers() -> None:
    """No bars for loading and saving weights, no load reports: what matters is raised or warned about by us."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.showwarning = _print_warning  # type: ignore[assignment]


def _print_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning as one line, without the place in our code that raised it."""
    from tqdm import tqdm

    tqdm.write(f"{category.__name__}: {message}", file=sys.stderr)


def print_results(report: Report) -> None:
    """The model's and the baseline's result on each split, side by side."""
    names = list(report.results)
    rows = [(_METHODS[method], values) for method, values in report.by_method().items()]
    first = max(len(name) for name, _ in rows)
    print()
    print(f"{report.metric:{first}}  " + "  ".join(f"{name:>{max(len(name), 6)}}" for name in names))
    for label, values in rows:
        print(f"{label:{first}}  " + "  ".join(f"{values[name]:>{max(len(name), 6)}.3f}" for name in names))
    clips = ", ".join(f"{count} {name}" for name, count in report.clips.items())
    print(f"\n{report.training_clips} training clips; evaluated on {clips}; trained for {report.seconds / 60:.1f} min.")
    print(f"Checkpoint, curves.png and README.md (model card): {report.folder}")
    if report.published:
        print(f"Published: {report.published}")
