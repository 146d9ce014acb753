"""Command line of a benchmark that measures everything at once: `--quick` stores nothing, `--store` names the file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measure_and_store(text: str | None, measure: Callable[..., dict[str, Any]], results: Path) -> None:
    """Measure as the command line says, store, and print what was found.

    Args:
        text: text of `--help`.
        measure: returns the measurements; called with `quick`.
        results: where a run that is not quick stores them, unless `--store` names another file.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--store", type=Path, help="file of the results")
    options = parser.parse_args()
    found = measure(quick=options.quick)
    store(found, options.store or (None if options.quick else results))
    print(json.dumps(found, indent=2))


def store(found: dict[str, Any], place: Path | None) -> None:
    """Write measurements as JSON; nothing without a place."""
    if place is not None:
        place.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
