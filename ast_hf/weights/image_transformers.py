"""Image transformers (DeiT, ViT, DINOv2, MAE) as the start of an AST: `ASTModel.from_vit`.

As in section 2.2 of the AST paper, blocks and norms are copied, the colour channels of the patch kernel
become one, and the square grid of positions becomes that of a spectrogram.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from ..configuration_ast import ASTConfig, Geometry
from ..errors import error, not_a_choice
from .checkpoints import find_checkpoint
from .geometry import check_choices, resize_kernel, resize_positions
from .integrity import check_state
from .names import CLASS_TOKEN, DISTILLATION_TOKEN, KERNEL, POSITIONS, RenamedState, rename_state
from .reading import read_weights
from .shapes import backbone_shapes, without_storage

#: How colour channels become one: the original's code sums (`ast_models.py`, line 86), its paper averages.
CHANNEL_REDUCTIONS = {"sum": torch.sum, "mean": torch.mean}
POSITION_INITS = ("adapt", "nearest", "reinit")

#: Width -> heads of the published models: DeiT and ViT tiny to huge, DINOv2 small to giant.
_HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}
#: LayerNorm epsilon and activation of timm and the original repository; their files do not hold these.
_TIMM_EPS = 1e-6
_TIMM_ACTIVATION = "gelu"

Source: TypeAlias = "str | PathLike | nn.Module | Mapping[str, torch.Tensor]"


class ImageTransformer(NamedTuple):
    """Weights of an image transformer under AST's names, with both special tokens and without LayerScale.

    Attributes:
        tensors: float32, ready for an AST of the images' geometry but for the colour channels.
        state: the tensors of the source, unchanged.
        renamed: the same under AST's names, and which ones were renamed and dropped.
        fields: of `ASTConfig`: sizes, heads, activation, epsilon.
        grid: patches along either side of its images.
        distilled: True if the source has a distillation token.
        name: of the source, for messages.
    """

    tensors: dict[str, torch.Tensor]
    state: Mapping[str, torch.Tensor]
    renamed: RenamedState
    fields: dict[str, Any]
    grid: int
    distilled: bool
    name: str


def read_image_transformer(
    source: Source, num_attention_heads: int | None = None, hub: dict[str, Any] | None = None
) -> ImageTransformer:
    """Read a Hub name, a folder, a loaded model or a state dict, under the names of transformers or timm.

    Args:
        source: the weights.
        num_attention_heads: needed for a bare state dict of an unusual width.
        hub: `revision`, `token`, `cache_dir`, ... of `from_pretrained`.

    Raises:
        AstConfigError: E305 for missing tensors and unsupported architectures, E306 for broken files.
        AstInputError: E108 if the number of heads cannot be determined.
    """
    state, source_fields, name = _read_source(source, hub or {})
    renamed = rename_state(state, name)
    check_axes(renamed.tensors, {}, name, "")
    tensors = {ours: _float32_copy(tensor) for ours, tensor in renamed.tensors.items()}
    sizes = _sizes(tensors, name)
    _fold_layer_scale(tensors, sizes["num_hidden_layers"], name)
    architecture = _architecture_fields(source_fields, sizes["hidden_size"], num_attention_heads, name)
    distilled = DISTILLATION_TOKEN in tensors
    grid = _complete_special_tokens(tensors, name)
    _check_square(source_fields, name)
    return ImageTransformer(tensors, state, renamed, {**sizes, **architecture}, grid, distilled, name)


def check_unchanged_parts(vit: ImageTransformer, config: ASTConfig) -> None:
    """Raise E305 unless all tensors but kernel and positions have the shapes of an AST of this configuration."""
    shapes = backbone_shapes(config)
    expected = {name: shape for name, shape in shapes.items() if name not in (KERNEL, POSITIONS)}
    state = {name: tensor for name, tensor in vit.tensors.items() if name not in (KERNEL, POSITIONS)}
    check_state(state, without_storage(expected), vit.name)


def _float32_copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True)


def initial_state(
    vit: ImageTransformer,
    geometry: Geometry,
    channel_reduction: str,
    position_init: str,
    kernel_method: str,
    std: float,
) -> dict[str, torch.Tensor]:
    """Return the state dict of an `ASTModel` of a geometry that starts from an image transformer.

    Options are those of `ASTPreTrainedModel.from_vit`. `position_init="reinit"` also draws the positions of the
    special tokens, from a normal distribution of standard deviation `std` (AST paper, table 4).
    """
    state = dict(vit.tensors)
    kernel = CHANNEL_REDUCTIONS[channel_reduction](state[KERNEL], dim=1, keepdim=True)
    state[KERNEL] = resize_kernel(kernel, geometry.patch_size, kernel_method)
    if position_init == "reinit":
        state[POSITIONS] = nn.init.trunc_normal_(
            torch.empty(1, geometry.num_tokens, kernel.shape[0]), std=std
        )
    else:
        old = (vit.grid, vit.grid)
        state[POSITIONS] = resize_positions(state[POSITIONS], old, geometry.grid, method=position_init)
    return state


def check_options(channel_reduction: str, position_init: str, kernel_method: str) -> None:
    """Raise E108 for an option of `from_vit` that does not exist."""
    if channel_reduction not in CHANNEL_REDUCTIONS:
        where = "channel_reduction"
        raise not_a_choice("E108", where=where, value=channel_reduction, choices=CHANNEL_REDUCTIONS)
    if position_init not in POSITION_INITS:
        raise not_a_choice("E108", where="position_init", value=position_init, choices=POSITION_INITS)
    check_choices(kernel_method=kernel_method)


def _read_source(
    source: Source, hub: dict[str, Any]
) -> tuple[Mapping[str, torch.Tensor], dict[str, Any], str]:
    """Return the tensors, the fields of the source's configuration, and a name for messages."""
    if isinstance(source, nn.Module):
        config: Any = getattr(source, "config", None)
        fields = config.to_dict() if hasattr(config, "to_dict") else _timm_fields(source)
        name = getattr(source, "name_or_path", "") or type(source).__name__
        return source.state_dict(), fields, name
    if isinstance(source, Mapping):
        return source, {}, "state dict"
    if not isinstance(source, (str, PathLike)):
        what = f"is a {type(source).__name__}"
        fix = "give a Hub name, a folder, a model or a state dict"
        raise error("E102", where="source", what=what, fix=fix)
    checkpoint = find_checkpoint(source, hub)
    if checkpoint is None:
        what = "has no config.json and weights that can be reached"
        fix = "check the name and the connection, or give a folder"
        raise error("E306", where=repr(str(source)), what=what, fix=fix, detail="missing")
    return read_weights(checkpoint.weights), checkpoint.config, str(source)


