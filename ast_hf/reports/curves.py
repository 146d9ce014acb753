"""Pictures of a run and of a cross-validation: loss, the main metric, and the simple methods to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from .epoch_metrics import VALIDATION_PREFIX, WATCHED_PREFIX, Curve
from .picture_style import (
    BLUE,
    GREY,
    INK,
    NAME_SIZE,
    ORANGE,
    PALE,
    SKY,
    TITLE_SIZE,
    VERMILION,
    clips_text,
    is_sparse,
    shortened,
    write_heading,
    write_legend,
)
from .pictures import save_picture
from .titles import METHOD_TITLES, METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .fold_results import CrossValidation
    from .run_results import Report

#: Line styles of the simple methods in the picture of a cross-validation.
_METHOD_STYLES = {"baseline": "--", "chance": ":"}
#: Fill and hatch of each method's bars: told apart without colours, too.
_BARS = {"model": (BLUE, ""), "baseline": (ORANGE, "//"), "chance": (PALE, "..")}
#: Colour, line style and marker of the splits that are evaluated while training.
_WATCHED = ((VERMILION, "-", "o"), (SKY, "--", "s"))
#: Width of a panel, least height of the picture, and height of a bar and of a gap between splits, in inches.
_PANEL = 4.3
_HEIGHT = 4.4
_BAR = 0.21
_GAP = 0.16
#: Room for a name in a legend, and for a split's name beside its bars, in inches.
_LEGEND_NAME = 2.1
_SPLIT_NAME = 1.4


def draw_curves(history: list[dict[str, Any]], report: Report, path: Path) -> None:
    """Write a PNG with the losses, the metric while training, and bars of all methods on each evaluation split.

    Both are over epochs, for a stream over steps. `history` is the Trainer's `state.log_history`.
    """
    save_picture(curves_figure(history, report), path)


def curves_figure(history: list[dict[str, Any]], report: Report) -> Figure:
    """Return the picture of `draw_curves`; panels without content are left out, legends are below the panels."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    panels: list[Callable[[Axes, Report], None]] = [partial(_draw_loss, history=history)]
    if report.watched:
        panels.append(partial(_draw_metric, history=history))
    if report.results:
        panels.append(_draw_results)
    methods = len(report.by_method())
    bars = len(report.results) * (methods * _BAR + _GAP)
    size = (_PANEL * len(panels), max(_HEIGHT, bars + 1.9))
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    name = report.recipe.name or report.folder.name
    splits = [clips_text(split, report.clips.get(split)) for split in report.results]
    write_heading(figure, f"{name}: {', '.join(splits)}" if splits else name)
    parts = figure.subfigures(1, len(panels), squeeze=False)[0]
    for part, draw in zip(parts, panels, strict=True):
        axes = part.subplots()
        draw(axes, report)
        axes.tick_params(labelsize=NAME_SIZE)
        write_legend(part, axes)
    return figure


def _draw_loss(axes: Axes, report: Report, history: list[dict[str, Any]]) -> None:
    """Draw the loss of the training clips, and of each split that is evaluated while training."""
    time = _time(report)
    names = list(report.watched) or ["validation"]
    styles = {
        "loss": ("training", BLUE, "-", "."),
        f"{VALIDATION_PREFIX}_loss": (names[0], *_WATCHED[0]),
        f"{WATCHED_PREFIX}_loss": (names[-1], *_WATCHED[-1]),
    }
    for key, (name, colour, line, marker) in styles.items():
        points = [(entry[time], entry[key]) for entry in history if key in entry and time in entry]
        label = f"{shortened(name, _LEGEND_NAME)} loss"
        _plot(axes, points, label=label, color=colour, linestyle=line, marker=marker)
    _mark_kept(axes, report)
    _label_time(axes, time)
    axes.set_ylabel("loss", fontsize=NAME_SIZE)
    axes.set_title("Loss", fontsize=TITLE_SIZE)
    axes.grid(alpha=0.3)


def _draw_metric(axes: Axes, report: Report, history: list[dict[str, Any]]) -> None:
    """Draw the main metric of the splits that are evaluated while training, and the baseline there."""
    for (name, curve), (colour, line, marker) in zip(report.watched.items(), _WATCHED, strict=False):
        points = list(zip(_times(curve, history, report), curve.values, strict=True))
        label = shortened(clips_text(name, curve.clips), _LEGEND_NAME)
        _plot(axes, points, label=label, color=colour, linestyle=line, marker=marker)
        baseline = report.baseline.get(name)
        if _is_number(baseline):
            label = f"{METHOD_TITLES['baseline']}, {shortened(name, _LEGEND_NAME / 2)}"
            axes.axhline(baseline, color=INK, linestyle=line if line != "-" else "-.", lw=1, label=label)
    _mark_kept(axes, report)
    _label_time(axes, _time(report))
    axes.set_ylabel(_metric_title(report.metric), fontsize=NAME_SIZE)
    axes.set_ylim(-0.02, 1.03)
    title = _metric_title(report.metric)
    title = title.capitalize() if title.islower() else title  # mAP keeps its letters
    axes.set_title(f"{title} while training", fontsize=TITLE_SIZE)
    axes.grid(alpha=0.3)


