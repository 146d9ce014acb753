"""The first hour of a new user: `ast-hf new`, then `ast-hf finetune`, with no other choice, on labelled clips.

    python -m benchmarks.first_hour --data FOLDER --vit WEIGHTS            # all cases: about 60 minutes on two cores
    python -m benchmarks.first_hour --data FOLDER --vit WEIGHTS --quick    # a smoke run of three cases: under 8 minutes
    python -m benchmarks.first_hour --data FOLDER --vit WEIGHTS --recipes  # also the shipped recipes: 50 minutes more

FOLDER holds the sets of `CASES`, each with a `manifest.csv`. A case is a table of clips as a user would have it: paths,
labels, a split, and the columns of groups. Every case runs alone, with the threads that the package takes by itself.
The test clips are read once, by the finished run. Finished cases are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .first_hour_page import RESULTS, cell
from .machine import machine
from .transfer import neutral, write

RECIPES = Path(__file__).parent.parent / "examples" / "recipes"
#: `ast-hf new --minutes` of a quick case.
QUICK_MINUTES = 0.75
#: Cases of a quick run: one of each data set.
QUICK_CASES = ("instruments", "esc10_vit", "commands_300")

Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A data set as a new user has it.

    Attributes:
        title: name on the page.
        folder: folder of the set, below `--data`.
        split: split of a row of its manifest; an empty one leaves the row out.
        columns: columns of the manifest that the user has besides path and label.
        needs_weights: the user names image weights (`--vit`).
        few: number of training clips to keep, drawn evenly over the labels; None for all.
        recipe: the shipped recipe for such data, None without one.
        changes: its options for this data set.
    """

    title: str
    folder: str
    split: Callable[[Row], str]
    columns: tuple[str, ...]
    needs_weights: bool = False
    few: int | None = None
    recipe: str | None = None
    changes: list[str] = field(default_factory=list)


def _own_split(row: Row) -> str:
    return {"val": "validation"}.get(row["split"], row["split"])


def _first_fold(row: Row) -> str:
    return "test" if row["fold"] == "1" else "train"


def _without_validation(row: Row) -> str:
    return "" if row["split"] == "val" else row["split"]


