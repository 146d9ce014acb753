"""Softmax attention for inference on a CPU: a head and some rows at a time, whose scores stay in the cache.

torch's fused attention multiplies float32 with MKL and has no fast products of bfloat16 on a CPU.
"""

from __future__ import annotations

import torch
from torch import nn

from .linears import can_pack, product

#: Rows of the scores that are computed together: 1.2 MB of float32 for the 1,214 tokens of 10 s.
_ROWS = {torch.float32: 256, torch.bfloat16: 607}


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the attended values `(B, N, C)`.

    Args:
        query: `(B, heads, N, C / heads)`, as `key` and `value`.
        key: see `query`.
        value: see `query`.
        mask: mask for torch's own attention, which then computes; None for none.
        bias: added to the scores of each key, `(B, N)`, without a mask; None for none.
    """
    if mask is not None or not can_pack(query.dtype):
        if bias is not None:
            mask = bias[:, None, None, :].to(query.dtype)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)
    batch, heads, tokens, columns = query.shape
    query = (query * columns**-0.5).contiguous()
    key = key.contiguous()
    value = value.transpose(-1, -2).contiguous()
    mixed = query.new_empty(batch, tokens, heads, columns)
    rows = _ROWS[query.dtype]
    for clip in range(batch):
        added = None if bias is None else bias[clip].to(query.dtype)
        for head in range(heads):
            for first in range(0, tokens, rows):
                scores = product(query[clip, head, first : first + rows], key[clip, head])
                if added is not None:
                    scores += added
                torch.softmax(scores, dim=-1, out=scores)
                mixed[clip, first : first + rows, head] = product(scores, value[clip, head])
    return mixed.flatten(2)
