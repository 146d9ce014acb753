"""Mean and standard deviation that features are normalised with."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import torch

from ..errors import AstHfWarning, error, warning_text
from ..feature_extraction_ast import ASTFeatureExtractor, level_problems
from ..log_mel import log_mel, num_samples
from ..progress import progress_bar
from ..running_moments import Moments
from .clips import ClipInputs
from .streams import StreamedClipInputs

#: Relative standard deviation up to which all values count as equal, the rounding error of equal values.
ROUNDING = 1e-12


def measure_statistics(
    inputs: ClipInputs | StreamedClipInputs, *, clips: int | None = None, disable_tqdm: bool | None = False
) -> tuple[float, float]:
    """Return mean and standard deviation over all frames and mel bins of a split.

    Unlike in the original's script, the mean is frame-weighted, without augmentation and padding. Only the
    first `max_length` frames of each clip count, as in training.

    Args:
        inputs: the split. Of a stream, this reader's clips are measured.
        clips: number of clips to measure, from the start of the split or stream; None for all.
        disable_tqdm: show no progress; None and False show it, see `progress.progress_bar`.

    Raises:
        AstDataError: E209 if all values are equal, or without a clip.
        AstInputError: E104 for samples far outside any audio range.

    Warns about silent clips (W203) and those that are far too loud (W202), naming row and file.
    """
    moments = Moments()
    extractor = inputs.extractor
    measured, total = _measured(inputs, clips)
    bar = progress_bar(
        total=total, desc="measuring mean and std", unit="clip", leave=False, disable=disable_tqdm
    )
    levels = _LevelWarnings()
    for where, samples, frames in itertools.islice(measured, clips):
        levels.check(samples, where)
        moments.add(_first_frames(samples, extractor).numpy() if frames is None else frames.numpy())
        bar.update()
    bar.close()
    levels.count_others()
    if moments.std <= ROUNDING * abs(moments.mean):
        what = "every log-mel value is the same, the recordings are silent"
        raise error("E209", where="training split", what=what, fix="check that the files hold sound")
    return moments.mean, moments.std


class _LevelWarnings:
    """Warnings about the level of clips: the first ones of each kind by name, the number of the others."""

    _NAMED = 10

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def check(self, samples: torch.Tensor, where: str) -> None:
        """Warn about samples `(time,)` that are silent or too loud; raise E104 far outside of any range."""
        for code, what in level_problems(samples, where):
            self._counts[code] += 1
            if self._counts[code] <= self._NAMED:
                warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=3)

    def count_others(self) -> None:
        """Warn of the number of clips that were not named."""
        for code, count in self._counts.items():
            if count > self._NAMED:
                what = f"{count - self._NAMED} more clips like these; `ast-hf stats DATA` lists silent ones"
                warnings.warn(warning_text(code, where="clips", what=what), AstHfWarning, stacklevel=3)


#: Description of a clip; its samples, or their extremes if its features are stored; those features, or None.
_Measured: TypeAlias = "tuple[str, torch.Tensor, torch.Tensor | None]"


def _measured(
    inputs: ClipInputs | StreamedClipInputs, clips: int | None
) -> tuple[Iterator[_Measured], int | None]:
    """Return what is measured of the clips, and their number, None for a whole stream."""
    if isinstance(inputs, StreamedClipInputs):
        return ((name, torch.from_numpy(samples), None) for name, samples in inputs.named_waveforms()), clips
    total = len(inputs) if clips is None else min(clips, len(inputs))
    store = inputs.feature_store
    if store is not None and inputs.processor.max_frames == inputs.extractor.max_length:
        return (
            (inputs.describe(clip), torch.tensor(store.extremes(clip)), inputs.stored_features(clip))
            for clip in range(len(inputs))
        ), total
    return (
        (inputs.describe(clip), torch.from_numpy(inputs.waveform(clip)), None) for clip in range(len(inputs))
    ), total


def _first_frames(samples: torch.Tensor, extractor: ASTFeatureExtractor) -> torch.Tensor:
    """Return raw log-mel of as many frames of samples `(time,)` as the model sees."""
    length = num_samples(extractor.max_length, extractor.sampling_rate)
    return log_mel(samples[:length], extractor.sampling_rate, extractor.num_mel_bins)
