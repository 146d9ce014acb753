"""`pipeline("feature-extraction")` for AST: hidden states, or the embedding, of audio of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from transformers import AutoModel, AutoTokenizer, pipeline
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.feature_extraction import FeatureExtractionPipeline

from ..audio_embedding import Embedder, WeightedMean, evaluation_mode, full_precision, unwrapped
from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..errors import AstHfError, error
from ..model_extractor import extractor_of
from ..modeling_ast import ASTPreTrainedModel
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..timelines.merging import owned_parts
from .arguments import check_names
from .urls import fetch, is_url

#: Arguments of a call for the windows, and for the result.
_READING = ("sampling_rate", "window_seconds", "hop_seconds")
_RESULT = ("pool", "return_tensors")


class AutoBaseModel(AutoModel):
    """`AutoModel` for `pipeline`, which keeps the reason of a failure and explains one for an ensemble.

    If a class raises a ValueError, `pipeline` drops it and tries transformers' own class of that name. A plain
    AstHfError with the same code and text is not a ValueError, and reaches the caller.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As `AutoModel.from_pretrained`."""
        try:
            return AutoModel.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except AstHfError as reason:
            raise AstHfError(reason.code, reason.where, reason.what, reason.fix, reason.detail) from reason
        except ValueError:
            hub = {name: kwargs[name] for name in ("revision", "token") if kwargs.get(name)}
            stored, _ = ASTConfig.get_config_dict(pretrained_model_name_or_path, **hub)
            if stored.get("model_type") == ASTEnsembleConfig.model_type:
                raise _no_ensembles(str(pretrained_model_name_or_path)) from None
            raise


class ASTFeatureExtractionPipeline(FeatureExtractionPipeline, ChunkPipeline):
    """Hidden states, or the embedding, of audio with an AST checkpoint.

    For a model that is not from `ast_hf`, the constructor returns transformers' own pipeline for text, unchanged.

    Call it with one input or a list: whatever `ast_hf.load_audio` reads, and http and https URLs. The result is what
    transformers documents for this task: for each input the hidden states as a nested list `(1, tokens,
    hidden_size)`, or a tensor with `return_tensors=True`. A recording longer than a window has the tokens of all
    windows, one window after the other: 3.7 MB for each 10 s. `pool=True` gives the embedding instead, `(1,
    hidden_size)`, as in `pipeline("image-feature-extraction")`. It is that of `model.get_audio_embedding`, which also
    has embeddings with times. `sampling_rate`, `window_seconds` and `hop_seconds` are those of
    `get_audio_embedding`.

    Raises:
        AstInputError: E108 for unknown arguments and for ensembles, E304 if extractor and model do not fit, and
            the errors of `load_audio`.
    """

    #: None: without a tokenizer this class is still called. For text, `_text_pipeline` raises the error instead.
    _load_tokenizer = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        model = kwargs.get("model", args[0] if args else None)
        if not args and not kwargs:  # copy and pickle create an empty object first
            return super().__new__(cls)
        if isinstance(model, ASTEnsembleForAudioClassification):
            raise _no_ensembles(model.name_or_path or "the ensemble")
        if isinstance(unwrapped(model), ASTPreTrainedModel):
            return super().__new__(cls)
        return _text_pipeline(*args, **kwargs)

    def __init__(self, model: Any, *args: Any, feature_extractor: Any = None, **kwargs: Any) -> None:
        kwargs.pop("tokenizer", None)
        model = unwrapped(model)
        super().__init__(model, feature_extractor=extractor_of(model, feature_extractor), **kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Embed one input or a list of inputs; see the class."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 0:
            raise error("E101", where="inputs", what="is an empty list", fix="pass at least one recording")
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> Any:
        check_names(kwargs, (*_READING, *_RESULT), note=" for audio", stacklevel=5)
        given = {name: value for name, value in kwargs.items() if value is not None}
        preprocess = {name: given[name] for name in _READING if name in given}
        pool = {"pool": bool(given["pool"])} if "pool" in given else {}
        result = {name: given[name] for name in _RESULT if name in given}
        return preprocess, pool, result

    def preprocess(self, inputs: Any, **options: Any) -> Iterator[dict[str, Any]]:
        """Yield the features of each window of one input."""
        embedder = Embedder(self.model, self.feature_extractor, **options)
        content = fetch(inputs) if is_url(inputs) else inputs
        for window, features in embedder.inputs(content, device="cpu"):
            part = (window.start, len(window.samples), embedder.middle)
            yield {**features, "part": part, "is_last": window.is_last}

    def _forward(self, model_inputs: Any, pool: bool = False) -> dict[str, Any]:
        inputs = dict(model_inputs)
        kept = {name: inputs.pop(name) for name in ("part", "is_last")}
        with evaluation_mode(self.model):
            outputs = self.model.base_model(
                **inputs, output_attentions=False, output_hidden_states=False, return_dict=True
            )
        return {"states": outputs.pooler_output if pool else outputs.last_hidden_state, **kept}

    def postprocess(self, model_outputs: Any, pool: bool = False, return_tensors: bool = False) -> Any:
        """Return the hidden states of one input, `(1, tokens, hidden)`, or its embedding `(1, hidden)`."""
        states = self._mean(model_outputs) if pool else self._tokens(model_outputs)
        return states if return_tensors else states.tolist()

    def _tokens(self, model_outputs: Any) -> Any:
        return torch.cat([output["states"] for output in model_outputs], dim=1)

    def _mean(self, model_outputs: Any) -> Any:
        windows = []
        for output in model_outputs:
            start, length, middle = output["part"]
            windows.append(_Pooled(start, length, output["states"]))
        mean = WeightedMean()
        for window, begin, end in owned_parts(windows, middle):
            mean.add(full_precision(window.pooled), end - begin)
        return mean.value


class _Pooled(NamedTuple):
    """Pooled output of one window; `start` and `length` in samples."""

    start: int
    length: int
    pooled: torch.Tensor


def _no_ensembles(name: str) -> AstHfError:
    what = "is an ensemble, which has no embedding of its own"
    fix = "use a member: ensemble.members[0].get_audio_embedding(audio, feature_extractor=ensemble.extractors[0])"
    return AstHfError("E108", name, what, fix)


def _text_pipeline(*args: Any, **kwargs: Any) -> Any:
    """Return transformers' own pipeline; raise its error for a tokenizer that could not be loaded."""
    model = kwargs.get("model", args[0] if args else None)
    name = getattr(model, "name_or_path", "")
    if len(args) < 2 and kwargs.get("tokenizer") is None and name:
        revision = getattr(getattr(model, "config", None), "_commit_hash", None)
        AutoTokenizer.from_pretrained(name, revision=revision or "main")
        return pipeline("feature-extraction", model=model, pipeline_class=FeatureExtractionPipeline)
    return FeatureExtractionPipeline(*args, **kwargs)
