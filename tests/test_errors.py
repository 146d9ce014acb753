"""Error codes: those raised in the source, listed in the table and explained on the page are the same."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from error_calls import Module

import ast_hf
from ast_hf.errors import (
    CODES,
    DETAILS,
    WARNINGS,
    AstConfigError,
    AstDataError,
    AstHfError,
    AstHfWarning,
    AstInputError,
    AstRunError,
    did_you_mean,
    error,
    nearest,
    warning_text,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for path in (ROOT / "ast_hf").rglob("*.py") if path.name != "errors.py"]
USED = {code for path in SOURCES for code in re.findall(r'"([EW]\d{3})"', path.read_text(encoding="utf-8"))}
ALL = CODES.keys() | WARNINGS.keys()


def test_every_code_of_the_source_is_in_the_table() -> None:
    assert len(USED) > 20
    assert not USED - ALL


def test_every_code_of_the_table_is_used() -> None:
    assert set() == ALL - USED


@pytest.mark.parametrize("pattern", [r'\berror\(\s*"(\w+)"', r'\bwarning_text\(\s*"(\w+)"'])
def test_errors_are_errors_and_warnings_are_warnings(pattern: str) -> None:
    table = CODES if pattern.startswith(r"\berror") else WARNINGS
    raised = {code for path in SOURCES for code in re.findall(pattern, path.read_text(encoding="utf-8"))}
    assert raised
    assert raised <= table.keys()


def test_page_documents_exactly_the_codes_that_exist() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b[EW]\d{3}\b", page)) == ALL


@pytest.mark.parametrize("code", DETAILS)
def test_page_has_the_table_of_details(code: str) -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    table = page.split(f"| {code} | case |\n|---|---|\n")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert len(rows) == len(table.splitlines())
    assert rows == {detail: f"{text[0].upper()}{text[1:]}." for detail, text in DETAILS[code].items()}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_of_a_code_with_details_has_one(path: Path) -> None:
    calls = list(Module(path).errors())
    assert [call.place for call in calls if call.details is None] == []
    assert [call for call in calls if not (call.details or set()) <= call.allowed] == []


@pytest.mark.parametrize("code", DETAILS)
def test_every_detail_is_used(code: str) -> None:
    calls = [call for path in SOURCES for call in Module(path).errors() if code in call.codes]
    assert {detail for call in calls for detail in call.details or ()} >= DETAILS[code].keys()


@pytest.mark.parametrize(
    ("source", "details"),
    [
        ("error('E306', detail='missing')", {"missing"}),
        ("error('E306')", None),
        ("error('E306', detail='missing' if here else 'exists')", {"missing", "exists"}),
        ("error('E101')", "no call"),
        ("unreadable('E307', problem=problem)", {"unreadable"}),
        ("def f():\n    code, detail = 'E306', 'exists'\n    error(code, detail=detail)", {"exists"}),
        (
            "def f(x, detail='type'):\n    error('E307', detail=detail)\nf(1, 'range')\nf(1)",
            {"range", "type"},
        ),
        ("def f(x):\n    error('E307', detail=x)", None),
        (
            "class Rule:\n    detail: str = 'data'\nRule('conflict')\nerror('E307', detail=rule.detail)",
            {"data", "conflict"},
        ),
        ("error('E307', detail=problem.detail)", set()),
        ("error('E306', detail=names['x'])", None),
    ],
)
def test_details_are_found_in_the_source(source: str, details: Any, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    calls = [call.details for call in Module(tmp_path / "module.py").errors()]
    assert calls == ([] if details == "no call" else [details])


@pytest.mark.parametrize("code", CODES)
def test_message_class_and_pickle(code: str) -> None:
    problem = error(code, where="clip 2", what="too short, 240 samples", fix="give 400 samples")
    assert type(problem) is CODES[code][0]
    assert str(problem) == f"[AST-{code}] clip 2: too short, 240 samples. Fix: give 400 samples."
    copy = pickle.loads(pickle.dumps(problem))
    assert type(copy) is type(problem)
    assert str(copy) == str(problem)
    assert (copy.code, copy.where, copy.what, copy.fix) == (
        code,
        "clip 2",
        "too short, 240 samples",
        "give 400 samples",
    )


def test_question_ends_the_message() -> None:
    assert str(error("E108", where="x", what="is unknown", fix="did you mean 'y'?")).endswith(
        "Fix: did you mean 'y'?"
    )


def test_message_is_one_line_whatever_the_names_hold() -> None:
    problem = error("E206", where="a\nb.wav", what="does not\r\nexist", fix="check\nthe path")
    assert len(str(problem).splitlines()) == 1
    assert len(warning_text("W201", where="a\nb.wav", what="cut").splitlines()) == 1


def test_class_tree() -> None:
    assert {kind for kind, _ in CODES.values()} == {AstInputError, AstDataError, AstConfigError, AstRunError}
    for kind, builtin in (
        (AstInputError, ValueError),
        (AstDataError, ValueError),
        (AstConfigError, ValueError),
        (AstRunError, RuntimeError),
    ):
        assert issubclass(kind, AstHfError)
        assert issubclass(kind, builtin)
        assert getattr(ast_hf, kind.__name__) is kind
    assert issubclass(AstHfWarning, UserWarning)


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(KeyError):
        error("E999", where="", what="", fix="")
    with pytest.raises(AssertionError):
        warning_text("W999", where="", what="")


def test_warning_text() -> None:
    assert warning_text("W203", where="clip 0", what="has no signal") == "[AST-W203] clip 0: has no signal."


@pytest.mark.parametrize(
    ("name", "near", "advice"),
    [
        ("max_lenght", "max_length", "did you mean 'max_length'?"),
        ("zzz", None, "use one of max_length, mean"),
        (3, None, "use one of max_length, mean"),
    ],
)
def test_nearest_name(name: object, near: str | None, advice: str) -> None:
    assert nearest(name, ["mean", "max_length"]) == near
    assert did_you_mean(name, ["mean", "max_length"]) == advice
