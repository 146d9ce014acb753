"""Memory that is available to this process: of the machine, or of its control group if that has less."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def available_memory() -> int:
    """Return the bytes that this process can still use without swapping.

    Containers and batch systems limit memory by control groups of Linux (version 2), which psutil does not
    read; the smallest limit of this process's group and those above it counts.
    """
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError):
        for line in _OWN_GROUP.read_text(encoding="ascii").splitlines():
            if line.startswith("0::"):
                group = _GROUPS / line[3:].lstrip("/")
                groups = [folder for folder in (group, *group.parents) if folder.is_relative_to(_GROUPS)]
                available = min([available, *map(_left_in_group, groups)])
    return max(available, 0)


def _left_in_group(group: Path) -> float:
    """Return the bytes that a control group's limit leaves, infinity without a limit."""
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return float("inf")
        used = int((group / "memory.current").read_text(encoding="ascii"))
        statistics = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return float("inf")
    # Cached files count as used, and are given back when memory is needed.
    cached = sum(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
    return int(limit) - used + cached
