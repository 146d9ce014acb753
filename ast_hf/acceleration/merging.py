"""Token merging: tokens that are alike are averaged from block to block (ToMe, Bolya et al. 2022, arXiv 2210.09461).

Fewer tokens take less time. The scores change, so that this is an option, and its agreement is measured on each
checkpoint. The class and the distillation token are never merged.
"""

from __future__ import annotations

import torch

from ..last_block import NUM_SPECIAL


def merge_tokens(
    hidden: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fewer tokens and their sizes.

    The patches are put into two halves in turn. The `count` of the first half whose key is most alike one of the
    second half are averaged into that one, weighted by size (ToMe, section 3).

    Args:
        hidden: tokens `(B, N, C)`, the special ones first.
        keys: keys of the attention `(B, N, d)`, the mean of the heads.
        sizes: number of patches in each token, `(B, N)`.
        count: tokens to merge; at most half of the patches are.

    Returns:
        Tokens `(B, N - count, C)` and sizes `(B, N - count)`.
    """
    count = min(count, (hidden.shape[1] - NUM_SPECIAL) // 2)
    if count <= 0:
        return hidden, sizes
    patches = torch.nn.functional.normalize(keys[:, NUM_SPECIAL:].float(), dim=-1)
    alike = patches[:, ::2] @ patches[:, 1::2].transpose(1, 2)  # (B, first half, second half)
    likeness, partner = alike.max(dim=-1)
    order = likeness.argsort(dim=-1, descending=True)
    merged, kept = order[:, :count], order[:, count:].sort(dim=-1).values
    target = partner.gather(1, merged)
    weighted = hidden * sizes[..., None]
    columns = torch.cat((weighted, sizes[..., None]), dim=-1)  # sums of tokens, and of sizes, in one
    first, second = columns[:, NUM_SPECIAL::2], columns[:, NUM_SPECIAL + 1 :: 2].clone()
    second.scatter_add_(1, _wide(target, second), first.gather(1, _wide(merged, first)))
    result = torch.cat((columns[:, :NUM_SPECIAL], first.gather(1, _wide(kept, first)), second), dim=1)
    return (result[..., :-1] / result[..., -1:]).to(hidden.dtype), result[..., -1]


def _wide(indices: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return indices[..., None].expand(-1, -1, columns.shape[-1])
