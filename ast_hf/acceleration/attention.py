"""Softmax attention for inference on a CPU: one head after the other, whose scores stay in the cache."""

from __future__ import annotations

import torch
from torch import nn


def attend(qkv: torch.Tensor, heads: int, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return the attended values `(B, N, C)`.

    torch's fused attention has no fast products of bfloat16 on a CPU. In float32 it is as fast as this, and is used.

    Args:
        qkv: queries, keys and values side by side, `(B, N, 3 C)`.
        heads: number of heads.
        bias: added to the scores of each key, `(B, N)`, float32; None for none.
    """
    batch, tokens, _ = qkv.shape
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
    if qkv.dtype == torch.float32:
        mask = None if bias is None else bias[:, None, None, :]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)
    mixed = qkv.new_empty(batch, tokens, heads, query.shape[-1])
    query = (query * query.shape[-1] ** -0.5).contiguous()
    key = key.transpose(-1, -2)
    for clip in range(batch):
        for head in range(heads):
            scores = query[clip, head] @ key[clip, head]
            if bias is not None:
                scores = scores + bias[clip].to(scores.dtype)
            mixed[clip, :, head] = scores.softmax(dim=-1) @ value[clip, head]
    return mixed.flatten(2)
