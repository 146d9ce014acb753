"""TrainingArguments of a run: those that a recipe may set, their checks and their defaults."""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from ..errors import AstHfWarning, did_you_mean, error, not_a_choice, short_reason, warning_text
from ..metrics import METRIC_NAMES
from ..processor import SLOW_BFLOAT16
from ..task import Task
from .argument_values import check_schedule, check_value
from .optimization_options import Optimization
from .precision import has_bfloat16, precision_values

#: When a run uploads to the Hub: the result at the end; the model at every save; also the latest training
#: checkpoint, or all of them.
HUB_STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")

#: Our defaults where they differ from transformers'. ClipInputs needs those of `remove_unused_columns` and
#: `label_names`.
DEFAULTS = {
    "disable_tqdm": False,
    "logging_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "hub_strategy": "end",
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "logging_nan_inf_filter": False,
    "dataloader_pin_memory": torch.cuda.is_available(),
}
#: Most processes that read clips for a GPU by default: eight decode FLAC of 16 kHz for 1,000 clips/s.
_MOST_READERS = 8
#: The defaults on a stream, whose epochs have no end.
_STREAMED_DEFAULTS = {**DEFAULTS, "logging_strategy": "steps", "save_strategy": "steps"}

#: Arguments that have no effect here or break a promise of this package -> (reason, fix). They are refused
#: unless they are false or 0.
REFUSED = {
    "output_dir": ("is not part of a recipe", "give it when starting the run"),
    "resume_from_checkpoint": ("is not part of a recipe", "start the run with --resume"),
    "data_seed": ("has no effect: every random choice is keyed by training.seed", "set training.seed"),
    "save_only_model": (
        "omits the state that a run is resumed from",
        "leave it out: a finished folder has the model alone",
    ),
    "enable_jit_checkpoint": (
        "has no effect: a run that is stopped by a signal always saves first",
        "leave it out",
    ),
    "label_smoothing_factor": ("replaces the loss of the model", "set augmentation.label_smoothing"),
    "remove_unused_columns": ("removes columns that the clips need", "leave it out"),
    "prediction_loss_only": ("omits the logits that metrics are computed from", "leave it out"),
    "batch_eval_metrics": (
        "measures single batches, and mAP and AUC do not average over batches",
        "leave it out",
    ),
}

#: Arguments about the workers of the data loader.
_WORKER_ARGUMENTS = (
    "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context",
    "dataloader_persistent_workers",
)

#: Arguments that request arithmetic in bfloat16.
_BFLOAT16 = ("bf16", "bf16_full_eval")

