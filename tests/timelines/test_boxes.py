"""Change-detection boxes: edges at the steepest changes, whatever the threshold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ast_hf.timelines.boxes import box_segments, slope
from ast_hf.timelines.rules import TimelineRules

STEPS_PER_SECOND = 20


def found(
    curve: np.ndarray, exclusive: bool = False, **rules: float
) -> list[tuple[float, float, int, float]]:
    """Return the boxes of a curve with steps of 50 ms, times in seconds."""
    values = curve[:, None] if curve.ndim == 1 else curve
    given = TimelineRules(method="boxes", **({"min_seconds": 0.0, "gap_seconds": 0.0} | rules))  # type: ignore[arg-type]
    bounds = np.arange(len(values) + 1) * 50
    boxes = box_segments(values, given, bounds, 1_000, exclusive)
    return [
        (box.start / STEPS_PER_SECOND, box.end / STEPS_PER_SECOND, box.number, box.score) for box in boxes
    ]


def steps(*parts: tuple[float, float]) -> np.ndarray:
    """Return a curve of (seconds, score) parts."""
    return np.concatenate([np.full(round(seconds * STEPS_PER_SECOND), score) for seconds, score in parts])


def ramp(seconds: float, start: float, end: float) -> np.ndarray:
    return np.linspace(start, end, round(seconds * STEPS_PER_SECOND))


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.6, 0.75])
def test_the_edges_are_at_the_steepest_changes_for_every_threshold(threshold: float) -> None:
    curve = np.concatenate(
        (ramp(2, 0.0, 0.1), ramp(0.4, 0.1, 0.8), ramp(3, 0.8, 0.9), ramp(0.4, 0.9, 0.0), ramp(2, 0, 0))
    )
    ((start, end, _, score),) = found(curve, threshold=threshold)
    assert start == pytest.approx(2.2, abs=0.11)
    assert end == pytest.approx(5.6, abs=0.11)
    assert score == pytest.approx(0.9)


def test_a_step_is_found_exactly() -> None:
    assert found(steps((1, 0.02), (1.5, 0.9), (1, 0.02))) == [(1.0, 2.5, 0, 0.9)]


def test_a_deep_valley_parts_two_boxes_and_a_shallow_one_does_not() -> None:
    deep = steps((1, 0), (1, 0.9), (1, 0.3), (1, 0.8), (1, 0))
    shallow = steps((1, 0), (1, 0.9), (1, 0.7), (1, 0.8), (1, 0))
    assert [box[:2] for box in found(deep)] == [(1.0, 2.0), (3.0, 4.0)]
    assert [box[:2] for box in found(shallow)] == [(1.0, 4.0)]
    assert [box[:2] for box in found(deep, box_gap=0.7, box_ratio=0.3)] == [(1.0, 4.0)]
    low = steps((1, 0), (1, 0.9), (1, 0.01), (1, 0.1), (1, 0))  # a low bump is no part of the peak
    assert [box[:2] for box in found(low)] == [(1.0, 2.0)]
    assert [box[:2] for box in found(deep, gap_seconds=1.5)] == [(1.0, 4.0)]
    assert [box[:2] for box in found(shallow, box_gap=0.0, box_ratio=1.0)] == [(1.0, 2.0), (3.0, 4.0)]


def test_a_box_is_scored_by_its_mean_and_reports_its_peak() -> None:
    curve = steps((1, 0), (0.2, 0.9), (1.8, 0.35), (1, 0))
    assert found(curve, threshold=0.5, box_gap=1.0) == []
    assert found(curve, threshold=0.4, box_gap=1.0) == [(1.0, 3.0, 0, 0.9)]


@pytest.mark.parametrize("curve", [steps((2, 0)), steps((2, 0.9)), np.zeros(0), steps((0.05, 0.9))])
def test_constant_curves(curve: np.ndarray) -> None:
    full = [(0.0, len(curve) / STEPS_PER_SECOND, 0, 0.9)] if curve.any() else []
    assert found(curve) == full


def test_the_slope_is_the_mean_after_less_the_mean_before() -> None:
    assert slope(np.array([0.0, 0.0, 1.0, 1.0]), 2).tolist() == [0.0, 0.5, 1.0, 0.0, -1.0]


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(np.float64, st.tuples(st.integers(0, 80), st.integers(1, 3)), elements=st.floats(0, 1)),
    st.booleans(),
)
def test_boxes_are_apart_and_inside_of_the_recording(curve: np.ndarray, exclusive: bool) -> None:
    boxes = found(curve, exclusive, threshold=0.4, gap_seconds=0.1, min_seconds=0.1)
    length = len(curve) / STEPS_PER_SECOND
    for start, end, _, score in boxes:
        assert 0 <= start < end <= length
        assert end - start >= 0.1 - 1e-9
        assert score >= 0.4
    for number in range(curve.shape[1]):
        own = [box for box in boxes if exclusive or box[2] == number]
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(sorted(own)))
