"""Two versions of transformers load saved checkpoints without ast_hf: no missing or extra keys, equal logits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, UNREACHABLE, randomise, run_fresh
from safetensors import safe_open
from transformers import ViTConfig, ViTModel

from ast_hf import ASTConfig, ASTForAudioClassification, ASTModel

OLD_TRANSFORMERS = "4.57.6"
#: A folder for the second environment, kept between runs; without it each run installs one.
KEPT_ENVIRONMENT = "AST_HF_STOCK_ENV"
#: Tensor names of version 5 of transformers, which our files must not have.
VERSION_5_NAME = re.compile(r"(^|\.)layers\.\d+\.|[qkvo]_proj|mlp\.fc")

LOAD = """
import json, sys
from pathlib import Path
import numpy as np
import torch
import transformers
from transformers import AutoModel, AutoModelForAudioClassification

report = {"version": transformers.__version__, "python": sys.prefix, "models": {}}
for folder in sorted(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).iterdir()):
    head = (folder / "logits.npy").exists()
    load = AutoModelForAudioClassification if head else AutoModel
    model, info = load.from_pretrained(folder, output_loading_info=True)
    model.eval()
    with torch.no_grad():
        outputs = model(torch.from_numpy(np.load(folder / "input_values.npy")))
    answers = {"logits": outputs.logits} if head else {
        "last_hidden_state": outputs.last_hidden_state, "pooler_output": outputs.pooler_output}
    report["models"][folder.name] = {
        "class": f"{type(model).__module__}.{type(model).__name__}",
        "info": {name: sorted(map(str, entries)) for name, entries in info.items()},
        "gaps": {name: float(np.abs(np.load(folder / f"{name}.npy") - answer.numpy()).max())
                 for name, answer in answers.items()},
        "shapes": {name: list(answer.shape) for name, answer in answers.items()},
        "labels": list(model.config.id2label.values()),
        "sizes": [getattr(model.config, name) for name in
                  ("max_length", "num_mel_bins", "patch_size", "frequency_stride", "time_stride")],
    }
report["ast_hf"] = [name for name in sys.modules if name.split(".")[0] == "ast_hf"]
print("REPORT" + json.dumps(report))
"""

#: Folder -> (class, sizes in the order of LOAD, shape of the output).
EXPECTED: dict[str, tuple[str, list[int], dict[str, list[int]]]] = {
    "base": ("ASTModel", [64, 32, 16, 8, 8], {"last_hidden_state": [2, 23, 24], "pooler_output": [2, 24]}),
    "factored": ("ASTForAudioClassification", [64, 32, 16, 8, 8], {"logits": [2, 3]}),
    "from-vit": ("ASTForAudioClassification", [64, 32, 16, 8, 8], {"logits": [2, 3]}),
    "head": ("ASTForAudioClassification", [64, 32, 16, 8, 8], {"logits": [2, 3]}),
    "resized": ("ASTForAudioClassification", [100, 48, 8, 4, 6], {"logits": [2, 3]}),
    "resized-base": (
        "ASTModel",
        [40, 32, 16, 8, 8],
        {"last_hidden_state": [2, 14, 24], "pooler_output": [2, 24]},
    ),
}


def tiny(kind: Any, **fields: Any) -> Any:
    return randomise(kind(ASTConfig(**TINY, id2label={0: "cat", 1: "dog", 2: "owl"}, **fields)))


def models() -> dict[str, Any]:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    vit = randomise(ViTModel(ViTConfig(**sizes, image_size=64, patch_size=8)))
    geometry: dict[str, Any] = {"max_length": 64, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8}
    larger = {"max_length": 100, "num_mel_bins": 48, "patch_size": 8, "frequency_stride": 4, "time_stride": 6}
    return {
        "head": tiny(ASTForAudioClassification),
        "base": tiny(ASTModel),
        "from-vit": ASTForAudioClassification.from_vit(vit, **geometry, num_labels=3),
        "resized": tiny(ASTForAudioClassification, position_cut="centre").resize_input(**larger),
        "resized-base": tiny(ASTModel).resize_input(max_length=40, position_cut="start"),
        "factored": tiny(ASTForAudioClassification).factor_positions(),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return checkpoints that we wrote, each with an input and our output. Read only."""
    root = tmp_path_factory.mktemp("stock-versions")
    for name, model in models().items():
        model.save_pretrained(root / name)
        config = model.config
        values = torch.randn(
            2, config.max_length, config.num_mel_bins, generator=torch.Generator().manual_seed(2)
        )
        np.save(root / name / "input_values.npy", values.numpy())
        with torch.no_grad():
            outputs = model(values)
        for answer, shape in EXPECTED[name][2].items():
            assert list(outputs[answer].shape) == shape
            assert outputs[answer].std() > 0.01
            np.save(root / name / f"{answer}.npy", outputs[answer].numpy())
    return root


