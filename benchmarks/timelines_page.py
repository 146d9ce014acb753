"""Section of RESULTS.md with the results that `benchmarks.timelines` stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .transfer import line

RESULTS = Path(__file__).parent / "results" / "timelines.json"

NAMES = {
    "fixed": "(a) windows side by side, threshold",
    "median": "(b) overlapping windows, median filter, threshold",
    "hysteresis": "(c) cross-fade, hysteresis",
    "boxes": "(d) cross-fade, change-detection boxes",
    "columns": "(e) as (c), with columns",
    "column_boxes": "(f) as (d), with columns",
    "column_median": "(g) columns, median filter, threshold",
    "columns_overlapping": "(h) as (e), several classes at a time",
    "default": "**ours: the defaults**, window chosen",
    "default_window": "ours: the defaults, the model's window",
}
METRICS = {
    "psds": "PSDS1",
    "event": "event F1, 200 ms",
    "event_1s": "event F1, 1 s",
    "segment": "segment F1, 1 s",
}
#: (a) and (b): the usual ways, which the others are compared with.
BASELINES = ("fixed", "median")

_SECTION = """
## How good are the times?

{mixtures[reported]} mixtures of 60 s with {events} events: each has 8 clips of ESC-10 at random places, 0, 10, 20 or 30 dB
above pink noise of -55 to -40 dBFS. In {overlap:.0%} of the time with a sound there are several. A clip's events are the
parts that are at most 30 dB below its loudest; pauses shorter than a second are part of an event. The mixtures are made
at run time, from a seed. The checkpoint is (b) of the comparison above, trained on folds 3 to 5 and accurate to 0.900 on
the clips of fold 2. Window, filter, mean, weights and thresholds of every row were chosen on {mixtures[choice]} mixtures of
fold 2; the results are those on mixtures of fold 1. All rows use the same scores.

{head}
{rows}

PSDS1 (DCASE: shares of 0.7, standard deviation of the classes subtracted, up to 100 false alarms an hour) and F1, the mean
of the classes, as `sed_scores_eval` computes them. An event counts in F1 if its onset is right within the collar, and its
offset within the collar or 20 % of its length. "x" is the PSDS1 as a multiple of the better of (a) and (b). The window is
that of the best PSDS1; it has 5.12 s in the model.

- (a) is what most tools for windows do. (b) has the score of the window around each time, four windows to a length.
- (c) to (f) are the package's: overlapping windows, and only the best class at a time, as the model knows one class for
  a clip. The mixtures have several at a time: (h) shows what that costs.
- Columns are the classifier applied to the mean over frequency of each time column of patches, of 160 ms here. Their
  weight was chosen from 0.5 and 1.
- Ours with defaults has nothing fitted but the thresholds, and the window in the first of the two rows.

{verdict}

`{command}` (`make bench-timelines`), with torch {versions[torch]}, transformers {versions[transformers]} and sed_scores_eval
{versions[sed_scores_eval]}. Every choice is in [timelines.json](results/timelines.json).
"""


def section() -> str:
    """Return the stored comparison, or an empty string without a complete one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    systems = stored["systems"]
    if not {*BASELINES, "default"} <= systems.keys():
        return ""
    columns = ["system", "window", *METRICS.values(), "x"]
    head = f"{line(columns)}\n{'|---' * len(columns)}|"
    best = best_of_baselines(systems, "psds")
    rows = "\n".join(line(row(name, values, best)) for name, values in systems.items())
    return _SECTION.format(**stored, head=head, rows=rows, verdict=verdict(systems))


def best_of_baselines(systems: dict[str, Any], metric: str) -> float:
    """Return the better of (a) and (b) in a metric."""
    return max(systems[name][metric]["value"] for name in BASELINES)


def row(name: str, values: dict[str, Any], best: float) -> list[str]:
    """Return the cells of one system."""
    window = values["psds"]["settings"]["window"]
    reached = [values[metric]["value"] for metric in METRICS]
    seconds = f"{window:g} s" if isinstance(window, float) else window
    return [NAMES[name], seconds, *(f"{value:.3f}" for value in reached), f"{reached[0] / best:.2f}"]


def verdict(systems: dict[str, Any]) -> str:
    """Return what the target says: 1.05 times the better of (a) and (b) in PSDS1, no lower event F1."""
    ours = systems["default"]
    ratio = ours["psds"]["value"] / best_of_baselines(systems, "psds")
    event = ours["event"]["value"]
    usual = best_of_baselines(systems, "event")
    met = ratio >= 1.05 and event >= usual
    outcome = "reached" if met else "missed"
    return (
        f"The target of at least 1.05 times the better of (a) and (b) in PSDS1 and no lower event F1 is {outcome}: "
        f"{ratio:.2f} times, and {event:.3f} against {usual:.3f}."
    )
