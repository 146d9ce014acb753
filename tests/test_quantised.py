"""Models quantised, saved and loaded by torchao and bitsandbytes, compared with transformers' AST.

The libraries are in a folder of their own, because transformers and peft import them if they are installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
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


LOADING = """
import json, sys
sys.path.append(LIBRARIES)
import ast_hf, torch
from transformers import AutoModelForAudioClassification, TorchAoConfig, pipeline
from torchao import quantization

int8 = quantization.Int8WeightOnlyConfig()
pattern = r"re:.*\\.encoder\\.layer\\.\\d+\\..*(query|key|value|dense)\\.weight"
configs = {
    "int8": int8,
    "int8 dynamic": quantization.Int8DynamicActivationInt8WeightConfig(),
    "fp8": quantization.Float8WeightOnlyConfig(),
    "by path": quantization.FqnToConfig({pattern: int8}),
}
loaders = {
    "Auto": AutoModelForAudioClassification.from_pretrained,
    "class": ast_hf.ASTForAudioClassification.from_pretrained,
    "pipeline": lambda folder, **given: pipeline("audio-classification", model=folder, model_kwargs=given).model,
}
x = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
plain = ast_hf.ASTForAudioClassification.from_pretrained(FOLDER).eval()
ast_hf.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(FOLDER)
reports = {}
for name, config in configs.items():
    for loader, load in loaders.items():
        left_out = None if name == "by path" else ["classifier.dense"]
        model = load(FOLDER, quantization_config=TorchAoConfig(config, modules_to_not_convert=left_out)).eval()
        kinds = {path: type(each).__name__ for path, each in model.named_parameters()}
        unchanged = [path for path, kind in kinds.items() if kind == "Parameter" and path.endswith("dense.weight")]
        with torch.no_grad():
            gap = float((model(x).logits - plain(x).logits).abs().max())
        reports[f"{name}, {loader}"] = {"kinds": sorted(set(kinds.values())), "plain": unchanged, "gap": gap}
print("REPORT" + json.dumps(reports))
"""


@pytest.mark.slow
def test_the_classifier_is_left_out_by_path(libraries: Path, checkpoint: Path) -> None:
    """Layers of the blocks are called `dense` too."""
    head = f"LIBRARIES = {str(libraries)!r}\nFOLDER = {str(checkpoint)!r}\n"
    reports = json.loads(run_fresh(head + LOADING).split("REPORT")[1])
    assert len(reports) == 12
    for report in reports.values():
        assert report["plain"] == ["classifier.dense.weight"]
        assert len(report["kinds"]) == 2
        assert 0.0 < report["gap"] < 0.03


@pytest.mark.slow
def test_the_example_of_the_document_runs(libraries: Path, checkpoint: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "quantise.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shutil.copytree(checkpoint, tmp_path / "outputs" / "demo")
    head = (
        f"import os, sys\nos.chdir({str(tmp_path)!r})\nsys.path.append({str(libraries)!r})\nimport ast_hf\n"
    )
    head += 'ast_hf.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained("outputs/demo")\n'
    ending = "layers = classify.model.classifier.dense, model.base_model.encoder.layer[0].output.dense\n"
    ending += "print(*(type(each.weight).__name__ for each in layers))"
    assert run_fresh(f"{head}{block}\n{ending}").split()[-2:] == ["Parameter", "Int8Tensor"]


# ---------------------------------------------------------------- training in fp8

STEPS = """
import copy, json, sys
sys.path.append(LIBRARIES)
import ast_hf, torch
from ast_hf.training import float8

float8.EMULATED = EMULATED
torch.manual_seed(0)
plain = ast_hf.ASTForAudioClassification(ast_hf.ASTConfig(**SIZES))
model = copy.deepcopy(plain)
count = float8.use_float8(model)
layers = sorted(name for name, part in model.named_modules() if type(part).__name__ == "Float8Linear")
assert list(model.state_dict()) == list(plain.state_dict())
x, labels = torch.randn(5, 64, 32), torch.tensor([0, 1, 2, 0, 1])

def train(model):
    optimizer, losses, first = torch.optim.AdamW(model.parameters(), 1e-3), [], None
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x, labels=labels)
        first = output.logits.detach().float() if first is None else first
        losses.append(float(output.loss))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses, first

