"""Shapes of all tensors of an AST, from its sizes alone: nothing is built."""

from __future__ import annotations

from typing import Any

import torch

from ..configuration_ast import Geometry
from .names import CLASS_TOKEN, DISTILLATION_TOKEN, HEAD_BIAS, HEAD_KERNEL, KERNEL, POSITIONS

Shapes = dict[str, tuple[int, ...]]


def backbone_shapes(config: Any) -> Shapes:
    """Return name -> shape of the tensors of `ASTModel`, under the names on the Hub.

    `config` has the fields of `ASTConfig` as attributes.
    """
    width = config.hidden_size
    geometry = Geometry.of(config)
    shapes: Shapes = {
        CLASS_TOKEN: (1, 1, width),
        DISTILLATION_TOKEN: (1, 1, width),
        POSITIONS: (1, geometry.num_tokens, width),
        KERNEL: (width, 1, config.patch_size, config.patch_size),
        KERNEL.replace("weight", "bias"): (width,),
    }
    for number in range(config.num_hidden_layers):
        block = f"encoder.layer.{number}"
        shapes |= {f"{block}.{name}": shape for name, shape in _block_shapes(config).items()}
    return {**shapes, "layernorm.weight": (width,), "layernorm.bias": (width,)}


def without_storage(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return tensors of these shapes without memory, as `check_state` takes them."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _block_shapes(config: Any) -> Shapes:
    width, inner = config.hidden_size, config.intermediate_size
    shapes: Shapes = {}
    for name in ("query", "key", "value"):
        shapes[f"attention.attention.{name}.weight"] = (width, width)
        if config.qkv_bias:
            shapes[f"attention.attention.{name}.bias"] = (width,)
    for name, outputs, inputs in (
        ("attention.output.dense", width, width),
        ("intermediate.dense", inner, width),
        ("output.dense", width, inner),
    ):
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    for name in ("layernorm_before", "layernorm_after"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def head_shapes(width: int, labels: int) -> Shapes:
    """Return name -> shape of the tensors of a classifier."""
    norms: Shapes = {f"classifier.layernorm.{part}": (width,) for part in ("weight", "bias")}
    return {**norms, HEAD_KERNEL: (labels, width), HEAD_BIAS: (labels,)}
