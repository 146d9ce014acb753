"""Reference outputs for a conversion: the arithmetic of the weights' own authors, in float64.

`timm_hidden_states` and `original_logits` use neither our model nor our names. Shapes: B clips, N tokens, C
width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch.nn import functional as F

from ..configuration_ast import ASTConfig
from ..errors import error, unreadable
from ..modeling_ast import ASTModel
from ..weights.image_transformers import ImageTransformer
from ..weights.names import KERNEL

#: LayerNorm epsilon of timm 0.4.5's ViT, and torch's default, which the original's `mlp_head` has.
_EPS = 1e-6
_HEAD_EPS = 1e-5

#: Tensors by name.
Weights = dict[str, torch.Tensor]


def _weights(state: Mapping[str, torch.Tensor], anchor: str) -> Weights:
    """Return float64 tensors by timm's names; the prefix of the tensor named `anchor` is removed from all."""
    prefix = next(name for name in state if name.endswith(anchor)).removesuffix(anchor)
    return {name.removeprefix(prefix): tensor.double() for name, tensor in state.items()}


def _linear(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _norm(weights: Weights, name: str, x: torch.Tensor, eps: float = _EPS) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def _scaled(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x * weights[name] if name in weights else x


def timm_hidden_states(
    state: Mapping[str, torch.Tensor], image: torch.Tensor, heads: int, stride: tuple[int, int]
) -> torch.Tensor:
    """Return the tokens of a timm ViT after the last norm, float64 `(B, N, C)`.

    `image` is `(B, channels, height, width)`, `stride` the step between patches along height and width.
    """
    weights = _weights(state, "cls_token")
    kernel = weights["patch_embed.proj.weight"]
    patches = F.conv2d(image.double(), kernel, weights["patch_embed.proj.bias"], stride)
    special_names = [name for name in ("cls_token", "dist_token") if name in weights]
    special = [weights[name].expand(len(image), -1, -1) for name in special_names]
    patches = patches.flatten(2).transpose(1, 2)
    positions = weights["pos_embed"]
    if positions.shape[1] == patches.shape[1]:  # DeiT III adds positions to the patches alone
        x = torch.cat((*special, patches + positions), dim=1)
    else:
        x = torch.cat((*special, patches), dim=1) + positions
    block = 0
    while f"blocks.{block}.norm1.weight" in weights:
        x = _block(weights, f"blocks.{block}", x, heads)
        block += 1
    return _norm(weights, "norm", x)


def _block(weights: Weights, block: str, x: torch.Tensor, heads: int) -> torch.Tensor:
    qkv = _linear(weights, f"{block}.attn.qkv", _norm(weights, f"{block}.norm1", x))
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, N, C / H)
    attention = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
    attended = _linear(weights, f"{block}.attn.proj", (attention @ value).transpose(1, 2).flatten(2))
    x = x + _scaled(weights, f"{block}.ls1.gamma", attended)
    hidden = F.gelu(_linear(weights, f"{block}.mlp.fc1", _norm(weights, f"{block}.norm2", x)))
    return x + _scaled(weights, f"{block}.ls2.gamma", _linear(weights, f"{block}.mlp.fc2", hidden))


def original_logits(
    state: Mapping[str, torch.Tensor], spectrogram: torch.Tensor, config: ASTConfig
) -> torch.Tensor:
    """Return the logits of the original repository's model (`ast_models.py`), float64 `(B, labels)`.

    `spectrogram` is `(B, frames, mel)`; strides and heads are those of `config`.
    """
    image = spectrogram.unsqueeze(1).transpose(2, 3)
    stride = (config.frequency_stride, config.time_stride)
    tokens = timm_hidden_states(state, image, config.num_attention_heads, stride)
    head = _weights(state, "mlp_head.0.weight")
    pooled = (tokens[:, 0] + tokens[:, 1]) / 2
    return _linear(head, "mlp_head.1", _norm(head, "mlp_head.0", pooled, _HEAD_EPS))


@torch.no_grad()
def image_hidden_states(
    source: Any, vit: ImageTransformer, heads: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states of a grey image by an AST of its size, and by the source's own arithmetic.

    On a grey image, the kernel summed over its colour channels computes the same as the image model's. If the
    source has no distillation token, ours is masked out. Patch rows are mel bins, columns are frames.
    """
    patch = vit.tensors[KERNEL].shape[-1]
    size = vit.grid * patch
    grey = torch.randn(1, size, size, generator=torch.Generator().manual_seed(0)) / 2
    sizes = dict.fromkeys(("max_length", "num_mel_bins"), size)
    steps = dict.fromkeys(("patch_size", "frequency_stride", "time_stride"), patch)
    model = ASTModel.from_vit(source, num_attention_heads=heads, **sizes, **steps)
    visible = torch.ones(1, 2 + vit.grid**2)
    visible[0, 1] = float(vit.distilled)
    hidden_states = model(grey, attention_mask=visible).last_hidden_state
    if not vit.distilled:
        hidden_states = hidden_states[:, [0, *range(2, hidden_states.shape[1])]]
    image = grey.transpose(1, 2)[:, None].expand(-1, 3, -1, -1)
    return hidden_states, _image_model_states(source, image, vit, patch)


def _image_model_states(source: Any, image: torch.Tensor, vit: ImageTransformer, patch: int) -> torch.Tensor:
    """Return hidden states of the source: transformers' class for a folder, timm's arithmetic for tensors."""
    if any(name.endswith(".attn.qkv.weight") for name in vit.state):
        return timm_hidden_states(vit.state, image, vit.fields["num_attention_heads"], (patch, patch))
    from transformers import AutoModel

    fix = "give the folder or the Hub name of a ViT, DeiT, DINOv2 or MAE"
    if not isinstance(source, (str, PathLike)):
        what = "holds the tensors of transformers' class alone, without its config.json"
        raise error("E305", where="weights", what=what, fix=fix)
    try:
        model = AutoModel.from_pretrained(source, dtype=torch.float32, trust_remote_code=False).eval()
    except (OSError, ValueError) as problem:
        what = "has no architecture of transformers to compare with"
        raise unreadable("E305", where=repr(str(source)), what=what, problem=problem, fix=fix) from problem
    if model.config.model_type != "vit_mae":
        return model(image).last_hidden_state
    model.config.mask_ratio = 0.0  # MAE drops and shuffles patches in the order of the noise below
    return model(image, noise=torch.arange(vit.grid**2).float()[None]).last_hidden_state
