"""Device, precision and batch size of the models of the commands, with a GPU that is pretended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

from ast_hf import ASTConfig, ASTForAudioClassification, cli
from ast_hf.acceleration import placement
from ast_hf.acceleration.placement import check_precision, default_batch_size, default_device, place
from ast_hf.errors import AstConfigError

CPU = torch.device("cpu")
#: A device whose tensors have no values: where a model goes, and in which dtype, is seen without a GPU.
GPU = torch.device("meta")


def model(dtype: torch.dtype = torch.float32) -> ASTForAudioClassification:
    return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)).to(dtype).eval()


@pytest.mark.parametrize(
    ("stored", "precision", "has_bfloat16", "expected"),
    [
        ("float32", None, True, "bfloat16"),
        ("float32", None, False, "float32"),
        ("float16", None, True, "float16"),
        ("bfloat16", None, False, "bfloat16"),
        ("float32", "auto", True, "bfloat16"),
        ("float16", "auto", True, "bfloat16"),
        ("float16", "auto", False, "float32"),
        ("float32", "float32", True, "float32"),
        ("bfloat16", "float32", True, "float32"),
        ("float32", "bfloat16", False, "bfloat16"),
    ],
)
def test_on_a_gpu_the_weights_have_the_precision(
    monkeypatch: pytest.MonkeyPatch, stored: str, precision: str | None, has_bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr(placement, "gpu_has_bfloat16", lambda: has_bfloat16)
    placed, where = place(model(getattr(torch, stored)), GPU, precision)
    assert {(value.device.type, value.dtype) for value in placed.parameters()} == {
        ("meta", getattr(torch, expected))
    }
    assert not placed.is_optimized
    assert str(where) == f"on meta in {expected}"


def test_a_quantised_model_keeps_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "gpu_has_bfloat16", lambda: True)
    quantised = model()
    quantised.is_quantized = True
    assert place(quantised, GPU)[0].dtype == torch.float32
    for device in (CPU, GPU):
        with pytest.raises(AstConfigError, match=r"E302\] precision: 'bfloat16'.*quantised.*leave it out"):
            place(quantised, device, "bfloat16")


def test_on_a_cpu_nothing_changes_unless_a_copy_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "gpu_has_bfloat16", lambda: True)
    plain = model()
    placed, where = place(plain, CPU)
    assert placed is plain
    assert str(where) == "on cpu in float32"
    for precision, name in (("float32", "float32"), ("bfloat16", "bfloat16"), ("int8", "int8")):
        copied, where = place(plain, CPU, precision)
        assert copied.is_optimized
        assert where.precision == name
    assert place(model(torch.float16), CPU, "float32")[0].dtype == torch.float32


def test_impossible_precisions_are_refused_before_the_work() -> None:
    with pytest.raises(AstConfigError, match=r"E302\] precision: 'int8' is for the CPU.*on meta.*bfloat16"):
        check_precision("int8", GPU)
    with pytest.raises(AstConfigError, match=r"E302\] precision: 'bf16' is not a valid choice.*bfloat16"):
        check_precision("bf16", CPU)
    check_precision("int8", CPU)


def test_the_batch_is_larger_on_a_gpu() -> None:
    assert default_batch_size(CPU) == 8
    assert default_batch_size(GPU) == 64


def test_the_device_is_the_accelerator_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert default_device() == torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert default_device() == CPU


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a GPU with bfloat16."""
    monkeypatch.setattr(placement, "gpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(placement, "default_device", lambda: CPU)
    for name in (
        *("acceleration.placement", "device_features", "feature_extraction_ast", "window_features"),
        "evaluation.prediction",
    ):
        if module := sys.modules.get(f"ast_hf.{name}"):
            monkeypatch.setattr(module, "is_batched", lambda device: True)


@pytest.fixture
def clip(tone: Any, tmp_path: Path) -> Path:
    import soundfile

    path = tmp_path / "tone.wav"
    soundfile.write(path, tone, 16_000)
    return path


@pytest.mark.filterwarnings("ignore:.*W408")
def test_classify_says_on_standard_error_what_was_chosen(
    tiny_checkpoint: Path, clip: Path, pretended_gpu: None, capsys: pytest.CaptureFixture
) -> None:
    command = ["classify", str(tiny_checkpoint), str(clip)]
    assert cli.main(command) == 0
    found = capsys.readouterr()
    assert found.err.endswith("1 recording: 1 classified (0.0 min of audio), on cpu in bfloat16\n")
    assert len(found.out.splitlines()) == 3
    assert cli.main([*command, "--precision", "float32"]) == 0
    assert capsys.readouterr().err.endswith(", on cpu in float32\n")
    assert cli.main([*command, "--precision", "int8"]) == 65
    assert "AST-E302" in capsys.readouterr().err


def test_on_a_cpu_the_copy_is_named_and_nothing_else(
    tiny_checkpoint: Path, clip: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["classify", str(tiny_checkpoint), str(clip)]
    assert cli.main(command) == 0
    assert capsys.readouterr().err == ""
    assert cli.main([*command, "--precision", "int8"]) == 0
    assert capsys.readouterr().err.endswith(", on cpu in int8\n")
