"""Gain of a start from an image transformer: ESC-10 from `model.vit` and from random weights.

Both starts are the same AST-small (the sizes of DINOv2's ViT-S, arXiv 2304.07193) on the same clips, with the same
augmentation, schedule, batches and epochs. Only the learning rate differs: each start has its own best one.

    python -m benchmarks.transfer --data FOLDER --choose    # learning rates: trained on folds 3-5, compared on fold 2
    python -m benchmarks.transfer --data FOLDER             # trained on folds 2-5, evaluated on fold 1

Nothing is chosen on fold 1: the table that the first command reads does not have its clips, and the reported accuracy
is that after the last epoch, not the best one. The official folds of ESC-10 keep the clips of a recording together.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ast_hf.training import Recipe, Report

FOLDER = Path(__file__).parent / "results"
CHOICE = FOLDER / "transfer_choice.json"
RESULTS = FOLDER / "transfer.json"
PICTURE = FOLDER / "transfer.png"

#: stage -> fold of the manifest -> split. Other folds are left out.
SPLITS = {
    "choice": {"2": "validation", "3": "train", "4": "train", "5": "train"},
    "final": {"1": "test", "2": "train", "3": "train", "4": "train", "5": "train"},
}
#: stage -> default number of passes over its training split.
EPOCHS = {"choice": 3, "final": 5}
#: start -> learning rates to choose from.
LEARNING_RATES = {"vit": (2e-5, 5e-5, 1e-4, 2e-4), "random": (3e-5, 1e-4, 3e-4, 1e-3)}
LABELS = {"vit": "image transformer", "random": "random weights"}

#: 8 x 32 patches of 128 mel bins and 5.12 s: the clips are 5 s long.
_GEOMETRY = {"max_length": 512, "frequency_stride": 16, "time_stride": 16}
#: Sizes of ViT-S, which image weights determine and a random start needs.
_SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-6,
}
#: SpecAugment as in the original's ESC-50 recipe (egs/esc50/run_esc.sh): up to 24 mel bins and 96 frames.
_AUGMENTATION = {"frequency_masks": 1, "frequency_mask_width": 24, "time_masks": 1, "time_mask_width": 96}
_TRAINING = {"per_device_train_batch_size": 8, "save_strategy": "no", "disable_tqdm": True, "bf16": True}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two stages."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    options.command = f"python -m benchmarks.transfer {shlex.join(neutral(words))}"
    stage = "choice" if options.choose else "final"
    options.epochs = options.epochs or EPOCHS[stage]
    options.table = write_table(options.data, SPLITS[stage], options.output / f"{stage}.csv")
    FOLDER.mkdir(exist_ok=True)
    {"choice": choose, "final": compare}[stage](options)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__.split("\n")[0])
    manifest = "a folder with manifest.csv: path, label, fold (ESC-10 of ESC-50, karolpiczak/ESC-50)"
    parser.add_argument("--data", type=Path, required=True, help=manifest)
    parser.add_argument(
        "--vit", default="facebook/dinov2-small", help="ViT-S weights: a Hub name or a folder"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/transfer"), help="folder of the checkpoints"
    )
    parser.add_argument("--choose", action="store_true", help="compare learning rates on fold 2 instead")
    parser.add_argument("--epochs", type=int, help="passes over the training split: 3 to choose, else 5")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="one run of either start for each"
    )
    return parser.parse_args(arguments)


def neutral(arguments: list[str]) -> list[str]:
    """Return the command line without local folders: paths are cut to their last part."""
    return [
        Path(part).name if Path(part).is_absolute() or part.startswith("..") else part for part in arguments
    ]


def write_table(data: Path, splits: dict[str, str], path: Path, column: str = "fold") -> Path:
    """Write the clips whose `column` has a value in `splits` as a table with a split column, for `data.source`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[column] in splits]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "split"))
        table.writerows(((data / row["path"]).resolve(), row["label"], splits[row[column]]) for row in rows)
    return path


def recipe_of(options: argparse.Namespace, start: str, learning_rate: float, seed: int) -> Recipe:
    """Return the recipe of a start; other options have the package's defaults, such as the cosine schedule."""
    import torch

    from ast_hf.training import Recipe

    models = {"vit": {"vit": options.vit, "config": _GEOMETRY}, "random": {"config": _GEOMETRY | _SIZES}}
    run = {"num_train_epochs": options.epochs, "learning_rate": learning_rate, "seed": seed}
    values = {
        "name": f"ESC-10 from {LABELS[start]}",
        "data": {"source": str(options.table)},
        "model": models[start],
        "augmentation": _AUGMENTATION,
        "threads": 1,
        "training": {**run, **_TRAINING, "use_cpu": not torch.cuda.is_available()},
    }
    return Recipe.from_dict(values, "benchmarks.transfer")


