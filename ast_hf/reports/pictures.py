"""An evaluation in pictures: which classes are taken for which, and what each class's recall costs in precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.ranking import Ranking, average_precision, mean_over_classes, rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Most classes of a confusion matrix, up to how many its cells have numbers, and most bars of each kind beside curves.
MOST_CLASSES, MOST_NUMBERED, MOST_BARS = 50, 20, 12

#: Most points of a curve: more cannot be told apart, and 500 curves of 20,000 take minutes to draw.
MOST_POINTS = 500


def confusion_counts(answers: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """Clips of each class (row) that were given each answer (column), `(count, count)`."""
    return np.bincount(truth * count + answers, minlength=count * count).reshape(count, count)


def draw_confusion(answers: np.ndarray, truth: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Write a PNG of the confusion matrix; each row is divided by its clips, so that the diagonal is recall.

    Classes that occur neither as truth nor as answer are left out; of more than 50, those with most mistakes are shown.

    Args:
        answers: class indices, `(clips,)`.
        truth: the same.
        labels: names of the classes.
        path: the picture's file.
    """
    from matplotlib.figure import Figure

    counts = confusion_counts(answers, truth, len(labels))
    shown = most_confused(counts)
    clips = counts.sum(axis=1)
    shares = (counts / np.maximum(clips, 1)[:, None])[np.ix_(shown, shown)]
    side = 3.5 + 0.26 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained", dpi=110)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(shown)), [plain(labels[index]) for index in shown], rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{plain(labels[index])} ({clips[index]})" for index in shown], fontsize=8)
    cut = len(shown) < np.count_nonzero(clips + counts.sum(axis=0))
    some = f", the {len(shown)} of {len(labels)} classes with most mistakes" if cut else ""
    axes.set(xlabel="answer", ylabel="true class (clips)", title=f"Share of each row{some}")
    if len(shown) <= MOST_NUMBERED:
        _number(axes, shares)
    figure.colorbar(image, ax=axes, shrink=0.7)
    figure.savefig(path)


def most_confused(counts: np.ndarray) -> list[int]:
    """Classes that occur in a matrix of counts, at most 50: those with the most mistakes, in their own order."""
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    occurring = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    worst = occurring[np.argsort(-mistakes[occurring], kind="stable")][:MOST_CLASSES]
    return sorted(worst.tolist())


def _number(axes: Axes, shares: np.ndarray) -> None:
    for row, column in np.argwhere(shares > 0):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)


def draw_precision_recall(scores: np.ndarray, tags: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Write a PNG with a curve for each class, one for all decisions together, and bars of AP.

    Args:
        scores: `(clips, classes)`.
        tags: bool, `(clips, classes)`; of single-label data each class against the rest.
        labels: names of the classes.
        path: the picture's file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    values = np.array([_draw_curve(left, scores[:, index], tags[:, index]) for index in range(len(labels))])
    together = _draw_curve(left, scores.ravel(), tags.ravel(), color="C1", linewidth=2.5, alpha=1.0)
    left.lines[-1].set_label(f"all decisions together (AP {together:.3f})")
    mean, known = mean_over_classes(values)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    left.set_title(f"Each of {known} classes; mean AP {mean:.3f}")
    left.grid(alpha=0.3)
    left.legend(loc="lower left")
    _draw_bars(right, values, tags.sum(axis=0), labels)
    figure.savefig(path)


def _draw_curve(axes: Axes, scores: np.ndarray, tags: np.ndarray, **style: Any) -> float:
    """Draw one class, and return its AP."""
    ranking = rank(scores, tags)
    axes.step(*curve(ranking), where="pre", **{"color": "C0", "linewidth": 0.8, "alpha": 0.25, **style})
    return average_precision(ranking)


def curve(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, both `(points,)`, wherever recall rises, from recall 0 on; empty without a positive.

    With more than 500 positives, points evenly spaced among them.
    """
    found = np.flatnonzero(np.diff(ranking.hits, prepend=0))
    if not len(found):
        return np.empty(0), np.empty(0)
    shown = found[np.unique(np.linspace(0, len(found) - 1, MOST_POINTS).astype(int))]
    recall, precision = ranking.hits[shown] / ranking.hits[-1], ranking.hits[shown] / ranking.taken[shown]
    return np.append(0.0, recall), np.append(precision[0], precision)


def _draw_bars(axes: Axes, values: np.ndarray, positives: np.ndarray, labels: Sequence[str]) -> None:
    """AP of all classes, or of the best and the worst."""
    order = [index for index in np.argsort(values, kind="stable") if not np.isnan(values[index])]
    some = len(order) > 2 * MOST_BARS
    shown = order[:MOST_BARS] + order[-MOST_BARS:] if some else order
    colours = ["C3" if some and place < MOST_BARS else "C0" for place in range(len(shown))]
    bars = axes.barh(range(len(shown)), values[shown], color=colours)
    axes.bar_label(bars, fmt="%.3f", padding=2, fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{plain(labels[index])} ({positives[index]})" for index in shown], fontsize=8)
    title = f"AP of the {MOST_BARS} worst and the {MOST_BARS} best classes (clips)" if some else "AP by class (clips)"
    axes.set(xlim=(0, 1.12), xlabel="average precision", title=title)


def plain(label: str, width: int = 32) -> str:
    """A label for an axis: not too long, and without the sign that starts a formula in matplotlib."""
    short = label if len(label) <= width else label[: width - 1] + "…"
    return short.replace("$", r"\$")
