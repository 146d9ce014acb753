"""Transformer blocks for inference, in place of those of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import nn

from ..errors import error
from ..last_block import SPECIAL_TOKENS
from ..modeling_ast import ASTEncoder, ASTLayer, eager_attention
from .attention import attend, attend_masked, split_heads
from .linears import Int8Linear, PackedLinear
from .merging import merge_tokens

Linear: TypeAlias = "PackedLinear | Int8Linear"

#: Numbers between the two layers of an MLP that are computed together: 8 MB of float32. The allocator returns larger
#: blocks to the system, which then clears them for each call (a tenth of the time in int8).
_MLP_NUMBERS = 1 << 21


class FastBlock(nn.Module):
    """One transformer block: queries, keys and values in one product, weights packed, sums and GELU inside.

    Args:
        block: the block that it is made of.
        int8: compute the linear layers in int8.
    """

    def __init__(self, block: ASTLayer, *, int8: bool) -> None:
        super().__init__()
        attention = block.attention.attention
        self.heads = attention.config.num_attention_heads
        self.layernorm_before = block.layernorm_before
        self.layernorm_after = block.layernorm_after
        self.activation = block.activation
        self.width = block.intermediate.dense.out_features
        self.has_gelu = type(block.activation).__name__ == "GELUActivation"
        self.qkv = _heads(attention.query, attention.key, attention.value, self.heads, int8)
        self.attention_output = _converted(block.attention.output.dense, int8)
        self.intermediate = _converted(block.intermediate.dense, int8)
        self.output = _converted(block.output.dense, int8)

    @torch.no_grad()  # products of codes have no gradient, and one without them would be wrong
    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `ASTLayer.forward` returns, without gradients."""
        hidden, weights = self.attended(hidden, attention_mask, implementation)
        return self.widened(hidden), weights

    def attended(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        implementation: str,
        bias: torch.Tensor | None = None,
        keys: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens after attention, and its weights (eager only).

        The keys of all heads are added to `keys`, `(B, N, C / heads)`.
        """
        states: Iterable[torch.Tensor] = self.qkv.parts(self.layernorm_before(hidden))
        if keys is not None:
            states = _adding_keys(states, keys)
        weights = None
        if implementation == "eager":
            query, key, value = split_heads(states)
            mixed, weights = eager_attention(self, query, key, value, mask, 1.0)
            mixed = mixed.flatten(2)
        elif mask is not None:
            mixed = attend_masked(states, mask)
        else:
            mixed = attend(states, self.heads, bias)
        return self.attention_output(mixed).add_(hidden), weights

    def widened(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the tokens after the MLP, which is added in place."""
        batch, tokens, _ = hidden.shape
        blocks = math.ceil(tokens * self.width / _MLP_NUMBERS)
        rows = math.ceil(tokens / blocks)
        for clip in range(batch):
            for first in range(0, tokens, rows):
                part = hidden[clip : clip + 1, first : first + rows]
                normed = self.layernorm_after(part)
                if self.has_gelu:
                    part += self.output(self.intermediate(normed, gelu=True))
                else:
                    part += self.output(self.activation(self.intermediate(normed)))
        return hidden


class MergingEncoder(ASTEncoder):
    """Blocks that merge tokens, all but the last, which classification reads two tokens of.

    Args:
        layer: `FastBlock`s, and the last block as it was.
        merged: number of tokens that each block merges.
    """

    def __init__(self, layer: nn.ModuleList, merged: int) -> None:
        nn.Module.__init__(self)
        self.layer = layer
        self.merged = merged

    @torch.no_grad()
    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None,
        implementation: str,
        *,
        special_mask: torch.Tensor | None = None,
        special_tokens_only: bool = False,
        output_hidden_states: bool = True,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Return the last state of the class and the distillation token, and None for attention weights.

        Raises:
            AstInputError: E304 for a mask, and where all tokens are asked for.
        """
        if attention_mask is not None or not special_tokens_only:
            what = "tokens are merged, which leaves no place for a mask, hidden states or attentions"
            raise error("E304", where="input_values", what=what, fix="use a model with merge_tokens=0")
        *blocks, last = self.layer
        sizes = hidden.new_ones(hidden.shape[:2], dtype=torch.float32)
        bias = None
        for block in blocks:
            keys = hidden.new_zeros(*hidden.shape[:2], hidden.shape[2] // block.heads, dtype=torch.float32)
            hidden, _ = block.attended(hidden, None, "sdpa", bias, keys)  # eager attention takes no bias
            hidden, sizes = merge_tokens(hidden, keys / block.heads, sizes, self.merged)
            bias = sizes.log()
            hidden = block.widened(hidden)
        mask = special_mask if bias is None else bias[:, None, None, :].to(hidden.dtype)
        hidden, _ = last(hidden, mask, SPECIAL_TOKENS)
        return [hidden], [None] * len(self.layer)


def fast_encoder(encoder: ASTEncoder, *, int8: bool, merged: int) -> ASTEncoder:
    """Return an encoder with fast blocks; the last block stays as it is.

    Args:
        encoder: the encoder that it is made of; it is changed.
        int8: compute the linear layers in int8.
        merged: number of tokens that each block but the last merges, 0 for none.
    """
    *blocks, last = encoder.layer
    encoder.layer = nn.ModuleList([*(FastBlock(block, int8=int8) for block in blocks), last])
    return MergingEncoder(encoder.layer, merged) if merged else encoder


def _converted(linear: nn.Linear, int8: bool) -> Linear:
    if int8:
        return Int8Linear(linear.weight, linear.bias, linear.weight.dtype)
    return PackedLinear(linear.weight, linear.bias)


def _heads(query: nn.Linear, key: nn.Linear, value: nn.Linear, heads: int, int8: bool) -> Linear:
    """Return a layer with a part for each head: scaled queries, keys and values."""
    scale = (query.out_features // heads) ** -0.5  # 1/8 in AST, which changes no digit
    weights = [query.weight * scale, key.weight, value.weight]
    weight = torch.stack([each.unflatten(0, (heads, -1)) for each in weights], dim=1).flatten(0, 2)
    bias = None
    if query.bias is not None:
        biases = [query.bias * scale, key.bias, value.bias]
        bias = torch.stack([each.unflatten(0, (heads, -1)) for each in biases], dim=1).flatten()
    return Int8Linear(weight, bias, weight.dtype, heads) if int8 else PackedLinear(weight, bias, heads)


def _adding_keys(states: Iterable[torch.Tensor], sums: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the states of each head, and add its keys to `sums`."""
    for state in states:
        sums += state.chunk(3, dim=-1)[1]
        yield state
