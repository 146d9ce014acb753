"""Resampled position tables and patch kernels, against the original, `F.interpolate` and plain algebra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, largest_gap
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from ast_hf import ASTConfig, AstInputError, ASTModel
from ast_hf.embeddings_ast import FactoredPositions
from ast_hf.weights import geometry as resampling
from ast_hf.weights.geometry import (
    cached_sampling,
    check_choices,
    resize_axis,
    resize_kernel,
    resize_positions,
    sample_axis,
    take,
)

DATA = Path(__file__).parent / "data"
CPU = torch.device("cpu")

#: The original rounds sampling positions to float32.
STRETCHED = 5e-5

#: The new grids of audioset_resize.npz (from 12 x 101) and deit_init_384.npz (from 24 x 24), in the files' order.
AUDIOSET_GRIDS = [(12, 101), (12, 50), (12, 12), (12, 9), (12, 119), (5, 50), (11, 29), (19, 12), (19, 149)]
IMAGENET_GRIDS = [
    (12, 101),
    (12, 50),
    (12, 12),
    (8, 64),
    (8, 8),
    (10, 85),
    (10, 42),
    (12, 9),
    (12, 24),
    (12, 25),
]
IMAGENET_GRIDS += [(12, 23), (11, 13), (5, 19), (15, 12), (29, 12), (29, 50), (12, 29)]

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**31)
properties = settings(max_examples=60, deadline=None)


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return random values in [-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(shape, generator=generator, dtype=dtype) - 1


def table(
    grid: tuple[int, int], channels: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    return uniform(1, 2 + grid[0] * grid[1], channels, seed=seed, dtype=dtype)


def as_grid(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return a table (1, 2 + F * T, C) as (F, T, C), without the special tokens."""
    return positions[0, 2:].reshape(*grid, -1)


