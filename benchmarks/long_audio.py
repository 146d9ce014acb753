"""Memory and speed of the classification of long recordings, and stock transformers on the same.

    python -m benchmarks.long_audio                          # 1 min, 10 min, 1 h and 10 h: ten minutes on one core
    python -m benchmarks.long_audio --quick                  # 10 s to 1 min: half a minute; stores nothing beside
    python -m benchmarks.long_audio --checkpoint FOLDER

The checkpoint is the one of `make demo`. Recordings are tones in noise, 16 kHz, written at run time. Every measurement
is a process of its own with one thread. It classifies ten seconds first, which are not counted. Time is CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .machine import machine
from .transfer import line, neutral, write

RESULTS = Path(__file__).parent / "results" / "long_audio.json"
RATE = 16_000
#: Name of a length -> seconds.
LENGTHS = {"1 min": 60, "10 min": 600, "1 h": 3600, "10 h": 36_000}
QUICK_LENGTHS = {"10 s": 10, "1 min": 60}
#: Longest recording that is also measured as WAV, and classified by the stock loop, which holds all of it.
_LONGEST_WAV = 3600
#: Windows that the model takes at once, ours and stock.
BATCH = 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every kind and length, and store the results after each."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    if options.one:
        print(json.dumps(measured(options.one, Path(options.path), options.checkpoint)))
        return
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    command = f"python -m benchmarks.long_audio {shlex.join(neutral(words))}".strip()
    versions = {name: version(name) for name in ("torch", "transformers", "soundfile")}
    results: dict[str, Any] = {
        "command": command, "machine": machine(), "versions": versions, "rows": []
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "results.json" if options.quick else RESULTS
        for name, seconds in lengths.items():
            for row in rows(name, seconds, Path(folder), options.checkpoint):
                results["rows"].append(row)
                write(place, results)
                print(
                    f"{row['kind']}, {row['format']}, {name}: {row['seconds']:.1f} s, {row['rss'] / 1e6:.0f} MB"
                )


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_audio", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("outputs/demo"), help="(default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="short recordings; stores nothing")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def rows(name: str, seconds: int, folder: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """Return the measurements of one length."""
    result = []
    for form in ("flac", "wav"):
        if form == "wav" and seconds > _LONGEST_WAV:
            continue
        path = folder / f"recording.{form}"
        write_recording(path, seconds)
        for kind in KINDS:
            if kind == "stock" and (form == "flac" or seconds > _LONGEST_WAV):
                continue
            command = [sys.executable, "-m", "benchmarks.long_audio", "--one", kind, "--path", str(path)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [*command, "--checkpoint", str(checkpoint)],
                capture_output=True, text=True, check=True, env=environment,
            )  # fmt: skip
            about = {"kind": kind, "format": form, "length": name, "duration": seconds}
            result.append({**about, **json.loads(done.stdout.splitlines()[-1])})
        path.unlink()
    return result


def write_recording(path: Path, seconds: int) -> None:
    """Write tones in noise, in 16 bits, a minute at a time."""
    generator = np.random.default_rng(0)
    times = np.arange(min(seconds, 60) * RATE) / RATE
    tones = 0.2 * np.sin(2 * np.pi * 440 * times) * (times % 5 < 2)
    minute = (tones + 0.002 * generator.standard_normal(len(times))).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(max(seconds // 60, 1)):
            file.write(minute)


def measured(kind: str, path: Path, checkpoint: Path) -> dict[str, float]:
    """Return CPU seconds and peak memory in bytes of one classification in this process."""
    classify = KINDS[kind](checkpoint)
    classify(np.zeros(10 * RATE, np.float32))
    begin = time.process_time()
    classify(str(path))
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "rss": peak * (1 if sys.platform == "darwin" else 1024)}


Classify = Callable[[Any], Any]


def _scores(checkpoint: Path) -> Classify:
    """Return our pipeline: the mean of the windows."""
    pipe = _pipeline(checkpoint)
    return lambda source: pipe(source, sampling_rate=RATE, batch_size=BATCH)


def _timeline(checkpoint: Path) -> Classify:
    """Return our pipeline with times: windows that overlap by three quarters."""
    pipe = _pipeline(checkpoint)
    return lambda source: pipe(source, sampling_rate=RATE, batch_size=BATCH, return_timestamps=True)


def _pipeline(checkpoint: Path) -> Any:
    from transformers import pipeline

    import ast_hf

    assert ast_hf
    return pipeline("audio-classification", model=str(checkpoint), device="cpu")


def _stock(checkpoint: Path) -> Classify:
    """Return a loop over chunks of the model's length with transformers' own classes.

    transformers' pipeline would classify the first window only. The recording is read at once, as such loops do.
    """
    import torch
    from transformers.models.audio_spectrogram_transformer import (
        ASTFeatureExtractor,
        ASTForAudioClassification,
    )

    model = ASTForAudioClassification.from_pretrained(checkpoint).eval()
    extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
    size = extractor.max_length * RATE // 100

    @torch.inference_mode()
    def classify(source: Any) -> Any:
        samples = soundfile.read(source, dtype="float32")[0] if isinstance(source, str) else source
        chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
        total = torch.zeros(model.config.num_labels)
        for first in range(0, len(chunks), BATCH):
            values = extractor(chunks[first : first + BATCH], sampling_rate=RATE, return_tensors="pt")
            total += model(**values).logits.softmax(-1).sum(dim=0)
        return total / len(chunks)

    return classify


#: What is measured -> how it is built.
KINDS: dict[str, Callable[[Path], Classify]] = {"scores": _scores, "timeline": _timeline, "stock": _stock}

NAMES = {
    "scores": "scores (`pipe(file)`)",
    "timeline": "timeline (`return_timestamps=True`)",
    "stock": "stock classes, a loop over chunks",
}

_SECTION = """
## What does a long recording cost?

