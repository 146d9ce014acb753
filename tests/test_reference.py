"""The generated pages in docs/reference agree with the code, and are complete."""

from __future__ import annotations

import dataclasses
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

import ast_hf
import ast_hf.training
from ast_hf import cli
from ast_hf.training import Recipe

REFERENCE = ROOT / "docs" / "reference"
PAGES = ("api.md", "recipe.md", "cli.md")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages that name files of this repository only; docstrings also name some of other repositories.
WRITTEN = [path for path in DOCUMENTS if path.name not in PAGES]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """Return docs/reference/generate.py as a module."""
    specification = importlib.util.spec_from_file_location("generate_reference", REFERENCE / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generator: ModuleType) -> dict[str, str]:
    """Return the pages that the generator writes now."""
    return generator.pages()


@pytest.mark.parametrize("name", PAGES)
def test_committed_page_is_up_to_date(name: str, pages: dict[str, str]) -> None:
    committed = (REFERENCE / name).read_text(encoding="utf-8").splitlines()
    current = pages[name].splitlines()
    differing = next((pair for pair in zip(committed, current, strict=False) if pair[0] != pair[1]), None)
    assert committed == current, (
        f"docs/reference/{name} is stale at {differing}; run `make reference` and commit it"
    )


def test_generator_writes_these_pages(pages: dict[str, str]) -> None:
    assert tuple(pages) == PAGES


@pytest.mark.parametrize("module", [ast_hf, ast_hf.training], ids=lambda module: module.__name__)
def test_api_page_has_every_public_name(module: ModuleType, pages: dict[str, str]) -> None:
    names = set(re.findall(r"^### (\w+)$", pages["api.md"], re.MULTILINE))
    assert set(module.__all__) - {"__version__"} <= names


def test_recipe_page_has_every_option_with_its_meaning(pages: dict[str, str]) -> None:
    options = set()
    for name, value in vars(Recipe()).items():
        section = dataclasses.is_dataclass(value)
        options |= {f"{name}.{field.name}" for field in dataclasses.fields(value)} if section else {name}
    meanings = dict(
        re.findall(r"^- `([\w.]+)` \(`.+?`, default `.+?`\): (.+)$", pages["recipe.md"], re.MULTILINE)
    )
    assert meanings.keys() == options
    assert len(options) > 60
    assert all(len(text) > 7 for text in meanings.values())


def test_command_page_has_every_option_with_its_help(pages: dict[str, str]) -> None:
    (commands,) = (
        action for action in cli.build_parser()._actions if action.dest == "==SUPPRESS==" and action.choices
    )
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", pages["cli.md"], re.MULTILINE | re.DOTALL))
    assert sections.keys() == commands.choices.keys()
    for name, parser in commands.choices.items():
        for option in parser.spellings.values():
            if option != "--help":
                assert re.search(rf"^- .*`{option}\b.*: \w", sections[name], re.MULTILINE), (name, option)


@pytest.mark.parametrize("columns", ["40", "200"])
def test_pages_depend_on_no_terminal_and_no_machine(
    columns: str, generator: ModuleType, pages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    assert generator.pages() == pages
    assert not re.search(r"0x[0-9a-f]{6}|<function|<object|<factory>", "".join(pages.values()))
    assert str(ROOT) not in "".join(pages.values())


def test_stale_page_names_the_command(pages: dict[str, str]) -> None:
    changed = {**pages, "cli.md": pages["cli.md"].replace("labels per file", "labels of each file")}
    with pytest.raises(AssertionError, match="make reference"):
        test_committed_page_is_up_to_date("cli.md", changed)


def test_docstring_becomes_markdown(generator: ModuleType) -> None:
    text = """Return the sum of <a> and `<b>`.

    The first
    paragraph.

    Args:
        a: one of
            - a number,
            - a text
              of digits.
        **others: passed on;
            or not.

    Returns:
        A number
        above 0.
    """
    assert list(generator.described(text)) == [
        "Return the sum of &lt;a> and `<b>`.\n\nThe first paragraph.",
        "**Arguments**",
        "- `a`: one of\n  - a number,\n  - a text of digits.\n- `**others`: passed on; or not.",
        "**Returns**",
        "A number above 0.",
    ]


def test_index_links_every_page() -> None:
    folder = ROOT / "docs"
    links = re.findall(r"\]\(([^)#]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    pages = {str(path.relative_to(folder)) for path in folder.rglob("*.md")} - {"README.md"}
    assert pages <= set(links)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_named_in_a_page_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    folders = "ast_hf|benchmarks|docs|examples|model_cards|tests"
    for name in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_names_in_a_page_exist(path: Path) -> None:
    for name in re.findall(r"(?<![\w/.-])(ast_hf(?:\.\w+)+)", path.read_text(encoding="utf-8")):
        assert pkgutil.resolve_name(name) is not None