def _timm_fields(model: nn.Module) -> dict[str, Any]:
    blocks = getattr(model, "blocks", None)
    heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks else None
    eps = getattr(getattr(model, "norm", None), "eps", None)
    fields = {"num_attention_heads": heads, "layer_norm_eps": eps}
    return {name: value for name, value in fields.items() if value is not None}


def _architecture_fields(fields: dict[str, Any], width: int, heads: int | None, name: str) -> dict[str, Any]:
    """Return heads, activation and epsilon from the source's configuration, by default timm's."""
    if fields.get("model_type") == ASTConfig.model_type:
        fix = "use from_pretrained, which takes max_length, frequency_stride, ..."
        raise error("E305", where=name, what="is an AST already", fix=fix)
    source_heads = fields.get("num_attention_heads")
    if heads is not None and source_heads not in (None, heads):
        what = f"is {heads}, but {name} has {source_heads}"
        raise error("E108", where="num_attention_heads", what=what, fix="leave it out")
    if heads is None:
        heads = source_heads or heads_of_width(width)
    return {
        "num_attention_heads": heads,
        "hidden_act": fields.get("hidden_act", _TIMM_ACTIVATION),
        "layer_norm_eps": fields.get("layer_norm_eps", _TIMM_EPS),
    }


def heads_of_width(width: int) -> int:
    """Return the attention heads of the published models of a width; raise E108 for another width."""
    if width not in _HEADS_OF_WIDTH:
        what = f"is not known for a width of {width}, and cannot be read from the tensors"
        raise error("E108", where="num_attention_heads", what=what, fix="give num_attention_heads")
    return _HEADS_OF_WIDTH[width]


#: Tensors that sizes are read from -> their number of axes.
SIZED = {CLASS_TOKEN: 3, POSITIONS: 3, KERNEL: 4, "encoder.layer.0.intermediate.dense.weight": 2}


