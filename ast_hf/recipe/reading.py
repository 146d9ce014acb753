"""Recipes from YAML files, with changes from the command line."""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import yaml

from ..errors import AstHfWarning, error, unreadable, warning_text
from ..inputs.waveform_transforms import without_folders
from .options import CardOptions
from .recipe import Recipe


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: changes such as `"training.learning_rate=1e-4"`; the value is YAML. If they replace
            `data.source`, the parts of `card` that describe the original clips are left out, with a warning
            (W304).

    Raises:
        AstConfigError: E307 for a file that cannot be read, unknown options, invalid values and
            contradictions.
    """
    path = Path(path)
    original = _read_file(path)
    values = copy.deepcopy(original)
    for change in overrides:
        _override(values, change)
    recipe = Recipe.from_dict(values, str(path))
    if _has_same_clips(original, values):
        return recipe
    return _without_card(recipe, original, str(path))


def _read_file(path: Path) -> dict[str, Any]:
    where = repr(str(path))
    if not path.is_file():
        fix = "give the path of a recipe (YAML)"
        raise error("E307", where=where, what="does not exist", fix=fix, detail="missing")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error(
            "E307", where=where, what=what, fix="save the file as UTF-8", detail="unreadable"
        ) from problem
    values = _read_yaml(text, where) or {}
    if not isinstance(values, dict):
        fix = "write option: value lines"
        raise error("E307", where=where, what="has no options", fix=fix, detail="unreadable")
    return values


def _override(values: dict[str, Any], change: str) -> None:
    """Apply a change such as `"data.cache=false"`, in place."""
    where = repr(change)
    name, separator, value = change.partition("=")
    if not separator:
        raise error(
            "E307", where=where, what="has no value", fix="write it as option=value", detail="unreadable"
        )
    *sections, last = name.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise error(
                "E307", where=where, what=f"{section} has no options", fix="check the name", detail="unknown"
            )
    target[last] = _read_yaml(value, where)


# YAML


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, and raises an error for repeated options."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; SafeLoader would silently keep the last of several equal keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as problem:
        fix = "correct it; strings with special characters need quotes"
        raise unreadable("E307", where=where, problem=problem, fix=fix, what="is not YAML") from problem


def _has_same_clips(original: dict[str, Any], values: dict[str, Any]) -> bool:
    """Return True if the file names no source, or `values` has the same one, in any folder."""
    source = original.get("data", {}).get("source")
    new_source = values.get("data", {}).get("source")
    return not source or str(without_folders(source)) in (str(new_source), Path(str(new_source)).name)


def _without_card(recipe: Recipe, original: dict[str, Any], where: str) -> Recipe:
    """Return a recipe without the card's facts about the original clips, and warn (W304).

    `card.base_model` stays, since it describes the start.
    """
    facts = {name: value for name, value in original.get("card", {}).items() if name != "base_model"}
    outdated = [name for name, value in facts.items() if getattr(recipe.card, name) == value]
    if not outdated:
        return recipe
    what = f"is about other clips than {recipe.data.source!r}; left out: {', '.join(outdated)}"
    warnings.warn(warning_text("W304", where=f"{where}: card", what=what), AstHfWarning, stacklevel=3)
    defaults = CardOptions()
    card = dataclasses.replace(recipe.card, **{name: getattr(defaults, name) for name in outdated})
    return dataclasses.replace(recipe, card=card)
