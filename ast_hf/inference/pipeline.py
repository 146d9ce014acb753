"""`pipeline("audio-classification")` for AST: files, bytes, arrays and dicts, any rate, mono or stereo."""

from __future__ import annotations

import http.client
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForAudioClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pipelines.audio_classification import AudioClassificationPipeline

from ..audio import load_audio, load_beginning
from ..audio_formats import MAX_PIPED
from ..errors import (
    AstHfError,
    AstHfWarning,
    did_you_mean,
    error,
    nearest,
    not_a_choice,
    unreadable,
    warn_once,
    warning_text,
)
from ..feature_extraction_ast import ASTFeatureExtractor, check_fits
from ..log_mel import num_frames, num_samples
from ..modeling_ast import ASTPreTrainedModel
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..scalars import is_finite_number, plain_scalar
from ..task import Task

_PARAMETERS = ("top_k", "function_to_apply", "sampling_rate", "threshold")
_FUNCTIONS = ("softmax", "sigmoid", "none")
_FUNCTION_OF = {Task.SINGLE_LABEL: "softmax", Task.MULTI_LABEL: "sigmoid", Task.REGRESSION: "none"}
#: Default of `top_k`; None means all labels.
_NOT_GIVEN: Any = object()
#: Longest wait for the next bytes of a URL, in seconds.
_URL_TIMEOUT = 30.0
#: Longest download of a URL, in seconds.
_URL_SECONDS = 600.0
#: Value of `threshold` that means the checkpoint's own thresholds.
FITTED = "fitted"


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


