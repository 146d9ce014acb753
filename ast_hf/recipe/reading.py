"""Recipes from YAML files, with changes from the command line."""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from ..errors import AstHfWarning, error, unreadable, warning_text
from ..inputs.waveform_transforms import without_folders
from .options import CardOptions
from .recipe import Recipe
from .writing import EXPONENT_STARTS, EXPONENTS


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
        what = "is not a file" if path.exists() else "does not exist"
        fix = "give the path of a recipe (YAML); `ast-hf new DATA` writes one for labelled audio"
        raise error("E307", where=where, what=what, fix=fix, detail="missing")
    values = read_yaml(_read_text(path, where), where)
    values = {} if values is None else values
    if not isinstance(values, dict):
        fix = "give a recipe, lines of `option: value`; `ast-hf new DATA` writes one for labelled audio"
        raise error("E307", where=where, what="has no options", fix=fix, detail="unreadable")
    return values


def _read_text(path: Path, where: str) -> str:
    """Return the text of a file; raise E307 for one that is not text, or too long for a recipe."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            what = f"is longer than {_MAX_BYTES:,} bytes, so it is not a recipe"
            fix = "give the path of a recipe (YAML)"
            raise error("E307", where=where, what=what, fix=fix, detail="unreadable")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        fix = "save the file as UTF-8"
        raise error("E307", where=where, what=what, fix=fix, detail="unreadable") from problem
    except OSError as problem:
        fix = "check its permissions"
        raise unreadable("E307", where=where, problem=problem, fix=fix) from problem


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
    target[last] = read_yaml(value, where)


# YAML

#: Limits of a recipe: bytes of its file, levels of nesting, values with repeated aliases counted each time, and
#: bits of a number.
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_VALUES = 100_000
_MAX_BITS = 256


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, and refuses what would silently become something else."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; SafeLoader would silently keep the last of several equal keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise _problem(node, f"{key!r} is repeated")
            if key is None or isinstance(key, (bool, float, date)):
                raise _problem(node, f"the name before a colon is read as {key!r}: put it in quotes")
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> int | float:
        """Return a number; colons would be read as minutes, and a leading 0 as octal."""
        text = str(node.value)
        if ":" in text or re.match(r"[-+]?0[0-9_]", text):
            value = self.construct_yaml_float(node) if "." in text else self.construct_yaml_int(node)
            raise _problem(node, f"{text} would be read as {value}: write that, or quote it")
        if node.tag.endswith("float"):
            return self.construct_yaml_float(node)
        value = self.construct_yaml_int(node)
        if value.bit_length() > _MAX_BITS:
            raise _problem(node, f"a number has more than {_MAX_BITS} bits")
        return value


def _problem(node: Any, text: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENTS, list(EXPONENT_STARTS))


def read_yaml(text: str, where: str) -> Any:
    """Return the value of YAML text; raise E307 for text that is none, or that silently becomes something else."""
    try:
        _check_nesting(text)
        values = yaml.load(text, Loader=_Loader)
        _check_size(values)
    except Exception as problem:  # besides YAMLError: errors of many kinds for values that contradict a tag
        fix = "correct it; strings with special characters need quotes"
        raise unreadable("E307", where=where, problem=problem, fix=fix, what="is not YAML") from problem
    return values


def _check_nesting(text: str) -> None:
    """Raise a YAMLError for text that is nested too deeply, before the parser recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {_MAX_DEPTH} levels deep")


def _check_size(values: Any) -> None:
    """Raise a YAMLError for text that cannot be written, and for values that aliases repeat too often.

    A value that holds itself is repeated for ever.
    """
    waiting: list[tuple[str, int, Any]] = [("it", 0, values)]
    count = 0
    while waiting:
        option, depth, value = waiting.pop()
        count += 1
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"{option} contains itself")
        if count + len(waiting) > _MAX_VALUES:
            raise yaml.YAMLError(f"{option} has more than {_MAX_VALUES:,} values")
        if isinstance(value, dict):
            names = {key: f"{option}.{key}" if depth else key for key in value} if depth < 2 else {}
            waiting += [(names.get(key, option), depth + 1, entry) for key, entry in value.items()]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(option, depth + 1, entry) for entry in value]
        elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise yaml.YAMLError(f"{option} is {value[:40]!r}, with a character that no file can hold")


def _is_unicode(text: str) -> bool:
    """Return False for text with half of a surrogate pair, which UTF-8 cannot express."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _has_same_clips(original: dict[str, Any], values: dict[str, Any]) -> bool:
    """Return True if the file names no source, or `values` has the same one, in any folder."""
    source = _section(original, "data").get("source")
    new_source = values.get("data", {}).get("source")
    return not source or str(without_folders(source)) in (str(new_source), Path(str(new_source)).name)


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section of a file; empty for one that is not a mapping, which a change then replaced."""
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _without_card(recipe: Recipe, original: dict[str, Any], where: str) -> Recipe:
    """Return a recipe without the card's facts about the original clips, and warn (W304).

    `card.base_model` stays, since it describes the start.
    """
    facts = {name: value for name, value in _section(original, "card").items() if name != "base_model"}
    outdated = [name for name, value in facts.items() if getattr(recipe.card, name) == value]
    if not outdated:
        return recipe
    what = f"is about other clips than {recipe.data.source!r}; left out: {', '.join(outdated)}"
    warnings.warn(warning_text("W304", where=f"{where}: card", what=what), AstHfWarning, stacklevel=3)
    defaults = CardOptions()
    card = dataclasses.replace(recipe.card, **{name: getattr(defaults, name) for name in outdated})
    return dataclasses.replace(recipe, card=card)
