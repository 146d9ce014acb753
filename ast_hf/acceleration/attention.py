"""Softmax attention for inference on a CPU: a head and some rows at a time, whose scores stay in the cache.

torch's fused attention multiplies float32 with MKL and has no fast products of bfloat16 on a CPU.
"""

from __future__ import annotations

import torch
from torch import nn

from .linears import can_pack, product

#: Rows of the scores that are computed together: 1.2 MB of float32 for the 1,214 tokens of 10 s.
_ROWS = {torch.float32: 256, torch.bfloat16: 607}


def attend(qkv: torch.Tensor, heads: int, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return the attended values `(B, N, C)`.

    Args:
        qkv: queries, keys and values side by side, `(B, N, 3 C)`.
        heads: number of heads.
        bias: added to the scores of each key, `(B, N)`; None for none.
    """
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
    if not can_pack(qkv.dtype):
        mask = None if bias is None else bias[:, None, None, :].to(qkv.dtype)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)
    batch, _, tokens, columns = query.shape
    query = (query * columns**-0.5).contiguous()
    key = key.contiguous()
    value = value.transpose(-1, -2).contiguous()
    mixed = qkv.new_empty(batch, tokens, heads, columns)
    rows = _ROWS[qkv.dtype]
    for clip in range(batch):
        added = None if bias is None else bias[clip].to(qkv.dtype)
        for head in range(heads):
            for first in range(0, tokens, rows):
                scores = product(query[clip, head, first : first + rows], key[clip, head])
                if added is not None:
                    scores += added
                torch.softmax(scores, dim=-1, out=scores)
                mixed[clip, first : first + rows, head] = product(scores, value[clip, head])
    return mixed.flatten(2)