class ASTAudioClassificationPipeline(AudioClassificationPipeline):
    """Classify audio with an AST checkpoint, or an ensemble of them.

    Extends transformers' pipeline: files and bytes without ffmpeg, any sampling rate and channel count
    without torchaudio, `pathlib` paths, the audio columns of `datasets`, and errors that name the file. For a
    model that is not from `ast_hf`, the constructor returns transformers' own pipeline, unchanged.

    Call it with one input or a list: whatever `ast_hf.load_audio` reads, and http and https URLs. Optional
    arguments are `top_k` (None, the default, for all labels), `function_to_apply` ("softmax", "sigmoid" or
    "none"), `sampling_rate` (of bare arrays, in Hz; by default the model's own, with one warning per process,
    W212), `threshold` and `batch_size`. All but `batch_size` may also be given to the constructor. It returns
    a list of `{"score", "label"}` for each input, best first.

    The default function follows the config's `problem_type`. A checkpoint without one but with AudioSet's
    labels, as MIT published it, is multi-label (W307, once).

    Logits are divided by the checkpoint's `temperature`, if it has one (Guo et al. 2017, arXiv 1706.04599),
    before softmax or sigmoid; "none" returns the logits unchanged. With a `threshold`, only labels that score
    at least as much are returned, possibly none. It is a number in [0, 1], or "fitted" for the checkpoint's
    own thresholds, one per label (multi-label models that `ast-hf evaluate --fit-on ... --store` has fitted).

    Raises:
        AstInputError: E304 if extractor and model do not fit, E108 for unknown arguments, and the errors of
            `load_audio`.
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
        check_fits(self.feature_extractor, self.model.config, self.model.name_or_path or "the model")

    def check_model_type(self, supported_models: Any) -> None:
        """Do nothing: `__new__` has checked the model, and transformers' list does not name ensembles."""

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify one input or a list of inputs; see the class."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 0:
            fix = "pass at least one file or array"
            raise error("E101", where="inputs", what="is an empty list", fix=fix)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        top_k: int | None = _NOT_GIVEN,
        sampling_rate: int | None = None,
        threshold: Any = None,
        **kwargs: Any,
    ) -> Any:
        for name in kwargs.keys() - {*_PARAMETERS}:
            if nearest(name, _PARAMETERS, cutoff=0.7) is not None:
                fix = did_you_mean(name, _PARAMETERS)
                raise error("E108", where=name, what="is not an argument of this pipeline", fix=fix)
            text = "is not an argument of this pipeline and has no effect"
            warnings.warn(warning_text("W302", where=name, what=text), AstHfWarning, stacklevel=4)
        count = None if top_k is _NOT_GIVEN else plain_scalar(top_k)
        if count is not None and (not isinstance(count, int) or count < 1):
            fix = "use 1 or more, or None for all"
            raise error("E108", where="top_k", what=f"{top_k!r} selects nothing", fix=fix)
        function = kwargs.get("function_to_apply")
        if function is not None and function not in _FUNCTIONS:
            raise not_a_choice("E108", where="function_to_apply", value=function, choices=_FUNCTIONS)
        postprocess: dict[str, Any] = {}  # no defaults: a call's arguments replace the constructor's
        if top_k is not _NOT_GIVEN:
            labels = self.model.config.num_labels
            postprocess["top_k"] = labels if count is None else min(count, labels)
        if function is not None:
            postprocess["function_to_apply"] = function
        if threshold is not None:
            self._check_threshold(threshold)
            postprocess["threshold"] = threshold
        return {} if sampling_rate is None else {"sampling_rate": sampling_rate}, {}, postprocess

    def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Any:
        """Return the features of one input, ready for the model."""
        rate = self.feature_extractor.sampling_rate
        if sampling_rate is None and isinstance(inputs, (np.ndarray, torch.Tensor)):
            what = f"is missing, and {rate} Hz is assumed; pass sampling_rate= if the array has another"
            warn_once("W212", where="sampling_rate", what=what)
            sampling_rate = rate
        content = _fetch(inputs) if _is_url(inputs) else inputs
        features = self._extract(content, rate, sampling_rate, _name(inputs))
        return features.to(dtype=self.dtype) if self.dtype is not None else features

    def _forward(self, model_inputs: Any) -> Any:
        return self.model(**model_inputs, return_dict=True)  # a config may ask for tuples

    def postprocess(
        self,
        model_outputs: Any,
        top_k: int = 5,
        function_to_apply: str | None = None,
        threshold: float | str | None = None,
    ) -> Any:
        """Return the scores of one input, best first; by default by the function of the problem type.

        transformers before 5.19 always applies softmax.
        """
        config = self.model.config
        task = Task.of_config(config) or Task.SINGLE_LABEL
        function = function_to_apply or _FUNCTION_OF[task]
        if function_to_apply is None and config.problem_type is None and function == "sigmoid":
            text = (
                "names no problem_type, but AudioSet's labels: scores are sigmoids, one for each tag; set "
                "config.problem_type, or pass function_to_apply, for something else"
            )
            warn_once("W307", where=f"config of {self.model.name_or_path or 'the model'}", what=text)
        if threshold == FITTED and function != "sigmoid":
            what = f"{function!r} gives scores that the thresholds were not fitted to"
            fix = "use 'sigmoid', or give threshold a number"
            raise error("E108", where="function_to_apply", what=what, fix=fix)
        if config.temperature is not None and function != "none":
            model_outputs = SequenceClassifierOutput(logits=model_outputs.logits / config.temperature)
        scores = super().postprocess(model_outputs, top_k=top_k, function_to_apply=function)
        if threshold is None:
            return scores
        least = config.thresholds if threshold == FITTED else [threshold] * config.num_labels
        index = {label: number for number, label in config.id2label.items()}  # label2id may be stale
        return [entry for entry in scores if entry["score"] >= least[index[entry["label"]]]]

    def _check_threshold(self, threshold: Any) -> None:
        """Raise E108 unless it is a number in [0, 1], or `"fitted"` and the checkpoint has thresholds."""
        config = self.model.config
        if threshold != FITTED and not (is_finite_number(threshold) and 0.0 <= threshold <= 1.0):
            fix = f"give a number in [0, 1], or {FITTED!r}"
            raise error("E108", where="threshold", what=f"{threshold!r} is not a threshold", fix=fix)
        if threshold == FITTED and config.problem_type != Task.MULTI_LABEL:
            what = f"{FITTED!r} is for multi-label models, and this one is {config.problem_type!r}"
            fix = "give a number in [0, 1], or top_k=1 for the best"
            raise error("E108", where="threshold", what=what, fix=fix)
        if threshold == FITTED and config.thresholds is None:
            source = self.model.name_or_path or "the model"
            what = f"is {FITTED!r}, but none are stored in config.json of {source}"
            fix = "fit them with `ast-hf evaluate --fit-on validation --store`, or give a number in [0, 1]"
            raise error("E108", where="threshold", what=what, fix=fix)

    def _extract(self, content: Any, rate: int, source_rate: int | None, name: str) -> Any:
        """Return the features of one input; only the beginning that the model can use is decoded."""
        extractor = self.feature_extractor
        if not isinstance(extractor, ASTFeatureExtractor):
            waveform = load_audio(content, rate, source_rate=source_rate)
            return extractor(waveform, sampling_rate=rate, return_tensors="pt")
        limit = num_samples(extractor.max_length, rate)
        waveform, length = load_beginning(content, rate, limit, source_rate=source_rate)
        extractor.warn_truncated(num_frames(length, rate), extractor.max_length, name)
        try:
            return extractor(waveform, sampling_rate=rate, return_tensors="pt", truncation=True)
        except AstHfError as problem:
            # The extractor names the position in the batch, always 0 here; the file's name is more useful.
            parts = {"what": problem.what, "fix": problem.fix, "detail": problem.detail}
            raise error(problem.code, where=name, **parts) from None


def _is_url(inputs: Any) -> bool:
    return isinstance(inputs, str) and inputs.startswith(("http://", "https://"))


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT) as response:
            return _received(response, url)
    except AstHfError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as problem:
        what = "cannot be downloaded"
        fix = "check it, or download the file and pass its path"
        raise unreadable("E703", where=repr(url), what=what, problem=problem, fix=fix) from None


def _received(response: Any, url: str) -> bytes:
    """Return the bytes of a response; raise E703 for too many, or if they come too slowly."""
    deadline = time.monotonic() + _URL_SECONDS
    parts = []
    size = 0
    while part := response.read1(1 << 20):
        parts.append(part)
        size += len(part)
        if size > MAX_PIPED or time.monotonic() > deadline:
            what = (
                f"gave {size:,} bytes and no end; the limits are {MAX_PIPED:,} bytes and {_URL_SECONDS:g} s"
            )
            raise error("E703", where=repr(url), what=what, fix="download the file and pass its path")
    return b"".join(parts)


def _name(inputs: Any) -> str:
    if isinstance(inputs, (str, Path)):
        return repr(str(inputs))
    path = inputs.get("path") if isinstance(inputs, dict) else None
    return repr(str(path)) if path else f"audio ({type(inputs).__name__})"
