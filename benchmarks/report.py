"""`make bench`: run the short benchmark, add the stored results of the long ones, and write RESULTS.md."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
import transformers

from . import (
    birdsong_page,
    features,
    first_hour_page,
    inference_speed_page,
    learning_page,
    long_audio,
    quantisation,
    stored_features,
    timelines_page,
    training_speed,
    training_speed_gpu,
    training_step,
    transfer,
)

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = """\
# Benchmarks

Written by `make bench`. Each row of the first table compares two sides in one process, alternating, with one thread,
on the same input. The ratio is the median of the pairs, with the quartiles in brackets. Only ratios can be compared
between machines.

{machine}

| what | against | ours is faster by | difference of outputs (normalised units) |
|---|---|---|---|
{rows}
{sections}"""


def main() -> None:
    """Write the page and print it."""
    machine = (
        f"Measured with torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()} on {platform.machine()}."
    )
    parts = (
        inference_speed_page,
        quantisation,
        first_hour_page,
        transfer,
        learning_page,
        birdsong_page,
        timelines_page,
        long_audio,
        training_step,
        training_speed,
        training_speed_gpu,
    )
    sections = "".join(part.section() for part in parts)
    rows = [features.row(), features.threads_row(), stored_features.row(), stored_features.row("float16")]
    page = _HEAD.format(machine=machine, rows="\n".join(rows), sections=sections)
    RESULTS.write_text(page, encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
