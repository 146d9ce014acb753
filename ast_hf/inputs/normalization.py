"""Mean and standard deviation that features are normalised with."""

from __future__ import annotations

import itertools

from tqdm.auto import tqdm

from ..errors import error
from ..moments import Moments
from .clips import ClipInputs
from .streams import StreamedClipInputs

#: Equal values have a standard deviation of rounding errors: their mean is rounded.
ROUNDING = 1e-12


def measure_statistics(
    inputs: ClipInputs | StreamedClipInputs, *, clips: int | None = None, disable_tqdm: bool = False
) -> tuple[float, float]:
    """Mean and standard deviation over all real frames and mel bins of a split; of a stream, this reader's clips.

    Frame-weighted, without augmentation and without padding, in one pass (the original's script leaves all three in).
    Only the first `max_length` frames of each clip count, as in training.

    Args:
        inputs: the split.
        clips: measure its first so many clips, in a stream those that are read first; None for all.
        disable_tqdm: show no progress bar.

    Raises:
        AstDataError: E209 when every value is the same, or there is no clip.
    """
    moments, extractor = Moments(), inputs.extractor
    streamed = isinstance(inputs, StreamedClipInputs)
    waveforms = inputs.waveforms() if streamed else map(inputs.waveform, range(len(inputs)))
    total = clips if streamed else len(inputs) if clips is None else min(clips, len(inputs))
    bar = tqdm(total=total, desc="measuring mean and std", unit="clip", leave=False, disable=disable_tqdm)
    for waveform in itertools.islice(waveforms, clips):
        values = extractor(
            waveform, extractor.sampling_rate, padding=False, truncation=True, do_normalize=False
        )  # with the extractor's warnings of clips that are silent or far too loud
        moments.add(values["input_values"][0])
        bar.update()
    bar.close()
    if moments.std <= ROUNDING * abs(moments.mean):
        what = "every log-mel value is the same, the recordings are silent"
        raise error("E209", where="training split", what=what, fix="check that the files hold sound")
    return moments.mean, moments.std
