"""`pipeline("audio-classification")` for AST: recordings of any length, from files, bytes, arrays and dicts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForAudioClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pipelines.audio_classification import AudioClassificationPipeline
from transformers.pipelines.base import ChunkPipeline

from ..embeddings_ast import column_means
from ..errors import AstHfError, error
from ..feature_extraction_ast import check_fits
from ..modeling_ast import ASTForAudioClassification, ASTPreTrainedModel
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..processor import warn_of_slow_bfloat16
from ..timelines.builder import ScoreCurve, score_curve
from ..window_features import is_joint
from .arguments import FITTED, Arguments, sort_arguments
from .calls import Call
from .folding import ScoredWindow
from .recordings import PreparedRecording, Recording, WindowInputs
from .results import Outputs, Results
from .scores import score_function


class AutoModelWithReason(AutoModelForAudioClassification):
    """Auto class for `pipeline` that keeps the reason of a failure.

    If a class raises a ValueError, `pipeline` drops it and tries transformers' own class of that name. A plain
    AstHfError with the same code and text is not a ValueError, and reaches the caller.
    """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As `AutoModelForAudioClassification.from_pretrained`."""
        try:
            return AutoModelForAudioClassification.from_pretrained(*args, **kwargs)
        except AstHfError as reason:
            raise AstHfError(reason.code, reason.where, reason.what, reason.fix, reason.detail) from reason


