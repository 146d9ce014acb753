"""Instructions of the processor that decide which arithmetic is fast."""

from __future__ import annotations

import functools

import torch


@functools.cache
def capabilities() -> frozenset[str] | None:
    """Return the names of the processor's instructions, such as `avx512_vnni`; None if torch cannot say."""
    detect = getattr(torch.cpu, "get_capabilities", None)  # new in torch 2.11
    if detect is None:
        return None
    return frozenset(name for name, present in detect().items() if present is True)


def has_bfloat16() -> bool | None:
    """Return True if the processor multiplies bfloat16 (AVX512-BF16, AMX, Arm's); None if torch cannot say."""
    names = capabilities()
    return None if names is None else any("bf16" in name for name in names)


def has_vnni() -> bool:
    """Return True if the processor sums products of 8 bits in 32 bits, as far as torch can say."""
    return any("vnni" in name or name == "amx_int8" for name in capabilities() or ())
