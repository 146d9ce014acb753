"""Imports point one way (ARCHITECTURE.md), importing is cheap, and the command line answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run_fresh

PACKAGE = ROOT / "ast_hf"

#: Layers from the bottom up: modules of the root, and folders. A module imports from its own layer and from lower ones,
#: wherever the import is written: at the top, in a function, or for type checking.
LAYERS = (
    (
        *("errors", "scalars", "processes", "files", "versions", "moments", "log_mel", "audio", "paper_data_sets"),
        *("task", "label_order", "configuration_ast", "configuration_ensemble", "feature_extraction_ast"),
        "strict_options",
    ),
    ("weights",),
    ("losses", "patchout", "embeddings_ast", "modeling_ast", "modeling_ensemble"),
    ("hub",),
    ("conversion",),
    ("adapters",),
    ("inference",),
    ("registration",),
    ("data",),
    ("inputs",),
    ("metrics",),
    ("recipe",),
    ("reports",),
    ("evaluation",),
    ("training",),
    ("commands", "cli", "__main__"),
)
LEVELS = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def layer(module: str) -> int:
    return LEVELS[module.split(".")[1]]


def imported(module: str) -> set[str]:
    """Return the modules of the package that a module imports anywhere."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names |= {
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names
            }
    return {name for name in names if name in MODULES and name != module}


def test_every_module_has_a_layer() -> None:
    assert {module.split(".")[1] for module in MODULES if module != "ast_hf"} == LEVELS.keys()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"ast_hf"}))
def test_imports_point_downwards(module: str) -> None:
    targets = imported(module)
    assert "ast_hf" not in targets, "the package's public face is for users"
    assert not {target for target in targets if layer(target) > layer(module)}


def test_no_circles() -> None:
    """Take away modules that import nothing that is left: a circle never goes."""
    left = {module: imported(module) for module in MODULES}
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert not left


@pytest.mark.parametrize("module", ["evaluation.evaluate", "data.audit", "inputs.normalization", "inference.pipeline"])
def test_evaluation_and_data_do_not_import_the_trainer(module: str) -> None:
    code = f"import sys, ast_hf.{module}; print(any(name.startswith('ast_hf.training') for name in sys.modules))"
    assert run_fresh(code).split() == ["False"]


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
