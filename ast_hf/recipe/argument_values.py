"""Values of TrainingArguments: type, range and choice of each, checked before any data are read.

transformers accepts most values silently, and a run would fail after measuring, or train with another meaning.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.debug_utils import DebugOption
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from ..errors import did_you_mean, error, not_a_choice, short_reason, wrong_type
from ..scalars import is_number


class Range(NamedTuple):
    """Valid numbers from `low` to `high`; `above` excludes `low`, `whole` excludes fractions above 1."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False

    def contains(self, value: float) -> bool:
        """Return True for a number in the range."""
        if self.whole and value > 1 and value != int(value):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def describe(self) -> str:
        """Return the valid numbers in words, for the fix of a message."""
        number = "whole number" if self.whole else "number"
        if self.high < math.inf:
            return f"give a {number} from {self.low:.12g} to {self.high:.12g}"
        if self.above:
            return f"give a {number} above {self.low:g}"
        return f"give {self.low:g} or more"


_STEPS = Range(above=True, whole=True)
#: Upper limits, beyond which a number is a slip: clips of a batch, and workers of a machine.
_BATCH = Range(1, 1 << 20)
_WORKERS = Range(0, 1024)
_BETA = Range(0.0, 1 - 1e-9)

#: Argument -> its range; other numbers must be finite. `seed` is numpy's, 32 bits.
_RANGES = {
    "num_train_epochs": Range(1e-6, 1e6),
    "max_steps": Range(-1, 1e9),
    "per_device_train_batch_size": _BATCH,
    "per_device_eval_batch_size": _BATCH,
    "gradient_accumulation_steps": _BATCH,
    "eval_accumulation_steps": _BATCH,
    "learning_rate": Range(),
    "weight_decay": Range(),
    "warmup_steps": Range(),
    "max_grad_norm": Range(),
    "adam_beta1": _BETA,
    "adam_beta2": _BETA,
    "adam_epsilon": Range(),
    "neftune_noise_alpha": Range(),
    "logging_steps": _STEPS,
    "save_steps": _STEPS,
    "eval_steps": _STEPS,
    "eval_delay": Range(),
    "save_total_limit": Range(-1),
    "torch_empty_cache_steps": Range(1, 1e9),
    "seed": Range(0, 2**32 - 1),
    "dataloader_num_workers": _WORKERS,
    "dataloader_prefetch_factor": Range(1, 1e6),
    "ddp_timeout": Range(1, 1e9),
    "ddp_bucket_cap_mb": Range(1, 1e6),
    "local_rank": Range(-1, 1e6),
}

#: Beginnings of the optimizers that are only built with a model.
_NEEDS_MODEL = ("galore", "apollo", "lomo", "adalomo")

_LEVELS = ("debug", "info", "warning", "error", "critical", "passive", "detail")
_STRATEGIES = tuple(each.value for each in IntervalStrategy)
_CHOICES: dict[str, tuple[str, ...]] = {
    "lr_scheduler_type": tuple(each.value for each in SchedulerType),
    "optim": tuple(each.value for each in OptimizerNames),
    "logging_strategy": _STRATEGIES,
    "eval_strategy": _STRATEGIES,
    "save_strategy": tuple(each.value for each in SaveStrategy),
    "log_level": _LEVELS,
    "log_level_replica": _LEVELS,
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
    "ddp_backend": ("nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl"),
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}

#: Argument -> valid entries of its list.
_ENTRIES = {
    "include_for_metrics": ("inputs", "loss"),
    "debug": tuple(each.value for each in DebugOption),
}

#: Mappings that may also be in a file.
_IN_FILES = ("accelerator_config", "fsdp_config", "deepspeed")

#: Arguments with types of their own -> check of a value, and the valid ones in words.
_SPECIAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "include_num_input_tokens_seen": (
        lambda value: isinstance(value, bool) or value in ("all", "non_padding", "no"),
        "true, false, all, non_padding or no",
    ),
    "trackio_static_space_id": (lambda value: value is False or isinstance(value, str), "a string or false"),
}

_FIELDS = {entry.name: entry for entry in dataclasses.fields(TrainingArguments) if entry.init}


def normalize_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with what YAML and the command line spell otherwise.

    False for a strategy is `"no"`; a whole number like `1e3` where an int is needed is an int; a mapping in
    JSON text is a mapping.
    """
    return {name: _normalize(name, value) for name, value in values.items()}


def _normalize(name: Any, value: Any) -> Any:
    if value is False and str(name).endswith("_strategy"):
        return "no"
    types = _types_of(name)
    if isinstance(value, float) and types == {"int"} and value.is_integer():
        return int(value)
    if name in ("adam_beta1", "adam_beta2") and type(value) is int:
        return float(value)  # torch refuses an int next to a float
    if isinstance(value, str) and "dict" in types and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value  # refused by `check_value`
    return value


def check_value(name: str, value: Any, where: str) -> None:
    """Raise E307 for a value that an argument cannot have, or that would fail or change its meaning later.

    Args:
        name: an argument of TrainingArguments.
        value: after `normalize_values`.
        where: place of the argument, for messages.
    """
    if isinstance(value, date):
        what = f"is the date {value}, and no argument takes a date"
        raise error("E307", where=where, what=what, fix="put it in quotes", detail="type")
    if value is None and _FIELDS[name].default in (None, dataclasses.MISSING):
        return
    _check_type(name, value, where)
    if is_number(value):
        _check_range(_RANGES.get(name, Range(-math.inf)), value, where)
    if name in _CHOICES and value not in _CHOICES[name]:
        raise not_a_choice("E307", where=where, value=value, choices=_CHOICES[name])
    for entry in value if isinstance(value, list) else str(value).split():
        if name in _ENTRIES and entry not in _ENTRIES[name]:
            raise not_a_choice("E307", where=where, value=entry, choices=_ENTRIES[name])
    if name == "gradient_checkpointing_kwargs":
        _check_names(value, signature(checkpoint).parameters, where)
    if name == "torch_compile_backend" and value not in (backends := torch._dynamo.list_backends(None)):
        raise not_a_choice("E307", where=where, value=value, choices=backends)


def _check_names(values: dict[str, Any], names: Collection[str], where: str) -> None:
    """Raise E307 for a name that an argument's mapping cannot have."""
    for name in values:
        if name not in names:
            what = "is not an option of it"
            raise error(
                "E307", where=f"{where}.{name}", what=what, fix=did_you_mean(name, names), detail="unknown"
            )


