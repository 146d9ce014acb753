"""Pictures of an evaluation: confusion matrix, precision-recall curves, and average precision by class."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_bytes
from ..metrics.ranking import Ranking, average_precision, mean_over_classes, rank
from .picture_style import (
    BLUE,
    INK,
    NAME_SIZE,
    ORANGE,
    TITLE_SIZE,
    VERMILION,
    clips_text,
    shortened,
    text_inches,
    wrapped,
    write_heading,
    write_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of classes in a confusion matrix, and in one with numbers in its cells.
MAX_CLASSES = 50
MAX_NUMBERED = 20
#: Maximum number of bars for the best classes, and for the worst.
MAX_BARS = 12
#: Side of a cell of a confusion matrix, least side of the matrix, and room for a class name, in inches.
_CELL = 0.3
_LEAST_SIDE = 2.4
_NAME = 2.0
#: Maximum number of points of a curve: 500 curves of 20,000 points look the same and take minutes to draw.
MAX_POINTS = 500


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure of matplotlib as a PNG, atomically; raise E401 if it cannot be written."""
    content = io.BytesIO()
    with warnings.catch_warnings():  # names in scripts that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())


def confusion_counts(answers: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """Return the number of clips by true class (row) and predicted class (column), `(count, count)`."""
    return np.bincount(truth * count + answers, minlength=count * count).reshape(count, count)


def draw_confusion(
    answers: np.ndarray,
    truth: np.ndarray,
    labels: Sequence[str],
    path: Path,
    *,
    model: str = "",
    split: str = "",
) -> None:
    """Write a PNG of the confusion matrix; each row is divided by its clips, so that the diagonal is recall.

    Classes that occur neither as truth nor as answer are left out. Of more than 50, those with most mistakes
    are shown.

    Args:
        answers: predicted class indices, `(clips,)`.
        truth: true class indices, `(clips,)`.
        labels: names of the classes.
        path: the picture's file.
        model: name of the model, for the heading.
        split: name of the split, for the heading.
    """
    save_picture(confusion_figure(answers, truth, labels, model=model, split=split), path)


def confusion_figure(
    answers: np.ndarray, truth: np.ndarray, labels: Sequence[str], *, model: str = "", split: str = ""
) -> Figure:
    """Return the picture of `draw_confusion`; its size follows from the number of classes and their names."""
    from matplotlib.figure import Figure

    counts = confusion_counts(answers, truth, len(labels))
    indices = most_confused(counts)
    clips = counts.sum(axis=1)
    shares = (counts / np.maximum(clips, 1)[:, None])[np.ix_(indices, indices)]
    names = [shortened(labels[index], _NAME) for index in indices]
    names_and_clips = [f"{name} ({clips[index]})" for name, index in zip(names, indices, strict=True)]
    side = max(_CELL * len(indices), _LEAST_SIDE)
    room = max((text_inches(name, NAME_SIZE) for name in names_and_clips), default=0.0)
    figure = Figure(figsize=(side + room + 2.0, side + room + 2.0), layout="constrained", dpi=110)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(indices)), names, rotation=90, fontsize=NAME_SIZE)
    axes.set_yticks(range(len(indices)), names_and_clips, fontsize=NAME_SIZE)
    title = "Share of each row"
    if len(indices) < np.count_nonzero(clips + counts.sum(axis=0)):
        title += f", the {len(indices)} of {len(labels)} classes with most mistakes"
    axes.set_title(wrapped(title, side, TITLE_SIZE), fontsize=TITLE_SIZE)
    axes.set(xlabel="answer", ylabel="true class (clips)")
    if len(indices) <= MAX_NUMBERED:
        _write_numbers(axes, shares)
    figure.colorbar(image, ax=axes, shrink=0.7)
    write_heading(figure, _heading("Confusion", model, split, len(truth)))
    return figure


def _heading(what: str, model: str, split: str, clips: int) -> str:
    """Return the name of the model, the split with its clips, and the content of a picture."""
    parts = [part for part in (model, clips_text(split or "all", clips)) if part]
    return f"{what}: {', '.join(parts)}"


def most_confused(counts: np.ndarray) -> list[int]:
    """Return the indices of the classes that occur in a matrix of counts; at most 50, with most mistakes."""
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    occurring = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    worst = occurring[np.argsort(-mistakes[occurring], kind="stable")][:MAX_CLASSES]
    return sorted(worst.tolist())


