"""Placement of a command's model: device, precision and batch size that fit the machine."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..device_features import is_batched
from ..errors import error, not_a_choice
from ..processor import gpu_has_bfloat16
from .optimizing import PRECISIONS, optimize_for_inference

#: Clips, or windows, that a model takes at once by default. Eight of AST-base in bfloat16 are 5 ms of work for a large
#: GPU, less than the host needs to start their operations (a cost model, not measured: docs/concepts/speed.md).
_ON_A_CPU = 8
_ON_A_GPU = 64


class Placement(NamedTuple):
    """Where and in which precision a model computes.

    Attributes:
        device: of its weights.
        precision: of its arithmetic: "float32", "bfloat16", "float16", or "int8".
    """

    device: torch.device
    precision: str

    def __str__(self) -> str:
        """Return for example "on cuda in bfloat16"."""
        return f"on {self.device} in {self.precision}"


def default_device() -> torch.device:
    """Return the accelerator of this machine, or the CPU if there is none, as `pipeline` does."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if found is None else found


def default_batch_size(device: torch.device) -> int:
    """Return how many clips or windows a model takes at once if the user does not say: 8 on a CPU, 64 on a GPU."""
    return _ON_A_GPU if is_batched(device) else _ON_A_CPU


def check_precision(precision: Any, device: torch.device) -> None:
    """Raise E302 for a precision that does not exist, or that the device does not have."""
    if precision is not None and precision not in PRECISIONS:
        raise not_a_choice("E302", where="precision", value=precision, choices=PRECISIONS)
    if precision == "int8" and is_batched(device):
        what = f"'int8' is for the CPU, and the model is on {device}"
        fix = "use bfloat16, or hide the GPU (CUDA_VISIBLE_DEVICES=)"
        raise error("E302", where="precision", what=what, fix=fix)


def place(model: Any, device: torch.device, precision: str | None = None) -> tuple[Any, Placement]:
    """Return a classifier or ensemble on a device, in the precision that is asked for or that fits the device.

    Args:
        model: in the dtype of its file.
        device: where it computes.
        precision: see `PRECISIONS`. On a CPU a faster copy, see `optimize_for_inference`, and None for the model as it
            is. On a GPU the dtype of the weights: `"auto"` is bfloat16 where the GPU has it, else float32. None does
            the same to weights in float32, and leaves others, and quantised models, as they are.

    Raises:
        AstConfigError: E302 for a precision that is not possible.
    """
    check_precision(precision, device)
    if precision is not None and getattr(model, "is_quantized", False):
        what = f"{precision!r} is for weights that are not quantised, and these are"
        raise error("E302", where="precision", what=what, fix="leave it out")
    if is_batched(device):
        dtype = _gpu_dtype(model, precision)
        model = model.to(device) if dtype is None else model.to(device, dtype)
    elif precision is None:
        model = model if model.device == device else model.to(device)
    else:
        model = optimize_for_inference(model.to(device).float(), precision)
    name = "int8" if precision == "int8" else str(model.dtype).removeprefix("torch.")
    return model, Placement(device, name)


def _gpu_dtype(model: Any, precision: str | None) -> torch.dtype | None:
    """Return the dtype of the weights on a GPU; None for the one that they have."""
    if precision in ("float32", "bfloat16"):
        return torch.float32 if precision == "float32" else torch.bfloat16
    if getattr(model, "is_quantized", False) or (precision is None and model.dtype != torch.float32):
        return None
    return torch.bfloat16 if gpu_has_bfloat16() else torch.float32
