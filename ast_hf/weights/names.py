"""Tensor names of AST and image transformers, translated to those of AST on the Hub ("our names").

One table covers AST and ViT/DeiT/MAE as on the Hub and as in transformers 5, DINOv2, timm, and the original
repository's `.pth` files (a DataParallel of timm's). Our names omit the prefix
`audio_spectrogram_transformer.`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch

from ..errors import error

BACKBONE = "audio_spectrogram_transformer."
POSITIONS = "embeddings.position_embeddings"
KERNEL = "embeddings.patch_embeddings.projection.weight"
HEAD = "classifier."
HEAD_KERNEL = "classifier.dense.weight"
HEAD_BIAS = "classifier.dense.bias"
CLASS_TOKEN = "embeddings.cls_token"
DISTILLATION_TOKEN = "embeddings.distillation_token"

#: Prefixes before a name: DataParallel's, and the attribute that holds the transformer.
_PREFIX = re.compile(
    r"(?:module\.)?(?:(?:v|vit|deit|dinov2|backbone|base_model|model|audio_spectrogram_transformer)\.)?"
)
_SUFFIX = re.compile(r"\.(weight|bias)$")
_BLOCK = re.compile(r"(?:encoder\.layer|layers|blocks)\.(\d+)\.(.+)")

#: Modules and parameters outside the blocks: their name -> ours.
_TOP = {
    "cls_token": CLASS_TOKEN,
    "dist_token": DISTILLATION_TOKEN,
    "pos_embed": POSITIONS,
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "mlp_head.0": "classifier.layernorm",
    "mlp_head.1": "classifier.dense",
}
#: Modules inside a block: their name -> ours.
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.qkv": "attention.attention.qkv",  # split into three by `rename_state`
    "attn.proj": "attention.output.dense",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "ls1.gamma": "layer_scale1",
    "ls2.gamma": "layer_scale2",
    "layer_scale1.lambda1": "layer_scale1",
    "layer_scale2.lambda1": "layer_scale2",
}
_OURS_TOP = {*_TOP.values()}
_OURS_IN_BLOCK = {*_IN_BLOCK.values()}

#: Modules that AST does not need for hidden states: image heads, the pooler, MAE's decoder.
_DROPPED = re.compile(
    r"head|head_dist|classifier|cls_classifier|distillation_classifier|pooler\..+"
    r"|(?:embeddings\.)?mask_token|decoder\..+"
)
#: Modules that AST cannot represent: pattern -> description.
_UNSUPPORTED = {
    r".*(register_tokens|reg_token)": "register tokens",
    r".*mlp\.(weights_in|weights_out|gate_proj|up_proj|down_proj|w12|w3)": "a SwiGLU MLP",
    r".*(q_norm|k_norm)": "normalised queries and keys",
    r".*relative_position.*": "relative positions",
    r"(norm_pre|pre_layrnorm|ln_pre)": "a LayerNorm before the blocks",
    r"fc_norm": "a LayerNorm after average pooling",
}


class RenamedState(NamedTuple):
    """A state dict under our names."""

    tensors: dict[str, torch.Tensor]
    renamed: dict[str, str]  # their name -> ours, in the order of the file
    dropped: list[str]  # their names


def our_name(name: str, source: str) -> str | None:
    """Return our name of a tensor, or None for one that AST does not need; raise E305 for any other."""
    bare = name[_prefix_length(name) :]
    suffix = _SUFFIX.search(bare)
    module, end = (bare[: suffix.start()], suffix.group()) if suffix else (bare, "")
    block = _BLOCK.fullmatch(module)
    inner = block.group(2) if block else module
    ours = (_IN_BLOCK if block else _TOP).get(inner, inner)
    if ours in (_OURS_IN_BLOCK if block else _OURS_TOP):
        return (f"encoder.layer.{block.group(1)}.{ours}" if block else ours) + end
    if _DROPPED.fullmatch(module):
        return None
    for pattern, description in _UNSUPPORTED.items():
        if re.fullmatch(pattern, module):
            what = f"has {description} ({name}), which AST cannot represent"
            raise error("E305", where=source, what=what, fix="take a plain ViT, DeiT, DINOv2 or MAE encoder")
    fix = "give an AST checkpoint, or a ViT, DeiT, DINOv2 or MAE encoder"
    raise error("E305", where=source, what=f"holds the unknown tensor {name}", fix=fix)


def _prefix_length(name: str) -> int:
    match = _PREFIX.match(name)
    return match.end() if match else 0


def hub_name(name: str) -> str:
    """Return the Hub's name of an AST tensor that has transformers 5's (`layers.0.attention.q_proj.weight`).

    Any other name is returned unchanged.
    """
    backbone = BACKBONE if name.startswith(BACKBONE) else ""
    block = re.fullmatch(r"layers\.(\d+)\.(.+)(\.weight|\.bias)", name.removeprefix(backbone))
    if not block:
        return name
    number, inner, end = block.groups()
    return f"{backbone}encoder.layer.{number}.{_IN_BLOCK.get(inner, inner)}{end}"


def rename_state(state: Mapping[str, torch.Tensor], source: str) -> RenamedState:
    """Return a state dict under our names, with timm's joint query, key and value split in three."""
    renamed: dict[str, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    dropped: list[str] = []
    for name, tensor in state.items():
        ours = our_name(name, source)
        if ours is None:
            dropped.append(name)
            continue
        renamed[name] = ours
        parts = _split_qkv(ours, tensor, f"{source}: {name}") if ".qkv." in ours else {ours: tensor}
        if repeated := tensors.keys() & parts.keys():
            what = f"holds more than one tensor that becomes {min(repeated)}, the second is {name}"
            raise error("E305", where=source, what=what, fix="give the state dict of one model")
        tensors |= parts
    return RenamedState(tensors, renamed, dropped)


def _split_qkv(name: str, tensor: torch.Tensor, source: str) -> dict[str, torch.Tensor]:
    """Split timm's `qkv`, in which query, key and value are stacked in this order."""
    if not tensor.ndim or len(tensor) % 3:
        what = f"shape {tuple(tensor.shape)} is not that of stacked query, key and value"
        raise error("E305", where=source, what=what, fix="check that the weights are complete")
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {name.replace(".qkv.", f".{part}."): third.contiguous() for part, third in parts}
