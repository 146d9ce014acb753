"""The wheel: complete, small, and usable in an environment without other packages."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

USE = """
import tempfile, torch, ast_hf
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
config = ast_hf.ASTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48,
                          num_mel_bins=32, max_length=64, num_labels=3)
model = ast_hf.ASTForAudioClassification(config).eval()
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    ast_hf.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    loaded = AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
features = extractor(torch.randn(16000) / 10, sampling_rate=16000, return_tensors="pt", truncation=True)
assert torch.equal(loaded(**features).logits, model(**features).logits)
print("loaded", type(loaded).__module__, ast_hf.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "ast_hf").rglob("*.py")} | {"ast_hf/py.typed"}
    for kind in ("*.txt", "*.md", "*.json", "*.yaml"):
        source |= {str(path.relative_to(ROOT)) for path in (ROOT / "ast_hf").rglob(kind)}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == source
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sizes = {file.filename: file.file_size for file in zipfile.ZipFile(wheel).infolist()}
    assert max(sizes.values()) < 50_000, "weights, recordings and pictures do not belong into the package"
    assert wheel.stat().st_size < 1_000_000


@pytest.mark.slow
def test_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, str(wheel)], check=True)
    result = subprocess.run(
        [str(python), "-c", USE], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "loaded ast_hf.modeling_ast" in result.stdout
    assert str(tmp_path) in result.stdout
    tool = subprocess.run(
        [str(python.parent / "ast-hf"), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert "finetune" in tool.stdout
