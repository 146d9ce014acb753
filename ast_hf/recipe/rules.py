"""Checks across the options of a recipe: combinations that would fail late, or silently do something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..errors import AstHfError, error
from ..inputs.sampling import STRATEGIES
from ..inputs.waveform_transforms import build_transforms
from .arguments import check_training
from .options import RecipeOptions


class Rule(NamedTuple):
    """A combination of options that is refused with E307.

    Attributes:
        option: the option that the message names.
        when: returns something true for a recipe that breaks the rule.
        what: what is wrong; `{recipe.sampling!r}` stands for the value of that option.
        fix: what to do about it.
        detail: one of `DETAILS["E307"]`.
    """

    option: str
    when: Callable[[RecipeOptions], object]
    what: str
    fix: str
    detail: str = "conflict"


def check_rules(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options that contradict each other, and for arguments that `training` must not have.

    Args:
        recipe: its options one by one are valid.
        where: its file or source, for messages.
    """
    check_training(recipe.training, where)
    recipe.model.check(where)
    _check_averaging(recipe, where)
    recipe.optimization.check(where)
    _check_schedule(recipe, where)
    recipe.adapter.check(where)
    if recipe.adapter.rank:
        _apply(_ADAPTER_RULES, recipe, where)
    recipe.distillation.check(where)
    _check_teacher(recipe, where)
    build_transforms(recipe.augmentation.audiomentations, f"{where}: augmentation.audiomentations")
    _check_grouping(recipe, where)
    if recipe.data.streaming:
        check_streaming(recipe, where)


def check_streaming(recipe: RecipeOptions, where: str = "recipe") -> None:
    """Raise E307 for options that a stream cannot have: its length is unknown, and its epochs have no end.

    Args:
        recipe: of a run on a stream.
        where: its file or source, for messages.
    """
    _apply(_STREAMING_RULES, recipe, where)


def groups_by_length(training: dict[str, Any]) -> bool:
    """Return True if clips of equal length share a batch, without padding to the length of the model."""
    return training.get("train_sampling_strategy") == "group_by_length"


