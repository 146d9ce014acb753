"""TrainingArguments of a recipe: those without effect are refused, and the effective ones are recorded."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import TrainingArguments

from ast_hf import AstConfigError, AstDataError, AstHfWarning
from ast_hf.recipe.arguments import build_arguments, check_joined, default_readers, weight_arguments
from ast_hf.recipe.optimization_options import Optimization
from ast_hf.training import Recipe, Report, finetune, finish, load_recipe, prepare
from training.runs import recipe

REFUSED: dict[str, Any] = {
    "output_dir": "elsewhere",
    "resume_from_checkpoint": "checkpoint-3",
    "data_seed": 7,
    "save_only_model": True,
    "label_smoothing_factor": 0.1,
    "remove_unused_columns": True,
    "prediction_loss_only": True,
    "batch_eval_metrics": True,
}


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_arguments_without_effect_or_with_harm_are_refused(name: str, value: Any) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*training\.{name}: .*Fix: "):
        Recipe.from_dict({"training": {name: value}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logging_steps", "lots", "not a number"),
        ("num_train_epochs", True, "not a number"),
        ("learning_rate", "1e-4 ", "not a number"),
        ("bf16", 1, "not a boolean"),
        ("gradient_checkpointing", "no", "not a boolean"),
        ("num_train_epochs", 0, "is 0"),
        ("per_device_train_batch_size", 0, "is 0"),
        ("learning_rate", -1, "is -1"),
        ("learning_rate", float("nan"), "not a finite number"),
        ("max_grad_norm", float("nan"), "not a finite number"),
        ("weight_decay", float("inf"), "not a finite number"),
        ("adam_beta2", 2, "is 2"),
        ("seed", 1.5, "not a whole number"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("seed", None, "not a number"),
        ("dataloader_num_workers", -1, "from 0 to 1024"),
        ("per_device_train_batch_size", 10**9, "from 1 to"),
        ("logging_steps", 1.5, "a whole number above 0"),
        ("run_name", 3, "not a string"),
        ("lr_scheduler_type", "cosin", "did you mean 'cosine'"),
        ("optim", ["adamw_torch"], "not a valid choice"),
        ("log_level", "loud", "not a valid choice"),
        ("debug", ["underflow"], "not a valid choice"),
        ("gradient_checkpointing_kwargs", {2: True}, "not text"),
        ("gradient_checkpointing_kwargs", '{"use_reentrant"', "not JSON"),
        ("label_names", ["target"], "renames the labels"),
        ("dataloader_prefetch_factor", 2, "there are none"),
        ("parallelism_config", {}, "object of accelerate"),
    ],
)
def test_values_of_the_wrong_type_or_range_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*training\.{name}: .*{message}"):
        Recipe.from_dict({"training": {name: value}})


def test_options_of_checkpointing_have_known_names() -> None:
    with pytest.raises(AstConfigError, match=r"kwargs\.reentrant: .*did you mean 'use_reentrant'"):
        Recipe.from_dict({"training": {"gradient_checkpointing_kwargs": {"reentrant": True}}})


def test_numbers_and_mappings_in_other_spellings() -> None:
    training = {
        "max_steps": 1e3,
        "adam_beta1": 0,
        "gradient_checkpointing_kwargs": '{"use_reentrant": false}',
    }
    read = Recipe.from_dict({"training": training}).training
    assert read == {
        "max_steps": 1000,
        "adam_beta1": 0.0,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    }
    assert (type(read["max_steps"]), type(read["adam_beta1"])) == (int, float)


@pytest.mark.parametrize("name", [name for name, value in REFUSED.items() if value is True])
def test_false_is_accepted_for_refused_flags(name: str) -> None:
    assert Recipe.from_dict({"training": {name: False}}).training == {name: False}


@pytest.mark.parametrize("name", ["save_strategy", "eval_strategy", "logging_strategy"])
def test_unquoted_no_is_accepted_as_a_strategy(name: str, tmp_path: Path) -> None:
    """YAML parses an unquoted `no` as false."""
    (tmp_path / "recipe.yaml").write_text(f"training:\n  {name}: no\n")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.training == {name: "no"}
    assert getattr(build_arguments(recipe.training, tmp_path), name) == "no"


@pytest.mark.parametrize(
    ("started", "counted", "refused"), [("4", 1, True), ("4", 4, False), ("1", 1, False)]
)
def test_several_processes_without_a_launcher_are_refused(
    monkeypatch: pytest.MonkeyPatch, started: str, counted: int, refused: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(AstConfigError, match=r"E307.*one of 4.*torchrun") if refused else nullcontext():
        check_joined(counted)


#: argument -> part of the message
NOT_TAKEN = {
    "optim": ({"optim": "adamx"}, "adamx"),
    "eval_strategy": ({"eval_strategy": "epohc"}, "epohc"),
    "lr_scheduler_type": ({"lr_scheduler_type": "cosinus"}, "cosinus"),
    "load_best_model_at_end": ({"load_best_model_at_end": True}, "eval"),
    "options of the schedule": (
        {"lr_scheduler_kwargs": {"gamma": 1}},
        r"lr_scheduler_kwargs: cannot be used .*gamma",
    ),
    "options of the optimizer": ({"optim_args": "fast"}, r"optim_args: cannot be used"),
    "a file of options": ({"accelerator_config": "none.json"}, r"accelerator_config: is refused.*none\.json"),
    "two arguments": ({"learning_rate": 1e-3, "fsdp": "x"}, r"fsdp: is refused by transformers"),
    "report_to": ({"report_to": "tensorbord"}, r"did you mean 'tensorboard'"),
    "report_to a package": (
        {"report_to": ["neptune"]},
        r"neptune is not installed\. Fix: pip install neptune",
    ),
}


@pytest.mark.parametrize(("training", "message"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_arguments_that_transformers_refuses_are_refused(
    training: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*training.*{message}"):
        build_arguments({"use_cpu": True, **training}, tmp_path)


def test_best_checkpoint_by_an_unknown_metric_is_refused(clips: Path, tmp_path: Path) -> None:
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "acuracy"}
    with pytest.raises(
        AstConfigError, match=r"E307.*metric_for_best_model: 'acuracy'.*did you mean 'accuracy'"
    ):
        prepare(recipe(clips, {"data": {"validation_fraction": 0.25}}, **best), tmp_path)


def test_best_checkpoint_by_accuracy(clips: Path, tmp_path: Path) -> None:
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    report = finetune(recipe(clips, {"data": {"validation_fraction": 0.25}}, **best), tmp_path)
    assert report.results["test"]["accuracy"] >= 0.5


# ---------------------------------------------------------------- bfloat16 without a GPU


@pytest.mark.parametrize(
    ("processors", "processes", "readers"), [(1, 1, 0), (2, 1, 1), (16, 1, 8), (16, 4, 3), (4, 8, 0)]
)
def test_readers_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, processors: int, processes: int, readers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_readers({}) == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_readers({}) == readers
    assert default_readers({"use_cpu": True}) == 0


def test_a_recipe_and_a_stream_choose_their_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules["ast_hf.recipe.arguments"], "default_readers", lambda _: 3)
    assert build_arguments({}, tmp_path).dataloader_num_workers == 3
    assert build_arguments({"dataloader_num_workers": 0}, tmp_path).dataloader_num_workers == 0
    assert build_arguments({}, tmp_path).dataloader_persistent_workers
    for given in ({"dataloader_num_workers": 0}, {"dataloader_num_workers": 2}):
        assert not build_arguments(given, tmp_path).dataloader_persistent_workers
    assert build_arguments({"max_steps": 1}, tmp_path, streamed=True).dataloader_num_workers == 0


def processor(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    """Pretend that there is no accelerator, and a processor with these capabilities."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for name in ("is_torch_bf16_gpu_available", "is_torch_xla_available"):
        monkeypatch.setattr(sys.modules["ast_hf.recipe.arguments"], name, lambda: False)
    reported = {"architecture": "x86_64", "avx2": True, **capabilities}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: reported, raising=False)


