"""Imports point one way (ARCHITECTURE.md), importing is cheap, and the command line answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_fresh

PACKAGE = ROOT / "ast_hf"

#: module -> what it may import of the package at its top level.
ALLOWED = {
    "errors": set(),
    "log_mel": set(),
    "audio": {"errors", "scalars"},
    "scalars": set(),
    "configuration_ast": {"errors", "scalars"},
    "configuration_ensemble": {"configuration_ast", "errors"},
    "losses": {"errors"},
    "weight_names": {"errors"},
    "resampling": {"configuration_ast", "errors"},
    "checkpoints": {"configuration_ast", "configuration_ensemble", "errors", "weight_names"},
    "loading": {"checkpoints", "configuration_ast", "errors", "resampling", "weight_names"},
    "image_transformers": {"checkpoints", "configuration_ast", "errors", "resampling", "weight_names"},
    "patchout": {"errors"},
    "embeddings_ast": {"configuration_ast", "errors", "resampling"},
    "feature_extraction_ast": {"audio", "configuration_ast", "errors", "log_mel", "scalars"},
    "modeling_ast": {"checkpoints", "configuration_ast", "embeddings_ast", "errors", "image_transformers"}
    | {"loading", "losses", "patchout", "peft_names", "resampling", "weight_names"},
    "peft_names": {"weight_names"},
    "modeling_ensemble": {"checkpoints", "configuration_ast", "configuration_ensemble", "errors"}
    | {"feature_extraction_ast", "losses", "modeling_ast"},
    "pipeline_ast": {"audio", "configuration_ast", "errors", "feature_extraction_ast", "log_mel", "modeling_ast"}
    | {"modeling_ensemble", "published", "scalars"},
    "published": {"errors"},
    "hub_access": {"errors"},
    "sharing": {"checkpoints", "configuration_ast", "configuration_ensemble", "errors", "feature_extraction_ast"}
    | {"hub_access", "modeling_ast", "modeling_ensemble"},
    "reference": {"configuration_ast", "image_transformers", "modeling_ast", "weight_names"},
    "conversion": {"checkpoints", "configuration_ast", "errors", "feature_extraction_ast", "image_transformers"}
    | {"modeling_ast", "published", "reference", "weight_names"},
    "registration": set(),
    "__init__": {"registration"},
    "console": set(),
    "info": set(),
    "cli": {"errors"},
    "__main__": {"cli"},
}


def imported_names(path: Path) -> set[str]:
    """Modules of the package that a file imports at its top level, TYPE_CHECKING blocks left out."""
    return {
        (node.module or "").split(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.level == 1
    }


@pytest.mark.parametrize("module", sorted(path.stem for path in PACKAGE.glob("*.py")))
def test_imports_point_one_way(module: str) -> None:
    assert imported_names(PACKAGE / f"{module}.py") <= ALLOWED[module]


def test_nothing_outside_training_imports_training_at_top_level() -> None:
    for path in PACKAGE.glob("*.py"):
        assert "training" not in imported_names(path), path


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_examples_and_benchmarks_use_public_names(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ast_hf"):
                assert node.module in ("ast_hf", "ast_hf.training"), (path, node.module)
                assert not any(alias.name.startswith("_") for alias in node.names), path


def test_public_names_exist() -> None:
    import ast_hf

    assert sorted(dir(ast_hf)) == sorted(ast_hf.__all__)
    for name in ast_hf.__all__:
        assert getattr(ast_hf, name) is not None
    with pytest.raises(AttributeError, match="ASTModle"):
        _ = ast_hf.ASTModle


def test_load_audio_needs_neither_transformers_nor_torch_for_files() -> None:
    printed = run_fresh(
        "import sys, io, soundfile, numpy, ast_hf\n"
        "file = io.BytesIO(); soundfile.write(file, numpy.ones(800) / 8, 16000, format='WAV')\n"
        "print(len(ast_hf.load_audio(file.getvalue())), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert printed.split() == ["800", "False", "False"]


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["finetune"], ["evaluate"], ["classify"], ["push"], ["stats"], ["convert"], ["merge"], ["info"]],
)
def test_help_answers_at_once(command: list[str]) -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-m", "ast_hf", *command, "--help"], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
    assert "usage: " in result.stdout
    assert min(times) < 1.0  # 0.2 s on an idle machine; importing transformers alone takes 3


def longest_functions() -> list[tuple[int, str]]:
    lengths = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lengths.append((node.end_lineno - node.lineno + 1, f"{path.name}:{node.name}"))
    return sorted(lengths, reverse=True)


def test_functions_stay_short() -> None:
    lengths = longest_functions()
    assert lengths[0][0] <= 80, lengths[0]
    assert sorted(length for length, _ in lengths)[len(lengths) // 2] < 12
