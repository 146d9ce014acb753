"""Pictures of a run and of a cross-validation: loss, the main metric, and the simple methods to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pictures import save_picture, without_formulas
from .titles import METHOD_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .fold_results import CrossValidation
    from .run_results import Report

#: Line styles of the simple methods in the picture of a cross-validation.
_METHOD_STYLES = {"baseline": "--", "chance": ":"}
#: Markers of the final and the best epoch.
_EPOCH_MARKERS = {"final": "o", "best": "*"}


def draw_curves(history: list[dict[str, Any]], report: Report, path: Path) -> None:
    """Write a PNG with the losses while training, and a bar for each method on each evaluation split.

    Losses are over epochs, for a stream over steps. `history` is the Trainer's `state.log_history`.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(11, 4), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    _draw_loss(left, history, report)
    _draw_results(right, report)
    save_picture(figure, path)


def _draw_loss(axes: Axes, history: list[dict[str, Any]], report: Report) -> None:
    time = "step" if report.epochs is None else "epoch"
    watched = next(iter(report.watched), "validation")
    for key, label in (("loss", "training loss"), ("eval_loss", f"{without_formulas(watched)} loss")):
        points = [(entry[time], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    if report.kept is not None:
        place = report.kept.step if report.kept.epoch is None else report.kept.epoch
        axes.axvline(place, color="gray", linestyle=":", label="weights kept")
    axes.set(xlabel=time, ylabel="loss", title="Learning")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def _draw_results(axes: Axes, report: Report) -> None:
    splits = list(report.results)
    methods = report.by_method()
    width = 0.8 / len(methods)
    for number, (method, values) in enumerate(methods.items()):
        positions = [place + number * width for place in range(len(splits))]
        bars = axes.bar(positions, [values[split] for split in splits], width, label=METHOD_TITLES[method])
        axes.bar_label(bars, fmt="%.3f")
    centre = width * (len(methods) - 1) / 2
    names = [without_formulas(split) for split in splits]
    axes.set_xticks([place + centre for place in range(len(splits))], names)
    axes.set(ylim=(0, 1.08), ylabel=report.metric, title="Result")
    axes.legend()


def draw_folds(result: CrossValidation, path: Path) -> None:
    """Write a PNG with the metric on the test folds after each epoch: each fold, their mean and range.

    The final epoch, the best one, and the means of the simple methods are marked.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    _draw_epochs(axes, result)
    for name, marker in _EPOCH_MARKERS.items():
        spread = getattr(result, name)
        label = f"{name} epoch ({spread.epoch}): {spread.mean:.3f}"
        axes.plot(spread.epoch, spread.mean, marker, color="tab:orange", markersize=8, label=label)
    methods = result.by_method()
    for method, style in _METHOD_STYLES.items():
        if method in methods:
            axes.axhline(methods[method].mean, color="gray", linestyle=style, label=METHOD_TITLES[method])
    axes.set(xlabel="epoch", ylabel=result.metric, ylim=(0, 1.02), title="Test folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    save_picture(figure, path)


def _draw_epochs(axes: Axes, result: CrossValidation) -> None:
    """Draw each fold's curve, their mean, and their range."""
    epochs = list(range(1, len(result.epochs) + 1))
    for fold in result.folds:
        axes.plot(epochs, fold.curve.values, color="tab:blue", linewidth=0.7, alpha=0.5)
    lowest = [min(spread.values) for spread in result.epochs]
    highest = [max(spread.values) for spread in result.epochs]
    axes.fill_between(epochs, lowest, highest, color="tab:blue", alpha=0.15)
    label = f"AST, mean of {len(result.folds)} folds; thin: each, shaded: range"
    axes.plot(epochs, [spread.mean for spread in result.epochs], color="tab:blue", label=label)
