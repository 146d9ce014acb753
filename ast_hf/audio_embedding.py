"""Embeddings of recordings of any length: of the clip, of its windows, and of its time columns."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.utils.generic import ModelOutput

from .audio import AudioSource, audio_blocks
from .configuration_ast import ASTConfig
from .embeddings_ast import column_means
from .errors import error, not_a_choice, warn_once, wrong_type
from .feature_extraction_ast import ASTFeatureExtractor
from .log_mel import frame_lengths
from .model_extractor import extractor_of
from .processor import warn_of_slow_bfloat16
from .scalars import plain_scalar, plain_whole
from .timelines.merging import ColumnMerger, owned_parts
from .timelines.windows import Window, WindowPlan, plan_windows, windows_of
from .window_features import is_joint, source_name, stacked_features, window_features, window_samples

#: Contents of a result, each with those before it.
LEVELS = ("clip", "window", "column")
#: Seconds by which a clip may be shorter than `window_seconds`: frames and their step differ by 15 ms.
_TOLERANCE = 0.026


@dataclass
class ASTAudioEmbedding(ModelOutput):
    """Embeddings of one recording.

    Tensors of embeddings are on the model's device, float32 unless the model is float64. Times are float64 on the
    CPU, in seconds from the beginning of the recording.

    Attributes:
        embedding: `(hidden_size,)`, the mean of the windows, each weighted with the time for which it is the
            window in whose middle a moment is. Every second of the recording counts once, also where windows
            overlap. For a recording of one window it is that window's.
        windows: `(windows, hidden_size)`, `pooler_output` of each window. None at level "clip".
        window_times: `(windows, 2)`, start and end of each window; they overlap if the hop is shorter.
        columns: `(columns, hidden_size)`, the mean over frequency of the tokens of each time column, one every
            `time_stride` frames: 100 ms for the published models. None unless the level is "column".
        column_times: `(columns, 2)`, the time that each column stands for. They touch each other, from 0 to the
            end of the recording. A column saw `patch_size` frames around its middle (175 ms for 16).
    """

    embedding: torch.Tensor | None = None
    windows: torch.Tensor | None = None
    window_times: torch.Tensor | None = None
    columns: torch.Tensor | None = None
    column_times: torch.Tensor | None = None


class EmbeddingBlock(NamedTuple):
    """Embeddings of one window of a recording.

    Attributes:
        window: `(hidden_size,)`, its `pooler_output`.
        window_time: its start and end in seconds.
        weight: seconds of the recording that belong to it: its weight in the clip's embedding.
        columns: `(columns, hidden_size)`, the columns that belong to it, possibly none.
        column_times: `(columns, 2)`, float64, in seconds.
    """

    window: torch.Tensor
    window_time: tuple[float, float]
    weight: float
    columns: torch.Tensor
    column_times: torch.Tensor


def get_audio_embedding(
    self: Any,
    audio: Any,
    *,
    feature_extractor: ASTFeatureExtractor | str | PathLike | None = None,
    sampling_rate: int | None = None,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    level: str = "column",
    batch_size: int = 8,
    gradients: bool = False,
) -> Any:
    """Return embeddings of audio of any length: of the clip, of its windows and of its time columns.

    A recording is cut into windows, the last one aligned to its end, and files are read in blocks. A clip no
    longer than a window is one window, padded as the extractor pads, and its embedding is exactly `pooler_output`
    of `model(**extractor(clip))`. The model computes on its device, in evaluation mode, and gets its mode back.

    Where windows overlap, a column comes from the window in whose middle it is; one that is closer than half a
    step to the column before is left out, as are columns of padding.

    Args:
        audio: whatever `ast_hf.load_audio` reads (a path, bytes, an open file, samples, a dict), or a list of
            them. A list of numbers is one clip.
        feature_extractor: the checkpoint's, or the folder or Hub name of one. By default that of the checkpoint
            from which the model was loaded. A model that was trained since needs the one of its training.
        sampling_rate: rate in Hz of bare arrays; by default the model's, with one warning per process (W212).
        window_seconds: length of a window, at most the model's; by default the model's. Shorter windows are not
            padded.
        hop_seconds: seconds from window to window, at most a window; by default a window, without overlap.
        level: `"clip"` for `embedding` alone, whose memory does not grow with the recording; `"window"` for the
            windows too; `"column"` for everything: 3 KB for each 100 ms and 768 dimensions, half of the waveform.
        batch_size: windows that the model computes together, also of several recordings.
        gradients: keep what a backward pass needs. By default nothing is kept.

    Returns:
        An `ASTAudioEmbedding`, or a list of them for a list.

    Raises:
        AstInputError: E101-E107 for bad samples, E103 for a recording shorter than `window_seconds`, E108 for
            impossible arguments and for a model without a known extractor, E304 for an extractor of another size.
        AstDataError: E201-E206 for bad files. A file that is damaged in the middle has no embedding; use
            `audio_embedding_blocks` to keep what was read before.
        AstConfigError: E306 for an extractor that cannot be loaded.

    Example:
        >>> model.get_audio_embedding("day.flac", level="clip").embedding.shape
        torch.Size([768])
    """
    if level not in LEVELS:
        raise not_a_choice("E108", where="level", value=level, choices=LEVELS)
    sources = _as_sources(audio)
    embedder = Embedder(
        self,
        feature_extractor,
        sampling_rate=sampling_rate,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        with_columns=level == "column",
        batch_size=batch_size,
        gradients=gradients,
    )
    results = [_collect(blocks, level) for blocks in embedder.blocks([audio] if sources is None else sources)]
    return results[0] if sources is None else results


def audio_embedding_blocks(model: Any, audio: AudioSource, **options: Any) -> Iterator[EmbeddingBlock]:
    """Embed one recording of any length window by window, in memory that does not grow with it.

    An error in the middle of a file is raised when it is reached. The last `batch_size` windows before it are
    then not yielded.

    Args:
        model: an `ASTModel` or `ASTForAudioClassification`, also in a wrapper (peft, `torch.compile`,
            `DataParallel`).
        audio: whatever `ast_hf.load_audio` reads.
        **options: those of `get_audio_embedding`, without `level`.

    Yields:
        An `EmbeddingBlock` for each window. Joined, they are the windows and columns of `get_audio_embedding`.

    Example:
        >>> for block in audio_embedding_blocks(model, "day.flac"):
        ...     store(block.column_times, block.columns)
    """
    model = unwrapped(model)
    if not isinstance(getattr(model, "config", None), ASTConfig):
        kind = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
        expected = "an ast_hf.ASTModel or ast_hf.ASTForAudioClassification"
        raise wrong_type("E102", where="model", value=kind, expected=expected)
    yield from next(Embedder(model, options.pop("feature_extractor", None), **options).blocks([audio]))


class _Encoded(NamedTuple):
    """Output of the model for one window; `start` and `length` in samples."""

    start: int
    length: int
    pooled: torch.Tensor
    columns: torch.Tensor | None


class Embedder:
    """Embeds recordings with one model. The arguments are those of `get_audio_embedding`, checked here.

    Args:
        model: an `ASTModel` or `ASTForAudioClassification`.
        with_columns: also return embeddings of time columns.
    """

    def __init__(
        self,
        model: Any,
        feature_extractor: Any = None,
        *,
        sampling_rate: int | None = None,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        with_columns: bool = True,
        batch_size: int = 8,
        gradients: bool = False,
    ) -> None:
        self.model = model
        self.extractor = extractor_of(model, feature_extractor)
        warn_of_slow_bfloat16("the model", model.dtype, model.device)
        self.plan = window_plan(model, self.extractor, window_seconds, hop_seconds)
        self.least = 0 if window_seconds is None else round((window_seconds - _TOLERANCE) * self.plan.rate)
        self.centres = column_centres(model.config, self.plan)
        self.sampling_rate = sampling_rate
        self.with_columns = with_columns
        self.batch_size = plain_whole(batch_size)
        self.gradients = gradients
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            what = f"{batch_size!r} is not a number of windows"
            raise error("E108", where="batch_size", what=what, fix="give 1 or more")

    @property
    def middle(self) -> float:
        """Middle of a window for `owned_parts`, in samples: the centre of its middle column."""
        return float(self.centres[len(self.centres) // 2])

    def blocks(self, sources: Iterable[AudioSource]) -> Iterator[Iterator[EmbeddingBlock]]:
        """Yield an iterator over the blocks of each recording; each has to be finished before the next."""
        for _, encoded in itertools.groupby(self._encoded(sources), key=lambda pair: pair[0]):
            yield self._blocks_of(window for _, window in encoded)

    def _encoded(self, sources: Iterable[AudioSource]) -> Iterator[tuple[int, _Encoded]]:
        """Yield (number of the recording, output) for all windows, computed in batches over all recordings."""
        joint = is_joint(self.extractor, self.model.device)
        items = (
            (number, window.start, len(window.samples), features)
            for number, source in enumerate(sources)
            for window, features in self.inputs(source, is_joint=joint)
        )
        while batch := list(itertools.islice(items, self.batch_size)):
            pooled, columns = self._forward([features for *_, features in batch])
            for row, (number, start, length, _) in enumerate(batch):
                yield number, _Encoded(start, length, pooled[row], None if columns is None else columns[row])

    def inputs(
        self, source: AudioSource, device: Any = None, *, is_joint: bool = False
    ) -> Iterator[tuple[Window, Any]]:
        """Yield each window of a recording with its features, a batch of one; on the model's device by default.

        With `is_joint` they are `WindowSamples`, without features.
        """
        device = self.model.device if device is None else device
        name = source_name(source)
        rate = plain_whole(self.sampling_rate)
        if rate is None and is_bare(source):
            what = f"is missing, and {self.plan.rate} Hz is assumed; pass sampling_rate= if it is another"
            warn_once("W212", where="sampling_rate", what=what)
            rate = self.plan.rate
        blocks = audio_blocks(source, self.plan.rate, source_rate=rate)
        for window in windows_of(blocks, self.plan):
            if len(window.samples) < self.least:
                what = f"lasts {len(window.samples) / self.plan.rate:.3f} s, less than window_seconds"
                fix = "leave window_seconds out, or choose a length that no recording is shorter than"
                raise error("E103", where=name, what=what, fix=fix)
            if is_joint:
                yield window, window_samples(self.extractor, window, self.plan, name)
            else:
                yield window, window_features(self.extractor, window, self.plan, name, device)

    def _forward(self, batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return pooled outputs `(windows, hidden)`, and columns `(windows, columns, hidden)`."""
        stacked = stacked_features(batch, self.extractor, self.model.device)
        inputs = {name: values.to(self.model.device) for name, values in stacked.items()}
        with evaluation_mode(self.model), contextlib.nullcontext() if self.gradients else torch.no_grad():
            outputs = self.model.base_model(
                **inputs, output_attentions=False, output_hidden_states=False, return_dict=True
            )
            columns = None
            if self.with_columns:
                columns = full_precision(
                    column_means(self.model.config, outputs.last_hidden_state, self.plan.frames)
                )
            return full_precision(outputs.pooler_output), columns

    def _blocks_of(self, windows: Iterable[_Encoded]) -> Iterator[EmbeddingBlock]:
        """Yield the blocks of one recording."""
        rate = self.plan.rate
        merger = ColumnMerger(self.centres)
        parts = itertools.chain(owned_parts(windows, self.middle), [None])
        for part, following in itertools.pairwise(parts):
            assert part is not None
            window, begin, end = part
            kept = merger.keep(window.start, begin, end, is_last=following is None)
            columns = window.pooled[None] if window.columns is None else window.columns
            rows = torch.from_numpy(kept.indices if self.with_columns else kept.indices[:0])
            times = (window.start / rate, (window.start + window.length) / rate)
            column_times = torch.from_numpy(kept.times[: len(rows)] / rate)
            chosen = columns[rows.to(columns.device)]
            yield EmbeddingBlock(window.pooled, times, (end - begin) / rate, chosen, column_times)


