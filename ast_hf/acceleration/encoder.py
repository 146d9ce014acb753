"""Transformer blocks for inference, in place of those of a model."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn

from ..errors import error
from ..last_block import SPECIAL_TOKENS
from ..modeling_ast import ASTEncoder, ASTLayer, eager_attention
from .attention import attend
from .linears import Int8Linear, PackedLinear
from .merging import merge_tokens

Linear: TypeAlias = "PackedLinear | Int8Linear"


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
        self.has_gelu = type(block.activation).__name__ == "GELUActivation"
        self.qkv = _converted((attention.query, attention.key, attention.value), int8)
        self.attention_output = _converted((block.attention.output.dense,), int8)
        self.intermediate = _converted((block.intermediate.dense,), int8)
        self.output = _converted((block.output.dense,), int8)

    @torch.no_grad()  # products of codes have no gradient, and one without them would be wrong
    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `ASTLayer.forward` returns, without gradients."""
        hidden, weights, _ = self.attended(hidden, attention_mask, implementation)
        return self.widened(hidden), weights

    def attended(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        implementation: str,
        bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the tokens after attention, its weights (eager only), and the keys by head."""
        qkv = self.qkv(self.layernorm_before(hidden))
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = None
        if implementation == "eager":
            mixed, weights = eager_attention(self, query, key, value, mask, key.shape[-1] ** -0.5)
            mixed = mixed.flatten(2)
        else:
            mixed = attend(query, key, value, mask, bias)
        return self.attention_output(mixed, residual=hidden), weights, key

    def widened(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the tokens after the MLP."""
        normed = self.layernorm_after(hidden)
        if self.has_gelu:
            return self.output(self.intermediate(normed, gelu=True), residual=hidden)
        return self.output(self.activation(self.intermediate(normed)), residual=hidden)


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
            hidden, _, keys = block.attended(hidden, None, "sdpa", bias)  # eager attention takes no bias
            hidden, sizes = merge_tokens(hidden, keys.mean(dim=1), sizes, self.merged)
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


def _converted(linears: tuple[nn.Linear, ...], int8: bool) -> Linear:
    """Return layers of the same input as one."""
    weight = torch.cat([linear.weight for linear in linears])
    biases = [linear.bias for linear in linears]
    bias = None if biases[0] is None else torch.cat(biases)
    return Int8Linear(weight, bias, weight.dtype) if int8 else PackedLinear(weight, bias)
