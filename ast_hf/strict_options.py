"""Strict option classes: every value is checked when it is assigned, and a bad one raises E307.

An option class is a dataclass under `@strict_options`, in a module with `from __future__ import annotations`.
The type of a field is its annotation; further checks are next to the field:

    @strict_options("augmentation")
    @dataclass(kw_only=True)
    class Augmentation:
        speed: float = validated_field(in_range(1.0, 4.0), default=1.0)

The checks run on construction, on assignment and in `dataclasses.replace`. They are those of
`huggingface_hub.dataclasses`; this module adds messages for people who write YAML.
"""

from __future__ import annotations

import functools
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import Field, fields, is_dataclass
from datetime import date
from os import PathLike, fspath
from typing import Any, TypeVar

from huggingface_hub.dataclasses import strict, type_validator
from huggingface_hub.errors import StrictDataclassFieldValidationError

from .errors import AstHfError, did_you_mean, error, not_a_choice, short_reason
from .scalars import is_number, plain_scalar

#: Largest number of options without a range of their own.
_MAX_NUMBER = 1e9

T = TypeVar("T")
Check = Callable[[Any], None]


def strict_options(section: str = "") -> Callable[[type[T]], type[T]]:
    """Return a decorator, to put on top of `@dataclass`, that checks each field whenever it is assigned.

    Values are stored as YAML and JSON hold them: paths as strings, tuples as lists, numbers of NumPy or
    PyTorch as Python's. A whole number counts as a float.

    Args:
        section: name of the class in a recipe, for messages; `""` for the recipe itself.

    Raises:
        AstConfigError: from the decorated class, E307 for a value of the wrong type or out of range.
    """

    def decorate(cls: type[T]) -> type[T]:
        annotations = typing.get_type_hints(cls)
        for field in fields(cls):  # type: ignore[arg-type]  # a dataclass, as `strict` checks
            _add_type_check(field, annotations[field.name])
        strict(cls)
        # The library adds `validate`, which does nothing here; without a docstring the reference omits it.
        cls.validate.__doc__ = None  # type: ignore[attr-defined]
        assign = cls.__setattr__

        def assign_checked(self: Any, name: str, value: Any) -> None:
            where = f"{section}.{name}" if section else name
            try:
                assign(self, name, _plain(value))
            except RecursionError:
                what = "is a list or mapping that contains itself, or is nested too deeply"
                raise error(
                    "E307", where=where, what=what, fix="write it as a few plain values", detail="type"
                ) from None
            except StrictDataclassFieldValidationError as problem:
                raise _with_place(problem.__cause__, where) from None

        cls.__setattr__ = assign_checked  # type: ignore[method-assign]
        return cls

    return decorate


def build_options(cls: type[T], values: Any, where: str, section: str = "") -> T:
    """Build an option class from plain values, and its sections in the same way.

    Args:
        cls: a class under `strict_options`.
        values: option -> value.
        where: file or source of the values, for messages.
        section: name of the class in `where`; `""` for the outermost one.

    Raises:
        AstConfigError: E307 for an option that does not exist, and for an invalid value.
    """
    if not isinstance(values, dict):
        place = f"{where}: {section}" if section else where
        what = f"is {values!r}, not a set of options"
        raise error("E307", where=place, what=what, fix="write option: value lines", detail="type")
    options = fields(cls)  # type: ignore[arg-type]  # a dataclass, by the decorator
    factories: dict[str, Any] = {field.name: field.default_factory for field in options}
    arguments = {}
    for name, value in values.items():
        option = f"{section}.{name}" if section else str(name)
        if name not in factories:
            fix = did_you_mean(name, factories)
            what = "is not a recognised option"
            raise error("E307", where=f"{where}: {option}", what=what, fix=fix, detail="unknown")
        is_section = is_dataclass(factories[name])
        arguments[name] = build_options(factories[name], value, where, option) if is_section else value
    try:
        return cls(**arguments)
    except AstHfError as problem:
        raise _with_place(problem, f"{where}: {problem.where}") from None


def _with_place(problem: BaseException | None, where: str) -> AstHfError:
    """Return the error of a validator with its place; E307 for what a validator of another package raised."""
    if isinstance(problem, AstHfError):
        return error(problem.code, where=where, what=problem.what, fix=problem.fix, detail=problem.detail)
    detail = "type" if isinstance(problem, TypeError) else "range"
    return error("E307", where=where, what=short_reason(problem), fix="change the value", detail=detail)


# Validators: each raises E307 without a place, which the assignment adds. They accept None: the annotation
# decides whether it is allowed.


def in_range(low: float, high: float) -> Check:
    """Return a validator that accepts numbers from `low` to `high`, both included."""

    def check(value: Any) -> None:
        if is_number(value) and not low <= value <= high:
            what = f"{value!r} is outside {low:.10g}..{high:.10g}"
            fix = f"give a number from {low:.10g} to {high:.10g}"
            raise error("E307", where="", what=what, fix=fix, detail="range")

    return check


