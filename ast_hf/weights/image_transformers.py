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

from ..configuration_ast import ASTConfig, Geometry
from ..errors import did_you_mean, error
from .checkpoints import find_checkpoint
from .geometry import check_choices, resize_kernel, resize_positions
from .names import CLASS_TOKEN, DISTILLATION_TOKEN, KERNEL, POSITIONS, Named, read_names
from .reading import read_weights

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
    state, described, name = _read_source(source, hub or {})
    named = read_names(state, name)
    tensors = {ours: tensor.detach().to("cpu", torch.float32, copy=True) for ours, tensor in named.tensors.items()}
    sizes = _sizes(tensors, name)
    _fold_layer_scale(tensors, sizes["num_hidden_layers"], name)
    fields = {**sizes, **_described(described, sizes["hidden_size"], num_attention_heads, name)}
    distilled = DISTILLATION_TOKEN in tensors
    grid = _complete_special_tokens(tensors, name)
    _check_square(described, name)
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


def _described(fields: dict[str, Any], width: int, heads: int | None, name: str) -> dict[str, Any]:
    """Heads, activation and epsilon: from the source's configuration, else what timm's models have."""
    if fields.get("model_type") == ASTConfig.model_type:
        fix = "use from_pretrained, which takes max_length, frequency_stride, ..."
        raise error("E305", where=name, what="is an AST already", fix=fix)
    told = fields.get("num_attention_heads")
    if heads is not None and told not in (None, heads):
        what = f"is {heads}, but {name} says {told}"
        raise error("E108", where="num_attention_heads", what=what, fix="leave it out")
    if heads is None:
        heads = told or heads_of_width(width)
    return {
        "num_attention_heads": heads,
        "hidden_act": fields.get("hidden_act", _TIMM_ACTIVATION),
        "layer_norm_eps": fields.get("layer_norm_eps", _TIMM_EPS),
    }


def heads_of_width(width: int) -> int:
    """Attention heads of the published models of a width, which tensors do not tell; raises E108 for another width."""
    if width not in _HEADS_OF_WIDTH:
        what = f"is not known for a width of {width}, and tensors alone do not tell it"
        raise error("E108", where="num_attention_heads", what=what, fix="give num_attention_heads")
    return _HEADS_OF_WIDTH[width]


#: Tensors that sizes are read from -> their number of axes.
_NEEDED = {CLASS_TOKEN: 3, POSITIONS: 3, KERNEL: 4, "encoder.layer.0.intermediate.dense.weight": 2}


def _sizes(tensors: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    """The sizes that the tensors' shapes tell."""
    for needed, axes in _NEEDED.items():
        if needed not in tensors:
            what = f"holds nothing that becomes {needed}"
            raise error("E305", where=name, what=what, fix="give a ViT, DeiT, DINOv2 or MAE encoder with a class token")
        shape = tuple(tensors[needed].shape)
        if len(shape) != axes or not all(shape):
            what = f"{needed} has shape {shape}, not {axes} axes"
            raise error("E305", where=name, what=what, fix="check that the weights are whole")
    if tensors[KERNEL].shape[-1] != tensors[KERNEL].shape[-2]:
        what = f"has a patch kernel of shape {tuple(tensors[KERNEL].shape)}"
        raise error("E305", where=name, what=what, fix="take weights with square patches")
    return {
        "hidden_size": tensors[CLASS_TOKEN].shape[-1],
        "num_hidden_layers": 1 + max(int(part.split(".")[2]) for part in tensors if part.startswith("encoder.layer.")),
        "intermediate_size": len(tensors["encoder.layer.0.intermediate.dense.weight"]),
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in tensors,
    }


#: What LayerScale stands behind, by its number in a block.
_SCALED = {"layer_scale1": "attention.output.dense", "layer_scale2": "output.dense"}


def _fold_layer_scale(tensors: dict[str, torch.Tensor], layers: int, name: str) -> None:
    """Put LayerScale (arXiv 2103.17239) into the layer before it: `s * (W x + b)` is `(s * W) x + s * b`."""
    if not any(".layer_scale" in part for part in tensors):
        return
    for block in (f"encoder.layer.{number}" for number in range(layers)):
        for scale_name, layer in _SCALED.items():
            scale = tensors.pop(f"{block}.{scale_name}", None)
            if scale is None:
                what = f"has no {block}.{scale_name}, though other blocks have LayerScale"
                raise error("E305", where=name, what=what, fix="check that the weights are whole")
            for scaled in (f"{block}.{layer}.{part}" for part in ("weight", "bias")):
                if scaled in tensors:  # what is missing is told once all tensors are known
                    _scale(tensors[scaled], scale, f"{block}.{scale_name} and {scaled}", name)


def _scale(tensor: torch.Tensor, scale: torch.Tensor, names: str, name: str) -> None:
    if scale.ndim != 1 or not tensor.ndim or len(tensor) != len(scale):
        what = f"{names} have shapes {tuple(scale.shape)} and {tuple(tensor.shape)}, which do not fit"
        raise error("E305", where=name, what=what, fix="check that the weights are whole")
    tensor.mul_(scale.view(-1, *[1] * (tensor.ndim - 1)))


def _check_square(fields: dict[str, Any], name: str) -> None:
    """Raise E305 for a configuration that tells of oblong images: the grid of positions alone may not."""
    size = fields.get("image_size")
    if isinstance(size, (list, tuple)) and len(set(size)) > 1:
        what = f"was made for images of {' x '.join(map(str, size))}"
        raise error("E305", where=name, what=what, fix="take weights of square images")


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
    if grid and grid**2 == table.shape[1] - special:
        tensors[POSITIONS] = table if distilled else torch.cat((table[:, :1], table), dim=1)
        return grid
    grid = math.isqrt(table.shape[1])
    if grid > 1 and grid**2 == table.shape[1]:  # DeiT III: the special tokens have no positions
        tensors[POSITIONS] = torch.cat((table.new_zeros(1, 2, table.shape[-1]), table), dim=1)
        return grid
    what = f"has {table.shape[1]} positions, which are not those of a square image and {special} special tokens"
    raise error("E305", where=name, what=what, fix="take weights of square images")
