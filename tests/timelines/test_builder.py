"""Windows become events: each sound once, at its times, the same ones for any cut of the stream."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_hf.timelines.builder import TimelineBuilder, curve_events, score_curve, sorted_events
from ast_hf.timelines.curves import Columns, CurveBuilder, grid_of
from ast_hf.timelines.events import Event
from ast_hf.timelines.levels import FLOOR_DB, window_levels
from ast_hf.timelines.rules import TimelineRules
from ast_hf.timelines.windows import WindowPlan, plan_windows, window_starts

from .detectors import RATE, Detector, PushedWindow, Sound, plan_of, proportional, touching, windows


def timeline(
    pushed: list[PushedWindow], plan: WindowPlan, rules: TimelineRules | None = None, exclusive: bool = False
) -> list[Event]:
    builder = TimelineBuilder(
        [f"class {n}" for n in range(len(pushed[0][2]))], rules or TimelineRules(), plan, exclusive
    )
    events = [event for window in pushed for event in builder.push(*window)]
    return sorted_events(events + builder.close())


@pytest.mark.parametrize("detector", [touching, proportional])
@pytest.mark.parametrize("sound", [(3.2, 4.1), (0.0, 0.9), (7.05, 8.0), (2.6, 6.3), (3.0, 4.0)])
def test_a_sound_is_found_once_within_a_hop(detector: Detector, sound: Sound) -> None:
    plan = plan_of()
    (event,) = timeline(windows(8.0, [[sound], []], detector, plan), plan)
    assert event.label == "class 0"
    assert event.start == pytest.approx(sound[0], abs=0.25)
    assert event.end == pytest.approx(sound[1], abs=0.25)
    assert 0.5 <= event.score <= 1.0


def test_a_sound_over_borders_of_windows_is_one_event() -> None:
    plan = plan_of(hop=1.0)
    assert len(timeline(windows(8.0, [[(2.5, 5.5)]], touching, plan), plan)) == 1


@pytest.mark.parametrize("detector", [touching, proportional])
@pytest.mark.parametrize("hop", [1.0, 0.5, 0.33, 0.25, 0.125])
def test_edges_are_within_a_hop_wherever_a_sound_is(detector: Detector, hop: float) -> None:
    plan = plan_of(hop=hop)
    rng = np.random.default_rng(0)
    for _ in range(25):
        start = rng.uniform(1.0, 3.0)
        end = start + rng.uniform(0.9, 3.0)
        (event,) = timeline(windows(7.5, [[(start, end)]], detector, plan), plan)
        assert event.start == pytest.approx(start, abs=hop)
        assert event.end == pytest.approx(end, abs=hop)


def test_one_window_that_fails_does_not_part_a_sound() -> None:
    plan = plan_of()
    pushed = windows(10.0, [[(2.0, 8.0)]], touching, plan)
    pushed[20] = (*pushed[20][:2], np.array([0.2]), pushed[20][3])
    (event,) = timeline(pushed, plan)
    assert (event.start, event.end) == (pytest.approx(2.0, abs=0.25), pytest.approx(8.0, abs=0.25))


def test_nothing_gives_no_event() -> None:
    plan = plan_of()
    assert timeline(windows(8.0, [[], []], touching, plan), plan) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_events_do_not_depend_on_when_they_are_asked_for(data: st.DataObject) -> None:
    """A stream gives the events of the complete curve, each once, in an order that needs no knowledge of the cuts."""
    seconds = data.draw(st.floats(0.1, 9.0))
    hop = data.draw(st.sampled_from([0.1, 0.25, 0.33, 1.0]))
    plan = plan_of(hop=hop)
    rules = TimelineRules(
        min_seconds=data.draw(st.sampled_from([0.0, 0.1, 0.5])),
        gap_seconds=data.draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])),
        mean=data.draw(st.sampled_from(["arithmetic", "geometric", "harmonic", "centre"])),
        method=data.draw(st.sampled_from(["hysteresis", "boxes"])),
    )
    exclusive = data.draw(st.booleans())
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    length = round(seconds * RATE)
    pushed = []
    for start in window_starts(length, plan):
        count = min(plan.samples, length - start) if len(window_starts(length, plan)) > 1 else length
        levels = np.where(rng.random(count // 160 + 2) < 0.1, -90.0, -20.0)
        pushed.append((start, count, rng.random(3) ** 0.5, levels))
    events = timeline(pushed, plan, rules, exclusive)
    curve = score_curve(pushed, rules, plan, 3)
    assert curve_events(curve, ["class 0", "class 1", "class 2"], rules, exclusive) == events
    assert curve.times[-1] == pytest.approx(length / RATE)
    assert len(curve.times) == len(curve.scores) + 1
    for event in events:
        assert 0.0 <= event.start < event.end <= length / RATE
        assert event.end - event.start >= rules.min_seconds - 1e-5
    for label in {event.label for event in events}:
        own = [event for event in events if event.label == label]
        for left, right in itertools.pairwise(own):
            assert right.start - left.end >= rules.gap_seconds - 1e-5
    if exclusive:
        everything = sorted(events, key=lambda event: event.start)
        assert all(left.end <= right.start for left, right in itertools.pairwise(everything))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 3000), st.sampled_from([8_000, 16_000, 22_050])
)
def test_steps_cover_a_recording_and_fit_into_the_hop(window: int, hop: int, length: int, rate: int) -> None:
    samples = max(rate * window // 100, 1)
    plan = WindowPlan(samples, min(max(rate * hop // 100, 1), samples), window, 0, rate)
    grid = grid_of(plan)
    bounds = grid.boundaries(0, 500)
    assert bounds[0] == 0
    assert (np.diff(bounds) > 0).all()
    assert np.diff(bounds).max() <= 0.05 * rate + 1
    assert plan.hop in bounds or grid.multiple > 1
    step = grid.step_at(length)
    assert grid.boundary(step) <= length < grid.boundary(step + 1)


def test_silence_holds_no_event() -> None:
    plan = plan_of()
    pushed = [
        (start, 16_000, np.array([0.99]), np.where(np.arange(100) + start // 160 < 300, -20.0, -90.0))
        for start in window_starts(8 * RATE, plan)
    ]
    (event,) = timeline(pushed, plan)
    assert (event.start, event.end) == (0.0, pytest.approx(3.0, abs=0.026))
    for ignored in (None, -200):
        (all_of_it,) = timeline(pushed, plan, TimelineRules(silence_db=ignored))
        assert (all_of_it.start, all_of_it.end) == (0.0, 8.0)


def test_two_recordings_with_silence_between_give_both_timelines() -> None:
    plan = plan_of()
    first = timeline(windows(6.0, [[(1.2, 2.0)], [(3.0, 4.4)]], touching, plan), plan)
    second = timeline(windows(5.0, [[(3.1, 3.9)], []], touching, plan), plan)
    both = windows(13.0, [[(1.2, 2.0), (11.1, 11.9)], [(3.0, 4.4)]], touching, plan)
    shifted = [event._replace(start=event.start + 8.0, end=event.end + 8.0) for event in second]
    found = timeline(both, plan)
    assert [event.label for event in found] == [event.label for event in first + shifted]
    for got, expected in zip(found, first + shifted, strict=True):
        assert got.start == pytest.approx(expected.start)
        assert got.end == pytest.approx(expected.end)


def test_only_the_best_class_of_an_exclusive_model_is_active() -> None:
    plan = plan_of(hop=1.0)
    rules = TimelineRules(threshold=0.4, low_threshold=0.3, silence_db=None)
    scores = np.array([[0.55, 0.45], [0.35, 0.45], [0.05, 0.2]])
    pushed = [(n * RATE, RATE, row, np.zeros(100)) for n, row in enumerate(scores)]
    exclusive = timeline(pushed, plan, rules, exclusive=True)
    assert [(event.label, event.start) for event in exclusive] == [("class 0", 0.0), ("class 1", 1.0)]
    assert [event.label for event in timeline(pushed, plan, rules)] == ["class 0", "class 1"]
    assert timeline(pushed, plan, rules)[0].end == 2.0  # hysteresis, where classes may overlap


def test_columns_sharpen_a_curve() -> None:
    plan = plan_of()
    times = np.stack((np.arange(10) / 10, np.arange(10) / 10 + 0.1), axis=1)
    rules = TimelineRules(column_weight=1.0, mean="arithmetic")
    builder = CurveBuilder(plan, 1, rules)
    columns = Columns((np.arange(10) == 4)[:, None] * 1.0, times)
    builder.push(0, 16_000, np.array([0.5]), np.zeros(100), columns)
    curve = builder.close()[:, 0]
    assert curve.argmax() * 0.025 == pytest.approx(0.45, abs=0.026)
    assert curve[0] == 0.0
    assert curve.max() > 0.85


def test_only_a_window_of_steps_is_kept() -> None:
    plan = plan_of()
    builder = TimelineBuilder(["a"], TimelineRules(), plan)
    events = []
    for number in range(4_000):
        score = 0.9 if number % 40 < 20 else 0.05
        events += builder.push(number * plan.hop, plan.samples, np.array([score]), np.zeros(100))
    assert len(events) == 100
    assert {event.score for event in events} == {0.9}
    assert len(builder.curves._weights) < 60
    assert len(builder._tracker._pending) + len(builder._tracker._runs) <= 2


def test_open_events_are_those_that_may_still_change() -> None:
    plan = plan_of()
    builder = TimelineBuilder(["a"], TimelineRules(), plan)
    for number in range(8):
        assert builder.push(number * plan.hop, plan.samples, np.array([0.9]), np.zeros(100)) == []
    (event,) = builder.open_events()
    assert (event.start, event.end) == (0.0, 2.75)
    assert builder.open_events() == [event]
    assert builder.close() == [event]
    assert builder.open_events() == []


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_levels_are_in_dbfs_without_an_offset(rate: int) -> None:
    square = np.where(np.arange(rate) % 2 == 0, 1.0, -1.0).astype(np.float32)
    assert window_levels(0, square, rate) == pytest.approx(0.0, abs=0.01)
    assert window_levels(0, 0.1 * square + 0.5, rate) == pytest.approx(-20.0, abs=0.01)
    assert (window_levels(7, np.full(rate, 0.25, np.float32), rate) == FLOOR_DB).all()
    assert len(window_levels(0, np.zeros(0, np.float32), rate)) == 0


def test_levels_count_cells_from_the_beginning_of_the_recording() -> None:
    sound = np.random.default_rng(0).standard_normal(4_000).astype(np.float32)
    whole = window_levels(0, sound, RATE)
    part = window_levels(200, sound[200:], RATE)
    assert len(part) == len(whole) - 1
    np.testing.assert_array_equal(part[1:], whole[2:])
    assert plan_windows(100, RATE).rate == RATE


def test_a_silent_window_does_not_count() -> None:
    plan = plan_of()
    found = []
    for score in (0.0, 0.99):
        pushed = windows(6.0, [[(1.0, 2.9)]], touching, plan)
        silent = np.full(100, -90.0)
        pushed[11:15] = [(start, count, np.array([score]), silent) for start, count, *_ in pushed[11:15]]
        found.append(timeline(pushed, plan))
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_a_window_depends_only_on_those_that_reach_it() -> None:
    """No step is returned before the last window that changes it."""
    plan = plan_of()
    rng = np.random.default_rng(3)
    pushed = [(n * plan.hop, plan.samples, rng.random(2), np.zeros(100)) for n in range(40)]
    streamed = CurveBuilder(plan, 2, TimelineRules())
    curve = np.concatenate([streamed.push(*window) for window in pushed] + [streamed.close()])
    whole = CurveBuilder(plan, 2, TimelineRules())
    whole._take = lambda count: np.zeros((0, 2))  # keeps all steps to the end
    for window in pushed:
        whole.push(*window)
    np.testing.assert_array_equal(curve, whole.preview())


@pytest.mark.parametrize("hop", [0.01, 0.02, 0.1, 0.3])
def test_windows_that_speak_of_their_middle_give_the_line_through_their_scores(hop: float) -> None:
    plan = plan_windows(1_000, 32_000, 0.5, hop)
    length = 32_000 * 2 + 1_234
    starts = window_starts(length, plan)
    scores = np.random.default_rng(0).random((len(starts), 2))
    pushed = [(start, plan.samples, row, np.zeros(0)) for start, row in zip(starts, scores, strict=True)]
    rules = TimelineRules(mean="centre", silence_db=None)
    curve = score_curve(pushed, rules, plan, 2)
    middles = np.array(starts) / plan.rate + 0.25
    times = (curve.times[:-1] + curve.times[1:]) / 2
    grid = times <= middles[-3]  # the last window is aligned to the end, nearer than a hop
    for index in range(2):
        expected = np.interp(times[grid], middles, scores[:, index])
        np.testing.assert_allclose(curve.scores[grid, index], expected, atol=1e-6)
    if hop < 0.25:  # else the window before reaches to the end
        assert curve.scores[-1] == pytest.approx(scores[-1], abs=1e-9)
    assert np.diff(curve.times).max() <= hop + 1e-9


def test_sounds_shorter_than_a_window_are_apart_where_it_speaks_of_its_middle() -> None:
    plan = plan_windows(1_000, 32_000, 0.5, 0.01)
    sounds = [(1.0, 1.08), (1.1, 1.2), (1.25, 1.3)]
    pushed = []
    for start in window_starts(3 * 32_000, plan):
        middle = start / 32_000 + 0.25
        inside = any(first <= middle < last for first, last in sounds)
        pushed.append((start, plan.samples, np.array([float(inside)]), np.zeros(0)))
    rules = TimelineRules(mean="centre", silence_db=None, min_seconds=0.02, gap_seconds=0.0)
    events = timeline(pushed, plan, rules)
    assert [event[:2] for event in events] == [pytest.approx(sound, abs=0.011) for sound in sounds]
    assert len(timeline(pushed, plan, rules.replace(mean="harmonic"))) <= 1


def test_a_window_that_speaks_of_its_middle_decides_early() -> None:
    """An event is certain a hop after the middle of the window that ends it, half a window after its end."""
    plan = plan_windows(1_000, 32_000, 0.5, 0.01)
    rules = TimelineRules(mean="centre", silence_db=None, min_seconds=0.02, gap_seconds=0.0)
    builder = TimelineBuilder(["a"], rules, plan)
    for start in window_starts(3 * 32_000, plan):
        middle = start / 32_000 + 0.25
        if builder.push(start, plan.samples, np.array([float(1.0 <= middle < 1.1)]), np.zeros(0)):
            assert middle == pytest.approx(1.1, abs=0.04)
            return
    raise AssertionError("the event is never certain")