def interpolated(positions: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """Return torch's bilinear stretching of the patches, (F', T', C), in the dtype of the table."""
    image = as_grid(positions, old).permute(2, 0, 1)[None]
    return F.interpolate(image, size=new, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


# The original


def assert_is_the_originals(
    name: str, source: str, case: int, old: tuple[int, int], new: tuple[int, int]
) -> None:
    with np.load(DATA / f"{name}.npz") as golden:
        expected = torch.from_numpy(golden[f"case{case}/position_embeddings"])
        positions = torch.from_numpy(golden[source])
        if expected.shape[-1] < positions.shape[-1]:
            positions = positions[..., [0, 4, 7, 11]]
    resized = resize_positions(positions, old, new)
    assert resized.shape == expected.shape == (1, 2 + new[0] * new[1], positions.shape[-1])
    assert torch.equal(resized[:, :2], positions[:, :2])
    assert largest_gap(resized, expected) <= (0 if new[0] <= old[0] and new[1] <= old[1] else STRETCHED)
    if new != old and new[0] * new[1] > 1:
        assert largest_gap(as_grid(expected, new).flip(0, 1), as_grid(expected, new)) > 0.1  # not symmetric


@pytest.mark.parametrize(("case", "grid"), list(enumerate(AUDIOSET_GRIDS)), ids=str)
def test_positions_of_the_audioset_model_at_other_sizes_match_the_original(
    case: int, grid: tuple[int, int]
) -> None:
    assert_is_the_originals("audioset_resize", "source/position_embeddings", case, (12, 101), grid)


@pytest.mark.parametrize(("case", "grid"), list(enumerate(IMAGENET_GRIDS)), ids=str)
def test_spectrogram_grids_from_a_square_one_match_the_original(case: int, grid: tuple[int, int]) -> None:
    assert_is_the_originals("deit_init_384", "timm/pos_embed", case, (24, 24), grid)


# By hand

BY_HAND = [
    ("stretch-2-to-4", 2, 4, {}, [0, 0.25, 0.75, 1]),
    ("stretch-2-to-3", 2, 3, {}, [0, 0.5, 1]),
    ("stretch-1-to-3", 1, 3, {}, [0, 0, 0]),
    ("same", 5, 5, {}, [0, 1, 2, 3, 4]),
    ("centre-5-to-2", 5, 2, {}, [1, 2]),
    ("centre-5-to-3", 5, 3, {}, [1, 2, 3]),
    ("centre-4-to-3", 4, 3, {}, [1, 2, 3]),
    ("centre-4-to-1", 4, 1, {}, [2]),
    ("start-5-to-2", 5, 2, {"cut": "start"}, [0, 1]),
    ("start-stretches-alike", 2, 4, {"cut": "start"}, [0, 0.25, 0.75, 1]),
    ("nearest-3-to-5", 3, 5, {"method": "nearest"}, [0, 0, 1, 1, 2]),
    ("nearest-cuts-too", 5, 3, {"method": "nearest"}, [1, 2, 3]),
    ("nearest-cuts-at-the-start", 5, 3, {"method": "nearest", "cut": "start"}, [0, 1, 2]),
    ("stretch-3-to-2", 3, 2, {"method": "stretch"}, [0.25, 1.75]),
    ("stretch-5-to-1", 5, 1, {"method": "stretch"}, [2]),
    ("stretch-2-to-4-by-name", 2, 4, {"method": "stretch"}, [0, 0.25, 0.75, 1]),
    ("stretch-same", 3, 3, {"method": "stretch"}, [0, 1, 2]),
]


@pytest.mark.parametrize(
    ("size", "count", "options", "expected"), [row[1:] for row in BY_HAND], ids=[row[0] for row in BY_HAND]
)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_coordinates_of_new_positions(
    size: int, count: int, options: dict, expected: list[float], dim: int
) -> None:
    shape = [1, 1, 1, 1]
    shape[dim] = size
    resized = resize_axis(torch.arange(float(size)).view(shape), dim, count, **options)
    shape[dim] = count
    assert torch.equal(resized, torch.tensor(expected, dtype=torch.float32).view(shape))


@pytest.mark.parametrize(
    ("size", "count", "start"),
    [
        (101, 50, 25),
        (101, 12, 44),
        (101, 9, 46),
        (24, 12, 6),
        (24, 23, 1),
        (24, 9, 8),
        (12, 5, 4),
        (12, 11, 1),
    ],
)
def test_the_centre_cut_matches_the_original(size: int, count: int, start: int) -> None:
    positions = uniform(1, size, 3)
    assert torch.equal(resize_axis(positions, 1, count), positions[:, start : start + count])


def test_a_table_is_frequency_major_and_its_special_tokens_stay() -> None:
    old, new = (6, 8), (4, 5)
    special, patches = uniform(1, 2, 3), uniform(6, 8, 3, seed=1)
    positions = torch.cat((special, patches.reshape(1, 48, 3)), dim=1)
    for cut, columns in (("centre", slice(2, 7)), ("start", slice(0, 5))):
        resized = resize_positions(positions, old, new, cut=cut)
        assert torch.equal(resized[:, :2], special)
        # mel bins are cut at the centre either way
        assert torch.equal(as_grid(resized, new), patches[1:5, columns])


# torch.nn.functional.interpolate


@pytest.mark.parametrize("new", [(12, 101), (13, 9), (1, 1), (7, 30), (29, 8), (24, 24)], ids=str)
@pytest.mark.parametrize("old", [(7, 8), (1, 3), (24, 24)], ids=str)
def test_stretching_is_bilinear_interpolation(old: tuple[int, int], new: tuple[int, int]) -> None:
    positions = table(old)
    stretched = as_grid(resize_positions(positions, old, new, method="stretch"), new)
    assert largest_gap(stretched, interpolated(positions, old, new)) <= STRETCHED
    assert largest_gap(stretched, interpolated(positions.double(), old, new)) <= 1e-6


@pytest.mark.parametrize("new", [(12, 101), (24, 36), (9, 25), (7, 24)], ids=str)
@pytest.mark.parametrize("old", [(7, 8), (1, 3), (5, 24)], ids=str)
def test_nearest_is_nearest_interpolation_where_an_axis_grows(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    positions = table(old)
    image = as_grid(positions, old).permute(2, 0, 1)[None]
    expected = F.interpolate(image, size=new, mode="nearest")[0].permute(1, 2, 0)
    assert torch.equal(as_grid(resize_positions(positions, old, new, method="nearest"), new), expected)


@properties
@given(old=st.tuples(SIZES, SIZES), more=st.tuples(st.integers(0, 60), st.integers(0, 60)), seed=SEEDS)
def test_growing_is_bilinear_for_any_sizes(old: tuple[int, int], more: tuple[int, int], seed: int) -> None:
    positions = table(old, seed=seed)
    new = (old[0] + more[0], old[1] + more[1])
    expected = interpolated(positions.double(), old, new)
    for method in ("adapt", "stretch"):
        assert (
            largest_gap(as_grid(resize_positions(positions, old, new, method=method), new), expected) <= 1e-6
        )


@properties
@given(size=SIZES, count=st.integers(1, 120), seed=SEEDS)
def test_shrinking_by_stretch_is_bilinear_too(size: int, count: int, seed: int) -> None:
    axis = uniform(1, 2, size, seed=seed)
    expected = F.interpolate(axis.double(), size=count, mode="linear", align_corners=False)
    assert largest_gap(resize_axis(axis, 2, count, method="stretch"), expected) <= 1e-6


@properties
@given(size=SIZES, count=st.integers(1, 200))
def test_nearest_takes_the_position_below_exactly(size: int, count: int) -> None:
    assume(count > size)
    taken = resize_axis(torch.arange(size), 0, count, method="nearest")  # whole numbers all the way
    assert taken.tolist() == [step * size // count for step in range(count)]


# Properties


@properties
@given(
    grid=st.tuples(SIZES, SIZES),
    method=st.sampled_from(["adapt", "nearest", "stretch"]),
    cut=st.sampled_from(["centre", "start"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_an_unchanged_grid_changes_nothing(
    grid: tuple[int, int], method: str, cut: str, dtype: torch.dtype
) -> None:
    positions = table(grid).to(dtype)
    resized = resize_positions(positions, grid, grid, method=method, cut=cut)
    assert resized.dtype == dtype
    assert torch.equal(resized, positions)


@properties
@given(size=SIZES, counts=st.tuples(SIZES, SIZES), method=st.sampled_from(["adapt", "nearest"]), seed=SEEDS)
def test_a_cut_is_a_slice(size: int, counts: tuple[int, int], method: str, seed: int) -> None:
    small, large = sorted(counts)
    assume(large <= size)
    axis = uniform(1, 2, size, seed=seed)
    for cut, start in (("centre", size // 2 - small // 2), ("start", 0)):
        resized = resize_axis(axis, 2, small, cut=cut, method=method)
        assert torch.equal(resized, axis[..., start : start + small])
        in_two_steps = resize_axis(resize_axis(axis, 2, large, cut=cut, method=method), 2, small, cut=cut)
        assert torch.equal(in_two_steps, resized)


@properties
@given(
    old=st.tuples(SIZES, SIZES),
    new=st.tuples(SIZES, SIZES),
    method=st.sampled_from(["adapt", "nearest", "stretch"]),
    cut=st.sampled_from(["centre", "start"]),
    value=st.floats(-100, 100, width=32),
)
def test_a_constant_stays_constant(
    old: tuple[int, int], new: tuple[int, int], method: str, cut: str, value: float
) -> None:
    resized = resize_positions(
        torch.full((1, 2 + old[0] * old[1], 1), value), old, new, method=method, cut=cut
    )
    assert torch.equal(resized, torch.full((1, 2 + new[0] * new[1], 1), value))


@properties
@given(size=SIZES, count=st.integers(1, 120), slope=st.floats(-3, 3), offset=st.floats(-3, 3))
def test_a_ramp_stays_a_ramp_between_its_ends(size: int, count: int, slope: float, offset: float) -> None:
    ramp = slope * torch.arange(size, dtype=torch.float64) + offset
    resized = resize_axis(ramp, 0, count, method="stretch")
    place = [min(max((step + 0.5) * size / count - 0.5, 0), size - 1) for step in range(count)]
    assert largest_gap(resized, slope * torch.tensor(place, dtype=torch.float64) + offset) <= 1e-5


@properties
@given(old=st.tuples(SIZES, SIZES), new=st.tuples(SIZES, SIZES), method=st.sampled_from(["adapt", "stretch"]))
def test_no_new_position_leaves_the_range_of_the_old_ones(
    old: tuple[int, int], new: tuple[int, int], method: str
) -> None:
    patches = as_grid(positions := table(old), old)
    resized = as_grid(resize_positions(positions, old, new, method=method), new)
    assert resized.amax() <= patches.amax() + 1e-6
    assert resized.amin() >= patches.amin() - 1e-6


@properties
@given(
    old=st.tuples(SIZES, SIZES),
    new=st.tuples(SIZES, SIZES),
    method=st.sampled_from(["adapt", "nearest", "stretch"]),
    cut=st.sampled_from(["centre", "start"]),
    seed=SEEDS,
)
def test_sums_of_factors_may_be_resized_before_or_after(
    old: tuple[int, int], new: tuple[int, int], method: str, cut: str, seed: int
) -> None:
    rows, columns = uniform(1, old[0], 1, 3, seed=seed), uniform(1, 1, old[1], 3, seed=seed + 1)
    sums = torch.cat((uniform(1, 2, 3), (rows + columns).flatten(1, 2)), dim=1)
    factors = FactoredPositions(sums, old)
    factors.resize(new, method=method, cut=cut)
    with torch.no_grad():
        assert largest_gap(factors(), resize_positions(sums, old, new, method=method, cut=cut)) <= 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["adapt", "nearest", "stretch"])
def test_half_precision_tables_are_resized_in_float32(method: str, dtype: torch.dtype) -> None:
    positions = table((5, 9)).to(dtype)
    resized = resize_axis(
        resize_axis(positions[:, 2:].unflatten(1, (5, 9)), 2, 14, method=method), 1, 3, method=method
    )
    assert resized.dtype == dtype
    along_time = resize_axis(positions[:, 2:].unflatten(1, (5, 9)).float(), 2, 14, method=method).to(dtype)
    assert torch.equal(resized, resize_axis(along_time.float(), 1, 3, method=method).to(dtype))
    assert torch.equal(
        resize_positions(positions, (5, 9), (3, 14), method=method)[:, 2:], resized.flatten(1, 2)
    )


def test_float64_tables_stay_float64() -> None:
    positions = table((5, 9), dtype=torch.float64)
    resized = resize_positions(positions, (5, 9), (8, 20))
    assert resized.dtype == torch.float64
    assert largest_gap(as_grid(resized, (8, 20)), interpolated(positions, (5, 9), (8, 20))) <= 1e-6
    assert torch.equal(
        as_grid(resize_positions(positions, (5, 9), (3, 4)), (3, 4)), as_grid(positions, (5, 9))[1:4, 2:6]
    )


# Sampling, of one clip and of many


@properties
@given(
    size=SIZES,
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    cut=st.sampled_from(["centre", "start"]),
    method=st.sampled_from(["adapt", "nearest", "stretch"]),
)
def test_clips_of_many_lengths_are_sampled_as_single_ones(
    size: int, counts: list[int], cut: str, method: str
) -> None:
    patches = uniform(1, 2, size, 3)
    longest = max(counts)
    sampling = sample_axis(size, torch.tensor(counts), longest, cut, method)
    for places in (sampling.low, sampling.high):
        assert places.dtype == torch.int64
        assert places.shape == (len(counts), longest)
        assert 0 <= places.min() <= places.max() < size
    together = take(patches, sampling, dim=2)
    assert together.shape == (len(counts), 2, longest, 3)
    for clip, count in zip(together, counts, strict=True):
        alone = take(patches, sample_axis(size, torch.tensor([count]), count, cut, method), dim=2)
        assert torch.equal(clip[:, :count], alone[0])
        assert torch.equal(alone, resize_axis(patches, 2, count, cut=cut, method=method))


def test_weights_interpolate_between_two_positions() -> None:
    low, high, weight = sample_axis(2, torch.tensor([4, 2, 1]), 4)
    assert (low[0].tolist(), high[0].tolist(), weight[0].tolist()) == (
        [0, 0, 0, 1],
        [1, 1, 1, 1],
        [0, 0.25, 0.75, 0.25],
    )
    assert (low[1, :2].tolist(), weight[1, :2].tolist()) == ([0, 1], [0, 0])
    assert (low[2, 0].item(), weight[2, 0].item()) == (1, 0)  # 2 // 2 - 1 // 2


@pytest.mark.parametrize("clips", [1, 3])
def test_half_precision_patches_are_sampled_in_their_own_type(clips: int) -> None:
    sampling = sample_axis(9, torch.tensor([14, 9, 5][:clips]), 14)
    patches = uniform(1, 2, 9, 3)
    sampled = take(patches.bfloat16(), sampling, dim=2)
    assert sampled.dtype == torch.bfloat16
    assert largest_gap(sampled, take(patches, sampling, dim=2)) <= 2**-6


@pytest.mark.parametrize("clips", [1, 2])
def test_gradients_reach_the_sampled_positions(clips: int) -> None:
    patches = torch.zeros(1, 1, 4, 1, requires_grad=True)
    take(patches, sample_axis(4, torch.tensor([2] * clips), 2), dim=2).sum().backward()
    assert (patches.grad.flatten() / clips).tolist() == [0, 1, 1, 0]  # 4 // 2 - 2 // 2 = 1
    patches.grad = None
    take(patches, sample_axis(4, torch.tensor([8] * clips), 8), dim=2).sum().backward()
    assert (patches.grad.flatten() / clips).tolist() == [2, 2, 2, 2]


# Cached samplings


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return an empty cache of samplings."""
    monkeypatch.setattr(resampling, "_SAMPLINGS", {})
    return resampling._SAMPLINGS


@pytest.mark.parametrize("cut", ["centre", "start"])
@pytest.mark.parametrize(("size", "count"), [(101, 50), (50, 101), (7, 7), (1, 5), (5, 1)])
def test_a_cached_sampling_equals_the_computed_one(memory: dict, size: int, count: int, cut: str) -> None:
    other = "start" if cut == "centre" else "centre"
    cached_sampling(size, count, other, CPU)
    cached_sampling(size + 1, count, cut, CPU)
    cached_sampling(size, count + 1, cut, CPU)
    expected = sample_axis(size, torch.tensor([count]), count, cut)
    first, again = cached_sampling(size, count, cut, CPU), cached_sampling(size, count, cut, CPU)
    for part, same, computed in zip(first, again, expected, strict=True):
        assert same is part
        assert part.dtype == computed.dtype
        assert torch.equal(part, computed)


def test_samplings_cached_in_inference_mode_work_in_training(memory: dict) -> None:
    patches = uniform(1, 3, 7, 2).requires_grad_()
    with torch.inference_mode():
        expected = take(patches, cached_sampling(7, 10, "start", CPU), dim=2).clone()
    sampling = cached_sampling(7, 10, "start", CPU)
    assert not any(part.is_inference() for part in sampling)
    sampled = take(patches, sampling, dim=2)
    assert torch.equal(sampled, expected)
    sampled.sum().backward()
    assert patches.grad.sum().item() == pytest.approx(3 * 10 * 2, abs=1e-3)
    assert patches.grad.min() > 0


def test_the_cache_is_bounded(memory: dict) -> None:
    for count in range(1, 600):
        cached_sampling(5, count, "start", CPU)
        assert len(memory) <= 256
    assert torch.equal(cached_sampling(5, 3, "start", CPU).low, torch.tensor([[0, 1, 2]]))


def test_fake_tensors_are_not_cached(memory: dict) -> None:
    with FakeTensorMode():
        cached_sampling(7, 10, "centre", CPU)
    assert type(cached_sampling(7, 10, "centre", CPU).weight) is torch.Tensor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_cache_ignores_the_default_dtype(memory: dict, dtype: torch.dtype) -> None:
    expected = sample_axis(7, torch.tensor([10]), 10).weight
    torch.set_default_dtype(dtype)
    try:
        cached_sampling(7, 10, "start", CPU)
    finally:
        torch.set_default_dtype(torch.float32)
    remembered = cached_sampling(7, 10, "start", CPU).weight
    assert remembered.dtype == torch.float32
    assert torch.equal(remembered, expected)


# Patch kernels


def answers(kernel: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Return the output of a kernel on patches of its size, `(patches, C)`, in float64."""
    return torch.einsum("cijk,nijk->nc", kernel.double(), patches.double())


def stretched(patches: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(patches, size=(size, size), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("old", "new"), [(16, 32), (8, 16), (14, 16), (16, 17), (5, 13), (1, 4), (16, 24)])
def test_a_larger_kernel_on_stretched_patches_matches_the_old_one(old: int, new: int, channels: int) -> None:
    kernel, patches = (
        uniform(4, channels, old, old),
        uniform(20, channels, old, old, seed=1, dtype=torch.float64),
    )
    resized = resize_kernel(kernel, new)
    assert resized.shape == (4, channels, new, new)
    expected = answers(kernel, patches)
    assert largest_gap(answers(resized, stretched(patches, new)), expected) <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("old", "new"), [(16, 8), (14, 9), (8, 7), (6, 1), (16, 15), (8, 16)])
def test_a_kernel_is_the_least_squares_optimum(old: int, new: int) -> None:
    kernel = uniform(3, 1, old, old, dtype=torch.float64)
    basis = torch.eye(old * old, dtype=torch.float64).view(-1, 1, old, old)
    resized = resize_kernel(kernel, new)
    expected = answers(kernel, basis)

    def lost(candidate: torch.Tensor) -> torch.Tensor:
        """Return the squared error over all patches, one number for each output."""
        return (answers(candidate, stretched(basis, new)) - expected).square().sum(dim=0)

    best = lost(resized)
    for seed in range(20):
        direction = F.normalize(uniform(3, new * new, seed=seed, dtype=torch.float64)).view(3, 1, new, new)
        for step in (1e-3, 0.1, -0.1):
            assert (lost(resized + step * direction) > best).all()
    matrix = stretched(basis, new).flatten(1)  # (old * old, new * new)
    solved = torch.linalg.lstsq(matrix, expected, driver="gelsd").solution.T.reshape(3, 1, new, new)
    assert largest_gap(resized, solved) <= 1e-4
    assert (best.sum() < 1e-8) == (new > old)


def test_the_same_size_is_the_same_kernel() -> None:
    kernel = uniform(4, 1, 16, 16)
    for method in ("flexivit", "bicubic"):
        assert resize_kernel(kernel, 16, method) is kernel


@pytest.mark.parametrize("new", [8, 14, 24])
def test_bicubic_is_plain_bicubic(new: int) -> None:
    kernel = uniform(4, 2, 16, 16)
    resized = resize_kernel(kernel, new, "bicubic")
    expected = F.interpolate(kernel, size=(new, new), mode="bicubic", align_corners=False, antialias=False)
    assert largest_gap(resized, expected) <= 1e-6
    assert largest_gap(resized, resize_kernel(kernel, new)) > 0.1


def test_only_flexivit_keeps_the_scale_of_tokens() -> None:
    ones = torch.ones(1, 1, 8, 8)
    # its response to a patch of ones
    assert resize_kernel(ones, 16).sum().item() == pytest.approx(64, rel=1e-5)
    assert resize_kernel(ones, 16, "bicubic").sum().item() == pytest.approx(256, rel=1e-5)


@pytest.mark.parametrize("method", ["flexivit", "bicubic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_kernels_keep_their_type(dtype: torch.dtype, method: str) -> None:
    kernel = uniform(2, 1, 8, 8).to(dtype)
    resized = resize_kernel(kernel, 12, method)
    assert resized.dtype == dtype
    assert largest_gap(resized, resize_kernel(kernel.float(), 12, method)) <= (
        1e-6 if dtype == torch.float64 else 0.02
    )


# Invalid choices

WRONG = [
    ("position_method", "adpat", "adapt"),
    ("position_method", "bilinear", "adapt, nearest, stretch"),
    ("position_method", None, "adapt, nearest, stretch"),
    ("position_cut", "center", "centre"),
    ("position_cut", "end", "centre, start"),
    ("kernel_method", "flexvit", "flexivit"),
    ("kernel_method", "linear", "bicubic, flexivit"),
]


@pytest.mark.parametrize(("name", "value", "fix"), WRONG)
@pytest.mark.parametrize("refuse", ["check", "model"])
def test_an_unknown_choice_is_refused(refuse: str, name: str, value: str, fix: str) -> None:
    model = ASTModel(ASTConfig(**TINY))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    call: Callable = (
        check_choices if refuse == "check" else lambda **chosen: model.resize_input(max_length=80, **chosen)
    )
    with pytest.raises(AstInputError) as caught:
        call(**{name: value})
    assert (caught.value.code, caught.value.where) == ("E108", name)
    assert repr(value) in str(caught.value)
    assert fix in caught.value.fix
    assert model.config.max_length == 64
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_valid_choices_are_accepted() -> None:
    for method in ("adapt", "nearest", "stretch"):
        for cut in ("start", "centre"):
            for kernel in ("flexivit", "bicubic"):
                check_choices(position_method=method, position_cut=cut, kernel_method=kernel)
