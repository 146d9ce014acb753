"""Precision of a run's arithmetic: the recipe's `precision` as arguments of transformers' TrainingArguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .. import processor
from ..errors import AstHfError, error

#: Arguments of the two precisions that are not float32.
HALF_PRECISIONS = ("bf16", "fp16")
#: bf16, with the products of most linear layers in 8 bits, see `training.float8`.
FLOAT8 = "fp8"


def precision_values(precision: str | None, training: Mapping[str, Any]) -> dict[str, bool]:
    """Return `bf16` and `fp16` for a recipe's `precision`; empty for None, which leaves them to `training`.

    Args:
        precision: `"auto"`, `"float32"`, `"bf16"`, `"fp16"`, `"fp8"` (bf16 for the arguments) or None.
        training: the section of a recipe; `use_cpu` counts.
    """
    if precision is None:
        return {}
    if precision == "auto":
        precision = machine_precision(use_cpu=bool(training.get("use_cpu")))
    elif precision == FLOAT8:
        precision = "bf16"
    return {name: name == precision for name in HALF_PRECISIONS}


def default_precision(training: Mapping[str, Any]) -> str | None:
    """Return the precision of a recipe that has none: `"auto"` on a GPU with bfloat16; None leaves it to `training`.

    Args:
        training: the section of a recipe. It decides if it has `bf16`, `fp16` or `tf32`, and on a CPU.
    """
    if names_precision(training) or training.get("use_cpu") or not torch.accelerator.is_available():
        return None
    return "auto" if _gpu_has_bfloat16() else None


def names_precision(training: Mapping[str, Any]) -> bool:
    """Return True if the section `training` of a recipe has an argument of precision."""
    return any(name in training for name in (*HALF_PRECISIONS, "tf32"))


def machine_precision(*, use_cpu: bool = False) -> str:
    """Return `"bf16"` if the device of a run here has instructions for it, else `"float32"`.

    A GPU that only emulates bfloat16 (before NVIDIA's Ampere), Apple's GPUs, which hide whether they do, and a
    processor whose instructions torch cannot detect (before torch 2.11) count as without.
    """
    has_it = _gpu_has_bfloat16() if torch.accelerator.is_available() and not use_cpu else _cpu_has_bfloat16()
    return "bf16" if has_it else "float32"


def chosen_precision(arguments: Any) -> str:
    """Return the precision that TrainingArguments ask for: `"bf16"`, `"fp16"` or `"float32"`."""
    return next((name for name in HALF_PRECISIONS if getattr(arguments, name)), "float32")


def check_precision(precision: str | None, training: Mapping[str, Any], where: str) -> None:
    """Raise E307 if a recipe has a `precision`, and sets one in `training` too."""
    given = next((name for name in HALF_PRECISIONS if name in training), None)
    if precision is not None and given is not None:
        raise _conflict(where, precision, given, training[given])


def _conflict(where: str, precision: str, name: str, value: Any) -> AstHfError:
    what = f"is {precision!r}, and training.{name} is {str(value).lower()}"
    fix = f"use one of the two: leave out training.{name}, or set precision to null (--set precision=null)"
    return error("E307", where=f"{where}: precision", what=what, fix=fix, detail="conflict")


def has_bfloat16() -> bool:
    """Return True if the CPU has bfloat16 instructions (AVX512-BF16, AMX, Arm's) or this cannot be detected."""
    return processor.has_bfloat16() is not False


def _cpu_has_bfloat16() -> bool:
    return processor.has_bfloat16() is True


def _gpu_has_bfloat16() -> bool:
    return processor.gpu_has_bfloat16()
