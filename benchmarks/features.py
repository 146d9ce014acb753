"""Speed of feature extraction compared with transformers' own extractor.

    python -m benchmarks.features            # half a minute
    python -m benchmarks.features --quick    # fewer turns; stores nothing

Both compute the same (1, 1024, 128) features of the same 10 s clip in one process, with one thread for torch and for
numpy's BLAS. They alternate after a few clips each, which limits the effect of other load on the machine. The
ratio of CPU times is computed for each pair of turns; the median is reported, and the largest difference of the
outputs, which shows that both did the same work.
"""

from __future__ import annotations

import io
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from .machine import machine
from .storing import measure_and_store

RESULTS = Path(__file__).parent / "results" / "features.json"

#: Sampling rate in Hz.
RATE = 16_000
#: Timed pairs of turns.
PAIRS = 21
#: Pairs of turns before them, which are not timed.
WARM_UP = 2
#: Clips in a turn.
CLIPS = 8
#: Clips of the batch that is computed on one thread and on two.
BATCH = 64
#: Timed pairs of batches.
BATCH_PAIRS = 9
#: Timed pairs of turns, and of batches, of a quick run.
QUICK_PAIRS = 5


def measure_all(*, quick: bool = False) -> dict[str, Any]:
    """Return all measurements of this machine."""
    pairs = QUICK_PAIRS if quick else PAIRS
    return {
        "command": "python -m benchmarks.features",
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "pairs": pairs,
        "features": measure(pairs),
        **({"torchaudio": measure(pairs, with_torchaudio=True)} if find_spec("torchaudio") else {}),
        "flac": measure_flac(pairs),
        "threads": measure_threads(pairs=QUICK_PAIRS if quick else BATCH_PAIRS),
    }


def measure(pairs: int = PAIRS, *, with_torchaudio: bool = False) -> dict[str, float]:
    """Measure features of samples, against one of the two paths of transformers' extractor."""

    def calling(extractor: Callable) -> Callable:
        return partial(extractor, sampling_rate=RATE, return_tensors="np")

    return compare(calling, clip(), pairs, with_torchaudio=with_torchaudio)


def measure_flac(pairs: int = PAIRS) -> dict[str, float]:
    """Measure the way from the bytes of a FLAC file to features; stock reads them with soundfile."""
    import soundfile

    from ast_hf import ASTFeatureExtractor, load_audio

    content = io.BytesIO()
    soundfile.write(content, clip(), RATE, format="FLAC", subtype="PCM_16")

    def reading(extractor: Callable) -> Callable:
        if isinstance(extractor, ASTFeatureExtractor):
            return lambda data: extractor(load_audio(data, RATE), RATE, return_tensors="np")
        return lambda data: extractor(soundfile.read(io.BytesIO(data))[0], RATE, return_tensors="np")

    return compare(reading, content.getvalue(), pairs)


def clip() -> np.ndarray:
    """Return 10 s of noise."""
    return np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1


def compare(
    use: Callable[[Callable], Callable], given: object, pairs: int, *, with_torchaudio: bool = False
) -> dict[str, float]:
    """Return the median ratio of CPU times, its quartiles, and the largest and mean difference of the two outputs.

    Args:
        use: turns an extractor into a function of `given` that returns its features.
        given: samples or the bytes of a file.
        pairs: pairs of turns that are timed.
        with_torchaudio: stock takes the path with torchaudio, which it does wherever that is installed.
    """
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer as stock_module,
    )

    from ast_hf import ASTFeatureExtractor

    has_torchaudio = patch.object(stock_module, "is_speech_available", lambda: with_torchaudio)
    with warnings.catch_warnings(), threadpool_limits(limits=1), has_torchaudio:
        warnings.simplefilter("ignore")  # stock warns about two empty mel filters, which Kaldi has as well
        torch.set_num_threads(1)
        stock = use(stock_module.ASTFeatureExtractor())
        ours = use(ASTFeatureExtractor())
        difference = np.abs(stock(given)["input_values"] - ours(given)["input_values"])
        ratios = interleave(partial(stock, given), partial(ours, given), pairs=pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": middle,
        "low": low,
        "high": high,
        "max": float(difference.max()),
        "mean": float(difference.mean()),
    }


def interleave(
    slow: Callable[[], object],
    fast: Callable[[], object],
    *,
    pairs: int = PAIRS,
    warm_up: int = WARM_UP,
    turn: int = CLIPS,
) -> list[float]:
    """Return one ratio of CPU times, `slow` over `fast`, for each pair of alternating turns.

    Args:
        slow: called `turn` times in a turn, as `fast`.
        fast: see `slow`.
        pairs: pairs of turns that are timed.
        warm_up: pairs before them.
        turn: calls in a turn.
    """
    ratios = []
    for _ in range(warm_up + pairs):
        ratios.append(cpu_seconds(slow, turn) / cpu_seconds(fast, turn))
    return ratios[warm_up:]


def cpu_seconds(run: Callable[[], object], turn: int) -> float:
    """Return the CPU time of one turn."""
    start = time.process_time()
    for _ in range(turn):
        run()
    return time.process_time() - start


def measure_threads(threads: int = 2, *, pairs: int = BATCH_PAIRS) -> dict[str, float]:
    """Return the median ratio of times of a batch on one thread and on several, its quartiles, and the difference.

    Times are those of the clock. They mean something only on a machine with so many idle processors.
    """
    from ast_hf import ASTFeatureExtractor

    clips = list(np.random.default_rng(0).standard_normal((BATCH, 160_000), np.float32) * 0.1)
    extractor = ASTFeatureExtractor()
    ratios = []
    difference = 0.0
    before = torch.get_num_threads()
    for _ in range(WARM_UP + pairs):
        seconds = []
        results = []
        for count in (1, threads):
            torch.set_num_threads(count)
            start = time.perf_counter()
            results.append(extractor(clips, 16_000, return_tensors="np")["input_values"])
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
        difference = max(difference, float(np.abs(results[0] - results[1]).max()))
    torch.set_num_threads(before)
    low, middle, high = statistics.quantiles(ratios[WARM_UP:], n=4)
    return {"ratio": middle, "low": low, "high": high, "max": difference}


if __name__ == "__main__":
    measure_and_store(__doc__, measure_all, RESULTS)
