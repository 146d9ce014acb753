"""Section of RESULTS.md with the results that `benchmarks.inference_speed` stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .transfer import line

RESULTS = Path(__file__).parent / "results" / "inference_speed.json"
PICTURE = RESULTS.with_suffix(".png")
_STOCK = "transformers sdpa float32"
#: Copies in the table of lengths; bfloat16 is left out where the processor does not have it.
_KINDS = ("as loaded", "float32", "bfloat16")

_SECTION = """
## Inference on a CPU

One thread, CPU time, medians of {rounds} rounds in which the variants take turns. `ast_hf float32`, `bfloat16` and
`int8` are copies by `optimize_for_inference`.

**AST-base, a clip of 10 s**, 1,214 tokens, random weights. Difference: the largest of 527 logits from those of
transformers, whose standard deviation is {spread:.2f}.

| system | faster than transformers' sdpa in float32 | difference of logits |
|---|---|---|
{base_rows}

![time of a clip, ours, peers, and the limit of this processor](results/inference_speed.png)

The limits are the model's 261e9 operations at the speed of its largest product on this processor. The short cut through
the last block leaves out 22e9 of them.

**Short clips**: a checkpoint that takes clips without padding, against transformers, which pads each to 10.24 s. The
scores are those of a checkpoint that was trained so.

{length_rows}

**Recordings**, from samples to scores, in windows without overlap: the demo's model, {seconds} s, {demo:.0f} times real
time; AST-base in float32 {base_rate:.1f} times.

**Start**, CPU time of a fresh process: `import ast_hf` takes {imported:.2f} times that of `import torch`, as it loads
torch when a class is first used; `ast-hf --help` takes {helped:.2f} s.
{trained}
Run `{command}`; `make bench STORED=1` shows the stored results. Measured on {machine}, with torch {versions[torch]} and
transformers {versions[transformers]}.
"""

_TRAINED = """
**A trained checkpoint**, {clips} clips of {tokens} tokens: the share of clips whose best label is that of float32.

| system | faster than the model as loaded | agreement | difference of logits |
|---|---|---|---|
{rows}
"""


def section(path: Path = RESULTS) -> str:
    """Return the stored comparison, or an empty string without one."""
    if not path.exists():
        return ""
    stored = json.loads(path.read_text(encoding="utf-8"))
    rates = stored["recordings"]["times_real_time"]
    return _SECTION.format(
        **{name: value for name, value in stored.items() if name != "trained"},
        spread=stored["base"]["spread"],
        base_rows="\n".join(ratio_rows(stored["base"], _STOCK)),
        length_rows="\n".join(length_rows(stored["lengths"]["seconds"])),
        seconds=stored["recordings"]["seconds"],
        demo=rates["demo"],
        base_rate=rates["AST-base"],
        imported=stored["start"]["import ast_hf"] / stored["start"]["import torch"],
        helped=stored["start"]["ast-hf --help"],
        trained=trained(stored["trained"]) if "trained" in stored else "",
    )


def ratio_rows(table: dict[str, Any], reference: str) -> list[str]:
    """Return a row for each system: its speed, that of the reference being 1, and the largest difference."""
    seconds = table["seconds"]
    return [
        line([name, f"{seconds[reference] / spent:.2f}x", f"{table['gaps'][name]:.1e}"])
        for name, spent in seconds.items()
    ]


def length_rows(seconds: dict[str, float]) -> list[str]:
    """Return a row for each length, and one for a mixture of as many clips of each."""
    lengths = sorted({int(name.rpartition(" ")[2]) for name in seconds if name.startswith("ast_hf")})
    padded = seconds["transformers, padded"]
    kinds = [kind for kind in _KINDS if f"ast_hf {kind}, {lengths[0]}" in seconds]
    rows = [
        line(
            [
                f"{frames / 100:g} s",
                *(f"{padded / seconds[f'ast_hf {kind}, {frames}']:.1f}x" for kind in kinds),
            ]
        )
        for frames in lengths
    ]
    mixed = [sum(seconds[f"ast_hf {kind}, {frames}"] for frames in lengths) for kind in kinds]
    return [
        line(["clips", *kinds]),
        f"|{'---|' * (len(kinds) + 1)}",
        *rows,
        line(["a mixture of these", *(f"{padded * len(lengths) / total:.2f}x" for total in mixed)]),
    ]


def trained(table: dict[str, Any]) -> str:
    """Return the table of a trained checkpoint."""
    seconds = table["seconds"]
    rows = [
        line(
            [
                name,
                f"{seconds['float32'] / spent:.2f}x",
                f"{table['agreement'][name]:.1%}",
                f"{table['gaps'][name]:.1e}",
            ]
        )
        for name, spent in seconds.items()
    ]
    return _TRAINED.format(clips=table["clips"], tokens=table["tokens"], rows="\n".join(rows))


def draw(table: dict[str, Any], path: Path) -> None:
    """Draw the time of each system as a bar, and the limits of the processor as lines."""
    from matplotlib.figure import Figure

    seconds = dict(sorted(table["seconds"].items(), key=lambda each: -each[1]))
    figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    colors = ["tab:blue" if name.startswith("ast_hf") else "silver" for name in seconds]
    names = [f"{name}: {table['seconds'][_STOCK] / spent:.2f}x" for name, spent in seconds.items()]
    axes.barh(names, list(seconds.values()), color=colors)
    for (name, spent), style in zip(table["limits"].items(), ("--", ":"), strict=False):
        axes.axvline(spent, color="black", linestyle=style, linewidth=1, label=f"limit in {name}")
    axes.set_xlabel("CPU seconds of a clip of 10 s, one thread")
    axes.set_title("AST-base, inference on a CPU")
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path)