Peak memory of the process, with Python, torch and the model, and CPU time for each minute of the recording. Both are
shares of those of one minute by our scores. The model is the one of `make demo`: 3 layers of 64, windows of 1.28 s;
16 kHz, {batch} windows at once, one thread. Linear time is the same share in every column.

transformers' pipeline classifies the first window only and is silent about the rest. Stock is a loop by hand with its
classes over chunks of the model's length. It reads the file at once, and was not run on 10 h. Its chunks do not
overlap, so that it is to be compared with the scores, not the timeline.

{head}
{rows}

`{command}` (`make bench-long-audio`) on {machine}, which ran other work
at the same time, with torch {versions[torch]}, transformers {versions[transformers]} and soundfile
{versions[soundfile]}. The numbers are in [long_audio.json](results/long_audio.json).
"""


def section() -> str:
    """Return the stored measurements, or an empty string without any."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    measurements = stored["rows"]
    lengths = list(dict.fromkeys(row["length"] for row in measurements))
    columns = [
        "what",
        "format",
        *(f"{name}: memory" for name in lengths),
        *(f"{name}: time" for name in lengths),
    ]
    kinds = list(dict.fromkeys((row["kind"], row["format"]) for row in measurements))
    unit = next(row for row in measurements if row["kind"] == "scores")
    body = [line(table_row(kind, form, lengths, measurements, unit)) for kind, form in sorted(kinds)]
    head = f"{line(columns)}\n{'|---' * len(columns)}|"
    return _SECTION.format(**{**stored, "rows": "\n".join(body)}, batch=BATCH, head=head)


def table_row(
    kind: str, form: str, lengths: Sequence[str], measurements: Sequence[dict[str, Any]], unit: dict[str, Any]
) -> list[str]:
    """Return the cells of one kind and format: shares of memory, then of CPU time for each minute."""
    by_length = {row["length"]: row for row in measurements if (row["kind"], row["format"]) == (kind, form)}
    cells = [NAMES[kind], form.upper()]
    for value in (lambda row: row["rss"], lambda row: row["seconds"] / row["duration"]):
        for length in lengths:
            known = length in by_length
            cells.append(f"{value(by_length[length]) / value(unit):.2f}" if known else "-")
    return cells


if __name__ == "__main__":
    main()
