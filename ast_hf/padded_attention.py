"""Attention of clips that are padded to one length: as a mask, or on a GPU as segments that need none.

torch's flash attention takes no mask. But it takes a sequence of segments, each of which attends to itself only. So the
tokens of each clip are sorted, the visible ones first: they are one segment, and the hidden ones another, which
nothing reads. Nothing here depends on a value, which the host would have to wait for.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from .configuration_ast import ASTConfig
from .last_block import has_global_hooks, has_hooks, is_plain_attention

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # a build of torch without it
    varlen_attn = None

#: Name of this kind of attention, in place of one of transformers' attention functions.
SEGMENTS = "segments"

#: Flash attention takes heads of so many columns at most, in multiples of 8.
_MOST_COLUMNS = 256
#: Largest difference to attention with a mask, of values around 1 in bfloat16.
_TOLERANCE = 0.05


class Segments(NamedTuple):
    """Tokens of a batch as segments.

    Attributes:
        order: int64 `(B * N,)`, the place of each sorted token among the tokens of the batch.
        bounds: int32 `(2 B + 1,)`, where the segments begin and end among the sorted tokens.
        visible: bool `(B, N)`, the sorted mask.
    """

    order: torch.Tensor
    bounds: torch.Tensor
    visible: torch.Tensor

    def sort(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens `(B, N, C)` with the visible ones of each clip first, in their order."""
        return tokens.flatten(0, 1).index_select(0, self.order).view(tokens.shape)

    def unsort(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return sorted tokens `(B, N, C)` in their order before."""
        return tokens.flatten(0, 1).index_select(0, self.order.argsort()).view(tokens.shape)


def segments(visible: torch.Tensor) -> Segments:
    """Return the segments of a bool mask over tokens `(B, N)`; the first tokens stay the first if they are visible."""
    batch, count = visible.shape
    places, order = visible.sort(dim=1, descending=True, stable=True)
    starts = torch.arange(batch, device=visible.device) * count
    ends = starts + visible.sum(dim=1)
    bounds = torch.stack((starts, ends), dim=1).flatten()
    bounds = torch.cat((bounds, bounds.new_full((1,), batch * count)))
    return Segments((order + starts[:, None]).flatten(), bounds.int(), places)


def segment_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: torch.Tensor
) -> torch.Tensor:
    """Return what sorted tokens attend to within their segments, `(B, N, C)`.

    Args:
        query: `(B, N, heads, C / heads)`, like `key` and `value`, in 16 bits.
        key: see `query`.
        value: see `query`.
        bounds: see `Segments`.
    """
    count = query.shape[1]
    flat = (each.flatten(0, 1) for each in (query, key, value))
    attended = varlen_attn(*flat, bounds, bounds, count, count)
    return attended.view(query.shape).flatten(2)


def takes_segments(
    tokens: torch.Tensor, config: ASTConfig, implementation: str, *, dropout: float, modules: nn.Module
) -> bool:
    """Return True if attention can run on segments, with the same result.

    It needs torch's own fused attention, a GPU with flash attention, and 16 bits. It is off if attention weights are
    dropped, if a hook within `modules` or on every module could read tokens in another order, and while the whole model
    is compiled.
    """
    if implementation != "sdpa" or not is_plain_attention("sdpa") or has_global_hooks():
        return False
    if dropout or torch.compiler.is_compiling():
        return False
    columns = config.hidden_size // config.num_attention_heads
    if not is_able(tokens, columns):
        return False
    return not any(has_hooks(module) for module in modules.modules())


def is_able(tokens: torch.Tensor, columns: int) -> bool:
    """Return True if the device of tokens computes attention on segments for heads of `columns` columns."""
    device = tokens.device
    if device.type != "cuda" or varlen_attn is None or columns % 8 or columns > _MOST_COLUMNS:
        return False
    has_autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if has_autocast else tokens.dtype
    return dtype in (torch.float16, torch.bfloat16) and _works(device, dtype, columns)


def mask_for(visible: torch.Tensor, tokens: torch.Tensor, config: ASTConfig, implementation: str) -> Any:
    """Return a bool mask over tokens `(B, N)` in the form that an attention implementation takes.

    For "sdpa" on another device than the CPU it is passed on as it is: transformers would read it back to see if it
    hides anything, and write it out for each query.
    """
    if implementation == "eager":  # additive; the call may be eager although another one is configured
        lowest = torch.finfo(tokens.dtype).min
        return torch.where(visible[:, None, None, :], 0.0, lowest).to(tokens.dtype)
    if implementation == "sdpa" and tokens.device.type != "cpu":
        return visible[:, None, None, :]
    return create_bidirectional_mask(config=config, inputs_embeds=tokens, attention_mask=visible)


@functools.lru_cache(maxsize=16)
def _works(device: torch.device, dtype: torch.dtype, columns: int) -> bool:
    """Return True if a GPU computes attention and its gradient on segments as with a mask; tried once."""
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            return _agrees(device, dtype, columns)
    except (RuntimeError, TypeError, NotImplementedError):  # no such kernel, or other arguments
        return False


def _agrees(device: torch.device, dtype: torch.dtype, columns: int) -> bool:
    """Return True if both kinds of attention agree on two short clips, of which one has padding."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 2, 9, 2, columns, generator=generator).to(device, dtype)
    visible = torch.tensor([[True] * 9, [True] * 4 + [False] * 5]).to(device)
    mask = visible[:, None, None, :]
    results = []
    for with_mask in (False, True):
        states = values.clone().requires_grad_()
        if with_mask:
            query, key, value = states.transpose(2, 3)
            attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended = attended.transpose(1, 2).flatten(2)
        else:
            attended = segment_attention(states[0], states[1], states[2], segments(visible).bounds)
        attended = torch.where(visible[:, :, None], attended.float(), 0.0)
        gradient = torch.autograd.grad(attended.square().sum(), states)[0]
        results.append(torch.cat((attended.flatten(), gradient.float().flatten())))
    one, other = results
    return bool((one - other).abs().max() <= _TOLERANCE)
