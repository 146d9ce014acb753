"""The running average of the weights: its values, its use in the model, its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ast_hf.training.averaging import EpochAverage, WeightAverage


def model(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(-value)
    return layer


def averaged(decay: float, values: list[float]) -> tuple[WeightAverage, nn.Linear]:
    average = WeightAverage(decay)
    layer = model(0.0)
    for value in values:
        layer.load_state_dict(model(value).state_dict())
        average.update(layer)
    return average, layer


@pytest.mark.parametrize(
    ("decay", "values", "expected"),
    [
        (0.99, [6.0], 6.0),  # the average is that of the first step, without the random start
        (0.99, [6.0, 10.0], 9.0),  # weight of the past (1 + 2) / (10 + 2) = 1/4
        (0.99, [6.0, 10.0, -4.0], 0.0),  # then 4/13: 9 * 4/13 - 4 * 9/13
        (0.1, [6.0, 10.0], 9.6),  # 0.1 is below 1/4
        (0.1, [6.0, 10.0, -4.0], -2.64),
    ],
)
def test_update_by_hand(decay: float, values: list[float], expected: float) -> None:
    average, layer = averaged(decay, values)
    assert average.steps == len(values)
    average.copy_to(layer)
    assert layer.weight.item() == pytest.approx(expected, abs=1e-5)
    assert layer.bias.item() == pytest.approx(-expected, abs=1e-5)


def test_decay_rules_in_the_long_run() -> None:
    average, layer = averaged(0.5, [0.0] * 20 + [8.0])
    average.copy_to(layer)
    assert layer.weight.item() == pytest.approx(4.0)


def test_update_does_not_change_the_model() -> None:
    average, layer = averaged(0.99, [6.0])
    with torch.no_grad():
        layer.weight.fill_(100.0)
    assert layer.weight.item() == 100.0
    with average.applied(layer):
        assert layer.weight.item() == 6.0


def test_applied_restores_the_weights_after_an_error() -> None:
    average, layer = averaged(0.99, [6.0, 10.0])
    with average.applied(layer):
        assert layer.weight.item() == pytest.approx(9.0)
    assert (layer.weight.item(), layer.bias.item()) == (10.0, -10.0)
    with pytest.raises(KeyboardInterrupt), average.applied(layer):
        raise KeyboardInterrupt
    assert (layer.weight.item(), layer.bias.item()) == (10.0, -10.0)
    with average.applied(layer):  # the average itself was not exchanged
        assert layer.weight.item() == pytest.approx(9.0)


def test_frozen_weights_are_not_averaged() -> None:
    layer = model(6.0)
    layer.bias.requires_grad_(False)
    average = WeightAverage(0.99)
    average.update(layer)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(1.0)
    average.copy_to(layer)
    assert (layer.weight.item(), layer.bias.item()) == (6.0, 1.0)


def test_a_saved_average_continues_as_an_unbroken_one(tmp_path: Path) -> None:
    average, layer = averaged(0.99, [6.0, 10.0])
    average.save(tmp_path)
    resumed = WeightAverage(0.99)
    resumed.load(tmp_path, layer)
    assert resumed.steps == 2
    for one in (average, resumed):
        one.update(model(-4.0))
    results = []
    for one in (average, resumed):
        one.copy_to(layer)
        results.append((layer.weight.item(), layer.bias.item()))
    assert results[0] == results[1]
    assert results[0][0] == pytest.approx(0.0, abs=1e-5)


def test_mean_over_epochs_by_hand() -> None:
    average = EpochAverage(2, 4)
    layer = model(0.0)
    for epoch, value in enumerate([100.0, 1.0, 2.0, 6.0, 200.0], start=1):
        layer.load_state_dict(model(value).state_dict())
        average.after_step(layer)
        average.after_epoch(layer, epoch)
    assert average.steps == 3
    average.copy_to(layer)
    assert (layer.weight.item(), layer.bias.item()) == (pytest.approx(3.0), pytest.approx(-3.0))


def test_mean_over_epochs_resumes_after_a_stop(tmp_path: Path) -> None:
    unbroken, broken = EpochAverage(1, 3), EpochAverage(1, 3)
    for epoch, value in ((1, 3.0), (2, 5.0)):
        unbroken.after_epoch(model(value), epoch)
        broken.after_epoch(model(value), epoch)
    broken.save(tmp_path)
    resumed = EpochAverage(1, 3)
    resumed.load(tmp_path, model(0.0))
    results = []
    for average in (unbroken, resumed):
        average.after_epoch(model(10.0), 3)
        layer = model(0.0)
        average.copy_to(layer)
        results.append(layer.weight.item())
    assert results[0] == results[1] == pytest.approx(6.0)


def test_there_is_no_average_before_the_first_averaged_epoch(tmp_path: Path) -> None:
    average = EpochAverage(3, 5)
    layer = model(7.0)
    average.after_epoch(layer, 1)
    average.save(tmp_path)
    resumed = EpochAverage(3, 5)
    resumed.load(tmp_path, layer)
    resumed.copy_to(layer)
    assert (resumed.steps, layer.weight.item()) == (0, 7.0)
