"""Checks across the options of a recipe: combinations that would fail late, or silently do something else."""

from __future__ import annotations

from typing import Any

from ..errors import AstHfError, error
from ..inputs.augmentation import Augmentation
from ..inputs.sampling import STRATEGIES
from ..inputs.waveform_transforms import build_transforms
from ..metrics import METRIC_NAMES
from .arguments import check_metric, check_training
from .options import RecipeOptions
from .precision import FLOAT8, check_precision

#: Share of the training split that may be held out at most.
MOST_HELD_OUT = 0.9

#: Augmentation that moves sounds within a window.
_MOVES = ("speed", "delay_seconds", "advance_seconds", "time_stretch", "roll_frames")


def check_rules(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for valid options that contradict each other, and for arguments that `training` must not have."""
    check_training(recipe.training, where)
    check_precision(recipe.precision, recipe.training, where)
    recipe.model.check(where)
    _check_averaging(recipe, where)
    recipe.stopping.check(where)
    _check_stopping(recipe, where)
    _check_metrics(recipe, where)
    recipe.optimization.check(where)
    _check_float8(recipe, where)
    _check_schedule(recipe, where)
    recipe.adapter.check(where)
    if recipe.adapter.rank:
        _check_adapter(recipe, where)
    recipe.distillation.check(where)
    _check_teacher(recipe, where)
    build_transforms(recipe.augmentation.audiomentations, f"{where}: augmentation.audiomentations")
    _check_grouping(recipe, where)
    _check_windows(recipe, where)
    _check_held_out(recipe, where)
    _check_store(recipe, where)
    if recipe.data.streaming:
        check_streaming(recipe, where)


def _check_store(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for a store without a name, of a stream, or of a precision that nothing is stored in."""
    data = recipe.data
    if data.store is None:
        if data.store_dtype != "float32":
            what = f"is {data.store_dtype!r}, and data.store names no folder"
            raise _invalid(where, "data.store_dtype", what, "set data.store, or leave it out")
        return
    if not data.store.strip():
        raise _invalid(where, "data.store", "is empty", "name a folder, or leave it out", "missing")
    if data.streaming:
        what = "keeps clips for the next epoch, and a stream has no clips to come back to"
        raise _invalid(where, "data.store", what, "leave out data.store or data.streaming")


def _check_float8(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for fp8 products of weights that are not trained, which would cost more than they save."""
    if recipe.precision != FLOAT8:
        return
    frozen = {
        "adapter.rank": bool(recipe.adapter.rank),
        "optimization.frozen": recipe.optimization.frozen == "backbone",
    }
    for option, is_set in frozen.items():
        if is_set:
            what = (
                f"is {FLOAT8!r}, which is for training all weights, and {option} freezes those of the blocks"
            )
            raise _invalid(where, "precision", what, f"use bf16, or leave out {option}")


def _check_metrics(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for a metric that is computed for no task; `check_evaluation` knows the task of the clips."""
    chosen = {
        "stopping.metric": recipe.stopping.metric,
        "training.metric_for_best_model": recipe.training.get("metric_for_best_model"),
    }
    for option, metric in chosen.items():
        if metric is not None:
            check_metric(f"{where}: {option}", metric, *METRIC_NAMES)


def check_streaming(recipe: RecipeOptions, where: str = "recipe") -> None:
    """Raise E307 for options of a run on a stream that do not fit its unknown length."""
    data = recipe.data
    features = recipe.features
    if _max_steps(recipe) <= 0:
        what = "is missing, and the length of a stream is unknown"
        raise _invalid(where, "training.max_steps", what, "give the number of steps to train", "missing")
    _check_stream_is_whole(recipe, where)
    for option, value in (("check", "full"), ("on_error", "skip")):
        if getattr(data, option) == value:
            what = f"is {value!r}, which needs all clips before training, and a stream comes while training"
            raise _invalid(where, f"data.{option}", what, "leave it out, or do not stream")
    if (features.mean is None or features.std is None) and not features.statistics_clips:
        what = "are missing, and measuring them would read the whole stream"
        fix = "give both, or set features.statistics_clips to measure them on that many clips"
        raise _invalid(where, "features.mean, features.std", what, fix, "missing")
    if recipe.sampling != "shuffled":
        what = f"is {recipe.sampling!r}, which needs all labels in advance"
        raise _invalid(where, "sampling", what, "use 'shuffled'")
    if groups_by_length(recipe.training):
        what = "groups clips by length, which is unknown in a stream"
        raise _invalid(where, "training.train_sampling_strategy", what, "leave it out")
    _check_no_epochs(recipe, where)
    if recipe.training.get("dataloader_persistent_workers"):
        what = "has no effect: the workers of a stream read it without an end"
        raise _invalid(where, "training.dataloader_persistent_workers", what, "leave it out")
    if recipe.distillation.source:
        fix = "leave out distillation or data.streaming"
        raise _invalid(where, "distillation", "works on stored clips only", fix)
    if _splits_batches(recipe):
        what = "distributes batches, but each process reads its part of the stream"
        fix = "leave out split_batches and dispatch_batches"
        raise _invalid(where, "training.accelerator_config", what, fix)
    for argument in ("eval_strategy", "save_strategy", "logging_strategy"):
        if recipe.training.get(argument) == "epoch":
            what = "is 'epoch', and a stream has no known end"
            raise _invalid(where, f"training.{argument}", what, "use 'steps'")


def _check_stream_is_whole(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for clips to be held out of a stream."""
    data = recipe.data
    what = "cannot hold out clips of a stream"
    if data.test_fraction:
        raise _invalid(where, "data.test_fraction", what, "give a test split")
    if data.validation_fraction or data.validation_group or data.group_pattern:
        raise _invalid(where, "data.validation_fraction", what, "give a validation split")


def groups_by_length(training: dict[str, Any]) -> bool:
    """Return True if clips of equal length share a batch, without padding to the length of the model."""
    return training.get("train_sampling_strategy") == "group_by_length"


def _invalid(where: str, option: str, what: str, fix: str, detail: str = "conflict") -> AstHfError:
    return error("E307", where=f"{where}: {option}", what=what, fix=fix, detail=detail)


def _max_steps(recipe: RecipeOptions) -> int:
    """Return `training.max_steps`; 0 or less leaves the length of a run to `num_train_epochs`."""
    return recipe.training.get("max_steps", -1)


def _splits_batches(recipe: RecipeOptions) -> bool:
    """Return True if accelerate splits or dispatches batches, or reads its configuration from a file."""
    accelerator = recipe.training.get("accelerator_config") or {}
    if not isinstance(accelerator, dict):
        return True
    return bool(accelerator.get("split_batches") or accelerator.get("dispatch_batches"))


def _check_no_epochs(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options that count the epochs of a stream."""
    what = "counts epochs, and a stream has no known end"
    if recipe.averaging_epochs is not None:
        raise _invalid(where, "averaging_epochs", what, "use averaging_decay")
    if recipe.optimization.milestones:
        raise _invalid(where, "optimization.milestones", what, "use training.lr_scheduler_type")
    if recipe.patchout.ramp_epochs:
        raise _invalid(where, "patchout.ramp_epochs", what, "leave it out")


def _check_adapter(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options that do not fit an adapter: it freezes all else, and its files name the base."""
    model = recipe.model
    checkpointing = recipe.training.get("gradient_checkpointing_kwargs") or {}
    if model.vit:
        what = "is not an AST checkpoint, and an adapter names its base"
        raise _invalid(
            where, "model.vit", what, "run ast-hf convert on it first, and name the result as model.base"
        )
    if model.base is None:
        what = "is not set, and frozen random weights learn nothing"
        raise _invalid(where, "model.base", what, "name a checkpoint", "missing")
    if model.factored_positions:
        what = "trains position embeddings, which an adapter freezes"
        raise _invalid(
            where, "model.factored_positions", what, "leave out model.factored_positions or adapter"
        )
    if recipe.optimization.frozen != "nothing":
        what = "freezes the layers that adapter.rank adapts"
        raise _invalid(where, "optimization.frozen", what, "leave out optimization.frozen or adapter")
    if checkpointing.get("use_reentrant"):
        what = "(use_reentrant) gives the layers of a frozen backbone no gradient"
        fix = "leave it out: the default of transformers works"
        raise _invalid(where, "training.gradient_checkpointing_kwargs", what, fix)


def _check_averaging(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for weight averages that contradict each other, or the length of the run."""
    epochs = recipe.averaging_epochs
    if recipe.averaging_decay is None and epochs is None:
        return
    if epochs is not None:
        last_epoch = recipe.training.get("num_train_epochs", 3)
        if recipe.averaging_decay is not None:
            what = "is set, and so is averaging_decay"
            raise _invalid(where, "averaging_epochs", what, "use one of the two")
        if _max_steps(recipe) > 0:
            what = "counts epochs, but training.max_steps counts steps"
            raise _invalid(where, "averaging_epochs", what, "give training.num_train_epochs")
        if epochs[1] > last_epoch:
            what = f"{epochs!r} ends after the run, which has {last_epoch} epochs"
            raise _invalid(where, "averaging_epochs", what, "end with the last epoch")


def _check_stopping(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for two choices of the best evaluation, and for a choice among none."""
    if not recipe.stopping.is_active:
        return
    training = recipe.training
    if training.get("load_best_model_at_end"):
        what = "is set, and so is stopping, which keeps the best weights itself"
        raise _invalid(where, "training.load_best_model_at_end", what, "use one of the two")
    if training.get("metric_for_best_model") and training.get("lr_scheduler_type") != "reduce_lr_on_plateau":
        what = "is set, and stopping compares its own metric"
        raise _invalid(where, "training.metric_for_best_model", what, "set stopping.metric instead")
    if training.get("eval_strategy") == "no":
        what = "is 'no', and stopping compares evaluations"
        raise _invalid(where, "training.eval_strategy", what, "leave it out: stopping evaluates by itself")


def _check_schedule(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for two learning rate schedules or two optimizers."""
    options = recipe.optimization
    if options.milestones and "lr_scheduler_type" in recipe.training:
        what = "is set, and so is training.lr_scheduler_type"
        raise _invalid(where, "optimization.milestones", what, "use one of the two")
    if options.milestones and _max_steps(recipe) > 0:
        what = "counts epochs, but training.max_steps counts steps"
        raise _invalid(where, "optimization.milestones", what, "give training.num_train_epochs")
    if options.optimizer == "adam" and "optim" in recipe.training:
        what = "is 'adam', and training.optim is set"
        raise _invalid(where, "optimization.optimizer", what, "leave out one of the two")


def _check_teacher(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options that contradict a teacher, as far as that can be checked without the data."""
    source = recipe.distillation.source
    if source == "logits" and recipe.augmentation.random_crop:
        what = "are of the start of each clip, and augmentation.random_crop takes another part"
        fix = "leave random_crop out, or name the model itself as teacher"
        raise _invalid(where, "distillation.logits", what, fix)
    if source and recipe.loss != "task":
        what = f"works with the loss of the task, not with {recipe.loss!r}"
        raise _invalid(where, f"distillation.{source}", what, "leave loss out")


def _check_windows(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for options of windows that contradict each other."""
    data = recipe.data
    if data.window_seconds is None:
        for option in ("window_hop_seconds", "empty_windows", "min_overlap", "window_labels", "recordings"):
            if getattr(data, option) is not None:
                what = "is set, and data.window_seconds is not"
                raise _invalid(where, f"data.{option}", what, "set data.window_seconds, or leave it out")
        return
    if data.window_hop_seconds is not None and data.window_hop_seconds > data.window_seconds:
        what = f"is {data.window_hop_seconds:g} s, longer than the window, and would skip sound"
        fix = f"give at most data.window_seconds, {data.window_seconds:g}"
        raise _invalid(where, "data.window_hop_seconds", what, fix, "range")
    if data.window_labels == "centre" and data.min_overlap is not None:
        what = "has no effect on labels at the middle of windows"
        raise _invalid(where, "data.min_overlap", what, "leave it out, or leave out data.window_labels")
    if data.window_labels == "centre":
        _check_centre(recipe, where)
    if not data.clip_boundaries:
        what = "is false, and windows get their labels by times"
        raise _invalid(where, "data.clip_boundaries", what, "leave it out, or leave out data.window_seconds")


def _check_held_out(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for shares of held-out clips that leave too few, and for two ways to choose the test clips."""
    data = recipe.data
    if data.validation_group is not None and data.group_pattern is not None:
        what = f"is {data.group_pattern!r}, and validation_group is {data.validation_group!r}"
        raise _invalid(where, "data.group_pattern", what, "use one of the two")
    if not data.test_fraction:
        return
    for option in ("test_fold", "random_folds"):
        if getattr(data, option) is not None:
            what = f"is {data.test_fraction:g}, and data.{option} chooses the test clips"
            raise _invalid(where, "data.test_fraction", what, "use one of the two")
    if data.test_fraction + data.validation_fraction > MOST_HELD_OUT:
        what = f"and data.validation_fraction hold out {data.test_fraction + data.validation_fraction:.2g} of the clips"
        fix = f"leave at least {1 - MOST_HELD_OUT:.1g} for training"
        raise _invalid(where, "data.test_fraction", what, fix, "range")


def _check_centre(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for augmentation that moves sounds away from the middle of the window, where the labels are."""
    plain = Augmentation()
    for option in _MOVES:
        if getattr(recipe.augmentation, option) != getattr(plain, option):
            what = "moves the sound, and data.window_labels centre means the labels at the middle"
            raise _invalid(where, f"augmentation.{option}", what, "leave it out")


def _check_grouping(recipe: RecipeOptions, where: str) -> None:
    """Raise E307 for unsupported orders of the clips, and for options that need clips of equal length."""
    option = "training.train_sampling_strategy"
    strategy = recipe.training.get("train_sampling_strategy", "random")
    if strategy not in STRATEGIES:
        what = f"{strategy!r} is not a valid choice here"
        raise _invalid(where, option, what, f"use {' or '.join(map(repr, STRATEGIES))}", "choice")
    if not groups_by_length(recipe.training):
        return
    if recipe.sampling != "shuffled":
        what = f"is {strategy!r}, and sampling is {recipe.sampling!r}"
        raise _invalid(where, option, what, "use one of the two")
    if recipe.patchout.time or recipe.patchout.unstructured:
        what = f"is {strategy!r}, and patchout.time and unstructured count patches of the full length"
        raise _invalid(where, option, what, "use one of the two, or patchout.frequency alone")