def choose(options: argparse.Namespace) -> None:
    """Compare the learning rates of both starts on the validation fold, and store all results and the best rates."""
    runs: dict[str, list[dict[str, float]]] = {}
    for start, rates in LEARNING_RATES.items():
        runs[start] = [try_rate(options, start, rate) for rate in rates]
    best = {
        start: max(results, key=lambda run: (run["accuracy"], -run["loss"]))
        for start, results in runs.items()
    }
    chosen = {start: run["learning_rate"] for start, run in best.items()}
    write(CHOICE, {"command": options.command, "epochs": options.epochs, "chosen": chosen, "runs": runs})


def try_rate(options: argparse.Namespace, start: str, learning_rate: float) -> dict[str, float]:
    """Return accuracy and loss on the validation fold after the last epoch, for one learning rate and seed 0."""
    from ast_hf.training import finetune

    report = finetune(
        recipe_of(options, start, learning_rate, seed=0), options.output / f"choice-{start}", overwrite=True
    )
    result = {"learning_rate": learning_rate, **report.results["validation"], "seconds": report.seconds}
    print(f"{start}: {result}", flush=True)
    return result


def compare(options: argparse.Namespace) -> None:
    """Train both starts with their chosen rates, once per seed; store and draw the accuracy on the test fold."""
    if not CHOICE.exists():
        raise SystemExit(f"{CHOICE} is missing: run with --choose first")
    choice = json.loads(CHOICE.read_text(encoding="utf-8"))
    runs = {start: run_seeds(options, start, rate) for start, rate in choice["chosen"].items()}
    results = {"command": options.command, "epochs": options.epochs, **shared(runs["vit"][0][0])}
    results["starts"] = {start: summary(parts) for start, parts in runs.items()}
    write(RESULTS, {**results, "choice": choice})
    draw(json.loads(RESULTS.read_text(encoding="utf-8")), PICTURE)


def run_seeds(
    options: argparse.Namespace, start: str, learning_rate: float
) -> list[tuple[Report, list[float]]]:
    """Return the report and the accuracy after each epoch, for each seed."""
    recipes = [recipe_of(options, start, learning_rate, seed) for seed in options.seeds]
    return [
        finetune_watched(recipe, options.output / f"{start}-{recipe.training['seed']}") for recipe in recipes
    ]


def finetune_watched(recipe: Recipe, folder: Path) -> tuple[Report, list[float]]:
    """Run `finetune` and report the test accuracy after each epoch, which does not affect training."""
    from ast_hf.training import finetune

    report = finetune(recipe, folder, watch="test", overwrite=True)
    curve = report.watched["test"].values
    print(f"{folder.name}: {curve} in {report.seconds:.0f} s", flush=True)
    return report, curve


def summary(runs: list[tuple[Report, list[float]]]) -> dict[str, Any]:
    """Return the results of one start for each seed, and the recipe of the first seed."""
    recipe = runs[0][0].recipe
    seeds = [str(report.recipe.training["seed"]) for report, _ in runs]
    return {
        "learning_rate": recipe.training["learning_rate"],
        "parameters": runs[0][0].parameters,
        "accuracy": {seed: curve for seed, (_, curve) in zip(seeds, runs, strict=True)},
        "seconds": {seed: report.seconds for seed, (report, _) in zip(seeds, runs, strict=True)},
        "recipe": recipe.to_dict(),
    }


def shared(report: Report) -> dict[str, Any]:
    """Return what all runs share: simple methods, log-mel statistics of the training split, hardware and versions."""
    simple = {"baseline": report.baseline["test"], "chance": report.chance["test"]}
    clips = {"train": report.training_clips, **report.clips}
    measured = {"mean": report.extractor.mean, "std": report.extractor.std}
    return {**simple, "clips": clips, **measured, "hardware": report.hardware, "versions": report.versions}