(losses, first), (plain_losses, plain_first) = train(model), train(plain)
kinds = sorted({str(value.dtype) for value in model.state_dict().values()})
print("REPORT" + json.dumps({"count": count, "layers": layers, "losses": losses, "plain": plain_losses,
      "gap": float((first - plain_first).abs().max()), "spread": float(plain_first.std()), "kinds": kinds}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("emulated", [True, False])  # torch has a slow fp8 product for processors
def test_fp8_learns_like_bf16(libraries: Path, emulated: bool) -> None:
    """Logits differ by a fifth of their spread at most, losses by 5 %. 115 tokens in a batch are no multiple of 16."""
    sizes = {**SIZES, "num_hidden_layers": 3, "num_labels": 3}
    head = f"LIBRARIES = {str(libraries)!r}\nSIZES = {sizes!r}\nEMULATED = {emulated}\n"
    report = json.loads(run_fresh(head + STEPS).split("REPORT")[1])
    path = "audio_spectrogram_transformer.encoder.layer"
    assert report["count"] == len(report["layers"]) == 12
    assert all(layer.startswith((f"{path}.0.", f"{path}.1.")) for layer in report["layers"])
    assert report["kinds"] == ["torch.float32"]
    assert 0.0 < report["gap"] < 0.2 * report["spread"]
    assert report["losses"][-1] < 0.5 * report["losses"][0]
    assert report["losses"] == pytest.approx(report["plain"], rel=0.05)


RUN = """
import json, shutil, sys, warnings
from pathlib import Path
sys.path.append(LIBRARIES)
sys.path.append(TESTS)
import ast_hf, torch
from ast_hf.training import finetune, float8, prepare
from safetensors.torch import load_file
from training.runs import VARIED, Stop, recipe, write_clips

float8.EMULATED = True
root = Path(FOLDER)
write_clips(root / "clips")
options = {**VARIED, "model": {"config": SIZES, "factored_positions": True}, "patchout": {"time": 1}}
plan = recipe(root / "clips", {**options, "precision": "fp8"})
report = finetune(plan, root / "whole")
run = prepare(plan, root / "cut")
run.trainer.add_callback(Stop(step=4))
run.trainer.train()
del run
shutil.copytree(root / "cut", root / "other", ignore=shutil.ignore_patterns("*.lock"))
again = {name: recipe(root / "clips", {**options, "precision": name}) for name in ("auto", "bf16")}
resumed = finetune(again["auto"], root / "cut", resume_from_checkpoint="auto")
try:
    finetune(again["bf16"], root / "other", resume_from_checkpoint="auto")
except ast_hf.AstConfigError as problem:
    refused = str(problem)
one_block = {"precision": "fp8", "model": {"config": {**SIZES, "num_hidden_layers": 1}}}
try:
    prepare(recipe(root / "clips", one_block), root / "one")
except ast_hf.AstConfigError as problem:
    shallow = str(problem)
results = json.loads((root / "whole/results.json").read_text())
weights, others = (load_file(root / name / "model.safetensors") for name in ("whole", "cut"))
model = ast_hf.ASTForAudioClassification.from_pretrained(root / "whole")
print("REPORT" + json.dumps({
    "precisions": [report.precision, resumed.precision, results["precision"]],
    "is_equal": all(torch.equal(value, others.pop(name)) for name, value in weights.items()) and not others,
    "kinds": sorted({str(value.dtype) for value in weights.values()}),
    "layers": sorted({type(part).__name__ for part in model.modules() if isinstance(part, torch.nn.Linear)}),
    "refused": refused, "shallow": shallow,
}))
"""


@pytest.mark.slow
def test_a_run_in_fp8_resumes_to_the_bit_and_saves_plain_weights(libraries: Path, tmp_path: Path) -> None:
    """With an average, factored positions, patchout and dropout; the resumed run keeps fp8 under `auto`."""
    sizes = {**TINY, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    values = {
        "LIBRARIES": str(libraries),
        "TESTS": str(ROOT / "tests"),
        "FOLDER": str(tmp_path),
        "SIZES": sizes,
    }
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    report = json.loads(run_fresh(head + RUN).split("REPORT")[1])
    assert report["precisions"] == ["fp8"] * 3
    assert report["is_equal"]
    assert report["kinds"] == ["torch.float32"]
    assert report["layers"] == ["Linear"]
    assert "E306" in report["refused"]
    assert "precision was 'fp8'" in report["refused"]
    assert "E307" in report["shallow"]
    assert "leaves out the last block" in report["shallow"]
