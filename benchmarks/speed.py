"""`make bench`: measure everything about speed on a CPU side by side with transformers, and write RESULTS.md.

    python -m benchmarks.speed                                            # 12 minutes on one core
    python -m benchmarks.speed --checkpoint FOLDER --clips TABLE          # with the agreement of a trained checkpoint
    python -m benchmarks.speed --quick                                    # four minutes; stores nothing

Each part is a process of its own: features and stored features, training steps, inference. The peers of inference
are those that are installed (`pip install ast_hf[bench]`). The table at the end has every target.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import report
from .speed_page import PARTS, section


def main() -> None:
    """Measure every part, and print table and machine; a full run also stores the results and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns; stores nothing")
    parser.add_argument("--checkpoint", help="folder of a trained checkpoint")
    parser.add_argument("--clips", help="CSV with a column `path`: clips to classify with it")
    options = parser.parse_args()
    if bool(options.checkpoint) != bool(options.clips):
        parser.error("--checkpoint and --clips go together")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.quick else PARTS[0].parent
        for part in PARTS:
            words = ["--quick"] if options.quick else []
            if part.stem == "inference_speed" and options.checkpoint:
                words += ["--checkpoint", options.checkpoint, "--clips", options.clips]
            measure(part.stem, [*words, "--store", str(folder / part.name)])
        print(section(folder))
    if not options.quick:
        report.main()


def measure(name: str, words: list[str]) -> None:
    """Run a part in a process of its own, and print how long it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.{name}", *words]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nbenchmarks.{name} failed")
    print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
