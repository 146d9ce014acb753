"""Numbers of any library as Python's own, which JSON can hold."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def plain_scalar(value: Any) -> Any:
    """Return a numpy number, a 0-d array or a one-element tensor as the Python number it holds; anything else as is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor) and value.ndim == 0 and value.device.type != "meta":
        return value.item()
    return value


def plain_whole(value: Any) -> Any:
    """Return a whole number of any library, also 16000.0 and an array of one element, as a Python int."""
    if getattr(value, "shape", ()) and value.shape in ((1,), (1, 1)):
        value = value.reshape(())
    value = plain_scalar(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