def assert_loaded(report: dict[str, Any]) -> None:
    assert report["ast_hf"] == []
    assert set(report["models"]) == set(EXPECTED)
    for name, (kind, sizes, shapes) in EXPECTED.items():
        model = report["models"][name]
        assert model["class"].startswith("transformers.models.audio_spectrogram_transformer."), name
        assert model["class"].endswith("." + kind), name
        assert {"missing_keys", "unexpected_keys", "mismatched_keys"} <= set(model["info"])
        assert {part: names for part, names in model["info"].items() if names} == {}, name
        assert model["sizes"] == sizes, name
        assert model["shapes"] == shapes, name
        assert model["labels"] == (
            ["LABEL_0", "LABEL_1", "LABEL_2"] if name == "from-vit" else ["cat", "dog", "owl"]
        )
        assert max(model["gaps"].values()) <= 1e-5, name


def read(output: str) -> dict[str, Any]:
    return json.loads(output.rpartition("REPORT")[2])


def test_files_hold_the_names_of_the_hub(folders: Path) -> None:
    for name in EXPECTED:
        with safe_open(folders / name / "model.safetensors", framework="pt") as file:
            names = set(file.keys())
        prefix = "" if name.endswith("base") else "audio_spectrogram_transformer."
        assert f"{prefix}encoder.layer.1.attention.attention.query.weight" in names
        assert f"{prefix}embeddings.position_embeddings" in names
        # 2 x 16 in blocks, 7 outside, 4 in the head
        assert len(names) == (39 if name.endswith("base") else 43)
        assert [tensor_name for tensor_name in names if VERSION_5_NAME.search(tensor_name)] == []


@pytest.mark.slow
def test_the_transformers_of_this_environment_loads_them(folders: Path) -> None:
    """Loads them in a process that never imports `ast_hf`."""
    report = read(run_fresh(f"ROOT = {str(folders)!r}\n{LOAD}"))
    assert report["version"].startswith("5.")
    assert_loaded(report)


# The last transformers 4, in an environment of its own


def versions(python: Path) -> list[str]:
    """Return the versions of transformers and torch in an environment; empty without one."""
    code = "import transformers, torch; print(transformers.__version__, torch.__version__.split('+')[0])"
    if not python.exists():
        return []
    result = subprocess.run(
        [str(python), "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    return result.stdout.split() if result.returncode == 0 else []


def pinned(package: str) -> str:
    """Return the version in constraints.txt."""
    (line,) = re.findall(
        rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return line


def environment_for(folder: Path) -> Path:
    """Return the Python of an environment with transformers 4 and our torch; create it in `folder` if missing."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    required = [OLD_TRANSFORMERS, pinned("torch")]
    if versions(python) == required:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
    # Only torch is pinned: the other versions of constraints.txt are for transformers 5.
    packages = [f"transformers=={required[0]}", f"torch=={required[1]}"]
    result = subprocess.run(
        [
            str(python),
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "2",
            *packages,
        ],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        cwd=folder,
    )
    if result.returncode and (reason := UNREACHABLE.search(result.stderr)):
        pytest.skip(f"pip reaches no package index for {' and '.join(packages)} ({reason.group()})")
    assert result.returncode == 0, result.stderr[-3000:]
    assert versions(python) == required
    return python


@pytest.fixture
def old_python(tmp_path: Path) -> Iterator[Path]:
    """Return the Python of that environment; its gigabyte is deleted afterwards unless a folder is configured."""
    kept_folder = os.environ.get(KEPT_ENVIRONMENT)
    folder = Path(kept_folder or tmp_path / "environment").absolute()
    yield environment_for(folder)
    if not kept_folder:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_last_transformers_4_loads_them(folders: Path, old_python: Path) -> None:
    result = subprocess.run(
        [
            str(old_python),
            "-I",
            "-c",
            LOAD,
            str(folders),
        ],  # -I: no PYTHONPATH, no user's packages, no current folder
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd="/",
    )
    assert result.returncode == 0, result.stderr[-4000:]
    report = read(result.stdout)
    assert report["version"] == OLD_TRANSFORMERS
    assert Path(report["python"]).resolve() == old_python.parent.parent.resolve()
    assert_loaded(report)
