"""Picture of a search for the learning rate: the metric on the validation split over the rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .picture_style import clips_text, write_heading
from .pictures import save_picture
from .search_results import SearchResult
from .titles import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE = "training.learning_rate"


def draw_rates(result: SearchResult, path: Path) -> None:
    """Write a PNG with a line for each length of the trials; the chosen rate is marked."""
    save_picture(rates_figure(result), path)


def rates_figure(result: SearchResult) -> Figure:
    """Return the picture of `draw_rates`."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(6, 4), layout="constrained", dpi=120)
    axes = figure.subplots()
    for steps in sorted({trial.steps for trial in result.trials if trial.value is not None}):
        points = sorted(
            (trial.options[RATE], trial.value)
            for trial in result.trials
            if trial.value is not None and trial.steps == steps
        )
        axes.plot(*zip(*points, strict=True), marker="o", label=f"after {steps} steps")
    axes.axvline(result.options[RATE], color="gray", linestyle=":", label="chosen")
    axes.set(xscale="log", xlabel="learning rate", ylabel=result.metric)
    title = METRICS[result.metric].title if result.metric in METRICS else result.metric
    clips = clips_text("validation", result.clips)
    write_heading(figure, f"{result.recipe.name}: {title} on {clips}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    return figure
