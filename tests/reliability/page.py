"""Write tests/reliability/results.json from the outcomes of a run of the suite, and docs/reliability.md from that.

`make reliability` runs the suite in full and then this; `python tests/reliability/page.py` alone rewrites the page.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "reliability.md"

_PACKAGES = ("torch", "transformers", "datasets", "huggingface_hub", "safetensors", "soundfile", "av")

_INTRODUCTION = """# Reliability

Bad input and faults, what transformers makes of them, and what `ast_hf` does. Both columns come from one run on one
machine; each call runs in a process of its own, with limits of time and memory. This page is written by:

    make reliability

`make test-reliability` runs the short tier, which is part of CI; `make test-reliability FULL=1` runs everything. Each
scenario says how many it tried. In the stored run, kills, pairs and signals are those of the long tier, all others
those of the short one.
"""

_VERDICTS = """A call has one of these outcomes:

- **right**: the result is right.
- **clear**: an error with the code that [errors.md](reference/errors.md) gives for this problem; it names the place
  and the fix. **warned**: a right result, with such a warning.
- **error**: any other exception. Whether it helps is for the reader to judge: its text stands in the table.
- **silent**: a wrong result, or a harmful input accepted, without a word.
- **unbounded**: over the limits (usually 30 s and 1 GB), or the process died.

Only `ast_hf` has codes, so only it can be **clear**.
"""


def collect(folder: Path) -> dict[str, Any]:
    """Return the outcomes and figures that a run left in `folder`, with the machine and the versions."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("case-*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        row = rows.setdefault(values["id"], {"title": values["title"]})
        row[values["column"]] = {"verdict": values["verdict"], "text": values["text"]}
    scenarios: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("scenario-*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        name = values["name"].partition(", batch ")[0]
        scenarios[name] = _added(scenarios.get(name, {}), values["figures"])
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "machine": _machine(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "cases": rows,
        "scenarios": scenarios,
    }


def _added(total: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """Return the sums of the figures of several batches; one batch is returned as it is."""
    return {name: total[name] + value if name in total else value for name, value in figures.items()}


def _machine() -> str:
    cpus = Path("/proc/cpuinfo")
    text = cpus.read_text(encoding="utf-8") if cpus.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if f" {flag}" in text]
    name = model[1] if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores ({', '.join(flags)}), Python {platform.python_version()}"


def render(results: dict[str, Any]) -> str:
    """Return the page."""
    from reliability.tables import SECTIONS

    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [_INTRODUCTION, f"Last run: {results['date']}; {results['machine']}; {versions}.", ""]
    lines += ["## Scenarios", "", "| scenario | figures |", "|---|---|"]
    lines += [f"| {name} | {_figures(values)} |" for name, values in sorted(results["scenarios"].items())]
    lines += ["", "## Bad input", "", _VERDICTS, *_summary(results["cases"])]
    for letter, title in SECTIONS.items():
        rows = {name: row for name, row in results["cases"].items() if name.startswith(letter)}
        if rows:
            lines += ["", f"### {letter}. {title}", "", "| id | input | transformers | `ast_hf` |"]
            lines += ["|---|---|---|---|"]
            lines += [_row(name, row) for name, row in sorted(rows.items(), key=lambda item: _order(item[0]))]
    return "\n".join(lines) + "\n"


def _order(name: str) -> tuple[int, str]:
    number = re.match(r"\d+", name[1:])
    return int(number[0]) if number else 0, name


def _figures(values: dict[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if name != "result"}
    return _cell("; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in shown.items()))


def _summary(cases: dict[str, Any]) -> list[str]:
    """Return a table of the number of each verdict, over the rows that have both columns, and over all."""
    both = [row for row in cases.values() if "stock" in row and "ours" in row]
    verdicts = ("right", "clear", "warned", "error", "silent", "unbounded")
    counts = {
        f"transformers, {len(both)} rows": Counter(row["stock"]["verdict"] for row in both),
        f"`ast_hf`, the same {len(both)} rows": Counter(row["ours"]["verdict"] for row in both),
        f"`ast_hf`, all {len(cases)} rows": Counter(
            row["ours"]["verdict"] for row in cases.values() if "ours" in row
        ),
    }
    head = ["|  | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 1) + "|"]
    return [
        *head,
        *(
            f"| {name} | " + " | ".join(str(count[verdict]) for verdict in verdicts) + " |"
            for name, count in counts.items()
        ),
    ]


def _row(name: str, row: dict[str, Any]) -> str:
    stock = _outcome(row["stock"]) if "stock" in row else "-"
    return f"| {name} | {_cell(row['title'])} | {stock} | {_outcome(row['ours'])} |"


def _outcome(outcome: dict[str, str]) -> str:
    return f"**{outcome['verdict']}** {_cell(outcome['text'], 160)}"


def _cell(text: str, limit: int = 400) -> str:
    """Return a text for a cell of a Markdown table, in which nothing is active."""
    shown = "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )
    shown = shown if len(shown) <= limit else shown[: limit - 3] + "..."
    return re.sub(r"([\\`*_{}\[\]<>|#$~!])", r"\\\1", shown)


def main(arguments: list[str]) -> None:
    """Collect the outcomes in the folder that is named, if any, and write the page."""
    if arguments:
        results = collect(Path(arguments[0]))
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    PAGE.write_text(render(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main(sys.argv[1:])
