"""Options of optimizer, learning rates and frozen parts."""

from __future__ import annotations

from dataclasses import dataclass, field

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
