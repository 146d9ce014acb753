"""Imports point one way (ARCHITECTURE.md), and neither importing nor `--help` loads a heavy library."""

from __future__ import annotations

import ast
import json
import re

import pytest
from conftest import ROOT, run_fresh

PACKAGE = ROOT / "ast_hf"

#: Layers from the bottom up: modules of the root, and folders. A module imports from its own layer and from lower ones,
#: wherever the import is written: at the top, in a function, or for type checking.
LAYERS = (
    (
        *(
            "printing",
            "containment",
            "errors",
            "scalars",
            "processes",
            "files",
            "file_locks",
            "writing_failures",
            "continuing",
            "docstrings",
            "progress",
            "stopping",
            *("csv_rows", "table_text"),
            "json_files",
            "advisories",
            "downloads",
            "package_origin",
            "versions",
            "running_moments",
            *("log_mel", "device_features", "clip_threads"),
            "audio",
            *("audio_av", "audio_chunks", "audio_clips", "audio_coded", "audio_containers", "audio_content"),
            *("audio_files", "audio_flac", "audio_formats", "audio_matroska", "audio_mp4", "audio_mpeg"),
            *("audio_ogg", "audio_packets"),
            "memory",
            "processor",
            "paper_data_sets",
        ),
        *(
            "task",
            "label_order",
            "timeline_fields",
            "configuration_ast",
            "configuration_ensemble",
            "feature_extraction_ast",
        ),
        "strict_options",
    ),
    ("timelines",),
    ("weights",),
    (
        "losses",
        "last_block",
        "padded_attention",
        "patchout",
        "embeddings_ast",
        "model_extractor",
        "window_features",
        "audio_embedding",
        "modeling_ast",
        "modeling_ensemble",
    ),
    ("hub",),
    ("conversion",),
    ("adapters",),
    ("acceleration",),
    ("inference",),
    ("registration",),
    ("data",),
    ("batch",),
    ("inputs",),
    ("metrics",),
    ("recipe",),
    ("reports",),
    ("evaluation",),
    ("training",),
    ("planning",),
    ("commands", "cli", "__main__"),
)
#: Modules that work without the trainer, those with the fewest imports first.
APART_FROM_TRAINING = ("inference.pipeline", "data.audit", "inputs.normalization", "evaluation.evaluate")
#: Libraries whose import takes a tenth of a second to seconds.
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "numpy",
    "pandas",
    "sklearn",
    "matplotlib",
    "accelerate",
    "peft",
}
COMMANDS = (
    *("demo", "new", "finetune", "evaluate", "classify", "push", "stats", "split", "convert", "merge"),
    *("options", "completion", "info"),
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
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source
                for alias in node.names
            }
    return {name for name in names if name in MODULES and name != module}


def test_every_module_has_a_layer() -> None:
    assert {module.split(".")[1] for module in MODULES if module != "ast_hf"} == LEVELS.keys()


#: Module of a higher layer whose functions the public face `ast_hf.training` names.
PLANS = {"ast_hf.planning.dry_run"}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"ast_hf"}))
def test_imports_point_downwards(module: str) -> None:
    targets = imported(module)
    assert "ast_hf" not in targets, "the package's public face is for users"
    named = PLANS if module == "ast_hf.training" else set()
    assert not {target for target in targets - named if layer(target) > layer(module)}


#: Modules that import by name: the faces, what they register, and the report on installed packages.
DYNAMIC = {"ast_hf", "ast_hf.training", "ast_hf.registration", "ast_hf.commands.environment_description"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_is_hidden_from_the_layers(module: str) -> None:
    """An import by name, or the bare package, could reach any layer unseen."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if module not in DYNAMIC:
        assert not names & {"import_module", "__import__", "exec"}
    bare = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert not {name for name in bare if name.split(".")[0] == "ast_hf"}


def test_no_circles() -> None:
    """Remove modules without remaining imports, repeatedly: only circles are left."""
    left = {module: imported(module) for module in MODULES}
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert not left


@pytest.fixture(scope="module")
def imports_of_the_trainer() -> dict[str, bool]:
    """Return, for each module, True if the trainer is imported after it and those before it, in one process."""
    printed = run_fresh(
        "import importlib, json, sys\n"
        "seen = {}\n"
        f"for module in {APART_FROM_TRAINING!r}:\n"
        "    importlib.import_module('ast_hf.' + module)\n"
        "    seen[module] = any(name.startswith('ast_hf.training') for name in sys.modules)\n"
        "print(json.dumps(seen))"
    )
    return json.loads(printed)


@pytest.mark.parametrize("module", APART_FROM_TRAINING)
def test_evaluation_and_data_do_not_import_the_trainer(
    module: str, imports_of_the_trainer: dict[str, bool]
) -> None:
    assert imports_of_the_trainer[module] is False


#: Options of `ast-hf finetune`, for scripts with the same options.
OPTIONS = ("ast_hf.commands.finetune",)

#: Parts of timelines, which `benchmarks.timelines` and `benchmarks.birdsong` put together in ways that the pipeline
#: does not offer.
TIMELINE_PARTS = (
    "ast_hf.timelines",
    "ast_hf.evaluation.timeline_",
    "ast_hf.metrics.",
    "ast_hf.embeddings_ast",
    "ast_hf.log_mel",
)


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_examples_and_benchmarks_use_public_names(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ast_hf"):
                is_apart = path.stem.startswith(("birdsong", "timelines"))
                is_part = is_apart and (node.module or "").startswith(TIMELINE_PARTS)
                public = ("ast_hf", "ast_hf.training", *OPTIONS)
                assert is_part or node.module in public, (path, node.module)
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
    "command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command)
)
def test_help_imports_no_heavy_library(command: list[str]) -> None:
    """Help takes 0.2 s; importing transformers alone would take 3 s."""
    printed = run_fresh(
        "import runpy, sys\n"
        f"sys.argv = ['ast-hf', *{command!r}, '--help']\n"
        "try:\n"
        "    runpy.run_module('ast_hf', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"print('imported:', *sorted({HEAVY!r} & sys.modules.keys()))"
    )
    assert "usage: " in printed
    assert printed.splitlines()[-1] == "imported:"


def test_help_is_tested_for_every_command() -> None:
    printed = run_fresh("from ast_hf.cli import main; main(['--help'])")
    assert set(re.findall(r"^    (\w+)\s", printed, re.MULTILINE)) == set(COMMANDS)


def longest_functions() -> list[tuple[int, str]]:
    lengths = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lengths.append(((node.end_lineno or 0) - node.lineno + 1, f"{path.name}:{node.name}"))
    return sorted(lengths, reverse=True)


def test_functions_stay_short() -> None:
    lengths = longest_functions()
    assert lengths[0][0] <= 80, lengths[0]
    assert sorted(length for length, _ in lengths)[len(lengths) // 2] < 12
