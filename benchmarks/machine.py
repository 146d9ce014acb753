"""Description of the machine that a benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

#: Flags of Linux for instructions that decide the speed -> their names.
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "bf16",
    "avx512_vnni": "VNNI",
    "amx_bf16": "AMX",
}


def machine() -> str:
    """Return the processor, its instructions that decide the speed, and the number of cores."""
    return f"{_processor()}, {os.cpu_count()} cores"


def has_bfloat16() -> bool:
    """Return True if the processor has instructions for bfloat16, as far as Linux says."""
    return any(name in machine() for name in ("bf16", "AMX"))


def _processor() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    fields = {name.strip(): text.strip() for name, text in lines.items()}
    flags = set(fields.get("flags", "").split())
    names = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    return ", ".join([fields.get("model name", platform.machine()), *names])
