"""Conversion of numbers from numpy and torch to Python's own, which JSON can store."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def is_number(value: Any) -> bool:
    """Return True for an int or float, NaN and infinity included; a bool is not a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite_number(value: Any) -> bool:
    """Return True for a finite int or float; a bool, or an int above any float, is not one."""
    return is_number(value) and abs(value) <= sys.float_info.max


def plain_scalar(value: Any) -> Any:
    """Return a numpy number, 0-d array or 0-d tensor as a Python number, and any other value unchanged."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    torch = sys.modules.get("torch")
    if (
        torch is not None
        and isinstance(value, torch.Tensor)
        and value.ndim == 0
        and value.device.type != "meta"
    ):
        return value.item()
    return value


def plain_whole(value: Any) -> Any:
    """Return a whole number as a Python int, and any other value unchanged.

    16000.0, numpy and torch numbers, and arrays of one element count as whole numbers.
    """
    if getattr(value, "shape", ()) and value.shape in ((1,), (1, 1)):
        value = value.reshape(())
    value = plain_scalar(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
