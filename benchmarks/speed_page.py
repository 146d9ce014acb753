"""Table of every target of speed on a CPU, from the results that the parts of `benchmarks.speed` stored."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .transfer import line

_RESULTS = Path(__file__).parent / "results"
#: Results in the order in which they are measured.
PARTS = [
    _RESULTS / f"{name}.json" for name in ("features", "stored_features", "training_step", "inference_speed")
]

_STOCK = "transformers sdpa float32"

#: Row that may miss its target -> why.
_WHY_MISSED = {
    "bytes of a FLAC file of 10 s to features": (
        "FLAC: decoding is a part of both sides, and more than half of our time: the ratio is far below that of "
        "the\n  features alone."
    ),
    "features of a batch of 64 on two threads": (
        "Two threads: this is time of the clock, which needs two processors that do nothing else. Threads also wait "
        "for\n  Python's lock between the short operators of a clip. Processes, as readers of clips are, do not."
    ),
}


class Row(NamedTuple):
    """Row of the table: what is compared with what, and how much faster or smaller it has to be."""

    what: str
    against: str
    measured: str
    target: str
    note: str


def section(folder: Path = _RESULTS) -> str:
    """Return the table with its head as a section of RESULTS.md; empty without results."""
    parts = _read(folder)
    if len(parts) < len(PARTS):
        return ""
    text = table(folder)
    return (
        "\n## Speed on a CPU, side by side\n\n"
        "One thread, CPU time, medians of turns that alternate in one process, except where two threads are named. "
        "What misses its\ntarget is in bold. Only ratios can be compared between machines.\n\n"
        f"{text}\n"
        f"{_reasons(text)}\n"
        "The rows come from these commands, in this order; `make bench PEERS=1 CHECKPOINT=... CLIPS=...` runs all:\n\n"
        f"{''.join(map(_measured, parts.values()))}"
    )


def _measured(part: dict[str, Any]) -> str:
    """Return command, machine and versions of a part as a line of a list."""
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    return f"- `{part['command']}`, on {part['machine']}, with {versions}\n"


def table(folder: Path = _RESULTS) -> str:
    """Return the table of what was measured."""
    parts = _read(folder)
    rows = [row for name, part in parts.items() for row in _ROWS[name](part)]
    head = [
        "| what | against | measured | target | difference of outputs, peers |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(line(list(row)) for row in rows)])


def _reasons(text: str) -> str:
    """Return why the rows in bold of a table miss their targets, where that is known; empty if none does."""
    missed = [row for row in text.splitlines() if "**" in row]
    found = [why for what, why in _WHY_MISSED.items() if any(row.startswith(f"| {what} |") for row in missed)]
    return "".join(["\n", *(f"- {why}\n" for why in found)]) if found else ""


def _read(folder: Path) -> dict[str, Any]:
    places = [folder / part.name for part in PARTS]
    return {place.stem: json.loads(place.read_text(encoding="utf-8")) for place in places if place.exists()}


def _faster(
    ratio: float, least: float | None, digits: int = 2, *, limit: str = "", within: bool = True
) -> tuple[str, str]:
    """Return a ratio and its target as text; bold if it is missed, and "-" without a target.

    Args:
        ratio: how many times as fast.
        least: the target; None for none.
        digits: digits after the point.
        limit: tolerance of the outputs as text, a part of the target.
        within: the outputs are within it; if not, the target is missed however fast it is.
    """
    text = f"{ratio:.{digits}f}x"
    if least is None:
        return text, "-"
    target = f"at least {least:g}x{limit and ', '}{limit}"
    return text if ratio >= least and within else f"**{text}**", target


def _smaller(value: float, most: float, unit: str = "x") -> tuple[str, str]:
    text = f"{value:.2f}{unit}"
    return text if value <= most else f"**{text}**", f"at most {most:g}{unit}"


def _features(part: dict[str, Any]) -> Iterator[Row]:
    stock = "transformers' extractor, numpy path"
    for name, what, against, least in (
        ("features", "features, clip of 10 s", stock, 12.0),
        ("torchaudio", "features, clip of 10 s", "transformers' extractor, path with torchaudio", None),
        ("flac", "bytes of a FLAC file of 10 s to features", f"soundfile and {stock}", 5.5),
        ("threads", "features of a batch of 64 on two threads", "ours on one thread", 1.8),
    ):
        if name not in part:
            continue
        found = part[name]
        mean = f", mean {found['mean']:.1e}" if "mean" in found else ""
        digits = 2 if name == "threads" else 1
        within = found["max"] <= 5e-4 and found.get("mean", 0.0) <= 1e-5
        limit = "max 5e-4, mean 1e-5" if mean else ""
        measured = _faster(found["ratio"], least, digits, limit=limit, within=within)
        yield Row(what, against, *measured, f"max {found['max']:.1e}{mean}")


def _stored_features(part: dict[str, Any]) -> Iterator[Row]:
    against = "transformers' extractor in `datasets.map`, list columns"
    for dtype in ("float32", "float16"):
        if dtype not in part:
            continue
        found = part[dtype]
        note = f"max {found['max']:.1e}, {found['bytes'] / 1000:.0f} kB a clip ({found['stock_bytes'] / 1000:.0f})"
        yield Row(f"features written to disk, {dtype}", against, *_faster(found["write"], 5.0), note)
        yield Row(f"features read back, {dtype}", against, *_faster(found["read"], 50.0, 0), note)


def _training_step(part: dict[str, Any]) -> Iterator[Row]:
    stock = "transformers, sdpa, float32"
    seconds = part["seconds"]
    for name, what, least in (
        ("bf16", "training step of AST-base, bf16", 1.8),
        ("patchout", "with 50 % structured patchout, float32", 2.3),
        ("patchout bf16", "with 50 % structured patchout, bf16", 3.4),
        ("stride 16", "with 50 % structured patchout, bf16, strides of 16", 4.0),
    ):
        if name not in seconds:  # bfloat16 on a processor without it
            continue
        pairs = zip(seconds["stock"], seconds[name], strict=True)
        ratio = statistics.median(before / after for before, after in pairs)
        gap = part["differences"].get(name)
        note = "other patches" if gap is None else f"max {gap:.1e} of logits"
        yield Row(what, stock, *_faster(ratio, least), note)
    share = part["megabytes"]["memory"] / part["megabytes"]["stock"]
    what = f"peak memory of a training step, {part['batch']} clips, patchout, checkpointing"
    yield Row(what, stock, *_smaller(share, 0.6), "-")


def _inference_speed(part: dict[str, Any]) -> Iterator[Row]:
    stock = "transformers, sdpa, float32"
    seconds = part["base"]["seconds"]
    has_avx512 = "AVX-512" in part["machine"]
    has_vnni = "VNNI" in part["machine"] or "bf16" in part["machine"]  # each processor with bf16 has VNNI
    least = {
        "float32": 1.25 if has_avx512 else 1.1,
        "bfloat16": 2.5,
        "int8": 3.0 if has_vnni else None,
    }
    for precision, target in least.items():
        if f"ast_hf {precision}" not in seconds:  # bfloat16 on a processor without it
            continue
        ratio = seconds[_STOCK] / seconds[f"ast_hf {precision}"]
        limit, within = _tolerance(part, precision)
        what = f"AST-base, clip of 10 s, {precision}"
        measured = _faster(ratio, target, limit=limit, within=within)
        yield Row(what, stock, *measured, _gap_and_peers(part, precision))
    yield from _lengths(part["lengths"]["seconds"])
    rates = part["recordings"]["times_real_time"]
    length = part["recordings"]["seconds"]
    note = f"windows without overlap, {'one turn' if part['recordings'].get('rounds', 1) == 1 else 'median'}"
    what = f"{length} s of audio to scores, the demo's model"
    yield Row(what, "real time", *_faster(rates["demo"], 60.0, 0), note)
    what = f"{length // 5} s of audio to scores, AST-base, float32"
    least_rate = 3.5 if has_avx512 else 2.5
    yield Row(what, "real time", *_faster(rates["AST-base"], least_rate), note)
    start = part["start"]
    share = start["import ast_hf"] / start["import torch"]
    yield Row("`import ast_hf`", "`import torch`", *_smaller(share, 1.05), "torch is loaded when it is used")
    yield Row("`ast-hf --help`", "-", *_smaller(start["ast-hf --help"], 0.3, " s"), "-")


def _tolerance(part: dict[str, Any], precision: str) -> tuple[str, bool]:
    """Return the tolerance of a precision as text, and whether its outputs are within it as far as was measured."""
    name = f"ast_hf {precision}"
    if precision == "float32":
        return "logits within 1e-4", part["base"]["gaps"][name] <= 1e-4
    least = {"bfloat16": 0.99, "int8": 0.98}[precision]
    agreement = part["trained"]["agreement"][name] if "trained" in part else 1.0
    return f"{least:.0%} the same best label", agreement >= least


def _gap_and_peers(part: dict[str, Any], precision: str) -> str:
    """Return the largest difference of logits, the agreement on a trained checkpoint, and the peers' speed."""
    name = f"ast_hf {precision}"
    notes = [f"max {part['base']['gaps'][name]:.1e} of logits"]
    if "trained" in part:
        share = part["trained"]["agreement"][name]
        notes.append(f"same best label for {share:.1%} of {part['trained']['clips']} clips")
    seconds = part["base"]["seconds"]
    peers = [each for each in seconds if each.endswith(precision) and each.startswith(("OpenVINO", "onnx"))]
    notes += [f"{peer.split()[0]} {seconds[_STOCK] / seconds[peer]:.2f}x" for peer in peers]
    return "; ".join(notes)


def _lengths(seconds: dict[str, float]) -> Iterator[Row]:
    padded = seconds["transformers, padded"]
    against = "transformers, padded to 10.24 s"
    note = "for a checkpoint that was trained without padding"
    one = padded / seconds["ast_hf float32, 100"]
    yield Row("clip of 1 s, unpadded, float32", against, *_faster(one, 17.0, 1), note)
    lengths = [name.rpartition(" ")[2] for name in seconds if name.startswith("ast_hf float32")]
    mixed = padded * len(lengths) / sum(seconds[f"ast_hf float32, {length}"] for length in lengths)
    yield Row("clips of 1, 2.5, 5 and 10 s, unpadded, float32", against, *_faster(mixed, 2.4), note)


_ROWS = {
    "features": _features,
    "stored_features": _stored_features,
    "training_step": _training_step,
    "inference_speed": _inference_speed,
}
