"""Features of windows of recordings, and the names of recordings in messages."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import torch
from transformers import BatchFeature

from .device_features import is_batched
from .errors import AstHfError, error
from .feature_extraction_ast import ASTFeatureExtractor
from .log_mel import num_frames
from .timelines.windows import Window, WindowPlan


class WindowSamples(NamedTuple):
    """Samples of a window, checked, whose features a GPU computes with those of other windows.

    Attributes:
        samples: float32 `(time,)`, in the processor's memory.
        frames: number of frames of its features.
    """

    samples: torch.Tensor
    frames: int


def is_joint(extractor: Any, device: torch.device) -> bool:
    """Return True if the features of a batch of windows are computed in one pass: by our extractor, on a GPU."""
    is_own = (
        isinstance(extractor, ASTFeatureExtractor)
        and type(extractor).__call__ is ASTFeatureExtractor.__call__
    )
    return is_own and is_batched(device)


def window_features(
    extractor: ASTFeatureExtractor,
    window: Window,
    plan: WindowPlan,
    name: str,
    device: Any = None,
    *,
    varies: bool = False,
) -> Any:
    """Return the features of a window, tensors with a batch dimension of 1: `(1, plan.frames, num_mel_bins)`.

    Args:
        extractor: the checkpoint's.
        window: samples of a recording. Silence in a part of a recording is nothing unusual: W203 is for whole ones.
        plan: sizes of the windows.
        name: name of the recording in errors, to which the window's start is added.
        device: device of the tensors, by default the CPU.
        varies: a recording that is shorter than a window has as many frames as it needs, if the extractor masks
            padding: the scores are the same without it.
    """
    frames = plan.frames
    if varies and extractor.return_attention_mask:
        frames = min(frames, max(plan.least, num_frames(len(window.samples), plan.rate)))
    with _checks_of(window, plan, name):
        return extractor(
            [window.samples],
            sampling_rate=plan.rate,
            return_tensors="pt",
            truncation=True,
            max_length=frames,
            device=device,
        )


def window_samples(
    extractor: ASTFeatureExtractor, window: Window, plan: WindowPlan, name: str
) -> WindowSamples:
    """Return a copy of a window's samples for `stacked_features`, with the errors and warnings of `window_features`."""
    with _checks_of(window, plan, name):
        return WindowSamples(extractor.checked(window.samples).clone(), plan.frames)


def stacked_features(features: Sequence[Any], extractor: Any, device: torch.device | None = None) -> Any:
    """Return the features of several windows as those of one batch.

    Args:
        features: results of `window_features`, or of `window_samples` for windows of one length.
        extractor: the checkpoint's.
        device: where those of `window_samples` are computed, in one pass. Nothing waits for it.
    """
    first = features[0]
    if not isinstance(first, WindowSamples):
        if len(features) == 1:
            return first
        return BatchFeature({name: torch.cat([each[name] for each in features]) for name in first})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\[AST-W20[23]\]")  # `window_samples` has warned
        return extractor(
            [each.samples for each in features],
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
            truncation=True,
            max_length=first.frames,
            device=device,
        )


@contextlib.contextmanager
def _checks_of(window: Window, plan: WindowPlan, name: str) -> Iterator[None]:
    """Name recording and start in an error of this block, and ignore silence of a part of a recording (W203)."""
    with warnings.catch_warnings():
        if window.start > 0 or not window.is_last:
            warnings.filterwarnings("ignore", r"\[AST-W203\]")
        try:
            yield
        except AstHfError as problem:  # the extractor names the position in the batch
            where = f"{name}, {window.start / plan.rate:.2f} s" if window.start else name
            parts = {"what": problem.what, "fix": problem.fix, "detail": problem.detail}
            raise error(problem.code, where=where, **parts) from None


def source_name(source: Any) -> str:
    """Return the name of a source of audio for messages."""
    path = source.get("path") if isinstance(source, Mapping) else source
    named = isinstance(path, (str, PathLike)) and str(path)
    return repr(str(path)) if named else f"audio ({type(source).__name__})"