def check_axes(tensors: Mapping[str, torch.Tensor], axes_of: Mapping[str, int], name: str, fix: str) -> None:
    """Raise E305 for weights that are not floating-point, or lack a tensor with its number of axes.

    `name` is the source in the message, `fix` what to give if a tensor is missing.
    """
    for needed, axes in axes_of.items():
        if needed not in tensors:
            raise error("E305", where=name, what=f"holds nothing that becomes {needed}", fix=fix)
        shape = tuple(tensors[needed].shape)
        if len(shape) != axes or not all(shape):
            what = f"{needed} has shape {shape}, not {axes} axes"
            raise error("E305", where=name, what=what, fix="check that the weights are complete")
    for part, tensor in tensors.items():
        if not tensor.is_floating_point():
            what = f"holds {part} as {tensor.dtype}, not as floating-point numbers"
            raise error("E305", where=name, what=what, fix="give the weights before quantisation")


def _sizes(tensors: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    """Return the fields of `ASTConfig` that follow from the shapes; raise E305 for impossible ones."""
    check_axes(tensors, SIZED, name, "give a ViT, DeiT, DINOv2 or MAE encoder with a class token")
    if tensors[KERNEL].shape[-1] != tensors[KERNEL].shape[-2]:
        what = f"has a patch kernel of shape {tuple(tensors[KERNEL].shape)}"
        raise error("E305", where=name, what=what, fix="take weights with square patches")
    blocks = {int(part.split(".")[2]) for part in tensors if part.startswith("encoder.layer.")}
    return {
        "hidden_size": tensors[CLASS_TOKEN].shape[-1],
        "num_hidden_layers": 1 + max(blocks),
        "intermediate_size": len(tensors["encoder.layer.0.intermediate.dense.weight"]),
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in tensors,
    }


#: LayerScale of a block -> the layer whose output it scales.
_SCALED = {"layer_scale1": "attention.output.dense", "layer_scale2": "output.dense"}


def _fold_layer_scale(tensors: dict[str, torch.Tensor], layers: int, name: str) -> None:
    """Multiply LayerScale (arXiv 2103.17239) into the layer before it: `s (W x + b) = (s W) x + s b`."""
    if not any(".layer_scale" in part for part in tensors):
        return
    for block in (f"encoder.layer.{number}" for number in range(layers)):
        for scale_name, layer in _SCALED.items():
            scale = tensors.pop(f"{block}.{scale_name}", None)
            if scale is None:
                what = f"has no {block}.{scale_name}, though other blocks have LayerScale"
                raise error("E305", where=name, what=what, fix="check that the weights are complete")
            for scaled in (f"{block}.{layer}.{part}" for part in ("weight", "bias")):
                if scaled in tensors:  # missing tensors are reported once all are known
                    _scale(tensors[scaled], scale, f"{block}.{scale_name} and {scaled}", name)


def _scale(tensor: torch.Tensor, scale: torch.Tensor, names: str, name: str) -> None:
    if scale.ndim != 1 or not tensor.ndim or len(tensor) != len(scale):
        what = f"{names} have shapes {tuple(scale.shape)} and {tuple(tensor.shape)}, which do not fit"
        raise error("E305", where=name, what=what, fix="check that the weights are complete")
    tensor.mul_(scale.view(-1, *[1] * (tensor.ndim - 1)))


def _check_square(fields: dict[str, Any], name: str) -> None:
    """Raise E305 for oblong images; the number of their positions may be a square number too."""
    size = fields.get("image_size")
    if isinstance(size, (list, tuple)) and len(set(size)) > 1:
        what = f"was made for images of {' x '.join(map(str, size))}"
        raise error("E305", where=name, what=what, fix="take weights of square images")


def _complete_special_tokens(tensors: dict[str, torch.Tensor], name: str) -> int:
    """Add missing special tokens (copies of the class token) and positions; return patches along a side."""
    table = tensors[POSITIONS]
    distilled = DISTILLATION_TOKEN in tensors
    special = 2 if distilled else 1
    if not distilled:
        tensors[DISTILLATION_TOKEN] = tensors[CLASS_TOKEN].clone()
    grid = math.isqrt(table.shape[1] - special)
    if grid and grid**2 == table.shape[1] - special:
        tensors[POSITIONS] = table if distilled else torch.cat((table[:, :1], table), dim=1)
        return grid
    grid = math.isqrt(table.shape[1])
    if grid > 1 and grid**2 == table.shape[1]:  # DeiT III has no positions for the special tokens
        tensors[POSITIONS] = torch.cat((table.new_zeros(1, 2, table.shape[-1]), table), dim=1)
        return grid
    what = f"has {table.shape[1]} positions, not those of a square image and {special} special tokens"
    raise error("E305", where=name, what=what, fix="take weights of square images")
