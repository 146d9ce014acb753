"""`ast-hf demo`: train on the repository's recordings, then use the finished folder in a fresh process."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..continuing import running_program
from ..errors import error
from .console import complain, print_results, quiet_transformers, show

if TYPE_CHECKING:
    from ..training import Recipe

DEMO_DATA = "examples/data/instruments"
DEMO_RECIPE = "examples/recipes/instruments.yaml"
BASE_RECIPE = "examples/recipes/finetune.yaml"
#: Overrides of `--quick`: enough to see every step work, not enough for a meaningful accuracy.
QUICK = ("training.num_train_epochs=35",)
QUICK_WITH_BASE = ("training.num_train_epochs=1",)

#: Code of the fresh process: exactly what a user of the checkpoint writes.
_CLASSIFY = """
import sys, warnings
from transformers.utils import logging
logging.disable_progress_bar()
import ast_hf
from ast_hf.printing import printable
warnings.simplefilter("ignore", ast_hf.AstHfWarning)  # that clips are cut, as printed above
from transformers import pipeline
folder, *files = sys.argv[1:]
classifier = pipeline("audio-classification", model=folder)
for file in files:
    best = classifier(file, top_k=3)
    labels = ", ".join(f"{printable(entry['label'])} {entry['score']:.2f}" for entry in best)
    print(printable(file.rsplit("/", 1)[-1]), "->", labels)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--output", default="outputs/demo", help="folder of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--base", help="checkpoint to start from (folder or Hub name) instead of random weights"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the accuracy is not meaningful")


def run(options: argparse.Namespace) -> int:
    """Run the demo with the recipe and the overrides that the options mean.

    Returns 0, or 128 and the number of a signal that stopped it; the same command continues it.
    """
    from ..stopping import RunStopped, stop_signals

    try:
        with stop_signals():
            _run(options)
    except RunStopped as problem:
        complain(problem, f"; continue with: {shlex.join([*running_program(), *options.words])}")
        return problem.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    overrides = [f"data.source={DEMO_DATA}", "data.eval_splits=[test, unseen_instrument]"]
    if options.quick:
        overrides += QUICK_WITH_BASE if options.base else QUICK
    if options.base:
        overrides.append(f"model.base={options.base}")
    run_demo(BASE_RECIPE if options.base else DEMO_RECIPE, overrides, options.output)


def run_demo(recipe_path: str, overrides: list[str], output: str) -> None:
    """Train and evaluate by a recipe, print the results, and classify three files in a new process.

    Raises E206 outside a clone of the repository, and E306 if `output` has the results of something else.
    """
    if not Path(recipe_path).exists():
        what = "is not in this folder, and neither are the demo's recordings"
        fix = "run it in the folder of a clone of the repository"
        raise error("E206", where=repr(recipe_path), what=what, fix=fix)
    from ..log_mel import frames_to_seconds
    from ..training import finetune, load_recipe
    from ..training.checkpoints.sealing import checkpoints

    quiet_transformers()
    recipe = load_recipe(recipe_path, overrides)
    folder = Path(output)
    resume = "auto" if checkpoints(folder) else None
    report = finetune(
        recipe, output, resume_from_checkpoint=resume, overwrite=_has_results_of(recipe, folder)
    )
    print_results(report)
    seconds = frames_to_seconds(report.config.max_length)
    show(
        f"\nThree held-out files in a fresh process, by their first {seconds} s (names begin with the truth):"
    )
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", _CLASSIFY, output, *held_out_files(recipe, count=3)], check=True)


def _has_results_of(recipe: Recipe, folder: Path) -> bool:
    """Return True if a folder has an earlier demo's results; raise E306 for results that no run wrote."""
    from ..training.output_files import RESULTS_FILE

    results = folder / RESULTS_FILE
    if not results.is_file():
        return False
    try:
        name = json.loads(results.read_text(encoding="utf-8"))["recipe"]["name"]
    except (ValueError, LookupError, TypeError) as problem:
        what = "is not from a run of ast_hf, and would be overwritten"
        fix = "give another folder with --output, or move the file away"
        raise error("E306", where=repr(str(results)), what=what, fix=fix, detail="exists") from problem
    return name == recipe.name


def held_out_files(recipe: Recipe, count: int) -> list[str]:
    """Return the first clip of each of the first `count` classes in the last evaluation split."""
    from ..data.reading import load_audio_dataset

    options = recipe.data
    split = load_audio_dataset(options.source)[(options.eval_splits or ["test"])[-1]]
    first = {label: number for number, label in reversed(list(enumerate(split["label"])))}
    return [split[first[label]]["audio"]["path"] for label in sorted(first)[:count]]
