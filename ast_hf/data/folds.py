"""The fold that becomes the split `test`."""

from __future__ import annotations

from typing import Any


def fold_name(value: Any) -> str:
    """1, "1" and 1.0 (how pandas writes a column that has gaps) are the same fold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else str(value)
