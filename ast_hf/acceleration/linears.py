"""Linear layers for inference, with weights in the order in which the processor reads them.

torch multiplies float32 matrices with MKL, which is slow on other processors than Intel's, and orders the weights anew
in each call. oneDNN, which is part of torch, does so once. Its operators are not public. Where they are missing, the
public functions compute the same, slower.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
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

    def forward(self, inputs: torch.Tensor, *, gelu: bool = False) -> torch.Tensor:
        """Return the product `(..., outputs)` of a layer in one part, after GELU."""
        (outputs,) = self.parts(inputs, gelu=gelu)
        return outputs

    def parts(self, inputs: torch.Tensor, *, gelu: bool = False) -> Iterator[torch.Tensor]:
        """Yield the parts of the product, after GELU, `(..., outputs / parts)` each."""
        raise NotImplementedError

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
    """Linear layer with its activation, for inference.

    Args:
        weight: `(outputs, inputs)`, float32 or bfloat16.
        bias: `(outputs,)`, or None.
        parts: number of equal parts of the outputs that `parts` computes one after the other.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, parts: int = 1) -> None:
        super().__init__()
        self._note(weight, bias)
        self.is_packed = can_pack(weight.dtype)
        self.biases = _chunks(bias, parts)
        self.weights = [
            torch.ops.mkldnn._reorder_linear_weight(plain, _ROWS) if self.is_packed else plain
            for plain in weight.detach().clone().chunk(parts)
        ]

    def parts(self, inputs: torch.Tensor, *, gelu: bool = False) -> Iterator[torch.Tensor]:
        """Yield the parts of the product, after GELU, `(..., outputs / parts)` each."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            yield self._product(inputs, weight, bias, gelu=gelu)

    def _product(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool
    ) -> torch.Tensor:
        if self.is_packed:
            kind = "gelu" if gelu else "none"
            return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, kind, [], "none")
        outputs = nn.functional.linear(inputs, weight, bias)
        return nn.functional.gelu(outputs) if gelu else outputs


class Int8Linear(_Packed):
    """Linear layer in int8: one scale for each row of the weight, and one for each clip of the inputs.

    Args:
        weight: `(outputs, inputs)`.
        bias: `(outputs,)`, or None.
        dtype: dtype of the outputs, float32 or bfloat16.
        parts: number of equal parts of the outputs that `parts` computes one after the other.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype, parts: int = 1
    ) -> None:
        super().__init__()
        self._note(weight, bias)
        values = weight.detach().float()
        scales = (values.abs().amax(dim=1) / 127).clamp(min=1e-12)
        rounded = (values / scales[:, None]).round().to(torch.int8)
        self.dtype = dtype
        self.is_packed = can_pack(torch.int8)
        self.weights = [
            torch.ops.onednn.qlinear_prepack(part, [_ROWS, values.shape[1]]) if self.is_packed else part
            for part in rounded.chunk(parts)
        ]
        self.scales = scales.chunk(parts)
        self.zeros = torch.zeros(len(values) // parts, dtype=torch.int32)
        self.biases = _chunks(None if bias is None else bias.float(), parts)
        #: Without VNNI, pairs of products are summed in 16 bits, which 8-bit inputs overflow.
        self.levels = 255 if has_vnni() else 127

    def parts(self, inputs: torch.Tensor, *, gelu: bool = False) -> Iterator[torch.Tensor]:
        """Yield the parts of the product, after GELU, `(clips, rows, outputs / parts)` each.

        The codes of a clip depend on no other clip, so that its scores do not depend on its batch.
        """
        codes = [quantized(clip, self.levels) for clip in inputs]
        for weight, scales, bias in zip(self.weights, self.scales, self.biases, strict=True):
            yield torch.stack([self._product(*each, weight, scales, bias, gelu=gelu) for each in codes])

    def _product(
        self,
        codes: torch.Tensor,
        scale: float,
        zero: int,
        weight: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        gelu: bool,
    ) -> torch.Tensor:
        if self.is_packed:
            kind = "gelu" if gelu else "none"
            return torch.ops.onednn.qlinear_pointwise(
                *(codes, scale, zero, weight, scales, self.zeros, bias),
                *(1.0, 0, self.dtype, kind, [], "none"),
            )
        exact = nn.functional.linear(codes.float() - zero, weight.float()) * (scale * scales)
        outputs = exact if bias is None else exact + bias
        return (nn.functional.gelu(outputs) if gelu else outputs).to(self.dtype)


def _chunks(bias: torch.Tensor | None, parts: int) -> Sequence[torch.Tensor | None]:
    return [None] * parts if bias is None else bias.detach().clone().chunk(parts)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return `left @ right.T` by oneDNN, for tensors that `can_pack` is True for; `right` is contiguous."""
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "none")


def exponentials(left: torch.Tensor, right: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Return `exp(left @ right.T + added)` by oneDNN, for sums of -87 to -14; nothing is above 1.

    Args:
        left: `(M, K)`, of a dtype that `can_exponentiate` is True for.
        right: `(N, K)`, contiguous.
        added: float32 `(N,)`.
    """
    return torch.ops.mkldnn._linear_pointwise(left, right, added, "sigmoid", [], "none")


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


@functools.cache
def can_exponentiate(dtype: torch.dtype) -> bool:
    """Return True if this build of torch has the operator of `exponentials`, and it is accurate."""
    if not can_pack(dtype):
        return False
    try:
        with torch.no_grad():
            added = torch.linspace(-80.0, -16.0, 48)
            left, right = torch.full((16, 8), 0.25, dtype=dtype), torch.full((48, 8), 0.5, dtype=dtype)
            found = exponentials(left, right, added).double()
            tolerance = 1e-5 if dtype == torch.float32 else 1e-2
            return torch.allclose(found, torch.exp(added.double() + 1.0).expand(16, -1), tolerance, 0.0)
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
