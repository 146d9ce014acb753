"""Which weights learn, how fast, and when: optimizer, learning rates by layer and by epoch, frozen parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import error
from ..modeling_ast import ASTPreTrainedModel

#: Steps between the jumps of the original's warm-up (`traintest.py`).
STAIR = 50

WARMUPS = ("linear", "staircase")
FREEZABLE = ("nothing", "backbone")
OPTIMIZERS = ("training", "adam")


@dataclass(kw_only=True)
class Optimization:
    """What `TrainingArguments` does not offer. Every default leaves training as they describe it.

    Attributes:
        optimizer: `"adam"` is the original's: Adam with weight decay as L2, on every parameter (`traintest.py`, line
            53); `"training"` takes `training.optim`, AdamW unless that says otherwise.
        milestones: epochs after which the learning rate is multiplied by `milestone_factor`, instead of
            `training.lr_scheduler_type`. A milestone 10 means: the 11th epoch is the first slower one.
        milestone_factor: above 0, at most 1.
        warmup: over the first `training.warmup_steps`, `"linear"`, or `"staircase"` as the original: in jumps every 50
            steps, so that the first 50 steps change nothing. Only with milestones.
        layer_decay: each block's learning rate is this share of that of the block above it, in (0, 1]; the head has the
            full one, the embeddings the lowest.
        frozen: `"backbone"` trains the classifier alone, a linear probe.
    """

    optimizer: str = "training"
    milestones: list[int] = field(default_factory=list)
    milestone_factor: float = 0.5
    warmup: str = "linear"
    layer_decay: float = 1.0
    frozen: str = "nothing"


def freeze(model: ASTPreTrainedModel, frozen: str) -> None:
    """Take the frozen part out of training."""
    if frozen == "backbone":
        model.base_model.requires_grad_(False)


def parameter_groups(
    model: nn.Module, decayed: list[str], learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict]:
    """Parameters grouped by learning rate and weight decay.

    Args:
        model: an AST with or without head.
        decayed: names of the parameters that weight decay applies to.
        learning_rate: of the head.
        weight_decay: for `decayed`.
        layer_decay: see `Optimization`.
    """
    layers = model.config.num_hidden_layers
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth, decays = depth_of(name, layers), name in decayed
        rate = learning_rate * layer_decay ** (layers + 1 - depth)
        group = {"params": [], "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault((depth, decays), group)["params"].append(parameter)
    return list(groups.values())


def depth_of(name: str, layers: int) -> int:
    """Place of a parameter from the input: 0 for embeddings, 1 to `layers` for blocks, `layers` + 1 after them."""
    parts = name.split(".")
    if "embeddings" in parts:
        return 0
    if "layer" in parts:
        return 1 + int(parts[parts.index("layer") + 1])
    return layers + 1


def original_adam(model: nn.Module, learning_rate: float, betas: tuple[float, float], weight_decay: float) -> Optimizer:
    """Adam with L2 on all parameters that train, as the original repository's recipes."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, learning_rate, betas, weight_decay=weight_decay)


def rate_factor(options: Optimization, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
    """Learning rate at an optimizer step, as a share of the full one. Steps and epochs count from 0 here.

    The original's staircase sets the rate at every 50th step up to and including the last of the warm-up, and its
    milestones act at the ends of epochs, whatever the warm-up does (`traintest.py`, lines 62 and 100).
    """
    if step < warmup_steps:
        risen = step - step % STAIR if options.warmup == "staircase" else step + 1
        return risen / warmup_steps
    epoch = step // steps_per_epoch
    return options.milestone_factor ** sum(epoch >= milestone for milestone in options.milestones)


def milestone_schedule(
    optimizer: Optimizer, options: Optimization, steps_per_epoch: int, warmup_steps: int
) -> LambdaLR:
    """`rate_factor` as a scheduler that steps with the optimizer."""
    if steps_per_epoch < 1:
        fix = "give a data set with a length, or leave optimization.milestones out"
        raise error("E307", where="optimization.milestones", what="need to know how long an epoch is", fix=fix)
    return LambdaLR(optimizer, lambda step: rate_factor(options, step, steps_per_epoch, warmup_steps))