def _write_numbers(axes: Axes, shares: np.ndarray) -> None:
    """Write the share into each cell above 0."""
    for row, column in np.argwhere(shares > 0):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)


def draw_precision_recall(
    scores: np.ndarray,
    tags: np.ndarray,
    labels: Sequence[str],
    path: Path,
    *,
    model: str = "",
    split: str = "",
) -> None:
    """Write a PNG with precision-recall curves of each class and of all decisions together, and bars of AP.

    Scores and bool `tags` are `(clips, classes)`; single-label classes are one against the rest. `model` and
    `split` are names for the heading.
    """
    save_picture(precision_recall_figure(scores, tags, labels, model=model, split=split), path)


def precision_recall_figure(
    scores: np.ndarray, tags: np.ndarray, labels: Sequence[str], *, model: str = "", split: str = ""
) -> Figure:
    """Return the picture of `draw_precision_recall`; its legend is below the curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained", dpi=110)
    write_heading(figure, _heading("Precision and recall", model, split, len(scores)))
    left_part, right_part = figure.subfigures(1, 2, squeeze=False)[0]
    left = left_part.subplots()
    by_class = np.array([_draw_curve(left, scores[:, index], tags[:, index]) for index in range(len(labels))])
    together = _draw_curve(left, scores.ravel(), tags.ravel(), color=VERMILION, linewidth=2.5, alpha=1.0)
    left.lines[-1].set_label(f"all decisions together (AP {together:.3f})")
    if left.lines[:-1]:
        left.lines[0].set_label("each class")
    mean, classes = mean_over_classes(by_class)
    left.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.02, 1.03))
    left.set_title(f"Each of {classes} classes; mean AP {mean:.3f}", fontsize=TITLE_SIZE)
    left.grid(alpha=0.3)
    write_legend(left_part, left, columns=2)
    right = right_part.subplots()
    _draw_bars(right, by_class, tags.sum(axis=0), labels)
    return figure


def _draw_curve(axes: Axes, scores: np.ndarray, tags: np.ndarray, **style: Any) -> float:
    """Draw the curve of one class, and return its AP."""
    ranking = rank(scores, tags)
    axes.step(*curve(ranking), where="pre", **{"color": BLUE, "linewidth": 0.8, "alpha": 0.35, **style})
    return average_precision(ranking)


def curve(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision, both `(points,)`, wherever recall rises; empty without a positive.

    At most 500 evenly spaced points are used.
    """
    rises = np.flatnonzero(np.diff(ranking.hits, prepend=0))
    if not len(rises):
        return np.empty(0), np.empty(0)
    points = rises[np.unique(np.linspace(0, len(rises) - 1, MAX_POINTS).astype(int))]
    recall = ranking.hits[points] / ranking.hits[-1]
    precision = ranking.hits[points] / ranking.taken[points]
    return np.append(0.0, recall), np.append(precision[0], precision)


def _draw_bars(axes: Axes, values: np.ndarray, positives: np.ndarray, labels: Sequence[str]) -> None:
    """Draw AP of all classes, or of the best and the worst."""
    indices = [index for index in np.argsort(values, kind="stable") if not np.isnan(values[index])]
    colours = [BLUE] * len(indices)
    hatches = [""] * len(indices)
    title = "AP by class (clips)"
    if len(indices) > 2 * MAX_BARS:
        indices = indices[:MAX_BARS] + indices[-MAX_BARS:]
        colours = [ORANGE] * MAX_BARS + [BLUE] * MAX_BARS
        hatches = ["//"] * MAX_BARS + [""] * MAX_BARS
        title = f"AP of the {MAX_BARS} worst (hatched) and the {MAX_BARS} best classes (clips)"
    bars = axes.barh(
        range(len(indices)), values[indices], color=colours, hatch=hatches, edgecolor=INK, linewidth=0.4
    )
    axes.bar_label(bars, fmt="%.3f", padding=2, fontsize=NAME_SIZE)
    names = [f"{shortened(labels[index], _NAME)} ({positives[index]})" for index in indices]
    axes.set_yticks(range(len(indices)), names, fontsize=NAME_SIZE)
    axes.set(xlim=(0, 1.2), xlabel="average precision")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_title(wrapped(title, 2.9, TITLE_SIZE), fontsize=TITLE_SIZE)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
