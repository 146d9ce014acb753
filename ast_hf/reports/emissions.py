"""What did training emit? Read from the file that codecarbon leaves, when it is installed."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

from ..errors import AstHfWarning, warning_text

#: codecarbon's file in a run's folder: a line for each part of the run that came to its end.
EMISSIONS_FILE = "emissions.csv"
#: Where codecarbon says a machine is that it cannot locate (`external/geography.py` of 3.3.2).
_NOWHERE = (-71.2, 46.8)


def read_emissions(folder: Path) -> dict[str, Any] | None:
    """Energy and emissions of a run, summed over the parts that a resumed one has; None where nothing was measured.

    Emissions follow from the country's electricity. Without a connection codecarbon counts as if the machine were in
    Quebec; then there is the energy alone.

    Returns:
        `energy_kwh`, `co2_grams` and `country` (both None where it is not known), `hardware`, `source`.
    """
    if not (folder / EMISSIONS_FILE).is_file():
        return None
    with (folder / EMISSIONS_FILE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return _told(rows) if rows else None
    except (KeyError, TypeError, ValueError):  # a line that was cut, or columns of another version
        what = "cannot be read, so that the card has no emissions"
        warnings.warn(
            warning_text("W501", where=repr(str(folder / EMISSIONS_FILE)), what=what), AstHfWarning, stacklevel=2
        )
        return None


def _told(rows: list[dict[str, str]]) -> dict[str, Any]:
    last = rows[-1]
    located = all((float(row["longitude"] or 0), float(row["latitude"] or 0)) != _NOWHERE for row in rows)
    return {
        "energy_kwh": sum(float(row["energy_consumed"]) for row in rows),
        "co2_grams": 1000 * sum(float(row["emissions"]) for row in rows) if located else None,
        "country": last["country_name"] or None if located else None,
        "hardware": last["gpu_model"] or last["cpu_model"],
        "source": f"codecarbon {last['codecarbon_version']}",
    }
