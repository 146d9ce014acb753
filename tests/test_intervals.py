"""Intervals of results and of differences: against closed forms, other libraries and simulated data."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from ast_hf.metrics.intervals import (
    accuracy_difference,
    accuracy_interval,
    chance_average_precision,
    fold_difference,
    map_difference,
    map_interval,
    mcnemar_difference,
)


def test_the_interval_of_an_accuracy_is_wilsons() -> None:
    right = np.array([True] * 8 + [False] * 2)
    interval = accuracy_interval(right)
    z, n, p = 1.959964, 10, 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert interval[:2] == pytest.approx((centre - half, centre + half), abs=1e-5)
    assert interval.method == "Wilson"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(0, 40))
def test_the_difference_excludes_zero_exactly_where_mcnemar_is_significant(wins: int, losses: int) -> None:
    difference = mcnemar_difference(wins, losses, 100)
    low, high, _ = difference.interval
    significant = wins + losses > 0 and binomtest(wins, wins + losses).pvalue < 0.05
    assert (low > 0 or high < 0) == significant
    assert low - 1e-9 <= difference.value <= high + 1e-9
    assert difference.value == (wins - losses) / 100


def test_models_that_never_differ_may_still_differ_elsewhere() -> None:
    low, high, _ = mcnemar_difference(0, 0, 10).interval
    assert (low, high) == pytest.approx((-0.27753, 0.27753), abs=1e-5)  # z ** 2 / (10 + z ** 2)
    assert mcnemar_difference(0, 0, 1000).interval.high < 0.004
    assert mcnemar_difference(1, 0, 1).interval[:2] == (pytest.approx(-0.58690, abs=1e-5), 1.0)


@pytest.mark.parametrize(
    ("wins", "losses", "clips", "low", "high"),
    [
        (12, 2, 50, 0.0611, 0.3447),
        (10, 0, 100, 0.0552, 0.1744),
        (0, 28, 92, -0.4046, -0.2197),
    ],
)
def test_the_interval_of_a_difference_is_tangos(
    wins: int, losses: int, clips: int, low: float, high: float
) -> None:
    """Where the test is significant; the bounds are those at which the score statistic is 1.96."""
    interval = mcnemar_difference(wins, losses, clips).interval
    assert interval[:2] == pytest.approx((low, high), abs=1e-4)
    for bound in (interval.low, interval.high):
        linear = (2 * clips - wins + losses) * bound - wins - losses
        share = (math.sqrt(linear**2 + 8 * clips * losses * bound * (1 - bound)) - linear) / (4 * clips)
        error = math.sqrt(clips * (2 * share + bound * (1 - bound)))
        assert abs(wins - losses - clips * bound) / error == pytest.approx(1.959964, abs=1e-4)


def test_the_interval_of_a_difference_covers_it() -> None:
    """The interval of the exact test, given the number of clips that differ, covers 0.43 and 0.82 here."""
    random = np.random.default_rng(0)
    for wins, losses in ((0.2, 0.0), (0.1, 0.02)):
        draws = random.multinomial(92, [wins, losses, 1 - wins - losses], size=300)
        intervals = [mcnemar_difference(int(won), int(lost), 92).interval for won, lost, _ in draws]
        assert np.mean([one.low <= wins - losses <= one.high for one in intervals]) > 0.91


def test_clips_of_one_speaker_say_less_than_independent_ones() -> None:
    groups = np.repeat(np.arange(10), 30)
    right = np.repeat([True, False] * 5, 30)  # every speaker is either right or wrong
    alone = accuracy_interval(right)
    grouped = accuracy_interval(right, groups)
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
    assert grouped.method == "bootstrap of 10 groups"
    better = accuracy_difference(right, np.zeros(300, dtype=bool), groups)
    assert better.value == 0.5
    assert (better.first_only, better.second_only) == (150, 0)
    assert better.interval.method == "bootstrap of 10 groups"


def test_two_groups_say_next_to_nothing() -> None:
    right = np.repeat([True, False], 50)
    low, high, _ = accuracy_interval(right, np.repeat([0, 1], 50))
    assert (low, high) == (0, 1)
    assert accuracy_interval(right, np.zeros(100))[:2] == (0, 1)


def test_groups_that_agree_say_no_more_than_as_many_clips() -> None:
    right = np.ones(40, dtype=bool)
    groups = np.repeat(np.arange(8), 5)
    assert accuracy_interval(right, groups)[:2] == accuracy_interval(right)[:2]
    same = accuracy_difference(right, right, groups)
    assert same.interval[:2] == mcnemar_difference(0, 0, 40).interval[:2]


def test_a_grouped_interval_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 10)
    covered = 0
    for _ in range(40):
        levels = np.clip(0.7 + 0.2 * random.standard_normal(8), 0, 1)
        low, high, _ = accuracy_interval(random.random(80) < levels[groups], groups)
        covered += low <= 0.69 <= high  # the mean of the clipped levels
    assert covered >= 35  # 38 expected; clips alone would cover 30


def tagged(clips: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(clips)
    tags = random.random((clips, labels)) < 0.4
    tags[0] = True
    return random.standard_normal((clips, labels)) + tags, tags


def test_the_bootstrapped_map_is_the_map() -> None:
    scores, tags = tagged(40, 3)
    scores = np.round(scores)  # ties
    expected = np.mean([average_precision_score(tags[:, label], scores[:, label]) for label in range(3)])
    difference = map_difference(scores, np.zeros_like(scores), tags)
    assert difference.value == pytest.approx(expected - tags.mean(axis=0).mean(), abs=1e-12)
    assert difference.first_only is None
    low, high, method = map_interval(scores, tags)
    assert low < expected < high
    assert method == "bootstrap of the clips"


def test_map_differences_of_equal_and_of_better_scores() -> None:
    scores, tags = tagged(60, 4)
    assert map_difference(scores, scores, tags).interval[:2] == (0.0, 0.0)
    better = map_difference(tags + 0.0, -scores, tags)
    assert better.interval.low > 0.2
    assert map_interval(scores, np.zeros_like(tags))[:2] == (0, 1)  # no clip has a label


def test_the_interval_of_the_map_of_rare_labels_covers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    truth = 0.341  # AP of 200,000 clips
    covered = 0
    monkeypatch.setattr("ast_hf.metrics.intervals._RESAMPLES", 100)
    for _ in range(20):
        tags = random.random((100, 5)) < 0.05
        low, high, _ = map_interval(random.standard_normal((100, 5)) + 1.5 * tags, tags)
        covered += low <= truth <= high
    assert covered >= 16  # 18 expected; without the correction 14


def test_the_map_of_chance_is_the_mean_over_all_orders() -> None:
    tags = np.array([1, 1, 0, 0, 0])
    orders = [average_precision_score(tags, order) for order in permutations(range(5))]
    assert chance_average_precision(np.array([2]), 5) == pytest.approx(np.mean(orders))
    assert chance_average_precision(np.array([5, 0]), 5) == pytest.approx(1.0)  # the second label has no clip
    assert math.isnan(chance_average_precision(np.array([0]), 5))


def test_folds_share_training_clips() -> None:
    low, high, method = fold_difference([0.1, 0.2, 0.3]).interval
    half = 4.302653 * 0.1 * math.sqrt(1 / 3 + 1 / 2)
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-5)
    assert method == "corrected t over 3 folds"
