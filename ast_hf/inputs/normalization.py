"""Mean and standard deviation that features are normalised with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from tqdm.auto import tqdm

from ..errors import error
from ..running_moments import Moments
from .clips import ClipInputs
from .streams import StreamedClipInputs

#: Relative standard deviation up to which all values count as equal, the rounding error of equal values.
ROUNDING = 1e-12


def measure_statistics(
    inputs: ClipInputs | StreamedClipInputs, *, clips: int | None = None, disable_tqdm: bool = False
) -> tuple[float, float]:
    """Return mean and standard deviation over all frames and mel bins of a split.

    Unlike in the original's script, the mean is frame-weighted, without augmentation and padding. Only the
    first `max_length` frames of each clip count, as in training.

    Args:
        inputs: the split. Of a stream, this reader's clips are measured.
        clips: number of clips to measure, from the start of the split or stream; None for all.
        disable_tqdm: show no progress bar.

    Raises:
        AstDataError: E209 if all values are equal, or without a clip.
    """
    moments = Moments()
    extractor = inputs.extractor
    waveforms, total = _waveforms(inputs, clips)
    bar = tqdm(total=total, desc="measuring mean and std", unit="clip", leave=False, disable=disable_tqdm)
    for waveform in itertools.islice(waveforms, clips):
        values = extractor(
            waveform, extractor.sampling_rate, padding=False, truncation=True, do_normalize=False
        )  # the extractor warns about clips that are silent or far too loud
        moments.add(values["input_values"][0])
        bar.update()
    bar.close()
    if moments.std <= ROUNDING * abs(moments.mean):
        what = "every log-mel value is the same, the recordings are silent"
        raise error("E209", where="training split", what=what, fix="check that the files hold sound")
    return moments.mean, moments.std


def _waveforms(
    inputs: ClipInputs | StreamedClipInputs, clips: int | None
) -> tuple[Iterator[np.ndarray], int | None]:
    """Return the decoded clips, and the number of clips to measure, None for a whole stream."""
    if isinstance(inputs, StreamedClipInputs):
        return inputs.waveforms(), clips
    total = len(inputs) if clips is None else min(clips, len(inputs))
    return map(inputs.waveform, range(len(inputs))), total
