"""RESULTS.md: the stored results of every benchmark.

python -m benchmarks.report
"""

from __future__ import annotations

from pathlib import Path

from . import (
    birdsong_page,
    first_hour_page,
    gpu,
    inference_speed_page,
    learning_page,
    long_audio,
    quantisation,
    speed_page,
    timelines_page,
    training_speed,
    training_speed_gpu,
    training_step,
    transfer,
)

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = """\
# Benchmarks

`make bench` measures the first table and the two sections after it, and writes this page. The other sections are the
stored results of the commands that they name; `make bench STORED=1` only writes the page.
{sections}"""
PARTS = (
    speed_page,
    inference_speed_page,
    training_step,
    quantisation,
    first_hour_page,
    transfer,
    learning_page,
    birdsong_page,
    timelines_page,
    long_audio,
    training_speed,
    training_speed_gpu,
    gpu,
)


def page() -> str:
    """Return the page."""
    return _HEAD.format(sections="".join(part.section() for part in PARTS))


def main() -> None:
    """Write the page and print it."""
    RESULTS.write_text(page(), encoding="utf-8")
    print(page())


if __name__ == "__main__":
    main()
