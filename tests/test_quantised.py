"""Models quantised, saved and loaded by torchao and bitsandbytes, compared with transformers' AST.

The libraries are in a folder of their own, because transformers and peft import them if they are installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, UNREACHABLE, run_fresh

LIBRARIES = ("torchao==0.18.0", "bitsandbytes==0.50.2")
#: Variable with a folder of the libraries, for machines without a package index; without it pip fills one in `build`.
KEPT_FOLDER = "AST_HF_QUANTISATION_LIBRARIES"

#: Multiples of 64: bitsandbytes stores 4-bit weights in blocks of 64.
SIZES = {**TINY, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 64, "num_labels": 64}

PROGRAM = """
import json, sys
sys.path.append(LIBRARIES)
if OURS:
    import ast_hf, warnings
    warnings.simplefilter("error", ast_hf.AstHfWarning)
import torch
from transformers import AutoModelForAudioClassification, BitsAndBytesConfig, TorchAoConfig

def torchao():
    from torchao.quantization import Int8WeightOnlyConfig
    return TorchAoConfig(Int8WeightOnlyConfig())

configs = {
    "torchao": torchao,
    "bitsandbytes-8": lambda: BitsAndBytesConfig(load_in_8bit=True),
    "bitsandbytes-4": lambda: BitsAndBytesConfig(load_in_4bit=True),
}
x = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
plain = AutoModelForAudioClassification.from_pretrained(FOLDER)
model = AutoModelForAudioClassification.from_pretrained(FOLDER, quantization_config=configs[KIND]())
model.save_pretrained(TARGET)
again = AutoModelForAudioClassification.from_pretrained(TARGET)
layers = sorted({type(part).__name__ for part in again.modules() if "inear" in type(part).__name__})
weights = sorted({type(part.weight.data).__name__ for part in again.modules() if isinstance(part, torch.nn.Linear)})
with torch.no_grad():
    plain, first, second = (kind.eval()(x).logits.flatten().tolist() for kind in (plain, model, again))
print("REPORT" + json.dumps({"module": type(again).__module__, "layers": layers, "weights": weights,
                             "plain": plain, "first": first, "second": second}))
"""


@pytest.fixture(scope="module")
def libraries() -> Path:
    """Return the folder to import the libraries from; skip without them."""
    if kept_folder := os.environ.get(KEPT_FOLDER):
        return Path(kept_folder)
    folder = ROOT / "build" / "quantisation"
    if not (folder / "bitsandbytes").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(folder),
            *LIBRARIES,
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode and UNREACHABLE.search(result.stderr):
            pytest.skip(f"{LIBRARIES} cannot be downloaded: {result.stderr.strip().splitlines()[-1]}")
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that transformers' own AST saved."""
    import torch
    from transformers.models import audio_spectrogram_transformer as stock

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("quantised")
    stock.ASTForAudioClassification(stock.ASTConfig(**SIZES)).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "weight", "rounding"),
    [
        ("torchao", "Int8Tensor", 0.01),
        ("bitsandbytes-8", "Linear8bitLt", 0.03),
        ("bitsandbytes-4", "Linear4bit", 0.2),
    ],
    ids=["torchao", "bitsandbytes-8", "bitsandbytes-4"],
)
def test_quantised(
    kind: str, weight: str, rounding: float, libraries: Path, checkpoint: Path, tmp_path: Path
) -> None:
    seen = {}
    for ours in (False, True):
        values = {"LIBRARIES": str(libraries), "OURS": ours, "FOLDER": str(checkpoint), "KIND": kind}
        values["TARGET"] = str(tmp_path / str(ours))
        head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        seen[ours] = json.loads(run_fresh(head + PROGRAM).split("REPORT")[1])
    assert seen[True]["module"] == "ast_hf.modeling_ast"
    assert seen[False]["module"].startswith("transformers.")
    for report in seen.values():
        assert weight in report["layers"] + report["weights"]
        gap = max(abs(left - right) for left, right in zip(report["plain"], report["first"], strict=True))
        assert 0.0 < gap < rounding
        assert report["second"] == pytest.approx(report["first"], abs=1e-6)
    assert seen[True]["first"] == pytest.approx(seen[False]["first"], abs=1e-5)
