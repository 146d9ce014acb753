"""One option of a recipe that was chosen from the data, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """An option with its value and reason.

    Attributes:
        option: its name in a recipe, such as `training.max_steps`.
        value: plain value, as YAML has it.
        reason: why, in one sentence for the recipe's comment; empty for an option that the user gave.
    """

    option: str
    value: Any
    reason: str = ""