class ASTAudioClassificationPipeline(AudioClassificationPipeline, ChunkPipeline):
    """Classify audio of any length with an AST checkpoint, or an ensemble of them.

    Extends transformers' pipeline: files and bytes without ffmpeg, any sampling rate and channel count
    without torchaudio, `pathlib` paths, the audio columns of `datasets`, recordings of any length, events with
    times, and errors that name the file. For a model that is not from `ast_hf`, the constructor returns
    transformers' own pipeline, unchanged.

    Call it with one input or a list: whatever `ast_hf.load_audio` reads, and http and https URLs. It returns a
    list of `{"score", "label"}` for each input, best first. All arguments but `batch_size` may also be given to
    the constructor:

    - `top_k`: labels that are returned; None, the default, for all.
    - `function_to_apply`: "softmax", "sigmoid" or "none". By default that of the config's `problem_type`. A
      checkpoint without one but with AudioSet's labels, as MIT published it, is multi-label (W307, once).
    - `sampling_rate`: of bare arrays, in Hz; by default the model's own, with one warning per process (W212).
    - `threshold`: only labels that score at least as much are returned, possibly none. A number in [0, 1], or
      "fitted" for the checkpoint's own thresholds, one per label (multi-label models that `ast-hf evaluate
      --fit-on ... --store` has fitted).
    - `batch_size`: windows, or short clips, that the model takes at once.

    Logits are divided by the checkpoint's `temperature`, if it has one (Guo et al. 2017, arXiv 1706.04599),
    before softmax or sigmoid; "none" returns the logits unchanged.

    A recording that is longer than the model's input is classified in windows. They cover all of it, the last one
    is aligned to its end, and only a few MB of it are in memory:

    - `window_seconds`: length of a window, at most the model's, which is the default. The model takes shorter
      windows as they are, without padding. A recording that is shorter than a length chosen here is an error.
    - `hop_seconds`: from one window's start to the next, at most a window. By default the window, so that
      windows do not overlap; for timelines a quarter of it.
    - `aggregate`: "mean" of the windows' scores (the default), "max", or "none" for all of them: a list of
      `{"start", "end", "scores"}`, in seconds.
    - `return_timestamps`: True for a timeline: a list of `{"label", "score", "start", "end"}`, in seconds, by
      start. `threshold` may then also be a list or a dict of numbers by label. `low_threshold`, `min_seconds`,
      `gap_seconds`, `silence_db`, `method` and `column_weight` are the fields of `TimelineRules`. Without them
      the rules are those stored in the checkpoint, if there are any.

    If a file becomes unreadable after its first window, the part before is classified, with a warning (W217).

    Raises:
        AstInputError: E304 if extractor and model do not fit, E108 for unknown or impossible arguments, E103 for
            a recording that is too short, and the errors of `load_audio`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        model = kwargs.get("model", args[0] if args else None)
        if not args and not kwargs:  # copy and pickle create an empty object first
            return super().__new__(cls)
        if isinstance(model, (ASTPreTrainedModel, ASTEnsembleForAudioClassification)):
            return super().__new__(cls)
        return AudioClassificationPipeline(*args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("top_k", None)  # the base class's default is 5 here, and all labels in a call
        super().__init__(*args, **kwargs)
        check_fits(self.feature_extractor, self.model.config, self._source)
        warn_of_slow_bfloat16(self._source, self.dtype, self.device)

    @property
    def _source(self) -> str:
        return self.model.name_or_path or "the model"

    def check_model_type(self, supported_models: Any) -> None:
        """Do nothing: `__new__` has checked the model, and transformers' list does not name ensembles."""

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify one input or a list of inputs; see the class."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 0:
            fix = "pass at least one file or array"
            raise error("E101", where="inputs", what="is an empty list", fix=fix)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> Arguments:
        is_timeline = getattr(self, "_postprocess_params", {"return_timestamps": True}).get(
            "return_timestamps", False
        )
        return sort_arguments(self.model.config, self._source, kwargs, is_timeline=is_timeline)

    def run_single(self, inputs: Any, *params: dict[str, Any]) -> Any:
        """Return the result of one input; the parameters are those of the three parts of the work."""
        return next(iter(self.get_iterator([inputs], 0, 1, *params)))

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Results:
        """Return an iterable of results; batches of windows may span inputs."""
        call = self._call(preprocess_params, postprocess_params)
        outputs = self._outputs(inputs, call, forward_params, batch_size=batch_size, num_workers=num_workers)
        return self._results(outputs, call)

    def _results(self, outputs: Outputs, call: Call) -> Results:
        finish_whole = functools.partial(self.postprocess, **call.clip_arguments)
        finish = functools.partial(self._entries, **call.clip_arguments)
        return Results(outputs, functools.partial(call.fold, finish_whole, finish))

    def classify_recording(self, source: Any, *, batch_size: int = 8, **kwargs: Any) -> tuple[Any, Recording]:
        """Return the result of one call, and the recording: the seconds that were read, and any problem.

        Args:
            source: what a call takes, a single one.
            batch_size: windows that the model takes at once.
            **kwargs: arguments of a call.
        """
        call = self.call(**kwargs)
        results = self._results(self._outputs([source], call, {}, batch_size=batch_size), call)
        return next(results.with_recordings())

    def call(self, **kwargs: Any) -> Call:
        """Return a call with these arguments and the constructor's: its window sizes, rules and scorer."""
        given = self._sanitize_parameters(**kwargs)
        preprocess = {**self._preprocess_params, **given.preprocess}
        return self._call(preprocess, {**self._postprocess_params, **given.postprocess})

    def scored_windows(self, source: Any, *, batch_size: int = 8, **kwargs: Any) -> Iterator[ScoredWindow]:
        """Yield the scores of the windows of one recording, while it is read.

        Args:
            source: what a call takes, a single one.
            batch_size: windows that the model takes at once.
            **kwargs: arguments of a call. With `return_timestamps=True` the windows are those of a timeline, also
                the shorter ones at both ends of the recording.
        """
        call = self.call(**kwargs)
        for _, window, outputs in self._outputs([source], call, {}, batch_size=batch_size):
            yield call.score(window, outputs)

    def score_window(self, window: WindowInputs, call: Call) -> ScoredWindow:
        """Return the scores of one window of a call."""
        columns = {"columns": True} if call.needs_columns else {}
        return call.score(window, self._forward_in_dtype(window.features, **columns))

    def score_curve(self, source: Any, *, batch_size: int = 8, **kwargs: Any) -> ScoreCurve:
        """Return the curves of scores over time in which the events of a recording are found.

        Args:
            source: what a call takes, a single one.
            batch_size: windows that the model takes at once.
            **kwargs: arguments of a timeline.

        Returns:
            `times`, `(steps + 1,)` boundaries of the steps in seconds, and `scores`, `(steps, classes)` in [0, 1].
        """
        kwargs["return_timestamps"] = True
        call = self.call(**kwargs)
        assert call.rules is not None
        assert call.plan is not None
        windows = self.scored_windows(source, batch_size=batch_size, **kwargs)
        return score_curve(windows, call.rules, call.plan, len(call.labels))

    def _call(self, preprocess: Mapping[str, Any], postprocess: Mapping[str, Any]) -> Call:
        call = Call(self.model.config, self._source, self.feature_extractor, preprocess, postprocess)
        if call.needs_columns and not self.has_columns:
            if postprocess.get("column_weight"):
                what = f"needs the columns of a single model, and this is a {type(self.model).__name__}"
                fix = "leave it out, or use one of the members"
                raise error("E108", where="column_weight", what=what, fix=fix)
            assert call.rules is not None
            call.rules = call.rules.replace(column_weight=0.0)
        return call

    @property
    def has_columns(self) -> bool:
        """Whether the scores of time columns are those of the model: not if a subclass computes its own."""
        own = ASTForAudioClassification.forward
        return isinstance(self.model, ASTForAudioClassification) and type(self.model).forward is own

    def _outputs(
        self,
        inputs: Any,
        call: Call,
        forward_params: Mapping[str, Any],
        *,
        batch_size: int,
        num_workers: int = 0,
    ) -> Outputs:
        columns = {"columns": True} if call.needs_columns else {}
        forward = functools.partial(self._forward_in_dtype, **forward_params, **columns)
        opened = functools.partial(self._recording, call)
        return Outputs(
            inputs, opened, forward, batch_size=batch_size, num_workers=num_workers, device=self.device
        )

    def _recording(self, call: Call, source: Any) -> Recording:
        if type(self).preprocess is ASTAudioClassificationPipeline.preprocess:
            return call.open(source, is_joint=is_joint(self.feature_extractor, self.device))
        given = {} if call.source_rate is None else {"sampling_rate": call.source_rate}
        return PreparedRecording(functools.partial(self.preprocess, source, **given), self.feature_extractor)

    def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Any:
        """Return the features of one input's first window, ready for the model.

        A call makes windows itself. Only if a subclass overrides this method, its result is an input's only
        window.
        """
        given = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
        recording = self._call(given, {}).open(inputs)
        return self._in_own_dtype(next(iter(recording)).features)

    def _in_own_dtype(self, features: Any) -> Any:
        return features.to(dtype=self.dtype) if self.dtype is not None else features

    def _forward_in_dtype(self, features: Any, **forward_params: Any) -> Any:
        return self.forward(self._in_own_dtype(features), **forward_params)

    def _forward(self, model_inputs: Any, columns: bool = False) -> Any:
        if not columns:
            return self.model(**model_inputs, return_dict=True)  # a config may ask for tuples
        outputs = self.model.base_model(**model_inputs, return_dict=True)
        frames = model_inputs["input_values"].shape[1]
        means = column_means(self.model.config, outputs.last_hidden_state, frames)
        logits = self.model.classifier(outputs.pooler_output)
        return {"logits": logits, "columns": self.model.classifier(means)}

    def postprocess(
        self,
        model_outputs: Any,
        top_k: int = 5,
        function_to_apply: str | None = None,
        threshold: float | str | None = None,
    ) -> Any:
        """Return the scores of one window, best first; by default by the function of the problem type.

        transformers before 5.19 always applies softmax.
        """
        config = self.model.config
        function = score_function(config, self._source, function_to_apply, threshold)
        logits = model_outputs["logits"]
        if config.temperature is not None and function != "none":
            logits = logits / config.temperature
        outputs = SequenceClassifierOutput(logits=logits)
        entries = super().postprocess(outputs, top_k=top_k, function_to_apply=function)
        return self._above(entries, threshold)

    def _entries(
        self,
        scores: np.ndarray,
        top_k: int = 5,
        function_to_apply: str | None = None,
        threshold: float | str | None = None,
    ) -> list[dict[str, Any]]:
        """Return what `postprocess` returns, for scores `(classes,)`."""
        outputs = SequenceClassifierOutput(logits=torch.from_numpy(scores)[None])
        return self._above(super().postprocess(outputs, top_k=top_k, function_to_apply="none"), threshold)

    def _above(self, entries: list[dict[str, Any]], threshold: float | str | None) -> list[dict[str, Any]]:
        """Return the entries that score at least the threshold."""
        if threshold is None:
            return entries
        config = self.model.config
        least = config.thresholds if threshold == FITTED else [threshold] * config.num_labels
        index = {label: number for number, label in config.id2label.items()}  # label2id may be stale
        return [entry for entry in entries if entry["score"] >= least[index[entry["label"]]]]
