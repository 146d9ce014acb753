"""Learning rates by epoch, by layer and in warm-up; what is frozen; and that each recipe is what its original ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification, AstHfError
from ast_hf.training import Recipe, load_recipe
from ast_hf.training.optimization import (
    Optimization,
    depth_of,
    freeze,
    milestone_schedule,
    original_adam,
    parameter_groups,
    rate_factor,
)

RECIPES = ROOT / "examples" / "recipes"


def model() -> ASTForAudioClassification:
    return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3))


#: recipe -> optimizer steps per epoch in the original's logs, and epoch -> learning rate that they show.
LOGGED = {
    "audioset-balanced": (
        1733,
        {1: 5e-5, 10: 5e-5, 11: 2.5e-5, 15: 2.5e-5, 16: 1.25e-5, 20: 1.25e-5, 21: 6.25e-6, 25: 6.25e-6},
    ),
    "audioset-full": (162_757, {1: 1e-5, 2: 1e-5, 3: 5e-6, 4: 2.5e-6, 5: 1.25e-6}),
    "esc50": (33, {1: 1e-5, 5: 1e-5, 6: 8.5e-6, 7: 7.225e-6, 25: 3.876e-7}),
    "esc50-imagenet-only": (33, {1: 1e-4, 5: 1e-4, 6: 8.5e-5, 7: 7.225e-5, 25: 3.876e-6}),
    "speech-commands": (662, {1: 2.5e-4, 5: 2.5e-4, 6: 2.125e-4, 30: 4.300e-6}),
}


@pytest.mark.parametrize(("name", "epoch"), [(name, epoch) for name, (_, rates) in LOGGED.items() for epoch in rates])
def test_learning_rate_by_epoch_is_that_of_the_originals_logs(name: str, epoch: int) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    per_epoch, rates = LOGGED[name]
    last_step = epoch * per_epoch - 1
    factor = rate_factor(recipe.optimization, last_step, per_epoch, recipe.training["warmup_steps"])
    assert recipe.training["learning_rate"] * factor == pytest.approx(rates[epoch], rel=2e-4)
    assert max(rates) == recipe.training["num_train_epochs"]


#: recipe -> what the original's script or log says.
SETTINGS: dict[str, dict[str, Any]] = {
    "audioset-balanced": {"batch": 12, "masks": (48, 192), "mixup": 0.5, "frames": 1024, "mean": -4.2677393},
    "audioset-full": {"batch": 12, "masks": (48, 192), "mixup": 0.5, "frames": 1024, "mean": -4.2677393},
    "esc50": {"batch": 48, "masks": (24, 96), "mixup": 0.0, "frames": 512, "mean": -6.6268077},
    "esc50-imagenet-only": {"batch": 48, "masks": (24, 96), "mixup": 0.0, "frames": 512, "mean": -6.6268077},
    "speech-commands": {"batch": 128, "masks": (48, 48), "mixup": 0.5, "frames": 128, "mean": -6.845978},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_the_originals(name: str) -> None:
    recipe, expected = load_recipe(RECIPES / f"{name}.yaml"), SETTINGS[name]
    training, augmentation = recipe.training, recipe.augmentation
    assert training["per_device_train_batch_size"] == expected["batch"]
    assert (augmentation.frequency_mask_width, augmentation.time_mask_width) == expected["masks"]
    assert (augmentation.frequency_masks, augmentation.time_masks) == (1, 1)
    assert augmentation.mixup_probability == expected["mixup"]
    assert recipe.model.config["max_length"] == expected["frames"]
    assert recipe.features.mean == expected["mean"]
    assert (training["adam_beta1"], training["adam_beta2"], training["weight_decay"]) == (0.95, 0.999, 5e-7)
    assert (recipe.optimization.optimizer, training["max_grad_norm"]) == ("adam", 0)
    speech = name == "speech-commands"
    assert (augmentation.noise, augmentation.roll_frames) == ((0.1, 10) if speech else (0.0, 0))
    assert recipe.loss == ("binary_cross_entropy" if speech else "task")
    assert recipe.sampling == ("balanced" if name == "audioset-full" else "shuffled")
    averaged = {"audioset-balanced": [6, 25], "audioset-full": [1, 5]}
    assert recipe.averaging_epochs == averaged.get(name)
    assert recipe.optimization.warmup == ("staircase" if name in averaged else "linear")


def test_staircase_warm_up_is_the_originals() -> None:
    options = Optimization(milestones=[2], warmup="staircase")
    factors = {step: rate_factor(options, step, 700, 1000) for step in (0, 49, 50, 99, 100, 999, 1000, 1399, 1400)}
    assert factors == {0: 0.0, 49: 0.0, 50: 0.05, 99: 0.05, 100: 0.1, 999: 0.95, 1000: 1.0, 1399: 1.0, 1400: 0.5}


def test_linear_warm_up_starts_above_zero() -> None:
    options = Optimization(milestones=[9])
    assert [rate_factor(options, step, 10, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_schedule_steps_with_the_optimizer() -> None:
    ours = model()
    optimizer = original_adam(ours, 1e-3, (0.95, 0.999), 5e-7)
    schedule = milestone_schedule(optimizer, Optimization(milestones=[1, 2], milestone_factor=0.1), 2, 0)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    with pytest.raises(AstHfError, match=r"E307.*milestones"):
        milestone_schedule(optimizer, Optimization(milestones=[1]), 0, 0)


def test_original_adam_decays_towards_zero_through_the_gradient() -> None:
    """L2 goes through Adam: with no loss at all, its first step moves every weight against its sign."""
    ours = model()
    before = {name: value.detach().clone() for name, value in ours.named_parameters()}
    optimizer = original_adam(ours, 1e-3, (0.95, 0.999), 5e-7)
    assert type(optimizer) is torch.optim.Adam
    for parameter in ours.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weight = "classifier.dense.weight"
    moved = dict(ours.named_parameters())[weight].detach() - before[weight]
    large = (
        before[weight].abs() > 0.01
    )  # 5e-7 * 0.01 is still far above Adam's epsilon of 1e-8? no: it shrinks the step
    assert torch.all(torch.sign(moved[large]) == -torch.sign(before[weight][large]))


def test_depths() -> None:
    names = {
        "audio_spectrogram_transformer.embeddings.cls_token": 0,
        "audio_spectrogram_transformer.embeddings.position_embeddings.time": 0,
        "audio_spectrogram_transformer.encoder.layer.0.output.dense.bias": 1,
        "encoder.layer.11.attention.output.dense.bias": 12,
        "audio_spectrogram_transformer.layernorm.weight": 13,
        "classifier.dense.weight": 13,
    }
    assert {name: depth_of(name, 12) for name in names} == names


def test_layer_decay_gives_each_layer_its_rate() -> None:
    ours = model()
    groups = parameter_groups(ours, ["classifier.dense.weight"], 1e-3, 0.1, layer_decay=0.5)
    rate_of = {id(parameter): group for group in groups for parameter in group["params"]}
    named = {name: rate_of[id(parameter)] for name, parameter in ours.named_parameters()}
    assert len(rate_of) == len(named)
    backbone = "audio_spectrogram_transformer."
    for name, rate in {
        "classifier.dense.weight": 1e-3,
        f"{backbone}layernorm.bias": 1e-3,
        f"{backbone}encoder.layer.1.layernorm_after.weight": 5e-4,
        f"{backbone}encoder.layer.0.layernorm_after.weight": 2.5e-4,
        f"{backbone}embeddings.position_embeddings": 1.25e-4,
    }.items():
        assert named[name]["lr"] == pytest.approx(rate), name
    assert named["classifier.dense.weight"]["weight_decay"] == 0.1
    assert named["classifier.dense.bias"]["weight_decay"] == 0.0


def test_linear_probe_trains_the_classifier_alone() -> None:
    ours = model()
    freeze(ours, "nothing")
    assert all(parameter.requires_grad for parameter in ours.parameters())
    freeze(ours, "backbone")
    trained = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {
        "classifier.layernorm.weight",
        "classifier.layernorm.bias",
        "classifier.dense.weight",
        "classifier.dense.bias",
    }
    assert sum(len(group["params"]) for group in parameter_groups(ours, [], 1e-3, 0.0, 0.9)) == 4


REFUSED = {
    "both schedules": (
        {"optimization": {"milestones": [1]}, "training": {"lr_scheduler_type": "linear"}},
        r"optimization\.milestones.*lr_scheduler_type",
    ),
    "stairs without milestones": ({"optimization": {"warmup": "staircase"}}, r"optimization\.warmup.*milestones"),
    "adam by layers": ({"optimization": {"optimizer": "adam", "layer_decay": 0.9}}, r"optimization\.optimizer"),
    "misspelt": ({"optimization": {"warmup": "stairs"}}, r"optimization\.warmup.*'stairs'.*staircase"),
    "sampling": ({"sampling": "balance"}, r"sampling.*did you mean 'balanced'"),
    "loss": ({"loss": "bce"}, r"loss.*'bce'"),
    "milestone": ({"optimization": {"milestones": [1.5]}}, r"milestones.*whole numbers"),
    "factor": ({"optimization": {"milestone_factor": 2.0}}, r"milestone_factor.*2.0"),
    "two averages": ({"averaging_decay": 0.9, "averaging_epochs": [1, 2]}, r"averaging_epochs.*one of the two"),
    "no range": ({"averaging_epochs": [3, 2]}, r"averaging_epochs.*\[3, 2\]"),
    "one epoch": ({"averaging_epochs": [3]}, r"averaging_epochs.*\[3\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused(case: str) -> None:
    values, said = REFUSED[case]
    with pytest.raises(AstConfigError, match=rf"E307.*{said}"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_reads_and_explains_itself(path: Path) -> None:
    recipe = load_recipe(path)
    told = Recipe.from_dict(recipe.to_dict())  # fit to be published: without the places of samples
    assert replace(told, card=replace(told.card, samples=recipe.card.samples)) == recipe
    assert path.read_text(encoding="utf-8").startswith("# ")
