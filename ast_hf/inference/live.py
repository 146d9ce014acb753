"""Live input: events with times from a stream of samples, the same ones as from the complete recording."""

from __future__ import annotations

import warnings
from os import PathLike
from types import TracebackType
from typing import Any

import numpy as np
from transformers import pipeline

from ..audio import as_samples, mix_to_mono
from ..audio_files import check_rate
from ..errors import did_you_mean, error, shown
from ..feature_extraction_ast import MAX_PEAK
from ..log_mel import num_frames
from ..modeling_ast import ASTPreTrainedModel
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..scalars import plain_whole
from ..timelines.events import Event
from ..timelines.levels import is_silent, window_levels
from ..timelines.windows import Window, WindowCutter, with_edges
from .arguments import RULES
from .folding import ScoredWindow
from .pipeline import ASTAudioClassificationPipeline
from .recordings import window_inputs

_WHERE = "live audio"
_ARGUMENTS = ("threshold", *RULES, "function_to_apply")
#: Longest time by which soxr's resampler is behind its input, measured for 4 to 192 kHz, in seconds.
_RESAMPLING_SECONDS = 0.25
#: Pieces that are kept before they are joined: chunks may be single samples.
_MOST_PIECES = 4_096


class LiveClassifier:
    """Events with times from a stream of samples, such as a microphone.

    Each event is returned once, when no later sample can change it, at most `delay_seconds` after its end. All
    events, sorted by start and label, are those of `pipe(recording, return_timestamps=True)` for the same samples
    and options, for chunks of any sizes. Memory does not grow with the stream.

    Args:
        model: a pipeline of `ast_hf`, the folder or Hub name of a checkpoint, or a model with its
            `feature_extractor`.
        hop_seconds: seconds from one window to the next, at most a window. None for a quarter of a window, or for
            what is stored in the checkpoint.
        window_seconds: length of a window, at most the model's. None for the model's, or for what is stored.
        sampling_rate: rate of the samples in Hz, which are resampled if it is not the model's. None for the
            model's.
        feature_extractor: extractor of a `model` that is neither a pipeline nor a name.
        provisional: whether `push` also returns the events that are not certain; see there.
        **rules: arguments of a timeline: `threshold`, `low_threshold`, `min_seconds`, `gap_seconds`,
            `silence_db`, `column_weight`, `function_to_apply`. The others are those stored in the checkpoint.

    Attributes:
        pipe: the pipeline that scores the windows.
        plan: sizes of the windows.
        rules: rules of the timeline.
        sampling_rate: rate of the samples in Hz.
        samples: number of samples that were pushed.

    Raises:
        AstInputError: E108 for impossible arguments, and for change-detection boxes, which need a complete
            recording.

    Example:
        >>> live = LiveClassifier("out/my-model", hop_seconds=0.5, sampling_rate=48_000)
        >>> events = live.push(chunk)  # [{"label": "dog", "score": 0.93, "start": 3.2, "end": 4.1}]
        >>> events = live.close()
    """

    def __init__(
        self,
        model: Any,
        *,
        hop_seconds: float | None = None,
        window_seconds: float | None = None,
        sampling_rate: int | None = None,
        feature_extractor: Any = None,
        provisional: bool = False,
        **rules: Any,
    ) -> None:
        for name in rules.keys() - {*_ARGUMENTS}:
            fix = did_you_mean(name, _ARGUMENTS)
            raise error("E108", where=name, what="is not an argument of LiveClassifier", fix=fix)
        self.pipe = _pipeline_of(model, feature_extractor)
        sizes = {"hop_seconds": hop_seconds, "window_seconds": window_seconds}
        given = {name: value for name, value in sizes.items() if value is not None}
        self._call = self.pipe.call(return_timestamps=True, **given, **rules)
        assert self._call.plan is not None
        assert self._call.rules is not None
        self.plan = self._call.plan
        self.rules = self._call.rules
        if self.rules.method != "hysteresis":
            what = f"{self.rules.method!r} needs the complete recording"
            raise error("E108", where="method", what=what, fix="give method='hysteresis'")
        self.sampling_rate = self.plan.rate if sampling_rate is None else plain_whole(sampling_rate)
        check_rate(self.sampling_rate, "sampling_rate", code="E107")
        self.samples = 0
        self._provisional = provisional
        self._builder = self._call.builder()
        self._cutter = WindowCutter(self.plan)
        self._pieces: list[np.ndarray] = []  # not yet cut
        self._count = 0  # samples in them
        self._open: list[dict[str, Any]] = []
        self._has_ended = False
        self._is_closed = False
        self._resampler = _resampler(self.sampling_rate, self.plan.rate)

    @property
    def seconds(self) -> float:
        """Seconds of audio that were pushed."""
        return self.samples / self.sampling_rate

    @property
    def delay_seconds(self) -> float:
        """Longest time from the end of an event to its return, in seconds of audio; computing is not included.

        The windows that hold a later sound must have passed: a window, the margin of its weight, a hop, the gap
        in which a next event would be merged, and two steps of the curve. A sound that follows within that gap and
        stays below the threshold adds its own length.
        """
        curves = self._builder.curves
        step = int(np.diff(curves.grid.boundaries(0, 16)).max())
        samples = self.plan.samples + self.plan.slack + curves.margin + self.plan.hop + 2 * step
        resampling = 0.0 if self._resampler is None else _RESAMPLING_SECONDS
        return samples / self.plan.rate + self.rules.gap_seconds + resampling

    def push(self, samples: Any) -> list[dict[str, Any]]:
        """Take the next samples, and return the events that are certain now.

        Args:
            samples: array, tensor or list of any length, also empty: `(time,)`, float in [-1, 1] or integers at
                full scale. Channels, `(time, channels)` or `(channels, time)`, are averaged.

        Returns:
            List of `{"label", "score", "start", "end"}`, seconds from the beginning of the stream. With
            `provisional=True` those that are not certain follow, each with `"provisional": True`: sounds that
            have not ended, or whose windows have not passed. They replace all provisional ones of the call
            before; any of them may be changed or missing later.

        Raises:
            AstInputError: E104 for values that are not finite or far outside any audio range, E106 for an
                ambiguous shape, E102 for another type, E108 after `close`. The chunk is then left out, and the
                stream may continue.
        """
        self._check_open("push")
        chunk = self._checked(samples)
        self.samples += len(chunk)
        if self._resampler is not None and len(chunk):
            chunk = self._resampler.resample_chunk(chunk)
        return self._returned(self._take(chunk))

    def close(self) -> list[dict[str, Any]]:
        """End the stream, and return the remaining events. A second call returns none.

        A stream that is shorter than a window is one window, as a short clip is. One that is shorter than a frame
        of 25 ms has no events.
        """
        if self._is_closed:
            return []
        self._has_ended = True
        self._is_closed = True
        events = []
        if self._resampler is not None and self.samples:
            events = self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        events += self._cut()
        last = self._cutter.close()
        if num_frames(len(last.samples), self.plan.rate) > 0:
            events += self._scored([last])
        events += self._builder.close()
        self._open = []
        return self._returned(events)

    def __enter__(self) -> LiveClassifier:
        """Return the classifier itself."""
        self._check_open("with")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream: it takes no more samples, and `close` returns the remaining events."""
        self._has_ended = True

    def _check_open(self, name: str) -> None:
        if self._has_ended:
            fix = "make another LiveClassifier for another stream"
            raise error("E108", where=name, what="comes after the end of the stream", fix=fix)

    def _checked(self, samples: Any) -> np.ndarray:
        """Return a chunk as a float32 array of its own `(time,)`; raise the errors of `push`."""
        where = f"{_WHERE} at {self.seconds:.2f} s"
        values = as_samples(samples, where).cpu().numpy()
        if values.size == 0 and values.ndim <= 2:
            return np.zeros(0, np.float32)
        chunk = values.reshape(-1) if values.ndim == 2 and 1 in values.shape else mix_to_mono(values, where)
        valid = np.abs(chunk) <= MAX_PEAK  # False for NaN
        if not valid.all():
            first = int(np.flatnonzero(~valid)[0])
            what = f"{int((~valid).sum())} samples are not finite or above {MAX_PEAK:g}, the first at {first}"
            raise error("E104", where=where, what=what, fix="leave the chunk out, or push zeros instead")
        return np.array(chunk, np.float32)

    def _take(self, chunk: np.ndarray) -> list[Event]:
        """Keep resampled samples, and return the events that are certain."""
        if len(chunk):
            self._pieces.append(chunk)
            self._count += len(chunk)
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [np.concatenate(self._pieces)]
        return self._cut() if self._cutter.length + self._count >= self._cutter.next_length else []

    def _cut(self) -> list[Event]:
        """Return the events after the windows that the kept samples complete."""
        if not self._pieces:
            return []
        joined = np.concatenate(self._pieces)
        self._pieces = []
        self._count = 0
        events: list[Event] = []
        for window in self._cutter.push(joined):
            events += self._scored([window])
        if self._provisional:
            self._open = [event.as_dict() | {"provisional": True} for event in self._builder.open_events()]
        return events

    def _scored(self, windows: list[Window]) -> list[Event]:
        """Return the events after some windows, and after the shorter ones at the ends of the stream."""
        all_of_them = with_edges(windows, self.plan) if self._call.has_edges else windows
        return [event for window in all_of_them for event in self._score(window)]

    def _score(self, window: Window) -> list[Event]:
        levels = window_levels(window.start, window.samples, self.plan.rate)
        if is_silent(levels, self.rules.silence_db):  # the builder does not use its scores
            zeros = np.zeros(len(self._call.labels))
            scored = ScoredWindow(window.start, len(window.samples), zeros, levels)
        else:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"\[AST-W203\]")  # silence is nothing unusual
                inputs = window_inputs(self.pipe.feature_extractor, window, self.plan, _WHERE, levels)
            scored = self.pipe.score_window(inputs, self._call)
        return self._builder.push(*scored)

    def _returned(self, events: list[Event]) -> list[dict[str, Any]]:
        return [event.as_dict() for event in events] + [dict(event) for event in self._open]


def _pipeline_of(model: Any, extractor: Any) -> ASTAudioClassificationPipeline:
    """Return the pipeline of a model in any form; raise E108 for one that makes no timelines."""
    is_model = isinstance(model, (ASTPreTrainedModel, ASTEnsembleForAudioClassification))
    if is_model and extractor is None:
        fix = "give feature_extractor=, or the checkpoint's folder or name as model"
        raise error("E108", where="feature_extractor", what="is missing beside a model", fix=fix)
    if is_model:
        return ASTAudioClassificationPipeline(model=model, feature_extractor=extractor)
    if extractor is not None:
        what = "is given beside a pipeline or a name, which has its own"
        raise error("E108", where="feature_extractor", what=what, fix="leave it out")
    pipe = model
    if isinstance(model, (str, PathLike)):
        pipe = pipeline("audio-classification", model=str(model))
    if not isinstance(pipe, ASTAudioClassificationPipeline):
        what = f"{shown(model)} is not an AST checkpoint, model or pipeline of ast_hf"
        raise error("E108", where="model", what=what, fix="give one of these")
    return pipe


def _resampler(source_rate: int, rate: int) -> Any:
    """Return soxr's stream from one rate to another, with the quality of `load_audio`; None for equal rates."""
    if source_rate == rate:
        return None
    import soxr

    return soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
