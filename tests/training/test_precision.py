"""The recipe's `precision`: what it chooses, what it contradicts, and that a resumed run keeps it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from transformers import pipeline

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.errors import AstConfigError
from ast_hf.evaluation.prediction import predict_logits
from ast_hf.recipe.precision import default_precision, machine_precision, precision_values
from ast_hf.training import Recipe, finetune, float8, load_audio_dataset, prepare

from .runs import Stop, recipe

PRECISION = sys.modules["ast_hf.recipe.precision"]
RESUMING = sys.modules["ast_hf.training.checkpoints.resuming"]


def processor(monkeypatch: pytest.MonkeyPatch, *, has_bfloat16: bool) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bfloat16, "avx2": True}, raising=False
    )


@pytest.mark.parametrize(
    ("precision", "values"),
    [
        (None, {}),
        ("float32", {"bf16": False, "fp16": False}),
        ("bf16", {"bf16": True, "fp16": False}),
        ("fp16", {"bf16": False, "fp16": True}),
        ("fp8", {"bf16": True, "fp16": False}),
    ],
)
def test_precision_is_two_arguments(precision: str | None, values: dict[str, bool]) -> None:
    assert precision_values(precision, {}) == values


@pytest.mark.parametrize(("has_bfloat16", "chosen"), [(True, "bf16"), (False, "float32")])
def test_auto_takes_what_the_processor_has(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, chosen: str
) -> None:
    processor(monkeypatch, has_bfloat16=has_bfloat16)
    assert machine_precision() == chosen


def test_auto_is_float32_where_the_processor_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", None, raising=False)
    assert machine_precision() == "float32"
    assert PRECISION.has_bfloat16()  # training.bf16 that was asked for is not warned of


@pytest.mark.parametrize(("is_supported", "chosen"), [(True, "bf16"), (False, "float32")])
def test_auto_takes_what_the_gpu_computes_without_emulation(
    monkeypatch: pytest.MonkeyPatch, is_supported: bool, chosen: str
) -> None:
    def supported(*, including_emulation: bool = True) -> bool:
        return including_emulation or is_supported

    processor(monkeypatch, has_bfloat16=not is_supported)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert machine_precision() == chosen
    assert machine_precision(use_cpu=True) == ("float32" if is_supported else "bf16")


@pytest.mark.parametrize("has_gpu", [True, False])
@pytest.mark.parametrize(
    "training", [{}, {"use_cpu": True}, {"bf16": False}, {"fp16": True}, {"tf32": False}], ids=str
)
def test_a_recipe_without_precision_gets_bfloat16_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, training: dict[str, Any]
) -> None:
    processor(monkeypatch, has_bfloat16=True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.setattr(PRECISION, "_gpu_has_bfloat16", lambda: True)
    assert default_precision(training) == ("auto" if has_gpu and not training else None)
    monkeypatch.setattr(PRECISION, "_gpu_has_bfloat16", lambda: False)
    assert default_precision(training) is None


@pytest.mark.parametrize("begun", ["bf16", "float32"])
def test_a_resumed_run_keeps_its_precision_on_another_machine(
    monkeypatch: pytest.MonkeyPatch, clips: Path, tmp_path: Path, begun: str
) -> None:
    """The recipe has none: it began on a GPU, or without, and continues where the default is the other."""
    machines = {"bf16": "auto", "float32": None}
    monkeypatch.setattr(RESUMING, "default_precision", lambda _: machines.pop(begun))
    run = prepare(recipe(clips), tmp_path)
    assert run.trainer.args.bf16 == (begun == "bf16")
    run.trainer.add_callback(Stop(epoch=1))
    run.trainer.train()
    del run
    monkeypatch.setattr(RESUMING, "default_precision", lambda _: next(iter(machines.values())))
    assert finetune(recipe(clips), tmp_path, resume_from_checkpoint="auto").precision == begun


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("value", [True, False])
def test_two_precisions_are_an_error(name: str, value: bool) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*precision: is 'auto', and training.{name} is"):
        Recipe.from_dict({"precision": "auto", "training": {name: value}})


def test_unknown_precision_is_an_error() -> None:
    with pytest.raises(AstConfigError, match=r"E307.*precision.*'bf-16'"):
        Recipe.from_dict({"precision": "bf-16"})


def test_float16_on_a_processor_is_an_error_of_precision(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307.* precision: 'fp16' has no effect on a CPU"):
        prepare(recipe(clips, {"precision": "fp16"}), tmp_path / "run")


def test_a_resumed_run_keeps_what_auto_chose(
    monkeypatch: pytest.MonkeyPatch, clips: Path, tmp_path: Path
) -> None:
    """It was chosen on a processor with bfloat16, and the run continues on one without."""
    monkeypatch.setattr(PRECISION, "machine_precision", lambda **_: "bf16")
    options: dict[str, Any] = {"precision": "auto"}
    run = prepare(recipe(clips, options), tmp_path)
    run.trainer.add_callback(Stop(epoch=1))
    run.trainer.train()
    del run
    monkeypatch.setattr(PRECISION, "machine_precision", lambda **_: "float32")
    report = finetune(recipe(clips, options), tmp_path, resume_from_checkpoint="auto")
    assert report.precision == "bf16"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["precision"] == "bf16"
    assert results["settings"]["bf16"] is True
    assert report.changes == []


# ---------------------------------------------------------------- fp8, without torchao; with it: test_quantised.py


def test_fp8_on_a_processor_is_an_error_before_the_clips_are_read(tmp_path: Path) -> None:
    with pytest.raises(
        AstConfigError, match=r"E307. precision: 'fp8' needs an NVIDIA GPU .* on cpu. Fix: use bf16"
    ):
        prepare(recipe(tmp_path / "none", {"precision": "fp8"}), tmp_path / "run")


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0)])
def test_fp8_on_a_gpu_without_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    monkeypatch.setattr(float8, "find_spec", lambda _: None)
    message = (
        r"8\.9 or above.* and A100 has 8\.0" if capability < (8, 9) else r'torchao.*pip install "ast_hf\[tor'
    )
    with pytest.raises(AstConfigError, match=rf"E307.*precision: 'fp8' .*{message}"):
        float8.check_float8("fp8", SimpleNamespace(device=torch.device("cuda"), fsdp=None, deepspeed=None))


def test_fp8_of_spread_weights_is_an_error() -> None:
    with pytest.raises(AstConfigError, match=r"E307.*precision: 'fp8' needs whole weights"):
        float8.check_float8("fp8", SimpleNamespace(device=torch.device("cuda"), fsdp=True, deepspeed=None))


@pytest.mark.parametrize(
    "section", [{"adapter": {"rank": 4}}, {"optimization": {"frozen": "backbone"}}], ids=str
)
def test_fp8_of_frozen_blocks_is_an_error(section: dict[str, Any]) -> None:
    with pytest.raises(AstConfigError, match=r"E307.*precision: is 'fp8', .*(adapter.rank|frozen) freezes"):
        Recipe.from_dict({"precision": "fp8", **section})


# ---------------------------------------------------------------- models in bfloat16


def score(model: ASTForAudioClassification, clips: Path) -> None:
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")


def embed(model: ASTForAudioClassification, clips: Path) -> None:
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    model.get_audio_embedding(np.zeros(16_000, np.float32), feature_extractor=extractor, sampling_rate=16_000)


def evaluate(model: ASTForAudioClassification, clips: Path) -> None:
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    predict_logits(model, load_audio_dataset(clips)["test"].select(range(2)), extractor)


@pytest.mark.parametrize("use", [score, embed, evaluate], ids=lambda use: use.__name__)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_model_in_bfloat16_is_warned_of_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    clips: Path,
    use: Any,
    dtype: torch.dtype,
    has_bfloat16: bool,
) -> None:
    processor(monkeypatch, has_bfloat16=has_bfloat16)
    monkeypatch.setattr("ast_hf.errors._warned", set())
    use(ASTForAudioClassification(ASTConfig(**TINY, num_labels=2)).to(dtype).eval(), clips)
    messages = [str(one.message) for one in recwarn if "W408" in str(one.message)]
    is_slow = dtype == torch.bfloat16 and not has_bfloat16
    assert len(messages) == is_slow
    assert all("float32 would be faster: 6.5 times" in message for message in messages)
