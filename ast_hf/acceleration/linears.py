"""Linear layers for inference, with weights in the order in which the processor reads them.

torch multiplies float32 matrices with MKL, which is slow on other processors than Intel's, and orders the weights anew
in each call. oneDNN, which is part of torch, does so once. Its operators are not public. Where they are missing, the
public functions compute the same, slower.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import torch
from torch import nn

from ..errors import error
from ..processor import has_vnni

#: Rows of the products that the order is chosen for: tokens of a clip of 10 s.
_ROWS = 1214
#: Difference between signed and unsigned codes.
_HALF = 128


class _Packed(nn.Module):
    """Layer whose weight is in no state dict, but for a digest, by which batches are recognised."""

    digest: torch.Tensor

    def get_extra_state(self) -> torch.Tensor:
        """Return the digest of kind, weight and bias, uint8 `(32,)`."""
        return self.digest

    def set_extra_state(self, state: object) -> None:
        """Raise E305: weights cannot be loaded into packed ones."""
        fix = "load them into a model, and optimise that"
        raise error("E305", where=type(self).__name__, what="the weights are packed for inference", fix=fix)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the layer itself: its weights never change, and torch cannot copy packed ones."""
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise E305: torch cannot store packed weights."""
        fix = "store the model that it was made of, and optimise that where it is loaded"
        raise error("E305", where=type(self).__name__, what="the weights are packed for inference", fix=fix)

    def _note(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        content = hashlib.sha256(type(self).__name__.encode())
        for tensor in (weight, bias):
            if tensor is not None:
                content.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        self.digest = torch.frombuffer(bytearray(content.digest()), dtype=torch.uint8)


class PackedLinear(_Packed):
    """Linear layer with its activation and the residual sum, for inference.

    Args:
        weight: `(outputs, inputs)`, float32 or bfloat16.
        bias: `(outputs,)`, or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self._note(weight, bias)
        self.is_packed = can_pack(weight.dtype)
        self.bias = None if bias is None else bias.detach().clone()
        plain = weight.detach().contiguous()
        self.weight = (
            torch.ops.mkldnn._reorder_linear_weight(plain, _ROWS) if self.is_packed else plain.clone()
        )

    def forward(
        self, inputs: torch.Tensor, *, gelu: bool = False, residual: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the product `(..., outputs)`, after GELU, plus `residual`; one of the two at most."""
        if not self.is_packed:
            outputs = nn.functional.linear(inputs, self.weight, self.bias)
            outputs = nn.functional.gelu(outputs) if gelu else outputs
            return outputs if residual is None else residual + outputs
        if residual is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(inputs, residual, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise(
            inputs, self.weight, self.bias, "gelu" if gelu else "none", [], "none"
        )


class Int8Linear(_Packed):
    """Linear layer in int8: one scale for each row of the weight, and one for each clip of the inputs.

    Args:
        weight: `(outputs, inputs)`.
        bias: `(outputs,)`, or None.
        dtype: dtype of the outputs, float32 or bfloat16.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self._note(weight, bias)
        values = weight.detach().float()
        self.dtype = dtype
        self.scales = (values.abs().amax(dim=1) / 127).clamp(min=1e-12)
        rounded = (values / self.scales[:, None]).round().to(torch.int8)
        self.is_packed = can_pack(torch.int8)
        self.weight = (
            torch.ops.onednn.qlinear_prepack(rounded, [_ROWS, values.shape[1]]) if self.is_packed else rounded
        )
        self.zeros = torch.zeros(len(values), dtype=torch.int32)
        self.bias = None if bias is None else bias.detach().float()
        #: Without VNNI, pairs of products are summed in 16 bits, which 8-bit inputs overflow.
        self.levels = 255 if has_vnni() else 127

    def forward(
        self, inputs: torch.Tensor, *, gelu: bool = False, residual: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the product `(clips, rows, outputs)`, after GELU, plus `residual`; one of the two at most.

        The codes of a clip depend on no other clip, so that its scores are the same in every batch.
        """
        outputs = torch.stack([self._product(*quantized(clip, self.levels), gelu=gelu) for clip in inputs])
        return outputs if residual is None else residual + outputs

    def _product(self, codes: torch.Tensor, scale: float, zero: int, *, gelu: bool) -> torch.Tensor:
        if self.is_packed:
            kind = "gelu" if gelu else "none"
            return torch.ops.onednn.qlinear_pointwise(
                *(codes, scale, zero, self.weight, self.scales, self.zeros, self.bias),
                *(1.0, 0, self.dtype, kind, [], "none"),
            )
        exact = nn.functional.linear(codes.float() - zero, self.weight.float()) * (scale * self.scales)
        outputs = exact if self.bias is None else exact + self.bias
        return (nn.functional.gelu(outputs) if gelu else outputs).to(self.dtype)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return `left @ right.T` by oneDNN, for tensors that `can_pack` is True for; both are contiguous."""
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "none")


def quantized(values: torch.Tensor, levels: int) -> tuple[torch.Tensor, float, int]:
    """Return 8-bit codes of some values, uint8, their scale and the code of zero.

    Args:
        values: float32 or bfloat16.
        levels: number of codes above 0, up to 255.

    Returns:
        Codes, scale and zero; with NaN or infinite values, a scale of NaN, which makes the product NaN.
    """
    low, high = (float(end) for end in torch.aminmax(values))
    if not math.isfinite(high - low):
        return torch.zeros_like(values, dtype=torch.uint8), math.nan, 0
    low = min(low, 0.0)
    scale = max((max(high, 0.0) - low) / (levels - 1), 1e-12)  # one step is left for rounding
    zero = round(-low / scale)
    scaled = values.to(torch.float32, copy=True).mul_(1 / scale).add_(zero - _HALF).round_()
    codes = scaled.to(torch.int8)  # several times as fast as to uint8
    return codes.view(torch.uint8).bitwise_xor_(_HALF), scale, zero


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return True if this build of torch has oneDNN's products for a dtype, and they are right."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return _products_agree(dtype)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):  # operators of other versions
        return False


def _products_agree(dtype: torch.dtype) -> bool:
    """Compare the operators with the public functions on a small product."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(16, 32, generator=generator) - 0.5
    weight = torch.rand(48, 32, generator=generator) - 0.5
    bias = torch.rand(48, generator=generator) - 0.5
    with torch.no_grad():
        if dtype == torch.int8:
            codes, scale, zero = quantized(inputs, 127)
            rounded = (weight * 127).round().to(torch.int8)
            packed = torch.ops.onednn.qlinear_prepack(rounded, [16, 32])
            scales = torch.full((48,), 1 / 127)
            zeros = torch.zeros(48, dtype=torch.int32)
            found = torch.ops.onednn.qlinear_pointwise(
                *(codes, scale, zero, packed, scales, zeros, bias),
                *(1.0, 0, torch.float32, "gelu", [], "none"),
            )
            exact = nn.functional.linear((codes.float() - zero) * scale, rounded.float() / 127, bias)
            return torch.allclose(found, nn.functional.gelu(exact), atol=1e-4)
        inputs, weight, bias = (tensor.to(dtype) for tensor in (inputs, weight, bias))
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
        exact = nn.functional.gelu(nn.functional.linear(inputs, weight, bias))
        found = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "gelu", [], "none")
        return torch.allclose(found.float(), exact.float(), atol=1e-5 if dtype == torch.float32 else 2e-2)
