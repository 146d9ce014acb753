"""Overlapping windows as one timeline: parts and columns follow each other without gaps or duplicates."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ast_hf.timelines.merging import ColumnMerger, owned_parts
from ast_hf.timelines.windows import WindowPlan, window_starts


class Part(NamedTuple):
    start: int
    length: int


def parts_of(length: int, samples: int, hop: int, middle: float) -> list[tuple[Part, float, float]]:
    starts = window_starts(length, WindowPlan(samples, hop, 1, 0, 16_000))
    return list(owned_parts([Part(start, min(samples, length)) for start in starts], middle))


def test_windows_that_touch_meet_there() -> None:
    assert [(begin, end) for _, begin, end in parts_of(30, 10, 10, 4.5)] == [(0, 10), (10, 20), (20, 30)]


def test_overlapping_windows_meet_halfway_between_their_middles() -> None:
    parts = parts_of(25, 10, 5, 5.0)
    assert [(begin, end) for _, begin, end in parts] == [(0, 7.5), (7.5, 12.5), (12.5, 17.5), (17.5, 25)]
    assert [(begin, end) for _, begin, end in parts_of(25, 10, 10, 5.0)] == [(0, 10), (10, 17.5), (17.5, 25)]


def test_one_window_has_all() -> None:
    assert parts_of(7, 10, 5, 5.0) == [(Part(0, 7), 0.0, 7.0)]
    assert list(owned_parts([], 5.0)) == []


#: Length of the recording, of a window, of a hop, of a step between columns, and number of columns.
SIZES = st.tuples(
    st.integers(1, 400), st.integers(8, 60), st.floats(0.01, 1.0), st.integers(1, 12), st.integers(1, 12)
)


@given(SIZES)
@example((200, 30, 0.01, 10, 3))  # hops below a step
@example((200, 25, 0.02, 10, 1))  # a single column, not in the window's middle
@example((61, 60, 1.0, 5, 10))  # two windows that are nearly the same
@example((3, 60, 1.0, 5, 10))  # shorter than half a patch
def test_columns_are_one_timeline(sizes: tuple[int, int, float, int, int]) -> None:
    length, samples, share, step, count = sizes
    count = min(count, (samples - 8) // step + 1)
    centres = np.arange(count) * step + 4.0  # of patches of 8 samples
    merger = ColumnMerger(centres)
    parts = parts_of(length, samples, max(1, round(share * samples)), float(centres[count // 2]))
    assert parts[0][1] == 0.0
    assert parts[-1][2] == length
    assert all(left[2] == right[1] for left, right in itertools.pairwise(parts))
    times = []
    middles = []
    for number, (window, begin, end) in enumerate(parts):
        kept = merger.keep(window.start, begin, end, is_last=number == len(parts) - 1)
        assert len(kept.indices) == len(kept.times)
        times += kept.times.tolist()
        middles += (window.start + centres[kept.indices]).tolist()
    edges = np.array(times)
    assert edges[0, 0] == 0
    assert edges[-1, 1] == length
    assert np.array_equal(edges[1:, 0], edges[:-1, 1])
    assert (np.diff(edges) > 0).all()
    if count > 1:  # the last window keeps a column even if it is a duplicate: the end needs one
        assert (np.diff(middles)[:-1] >= step / 2).all()
    if length >= samples:
        assert (edges[:, 0] <= middles).all()
        assert (middles <= edges[:, 1]).all()


def test_no_column_is_there_twice() -> None:
    centres = np.arange(10) * 10.0 + 8
    merger = ColumnMerger(centres)
    parts = parts_of(103, 102, 102, float(centres[5]))  # the second window begins one sample later
    middles = []
    for number, (window, begin, end) in enumerate(parts):
        kept = merger.keep(window.start, begin, end, is_last=number == 1)
        middles += (window.start + centres[kept.indices]).tolist()
    assert len(middles) == 10
    assert np.diff(middles).min() == 10


@pytest.mark.parametrize(
    ("length", "columns"), [(1, 1), (8, 1), (9, 1), (18, 1), (19, 2), (58, 5), (59, 6), (100, 10)]
)
def test_columns_of_padding_are_left_out(length: int, columns: int) -> None:
    merger = ColumnMerger(np.arange(10) * 10.0 + 8)
    kept = merger.keep(0, 0.0, float(length), is_last=True)
    assert kept.indices.tolist() == list(range(columns))
    assert kept.times[-1, 1] == length
