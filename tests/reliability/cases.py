"""Rows of the tables of bad input, and figures of the longer scenarios, for the tests and for docs/reliability.md.

A row says what a user does, what our package has to make of it, and how the same is done without our package.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The long tier: all kills, all mutants. The short tier runs in CI.
FULL = os.environ.get("AST_HF_RELIABILITY") == "full"

#: Folder in which a run of the suite leaves its outcomes and figures; None for a run that only tests.
RESULTS = os.environ.get("AST_HF_RELIABILITY_RESULTS")

#: What counts as right: codes of which an error or warning must have one, `"E202|E203"` or `"W205"`, or a
#: function that says whether a returned value is right.
Right = str | Callable[[Any], bool]


@dataclass(frozen=True)
class Case:
    """A row of a table of bad input.

    Attributes:
        id: number of the row; its letter names the table (A waveforms, B audio files, C data sets, ...).
        title: the input, in a few words.
        prepare: makes the input in an empty folder, and returns what `ours` and `stock` take.
        ours: what a user of this package does with it.
        right: the outcome that is right, of `ours` and of `stock`.
        stock: what a user of transformers, datasets or soundfile does; None if they have nothing like it.
        seconds: time limit.
        megabytes: limit of additional memory.
    """

    id: str
    title: str
    prepare: Callable[[Path], Any]
    ours: Callable[[Any], Any]
    right: Right
    stock: Callable[[Any], Any] | None = None
    seconds: float = 30.0
    megabytes: float = 1_000.0

    def __str__(self) -> str:
        return self.id


def codes_of(right: Right) -> frozenset[str]:
    """Return the codes that a `Right` accepts; none for a function."""
    return frozenset(re.findall(r"[EW]\d{3}", right)) if isinstance(right, str) else frozenset()


def record(name: str, **figures: Any) -> None:
    """Keep the figures of a scenario, plain JSON values, for docs/reliability.md; `name` is its title there."""
    if RESULTS is None:
        return
    folder = Path(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"scenario-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    file.write_text(json.dumps({"name": name, "figures": figures}, indent=2) + "\n", encoding="utf-8")


def record_outcome(case: Case, column: str, verdict: str, text: str) -> None:
    """Keep the outcome of a row for docs/reliability.md; `column` is `"ours"` or `"stock"`."""
    if RESULTS is None:
        return
    folder = Path(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"id": case.id, "title": case.title, "column": column, "verdict": verdict, "text": text}
    file = folder / f"case-{case.id}-{column}.json"
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
