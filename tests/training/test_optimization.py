"""Learning rates by epoch, by layer and in warm-up; frozen parameters; recipes that equal their originals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification, AstHfError
from ast_hf.recipe.optimization_options import Optimization
from ast_hf.training import Augmentation, FeatureOptions, ModelOptions, Recipe, load_recipe, prepare
from ast_hf.training.optimization import (
    depth_of,
    freeze,
    milestone_schedule,
    original_adam,
    parameter_groups,
    rate_factor,
)

from .runs import Stop, checkpoint_digest, recipe

RECIPES = ROOT / "examples" / "recipes"


def model() -> ASTForAudioClassification:
    return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3))


#: recipe -> optimizer steps per epoch of the original, and the learning rate of every epoch, to four digits. (Those of
#: speech-commands are from the log; the published script would lower the rate to 4.30e-6 from epoch 26 on.)
RATES: dict[str, tuple[int, list[float]]] = {
    "audioset-balanced": (1733, [5e-5] * 10 + [2.5e-5] * 5 + [1.25e-5] * 5 + [6.25e-6] * 5),
    "audioset-full": (162_757, [1e-5, 1e-5, 5e-6, 2.5e-6, 1.25e-6]),
    "esc50": (
        34,
        [1e-5] * 5
        + [8.5e-6, 7.225e-6, 6.141e-6, 5.220e-6, 4.437e-6, 3.771e-6, 3.206e-6, 2.725e-6, 2.316e-6, 1.969e-6]
        + [
            1.673e-6,
            1.422e-6,
            1.209e-6,
            1.028e-6,
            8.735e-7,
            7.425e-7,
            6.311e-7,
            5.365e-7,
            4.560e-7,
            3.876e-7,
        ],
    ),
    "esc50-imagenet-only": (
        34,
        [1e-4] * 5
        + [8.5e-5, 7.225e-5, 6.141e-5, 5.220e-5, 4.437e-5, 3.771e-5, 3.206e-5, 2.725e-5, 2.316e-5, 1.969e-5]
        + [
            1.673e-5,
            1.422e-5,
            1.209e-5,
            1.028e-5,
            8.735e-6,
            7.425e-6,
            6.311e-6,
            5.365e-6,
            4.560e-6,
            3.876e-6,
        ],
    ),
    "speech-commands": (
        663,
        [2.5e-4] * 5
        + [2.125e-4, 1.806e-4, 1.535e-4, 1.305e-4, 1.109e-4, 9.429e-5, 8.014e-5, 6.812e-5, 5.790e-5, 4.922e-5]
        + [4.184e-5, 3.556e-5, 3.023e-5, 2.569e-5, 2.184e-5, 1.856e-5, 1.578e-5, 1.341e-5, 1.140e-5, 9.690e-6]
        + [8.236e-6] * 5,
    ),
}
#: recipe -> rise of the learning rate every 50 steps, 20 times from 0; other recipes have no warm-up.
STAIRS = {"audioset-balanced": 2.5e-6, "audioset-full": 5e-7}


def rate(recipe: Recipe, step: int, per_epoch: int) -> float:
    factor = rate_factor(recipe.optimization, step, per_epoch, recipe.training["warmup_steps"])
    return recipe.training["learning_rate"] * factor


@pytest.mark.parametrize("name", RATES)
def test_learning_rate_by_epoch_matches_the_original(name: str) -> None:
    """Compares the first and the last step of each epoch, without the warm-up."""
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    (per_epoch, rates) = RATES[name]
    assert recipe.training["num_train_epochs"] == len(rates)
    firsts = [1000 if name in STAIRS else 0, *range(per_epoch, len(rates) * per_epoch, per_epoch)]
    lasts = range(per_epoch - 1, len(rates) * per_epoch, per_epoch)
    for steps in (firsts, lasts):
        assert [rate(recipe, step, per_epoch) for step in steps] == pytest.approx(rates, rel=5e-4)


@pytest.mark.parametrize("name", STAIRS)
def test_learning_rate_of_the_warm_up_matches_the_original(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    (per_epoch, rates) = RATES[name]
    climbed = [rate(recipe, step, per_epoch) for step in range(1001)]
    assert climbed == pytest.approx(
        [stair * STAIRS[name] for stair in range(20) for _ in range(50)] + [rates[0]]
    )


DEIT = "facebook/deit-base-distilled-patch16-384"
AUDIOSET_BEST = "MIT/ast-finetuned-audioset-10-10-0.4593"
STRIDES = {"frequency_stride": 10, "time_stride": 10}
MASKS: dict[str, Any] = {"frequency_masks": 1, "time_masks": 1}
MIXUP: dict[str, Any] = {"mixup_probability": 0.5, "mixup_alpha": 10}
BEST_EPOCH = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
HALVING: dict[str, Any] = {"optimizer": "adam", "milestone_factor": 0.5, "warmup": "staircase"}
FALLING: dict[str, Any] = {"optimizer": "adam", "milestone_factor": 0.85, "warmup": "linear"}
AUDIOSET: dict[str, Any] = {
    "features": FeatureOptions(mean=-4.2677393, std=4.5689974),
    "model": ModelOptions(vit=DEIT, config={"max_length": 1024, **STRIDES}),
    "augmentation": Augmentation(**MASKS, frequency_mask_width=48, time_mask_width=192, **MIXUP),
    "loss": "task",
    "training": {"per_device_train_batch_size": 12, "warmup_steps": 1000},
}
ESC: dict[str, Any] = {
    "features": FeatureOptions(mean=-6.6268077, std=5.358466),
    "augmentation": Augmentation(**MASKS, frequency_mask_width=24, time_mask_width=96),
    "optimization": Optimization(**FALLING, milestones=[*range(5, 25)]),
    "loss": "task",
    "sampling": "shuffled",
    "averaging_epochs": None,
    "training": {"per_device_train_batch_size": 48, "warmup_steps": 0},
}
#: recipe -> settings in the original's script or log.
SETTINGS: dict[str, dict[str, Any]] = {
    "audioset-balanced": {
        **AUDIOSET,
        "optimization": Optimization(**HALVING, milestones=[10, 15, 20, 25]),
        "sampling": "shuffled",
        "averaging_epochs": [6, 25],
    },
    "audioset-full": {
        **AUDIOSET,
        "optimization": Optimization(**HALVING, milestones=[2, 3, 4, 5]),
        "sampling": "balanced",
        "averaging_epochs": [1, 5],
    },
    "esc50": {**ESC, "model": ModelOptions(base=AUDIOSET_BEST, config={"max_length": 512, **STRIDES})},
    "esc50-imagenet-only": {**ESC, "model": ModelOptions(vit=DEIT, config={"max_length": 512, **STRIDES})},
    "speech-commands": {
        "features": FeatureOptions(mean=-6.845978, std=5.5654526),
        "model": ModelOptions(vit=DEIT, config={"max_length": 128, **STRIDES}),
        "augmentation": Augmentation(
            **MASKS, frequency_mask_width=48, time_mask_width=48, **MIXUP, noise=0.1, roll_frames=10
        ),
        "optimization": Optimization(**FALLING, milestones=[*range(5, 26)]),
        "loss": "binary_cross_entropy",
        "sampling": "shuffled",
        "averaging_epochs": None,
        "training": {"per_device_train_batch_size": 128, "warmup_steps": 0, **BEST_EPOCH},
    },
}
ADAM = {"adam_beta1": 0.95, "adam_beta2": 0.999, "weight_decay": 5e-7, "max_grad_norm": 0}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_match_the_original(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    expected = {**SETTINGS[name], "averaging_decay": None}
    training = {**expected.pop("training"), **ADAM}
    assert {option: getattr(recipe, option) for option in expected} == expected
    assert {option: recipe.training.get(option) for option in training} == training


def test_staircase_warm_up_matches_the_original() -> None:
    options = Optimization(milestones=[2], warmup="staircase")
    factors = {
        step: rate_factor(options, step, 700, 1000) for step in (0, 49, 50, 99, 100, 999, 1000, 1399, 1400)
    }
    assert factors == {
        0: 0.0,
        49: 0.0,
        50: 0.05,
        99: 0.05,
        100: 0.1,
        999: 0.95,
        1000: 1.0,
        1399: 1.0,
        1400: 0.5,
    }


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
    """L2 passes through Adam: without any loss, the first step moves every weight towards zero."""
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


def test_adam_makes_a_step_in_one_pass_where_torch_can() -> None:
    """The fused step is plain Adam but for rounding."""
    parts = [model(), model()]
    parts[1].load_state_dict(parts[0].state_dict())
    fused = original_adam(parts[0], 1e-3, (0.95, 0.999), 5e-7)
    plain = torch.optim.Adam(parts[1].parameters(), 1e-3, (0.95, 0.999), weight_decay=5e-7, foreach=False)
    assert fused.defaults["fused"]
    for step in range(5):
        for mine, other in zip(parts[0].parameters(), parts[1].parameters(), strict=True):
            torch.manual_seed(step)
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        fused.step()
        plain.step()
    gaps = [
        (mine - other).abs().max().item()
        for mine, other in zip(parts[0].parameters(), parts[1].parameters(), strict=True)
    ]
    assert 0 < max(gaps) < 1e-6  # of a way of 5e-3
    assert not original_adam(model().to("meta"), 1e-3, (0.95, 0.999), 0.0).defaults["fused"]


def test_a_run_with_adam_resumes_to_the_same_weights(clips: Path, tmp_path: Path) -> None:
    options = {"optimization": {"optimizer": "adam", "milestones": [1]}}
    plan = recipe(clips, options, save_strategy="steps", save_steps=2, save_total_limit=None)
    prepare(plan, tmp_path / "whole").trainer.train()
    broken = prepare(plan, tmp_path / "broken").trainer
    broken.add_callback(Stop(step=4))
    broken.train()
    prepare(plan, tmp_path / "broken").trainer.train(resume_from_checkpoint=True)
    ends = [checkpoint_digest(tmp_path / name / "checkpoint-6") for name in ("whole", "broken")]
    assert ends[0] == ends[1]


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
    groups_by_name = {name: rate_of[id(parameter)] for name, parameter in ours.named_parameters()}
    assert len(rate_of) == len(groups_by_name)
    backbone = "audio_spectrogram_transformer."
    for name, rate in {
        "classifier.dense.weight": 1e-3,
        f"{backbone}layernorm.bias": 1e-3,
        f"{backbone}encoder.layer.1.layernorm_after.weight": 5e-4,
        f"{backbone}encoder.layer.0.layernorm_after.weight": 2.5e-4,
        f"{backbone}embeddings.position_embeddings": 1.25e-4,
    }.items():
        assert groups_by_name[name]["lr"] == pytest.approx(rate), name
    assert groups_by_name["classifier.dense.weight"]["weight_decay"] == 0.1
    assert groups_by_name["classifier.dense.bias"]["weight_decay"] == 0.0


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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both schedules": (
        {"optimization": {"milestones": [1]}, "training": {"lr_scheduler_type": "linear"}},
        r"optimization\.milestones.*lr_scheduler_type",
    ),
    "stairs without milestones": (
        {"optimization": {"warmup": "staircase"}},
        r"optimization\.warmup.*milestones",
    ),
    "adam by layers": (
        {"optimization": {"optimizer": "adam", "layer_decay": 0.9}},
        r"optimization\.optimizer",
    ),
    "misspelt": ({"optimization": {"warmup": "stairs"}}, r"optimization\.warmup.*'stairs'.*staircase"),
    "sampling": ({"sampling": "balance"}, r"sampling.*did you mean 'balanced'"),
    "loss": ({"loss": "bce"}, r"loss.*'bce'"),
    "milestone": ({"optimization": {"milestones": [1.5]}}, r"milestones.*whole numbers"),
    "factor": ({"optimization": {"milestone_factor": 2.0}}, r"milestone_factor.*2.0"),
    "two averages": (
        {"averaging_decay": 0.9, "averaging_epochs": [1, 2]},
        r"averaging_epochs.*one of the two",
    ),
    "no range": ({"averaging_epochs": [3, 2]}, r"averaging_epochs.*\[3, 2\]"),
    "one epoch": ({"averaging_epochs": [3]}, r"averaging_epochs.*\[3\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused(case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(AstConfigError, match=rf"E307.*{message}"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_reads_and_explains_itself(path: Path) -> None:
    recipe = load_recipe(path)
    published = Recipe.from_dict(recipe.to_dict())  # as published: without the paths of samples
    assert replace(published, card=replace(published.card, samples=recipe.card.samples)) == recipe
    assert path.read_text(encoding="utf-8").startswith("# ")