def _types_of(name: Any) -> set[str]:
    """Return the names of the types of an argument, without None; empty for an unknown argument."""
    return set(re.findall(r"\w+", str(_FIELDS[name].type))) - {"class", "None"} if name in _FIELDS else set()


def _check_type(name: str, value: Any, where: str) -> None:
    """Raise E307 for a value of the wrong type; transformers would accept most silently."""
    types = _types_of(name)
    if types == {"bool"} and not isinstance(value, bool):
        raise wrong_type("E307", where=where, value=value, expected="a boolean (true or false)")
    if types and types <= {"int", "float"} and not is_number(value):
        raise wrong_type("E307", where=where, value=value, expected="a number")
    if types == {"int"} and not isinstance(value, int):
        raise wrong_type("E307", where=where, value=value, expected="a whole number")
    if types == {"str"} and not isinstance(value, str):
        raise wrong_type("E307", where=where, value=value, expected="a string (in quotes)")
    if "dict" in types:
        _check_mapping(value, where, accepts_text=name in _IN_FILES)
    if name in _SPECIAL and not _SPECIAL[name][0](value):
        raise wrong_type("E307", where=where, value=value, expected=_SPECIAL[name][1])
    if "list" in types:
        _check_list(value, where, accepts_text=" list[" in str(_FIELDS[name].type))
    if name == "parallelism_config":
        fix = "leave it out: it cannot be written as text"
        raise error("E307", where=where, what="takes an object of accelerate", fix=fix, detail="type")


def _check_mapping(value: Any, where: str, *, accepts_text: bool) -> None:
    """Raise E307 unless a value is a mapping, or the path of a file that holds one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        raise error("E307", where=where, what="is not JSON", fix="write it as {name: value}", detail="type")
    if not isinstance(value, (dict, str) if accepts_text else dict):
        raise wrong_type("E307", where=where, value=value, expected="a mapping")
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        fix = "write names before the colons, in quotes if they could be read as something else"
        raise error(
            "E307", where=where, what=f"{value!r} has a name that is not text", fix=fix, detail="type"
        )


def _check_list(value: Any, where: str, *, accepts_text: bool) -> None:
    """Raise E307 unless a value is a list of strings, or, where that is accepted, one string."""
    entries = [value] if accepts_text and not isinstance(value, list) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        expected = "a string or a list of strings" if accepts_text else "a list of strings"
        raise wrong_type("E307", where=where, value=value, expected=expected)


def _check_range(valid: Range, value: float, where: str) -> None:
    """Raise E307 for a number that is not finite or outside its range."""
    if isinstance(value, float) and not math.isfinite(value):
        what = f"is {value!r}, not a finite number"
        raise error("E307", where=where, what=what, fix=valid.describe(), detail="range")
    if not valid.contains(value):
        raise error("E307", where=where, what=f"is {value!r}", fix=valid.describe(), detail="range")


def check_schedule(arguments: TrainingArguments) -> None:
    """Raise E307 for an optimizer or a learning rate schedule that cannot be built.

    Both are built on trial, for one weight: otherwise the Trainer builds them after all clips were measured.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    if not str(arguments.optim).startswith(_NEEDS_MODEL):
        with _refused_as(
            "optim_args" if arguments.optim_args else "optim",
            "change optim or optim_args, or install what it needs",
        ):
            kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
            if kind.__module__.startswith("torch."):
                kind([weight], **options)
    schedule_options: Any = arguments.lr_scheduler_kwargs or {}
    with _refused_as(
        "lr_scheduler_kwargs" if schedule_options else "lr_scheduler_type",
        "change lr_scheduler_kwargs, or use another schedule",
    ):
        optimizer = torch.optim.SGD([weight], lr=0.1)
        get_scheduler(arguments.lr_scheduler_type, optimizer, 1, 10, dict(schedule_options))


@contextmanager
def _refused_as(name: str, fix: str) -> Iterator[None]:
    """Raise E307 for `training.<name>` in place of any exception."""
    try:
        yield
    except Exception as problem:  # of torch, of transformers, and of the packages of optimizers
        what = f"cannot be used ({type(problem).__name__}: {short_reason(problem)})"
        raise error("E307", where=f"training.{name}", what=what, fix=fix, detail="choice") from problem
