"""An image transformer (DeiT, ViT, DINOv2, MAE) as the start of an AST: `ASTModel.from_vit`.

The AST paper's section 2.2: blocks and norms are taken over, the colour channels of the patch kernel become one, and
the square grid of positions becomes that of a spectrogram.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from .checkpoints import find_checkpoint, read_weights
from .configuration_ast import ASTConfig, Geometry
from .errors import did_you_mean, error
from .resampling import check_choices, resize_kernel, resize_positions
from .weight_names import CLASS_TOKEN, DISTILLATION_TOKEN, KERNEL, POSITIONS, Named, read_names

#: What three colour channels become: the original's code sums them (`ast_models.py`, line 86), its paper averages.
CHANNEL_REDUCTIONS = {"sum": torch.sum, "mean": torch.mean}
POSITION_INITS = ("adapt", "nearest", "reinit")

#: Heads of the published widths (DeiT and ViT tiny to huge, DINOv2 small to giant), where only tensors are given.
_HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}
#: What timm and the original repository use throughout; their files do not say it.
_TIMM_EPS, _TIMM_ACTIVATION = 1e-6, "gelu"

Source: TypeAlias = "str | PathLike | nn.Module | Mapping[str, torch.Tensor]"


class ImageTransformer(NamedTuple):
    """An image transformer in AST's names, with both special tokens and without LayerScale."""

    tensors: dict[str, torch.Tensor]  # float32
    state: Mapping[str, torch.Tensor]  # as they were
    named: Named  # how they were called
    fields: dict[str, Any]  # of ASTConfig: sizes, heads, activation, epsilon
    grid: int  # patches along either side of its images
    distilled: bool  # has a distillation token of its own
    name: str  # for messages


def read_image_transformer(
    source: Source, num_attention_heads: int | None = None, hub: dict[str, Any] | None = None
) -> ImageTransformer:
    """Read a Hub name, a folder, a loaded model or a state dict.

    Args:
        source: where the weights are: names of transformers (4 and 5) or timm.
        num_attention_heads: heads, needed for a bare state dict of an unusual width.
        hub: `revision`, `token`, `cache_dir`, ... of `from_pretrained`.

    Raises:
        AstConfigError: E305 for an architecture that AST cannot express and for tensors that are missing, E306 for
            broken files.
        AstInputError: E108 when the number of heads is not known.
    """
    state, fields, name = _read_source(source, hub or {})
    named = read_names(state, name)
    tensors = {ours: tensor.detach().to("cpu", torch.float32, copy=True) for ours, tensor in named.tensors.items()}
    _fold_layer_scale(tensors)
    fields = {**_sizes(tensors, name), **_described(fields, named, num_attention_heads, name)}
    distilled = DISTILLATION_TOKEN in tensors
    grid = _complete_special_tokens(tensors, name)
    return ImageTransformer(tensors, state, named, fields, grid, distilled, name)


def initial_state(
    vit: ImageTransformer,
    geometry: Geometry,
    channel_reduction: str,
    position_init: str,
    kernel_method: str,
    std: float,
) -> dict[str, torch.Tensor]:
    """The tensors of an `ASTModel` of this geometry.

    Args:
        vit: what to start from.
        geometry: of the AST.
        channel_reduction: a key of `CHANNEL_REDUCTIONS`.
        position_init: `"adapt"` cuts the centre or stretches bilinearly, `"nearest"` takes nearest neighbours instead,
            `"reinit"` draws new ones, those of the special tokens too (AST paper, table 4).
        kernel_method: see `resize_kernel`.
        std: of the normal distribution for `"reinit"`.
    """
    state = dict(vit.tensors)
    kernel = CHANNEL_REDUCTIONS[channel_reduction](state[KERNEL], dim=1, keepdim=True)
    state[KERNEL] = resize_kernel(kernel, geometry.patch_size, kernel_method)
    if position_init == "reinit":
        positions = torch.empty(1, geometry.num_tokens, kernel.shape[0])
        state[POSITIONS] = nn.init.trunc_normal_(positions, std=std)
    else:
        old = (vit.grid, vit.grid)
        state[POSITIONS] = resize_positions(state[POSITIONS], old, geometry.grid, method=position_init)
    return state


def check_options(channel_reduction: str, position_init: str, kernel_method: str) -> None:
    """Raise E108 for an option of `from_vit` that does not exist."""
    if channel_reduction not in CHANNEL_REDUCTIONS:
        fix = did_you_mean(channel_reduction, CHANNEL_REDUCTIONS)
        raise error("E108", where="channel_reduction", what=f"{channel_reduction!r} is no choice", fix=fix)
    if position_init not in POSITION_INITS:
        fix = did_you_mean(position_init, POSITION_INITS)
        raise error("E108", where="position_init", what=f"{position_init!r} is no choice", fix=fix)
    check_choices(kernel_method=kernel_method)