CASES = {
    "instruments": Case(
        "instruments", "instruments", _own_split, ("group",), recipe="instruments.yaml", changes=["card={}"]
    ),
    "esc10": Case("ESC-10, fold 1", "esc10", _first_fold, ("group",)),
    "esc10_vit": Case(
        "ESC-10, fold 1, image weights",
        "esc10",
        _first_fold,
        ("group",),
        needs_weights=True,
        recipe="small-data.yaml",
    ),
    "commands": Case(
        "spoken commands", "arabic_commands", _own_split, ("speaker",), recipe="spoken-words.yaml"
    ),
    "commands_300": Case(
        "300 spoken commands",
        "arabic_commands",
        _without_validation,
        ("speaker",),
        few=300,
        recipe="spoken-words.yaml",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cases one after the other, and store the results after each."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    names = [name for name in options.cases if options.vit or not CASES[name].needs_weights]
    place = options.output / "quick.json" if options.quick else RESULTS
    command = f"python -m benchmarks.first_hour {shlex.join(neutral(words))}"
    versions = {name: version(name) for name in ("torch", "transformers", "scikit-learn")}
    stored: dict[str, Any] = {
        "command": command,
        "machine": machine(),
        "versions": versions,
        "quick": options.quick,
        "cases": {},
    }
    begun = time.monotonic()
    for name in names:
        case = CASES[name]
        table = write_table(options.data, case, options.output / f"{name}.csv")
        stored["cases"][name] = {"title": case.title, "clips": count(table)}
        stored["cases"][name]["new"] = once(options, name, partial(new_user, options, case, table))
        if options.recipes and case.recipe:
            shipped = once(options, f"{name}-recipe", partial(by_recipe, options, case, table))
            stored["cases"][name]["recipe"] = {"file": case.recipe, **shipped}
        write(place, stored)
        print(f"{case.title}: {cell(stored['cases'][name])}", flush=True)
    print(f"{place}: {(time.monotonic() - begun) / 60:.1f} minutes")


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_hour", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument(
        "--vit", help="ViT-S weights, a Hub name or a folder; without them their case is left out"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/first_hour"), help="folder of the runs")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="cases to run (default: all; quick: three)")
    parser.add_argument("--recipes", action="store_true", help="also train the shipped recipe of each case")
    parser.add_argument("--quick", action="store_true", help="a minute for each case; nothing else is stored")
    options = parser.parse_args(arguments)
    options.output = options.output / "quick" if options.quick else options.output
    options.cases = options.cases or (QUICK_CASES if options.quick else list(CASES))
    return options


def write_table(data: Path, case: Case, path: Path) -> Path:
    """Write the clips of a case as a table: path, label, split, and the columns of groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (data / case.folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row | {"split": case.split(row)} for row in csv.DictReader(file)]
    rows = [row for row in rows if row["split"]]
    if case.few is not None:
        rows = few(rows, case.few)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "split", *case.columns))
        for row in rows:
            audio = (data / case.folder / row["path"]).resolve()
            table.writerow((audio, row["label"], row["split"], *(row[name] for name in case.columns)))
    return path


def few(rows: list[Row], total: int) -> list[Row]:
    """Return all rows but those of `train`, of which `total` are drawn, as many of each label."""
    train = [row for row in rows if row["split"] == "train"]
    labels = sorted({row["label"] for row in train})
    draw = random.Random(0)
    drawn: list[Row] = []
    for label in labels:
        drawn += draw.sample([row for row in train if row["label"] == label], total // len(labels))
    return [*drawn, *(row for row in rows if row["split"] != "train")]


def count(table: Path) -> dict[str, int]:
    """Return the number of clips of each split of a table."""
    counts: dict[str, int] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts[row["split"]] = counts.get(row["split"], 0) + 1
    return counts


def once(options: argparse.Namespace, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a run, from its file if it has finished before."""
    place = options.output / f"{name}.json"
    if not place.exists():
        write(place, run())
    return json.loads(place.read_text(encoding="utf-8"))


def new_user(options: argparse.Namespace, case: Case, table: Path) -> dict[str, Any]:
    """Run `ast-hf new` and `ast-hf finetune` on a table, as its output says; return what they printed and stored."""
    recipe = table.with_suffix(".yaml")
    recipe.unlink(missing_ok=True)
    words = ["new", str(table), "--output", str(recipe), "--json"]
    words += ["--vit", options.vit] if case.needs_weights else []
    words += ["--minutes", str(QUICK_MINUTES)] if options.quick else []
    begun = time.monotonic()
    plan = json.loads(ast_hf(words))
    planned = time.monotonic() - begun
    result = train(table.with_suffix(""), [str(recipe)])
    return {
        **result,
        "planning_seconds": planned,
        "estimated_seconds": plan["estimate"]["seconds"],
        "recipe": without_folders(recipe.read_text(encoding="utf-8"), [table.parent, options.vit or ""]),
    }


def without_folders(text: str, folders: Sequence[Path | str]) -> str:
    """Return a text with the last part of each folder in place of its path."""
    for folder in folders:
        text = text.replace(str(folder), Path(folder).name) if str(folder) else text
    return text


def by_recipe(options: argparse.Namespace, case: Case, table: Path) -> dict[str, Any]:
    """Train the shipped recipe of a case on its table."""
    assert case.recipe is not None
    words = [str(RECIPES / case.recipe), "--data", str(table), "--set", "data.eval_splits=null"]
    words += ["--vit", options.vit] if case.needs_weights else []
    for change in case.changes:
        words += ["--set", change]
    return train(table.with_name(f"{table.stem}-recipe"), words)


def train(folder: Path, words: list[str]) -> dict[str, Any]:
    """Run `ast-hf finetune` and return the numbers of its results.json."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    begun = time.monotonic()
    ast_hf(["finetune", *words, "--output", str(folder)])
    seconds = time.monotonic() - begun
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    metric = results["metric"]
    return {
        "seconds": seconds,
        "metric": metric,
        "scores": {
            name: values[metric] for name, values in results["results"].items() if name != "validation"
        },
        "baseline": {name: value for name, value in results["baseline"].items() if name != "validation"},
        "verdict": results["verdict"],
        "parameters": results["parameters"],
        "epochs": results["epochs"],
    }


def ast_hf(words: list[str]) -> str:
    """Run a command in a process of its own and return its output; its progress goes to standard error."""
    return subprocess.run(
        [sys.executable, "-m", "ast_hf", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
