"""A copy of a classifier for inference on a CPU."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import AstHfError, error, not_a_choice
from ..last_block import can_shorten
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..processor import has_bfloat16
from .encoder import fast_encoder

#: Classifier or ensemble.
Model = TypeVar("Model", bound=nn.Module)

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
_MOST_MERGED = 1_000


def optimize_for_inference(model: Model, precision: str = "float32", *, merge_tokens: int = 0) -> Model:
    """Return a copy of a classifier or ensemble that is faster on a CPU, for `pipeline` and for calls.

    Weights are packed once in the order in which oneDNN reads them, and queries, keys and values are one product. The
    operators are not part of torch's public interface. Where they are missing, the public functions compute the same.

    Args:
        model: `ASTForAudioClassification` or `ASTEnsembleForAudioClassification` in float32 on the CPU, without
            adapters and quantised layers. It is not changed.
        precision: `"float32"`: logits within 1e-4. `"bfloat16"`: 8 bits of precision, fast only where the processor
            has instructions for it. `"int8"`: linear layers in 8 bits, the rest in bfloat16 where the processor has
            it. `"auto"`: bfloat16 where the processor has it, else float32.
        merge_tokens: number of tokens that each block but the last merges with similar ones, 0..1,000 (ToMe, Bolya et
            al. 2022, arXiv 2210.09461). 0 merges none. Masks, hidden states and timelines need 0.

    Returns:
        A model in evaluation mode. It cannot be trained or saved.

    Raises:
        AstConfigError: E302 for an argument that is not possible.
    """
    _check_options(precision, merge_tokens)
    if isinstance(model, ASTEnsembleForAudioClassification):
        ensemble = copy.deepcopy(model).eval()
        members = [
            optimize_for_inference(each, precision, merge_tokens=merge_tokens) for each in model.members
        ]
        ensemble.members = nn.ModuleList(members)
        return ensemble
    if problem := _problem(model):
        what, fix = problem
        raise _impossible("model", what, fix)
    half = torch.bfloat16 if has_bfloat16() else torch.float32
    dtypes = {"auto": half, "int8": half, "float32": torch.float32, "bfloat16": torch.bfloat16}
    fast: Any = copy.deepcopy(model).to(dtypes[precision]).eval().requires_grad_(False)
    base = fast.audio_spectrogram_transformer
    base.encoder = fast_encoder(base.encoder, int8=precision == "int8", merged=merge_tokens)
    fast.is_optimized = True
    return fast


def _check_options(precision: Any, merge_tokens: Any) -> None:
    """Raise E302 for a precision or a number of tokens that does not exist."""
    if precision not in PRECISIONS:
        where = "optimize_for_inference: precision"
        raise not_a_choice("E302", where=where, value=precision, choices=PRECISIONS)
    is_whole = isinstance(merge_tokens, int) and not isinstance(merge_tokens, bool)
    if not is_whole or not 0 <= merge_tokens <= _MOST_MERGED:
        what = f"{merge_tokens!r} is not a whole number in 0..{_MOST_MERGED:,}"
        raise _impossible("merge_tokens", what, "give such a number, 0 to merge none")


def _problem(model: Any) -> tuple[str, str] | None:
    """Return why a model cannot be copied so, and what to do; None if it can."""
    if not isinstance(model, ASTForAudioClassification):
        return f"is a {type(model).__name__}", "give an ASTForAudioClassification or an ensemble of them"
    if model.is_optimized:
        return "is such a copy already", "give the model that it was made of"
    if getattr(model, "is_quantized", False):
        return "has quantised weights", "load it without quantization_config, or use it as it is"
    if model.device.type != "cpu" or model.dtype != torch.float32:
        kind = str(model.dtype).removeprefix("torch.")
        return f"is on {model.device.type} in {kind}", "load it on the CPU in float32"
    encoder = model.audio_spectrogram_transformer.encoder
    if not all(can_shorten(block, (encoder,), "sdpa", 0.0) for block in encoder.layer):
        what = "has layers that are not its own, such as those of an adapter, or hooks in its blocks"
        return what, "merge the adapter into the weights first, or remove the hooks"
    return None


def _impossible(argument: str, what: str, fix: str) -> AstHfError:
    return error("E302", where=f"optimize_for_inference: {argument}", what=what, fix=fix)
