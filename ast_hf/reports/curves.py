"""The run in one picture: loss over epochs (over steps, for a stream), and the result beside what it has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .fold_results import CrossValidation
    from .run_results import Report


_METHODS = {"model": "AST", "baseline": "logistic regression", "chance": "most frequent class"}


def draw_curves(history: list[dict[str, Any]], report: Report, path: Path) -> None:
    """Write a PNG with the losses while training and a bar per evaluation split, model beside baseline and chance.

    Args:
        history: the Trainer's `state.log_history`.
        report: what the run measured.
        path: the picture's file.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(11, 4), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    _draw_loss(left, history, report)
    _draw_results(right, report)
    figure.savefig(path)


def _draw_loss(axes: Axes, history: list[dict[str, Any]], report: Report) -> None:
    time = "step" if report.epochs is None else "epoch"
    watched = next(iter(report.watched), "validation")
    for key, label in (("loss", "training loss"), ("eval_loss", f"{_shown(watched)} loss")):
        points = [(entry[time], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel=time, ylabel="loss", title="Learning")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def _draw_results(axes: Axes, report: Report) -> None:
    names = list(report.results)
    series = {_METHODS[method]: [values[name] for name in names] for method, values in report.by_method().items()}
    width = 0.8 / len(series)
    shown = [_shown(name) for name in names]
    for number, (label, values) in enumerate(series.items()):
        bars = axes.bar([position + number * width for position in range(len(names))], values, width, label=label)
        axes.bar_label(bars, fmt="%.3f")
    axes.set_xticks([position + width * (len(series) - 1) / 2 for position in range(len(names))], shown)
    axes.set(ylim=(0, 1.08), ylabel=report.metric, title="Result")
    axes.legend()


def draw_folds(found: CrossValidation, path: Path) -> None:
    """Write a PNG: the metric on the test folds after each epoch, of each fold, their mean and range, beside what has
    to be beaten; the final epoch and the best one are marked.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    epochs = list(range(1, len(found.epochs) + 1))
    for fold in found.folds:
        axes.plot(epochs, fold.curve.values, color="tab:blue", linewidth=0.7, alpha=0.5)
    means = [spread.mean for spread in found.epochs]
    lowest, highest = ([pick(spread.values) for spread in found.epochs] for pick in (min, max))
    axes.fill_between(epochs, lowest, highest, color="tab:blue", alpha=0.15)
    axes.plot(
        epochs, means, color="tab:blue", label=f"AST, mean of {len(found.folds)} folds; thin: each, shaded: range"
    )
    for marker, name, spread in (("o", "final", found.final), ("*", "best", found.best)):
        label = f"{name} epoch ({spread.epoch}): {spread.mean:.3f}"
        axes.plot(spread.epoch, spread.mean, marker, color="tab:orange", markersize=8, label=label)
    for style, (method, label) in zip(("--", ":"), list(_METHODS.items())[1:], strict=True):
        if method in found.by_method():
            axes.axhline(found.by_method()[method].mean, color="gray", linestyle=style, label=label)
    axes.set(xlabel="epoch", ylabel=found.metric, ylim=(0, 1.02), title="Test folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path)


def _shown(name: str) -> str:
    """A split's name as matplotlib takes it: a dollar sign starts a formula."""
    return name.replace("$", r"\$")
