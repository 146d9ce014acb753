"""TrainingArguments of a recipe: which may be given, what a run uses where it is silent, and what it had in the end."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from ..errors import AstHfWarning, did_you_mean, error, refuse, warning_text
from ..metrics import METRIC_NAMES
from .optimization import Optimization

#: What of a run goes to the Hub when: the result, each save's model, also what a run goes on from (the last, or all).
HUB_STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")

#: What a run uses where its recipe says nothing. `remove_unused_columns` and `label_names` are what ClipInputs needs.
_DEFAULTS = {
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
#: The same for a stream, which does not tell where an epoch ends.
_STREAMED_DEFAULTS = {**_DEFAULTS, "logging_strategy": "steps", "save_strategy": "steps"}

#: Arguments that would do nothing here, or break what is promised -> why, and what to do; refused unless false or 0.
_REFUSED = {
    "output_dir": ("is not part of a recipe", "give it where the run is started"),
    "resume_from_checkpoint": ("is not part of a recipe", "start the run with --resume"),
    "data_seed": ("has no effect: every random choice is keyed by training.seed", "set training.seed"),
    "save_only_model": (
        "leaves out what a run is resumed from",
        "leave it out: a finished folder is the model alone",
    ),
    "dataloader_persistent_workers": (
        "does not resume to the same weights: workers that live on disturb the order of random draws",
        "leave it out",
    ),
    "label_smoothing_factor": ("replaces the loss of the model", "set augmentation.label_smoothing"),
    "remove_unused_columns": ("takes away what clips come with", "leave it out"),
    "prediction_loss_only": ("leaves out the answers that metrics are made of", "leave it out"),
    "batch_eval_metrics": ("measures batches, and mAP or AUC of a part is not that of the whole", "leave it out"),
}

#: Arguments that ask for arithmetic in bfloat16.
_BFLOAT16 = ("bf16", "bf16_full_eval")

#: Arguments that train nothing at 0, and those that make no sense below it.
_ABOVE_0 = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)
_FROM_0 = ("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm")

#: What decides the weights beside a recipe's other sections.
_DECIDING = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "optim",
    "optim_args",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_sampling_strategy",
    "bf16",
    "fp16",
    "seed",
)


def spelled(values: dict[str, Any]) -> dict[str, Any]:
    """The same, with the word "no" for a strategy where YAML read no as false."""
    return {name: "no" if value is False and name.endswith("_strategy") else value for name, value in values.items()}


def check_training(values: dict[str, Any], where: str) -> None:
    """Raise E307 for what a recipe's `training` cannot hold."""
    fields = {entry.name: entry for entry in dataclasses.fields(TrainingArguments) if entry.init}
    for name, value in values.items():
        place = f"{where}: training.{name}"
        if name not in fields:
            raise error("E307", where=place, what="is no argument of TrainingArguments", fix=did_you_mean(name, fields))
        if isinstance(value, date):
            what = f"is the date {value}, and no argument is one"
            raise error("E307", where=place, what=what, fix="put it in quotes")
        if name == "hub_strategy" and value not in HUB_STRATEGIES:
            raise error("E307", where=place, what=f"{value!r} is no choice", fix=did_you_mean(value, HUB_STRATEGIES))
        if name in _REFUSED and value not in (None, False, 0):
            what, fix = _REFUSED[name]
            raise error("E307", where=place, what=what, fix=fix)
        _check_kind(fields[name], value, place)
        if (name in _ABOVE_0 and value <= 0) or (name in _FROM_0 and value < 0):
            raise error("E307", where=place, what=f"is {value!r}", fix="give more")


def _check_kind(entry: dataclasses.Field[Any], value: Any, where: str) -> None:
    """Raise E307 for what is no number, or neither true nor false, where an argument is: transformers would take it."""
    kinds = set(re.findall(r"\w+", str(entry.type))) - {"class", "None"}
    truth, number = isinstance(value, bool), isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None and entry.default is None:
        return
    if kinds == {"bool"}:
        refuse("E307", {(where, f"{value!r} is neither true nor false", "give one of them"): not truth})
    elif kinds and kinds <= {"int", "float"}:
        refuse("E307", {(where, f"{value!r} is no number", "give a number"): not number})


