"""Section of RESULTS.md with the results that `benchmarks.birdsong` stored."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from .transfer import line

RESULTS = Path(__file__).parent / "results" / "birdsong.json"
_COLUMNS = ("segment_micro", "segment_macro", "event_micro", "event_macro")

_SECTION = """
## Times of short sounds: birdsong

Recordings of one Bengalese finch: {train[recordings]} to train ({train[events]} syllables), {validation[recordings]}
to choose the rules of timelines, {test[recordings]} to test ({test[events]} syllables in {test[seconds]:.0f} s). A
syllable lasts 0.02 to 0.14 s, a quarter of the repetitions of one follow within 4 ms. AST is trained by
[short-sounds-with-times.yaml](../examples/recipes/short-sounds-with-times.yaml), from random weights. F1 of segments of
1 s and of events with a collar of 200 ms, each as micro / macro. Every row but the first has its thresholds, shortest
event and shortest gap from the validation recordings, found in the same way for the F1 that it names.

| system | rules fitted for | segment F1 | event F1 |
|---|---|---|---|
{rows}

"Always on" over all {all_recordings} recordings is {always_all} in segment F1.
{costs}
{control}
Run `{command}`; `make bench STORED=1` shows the stored results. Measured with torch {versions[torch]}, transformers
{versions[transformers]} and scikit-learn {versions[scikit-learn]}.
"""

_CONTROL = """
The last row is trained with the labels of all sounds in a window (`data.window_labels: overlap`) and has the hop of the
others. Its curve is the harmonic mean of all windows over a time, the default of timelines. Such a model cannot tell
repetitions of a syllable within half a second apart.
"""


def section() -> str:
    """Return the stored comparison, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    if not stored["seeds"]:
        return ""
    parts = stored["recordings"]
    seeds = list(stored["seeds"].values())
    return _SECTION.format(
        **parts,
        rows="\n".join(rows(stored)),
        all_recordings=sum(part["recordings"] for part in parts.values()),
        always_all=pair([stored["always"]["all"]], *_COLUMNS[:2]),
        costs=costs(seeds, parts["validation"]["seconds"] + parts["test"]["seconds"]),
        control=_CONTROL if stored["control"] else "",
        command=stored["command"],
        versions=stored["versions"],
    )


def rows(stored: dict[str, Any]) -> list[str]:
    """Return the rows of the table."""
    seeds = list(stored["seeds"].values())
    ast = f"AST, {len(seeds)} seeds" if len(seeds) > 1 else "AST"
    table = [row("always on", "-", [stored["always"]["test"]])]
    for target in ("segment", "event"):
        table.append(row("logistic regression on frames", f"{target}s", [stored["frames"][target]]))
    for target in ("segment", "event"):
        table.append(row(ast, f"{target}s", [seed[target] for seed in seeds]))
    if stored["control"]:
        table.append(row("AST, labels of whole windows", "events", [stored["control"]["event"]]))
    return table


def row(name: str, target: str, runs: list[dict[str, float]]) -> str:
    """Return a row: mean of the runs, and their standard deviation if there are several."""
    return line([name, target, pair(runs, *_COLUMNS[:2]), pair(runs, *_COLUMNS[2:])])


def pair(runs: list[dict[str, float]], micro: str, macro: str) -> str:
    """Return micro and macro F1 as a cell."""
    return " / ".join(value([run[name] for run in runs]) for name in (micro, macro))


def value(values: list[float]) -> str:
    """Return the mean, with the standard deviation of several values."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def costs(seeds: list[dict[str, Any]], scored: float) -> str:
    """Return the CPU time of scoring, and that of training where a run was trained."""
    scoring = mean(seed["scoring_cpu_seconds"] for seed in seeds)
    text = f"Scoring {scored:.0f} s of sound and the fit took {scoring:.0f} CPU seconds of one core"
    training = [seed["training_cpu_seconds"] for seed in seeds if seed["training_cpu_seconds"] is not None]
    return f"{text}, training {mean(training):.0f}." if training else f"{text}."