#: Arguments that the weights depend on, besides the other sections of a recipe.
_WEIGHT_ARGUMENTS = (
    *(
        "num_train_epochs",
        "max_steps",
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
    ),
    *("optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "train_sampling_strategy"),
    *("bf16", "fp16", "seed"),
)


def check_training(values: dict[str, Any], where: str) -> None:
    """Raise E307 for a name or value that the section `training` of a recipe must not have."""
    fields = {entry.name: entry for entry in dataclasses.fields(TrainingArguments) if entry.init}
    for name, value in values.items():
        place = f"{where}: training.{name}"
        if name not in fields:
            what = "is not an argument of TrainingArguments"
            raise error("E307", where=place, what=what, fix=did_you_mean(name, fields), detail="unknown")
        if name == "hub_strategy" and value not in HUB_STRATEGIES:
            raise not_a_choice("E307", where=place, value=value, choices=HUB_STRATEGIES)
        if name in REFUSED and value not in (None, False, 0):
            what, fix = REFUSED[name]
            raise error("E307", where=place, what=what, fix=fix, detail="conflict")
        check_value(name, value, place)
    _check_combinations(values, where)


def _check_combinations(values: dict[str, Any], where: str) -> None:
    """Raise E307 for valid values that this package, this machine or the data loader cannot use."""
    if values.get("label_names") not in (None, ["labels"]):
        place = f"{where}: training.label_names"
        what = "renames the labels, which clips have under the name labels"
        raise error("E307", where=place, what=what, fix="leave it out", detail="conflict")
    for name in _WORKER_ARGUMENTS:
        if (
            values.get(name) is not None
            and values[name] is not False
            and not values.get("dataloader_num_workers")
        ):
            fix = "set training.dataloader_num_workers, or leave it out"
            what = "is for workers, and there are none"
            raise error("E307", where=f"{where}: training.{name}", what=what, fix=fix, detail="conflict")
    if values.get("use_liger_kernel") and importlib.util.find_spec("liger_kernel") is None:
        what = "needs the package liger-kernel, which has no kernels for AST"
        place = f"{where}: training.use_liger_kernel"
        raise error("E307", where=place, what=what, fix="leave it out", detail="environment")


def build_arguments(
    training: dict[str, Any],
    output_dir: str | Path,
    *,
    streamed: bool = False,
    precision: str | None = None,
    **hub: Any,
) -> TrainingArguments:
    """Return the arguments of a run.

    Without an accelerator, bfloat16 is computed on the CPU, with a warning (W408) if the processor has no
    instructions for it.

    Args:
        training: the section of a recipe, after `check_training`.
        output_dir: folder of the result.
        streamed: True if the training clips are a stream.
        precision: that of a recipe; None leaves it to `training`.
        **hub: arguments about publishing; they replace those in `training`.

    Raises:
        AstConfigError: E307 for values that transformers refuses, for trackers that are not installed, for
            float16 on a CPU (accelerate would silently ignore it), and for processes without a group.
    """
    defaults = _STREAMED_DEFAULTS if streamed else {**DEFAULTS, **_reading_defaults(training)}
    arithmetic = precision_values(precision, training)
    values = {"report_to": reporters(), **defaults, **training, **arithmetic, **hub}
    if any(values.get(name) for name in _BFLOAT16) and _has_no_accelerator():
        values["use_cpu"] = True  # otherwise transformers refuses bfloat16 on a CPU
    try:
        arguments = TrainingArguments(str(output_dir), **values)
    except Exception as problem:  # 150 arguments, alone and combined: no common type of exception
        reason = short_reason(str(problem).splitlines()[0] if str(problem) else "", limit=200)
        what = f"is refused by transformers ({type(problem).__name__}: {reason})"
        where = _refused_argument(values, {**training, **arithmetic}, output_dir)
        where = "precision" if where.removeprefix("training.") in arithmetic else where
        raise error("E307", where=where, what=what, fix="change that argument", detail="choice") from problem
    check_joined(arguments.world_size)
    _check_reporters(arguments)
    check_schedule(arguments)
    if arguments.fp16 and arguments.device.type == "cpu":
        where = "training.fp16" if precision is None else "precision"
        what = "has no effect on a CPU" if precision is None else "'fp16' has no effect on a CPU"
        fix = "use training.bf16, or leave it out" if precision is None else "use auto"
        raise error("E307", where=where, what=what, fix=fix, detail="environment")
    _warn_of_slow_bfloat16(arguments, where="" if precision is None else "precision")
    return arguments


def _reading_defaults(training: dict[str, Any]) -> dict[str, Any]:
    """Return the readers of a run that does not say; they stay between epochs, and with them the clips they decoded."""
    if "dataloader_num_workers" in training:
        return {}
    readers = default_readers(training)
    return {"dataloader_num_workers": readers, "dataloader_persistent_workers": readers > 0}


def default_readers(training: dict[str, Any]) -> int:
    """Return how many processes read the clips of a run that does not say: some for a GPU, none for a CPU.

    Every processor but one reads, shared by the runs' processes on this machine. On a CPU they would take time from
    the model, and where processes are not forked they start slowly and cannot take every function of the user. Clips
    are the same for any number, since their random choices are keyed.

    Args:
        training: the section of a recipe.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if not torch.cuda.is_available() or training.get("use_cpu") or method != "fork":
        return 0
    has_affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    launched = os.environ.get("LOCAL_WORLD_SIZE", "1")
    processes = max(int(launched), 1) if launched.isdigit() else 1
    return min((processors - 1) // processes, _MOST_READERS)


def _refused_argument(values: dict[str, Any], training: dict[str, Any], output_dir: str | Path) -> str:
    """Return the argument of a recipe without which transformers takes the others, `training` if none is."""
    for name in training:
        try:
            TrainingArguments(str(output_dir), **{key: value for key, value in values.items() if key != name})
        except Exception:  # of any type, as in `build_arguments`
            continue
        return f"training.{name}"
    return "training"


def _has_no_accelerator() -> bool:
    """Return True if a run computes on the CPU even without `use_cpu`."""
    return not (torch.accelerator.is_available() or is_torch_bf16_gpu_available() or is_torch_xla_available())


def _warn_of_slow_bfloat16(arguments: TrainingArguments, where: str = "") -> None:
    """Warn (W408), on the main process, about bfloat16 on a processor without instructions for it.

    `where` is the option that asks for it, if it is not in `training`.
    """
    requested = [name for name in _BFLOAT16 if getattr(arguments, name)]
    if not requested or arguments.device.type != "cpu" or arguments.process_index or has_bfloat16():
        return
    text = warning_text("W408", where=where or f"training.{requested[0]}", what=SLOW_BFLOAT16)
    warnings.warn(text, AstHfWarning, stacklevel=3)


def check_joined(world_size: int) -> None:
    """Raise E307 if several processes were launched but do not form a group.

    `accelerate launch` does so with a configuration for GPUs on a machine without one.

    Args:
        world_size: number of processes in the Trainer's group; the launcher's number is in WORLD_SIZE.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and world_size == 1:
        what = f"is one of {launched} without a process group: each would train alone into the same folder"
        fix = "start them with torchrun, see docs/how-to/train-on-many-gpus.md"
        raise error("E307", where="this process", what=what, fix=fix, detail="environment")


def _check_reporters(arguments: TrainingArguments) -> None:
    """Raise E307 for experiment trackers that do not exist or are not installed."""
    where = "training.report_to"
    for name in arguments.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise not_a_choice("E307", where=where, value=name, choices=INTEGRATION_TO_CALLBACK)
        if name not in get_available_reporting_integrations():
            fix = f"pip install {name}"
            raise error("E307", where=where, what=f"{name} is not installed", fix=fix, detail="environment")


def check_best(arguments: TrainingArguments, task: Task) -> None:
    """Raise E307 if the best checkpoint is chosen by a metric that is not computed.

    Otherwise, the Trainer would fail after the first epoch.
    """
    chosen = arguments.metric_for_best_model
    if chosen is not None:
        check_metric("training.metric_for_best_model", chosen, task)


def check_metric(option: str, chosen: str, *tasks: Task) -> None:
    """Raise E307 if an option names a metric that is computed for none of these tasks."""
    metrics = (*(name for task in tasks for name in METRIC_NAMES[task]), "loss")
    name = chosen.removeprefix("eval_")
    if name not in metrics:
        what = f"{chosen!r} is not measured"
        raise error("E307", where=option, what=what, fix=did_you_mean(name, metrics), detail="choice")


def weight_arguments(arguments: TrainingArguments, optimization: Optimization) -> dict[str, Any]:
    """Return the arguments that the weights depend on, in the form of a recipe's section `training`.

    Defaults are included. Arguments that `optimization` replaces are left out.
    """
    unused = {"num_train_epochs" if arguments.max_steps > 0 else "max_steps"}
    if optimization.milestones:
        unused |= {"lr_scheduler_type", "lr_scheduler_kwargs"}
    if optimization.optimizer == "adam":
        unused |= {"optim", "optim_args"}
    values = {name: getattr(arguments, name) for name in _WEIGHT_ARGUMENTS if name not in unused}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}  # enums as their strings
    return {name: value for name, value in plain.items() if value not in (None, {}, "")}


def reporters() -> list[str]:
    """Return the experiment trackers of a run without `report_to`: codecarbon, if it is installed."""
    return ["codecarbon"] if importlib.util.find_spec("codecarbon") else []