def build_arguments(
    training: dict[str, Any], output_dir: str | Path, *, streamed: bool = False, **hub: Any
) -> TrainingArguments:
    """The arguments of a run. Where there is no accelerator, bfloat16 is computed on the CPU, with a warning (W408) if
    the processor has no instructions for it.

    Args:
        training: what a recipe gives, which `check_training` has seen.
        output_dir: folder of the result.
        streamed: whether the training clips come as a stream.
        **hub: arguments about publishing, which count more.

    Raises:
        AstConfigError: E307 for values that transformers does not take, and for float16 on a CPU, where accelerate
            would leave it out without a word.
    """
    defaults = _STREAMED_DEFAULTS if streamed else _DEFAULTS
    given = {"report_to": reporters(), **defaults, **training, **hub}
    if any(given.get(name) for name in _BFLOAT16) and _has_no_accelerator():
        given["use_cpu"] = True  # transformers refuses bfloat16 on a CPU that nobody asked for by name
    try:
        arguments = TrainingArguments(str(output_dir), **given)
    except Exception as problem:  # whatever one of 150 arguments, or two together, make of it
        what = f"is not what transformers takes ({type(problem).__name__}: {str(problem).splitlines()[0][:200]})"
        raise error("E307", where="training", what=what, fix="change that argument") from problem
    check_joined(arguments.world_size)
    _check_reporters(arguments)
    if arguments.fp16 and arguments.device.type == "cpu":
        what = "has no effect on a CPU"
        raise error("E307", where="training.fp16", what=what, fix="use training.bf16, or leave it out")
    _warn_of_slow_bfloat16(arguments)
    return arguments


def _has_no_accelerator() -> bool:
    """Whether a run without `use_cpu` computes on the CPU nevertheless."""
    return not (torch.accelerator.is_available() or is_torch_bf16_gpu_available() or is_torch_xla_available())


def _warn_of_slow_bfloat16(arguments: TrainingArguments) -> None:
    """Warn (W408), in the first of several processes, of bfloat16 on a processor that has no instructions for it."""
    asked = [name for name in _BFLOAT16 if getattr(arguments, name)]
    if not asked or arguments.device.type != "cpu" or arguments.process_index or has_bfloat16():
        return
    what = "this processor has no bfloat16 instructions, so float32 would be faster: 6.5 times for AST-base"
    warnings.warn(warning_text("W408", where=f"training.{asked[0]}", what=what), AstHfWarning, stacklevel=3)


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by instructions of its own (AVX-512 BF16, AMX, Arm's); True where
    torch does not know.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # new in torch 2.11
    return capabilities is None or any(present for name, present in capabilities().items() if "bf16" in name)


def check_joined(world_size: int) -> None:
    """Raise E307 for a process of several (WORLD_SIZE) whose Trainer counts only `world_size`, itself: `accelerate
    launch` starts such ones with a file for GPUs where there is none.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and world_size == 1:
        what = f"is one of {started} that know nothing of each other: each would train alone into the same folder"
        fix = "start them with torchrun, as docs/how-to/train-on-many-gpus.md has it"
        raise error("E307", where="this process", what=what, fix=fix)


def _check_reporters(arguments: TrainingArguments) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in arguments.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            fix = did_you_mean(name, INTEGRATION_TO_CALLBACK)
            raise error("E307", where="training.report_to", what=f"{name!r} is no choice", fix=fix)
        if name not in get_available_reporting_integrations():
            raise error("E307", where="training.report_to", what=f"{name} is not installed", fix=f"pip install {name}")


def check_best(arguments: TrainingArguments, problem_type: str) -> None:
    """Raise E307 for a best checkpoint that is to be chosen by what is not measured: the Trainer notices it after the
    first epoch.
    """
    chosen, known = arguments.metric_for_best_model, (*METRIC_NAMES[problem_type], "loss")
    unknown = chosen is not None and chosen.removeprefix("eval_") not in known
    fix = did_you_mean(str(chosen).removeprefix("eval_"), known)
    refuse("E307", {("training.metric_for_best_model", f"{chosen!r} is not measured", fix): unknown})


def settled(arguments: TrainingArguments, optimization: Optimization) -> dict[str, Any]:
    """What of the arguments decides the weights, as a recipe's `training` would say it, whether it did or not. What
    `optimization` decides instead is left out.
    """
    unused = {"num_train_epochs" if arguments.max_steps > 0 else "max_steps"}
    unused |= {"lr_scheduler_type", "lr_scheduler_kwargs"} if optimization.milestones else set()
    unused |= {"optim", "optim_args"} if optimization.optimizer == "adam" else set()
    told = {name: getattr(arguments, name) for name in _DECIDING if name not in unused}
    told = {name: getattr(value, "value", value) for name, value in told.items()}
    return {name: value for name, value in told.items() if value not in (None, {}, "")}


def reporters() -> list[str]:
    """What a run reports to when its recipe does not say: codecarbon, where it is installed."""
    return ["codecarbon"] if importlib.util.find_spec("codecarbon") else []