def write(path: Path, values: dict[str, Any]) -> None:
    """Write values as JSON."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def by_epoch(start: dict[str, Any]) -> list[tuple[float, ...]]:
    """Return the accuracies of all seeds, epoch by epoch."""
    return list(zip(*start["accuracy"].values(), strict=True))


def draw(results: dict[str, Any], path: Path) -> None:
    """Write a PNG: accuracy on the test fold over epochs, mean and range of the seeds, and the simple methods."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    epochs = range(1, results["epochs"] + 1)
    for name, start in results["starts"].items():
        points = by_epoch(start)
        axes.plot(epochs, [mean(seeds) for seeds in points], marker="o", label=f"AST from {LABELS[name]}")
        axes.fill_between(
            epochs, [min(seeds) for seeds in points], [max(seeds) for seeds in points], alpha=0.2
        )
    axes.axhline(results["baseline"], color="black", linestyle="--", label="logistic regression")
    axes.axhline(results["chance"], color="gray", linestyle=":", label="most frequent class")
    runs = len(next(iter(results["starts"].values()))["accuracy"])
    title = f"ESC-10, fold 1 ({results['clips']['test']} clips), {runs} seed{'s: mean and range' if runs > 1 else ''}"
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02), xticks=epochs, title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path)


_SECTION = """
## From an image transformer or from random weights?

The same AST ({parameters:.1f} M parameters, {patches} patches) from `{vit}` and from random weights, on ESC-10
(10 classes of [ESC-50](https://github.com/karolpiczak/ESC-50)). Trained on folds 2 to 5 ({clips[train]} clips) for
{epochs} epochs, tested on fold 1 ({clips[test]} clips) after each; {seeds}. The result is that of the last epoch.
Nothing was chosen on fold 1: learning rates were chosen on fold 2, after training on folds 3 to 5. Clips, augmentation,
schedule and batches are the same on both sides; every setting is in [transfer.json](results/transfer.json).

{head}
{rows}

![accuracy over epochs](results/transfer.png)

Learning rates tried, {choice_epochs} epochs each, with their accuracy on fold 2:

| start | learning rate: accuracy |
|---|---|
{tried}

Run `make bench-transfer DATA=... VIT=... CHOOSE=1`, then the same without `CHOOSE`; `make bench STORED=1` shows the
stored results. The stored run was `{command}`, with torch {versions[torch]} and transformers {versions[transformers]}.
"""


def section() -> str:
    """Return the stored comparison as a section of RESULTS.md, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    starts = stored["starts"]
    choice = stored["choice"]
    epochs = stored["epochs"]
    seeds = list(starts["vit"]["accuracy"])
    columns = [
        "start",
        "learning rate",
        *(f"epoch {epoch}" for epoch in range(1, epochs + 1)),
        "each seed, last",
    ]
    blank = ["-"] * epochs
    rows = [start_row(name, start) for name, start in starts.items()]
    rows += [["logistic regression", "-", *blank[1:], f"{stored['baseline']:.3f}", "-"]]
    rows += [["most frequent class", "-", *blank[1:], f"{stored['chance']:.3f}", "-"]]
    return _SECTION.format(
        **stored,
        seeds=f"mean of {len(seeds)} seeds" if len(seeds) > 1 else "one seed",
        parameters=starts["vit"]["parameters"] / 1e6,
        patches=8 * 32,
        vit=starts["vit"]["recipe"]["model"]["vit"],
        head=f"{line(columns)}\n{'|---' * len(columns)}|",
        rows="\n".join(map(line, rows)),
        choice_epochs=choice["epochs"],
        tried="\n".join(line([LABELS[name], tried_rates(runs)]) for name, runs in choice["runs"].items()),
    )


def line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def start_row(name: str, start: dict[str, Any]) -> list[str]:
    """Return the row of a start: mean accuracy after each epoch, and that of each seed after the last."""
    points = by_epoch(start)
    means = [f"{mean(seeds):.3f}" for seeds in points]
    return [
        LABELS[name],
        short(start["learning_rate"]),
        *means,
        ", ".join(f"{value:.3f}" for value in points[-1]),
    ]


def tried_rates(runs: list[dict[str, float]]) -> str:
    """Return the learning rates of one start with the accuracy of each."""
    return ", ".join(f"{short(run['learning_rate'])}: {run['accuracy']:.3f}" for run in runs)


def short(learning_rate: float) -> str:
    """Return a learning rate as recipes write it, such as 1e-4."""
    return f"{learning_rate:.0e}".replace("e-0", "e-")


if __name__ == "__main__":
    main()
