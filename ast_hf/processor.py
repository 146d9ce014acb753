"""Instructions of the processor, and of a GPU, that decide which arithmetic is fast."""

from __future__ import annotations

import torch

from .errors import warn_once

#: Measured with AST-base on a processor with AVX2, stock and ours alike.
SLOW_BFLOAT16 = (
    "this processor has no bfloat16 instructions, so float32 would be faster: 6.5 times for AST-base"
)


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


def gpu_has_bfloat16() -> bool:
    """Return True if the accelerator computes bfloat16 in hardware; Apple's GPUs, which hide it, count as without."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    from transformers.utils import is_torch_bf16_gpu_available

    return bool(is_torch_bf16_gpu_available())


def has_vnni() -> bool:
    """Return True if the processor sums products of 8 bits in 32 bits, as far as torch can say."""
    return any("vnni" in name or name == "amx_int8" for name in capabilities() or ())


def warn_of_slow_bfloat16(where: str, dtype: torch.dtype | None, device: torch.device) -> None:
    """Warn (W408), once per process, if bfloat16 is computed on a processor without instructions for it.

    Args:
        where: what has this dtype, for the message.
        dtype: of the weights; None if it is unknown.
        device: where they are.
    """
    if dtype == torch.bfloat16 and device.type == "cpu" and has_bfloat16() is False:
        warn_once("W408", where=where, what=SLOW_BFLOAT16, stacklevel=3)
