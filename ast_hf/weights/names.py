"""The names that AST and image transformers give the same tensors, brought to those of AST checkpoints on the Hub.

One table reads them all: AST and ViT/DeiT/MAE as on the Hub and as in transformers 5, DINOv2, timm, and the original
repository's `.pth` files (a DataParallel of timm's). Our names are without the prefix `audio_spectrogram_transformer.`
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
HEAD_KERNEL, HEAD_BIAS = "classifier.dense.weight", "classifier.dense.bias"
CLASS_TOKEN, DISTILLATION_TOKEN = "embeddings.cls_token", "embeddings.distillation_token"

#: What stands before a model's own names: DataParallel, and the attribute that holds the transformer.
_PREFIX = re.compile(
    r"(?:module\.)?(?:(?:v|vit|deit|dinov2|backbone|base_model|model|audio_spectrogram_transformer)\.)?"
)
_SUFFIX = re.compile(r"\.(weight|bias)$")
_BLOCK = re.compile(r"(?:encoder\.layer|layers|blocks)\.(\d+)\.(.+)")

#: Modules and parameters outside the blocks: theirs -> ours.
_TOP = {
    "cls_token": CLASS_TOKEN,
    "dist_token": DISTILLATION_TOKEN,
    "pos_embed": POSITIONS,
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "mlp_head.0": "classifier.layernorm",
    "mlp_head.1": "classifier.dense",
}
#: Modules inside a block: theirs -> ours.
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.qkv": "attention.attention.qkv",  # split into three by `read_names`
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

#: What has no place in AST and does not shape a hidden state: heads for images, the pooler, MAE's decoder.
_DROPPED = re.compile(
    r"head|head_dist|classifier|cls_classifier|distillation_classifier|pooler\..+|(?:embeddings\.)?mask_token|decoder\..+"
)
#: What shapes hidden states in a way that AST cannot: pattern -> what it is.
_REFUSED = {
    r".*(register_tokens|reg_token)": "register tokens",
    r".*mlp\.(weights_in|weights_out|gate_proj|up_proj|down_proj|w12|w3)": "a SwiGLU MLP",
    r".*(q_norm|k_norm)": "normalised queries and keys",
    r".*relative_position.*": "relative positions",
    r"(norm_pre|pre_layrnorm|ln_pre)": "a LayerNorm before the blocks",
    r"fc_norm": "a LayerNorm after average pooling",
}


class Named(NamedTuple):
    """A state dict in our names."""

    tensors: dict[str, torch.Tensor]
    renamed: dict[str, str]  # theirs -> ours, in the order of the file
    dropped: list[str]  # theirs


def our_name(name: str, source: str) -> str | None:
    """Our name of one tensor, None for one that AST has no use for.

    Raises:
        AstConfigError: E305 for a tensor that no rule knows, and for architectures that AST cannot express.
    """
    bare = name[_prefix_length(name) :]
    suffix = _SUFFIX.search(bare)
    module, end = (bare[: suffix.start()], suffix.group()) if suffix else (bare, "")
    block = _BLOCK.fullmatch(module)
    inner = block.group(2) if block else module
    found = (_IN_BLOCK if block else _TOP).get(inner, inner)
    if found in (_OURS_IN_BLOCK if block else _OURS_TOP):
        return (f"encoder.layer.{block.group(1)}.{found}" if block else found) + end
    if _DROPPED.fullmatch(module):
        return None
    for pattern, what in _REFUSED.items():
        if re.fullmatch(pattern, module):
            what = f"has {what} ({name}), which AST has no place for"
            raise error("E305", where=source, what=what, fix="take a plain ViT, DeiT, DINOv2 or MAE encoder")
    fix = "give an AST checkpoint, or a ViT, DeiT, DINOv2 or MAE encoder"
    raise error("E305", where=source, what=f"holds the tensor {name}, which no rule knows", fix=fix)


def _prefix_length(name: str) -> int:
    match = _PREFIX.match(name)
    return match.end() if match else 0


def hub_name(name: str) -> str:
    """The name on the Hub of an AST tensor that transformers 5 calls otherwise (`layers.0.attention.q_proj.weight`);
    any other name as it is.
    """
    backbone = BACKBONE if name.startswith(BACKBONE) else ""
    block = re.fullmatch(r"layers\.(\d+)\.(.+)(\.weight|\.bias)", name.removeprefix(backbone))
    if not block:
        return name
    number, inner, end = block.groups()
    return f"{backbone}encoder.layer.{number}.{_IN_BLOCK.get(inner, inner)}{end}"


def read_names(state: Mapping[str, torch.Tensor], source: str) -> Named:
    """A state dict with every name brought to ours, and timm's query, key and value taken apart.

    Raises:
        AstConfigError: E305, as `our_name`.
    """
    renamed: dict[str, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    dropped: list[str] = []
    for name, tensor in state.items():
        ours = our_name(name, source)
        if ours is None:
            dropped.append(name)
            continue
        renamed[name] = ours
        parts = {ours: tensor} if ".qkv." not in ours else _split(ours, tensor, f"{source}: {name}")
        if twice := tensors.keys() & parts.keys():
            what = f"holds more than one tensor that becomes {min(twice)}, the second is {name}"
            raise error("E305", where=source, what=what, fix="give the state dict of one model")
        tensors |= parts
    return Named(tensors, renamed, dropped)


def _split(name: str, tensor: torch.Tensor, source: str) -> dict[str, torch.Tensor]:
    """Query, key and value lie on top of each other in timm's `qkv`, in this order."""
    if not tensor.ndim or len(tensor) % 3:
        what = f"shape {tuple(tensor.shape)} is not that of query, key and value on top of each other"
        raise error("E305", where=source, what=what, fix="check that the weights are whole")
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {name.replace(".qkv.", f".{part}."): third.contiguous() for part, third in parts}
