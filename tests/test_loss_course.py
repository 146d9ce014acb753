"""The course of a training loss, and the loss of guessing beside it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ast_hf.metrics.loss_course import LossCourse, progress
from ast_hf.training.loss_watch import describe_chance, is_at_chance, observe, watched_step

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def one_hot(labels: list[int], count: int) -> np.ndarray:
    return np.eye(count)[labels]


def test_chance_is_the_entropy_of_the_labels() -> None:
    course = LossCourse()
    course.add(0, 1.0, one_hot([0, 0, 0, 1], 2))
    assert course.chance == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert course.floor == 0.0
    binary = LossCourse(is_binary=True)
    binary.add(0, 1.0, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert binary.chance == pytest.approx(math.log(2) / 2)  # the second label never occurs


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.booleans())
def test_no_constant_answer_is_better_than_chance(seed: int, is_binary: bool) -> None:
    random = np.random.default_rng(seed)
    targets = random.dirichlet([0.3, 0.5, 1.0], size=20)
    course = LossCourse(is_binary=is_binary)
    course.add(0, 0.0, targets)
    answer = torch.tensor(random.standard_normal(3)).expand(20, 3)
    loss = F.binary_cross_entropy_with_logits if is_binary else F.cross_entropy
    best = np.log(targets.mean(axis=0) / (1 - targets.mean(axis=0) if is_binary else 1))
    truth = torch.from_numpy(targets)
    assert float(loss(answer, truth)) >= course.chance - 1e-9
    assert float(loss(torch.tensor(best).expand(20, 3), truth)) == pytest.approx(course.chance)
    logits = np.log(np.maximum(targets, 1e-12) / (np.maximum(1 - targets, 1e-12) if is_binary else 1))
    assert float(loss(torch.from_numpy(logits), truth)) == pytest.approx(course.floor, abs=1e-6)


def test_parts_are_joined_and_sums_stay() -> None:
    course = LossCourse()
    losses = np.linspace(3, 1, 1000)
    for step, loss in enumerate(losses):
        course.add(step, float(loss), one_hot([step % 2] * 4, 2))
    assert course.size == 16
    assert 32 <= len(course.sums) <= 64
    assert course.mean(0, 1000) == pytest.approx(losses.mean())
    assert course.mean(800, 1000) == pytest.approx(losses[800:].mean())
    assert course.mean(999, 1000) == pytest.approx(losses[992:].mean())  # the last part at least
    assert len(course.values()) == len(course.sums)


def test_batches_of_a_step_count_by_their_clips() -> None:
    course = LossCourse()
    course.add(0, 1.0, one_hot([0] * 3, 2))
    course.add(0, 5.0, one_hot([1], 2))
    assert course.mean(0, 1) == 2.0
    course.add(3, 7.0, one_hot([1], 2))  # a run that was resumed without its course
    assert course.values() == [2.0, 7.0]
    assert course.mean(1, 2) is None


def test_a_stored_course_goes_on_as_if_it_had_not_stopped() -> None:
    random = np.random.default_rng(0)
    whole = LossCourse()
    resumed = LossCourse()
    for step in range(300):
        loss, targets = float(random.random()), random.dirichlet([1, 1, 1], size=3)
        whole.add(step, loss, targets)
        resumed.add(step, loss, targets)
        if step in (10, 100, 131):
            resumed = LossCourse.from_dict(json.loads(json.dumps(resumed.to_dict())))
    assert resumed.to_dict() == whole.to_dict()


def test_progress_is_from_guessing_to_the_floor() -> None:
    assert progress(2.3, 2.3, 0.0) == 0
    assert progress(0.5, 2.5, 0.5) == 1
    assert progress(2.6, 2.5, 0.5) < 0
    assert progress(0.0, 0.0, 0.0) == 1  # one label: nothing to learn


def test_labels_of_any_kind_are_observed() -> None:
    course = LossCourse()
    observe(course, 0, torch.tensor(1.5), torch.tensor([0, 2, -100]), SINGLE, 3)
    assert course.targets.tolist() == [1, 0, 1]
    assert not course.is_binary
    observe(course, 1, torch.tensor(1.5), torch.tensor([[0.5, 0.5, 0.0]]), SINGLE, 3)
    assert course.entropies == pytest.approx(math.log(2))
    tags = LossCourse()
    observe(tags, 0, torch.tensor(0.5), torch.tensor([[1.0, 0.0, 1.0]]), MULTI, 3)
    assert tags.is_binary
    one = LossCourse()
    observe(one, 0, torch.tensor(0.5), torch.tensor([1, 0]), "sigmoid_per_class", 3)
    assert one.is_binary
    for labels, kind in ((None, SINGLE), (torch.tensor([[0.3]]), "regression")):
        observe(one, 1, torch.tensor(0.5), labels, kind, 3)
    observe(one, 1, torch.tensor(math.nan), torch.tensor([1]), SINGLE, 3)
    assert one.clips == [2]


def course_of(losses: np.ndarray) -> LossCourse:
    """Return the course of a run on ten balanced labels, whose chance is 2.303."""
    course = LossCourse()
    for step, loss in enumerate(losses):
        course.add(step, float(loss), one_hot(list(range(10)), 10))
    return course


STEPS = np.arange(100)
NOISE = np.random.default_rng(0).standard_normal(100)


@pytest.mark.parametrize(
    ("losses", "is_warned_of"),
    [
        (2.303 + 0.0 * NOISE, True),
        (2.30 + 0.1 * NOISE, True),
        (7.0 + NOISE, True),  # exploded
        (2.6 - 0.003 * STEPS + 0.2 * NOISE, False),  # slow and noisy, 2.38 in its second half: still falls
        (2.303 - 0.005 * STEPS + 0.4 * NOISE, False),
        (2.303 * np.exp(-STEPS / 50), False),
        (20.0 * np.exp(-STEPS / 40), False),  # begins far above guessing
        (np.where(STEPS < 70, 2.303, 1.5), False),  # leaves a plateau late
    ],
)
def test_what_is_warned_of(losses: np.ndarray, is_warned_of: bool) -> None:
    assert (describe_chance(course_of(losses), 100) is not None) == is_warned_of


def test_a_model_that_begins_to_learn_has_left_chance() -> None:
    course = course_of(np.where(np.arange(200) < 100, 2.3, 1.8))
    assert is_at_chance(course, 100)
    assert not is_at_chance(course, 200)
    assert not is_at_chance(course_of(np.full(20, 2.3)), 20)  # too few steps to say


def test_a_third_of_the_run_and_the_warmup_are_waited_for() -> None:
    assert watched_step(300, 0) == 100
    assert watched_step(300, 30) == 100
    assert watched_step(300, 150) == 180
    assert watched_step(300, 300) == 0  # its verdict comes at once
    assert watched_step(60, 0) == 30
    assert watched_step(30, 0) == 0
