"""Exact short cut through the last transformer block, of which classification reads two tokens only.

The classifier reads the class and the distillation token (AST paper, section 2.2). After the last block nothing reads
the patches, so its queries, output projection and MLP are needed for two tokens. Keys and values are needed for all
tokens, but not as tensors of their own, since matrix products are associative: the scores are `(q W_k) x^T`, and the
attended values `(softmax x) W_v^T`. This leaves out about one block of the model, in training too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

#: Name of this kind of attention, in place of one of transformers' attention functions.
SPECIAL_TOKENS = "special_tokens"

#: Class and distillation token, the first two.
NUM_SPECIAL = 2

#: Attention functions that compute plain softmax attention, which the short cut computes as well.
_EQUAL = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")

#: Where the classes of a block come from that has not been changed.
_PLAIN_MODULES = (f"{__package__}.modeling_ast", "torch.nn.modules.", "transformers.activations")


def can_shorten(block: nn.Module, outer: tuple[nn.Module, ...], implementation: str, dropout: float) -> bool:
    """Return True if the last block can be computed for the special tokens only, with the same result.

    It cannot if a module in it is replaced (adapters, quantised layers) or sharded, if a hook reads a tensor there,
    if attention has a function of the user's own, or if attention weights are dropped.

    Args:
        block: the last transformer block.
        outer: the modules around it, whose outputs a hook may read too.
        implementation: name of the attention function.
        dropout: probability that an attention weight is dropped in this call.
    """
    if dropout or not is_plain_attention(implementation) or has_global_hooks():
        return False
    inner = list(block.modules())
    if any(has_hooks(module) for module in (*outer, *inner)):
        return False
    attention = getattr(getattr(block, "attention", None), "attention", None)
    projections = (getattr(attention, name, None) for name in ("query", "key", "value"))
    return all(map(_is_plain, inner)) and all(map(is_plain_linear, projections))


def special_token_attention(
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    projections: tuple[nn.Linear, nn.Linear, nn.Linear],
    head_size: int,
) -> torch.Tensor:
    """Return what the class and distillation tokens attend to, `(B, 2, C)`.

    Args:
        hidden: all tokens after the LayerNorm, `(B, N, C)`.
        mask: added to the scores, `(B, 1, 1, N)`; None for no mask.
        projections: to queries, keys and values.
        head_size: columns of a head, C / heads.
    """
    to_query, to_key, to_value = projections
    heads = (-1, head_size)
    query = to_query(hidden[:, :NUM_SPECIAL]) * head_size**-0.5
    query = query.reshape(*query.shape[:-1], *heads).transpose(1, 2)  # (B, heads, 2, C / heads)
    reading = query @ to_key.weight.unflatten(0, heads)  # (B, heads, 2, C)
    scores = (reading.flatten(1, 2) @ hidden.transpose(1, 2)).reshape(*reading.shape[:3], -1)
    if to_key.bias is not None:  # no effect on the softmax; but each parameter needs a gradient
        scores = scores + query @ to_key.bias.unflatten(0, heads).unsqueeze(-1)
    if mask is not None:
        scores = scores + mask
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=precise).to(hidden.dtype)  # (B, heads, 2, N)
    mixed = (weights.flatten(1, 2) @ hidden).reshape(*weights.shape[:3], -1)  # (B, heads, 2, C)
    attended = mixed @ to_value.weight.unflatten(0, heads).transpose(1, 2)  # (B, heads, 2, C / heads)
    attended = attended.transpose(1, 2).flatten(2)
    return attended if to_value.bias is None else attended + to_value.bias


def is_plain_attention(implementation: str) -> bool:
    """Return True for a name of plain softmax attention that still is transformers' own function."""
    attend = ALL_ATTENTION_FUNCTIONS.get(implementation)
    module = getattr(attend, "__module__", None) or ""
    return implementation in _EQUAL and (attend is None or module.startswith("transformers.integrations."))


def is_plain_linear(module: Any) -> bool:
    """Return True for torch's linear layer with ordinary weights: not quantised, sharded, or that of an adapter."""
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter


def has_hooks(module: nn.Module) -> bool:
    """Return True if a hook reads what a module takes or returns, or its `forward` is replaced."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)  # replaced in place, as accelerate does
    )


def has_global_hooks() -> bool:
    """Return True if a hook reads what every module takes or returns."""
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def _is_plain(module: nn.Module) -> bool:
    """Return True for a module of this package with its own code, or for torch's own with ordinary weights."""
    if not type(module).__module__.startswith(_PLAIN_MODULES):
        return False
    return not isinstance(module, nn.Linear) or is_plain_linear(module)
