"""All tables of bad input: the lists `CASES` of the modules `bad_*.py` of this folder."""

from __future__ import annotations

import importlib
from pathlib import Path

from .cases import Case

#: First letter of an id -> title of its table in docs/reliability.md.
SECTIONS = {
    "A": "Waveforms and calls of the feature extractor",
    "B": "Audio files",
    "C": "Data sets and labels",
    "D": "Configurations, weights, loading",
    "E": "Training and recipes",
    "G": "The Hub",
    "H": "Files that try to run code or to exhaust the machine",
}


def all_cases() -> list[Case]:
    """Return every row, by id."""
    here = Path(__file__).parent
    modules = [
        importlib.import_module(f".{path.stem}", __package__) for path in sorted(here.glob("bad_*.py"))
    ]
    return sorted((case for module in modules for case in module.CASES), key=_order)


def _order(case: Case) -> tuple[str, int, str]:
    letters = case.id[:1]
    digits = case.id[1:].partition("-")[0]
    number = "".join(character for character in digits if character.isdigit())
    return letters, int(number or 0), case.id