def _read_source(source: Source, hub: dict[str, Any]) -> tuple[Mapping[str, torch.Tensor], dict[str, Any], str]:
    """Tensors, what is known about the architecture, and a name for messages."""
    if isinstance(source, nn.Module):
        config: Any = getattr(source, "config", None)
        fields = config.to_dict() if hasattr(config, "to_dict") else _timm_fields(source)
        return source.state_dict(), fields, getattr(source, "name_or_path", "") or type(source).__name__
    if isinstance(source, Mapping):
        return source, {}, "state dict"
    if not isinstance(source, (str, PathLike)):
        what = f"is a {type(source).__name__}"
        raise error("E102", where="source", what=what, fix="give a Hub name, a folder, a model or a state dict")
    checkpoint = find_checkpoint(source, hub)
    if checkpoint is None:
        what = "has no config.json and weights that can be reached"
        raise error(
            "E306", where=repr(str(source)), what=what, fix="check the name and the connection, or give a folder"
        )
    return read_weights(checkpoint.weights), checkpoint.config, str(source)


def _timm_fields(model: nn.Module) -> dict[str, Any]:
    """What a timm model says about itself; nothing for any other module."""
    blocks = getattr(model, "blocks", None)
    heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks else None
    eps = getattr(getattr(model, "norm", None), "eps", None)
    known = {"num_attention_heads": heads, "layer_norm_eps": eps}
    return {name: value for name, value in known.items() if value is not None}


def _described(fields: dict[str, Any], named: Named, heads: int | None, name: str) -> dict[str, Any]:
    """Heads, activation and epsilon: from the source's configuration, else what timm's models have."""
    if fields.get("model_type") == ASTConfig.model_type:
        fix = "use from_pretrained, which takes max_length, frequency_stride, ..."
        raise error("E305", where=name, what="is an AST already", fix=fix)
    width = named.tensors[CLASS_TOKEN].shape[-1] if CLASS_TOKEN in named.tensors else 0
    return {
        "num_attention_heads": heads or fields.get("num_attention_heads") or heads_of_width(width),
        "hidden_act": fields.get("hidden_act", _TIMM_ACTIVATION),
        "layer_norm_eps": fields.get("layer_norm_eps", _TIMM_EPS),
    }


def heads_of_width(width: int) -> int:
    """Attention heads of the published models of a width, which tensors do not tell; raises E108 for another width."""
    if width not in _HEADS_OF_WIDTH:
        what = f"is not known for a width of {width}, and tensors alone do not tell it"
        raise error("E108", where="num_attention_heads", what=what, fix="give num_attention_heads")
    return _HEADS_OF_WIDTH[width]


def _sizes(tensors: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    """The sizes that the tensors' shapes tell."""
    for needed in (CLASS_TOKEN, POSITIONS, KERNEL, "encoder.layer.0.intermediate.dense.weight"):
        if needed not in tensors:
            what = f"holds nothing that becomes {needed}"
            raise error("E305", where=name, what=what, fix="give a ViT, DeiT, DINOv2 or MAE encoder with a class token")
    if tensors[KERNEL].ndim != 4 or tensors[KERNEL].shape[-1] != tensors[KERNEL].shape[-2]:
        what = f"has a patch kernel of shape {tuple(tensors[KERNEL].shape)}"
        raise error("E305", where=name, what=what, fix="take weights with square patches")
    return {
        "hidden_size": tensors[CLASS_TOKEN].shape[-1],
        "num_hidden_layers": 1 + max(int(part.split(".")[2]) for part in tensors if part.startswith("encoder.layer.")),
        "intermediate_size": len(tensors["encoder.layer.0.intermediate.dense.weight"]),
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in tensors,
    }


def _fold_layer_scale(tensors: dict[str, torch.Tensor]) -> None:
    """Put LayerScale (arXiv 2103.17239) into the layer before it: `s * (W x + b)` is `(s * W) x + s * b`."""
    for scale_name in [name for name in tensors if ".layer_scale" in name]:
        scale, block = tensors.pop(scale_name), scale_name.rpartition(".")[0]
        layer = "attention.output.dense" if scale_name.endswith("1") else "output.dense"
        for part in ("weight", "bias"):
            tensor = tensors[f"{block}.{layer}.{part}"]
            tensor.mul_(scale[:, None] if part == "weight" else scale)


def _complete_special_tokens(tensors: dict[str, torch.Tensor], name: str) -> int:
    """Both special tokens and their positions; one that is not there is a copy of the class token's.

    Returns:
        Patches along either side of the images.
    """
    table, distilled = tensors[POSITIONS], DISTILLATION_TOKEN in tensors
    special = 2 if distilled else 1
    if not distilled:
        tensors[DISTILLATION_TOKEN] = tensors[CLASS_TOKEN].clone()
    grid = math.isqrt(table.shape[1] - special)
    if grid**2 == table.shape[1] - special:
        tensors[POSITIONS] = table if distilled else torch.cat((table[:, :1], table), dim=1)
        return grid
    grid = math.isqrt(table.shape[1])
    if grid**2 == table.shape[1]:  # DeiT III: the special tokens have no positions
        tensors[POSITIONS] = torch.cat((table.new_zeros(1, 2, table.shape[-1]), table), dim=1)
        return grid
    what = f"has {table.shape[1]} positions, which are not those of a square image and {special} special tokens"
    raise error("E305", where=name, what=what, fix="take weights of square images")
