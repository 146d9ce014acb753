"""A copy of a classifier for inference on a CPU."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..errors import error, not_a_choice
from ..last_block import can_shorten
from ..modeling_ast import ASTForAudioClassification
from ..processor import has_bfloat16
from .encoder import FastEncoder

PRECISIONS = ("auto", "float32", "bfloat16", "int8")

_MOST_MERGED = 1_000


def optimize_for_inference(
    model: ASTForAudioClassification, precision: str = "float32", *, merge_tokens: int = 0
) -> ASTForAudioClassification:
    """Return a copy of a classifier that is faster on a CPU, for `pipeline` and for calls.

    Args:
        model: a float32 classifier without adapters or quantised layers. It is not changed.
        precision: "float32": the same scores within 1e-4. "bfloat16": rounded to 8 bits, fast only where the
            processor has instructions for it. "int8": linear layers in 8 bits, the rest in bfloat16 where the
            processor has it. "auto": bfloat16 where the processor has it, else float32.
        merge_tokens: tokens that each block merges with similar ones (ToMe), 0..1,000. 0 merges none.

    Returns:
        A model in evaluation mode. It cannot be trained or saved.

    Raises:
        AstConfigError: E302 for an unknown precision or number of tokens, and for a model that cannot be copied so.
    """
    _check(model, precision, merge_tokens)
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16() else "float32"
    half = torch.bfloat16 if has_bfloat16() else torch.float32
    dtype = half if precision == "int8" else getattr(torch, precision)
    fast = copy.deepcopy(model).to(dtype).eval().requires_grad_(False)
    base = fast.audio_spectrogram_transformer
    base.encoder = FastEncoder(base.encoder, int8=precision == "int8", merged=merge_tokens)
    fast.is_optimized = True
    return fast


def _check(model: Any, precision: str, merge_tokens: Any) -> None:
    """Raise E302 for an argument that is not possible."""
    where = "optimize_for_inference"
    if precision not in PRECISIONS:
        raise not_a_choice("E302", where=f"{where}: precision", value=precision, choices=PRECISIONS)
    if (
        isinstance(merge_tokens, bool)
        or not isinstance(merge_tokens, int)
        or not 0 <= merge_tokens <= _MOST_MERGED
    ):
        what = f"{merge_tokens!r} is not a whole number in 0..{_MOST_MERGED:,}"
        raise error(
            "E302", where=f"{where}: merge_tokens", what=what, fix="give such a number, 0 to merge none"
        )
    if not isinstance(model, ASTForAudioClassification):
        what = f"is a {type(model).__name__}, not an ASTForAudioClassification"
        raise error(
            "E302", where=f"{where}: model", what=what, fix="optimise the members of an ensemble one by one"
        )
    encoder = model.audio_spectrogram_transformer.encoder
    if model.is_optimized:
        raise error(
            "E302",
            where=f"{where}: model",
            what="is optimised already",
            fix="optimise the one it was made of",
        )
    if model.device.type != "cpu" or model.dtype != torch.float32:
        what = f"is on {model.device.type} in {str(model.dtype).removeprefix('torch.')}"
        raise error("E302", where=f"{where}: model", what=what, fix="load it on the CPU in float32")
    if not all(can_shorten(block, (encoder,), "sdpa", 0.0) for block in encoder.layer):
        what = "has layers that are not the model's own, such as an adapter's, or hooks in its blocks"
        raise error(
            "E302", where=f"{where}: model", what=what, fix="merge the adapter first, or remove the hooks"
        )
