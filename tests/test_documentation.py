"""Documents: code blocks run, linked files exist, every module and option is explained."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from statistics import mean

import pytest
from conftest import ROOT

import ast_hf

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(PYTHON_BLOCK.findall(path.read_text(encoding="utf-8")))
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone as after `make demo`: the examples, and a checkpoint in outputs/demo (a tiny one here).

    Names on the Hub are folders of that name here, with tiny models in them.
    """
    import torch
    from transformers import DeiTConfig, DeiTModel

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").symlink_to(ROOT / "examples")
    torch.manual_seed(0)
    labels = [
        "bass",
        "bowed_strings",
        "brass",
        "flute_pipe",
        "guitar",
        "mallet",
        "organ_reed",
        "piano",
        "sax_reed",
    ]
    config = ASTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48, num_mel_bins=64,
        max_length=128, id2label=dict(enumerate(labels)), problem_type="single_label_classification",
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(folder / "outputs" / "demo")
    ASTFeatureExtractor(num_mel_bins=64, max_length=128).save_pretrained(folder / "outputs" / "demo")
    card = "---\nlibrary_name: transformers\npipeline_tag: audio-classification\n---\n"
    (folder / "outputs" / "demo" / "README.md").write_text(card)
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48}
    DeiTModel(DeiTConfig(**small, image_size=64)).save_pretrained(
        folder / "facebook" / "deit-base-distilled-patch16-384"
    )
    published = folder / "MIT" / "ast-finetuned-audioset-10-10-0.4593"
    ASTForAudioClassification(ASTConfig(**small, num_labels=4)).save_pretrained(published)
    ASTFeatureExtractor().save_pretrained(published)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("block", BLOCKS)
def test_code_block_runs(
    block: str, clone: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "push_" in block:
        request.getfixturevalue("data_hub")
    monkeypatch.chdir(clone)
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)
    try:
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})
    finally:
        ast_hf.unregister()  # also names that a block has replaced
        ast_hf.register()


def test_documents_have_code_blocks() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(ast_hf/[\w/]+\.py)`", text))
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ast_hf").rglob("*.py")}
    assert documented == modules


def test_readme_names_every_make_target() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in set(targets) - {"lint"}:
        assert f"make {target}" in readme, target


def test_readme_results_match_the_bench_page() -> None:
    row = next(
        line
        for line in (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| features")
    )
    ratio = re.search(r"\| ([\d.]+)x", row).group(1)
    assert f"{ratio}x" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_quotes_the_accuracies_of_bench_learning() -> None:
    (row,) = re.findall(
        r"^\| `make bench-learning .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    stored = json.loads((ROOT / "benchmarks" / "results" / "learning.json").read_text(encoding="utf-8"))
    for results in stored["sets"].values():
        for system in ("plain", "recipe", "patchout", "psla"):
            finals = [points[-1]["accuracy"] for points in results["systems"][system]["seeds"].values()]
            assert f"{mean(finals):.3f}" in row, system
        finals = [values["baseline"] for values in results["simple"]]
        assert f"{mean(finals):.3f}" in row


def test_readme_quotes_the_scores_of_bench_birdsong() -> None:
    (row,) = re.findall(
        r"^\| `make bench-birdsong .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    stored = json.loads((ROOT / "benchmarks" / "results" / "birdsong.json").read_text(encoding="utf-8"))
    for target in ("event", "segment"):
        ours = mean(seed[target][f"{target}_micro"] for seed in stored["seeds"].values())
        assert f"{ours:.3f}" in row
        assert f"{stored['frames'][target][f'{target}_micro']:.3f}" in row


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "make check" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^check: lint test$", makefile, re.MULTILINE)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
