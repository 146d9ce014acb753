"""Windows of a recording as model inputs, read block by block."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..audio import AudioStream, load_audio, open_stream
from ..errors import AstHfError, AstHfWarning, error, warning_text
from ..feature_extraction_ast import ASTFeatureExtractor
from ..timelines.levels import window_levels
from ..timelines.windows import SAME_SECONDS, Window, WindowCutter, WindowPlan, filled, with_edges
from ..window_features import WindowSamples, window_features, window_samples


class WindowInputs(NamedTuple):
    """Model inputs of one window.

    Attributes:
        features: what the extractor returns for one clip, as tensors with a batch dimension of 1; or `WindowSamples`.
        start: index of the window's first sample in the recording.
        length: number of its samples.
        levels: its level over time, see `window_levels`.
        is_last: whether the recording ends with it.
        before: samples by which the window was filled before its beginning, see `filled`.
    """

    features: Any
    start: int
    length: int
    levels: np.ndarray
    is_last: bool
    before: int = 0

    @property
    def shapes(self) -> list[Any]:
        """Names and shapes of its features, without the batch dimension; windows of a batch have the same."""
        if isinstance(self.features, WindowSamples):
            return [("frames", self.features.frames)]
        return [(name, value.shape[1:]) for name, value in sorted(self.features.items())]

    @property
    def frames(self) -> int:
        """Number of frames of its features."""
        if isinstance(self.features, WindowSamples):
            return self.features.frames
        return int(self.features["input_values"].shape[1])

    @property
    def is_whole(self) -> bool:
        """Whether this window is the whole recording."""
        return self.start == 0 and self.is_last


class Recording:
    """One recording, iterated as `WindowInputs`.

    If it becomes unreadable after the first window, the windows before are kept: the iteration ends with the last
    window of what was decoded, warns (W217), and `problem` has the reason.

    Args:
        source: whatever `load_audio` reads.
        extractor: the checkpoint's feature extractor. For one that is not ours the recording is one window.
        plan: sizes of the windows.
        name: name of the source for messages.
        source_rate: rate in Hz of a bare array.
        is_chosen: whether the user chose the length of the windows; a shorter recording is then an error.
        has_edges: whether there are shorter windows at both ends (`with_edges`), for a timeline.
        progress: a `ReadingBar`, called after each window with the number of samples so far, and of all.
        is_joint: leave the features of windows to be computed with those of others, see `WindowSamples`.
    """

    def __init__(
        self,
        source: Any,
        extractor: Any,
        plan: WindowPlan | None,
        name: str,
        *,
        source_rate: int | None = None,
        is_chosen: bool = False,
        has_edges: bool = False,
        progress: Any = None,
        is_joint: bool = False,
    ) -> None:
        self.source = source
        self.extractor = extractor
        self.plan = plan
        self.name = name
        self.source_rate = source_rate
        self.is_chosen = is_chosen
        self.has_edges = has_edges
        self.progress = progress
        self.is_joint = is_joint
        self.length = 0
        self.problem: AstHfError | None = None

    @property
    def seconds(self) -> float:
        """Seconds of audio that were read."""
        return self.length / self.extractor.sampling_rate

    @property
    def warning(self) -> str | None:
        """Text of W217 with the part that was read, and why not the rest; None for a complete recording."""
        if self.problem is None:
            return None
        text = f"only its first {self.seconds:.1f} s are classified, since the rest {_reason(self.problem)}"
        return warning_text("W217", where=self.name, what=text)

    def __iter__(self) -> Iterator[WindowInputs]:
        if self.plan is None or not isinstance(self.extractor, ASTFeatureExtractor):
            yield self._whole()
            return
        with open_stream(self.source, self.plan.rate, source_rate=self.source_rate) as stream:
            windows = self._windows(stream, self.plan)
            try:
                for window in with_edges(windows, self.plan) if self.has_edges else windows:
                    levels = window_levels(window.start, window.samples, self.plan.rate)
                    yield window_inputs(
                        self.extractor, window, self.plan, self.name, levels, is_joint=self.is_joint
                    )
                    if self.progress is not None:
                        self.progress(window.start + len(window.samples), stream.length)
            finally:
                if self.progress is not None:
                    self.progress.close()

    def _whole(self) -> WindowInputs:
        """Return a recording as one window, for an extractor of another library."""
        rate = self.extractor.sampling_rate
        waveform = load_audio(self.source, rate, source_rate=self.source_rate)
        self.length = len(waveform)
        features = self.extractor(waveform, sampling_rate=rate, return_tensors="pt")
        return WindowInputs(features, 0, len(waveform), window_levels(0, waveform, rate), True)

    def _windows(self, stream: AudioStream, plan: WindowPlan) -> Iterator[Window]:
        cutter = WindowCutter(plan)
        blocks = iter(stream.blocks)
        with contextlib.closing(stream.blocks):  # type: ignore[type-var]
            while (block := self._next_block(blocks, cutter)) is not None:
                yield from cutter.push(block)
                self.length = cutter.length
        last = cutter.close()
        if self.is_chosen and plan.samples - len(last.samples) > SAME_SECONDS * plan.rate:
            raise self._too_short(last, plan)
        yield last

    def _next_block(self, blocks: Iterator[np.ndarray], cutter: WindowCutter) -> np.ndarray | None:
        """Return the next block, or None at the end, and where the rest cannot be read (W217)."""
        try:
            return next(blocks, None)
        except AstHfError as problem:
            assert self.plan is not None
            if cutter.length <= self.plan.samples + self.plan.slack:
                raise
            self.problem = problem
            warnings.warn(self.warning or "", AstHfWarning, stacklevel=2)
            return None

    def _too_short(self, last: Window, plan: WindowPlan) -> AstHfError:
        seconds = len(last.samples) / plan.rate
        what = f"lasts {seconds:.3f} s, less than window_seconds, {plan.samples / plan.rate:g} s"
        fix = "leave window_seconds out, or choose one that is no longer than the recording"
        return error("E103", where=self.name, what=what, fix=fix)


class PreparedRecording(Recording):
    """Recording that a subclass of the pipeline reads with its own `preprocess`, as one window."""

    def __init__(self, prepare: Callable[[], Any], extractor: Any) -> None:
        super().__init__(None, extractor, None, "audio")
        self._prepare = prepare

    def __iter__(self) -> Iterator[WindowInputs]:
        yield WindowInputs(self._prepare(), 0, 0, np.zeros(0, np.float32), True)


def window_inputs(
    extractor: ASTFeatureExtractor,
    window: Window,
    plan: WindowPlan,
    name: str,
    levels: np.ndarray,
    *,
    is_joint: bool = False,
) -> WindowInputs:
    """Return the model inputs of a window, computed on the CPU, or with `is_joint` not yet.

    `levels` are its `window_levels`, `name` is the recording's.
    """
    full = window._replace(samples=filled(window, plan))
    features: Any
    if is_joint:
        features = window_samples(extractor, full, plan, name)
    else:
        features = window_features(extractor, full, plan, name, varies=True)
    count = len(window.samples)
    before = len(full.samples) - count if window.start == 0 else 0
    return WindowInputs(features, window.start, count, levels, window.is_last, before)


def _reason(problem: AstHfError) -> str:
    return f"cannot be read ({problem.code}: {problem.what})"