def _apply(rules: Iterable[Rule], recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for the first rule that a recipe breaks."""
    for rule in rules:
        if rule.when(recipe):
            what = rule.what.format(recipe=recipe)
            raise error("E307", where=f"{where}: {rule.option}", what=what, fix=rule.fix, detail=rule.detail)


def _conflict(where: str, option: str, what: str, fix: str) -> AstHfError:
    return error("E307", where=f"{where}: {option}", what=what, fix=fix, detail="conflict")


def _max_steps(recipe: RecipeOptions) -> int:
    """Return `training.max_steps`; 0 or less leaves the length of a run to `num_train_epochs`."""
    return recipe.training.get("max_steps", -1)


def _check_averaging(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for weight averages that contradict each other, the length of the run or its best epoch."""
    epochs = recipe.averaging_epochs
    if recipe.averaging_decay is None and epochs is None:
        return
    if epochs is not None:
        last_epoch = recipe.training.get("num_train_epochs", 3)
        if recipe.averaging_decay is not None:
            what = "is set, and so is averaging_decay"
            raise _conflict(where, "averaging_epochs", what, "use one of the two")
        if _max_steps(recipe) > 0:
            what = "counts epochs, but training.max_steps counts steps"
            raise _conflict(where, "averaging_epochs", what, "give training.num_train_epochs")
        if epochs[1] > last_epoch:
            what = f"{epochs!r} ends after the run, which has {last_epoch} epochs"
            raise _conflict(where, "averaging_epochs", what, "end with the last epoch")
    if recipe.training.get("load_best_model_at_end"):
        what = "does not combine with averaging_decay or averaging_epochs: it restores plain weights"
        raise _conflict(where, "training.load_best_model_at_end", what, "use one of the two")


def _check_schedule(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for two learning rate schedules, and for two optimizers."""
    options = recipe.optimization
    if options.milestones and "lr_scheduler_type" in recipe.training:
        what = "is set, and so is training.lr_scheduler_type"
        raise _conflict(where, "optimization.milestones", what, "use one of the two")
    if options.milestones and _max_steps(recipe) > 0:
        what = "counts epochs, but training.max_steps counts steps"
        raise _conflict(where, "optimization.milestones", what, "give training.num_train_epochs")
    if options.optimizer == "adam" and "optim" in recipe.training:
        what = "is 'adam', and training.optim is set"
        raise _conflict(where, "optimization.optimizer", what, "leave out one of the two")


def _check_teacher(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options that a teacher contradicts, as far as they are known without the data."""
    source = recipe.distillation.source
    if source == "logits" and recipe.augmentation.random_crop:
        what = "are of the start of each clip, and augmentation.random_crop takes another part"
        fix = "leave random_crop out, or name the model itself as teacher"
        raise _conflict(where, "distillation.logits", what, fix)
    if source and recipe.loss != "task":
        what = f"works with the loss of the task, not with {recipe.loss!r}"
        raise _conflict(where, f"distillation.{source}", what, "leave loss out")


def _check_grouping(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for unsupported orders of the clips, and for options that need clips of equal length."""
    option = "training.train_sampling_strategy"
    strategy = recipe.training.get("train_sampling_strategy", "random")
    if strategy not in STRATEGIES:
        what = f"{strategy!r} is not a valid choice here"
        fix = f"use {' or '.join(map(repr, STRATEGIES))}"
        raise error("E307", where=f"{where}: {option}", what=what, fix=fix, detail="choice")
    if not groups_by_length(recipe.training):
        return
    if recipe.sampling != "shuffled":
        what = f"is {strategy!r}, and sampling is {recipe.sampling!r}"
        raise _conflict(where, option, what, "use one of the two")
    if recipe.patchout.time or recipe.patchout.unstructured:
        what = f"is {strategy!r}, and patchout.time and unstructured count patches of the full length"
        raise _conflict(where, option, what, "use one of the two, or patchout.frequency alone")


def _is_reentrant(recipe: RecipeOptions) -> bool:
    arguments = recipe.training.get("gradient_checkpointing_kwargs") or {}
    return bool(arguments.get("use_reentrant"))


#: Rules of a run that trains an adapter: it freezes everything else, and its files name the base.
_ADAPTER_RULES = (
    Rule(
        "model.vit",
        when=lambda recipe: recipe.model.vit,
        what="is not an AST checkpoint, and an adapter names its base",
        fix="run ast-hf convert on it first, and name the result as model.base",
    ),
    Rule(
        "model.base",
        when=lambda recipe: recipe.model.base is None,
        what="is not set, and frozen random weights learn nothing",
        fix="name a checkpoint",
        detail="missing",
    ),
    Rule(
        "model.factored_positions",
        when=lambda recipe: recipe.model.factored_positions,
        what="trains position embeddings, which an adapter freezes",
        fix="leave out model.factored_positions or adapter",
    ),
    Rule(
        "optimization.frozen",
        when=lambda recipe: recipe.optimization.frozen != "nothing",
        what="freezes the layers that adapter.rank adapts",
        fix="leave out optimization.frozen or adapter",
    ),
    Rule(
        "training.gradient_checkpointing_kwargs",
        when=_is_reentrant,
        what="(use_reentrant) gives the layers of a frozen backbone no gradient",
        fix="leave it out: the default of transformers works",
    ),
)


def _deals_out_batches(recipe: RecipeOptions) -> bool:
    """Return True if accelerate splits or dispatches batches, or reads its configuration from a file."""
    accelerator = recipe.training.get("accelerator_config") or {}
    if not isinstance(accelerator, dict):
        return True
    return bool(accelerator.get("split_batches") or accelerator.get("dispatch_batches"))


def _is_unmeasured(recipe: RecipeOptions) -> bool:
    features = recipe.features
    return (features.mean is None or features.std is None) and not features.statistics_clips


def _is_by_epoch(argument: str) -> Callable[[RecipeOptions], bool]:
    return lambda recipe: recipe.training.get(argument) == "epoch"


#: Rules of a run on a stream, in the order in which they are reported.
_STREAMING_RULES = (
    Rule(
        "training.max_steps",
        when=lambda recipe: _max_steps(recipe) <= 0,
        what="is missing, and the length of a stream is unknown",
        fix="give the number of steps to train",
        detail="missing",
    ),
    Rule(
        "data.validation_fraction",
        when=lambda recipe: recipe.data.validation_fraction or recipe.data.validation_group,
        what="cannot hold out clips of a stream",
        fix="give a validation split",
    ),
    Rule(
        "features.mean, features.std",
        when=_is_unmeasured,
        what="are missing, and measuring them would read the whole stream",
        fix="give both, or set features.statistics_clips to measure them on that many clips",
        detail="missing",
    ),
    Rule(
        "sampling",
        when=lambda recipe: recipe.sampling != "shuffled",
        what="is {recipe.sampling!r}, which needs all labels in advance",
        fix="use 'shuffled'",
    ),
    Rule(
        "training.train_sampling_strategy",
        when=lambda recipe: groups_by_length(recipe.training),
        what="groups clips by length, which is unknown in a stream",
        fix="leave it out",
    ),
    Rule(
        "averaging_epochs",
        when=lambda recipe: recipe.averaging_epochs is not None,
        what="counts epochs, and a stream has no known end",
        fix="use averaging_decay",
    ),
    Rule(
        "optimization.milestones",
        when=lambda recipe: recipe.optimization.milestones,
        what="counts epochs, and a stream has no known end",
        fix="use training.lr_scheduler_type",
    ),
    Rule(
        "patchout.ramp_epochs",
        when=lambda recipe: recipe.patchout.ramp_epochs,
        what="counts epochs, and a stream has no known end",
        fix="leave it out",
    ),
    Rule(
        "distillation",
        when=lambda recipe: recipe.distillation.source,
        what="works on stored clips only",
        fix="leave out distillation or data.streaming",
    ),
    Rule(
        "training.accelerator_config",
        when=_deals_out_batches,
        what="distributes batches, but each process reads its own part of the stream",
        fix="leave out split_batches and dispatch_batches",
    ),
    *(
        Rule(
            f"training.{argument}",
            when=_is_by_epoch(argument),
            what="is 'epoch', and a stream has no known end",
            fix="use 'steps'",
        )
        for argument in ("eval_strategy", "save_strategy", "logging_strategy")
    ),
)
