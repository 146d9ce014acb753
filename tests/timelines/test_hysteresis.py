"""Hysteresis beside a direct reading of its rules, and what a single call for all thresholds gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ast_hf.timelines.hysteresis import HysteresisTracker, best_only, ranking_curve
from ast_hf.timelines.rules import TimelineRules

#: Scores on a coarse scale, so that values equal thresholds.
CURVES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(0, 40), st.integers(1, 4)),
    elements=st.integers(0, 10).map(lambda n: n / 10),
)
DURATIONS = st.integers(0, 6)


def found(
    curve: np.ndarray, rules: TimelineRules, cuts: list[int], exclusive: bool = False
) -> list[tuple[int, int, int, float]]:
    """Return the segments of a curve that comes in parts; a step is one second."""
    tracker = HysteresisTracker(rules, curve.shape[1], lambda step: step, 1, exclusive)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(curve)), len(curve)]
    segments = []
    for first, end in itertools.pairwise(edges):
        segments += [(segment, end) for segment in tracker.push(curve[first:end])]
    segments += [(segment, len(curve)) for segment in tracker.close()]
    assert all(segment.decided <= end for segment, end in segments)
    return [(one.start, one.end, one.number, one.score) for one, _ in segments]


def expected(curve: np.ndarray, rules: TimelineRules) -> list[tuple[int, int, int, float]]:
    """Return the segments by the rules, in the plainest way."""
    high, low = rules.thresholds(curve.shape[1])
    result = []
    for number in range(curve.shape[1]):
        column = curve[:, number]
        events: list[list[float]] = []
        step = 0
        while step < len(column):
            end = step
            while end < len(column) and column[end] >= low[number]:
                end += 1
            if end > step and column[step:end].max() >= high[number]:
                if events and step - events[-1][1] < rules.gap_seconds:
                    events[-1] = [events[-1][0], end, max(events[-1][2], column[step:end].max())]
                else:
                    events.append([step, end, column[step:end].max()])
            step = max(end, step + 1)
        result += [(int(a), int(b), number, s) for a, b, s in events if b - a >= rules.min_seconds]
    return sorted(result)


@settings(max_examples=200, deadline=None)
@given(
    CURVES, DURATIONS, DURATIONS, st.lists(st.integers(0, 40), max_size=6), st.sampled_from([0.3, 0.5, 0.7])
)
def test_a_stream_gives_what_the_rules_say(
    curve: np.ndarray, least: int, gap: int, cuts: list[int], low: float
) -> None:
    rules = TimelineRules(0.7, low, min_seconds=least, gap_seconds=gap)
    assert sorted(found(curve, rules, cuts)) == expected(curve, rules)
    assert found(curve, rules, cuts) == found(curve, rules, [])  # the order, too
    assert found(curve, rules, list(range(len(curve)))) == found(curve, rules, [])


@settings(max_examples=200, deadline=None)
@given(CURVES, DURATIONS, DURATIONS, st.lists(st.integers(0, 40), max_size=6))
def test_events_of_an_exclusive_model_never_overlap(
    curve: np.ndarray, least: int, gap: int, cuts: list[int]
) -> None:
    rules = TimelineRules(0.5, 0.3, min_seconds=least, gap_seconds=gap)
    segments = found(curve, rules, cuts, exclusive=True)
    assert segments == found(curve, rules, [], exclusive=True)
    assert segments == found(curve, rules, list(range(len(curve))), exclusive=True)
    ordered = sorted(segments)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(ordered))
    for number in range(curve.shape[1]):
        own = [segment for segment in ordered if segment[2] == number]
        assert all(right[0] - left[1] >= gap for left, right in itertools.pairwise(own))
    if gap == 0:
        assert ordered == expected(best_only(curve), rules)


def test_a_class_that_returns_soon_has_not_ended() -> None:
    curve = np.array([[0.9, 0.0]] * 4 + [[0.1, 0.8]] * 2 + [[0.9, 0.0]] * 4)
    rules = TimelineRules(0.5, min_seconds=0, gap_seconds=3)
    assert found(curve, rules, [], exclusive=True) == [(0, 10, 0, 0.9)]
    assert sorted(found(curve, rules, [])) == [(0, 10, 0, 0.9), (4, 6, 1, 0.8)]
    short = TimelineRules(0.5, min_seconds=0, gap_seconds=2)
    assert found(curve, short, [], exclusive=True) == [(0, 4, 0, 0.9), (4, 6, 1, 0.8), (6, 10, 0, 0.9)]


def test_a_long_event_does_not_delay_the_one_before_it() -> None:
    tracker = HysteresisTracker(
        TimelineRules(0.5, gap_seconds=2, min_seconds=0), 2, lambda step: step, 1, True
    )
    assert tracker.push(np.array([[0.9, 0.0]] * 3)) == []
    assert tracker.push(np.array([[0.1, 0.8]] * 2)) != []


@settings(max_examples=100, deadline=None)
@given(CURVES, st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.integers(1, 10))
def test_a_ranking_curve_holds_the_events_of_every_threshold(
    curve: np.ndarray, ratio: float, tenths: int
) -> None:
    threshold = (tenths - 0.5) / 10  # between values: products are not exact
    rules = TimelineRules(threshold, threshold * ratio, min_seconds=0, gap_seconds=0)
    active = np.zeros(curve.shape, bool)
    for start, end, number, _ in found(curve, rules, []):
        active[start:end, number] = True
    np.testing.assert_array_equal(ranking_curve(curve, ratio) >= threshold, active)


@pytest.mark.parametrize("gap", [1e6, 1e9])
def test_a_long_gap_is_no_loop(gap: float) -> None:
    rules = TimelineRules(0.5, gap_seconds=gap, min_seconds=0)
    assert found(np.array([[0.9], [0.0], [0.8]]), rules, []) == [(0, 3, 0, 0.9)]
