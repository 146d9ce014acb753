"""Resampling of position embeddings and of the patch kernel for another input size, stride or patch size.

Position embeddings are a table `(1, 2 + F * T, C)`: the class and distillation tokens, then the patches of an
F x T grid, frequency-major (mel axis outside, time inside). `docs/concepts/positions.md` shows the rules as a
picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ..configuration_ast import POSITION_CUTS
from ..errors import not_a_choice

#: How positions follow a changed grid: the original's rule (`ast_models.py`: cut where the new axis is
#: shorter, stretch bilinearly where it is longer), the same with nearest neighbours (the paper's table 4), or
#: stretch both ways.
POSITION_METHODS = ("adapt", "nearest", "stretch")
KERNEL_METHODS = ("flexivit", "bicubic")

#: Patches along (frequency, time).
Grid = tuple[int, int]

_CHOICES = {
    "position_method": POSITION_METHODS,
    "position_cut": POSITION_CUTS,
    "kernel_method": KERNEL_METHODS,
}


def check_choices(**chosen: str) -> None:
    """Raise E108 for a method that does not exist; the message names the argument."""
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise not_a_choice("E108", where=name, value=value, choices=_CHOICES[name])


class Sampling(NamedTuple):
    """Source of each new position on an axis: between the old `low` and `high`, at `weight` of the way."""

    low: torch.Tensor  # int64 (clips, length), as is `high`
    high: torch.Tensor
    weight: torch.Tensor  # float32 (clips, length), 0 where a position is copied


def sample_axis(
    size: int, counts: torch.Tensor, length: int, cut: str = "centre", method: str = "adapt"
) -> Sampling:
    """Return the sources of new positions on an axis of `size` old ones.

    `F.interpolate(mode="bilinear", align_corners=False)` samples at `(i + 1/2) * size / count - 1/2`, rounded
    to float32. These are the same places in whole-number arithmetic, without rounding.

    Args:
        size: positions on the old axis.
        counts: int64 `(clips,)`, number of positions of each clip on the new axis.
        length: positions to sample for every clip; those beyond its count are arbitrary.
        cut: one of `POSITION_CUTS`.
        method: one of `POSITION_METHODS`.
    """
    step = torch.arange(length, device=counts.device)
    counts = counts[:, None]
    if method == "nearest":
        low = step * size // counts
        weight = torch.zeros((), dtype=torch.float32, device=counts.device)
    else:
        twice = ((2 * step + 1) * size - counts).clamp(min=0)
        low = twice // (2 * counts)
        weight = (twice - low * 2 * counts).to(torch.float32) / (2 * counts).to(torch.float32)
    is_copied = counts == size if method == "stretch" else counts <= size
    start = torch.zeros_like(counts) if cut == "start" else size // 2 - counts // 2
    low = torch.where(is_copied, start + step, low).clamp(0, size - 1)
    return Sampling(low, (low + 1).clamp(max=size - 1), torch.where(is_copied, 0.0, weight))


#: (size, count, cut, device) -> sampling of one axis. Weights do not enter, so entries never become stale.
_SAMPLINGS: dict[tuple[int, int, str, torch.device], Sampling] = {}
_MAX_SAMPLINGS = 256


def cached_sampling(size: int, count: int, cut: str, device: torch.device) -> Sampling:
    """Return `sample_axis` for clips that all have `count` positions; the result is cached per length."""
    if torch.compiler.is_compiling():  # a dictionary lookup would compile the graph for one length only
        return sample_axis(size, torch.full((1,), count, device=device), length=count, cut=cut)
    key = (size, count, cut, device)
    if key not in _SAMPLINGS:
        with torch.inference_mode(False):  # tensors made in inference mode cannot be used in training later
            sampling = sample_axis(size, torch.tensor([count], device=device), count, cut)
        if type(sampling.low) is not torch.Tensor:  # a tracer's
            return sampling
        if len(_SAMPLINGS) >= _MAX_SAMPLINGS:
            _SAMPLINGS.clear()
        _SAMPLINGS[key] = sampling
    return _SAMPLINGS[key]


def take(patches: torch.Tensor, sampling: Sampling, dim: int) -> torch.Tensor:
    """Sample one axis of `(1, F, T, C)`; `(clips, F, T', C)` for several clips, along time only."""
    low, high, weight = sampling
    if len(low) > 1:
        lower, upper = (patches[0, :, places].transpose(0, 1) for places in (low, high))  # (clips, F, T', C)
        return torch.lerp(lower, upper, weight[:, None, :, None].to(patches.dtype))
    shape = [1] * patches.ndim
    shape[dim] = -1
    lower = patches.index_select(dim, low[0])
    upper = patches.index_select(dim, high[0])
    return torch.lerp(lower, upper, weight[0].view(shape).to(patches.dtype))


def resize_axis(
    patches: torch.Tensor, dim: int, count: int, *, cut: str = "centre", method: str = "adapt"
) -> torch.Tensor:
    """Return a tensor with `count` positions along one axis; computed in float32 or better."""
    counts = torch.tensor([count], device=patches.device)
    sampling = sample_axis(patches.shape[dim], counts, count, cut, method)
    wide = patches if patches.dtype == torch.float64 else patches.float()
    return take(wide, sampling, dim).to(patches.dtype)


def resize_positions(
    table: torch.Tensor, old: Grid, new: Grid, *, method: str = "adapt", cut: str = "centre"
) -> torch.Tensor:
    """Return a position table for another grid: `(1, 2 + F * T, C)` to `(1, 2 + F' * T', C)`.

    Time is resampled first, then frequency; the two special tokens are copied (the original's
    `ast_models.py`). `cut` is the part of the time axis to keep if the new one is shorter; the mel axis is
    always cut at the centre.
    """
    patches = table[:, 2:].unflatten(1, old)  # (1, F, T, C)
    patches = resize_axis(patches, 2, new[1], cut=cut, method=method)
    patches = resize_axis(patches, 1, new[0], method=method)
    return torch.cat((table[:, :2], patches.flatten(1, 2)), dim=1)


def resize_kernel(weight: torch.Tensor, size: int, method: str = "flexivit") -> torch.Tensor:
    """Return a patch kernel `(C, channels, P, P)` for `size` x `size` patches.

    `"flexivit"` takes the kernel whose output for a stretched patch is nearest to the old kernel's output for
    the patch: the pseudo-inverse of bilinear stretching (arXiv 2212.08013, section 3.4). For a larger size
    the outputs are equal. `"bicubic"` stretches the kernel as an image, which scales every token by about the
    ratio of the patch areas.
    """
    if weight.shape[-1] == size and weight.shape[-2] == size:
        return weight
    if method == "bicubic":
        image = weight.float()
        stretched = nn.functional.interpolate(image, (size, size), mode="bicubic", align_corners=False)
        return stretched.to(weight.dtype)
    rows, columns = (_pseudo_inverse(old, size).to(weight.device) for old in weight.shape[-2:])
    return (rows @ weight.double() @ columns.T).to(weight.dtype)


def _pseudo_inverse(old: int, new: int) -> torch.Tensor:
    """Return the float64 matrix `(new, old)` that adapts one axis of a kernel to patches of `new` samples."""
    stretch = resize_axis(torch.eye(old, dtype=torch.float64), 0, new, method="stretch")
    return torch.linalg.pinv(stretch.T)
