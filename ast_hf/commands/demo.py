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
from .console import (
    add_json_option,
    complain,
    print_json,
    print_results,
    quiet_transformers,
    require_train,
    run_document,
    show,
)

if TYPE_CHECKING:
    from ..training import Recipe

DEMO_DATA = "examples/data/instruments"
DEMO_RECIPE = "examples/recipes/instruments.yaml"
BASE_RECIPE = "examples/recipes/finetune.yaml"
#: Recipe of `--data`, in the package: model and training of `DEMO_RECIPE`, without what belongs to its recordings.
DATA_RECIPE = Path(__file__).with_name("demo.yaml")
#: Overrides of `--quick`: enough to see every step work, not enough for a meaningful accuracy.
QUICK = ("training.num_train_epochs=35",)
QUICK_WITH_BASE = ("training.num_train_epochs=1",)
#: Changes of `DATA_RECIPE` for `--base`, which has sizes and a learning rate of its own.
_WITH_BASE = ("model.config={max_length: 128}", "training.num_train_epochs=10", "training.learning_rate=1e-4")

#: Code of the fresh process: exactly what a user of the checkpoint writes.
_CLASSIFY = """
import sys, warnings
from transformers.utils import logging
logging.disable_progress_bar()
import ast_hf
from ast_hf.printing import printable
warnings.simplefilter("ignore", ast_hf.AstHfWarning)  # that clips are cut, as printed above
from transformers import pipeline
folder, *clips = sys.argv[1:]
classifier = pipeline("audio-classification", model=folder)
for file, truth in zip(clips[::2], clips[1::2]):
    best = classifier(file, top_k=3)
    labels = ", ".join(f"{printable(entry['label'])} {entry['score']:.2f}" for entry in best)
    print(printable(file.rsplit("/", 1)[-1]), f"({printable(truth)})", "->", labels)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--output", default="outputs/demo", help="folder of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="labelled audio of your own, or a clone's examples/data/instruments (default: that of this folder)",
    )
    parser.add_argument(
        "--base", help="checkpoint to start from (folder or Hub name) instead of random weights"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the accuracy is not meaningful")
    add_json_option(parser)


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
    _check_data(options)
    require_train("demo")
    is_own = options.data is not None and not _is_demo_data(options.data)
    source = json.dumps(options.data or DEMO_DATA)
    overrides = [f"data.source={source}"]
    overrides += _own_splits(options.data) if is_own else ["data.eval_splits=[test, unseen_instrument]"]
    if options.base:
        overrides.append(f"model.base={options.base}")
    if options.data is None:
        recipe = BASE_RECIPE if options.base else DEMO_RECIPE
    else:
        recipe = str(DATA_RECIPE)
        overrides += _WITH_BASE if options.base else []
    if options.quick:
        overrides += QUICK_WITH_BASE if options.base else QUICK
    run_demo(recipe, overrides, options.output, options)


def _check_data(options: argparse.Namespace) -> None:
    """Raise E206 without the recordings, before anything heavy is imported."""
    if options.data is not None:
        if not Path(options.data).exists():
            fix = "give a folder of labelled audio: train/LABEL/*.wav and test/LABEL/*.wav, or LABEL/*.wav"
            raise error("E206", where=f"--data {options.data!r}", what="does not exist", fix=fix)
        return
    needed = BASE_RECIPE if options.base else DEMO_RECIPE
    if not (Path(needed).exists() and Path(DEMO_DATA).is_dir()):
        size = "7 MB of recordings, which no installed package has room for"
        what = f"needs {DEMO_DATA} ({size}) and {needed}, and they are not below this folder"
        fix = (
            "run it in the folder of a clone of the repository, or name the recordings or your own labelled clips: "
            "ast-hf demo --data FOLDER"
        )
        raise error("E206", where="the demo", what=what, fix=fix)


def _is_demo_data(folder: str) -> bool:
    """Return True for the repository's recordings, wherever they are."""
    return Path(folder).name == Path(DEMO_DATA).name and Path(folder, "metadata.csv").is_file()


def _own_splits(source: str) -> list[str]:
    """Return the changes for other recordings: a fifth of the training clips is held out if there is no other split."""
    from ..data.reading import load_audio_dataset

    quiet_transformers()
    others = [name for name in load_audio_dataset(source, check_files=False) if name != "train"]
    return [] if others else ["data.validation_fraction=0.2"]


def run_demo(
    recipe_path: str, overrides: list[str], output: str, options: argparse.Namespace | None = None
) -> None:
    """Train and evaluate by a recipe, print the results, and classify three files in a new process.

    Raises E306 if `output` has the results of something else.
    """
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
    if options is not None and options.json:
        print_json(options, run_document(report))
    else:
        print_results(report)
    clips = held_out_clips(recipe, list(report.results), count=3)
    if not clips:
        return
    seconds = frames_to_seconds(report.config.max_length)
    show(f"\nHeld-out files in a fresh process, by their first {seconds} s (with the truth in parentheses):")
    sys.stdout.flush()
    words = [word for clip in clips for word in clip]
    stream = sys.stderr if options is not None and options.json else None
    subprocess.run([sys.executable, "-c", _CLASSIFY, output, *words], check=True, stdout=stream)


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


def held_out_clips(recipe: Recipe, splits: list[str], count: int) -> list[tuple[str, str]]:
    """Return path and labels of the first clip of each of the first `count` classes in the last evaluation split.

    Clips that are no files, such as those within Parquet, are left out.
    """
    from transformers import TrainingArguments

    from ..data.splits import label_lists, label_names
    from ..training.splits import read_splits

    evaluation = read_splits(recipe.data, recipe.training.get("seed", TrainingArguments.seed)).evaluation
    split = evaluation[splits[-1]]
    names = label_names(split)
    labels = label_lists(split)
    first = {clip[0]: number for number, clip in reversed(list(enumerate(labels))) if len(clip)}
    rows = [first[label] for label in sorted(first)[:count]]
    paths = [split[row]["audio"]["path"] for row in rows]
    return [
        (path, ", ".join(names[label] for label in labels[row]))
        for path, row in zip(paths, rows, strict=True)
        if path and Path(path).is_file()
    ]
