"""What commands print: results as a table, and less noise from libraries."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .training import CrossValidation, Report


_METHODS = {
    "model": "AST",
    "baseline": "logistic regression baseline",
    "chance": "always the most frequent class",
}


_EPOCHS = ("final", "best")


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


def speaks() -> bool:
    """Whether this process prints and writes: of several the first one does. What starts several sets RANK."""
    return int(os.environ.get("RANK", "0")) == 0


def print_results(report: Report) -> None:
    """The model's and the baseline's result on each split, side by side."""
    names = list(report.results)
    rows = [(_METHODS[method], values) for method, values in report.by_method().items()]
    first = max(len(name) for name, _ in rows)
    print()
    print(f"{report.metric:{first}}  " + "  ".join(f"{name:>{max(len(name), 6)}}" for name in names))
    for label, values in rows:
        print(f"{label:{first}}  " + "  ".join(f"{values[name]:>{max(len(name), 6)}.3f}" for name in names))
    clips = ", ".join(f"{count} {name}" for name, count in report.clips.items()) or "nothing"
    took = f", in {report.seconds:.0f} s: {report.clips_per_second:.3g} clips/s" if report.seconds else ""
    print(f"\nTrained on {report.amount}{took}.")
    print(f"Trained {report.trained_parameters:,} parameters for a model of {report.parameters:,}.")
    for name, curve in report.watched.items():
        told = curve.to_dict()
        numbers = ", ".join(
            f"{told[part]['value']:.3f} at the {part} epoch ({told[part]['epoch']:g})" for part in _EPOCHS
        )
        print(f"{report.metric} on {name} while training: {numbers}, which was chosen on those clips.")
    print(f"Evaluated on {clips}.")
    print(f"Curves: {report.folder / report.picture}. Checkpoint, results.json and model card: {report.folder}.")
    if report.published:
        print(f"Published: {report.published}")


def print_folds(found: CrossValidation) -> None:
    """The final epoch, the best one and the simple methods: each fold, mean and standard deviation."""
    names = {**_METHODS, **{name: f"AST, {name} epoch ({getattr(found, name).epoch})" for name in _EPOCHS}}
    notes = {"best": "  chosen on these folds: overstates"}
    head = [f"{fold.name:>6}" for fold in found.folds]
    first = max(len(names[method]) for method in found.by_method())
    print(f"\n{found.metric + ' on test fold':{first}}  {'  '.join(head)}    mean +- standard deviation")
    for method, spread in found.by_method().items():
        values = "  ".join(f"{value:>{len(title)}.3f}" for value, title in zip(spread.values, head, strict=True))
        numbers = f"{spread.mean:.3f} +- {spread.standard_deviation:.3f}"
        print(f"{names[method]:{first}}  {values}   {numbers}{notes.get(method, '')}")
    minutes = sum(fold.seconds for fold in found.folds) / 60
    print(f"\nFolds: {found.origin}. {sum(fold.clips for fold in found.folds)} clips; trained for {minutes:.1f} min.")
    print(f"A checkpoint for each fold, folds.png and folds.json: {found.folder}")
