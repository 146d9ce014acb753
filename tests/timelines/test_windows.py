"""Windows of a recording: every sample is covered, none is invented, and the cut of the stream does not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ast_hf import AstInputError
from ast_hf.log_mel import num_frames, num_samples
from ast_hf.timelines.windows import WindowCutter, WindowPlan, plan_windows, window_starts, windows_of

RATE = 16_000
#: Small sizes, so that many windows and borders are drawn.
PLANS = st.integers(1, 40).flatmap(
    lambda samples: st.builds(
        WindowPlan,
        samples=st.just(samples),
        hop=st.integers(1, samples),
        frames=st.just(1),
        slack=st.integers(0, 5),
        rate=st.just(RATE),
    )
)


def cut(samples: np.ndarray, plan: WindowPlan, sizes: list[int]) -> list[Any]:
    """Return the windows of samples that arrive in pieces of these sizes, repeated."""
    blocks: list[np.ndarray] = []
    start = 0
    while start < len(samples):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(samples[start : start + size])
        start += size
    return list(windows_of(iter(blocks), plan))


@given(length=st.integers(1, 300), plan=PLANS)
@example(length=10, plan=WindowPlan(10, 10, 1, 0, RATE))
@example(length=11, plan=WindowPlan(10, 10, 1, 0, RATE))
@example(length=11, plan=WindowPlan(10, 10, 1, 1, RATE))
@example(length=20, plan=WindowPlan(10, 10, 1, 0, RATE))
def test_every_sample_is_covered_and_none_after_the_end(length: int, plan: WindowPlan) -> None:
    windows = cut(np.arange(length), plan, [7])
    covered = np.zeros(length, int)
    for window in windows:
        assert np.array_equal(window.samples, np.arange(window.start, window.start + len(window.samples)))
        covered[window.start : window.start + len(window.samples)] += 1
    assert covered.min() >= 1
    assert [window.start for window in windows] == window_starts(length, plan)
    assert [window.is_last for window in windows] == [False] * (len(windows) - 1) + [True]
    assert windows[-1].start + len(windows[-1].samples) == length
    starts = [window.start for window in windows]
    assert starts == sorted(set(starts))
    assert max(np.diff(starts), default=0) <= plan.hop
    assert all(start % plan.hop == 0 for start in starts[:-1])
    if len(windows) > 1:
        assert {len(window.samples) for window in windows} == {plan.samples}
    assert (len(windows) == 1) == (length <= plan.samples + plan.slack)


@given(length=st.integers(1, 300), plan=PLANS, sizes=st.lists(st.integers(1, 120), min_size=1, max_size=6))
def test_the_windows_are_the_same_for_any_pieces(length: int, plan: WindowPlan, sizes: list[int]) -> None:
    samples = np.arange(length)
    whole = cut(samples, plan, [length])
    pieces = cut(samples, plan, sizes)
    assert [(window.start, window.samples.tolist()) for window in pieces] == [
        (window.start, window.samples.tolist()) for window in whole
    ]


@given(plan=PLANS, sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5))
@settings(max_examples=30)
def test_a_window_is_cut_as_soon_as_it_is_complete(plan: WindowPlan, sizes: list[int]) -> None:
    """One sample more than the window (and the slack of a single one) decides that it is not the last."""
    cutter = WindowCutter(plan)
    seen = 0
    for size in sizes * 4:
        starts = [window.start for window in cutter.push(np.zeros(size))]
        seen += len(starts)
        complete = len(range(0, cutter.length - plan.samples, plan.hop))
        assert seen == (complete if cutter.length > plan.samples + plan.slack else 0)


def test_memory_of_a_stream_is_bounded() -> None:
    plan = WindowPlan(100, 30, 1, 5, RATE)
    cutter = WindowCutter(plan)
    for _ in range(200):
        list(cutter.push(np.zeros(17)))
        assert sum(len(piece) for piece in cutter._pieces) <= plan.samples + plan.hop + 17


def test_samples_of_a_window_stay_as_they_were() -> None:
    """Later pieces do not overwrite windows that were returned."""
    windows = cut(np.arange(50), WindowPlan(10, 3, 1, 0, RATE), [4])
    assert all(np.array_equal(window.samples, window.start + np.arange(10)) for window in windows)


# Sizes


@given(
    max_frames=st.integers(16, 2_000),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    share=st.floats(0.0, 1.0),
    hop_share=st.floats(0.01, 1.0),
)
def test_a_plan_fits_the_model(max_frames: int, rate: int, share: float, hop_share: float) -> None:
    least = num_samples(16, rate) / rate
    window = least + share * (max_frames / 100 - least)
    hop = window * hop_share
    plan = plan_windows(max_frames, rate, window, hop, min_frames=16)
    assert 16 <= plan.frames <= max_frames
    assert plan.frames == num_frames(plan.samples, rate) == num_frames(plan.samples + plan.slack, rate)
    assert num_frames(plan.samples + plan.slack + 1, rate) == plan.frames + 1
    # n frames last from 10 n to 10 n + 15 ms; at 22,050 Hz their step is 9.977 ms
    assert abs(plan.samples / rate - window) <= 0.042 + 0.0025 * window
    assert abs(plan.hop / rate - hop) <= 0.042 + 0.0025 * window
    assert 1 <= plan.hop <= plan.samples


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("frames", [16, 998, 1024])
def test_the_default_window_is_the_models(frames: int, rate: int) -> None:
    plan = plan_windows(frames, rate)
    assert plan == plan_windows(frames, rate, frames / 100)
    assert plan.frames == frames == num_frames(plan.samples, rate)
    assert num_frames(plan.samples - 1, rate) == frames - 1
    assert num_frames(plan.samples + plan.slack, rate) == frames
    assert num_frames(plan.samples + plan.slack + 1, rate) == frames + 1
    assert plan.hop == plan.samples


@pytest.mark.parametrize(("overlap", "share"), [(0.0, 1.0), (0.5, 0.5), (0.75, 0.25)])
def test_the_default_hop_follows_the_overlap(overlap: float, share: float) -> None:
    plan = plan_windows(1024, RATE, overlap=overlap)
    assert plan.hop == round(share * plan.samples)
    assert plan_windows(1024, RATE, 5.0, overlap=overlap).hop == round(share * 80_000)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_a_hop_as_long_as_the_models_window_is_the_window(rate: int) -> None:
    """10.24 s, which people write, although 1,024 frames last 10.255 s at 16 kHz and 10.232 s at 22.05 kHz."""
    for window in (None, 10.24):
        plan = plan_windows(1024, rate, window, hop_seconds=10.24)
        assert plan.samples - 0.016 * rate <= plan.hop <= plan.samples


NOT_SECONDS = [0, 0.0, -1, -0.5, float("nan"), float("inf"), -float("inf"), True, False, "1", "", [1.0], None]


@pytest.mark.parametrize("value", NOT_SECONDS[:-1], ids=repr)
@pytest.mark.parametrize("name", ["window_seconds", "hop_seconds"])
def test_a_duration_is_a_finite_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(AstInputError, match=rf"E108\] {name}: .*is not a duration"):
        plan_windows(1024, RATE, **{name: value})


@pytest.mark.parametrize("window", [10.27, 11, 3_600, 10**30, 1.7e308])
def test_a_window_above_the_models_is_refused(window: float) -> None:
    with pytest.raises(AstInputError, match=r"E108\] window_seconds: .*10\.24"):
        plan_windows(1024, RATE, window)


@pytest.mark.parametrize("window", [1e-9, 0.02, 0.1, 0.174])
def test_a_window_below_a_patch_is_refused(window: float) -> None:
    """16 frames last 175 ms."""
    with pytest.raises(AstInputError, match=r"E108\] window_seconds: .*0\.175"):
        plan_windows(1024, RATE, window, min_frames=16)
    assert plan_windows(1024, RATE, 0.175, min_frames=16).frames == 16


@pytest.mark.parametrize(
    ("window", "hop"), [(None, 10.3), (None, 60), (2.0, 2.1), (2.0, 1.7e308), (2.0, 1e-9), (None, 1e-5)]
)
def test_a_hop_above_the_window_or_below_a_sample_is_refused(window: float | None, hop: float) -> None:
    with pytest.raises(AstInputError, match=r"E108\] hop_seconds: .*between 1 sample and the window"):
        plan_windows(1024, RATE, window, hop)
