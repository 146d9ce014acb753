"""Calls that make errors in the source of the package, and the literals that their arguments can be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ast_hf.errors import DETAILS

#: Functions of `ast_hf.errors` that make an error -> the detail that they set themselves.
MAKERS = {"error": None, "not_a_choice": "choice", "wrong_type": "type", "unreadable": "unreadable"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class ErrorCall:
    """One call: its place, its codes that have details, and the details it can give; None if they are unknown."""

    place: str
    codes: set[str]
    is_literal: bool
    details: set[str] | None

    @property
    def allowed(self) -> set[str]:
        """Return the details of its codes; a code that is not written out may be one without details."""
        details = {detail for code in self.codes for detail in DETAILS[code]}
        return details if self.is_literal else {*details, ""}


class Module:
    """A source file. Follows names to the strings that they can stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, _Function)]

    def literals(self, value: ast.expr, function: _Function | None) -> set[str]:
        """Return the strings that an expression can be, found in this module."""
        if isinstance(value, ast.Constant):
            return {value.value} if isinstance(value.value, str) else set()
        if isinstance(value, ast.IfExp):
            return self.literals(value.body, function) | self.literals(value.orelse, function)
        if isinstance(value, ast.BoolOp):
            return {text for part in value.values for text in self.literals(part, function)}
        if isinstance(value, ast.Attribute):
            return self._field(value.attr)
        if isinstance(value, ast.Name) and function is not None:
            return self._assigned(value.id, function) | self._passed(value.id, function)
        return set()

    def _assigned(self, name: str, function: _Function) -> set[str]:
        texts: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    texts |= self._unpacked(name, target, node.value, function)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                texts |= self._unpacked(name, node.target, node.value, function)
            elif isinstance(node, ast.For) and isinstance(node.iter, (ast.Tuple, ast.List)):
                for item in node.iter.elts:
                    texts |= self._unpacked(name, node.target, item, function)
        return texts

    def _unpacked(self, name: str, target: ast.expr, value: ast.expr, function: _Function) -> set[str]:
        if isinstance(target, ast.Name) and target.id == name and not isinstance(value, ast.Name):
            return self.literals(value, function)
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = zip(target.elts, value.elts, strict=False)
            return {text for pair in pairs for text in self._unpacked(name, *pair, function)}
        return set()

    def _passed(self, name: str, function: _Function) -> set[str]:
        """Return the literals that callers pass for a parameter, and its default."""
        parameters = [*function.args.posonlyargs, *function.args.args]
        names = [parameter.arg for parameter in parameters]
        defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
        keyword_only = [parameter.arg for parameter in function.args.kwonlyargs]
        default_pairs = zip(keyword_only, function.args.kw_defaults, strict=True)
        defaults.update({key: value for key, value in default_pairs if value is not None})
        if name not in [*names, *keyword_only]:
            return set()
        texts = self.literals(defaults[name], None) if name in defaults else set()
        position = names.index(name) - (names[0] in ("self", "cls")) if name in names else None
        return texts | self._arguments(function.name, name, position)

    def _field(self, name: str) -> set[str]:
        """Return the literals for a field of a class of this module; none for an attribute of another object."""
        texts: set[str] = set()
        for node in ast.walk(self.tree):
            fields = node.body if isinstance(node, ast.ClassDef) else []
            annotated = [field for field in fields if isinstance(field, ast.AnnAssign)]
            names = [field.target.id for field in annotated if isinstance(field.target, ast.Name)]
            if isinstance(node, ast.ClassDef) and name in names:
                default = annotated[names.index(name)].value
                texts |= self.literals(default, None) if default is not None else set()
                texts |= self._arguments(node.name, name, names.index(name))
        return texts

    def _arguments(self, function: str, name: str, position: int | None) -> set[str]:
        texts: set[str] = set()
        for call, inside in self.calls(function):
            values = [keyword.value for keyword in call.keywords if keyword.arg == name]
            if not values and position is not None and len(call.args) > position:
                values = [call.args[position]]
            for value in values:
                if not (isinstance(value, ast.Name) and inside is not None and inside.name == function):
                    texts |= self.literals(value, inside)
        return texts

    def calls(self, name: str) -> Iterator[tuple[ast.Call, _Function | None]]:
        """Find the calls of a function, each with the innermost function that it is in."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called == name:
                    yield node, self._around(node)

    def _around(self, node: ast.Call) -> _Function | None:
        around = [one for one in self.functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
        return max(around, key=lambda one: one.lineno, default=None)

    def errors(self) -> Iterator[ErrorCall]:
        """Find the calls that make errors of codes with details."""
        for maker, fixed_code in MAKERS.items():
            for call, function in self.calls(maker):
                code = call.args[0] if call.args else ast.Constant(None)
                passes_on = isinstance(code, ast.Attribute)  # another error, checked where it is made
                codes = set() if passes_on else self.literals(code, function) & DETAILS.keys()
                if codes:
                    details = [keyword.value for keyword in call.keywords if keyword.arg == "detail"]
                    texts = {text for value in details for text in self.literals(value, function)}
                    if fixed_code is not None:
                        texts = {fixed_code}
                    is_known = bool(texts) or any(isinstance(value, ast.Attribute) for value in details)
                    place = f"{self.path.name}:{call.lineno}"
                    yield ErrorCall(place, codes, isinstance(code, ast.Constant), texts if is_known else None)
