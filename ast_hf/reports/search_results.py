"""Results of a search for settings: each trial's options and score on the validation split, and the best one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import plain_values
from ..recipe.recipe import Recipe
from ..versions import result_versions


@dataclass(frozen=True)
class Trial:
    """One run with some options changed.

    Attributes:
        options: the changed options of the recipe, by name.
        steps: optimizer steps that were trained.
        value: the metric on the validation split; None for a trial that gave none.
        loss: the loss there; None as above.
        seconds: wall time.
        end: `"complete"`, `"diverged"` (the loss was not finite, E501), `"pruned"` (worse than others so far), or
            `"refused"` (the settings contradict each other).
    """

    options: dict[str, Any]
    steps: int
    value: float | None
    loss: float | None
    seconds: float
    end: str = "complete"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain_values(dict(vars(self)))


@dataclass(frozen=True)
class SearchResult:
    """Trials of a search, and the options that it chose.

    Attributes:
        recipe: the recipe with the chosen options.
        options: the chosen options, by name.
        trials: all trials, in their order.
        metric: name of the metric that trials are compared by; of equal values, the lower loss is better.
        clips: number of clips of the validation split.
        held_out: share of the training split that was held out for the search; 0.0 if the recipe or the data
            have a validation split.
        folder: where the result was written.
        advice: what to try next, in words; empty if nothing follows.
    """

    recipe: Recipe
    options: dict[str, Any]
    trials: list[Trial]
    metric: str
    clips: int
    held_out: float
    folder: Path
    advice: str = ""
    versions: dict[str, str] = field(default_factory=result_versions)

    @property
    def changes(self) -> list[str]:
        """The chosen options as `OPTION=VALUE`, as `load_recipe` and `--set` take them."""
        return [f"{name}={format_option(value)}" for name, value in self.options.items()]

    @property
    def run_options(self) -> dict[str, Any]:
        """The chosen options, and the validation split that early stopping needs if only the search had one."""
        return {**needed_split(self.recipe, self.held_out), **self.options}

    @property
    def judge(self) -> str:
        """The clips that trials are compared on, in words."""
        share = (
            f", {self.held_out:.0%} of the training split, held out for the search" if self.held_out else ""
        )
        return f"validation ({self.clips} clips{share})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("options", "metric", "clips", "held_out", "advice", "versions")
        values = {name: getattr(self, name) for name in names}
        values["trials"] = [trial.to_dict() for trial in self.trials]
        return plain_values({**values, "recipe": self.recipe.to_dict()})


def needed_split(recipe: Recipe, held_out: float) -> dict[str, float]:
    """Return the option that holds out a validation split, if early stopping needs it and only the search had one."""
    return {"data.validation_fraction": held_out} if held_out and recipe.stopping.is_active else {}


def format_option(value: Any) -> str:
    """Return a value of an option as YAML, with few digits for a number."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
