"""Options of optimizer, learning rates and frozen parts."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub.dataclasses import validated_field

from ..errors import AstHfError, error
from ..strict_options import in_range, one_of, strict_options

OPTIMIZERS = ("training", "adam")
WARMUPS = ("linear", "staircase")
FREEZABLE = ("nothing", "backbone")


def _check_milestones(milestones: list[int]) -> None:
    """Raise E307 for an epoch below 1."""
    wrong = [epoch for epoch in milestones if epoch < 1]
    if wrong:
        fix = "give epochs, counted from 1"
        raise error("E307", where="", what=f"{wrong[0]!r} is not an epoch", fix=fix, detail="range")


@strict_options("optimization")
@dataclass(kw_only=True)
class Optimization:
    """Options of optimizer and learning rates that `TrainingArguments` lacks. The defaults change nothing.

    Attributes:
        optimizer: `"training"` uses `training.optim`, by default AdamW; `"adam"` is the optimizer of the
            original: Adam with weight decay as L2, on every parameter (`traintest.py`, line 53).
        milestones: epochs after which the learning rate is multiplied by `milestone_factor`, instead of
            `training.lr_scheduler_type`. With milestone 10, the 11th epoch is the first one with the lower
            rate.
        milestone_factor: above 0, at most 1.
        warmup: shape of the first `training.warmup_steps`: `"linear"`, or `"staircase"` as in the original:
            the rate rises every 50 steps, and the first 50 steps change nothing. Only with milestones.
        layer_decay: learning rate of each block as a share of that of the block above it, in (0, 1]. The
            classifier has the full rate, the embeddings the lowest one.
        frozen: `"nothing"`, or `"backbone"` to train the classifier alone (a linear probe).
    """

    optimizer: str = validated_field(one_of(OPTIMIZERS), default="training")
    milestones: list[int] = validated_field(_check_milestones, default_factory=list)
    milestone_factor: float = validated_field(in_range(1e-6, 1.0), default=0.5)
    warmup: str = validated_field(one_of(WARMUPS), default="linear")
    layer_decay: float = validated_field(in_range(1e-3, 1.0), default=1.0)
    frozen: str = validated_field(one_of(FREEZABLE), default="nothing")

    def check(self, where: str) -> None:
        """Raise E307 for options that contradict each other."""
        place = f"{where}: optimization"
        if self.warmup == "staircase" and not self.milestones:
            what = "is 'staircase', which needs milestones"
            raise _conflict(f"{place}.warmup", what, "give milestones, or use 'linear'")
        if self.layer_decay != 1.0 and self.frozen == "backbone":
            what = "sets the learning rates of layers that optimization.frozen does not train"
            raise _conflict(f"{place}.layer_decay", what, "use one of the two")
        if self.layer_decay != 1.0 and self.optimizer == "adam":
            what = "is 'adam', which has one learning rate for all layers"
            raise _conflict(f"{place}.optimizer", what, "leave out optimizer or layer_decay")


def _conflict(where: str, what: str, fix: str) -> AstHfError:
    return error("E307", where=where, what=what, fix=fix, detail="conflict")
