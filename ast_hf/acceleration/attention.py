"""Softmax attention for inference on a CPU: one head after the other, whose scores stay in the cache.

torch's fused attention multiplies float32 with MKL and has no fast products of bfloat16 on a CPU.

oneDNN applies the exponential function to scores while it multiplies them, where softmax needs three passes more. The
softmax of a row does not change if a number is subtracted from all its scores. Two numbers are: the score of the mean
key, so that the sum of a row's exponentials is at least their number, and `_SHIFT`, as oneDNN has the exponential
function only as the lower end of a sigmoid. The sums show whether all exponentials are accurate; rows for which they
are not are computed by softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from .linears import can_exponentiate, can_pack, exponentials, product

#: Scores that are computed together: 6 MB of float32, for all of the 1,214 tokens of 10 s. Each call of a product
#: orders the keys anew, which fewer rows at a time do not make up for (AMD EPYC, 1 MB and 32 MB of cache).
_SCORES = 1_500_000
#: Subtracted from all scores.
_SHIFT = 72.0
#: Sums of a row's shifted exponentials, e^-70 to e^-14. Below it, single ones, which end at e^-87 = 1.2e-38, may be
#: missing: 5e-5 of a row of 1,214 at most. A sigmoid of e^-14 differs from the exponential by a millionth.
_LOWEST_SUM = 4e-31
_HIGHEST_SUM = 8e-7


def attend(states: Iterable[torch.Tensor], heads: int, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return the attended values `(B, N, C)`.

    Args:
        states: for each head, `(B, N, 3 C / heads)`: queries, keys and values. The queries are scaled: scores are
            their products with the keys. A head is asked for when those before it are done.
        heads: number of heads.
        bias: added to the scores of each key, `(B, N)`; None for none.
    """
    mixed = None
    for head, state in enumerate(states):
        if not can_pack(state.dtype):
            return attend_masked([state, *states], None if bias is None else bias[:, None, None, :])
        query, key, value = state.chunk(3, dim=-1)
        key = key - key.mean(dim=1, keepdim=True)
        batch, tokens, columns = key.shape
        rows = max(1, _SCORES // tokens)
        if mixed is None:
            mixed = key.new_empty(batch, tokens, heads, columns)
        added = key.new_zeros(batch, tokens, dtype=torch.float32) if bias is None else bias.float()
        for clip in range(batch):
            others = key[clip].contiguous(), value[clip].contiguous().t().contiguous(), added[clip]
            for first in range(0, tokens, rows):
                part = slice(first, first + rows)
                _write_rows(query[clip, part], *others, mixed[clip, part, head])
    assert mixed is not None
    return mixed.flatten(2)


def attend_masked(states: Iterable[torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
    """Return what `attend` returns, by torch's own attention, with a mask that it takes."""
    query, key, value = split_heads(states)
    mask = mask.to(query.dtype) if mask is not None and mask.dtype.is_floating_point else mask
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    return mixed.transpose(1, 2).flatten(2)


def split_heads(states: Iterable[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Return queries, keys and values `(B, heads, N, C / heads)` of the `states` that `attend` takes."""
    return torch.stack(list(states), dim=1).chunk(3, dim=-1)


def _write_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, added: torch.Tensor, mixed: torch.Tensor
) -> None:
    """Write the attended values of some queries of a head into `mixed`; `value` is `(C / heads, N)`."""
    if can_exponentiate(query.dtype):
        weights = exponentials(query, key, added - _SHIFT)
        sums = weights.sum(dim=-1, keepdim=True)
        low, high = (float(end) for end in torch.aminmax(sums))
        if low >= _LOWEST_SUM and high <= _HIGHEST_SUM:
            torch.div(product(weights, value), sums, out=mixed)
            return
    scores = product(query, key).add_(added)
    torch.softmax(scores, dim=-1, out=scores)
    mixed.copy_(product(scores, value))
