"""Facts of a run for its report: labels, majority class, curves, duration, hardware, names on the Hub."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainingArguments

from ..data.catalog import find_data_set
from ..data.reading import is_local
from ..data.splits import label_counts, label_names, split_task
from ..inputs.streams import StreamedClipInputs
from ..recipe.options import CardOptions, DataOptions, ModelOptions
from ..reports.epoch_metrics import Curve
from ..task import Task
from .splits import Split
from .trainer import ASTTrainer


def training_labels(split: Split) -> dict[str, int]:
    """Return the clips of the training split by label name, nothing for a stream."""
    if not isinstance(split, Dataset):
        return {}
    counts = label_counts(split)
    return {name: counts[index] for index, name in enumerate(label_names(split))}


def most_frequent_class(train: Split, evaluation: dict[str, Split]) -> dict[str, float]:
    """Return the accuracy on each split, in [0, 1], of always predicting the most frequent training class.

    Empty for multi-label clips, and for streams, whose labels are unknown until they are read.
    """
    if split_task(train) is Task.MULTI_LABEL or not isinstance(train, Dataset):
        return {}
    counts = label_counts(train)
    majority = max(counts, key=lambda index: counts[index])
    return {name: label_counts(split)[majority] / len(split) for name, split in evaluation.items()}


def read_curves(history: list[dict[str, Any]], prefixes: dict[str, str], metric: str) -> dict[str, Curve]:
    """Return the curves of the splits that were evaluated while training, by name, from the Trainer's log.

    Args:
        history: the log.
        prefixes: split name -> prefix of its metrics there.
        metric: the main metric.
    """
    curves = {name: Curve.from_log(history, prefix, metric) for name, prefix in prefixes.items()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def training_extent(trainer: ASTTrainer) -> tuple[int, float | None]:
    """Return the clips and epochs trained on; of a stream the clips of all its passes, and no epochs.

    The Trainer counts a stream as one epoch, whatever its length.
    """
    inputs: Any = trainer.train_dataset
    if isinstance(inputs, StreamedClipInputs):
        return trainer.state.global_step * trainer.get_total_train_batch_size(trainer.args), None
    return len(inputs), float(trainer.state.epoch or 0)


def training_seconds(trainer: ASTTrainer, history: list[dict[str, Any]]) -> float:
    """Return the wall time of the training, with that before a resumption; 0.0 if it is unknown."""
    runtimes = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    if not runtimes or trainer.seconds_before is None:
        return 0.0
    return trainer.seconds_before + runtimes[-1]


def describe_hardware(arguments: TrainingArguments) -> str:
    """Return the hardware of a run in words."""
    if arguments.device.type == "cuda":
        count = max(arguments.world_size, arguments.n_gpu)
        name = torch.cuda.get_device_name(arguments.device)
        return name if count == 1 else f"{count} x {name}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def data_set_names(data: DataOptions, card: CardOptions) -> list[str]:
    """Return the names on the Hub of the training data: those of the card, and a source on the Hub."""
    names = list(card.data_sets)
    source = find_data_set(data.source)["source"] if data.source else None
    if isinstance(source, str) and not is_local(source):
        names.append(source)
    return list(dict.fromkeys(names))


def base_model_name(start: ModelOptions, card: CardOptions) -> str | None:
    """Return the name on the Hub of what a run started from; None for a random start or an unnamed folder."""
    if card.base_model:
        return card.base_model
    source = start.base or start.vit
    return None if source is None or Path(source).exists() else source
