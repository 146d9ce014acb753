"""Facts of a finished run that its report adds to recipe and metrics: extent, hardware, names on the Hub."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainingArguments

from ..data.catalog import find_data_set
from ..data.sources import is_local
from ..data.splits import label_counts, label_names
from ..errors import error
from ..inputs.streams import StreamedClipInputs
from ..recipe.options import CardOptions, DataOptions, ModelOptions
from ..recipe.recipe import LOCAL_PATHS, Recipe
from ..reports.epoch_metrics import VALIDATION_PREFIX, Curve, KeptEvaluation
from .splits import Split
from .trainer import ASTTrainer


def training_labels(split: Split) -> dict[str, int]:
    """Return the number of training clips by label name; empty for a stream."""
    if not isinstance(split, Dataset):
        return {}
    counts = label_counts(split)
    return {name: counts[index] for index, name in enumerate(label_names(split))}


def read_curves(history: list[dict[str, Any]], prefixes: dict[str, str], metric: str) -> dict[str, Curve]:
    """Return the curve of `metric` on each split that was evaluated while training.

    `history` is the Trainer's log, `prefixes` maps a split's name to the prefix of its metrics there.
    """
    curves = {name: Curve.from_log(history, prefix, metric) for name, prefix in prefixes.items()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def kept_evaluation(trainer: ASTTrainer, split: str) -> KeptEvaluation | None:
    """Return the evaluation of `split` whose weights a trained run has; None if it has the last ones."""
    state = trainer.state
    args = trainer.args
    best = trainer.best
    if best is not None:
        step = best.record.step
        metric = best.metric
    elif args.load_best_model_at_end and state.best_model_checkpoint is not None:
        step = state.best_global_step
        metric = str(args.metric_for_best_model)
    else:
        return None
    if step is None:  # no evaluation gave a number
        return None
    name = metric.removeprefix("eval_")
    evaluated = [entry for entry in state.log_history if f"{VALIDATION_PREFIX}_{name}" in entry]
    entry = next(entry for entry in evaluated if entry["step"] == step)
    is_streamed = isinstance(trainer.train_dataset, StreamedClipInputs)
    return KeptEvaluation(
        split=split,
        clips=entry[f"{VALIDATION_PREFIX}_samples"],
        metric=name,
        value=entry[f"{VALIDATION_PREFIX}_{name}"],
        loss=entry.get(f"{VALIDATION_PREFIX}_loss"),
        step=step,
        epoch=None if is_streamed else entry["epoch"],
        evaluations=len(evaluated),
        stopped_early=state.global_step < state.max_steps,
        trained_steps=state.global_step,
        planned_steps=state.max_steps,
        planned_epochs=None if is_streamed else planned_epochs(trainer),
        best=None if best is None else best.record.best,
        standard_errors=0.0 if best is None else best.options.standard_errors,
    )


def planned_epochs(trainer: ASTTrainer) -> float:
    """Return the number of epochs of a run's full length."""
    if trainer.args.max_steps <= 0:
        return float(trainer.args.num_train_epochs)
    state = trainer.state
    return round(state.max_steps * float(state.epoch or 0) / max(state.global_step, 1), 4)


def training_extent(trainer: ASTTrainer) -> tuple[int, float | None]:
    """Return training clips and epochs; for a stream the clips of all passes, and None.

    The Trainer counts a stream of any length as one epoch.
    """
    inputs: Any = trainer.train_dataset
    if isinstance(inputs, StreamedClipInputs):
        return trainer.state.global_step * trainer.get_total_train_batch_size(trainer.args), None
    return len(inputs), float(trainer.state.epoch or 0)


def training_seconds(trainer: ASTTrainer, history: list[dict[str, Any]]) -> float:
    """Return the wall time of the training in seconds, before a resumption too; 0.0 if unknown.

    Resuming a run that has all its steps adds nothing to it.
    """
    runtimes = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    if not runtimes or trainer.seconds_before is None:
        return 0.0
    if trainer.resumed_step == trainer.state.global_step:
        return trainer.seconds_before
    return trainer.seconds_before + runtimes[-1]


def describe_hardware(arguments: TrainingArguments) -> str:
    """Return for example `"2 x NVIDIA A100"` or `"8 CPU cores (x86_64)"`."""
    if arguments.device.type == "cuda":
        count = max(arguments.world_size, arguments.n_gpu)
        name = torch.cuda.get_device_name(arguments.device)
        return name if count == 1 else f"{count} x {name}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def data_set_names(data: DataOptions, card: CardOptions) -> list[str]:
    """Return the Hub names of the training data: those of the card, and the source if it is on the Hub."""
    names = list(card.data_sets)
    source = find_data_set(data.source)["source"] if data.source else None
    if isinstance(source, str) and not is_local(source):
        names.append(source)
    return list(dict.fromkeys(names))


def local_paths(recipe: Recipe) -> list[str]:
    """Return the options of a recipe that are files or folders of this machine, as `model.base`."""
    names = []
    for section, option in LOCAL_PATHS:
        value = getattr(getattr(recipe, section), option)
        if isinstance(value, str) and is_local(value):
            names.append(f"{section}.{option}")
    return names


def check_base_name(start: ModelOptions, card: CardOptions) -> None:
    """Raise E307 for a model that is to be published, but whose start has no name on the Hub.

    Its card would lead nobody to the base, and `publication_of` would refuse it after the training (E705).
    """
    source = start.base or start.vit
    name = base_model_name(start, card)
    if source is None or (name is not None and not Path(name).exists()):
        return
    option = "model.base" if start.base else "model.vit"
    if name is None:
        what = f"is not set, and {option} is {source!r}, a folder of this machine: nobody else could find the start"
    else:
        what = f"is {name!r}, a folder of this machine: nobody else could find it"
    fix = "give its name on the Hub, --set card.base_model=user/name (push it first if it is yours), or do not push"
    raise error("E307", where="card.base_model", what=what, fix=fix, detail="missing")


def base_model_name(start: ModelOptions, card: CardOptions) -> str | None:
    """Return the Hub name of the initial weights; None for random ones, or a folder without a name."""
    if card.base_model:
        return card.base_model
    source = start.base or start.vit
    return None if source is None or Path(source).exists() else source