def not_negative(value: Any) -> None:
    """Raise E307 for a number that is below 0, infinite, NaN or above a billion."""
    if not is_number(value) or 0 <= value <= _MAX_NUMBER:
        return
    if _MAX_NUMBER < value < math.inf:
        fix = f"give a number from 0 to {_MAX_NUMBER:.10g}"
        raise error("E307", where="", what=f"{value!r} is too large", fix=fix, detail="range")
    what = f"{value!r} is negative" if -math.inf < value < 0 else f"{value!r} is not a finite number"
    raise error("E307", where="", what=what, fix="give a number, 0 or more", detail="range")


def one_of(choices: Iterable[str]) -> Check:
    """Return a validator that accepts the choices."""
    valid = tuple(choices)

    def check(value: Any) -> None:
        if value is not None and value not in valid:
            raise not_a_choice("E307", where="", value=value, choices=valid)

    return check


def each_one_of(choices: Iterable[str]) -> Check:
    """Return a validator that accepts lists of the choices."""
    check_entry = one_of(choices)

    def check(values: Any) -> None:
        for value in values or ():
            check_entry(value)

    return check


#: Type -> its name in messages: with an article, and in the plural.
_NOUNS: dict[Any, tuple[str, str]] = {
    str: ("a string", "strings"),
    bool: ("a boolean (true or false)", "booleans"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    dict: ("a mapping", "mappings"),
    type(None): ("null", "null"),
}


def _add_type_check(field: Field[Any], annotation: Any) -> None:
    """Make the type of a field the first of its validators.

    The library does not check annotations that are strings, as `from __future__ import annotations` makes
    them, and refuses a whole number where a float is declared.
    """
    accepted = _accepted_type(annotation)
    expected = field.metadata.get("expected") or _describe(annotation)

    def check(value: Any) -> None:
        try:
            type_validator(field.name, value, accepted)
        except TypeError:
            raise _wrong_type(value, annotation, expected) from None

    validators = [check, *field.metadata.get("validator", ())]
    field.metadata = types.MappingProxyType({**field.metadata, "validator": validators})


def _wrong_type(value: Any, annotation: Any, expected: str) -> AstHfError:
    """Return E307 for a value, or for the first wrong entry of a list."""
    kind = expected
    if isinstance(value, list):
        for entry_type in _entry_types(annotation):
            value = next(entry for entry in value if not _is_of(entry, entry_type))
            kind = _describe(entry_type)
    fix = f"give {expected}"
    if kind.startswith("a string") and isinstance(value, (bool, int, float, date)):
        fix += "; write strings like this in quotes"
    return error("E307", where="", what=f"{value!r} is not {kind}", fix=fix, detail="type")


def _is_of(entry: Any, entry_type: Any) -> bool:
    """Return True for an entry of a type; booleans are not numbers."""
    return isinstance(entry, entry_type) and not (isinstance(entry, bool) and entry_type is not bool)


def _entry_types(annotation: Any) -> list[Any]:
    """Return the types of the entries of the lists that an annotation allows, those of dicts left out."""
    alternatives = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    types_of_entries = [typing.get_args(kind)[0] for kind in alternatives if typing.get_origin(kind) is list]
    return [entry_type for entry_type in types_of_entries if entry_type in _NOUNS]


def _describe(annotation: Any) -> str:
    """Return the values that an annotation allows, for a message: `"a list of strings or null"`."""
    if _is_union(annotation):
        *others, last = map(_describe, typing.get_args(annotation))
        return f"{', '.join(others)} or {last}"
    if typing.get_origin(annotation) is list:
        entry = typing.get_args(annotation)[0]
        return f"a list of {_NOUNS[typing.get_origin(entry) or entry][1]}"
    kind = typing.get_origin(annotation) or annotation
    return _NOUNS[kind][0] if kind in _NOUNS else f"an instance of {kind.__name__}"


def _accepted_type(annotation: Any) -> Any:
    """Return the annotation to check: an int is accepted as a float, and a dict with any contents."""
    if annotation is float:
        return int | float
    if typing.get_origin(annotation) is dict:
        return dict
    if typing.get_origin(annotation) is list and typing.get_origin(typing.get_args(annotation)[0]) is dict:
        return list
    if _is_union(annotation):
        return functools.reduce(operator.or_, map(_accepted_type, typing.get_args(annotation)))
    return annotation


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _plain(value: Any) -> Any:
    """Return a value as YAML and JSON hold it: paths as strings, tuples as lists, numbers as Python's.

    A list or dict that holds only such values is returned itself, so that a caller may fill it afterwards.
    """
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, dict):
        plain = {key: _plain(entry) for key, entry in value.items()}
        return value if all(plain[key] is entry for key, entry in value.items()) else plain
    if isinstance(value, (list, tuple)):
        entries = [_plain(entry) for entry in value]
        is_plain = isinstance(value, list) and all(map(operator.is_, entries, value))
        return value if is_plain else entries
    return plain_scalar(value)
