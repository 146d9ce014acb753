"""Features of a data set written to disk and read back, compared with the stock extractor in `datasets.map`.

    python -m benchmarks.stored_features            # one minute
    python -m benchmarks.stored_features --quick    # fewer turns; stores nothing

Both start from the same 10 s WAV files (16 bits, 16 kHz), and end with (1024, 128) float32 features:

- stock: transformers' ASTFeatureExtractor called on each clip in `Dataset.map`, whose results are list columns in an
  Arrow file, read back row by row `with_format("torch")`. The files are read with soundfile.
- ours: `data.store`, filled as a run does (digests of the files, decoding, raw log-mel, CRC, one file), and read back
  as model inputs of `ClipInputs`, normalised, with the label: what every epoch after the first one does. The first one
  also compares each clip with its CRC, which takes about as long again.

One process and one thread; the turns alternate, and the median of the ratios of CPU times is reported with its
quartiles. The time in which the system brings dirty pages to the disk is not CPU time of either.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from threadpoolctl import threadpool_limits

from .features import interleave
from .machine import machine
from .storing import measure_and_store

RESULTS = Path(__file__).parent / "results" / "stored_features.json"
#: Clips of the data set.
CLIPS = 32
#: Timed pairs of turns of writing and of reading, after one that is not timed.
WRITES = 7
READS = 11
#: The same of a quick run.
QUICK_TURNS = 2
#: Passes over the data in a turn of reading.
PASSES = 2

SECONDS = 10
RATE = 16_000


def measure_all(*, quick: bool = False) -> dict[str, Any]:
    """Return all measurements of this machine."""
    kinds = ("float32",) if quick else ("float32", "float16")
    return {
        "command": "python -m benchmarks.stored_features",
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "datasets")},
        "clips": CLIPS,
        **{dtype: measure(dtype, quick=quick) for dtype in kinds},
    }


def measure(dtype: str = "float32", *, quick: bool = False) -> dict[str, float]:
    """Return median ratios of writing and reading with their quartiles, bytes of a clip, and the largest difference."""
    from transformers.models.audio_spectrogram_transformer import ASTFeatureExtractor as StockExtractor

    with (
        tempfile.TemporaryDirectory(prefix="ast_hf-bench-") as folder,
        warnings.catch_warnings(),
        threadpool_limits(limits=1),
    ):
        warnings.simplefilter("ignore")  # stock warns about two empty mel filters, which Kaldi has as well
        torch.set_num_threads(1)
        root = Path(folder)
        write_clips(root / "clips")
        sides = _Sides(root, StockExtractor(), dtype)
        turns = (QUICK_TURNS, QUICK_TURNS) if quick else (WRITES, READS)
        writes = interleave(sides.write_stock, sides.write_own, pairs=turns[0], warm_up=1, turn=1)
        reads = interleave(sides.read_stock, sides.read_own, pairs=turns[1], warm_up=1, turn=1)
        return {
            **_summary("write", writes),
            **_summary("read", reads),
            "max": sides.largest_difference(),
            "bytes": sides.own_bytes() / CLIPS,
            "stock_bytes": sides.stock_bytes() / CLIPS,
        }


def write_clips(folder: Path) -> None:
    """Write clips of noise into label folders."""
    random = np.random.default_rng(0)
    for number in range(CLIPS):
        path = folder / f"label{number % 2}" / f"{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, random.standard_normal(RATE * SECONDS) * 0.1, RATE, "PCM_16")


class _Sides:
    """Both sides: each writes all clips into a new folder, and reads the last one that it has written."""

    def __init__(self, root: Path, stock: Any, dtype: str) -> None:
        from ast_hf import ASTFeatureExtractor
        from ast_hf.training import load_audio_dataset

        self.root = root
        self.stock = stock
        self.dtype = dtype
        self.extractor = ASTFeatureExtractor()
        self.split = load_audio_dataset(root / "clips")["train"]
        self.paths = [audio["path"] for audio in self.split["audio"]]
        self._turn = 0

    def _new_folder(self, side: str) -> Path:
        self._turn += 1
        return self.root / f"{side}{self._turn}"

    def write_stock(self) -> None:
        import datasets

        datasets.disable_progress_bars()
        source = datasets.Dataset.from_dict(
            {"path": self.paths, "label": [index % 2 for index in range(CLIPS)]}
        )
        folder = self._new_folder("stock")
        folder.mkdir(exist_ok=True)
        self.mapped = source.map(
            self._stock_features, remove_columns="path", cache_file_name=str(folder / "a.arrow")
        )
        self.stock_folder = folder

    def _stock_features(self, row: dict[str, Any]) -> dict[str, Any]:
        samples, rate = soundfile.read(row["path"], dtype="float32")
        return {"input_values": self.stock(samples, sampling_rate=rate)["input_values"][0]}

    def write_own(self) -> None:
        from ast_hf.training import ClipInputs, store_clips

        self.own_folder = self._new_folder("own")
        inputs = ClipInputs(self.split, self.extractor, cache=False)
        store_clips(inputs, self.own_folder, dtype=self.dtype, disable_tqdm=True)
        self.inputs = inputs

    def read_stock(self) -> None:
        rows = self.mapped.with_format("torch")
        for _ in range(PASSES):
            for clip in range(CLIPS):
                _ = rows[clip]["input_values"]

    def read_own(self) -> None:
        for _ in range(PASSES):
            for clip in range(CLIPS):
                _ = self.inputs[clip]["input_values"]

    def largest_difference(self) -> float:
        rows = self.mapped.with_format("torch")
        pairs = ((rows[clip], self.inputs[clip]) for clip in range(CLIPS))
        return max(float((left["input_values"] - right["input_values"]).abs().max()) for left, right in pairs)

    def own_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.own_folder.rglob("*") if path.is_file())

    def stock_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.stock_folder.iterdir())


def _summary(name: str, ratios: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


if __name__ == "__main__":
    measure_and_store(__doc__, measure_all, RESULTS)
