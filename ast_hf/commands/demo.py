"""The demo: a recipe on the repository's recordings, then the finished folder in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ..data.reading import load_audio_dataset
from ..errors import error
from ..recipe.reading import load_recipe
from ..recipe.recipe import Recipe
from ..training.finetuning import finetune
from ..training.writing import RESULTS_FILE
from .console import print_results, quiet_transformers

#: What the fresh process runs: nothing but what a user of the checkpoint would write.
_CLASSIFY = """
import sys, warnings
from transformers.utils import logging
logging.disable_progress_bar()
import ast_hf
warnings.simplefilter("ignore", ast_hf.AstHfWarning)  # that clips are longer than what is heard is said above
from transformers import pipeline
folder, *files = sys.argv[1:]
classifier = pipeline("audio-classification", model=folder)
for file in files:
    best = classifier(file, top_k=3)
    print(file.rsplit("/", 1)[-1], "->", ", ".join(f"{entry['label']} {entry['score']:.2f}" for entry in best))
"""


def run_demo(recipe_path: str, overrides: list[str], output: str) -> None:
    """Train, evaluate and save by a recipe, print the results, and classify three held-out files in a new process."""
    if not Path(recipe_path).exists():
        fix = "run it in the folder of a clone of the repository"
        raise error("E206", where=repr(recipe_path), what="is not here, nor are the demo's recordings", fix=fix)
    quiet_transformers()
    recipe = load_recipe(recipe_path, overrides)
    report = finetune(recipe, output, overwrite=_is_of(recipe, Path(output)))
    print_results(report)
    seconds = report.config.max_length / 100
    print(f"\nThree held-out files in a fresh process, by their first {seconds} s (names begin with the truth):")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", _CLASSIFY, output, *held_out_files(recipe, count=3)], check=True)


def _is_of(recipe: Recipe, folder: Path) -> bool:
    """Whether a folder holds what an earlier demo left, which may be replaced."""
    results = folder / RESULTS_FILE
    return results.is_file() and json.loads(results.read_text(encoding="utf-8"))["recipe"]["name"] == recipe.name


def held_out_files(recipe: Recipe, count: int) -> list[str]:
    """Paths of the first clip of each of the first `count` classes in the last evaluation split."""
    options = recipe.data
    split = load_audio_dataset(options.source)[(options.eval_splits or ["test"])[-1]]
    first = {label: number for number, label in reversed(list(enumerate(split["label"])))}
    return [split[first[label]]["audio"]["path"] for label in sorted(first)[:count]]
