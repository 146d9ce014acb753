"""Balanced sampling: frequencies, keys, and reproducible epochs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ast_hf.inputs.sampling import BalancedSampler, clip_weights


def test_weights_by_hand() -> None:
    """Three clips of class 0, one of class 1: 1000 / 3.01 and 1000 / 1.01."""
    assert clip_weights([0, 0, 0, 1]).tolist() == pytest.approx(
        [332.226, 332.226, 332.226, 990.099], abs=1e-3
    )
    assert clip_weights([[0], [0, 1], [1, 2]]).tolist() == pytest.approx(
        [497.512, 995.025, 1487.612], abs=1e-3
    )


def test_rare_classes_are_drawn_as_often_as_common_ones() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    sampler = BalancedSampler(clip_weights(labels), seed=0)
    drawn: Counter[int] = Counter()
    for epoch in range(6):
        sampler.set_epoch(epoch)
        drawn.update(labels[key % 1000] for key in sampler)
    assert sum(drawn.values()) == 6000
    for count in drawn.values():
        assert count == pytest.approx(2000, abs=150)


def test_keys_of_an_epoch_are_reproducible() -> None:
    first, second = (BalancedSampler(clip_weights([0, 0, 1, 2]), seed=3) for _ in range(2))
    first.set_epoch(5)
    second.set_epoch(2)
    list(second)
    second.set_epoch(5)
    assert list(first) == list(second)
    first.set_epoch(6)
    assert list(first) != list(second)
    assert list(BalancedSampler(clip_weights([0, 0, 1, 2]), seed=4)) != list(first)


def test_a_clip_drawn_again_has_another_key() -> None:
    sampler = BalancedSampler(np.array([1e9, 1.0, 1.0]), seed=0)
    sampler.set_epoch(7)
    keys = list(sampler)
    assert {key % 3 for key in keys} == {0}
    assert len(set(keys)) == len(keys) == 3
    assert keys[0] == 7 * 3
    assert all(key < 2**63 for key in keys)