def full_precision(values: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32, which numpy reads and sums of many windows need."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _collect(blocks: Iterable[EmbeddingBlock], level: str) -> ASTAudioEmbedding:
    """Return the result of one recording; only what the level needs is in memory."""
    mean = WeightedMean()
    kept: list[EmbeddingBlock] = []
    for block in blocks:
        mean.add(block.window, block.weight)
        if level != "clip":
            kept.append(block)
    result = ASTAudioEmbedding(embedding=mean.value)
    if level != "clip":
        result.windows = torch.stack([block.window for block in kept])
        result.window_times = torch.tensor([block.window_time for block in kept], dtype=torch.float64)
    if level == "column":
        result.columns = torch.cat([block.columns for block in kept])
        result.column_times = torch.cat([block.column_times for block in kept])
    return result


class WeightedMean:
    """Running mean of vectors with weights above 0; of one vector it is that vector, bit by bit."""

    def __init__(self) -> None:
        self.value: torch.Tensor | None = None
        self.weight = 0.0

    def add(self, vector: torch.Tensor, weight: float) -> None:
        """Add a vector."""
        self.weight += weight
        if self.value is None:
            self.value = vector
        else:
            self.value = self.value + (vector - self.value) * (weight / self.weight)


def unwrapped(model: Any) -> Any:
    """Return the model in a wrapper of peft, `torch.compile` or `DataParallel`, with its adapter, or itself."""
    for name in ("module", "_orig_mod"):
        model = getattr(model, name, model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, and every module back to its mode afterwards."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def window_plan(
    model: Any, extractor: ASTFeatureExtractor, window_seconds: float | None, hop_seconds: float | None
) -> WindowPlan:
    """Return the sizes of the windows; raise E108 for sizes that the model does not take."""
    seconds = (plain_scalar(window_seconds), plain_scalar(hop_seconds))
    config = model.config
    return plan_windows(config.max_length, extractor.sampling_rate, *seconds, min_frames=config.patch_size)


def column_centres(config: Any, plan: WindowPlan) -> np.ndarray:
    """Return the centre of what each time column of a window sees, in samples from its start."""
    frame, hop, _ = frame_lengths(plan.rate)
    firsts = np.arange(config.grid_for(plan.frames)[1]) * config.time_stride * hop
    return firsts + ((config.patch_size - 1) * hop + frame) / 2


def is_bare(source: Any) -> bool:
    """Return True for samples without a rate: an array, a tensor, or a list of numbers."""
    if isinstance(source, (str, PathLike, bytes, bytearray, memoryview, Mapping)):
        return False
    return not (hasattr(source, "read") or hasattr(source, "get_all_samples"))


def _as_sources(audio: Any) -> Iterable[Any] | None:
    """Return the recordings of a list, or None for a single one; raise E101 for an empty list."""
    if not is_bare(audio) or hasattr(audio, "__array__") or not isinstance(audio, Iterable):
        return None
    if not isinstance(audio, (list, tuple)):
        return audio
    if not audio:
        raise error("E101", where="audio", what="is an empty list", fix="pass at least one recording")
    is_samples = isinstance(audio[0], (int, float, np.number)) and not isinstance(audio[0], bool)
    return None if is_samples else audio
