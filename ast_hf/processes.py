"""Place of this process among those of a run."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Return True on rank 0, the only process that prints and writes files. Launchers set RANK."""
    return int(os.environ.get("RANK", "0")) == 0
