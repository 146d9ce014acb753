"""Section of RESULTS.md with the results that `benchmarks.first_hour` stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .transfer import line

RESULTS = Path(__file__).parent / "results" / "first_hour.json"

_SECTION = """
## The first hour

`ast-hf new TABLE`, then `ast-hf finetune`, with no other choice, one seed. The recipes that `new` wrote are in
[first_hour.json](results/first_hour.json). "Shipped recipe" is the one that the documentation names for such data, its
settings chosen by hand on clips that are not reported. Logistic regression has the training clips of the model beside
it. Estimate is the time that `new` printed, as a share of the real one.

| clips, training / test | split | `ast-hf new` | logistic regression | shipped recipe | minutes | estimate |
|---|---|---|---|---|---|---|
{rows}

First lines of the verdicts:

{verdicts}

Run `{command}`; `make bench STORED=1` shows the stored results. Measured on {machine}, with torch {versions[torch]},
transformers {versions[transformers]} and scikit-learn {versions[scikit-learn]}.
"""


def section() -> str:
    """Return the stored comparison, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    cases = stored["cases"].values()
    rows = [row for case in cases for row in case_rows(case)]
    verdicts = [f"- {case['title']}: {case['new']['verdict']['headline']}" for case in cases]
    return _SECTION.format(**{**stored, "rows": "\n".join(rows), "verdicts": "\n".join(verdicts)})


def case_rows(case: dict[str, Any]) -> list[str]:
    """Return a row of the table for each test split of a case."""
    new = case["new"]
    shipped = case.get("recipe")
    return [
        line(
            [
                f"{case['title']}, {case['clips']['train']} / {case['clips'][split]}",
                split,
                f"{new['scores'][split]:.3f}",
                f"{new['baseline'][split]:.3f}",
                f"{shipped['scores'][split]:.3f} ({shipped['file']})" if shipped else "-",
                f"{new['seconds'] / 60:.1f}",
                f"{new['estimated_seconds'] / new['seconds']:.2f}",
            ]
        )
        for split in new["scores"]
    ]


def cell(case: dict[str, Any]) -> str:
    """Return the results of a case on one line, for the terminal."""
    new = case["new"]
    scores = ", ".join(
        f"{split} {value:.3f} (logistic regression {new['baseline'].get(split, float('nan')):.3f})"
        for split, value in new["scores"].items()
    )
    return f"{scores}; {new['seconds']:.0f} s, estimated {new['estimated_seconds']:.0f} s"
