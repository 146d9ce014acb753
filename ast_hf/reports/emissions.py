"""Emissions of a training, read from the file that codecarbon writes if it is installed."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

from ..errors import AstHfWarning, warning_text

#: codecarbon's file in a run's folder, with a line for each finished part of the run.
EMISSIONS_FILE = "emissions.csv"
#: Longitude and latitude that codecarbon (3.3.2, `external/geography.py`) reports for a machine that it
#: cannot locate.
_UNLOCATED = (-71.2, 46.8)


def read_emissions(folder: Path) -> dict[str, Any] | None:
    """Return energy and emissions of a run, summed over its resumed parts; None if nothing was measured.

    Emissions depend on the country's electricity. Without a connection codecarbon assumes Quebec; then only
    the energy is returned. Warns (W501) about a file that cannot be read.

    Returns:
        `energy_kwh`, `co2_grams` and `country` (both None if unknown), `hardware`, `source`.
    """
    path = folder / EMISSIONS_FILE
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return _sum_rows(rows) if rows else None
    except (KeyError, TypeError, ValueError):  # an incomplete line, or columns of another version
        what = "cannot be read, so the card has no emissions"
        warnings.warn(warning_text("W501", where=repr(str(path)), what=what), AstHfWarning, stacklevel=2)
        return None


def _sum_rows(rows: list[dict[str, str]]) -> dict[str, Any]:
    last = rows[-1]
    places = [(float(row["longitude"] or 0), float(row["latitude"] or 0)) for row in rows]
    located = _UNLOCATED not in places
    return {
        "energy_kwh": sum(float(row["energy_consumed"]) for row in rows),
        "co2_grams": 1000 * sum(float(row["emissions"]) for row in rows) if located else None,
        "country": last["country_name"] or None if located else None,
        "hardware": last["gpu_model"] or last["cpu_model"],
        "source": f"codecarbon {last['codecarbon_version']}",
    }
