"""Picture of a search for the learning rate: the metric on the validation split over the rate."""

from __future__ import annotations

from pathlib import Path

from .pictures import save_picture
from .search_results import SearchResult

RATE = "training.learning_rate"


def draw_rates(result: SearchResult, path: Path) -> None:
    """Write a PNG with a line for each length of the trials; the chosen rate is marked."""
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
    axes.set_title(f"{result.metric} on the validation split ({result.clips} clips)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    save_picture(figure, path)
