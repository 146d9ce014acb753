"""Optimizer, learning rates by layer and by epoch, and frozen weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import error
from ..modeling_ast import ASTPreTrainedModel
from ..recipe.optimization_options import Optimization

#: Steps between the jumps of the original's warm-up (`traintest.py`).
STAIR = 50


def freeze(model: ASTPreTrainedModel, frozen: str) -> None:
    """Freeze the weights of `Optimization.frozen`."""
    if frozen == "backbone":
        model.base_model.requires_grad_(False)


def parameter_groups(
    model: nn.Module, decayed: list[str], learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict]:
    """Return an optimizer's parameter groups, by learning rate and weight decay.

    `learning_rate` is that of the head, lower layers get less (`Optimization.layer_decay`); only the
    parameters named in `decayed` get the weight decay.
    """
    layers = model.config.num_hidden_layers
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depth_of(name, layers)
        decays = name in decayed
        rate = learning_rate * layer_decay ** (layers + 1 - depth)
        group = {"params": [], "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault((depth, decays), group)["params"].append(parameter)
    return list(groups.values())


def depth_of(name: str, layers: int) -> int:
    """Return a parameter's depth: 0 for embeddings, 1 to `layers` for blocks, `layers` + 1 after them."""
    parts = name.split(".")
    if "embeddings" in parts:
        return 0
    if "layer" in parts:
        return 1 + int(parts[parts.index("layer") + 1])
    return layers + 1


def original_adam(
    model: nn.Module, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> Optimizer:
    """Return Adam with L2 on all trainable parameters, as in the original repository's recipes.

    A step is one pass over the weights where torch has that for their device and dtype (`fused`); the difference is
    rounding.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = _has_fused_adam({(parameter.device, parameter.dtype) for parameter in trainable})
    return torch.optim.Adam(trainable, learning_rate, betas, weight_decay=weight_decay, fused=fused)


def _has_fused_adam(kinds: set[tuple[torch.device, torch.dtype]]) -> bool:
    """Return True if torch has a fused Adam for these devices and dtypes; it says so only when it makes a step."""
    for device, dtype in kinds:
        probe = torch.zeros(1, device=device, dtype=dtype, requires_grad=True)
        probe.grad = torch.zeros_like(probe)
        try:
            torch.optim.Adam([probe], fused=True).step()
        except RuntimeError:
            return False
    return True


def rate_factor(options: Optimization, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
    """Return the factor of the learning rate at an optimizer step, counted from 0.

    As in the original (`traintest.py`, lines 62 and 100), the staircase sets the rate at every 50th step up to
    and including the last of the warm-up, and milestones act at the ends of epochs, even during the warm-up.
    """
    if step < warmup_steps:
        warmed_up = step - step % STAIR if options.warmup == "staircase" else step + 1
        return warmed_up / warmup_steps
    epoch = step // steps_per_epoch
    passed = sum(epoch >= milestone for milestone in options.milestones)
    return options.milestone_factor**passed


def milestone_schedule(
    optimizer: Optimizer, options: Optimization, steps_per_epoch: int, warmup_steps: int
) -> LambdaLR:
    """Return `rate_factor` as a scheduler that steps with the optimizer."""
    if steps_per_epoch < 1:
        what = "need the length of an epoch, and the data set has none"
        fix = "give a data set with a length, or leave optimization.milestones out"
        raise error("E307", where="optimization.milestones", what=what, fix=fix, detail="data")
    return LambdaLR(optimizer, lambda step: rate_factor(options, step, steps_per_epoch, warmup_steps))
