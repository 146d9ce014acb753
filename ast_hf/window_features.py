"""Features of one window of a recording, and the names of recordings in messages."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from typing import Any

from .errors import AstHfError, error
from .feature_extraction_ast import ASTFeatureExtractor
from .timelines.windows import Window, WindowPlan


def window_features(
    extractor: ASTFeatureExtractor, window: Window, plan: WindowPlan, name: str, device: Any = None
) -> Any:
    """Return the features of a window, tensors with a batch dimension of 1: `(1, plan.frames, num_mel_bins)`.

    Args:
        extractor: the checkpoint's.
        window: samples of a recording. Silence in a part of a recording is nothing unusual: W203 is for whole ones.
        plan: sizes of the windows.
        name: name of the recording in errors, to which the window's start is added.
        device: device of the tensors, by default the CPU.
    """
    with warnings.catch_warnings():
        if window.start > 0 or not window.is_last:
            warnings.filterwarnings("ignore", r"\[AST-W203\]")
        try:
            return extractor(
                [window.samples],
                sampling_rate=plan.rate,
                return_tensors="pt",
                truncation=True,
                max_length=plan.frames,
                device=device,
            )
        except AstHfError as problem:  # the extractor names the position in the batch
            where = f"{name}, {window.start / plan.rate:.2f} s" if window.start else name
            parts = {"what": problem.what, "fix": problem.fix, "detail": problem.detail}
            raise error(problem.code, where=where, **parts) from None


def source_name(source: Any) -> str:
    """Return the name of a source of audio for messages."""
    path = source.get("path") if isinstance(source, Mapping) else source
    named = isinstance(path, (str, PathLike)) and str(path)
    return repr(str(path)) if named else f"audio ({type(source).__name__})"
