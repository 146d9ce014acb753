"""Reference of all recipe options, from the option classes and their docstrings.

`docs/reference/recipe.md` and `options.json` of this folder are made of it: `make reference`. `ast-hf options` reads
that file, since importing the option classes takes seconds.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, NamedTuple

from ..docstrings import docstring_sections, entries, joined
from .arguments import DEFAULTS, REFUSED
from .recipe import Recipe

#: Defaults that depend on the machine -> their rule.
_BY_MACHINE = {"dataloader_pin_memory": "True with a GPU"}


class Option(NamedTuple):
    """An option of a recipe.

    Attributes:
        name: full name, such as `data.source`.
        type: annotation, as in the source.
        default: source of the default.
        meaning: its entry in the docstring, with the valid values.
    """

    name: str
    type: str
    default: str
    meaning: str


def recipe_sections() -> dict[str, type]:
    """Return the class of every section of a recipe; `""` is the recipe itself."""
    recipe = Recipe()
    kinds = {field.name: type(getattr(recipe, field.name)) for field in dataclasses.fields(Recipe)}
    return {"": Recipe, **{name: kind for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}}


def section_options(section: str) -> list[Option]:
    """Return the options of a section that are not sections themselves."""
    sections = recipe_sections()
    kind = sections[section]
    meanings = entries(docstring_sections(kind.__doc__).get("Attributes", ""))
    prefix = f"{section}." if section else ""
    return [
        Option(prefix + field.name, type_name(field.type), field_default(field), joined(meanings[field.name]))
        for field in dataclasses.fields(kind)
        if section or field.name not in sections
    ]


def options_document() -> dict[str, Any]:
    """Return the content of options.json: sections with meaning and options, and our rules for `training`."""
    about = entries(docstring_sections(Recipe.__doc__).get("Attributes", ""))
    sections = {
        name: {
            "meaning": joined(about.get(name, "options without a section")),
            "options": [option._asdict() for option in section_options(name)],
        }
        for name in recipe_sections()
    }
    defaults = {name: repr(value).replace("'", '"') for name, value in DEFAULTS.items()}
    refused = {name: f"not allowed: {what}; {fix}" for name, (what, fix) in REFUSED.items()}
    return {"sections": sections, "training": {"defaults": defaults | _BY_MACHINE, "refused": refused}}


def type_name(annotation: Any) -> str:
    """Return an annotation as it is written in the source."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(typing|collections\.abc)\.", "", text)


def field_default(field: dataclasses.Field[Any]) -> str:
    """Return the source of a field's default."""
    has_value = field.default is not dataclasses.MISSING
    value = field.default if has_value else field.default_factory()  # type: ignore[operator]  # one of the two is set
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    return repr(value).replace("'", '"')