@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
@pytest.mark.parametrize("instructions", [{"avx512_bf16": True}, {"amx_bf16": True}, {"bf16": True}], ids=str)
def test_bfloat16_on_a_processor_with_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    tmp_path: Path,
    name: str,
    instructions: dict,
) -> None:
    processor(monkeypatch, **instructions)
    arguments = build_arguments({name: True}, tmp_path)
    assert (arguments.device.type, getattr(arguments, name)) == ("cpu", True)
    assert [str(one.message) for one in recwarn if one.category is AstHfWarning] == []


@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
@pytest.mark.parametrize("training", [{}, {"use_cpu": True}], ids=["no accelerator", "requested"])
def test_bfloat16_on_a_processor_without_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    tmp_path: Path,
    name: str,
    training: dict,
) -> None:
    processor(monkeypatch, avx512_bf16=False, amx_bf16=False)
    assert build_arguments({name: True, **training}, tmp_path).device.type == "cpu"
    messages = [str(one.message) for one in recwarn if one.category is AstHfWarning]
    assert messages == [
        f"[AST-W408] training.{name}: this processor has no bfloat16 instructions, so float32 would be faster: 6.5 "
        "times for AST-base."
    ]


def test_unknown_processor_features_give_no_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, tmp_path: Path
) -> None:
    processor(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    build_arguments({"bf16": True}, tmp_path)
    assert [one for one in recwarn if one.category is AstHfWarning] == []


@pytest.mark.parametrize("where", ["accelerator", "is_torch_bf16_gpu_available", "is_torch_xla_available"])
def test_bfloat16_stays_on_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """On a GPU, Apple's accelerator or a TPU, transformers gets the arguments of the recipe unchanged."""
    processor(monkeypatch, avx512_bf16=True)
    arguments = sys.modules["ast_hf.recipe.arguments"]
    module, name = (torch.accelerator, "is_available") if where == "accelerator" else (arguments, where)
    monkeypatch.setattr(module, name, lambda: True)
    seen: list[dict[str, Any]] = []

    def recording(output_dir: str, **values: Any) -> TrainingArguments:
        seen.append(values)
        return TrainingArguments(output_dir, use_cpu=True, **values)

    monkeypatch.setattr(arguments, "TrainingArguments", recording)
    build_arguments({"bf16": True}, tmp_path)
    assert ["use_cpu" in values for values in seen] == [False]


def test_float32_leaves_use_cpu_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor(monkeypatch)
    assert build_arguments({}, tmp_path).use_cpu is False


def test_a_run_in_bfloat16_without_use_cpu(clips: Path, tmp_path: Path) -> None:
    """Uses the settings of the shipped small-data.yaml."""
    plan = recipe(clips, num_train_epochs=1, bf16=True)
    del plan.training["use_cpu"]
    run = prepare(plan, tmp_path)
    kinds: set[torch.dtype] = set()
    layer = run.trainer.model.base_model.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    run.trainer.train()
    report = finish(run)
    assert kinds == {torch.bfloat16}
    assert (report.recipe.training["bf16"], report.results["test"].keys() >= {"accuracy"}) == (True, True)
    assert {part.dtype for part in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}


DEFAULTS = {
    "num_train_epochs": 3,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "optim": "adamw_torch_fused",
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "train_sampling_strategy": "random",
    "bf16": False,
    "fp16": False,
    "seed": 42,
}
#: arguments of a recipe -> differences from the defaults, None for arguments that another section sets
SETTLED: dict[str, Any] = {
    "nothing": ({}, {}, {}),
    "a rate": ({"learning_rate": 1e-3}, {}, {"learning_rate": 1e-3}),
    "steps": ({"max_steps": 7}, {}, {"num_train_epochs": None, "max_steps": 7}),
    "milestones": ({}, {"milestones": [2]}, {"lr_scheduler_type": None}),
    "the original's Adam": ({}, {"optimizer": "adam"}, {"optim": None}),
}


@pytest.mark.parametrize(("training", "optimization", "changes"), SETTLED.values(), ids=SETTLED)
def test_settled_arguments_are_the_effective_ones(
    training: dict[str, Any], optimization: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    effective = weight_arguments(
        build_arguments({"use_cpu": True, **training}, tmp_path), Optimization(**optimization)
    )
    assert effective == {name: value for name, value in {**DEFAULTS, **changes}.items() if value is not None}
    assert Recipe.from_dict({"training": effective, "optimization": optimization}).training == effective


def test_card_has_the_defaults_of_unset_arguments(trained: Report) -> None:
    text = ModelCard.load(trained.folder / "README.md").text
    card_options = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["training"]
    assert "lr_scheduler_type" not in trained.recipe.training
    training = {"num_train_epochs": 12, "learning_rate": 2e-3, "disable_tqdm": True, "use_cpu": True}
    assert card_options == {**DEFAULTS, **training}


def test_one_process_trains_on_one_gpu(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would wrap the model in `nn.DataParallel`, with a batch of 2 x 8 and two losses."""

    def two_gpus(*args: Any, **kwargs: Any) -> TrainingArguments:
        arguments = build_arguments(*args, **kwargs)
        arguments._n_gpu = 2
        return arguments

    monkeypatch.setattr(sys.modules["ast_hf.training.preparing"], "build_arguments", two_gpus)
    with pytest.warns(AstHfWarning, match=r"W407.*of 2 GPUs.*torchrun --nproc_per_node 2"):
        trainer = prepare(recipe(clips), tmp_path).trainer
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, 8)
    assert trainer.train().global_step == 6


def test_results_are_logged_to_tensorboard(clips: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = finetune(recipe(clips, report_to="tensorboard"), tmp_path)
    (events,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    read = EventAccumulator(str(events)).Reload()
    assert len(read.Scalars("train/loss")) == 2
    assert read.Scalars("eval/test_accuracy")[0].value == pytest.approx(report.results["test"]["accuracy"])


@pytest.mark.parametrize("sample", ["../private.wav", "clips/link.wav"])
def test_samples_that_a_link_takes_from_elsewhere_are_refused(
    sample: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "private.wav", tmp_path / "here" / "clips" / "own.wav"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(next(clips.rglob("*.wav")).read_bytes())
    (tmp_path / "here" / "clips" / "link.wav").symlink_to(tmp_path / "private.wav")
    monkeypatch.chdir(tmp_path / "here")
    options = {"card": {"samples": [sample]}}
    with pytest.raises(AstDataError, match=rf"E206.*card\.samples: '{sample}'.*leads elsewhere"):
        prepare(recipe(clips, options), tmp_path / "out")
    prepare(recipe(clips, {"card": {"samples": ["clips/own.wav"]}}), tmp_path / "out")
