"""A plan as the text of a recipe: YAML, with the reason of each choice as a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from ..recipe.writing import yaml_text
from .choice import Choice
from .plan import Plan

#: Sections in the order of the shipped recipes; options without a section come where their name is.
_ORDER = (
    *("name", "data", "features", "model", "augmentation", "optimization", "sampling", "averaging_decay"),
    *("stopping", "precision", "threads", "training"),
)
_WIDTH = 100
_COLUMN = 40


def recipe_text(plan: Plan, heading: Iterable[str]) -> str:
    """Return a recipe as YAML text.

    Args:
        plan: the choices.
        heading: lines of the comment at the top, without `#`.
    """
    lines = [f"# {line}".rstrip() for line in heading]
    for section in _ORDER:
        choices = [choice for choice in plan.choices if choice.option.split(".")[0] == section]
        if choices:
            lines += ["", *_section_lines(section, choices)]
    return "\n".join(lines) + "\n"


def _section_lines(section: str, choices: list[Choice]) -> Iterator[str]:
    if choices[0].option == section:
        yield from _option_lines(section, choices[0], "")
        return
    yield f"{section}:"
    opened = False
    for choice in sorted(choices, key=lambda choice: choice.option.count(".") > 1):
        parts = choice.option.split(".")
        if len(parts) == 3 and not opened:
            yield f"  {parts[1]}:"
            opened = True
        yield from _option_lines(parts[-1], choice, "  " * (len(parts) - 1))


def _option_lines(name: str, choice: Choice, indent: str) -> Iterator[str]:
    """Yield an option, with its reason behind it, or above it if that is long."""
    line = f"{indent}{name}: {_plain(choice.value)}"
    if not choice.reason:
        yield line
        return
    short = f"{line:<{_COLUMN}} # {choice.reason}"
    if len(short) <= _WIDTH + 10:
        yield short
        return
    yield from textwrap.wrap(
        choice.reason, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )
    yield line


def _plain(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml_text(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