def _draw_results(axes: Axes, report: Report) -> None:
    """Draw a group of bars for each split, from the top down, with the number at the end of each bar."""
    methods = report.by_method()
    step = len(methods) * _BAR + _GAP
    splits = list(report.results)
    for number, (method, values) in enumerate(methods.items()):
        places = [row * step + number * _BAR for row in range(len(splits))]
        colour, hatch = _BARS[method]
        measured = [values.get(split) for split in splits]
        lengths = [value if _is_number(value) else 0.0 for value in measured]
        bars = axes.barh(
            places, lengths, 0.85 * _BAR, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.4,
            label=METHOD_TITLES[method],
        )  # fmt: skip
        axes.bar_label(bars, [_number_text(value) for value in measured], padding=3, fontsize=NAME_SIZE)
    middle = _BAR * (len(methods) - 1) / 2
    axes.set_yticks(
        [row * step + middle for row in range(len(splits))],
        [shortened(split, _SPLIT_NAME) for split in splits],
    )
    axes.set_ylim(len(splits) * step - _BAR / 2, -_BAR)
    axes.set_xlim(0, 1.3)  # the numbers of full bars are within the axes
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel(_metric_title(report.metric), fontsize=NAME_SIZE)
    axes.set_title("After training", fontsize=TITLE_SIZE)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plot(axes: Axes, points: list[tuple[float, float]], *, marker: str, label: str, **style: Any) -> None:
    """Plot points if there are any; values that are not finite leave a gap."""
    if not points:
        return
    times, values = zip(*points, strict=True)
    finite = [value if _is_number(value) else math.nan for value in values]
    shape = marker if is_sparse(times) else ""
    axes.plot(times, finite, label=label, marker=shape, markersize=3.5, linewidth=1.3, **style)


def _mark_kept(axes: Axes, report: Report) -> None:
    """Mark the evaluation whose weights were saved, if the run has chosen one."""
    kept = report.kept
    if kept is None:
        return
    place = kept.step if report.epochs is None or kept.epoch is None else kept.epoch
    name = f"weights kept ({_time(report)} {place:g})"
    axes.axvline(place, color=GREY, linestyle=(0, (1, 1)), linewidth=2, label=name, zorder=0)


def _label_time(axes: Axes, time: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(time, fontsize=NAME_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _time(report: Report) -> str:
    """Return what the horizontal axes count, which is also its name in the Trainer's log."""
    return "step" if report.epochs is None else "epoch"


def _times(curve: Curve, history: list[dict[str, Any]], report: Report) -> list[float]:
    """Return the epochs of a curve, or for a stream, whose epochs are not counted, its steps."""
    if report.epochs is not None:
        return curve.epochs
    for prefix in (VALIDATION_PREFIX, WATCHED_PREFIX):
        key = f"{prefix}_{report.metric}"
        entries = [entry for entry in history if key in entry and "step" in entry]
        if [entry[key] for entry in entries] == curve.values:
            return [entry["step"] for entry in entries]
    return curve.epochs


def _metric_title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _number_text(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def draw_folds(result: CrossValidation, path: Path) -> None:
    """Write a PNG with the metric on the test folds after each epoch: each fold, their mean and range.

    The final epoch, the best one, and the means of the simple methods are marked.
    """
    save_picture(folds_figure(result), path)


def folds_figure(result: CrossValidation) -> Figure:
    """Return the picture of `draw_folds`; its legend is below the axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 5), layout="constrained", dpi=120)
    axes = figure.subplots()
    _draw_epochs(axes, result)
    # the rings are open and of two sizes: one does not cover the other where both epochs are the same
    for name, size, shape in (("final", 7, "o"), ("best", 10, "D")):
        spread = getattr(result, name)
        label = f"{name} epoch ({spread.epoch}): {spread.mean:.3f}"
        axes.plot(
            spread.epoch, spread.mean, shape, color=INK, markersize=size, markerfacecolor="none",
            linestyle="none", label=label,
        )  # fmt: skip
    methods = result.by_method()
    for method, style in _METHOD_STYLES.items():
        if method in methods:
            label = f"{METHOD_TITLES[method]}: {methods[method].mean:.3f}"
            axes.axhline(methods[method].mean, color=VERMILION, linestyle=style, label=label)
    axes.set(xlabel="epoch", ylabel=_metric_title(result.metric), ylim=(-0.03, 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    name = result.recipe.name or result.folder.name
    clips = sum(fold.clips for fold in result.folds)
    write_heading(figure, f"{name}: {len(result.folds)} test folds ({_plural(clips, 'clip')})")
    write_legend(figure, axes, columns=2)
    return figure


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _draw_epochs(axes: Axes, result: CrossValidation) -> None:
    """Draw each fold's curve, their mean, and their range."""
    epochs = list(range(1, len(result.epochs) + 1))
    shape = "." if is_sparse(epochs) else ""
    for fold in result.folds:
        axes.plot(epochs, fold.curve.values, color=BLUE, linewidth=0.7, alpha=0.5, marker=shape)
    axes.fill_between(epochs, *_ranges(spread.values for spread in result.epochs), color=BLUE, alpha=0.15)
    label = f"AST, mean of {len(result.folds)} folds; thin: each, shaded: range"
    axes.plot(epochs, [spread.mean for spread in result.epochs], color=BLUE, marker=shape, label=label)


def _ranges(values: Iterable[list[float]]) -> tuple[list[float], list[float]]:
    """Return the lowest and the highest of each list."""
    lists = list(values)
    return [min(part) for part in lists], [max(part) for part in lists]
