"""Section of RESULTS.md and picture with the results that `benchmarks.learning` stored."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from .transfer import line, short

FOLDER = Path(__file__).parent / "results"
RESULTS = FOLDER / "learning.json"
PICTURE = FOLDER / "learning.png"

NAMES = {
    "plain": "(a) plain fine-tuning, stock AST",
    "narrow": "(a) with 64 mel bins",
    "recipe": "(b) our recipe",
    "patchout": "(c) our recipe with patchout",
    "image": "(e) our recipe from image weights",
    "psla": "(d) PSLA in small",
}
TITLES = {"esc10": "ESC-10, a fold for each seed", "arabic_commands": "Arabic commands, unseen speakers"}


class Curve(NamedTuple):
    """Learning curve of a system: CPU seconds so far and accuracy, both indexed by epoch, then by seed."""

    seconds: list[list[float]]
    accuracy: list[list[float]]

    @property
    def final(self) -> list[float]:
        """Accuracy of each seed after the last epoch."""
        return self.accuracy[-1]

    @property
    def cost(self) -> float:
        """CPU seconds of a complete run, mean of the seeds."""
        return mean(self.seconds[-1])


def curve(system: dict[str, Any]) -> Curve:
    """Return the stored points of all seeds, epoch by epoch."""
    epochs = list(zip(*system["seeds"].values(), strict=True))
    return Curve(
        *([[point[name] for point in epoch] for epoch in epochs] for name in ("seconds", "accuracy"))
    )


def cost_to_reach(accuracy: float, points: Curve) -> float | None:
    """Return the mean CPU seconds until the mean accuracy reaches and keeps `accuracy`; None if it never does."""
    cost = None
    for seconds, reached in zip(reversed(points.seconds), reversed(points.accuracy), strict=True):
        if mean(reached) < accuracy - 1e-9:  # tolerance for rounding
            break
        cost = mean(seconds)
    return cost


_SECTION = """
## What is the recipe worth?

Accuracy after the last epoch, mean and standard deviation of the seeds, and CPU time of training (features,
augmentation and optimizer; one thread, bfloat16 autocast for every system). Nothing was chosen on the test clips: the
recipes and the learning rates of (a) and (d) were chosen on other clips
([learning_choice.json](results/learning_choice.json)). On ESC-10 each seed tests on another fold, 1, 3 and 4; choices
were made on fold 2, with models trained on folds 3 to 5.

Our recipe is more accurate than plain fine-tuning on both data sets, in less time. With patchout this still holds, in
less than a third of the time. A good part of the lead comes from the smaller input of 64 mel bins. The paper's finding
about image weights shows as well: with them AST is far ahead of the convolutional network on ESC-10, and as accurate
on 1,800 spoken words within the spread of the seeds (e); from random weights it is 5 points lower there.

- (a) is transformers' AST and Trainer as its audio-classification example uses them. It has the same start as ours,
  which on ESC-10 it cannot create by itself: image weights, converted by `ast_hf`; our strides and the length of the
  clips; its extractor's own 128 mel bins; and on ESC-10 the Trainer's own number of epochs. The next row is the same
  with the 64 mel bins of (b), which shows how much of (b)'s lead comes from the smaller input alone.
- (b) is [small-data.yaml](../examples/recipes/small-data.yaml) for ESC-10, AST-small from image weights, and
  [spoken-words.yaml](../examples/recipes/spoken-words.yaml) for the commands, a small AST from random weights. The
  budget is (a)'s CPU time: (b) and (c) may train for more epochs, but not for longer.
- (c) leaves out part of the patches in training steps.
- (e) is [words-from-image-weights.yaml](../examples/recipes/words-from-image-weights.yaml): AST-small from image
  weights. Its settings were chosen on the validation speakers.
- (d) is a convolutional EfficientNet-B0 with multi-head attention pooling, from random weights, with the clips and
  the augmentation of (b).
{tables}
"Reaches (a)" is the CPU time after which the mean accuracy is and stays at least the final one of (a), as a share of
(a)'s total. The points of all runs are in [learning.json](results/learning.json).

![accuracy over CPU seconds](results/learning.png)

Run `make bench-learning DATA=... VIT=... CHOOSE=1`, then the same without `CHOOSE`; `CONTROL=1` adds (a) with 64 mel
bins; `QUICK=1` runs one seed for a few epochs; `make bench STORED=1` shows the stored results. The stored command was
`{command}`: {runs[finished]} of its {runs[planned]} runs had
finished, with torch {versions[torch]} and transformers {versions[transformers]}.{later}
"""

_TABLE = """
**{title}**: {train} training clips, {test} test clips.

| system | parameters | epochs | accuracy | each seed | CPU time, (a) = 1 | reaches (a) |
|---|---|---|---|---|---|---|
{rows}
"""


def section() -> str:
    """Return the stored comparison, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    comparable = {corpus: values for corpus, values in stored["sets"].items() if "plain" in values["systems"]}
    tables = "".join(map(table, comparable, comparable.values()))
    return _SECTION.format(**stored, tables=tables, later=later(stored.get("added", {})))


def later(added: dict[str, dict[str, str]]) -> str:
    """Return a sentence for each command whose system was added to the stored results."""
    texts = (
        f"\nAdded later: `{command}`, with torch {versions['torch']} and transformers {versions['transformers']}."
        for command, versions in added.items()
    )
    return "".join(texts)


def table(corpus: str, results: dict[str, Any]) -> str:
    """Return the table of one data set."""
    plain = curve(results["systems"]["plain"])
    rows = [row(NAMES[name], system, plain) for name, system in results["systems"].items()]
    for name, values in simple(results).items():
        each = listed(values) if len(set(values)) > 1 else "-"
        rows.append(line([name, "-", "-", f"{mean(values):.3f}{spread(values)}", each, "-", "-"]))
    return _TABLE.format(title=TITLES[corpus], rows="\n".join(rows), **results["simple"][0]["clips"])


def simple(results: dict[str, Any]) -> dict[str, list[float]]:
    """Return the accuracies of the simple methods by their display name, one for each seed."""
    keys = {"logistic regression": "baseline", "most frequent class": "chance"}
    return {name: [values[kind] for values in results["simple"]] for name, kind in keys.items()}


def spread(values: list[float]) -> str:
    """Return the standard deviation of several different values, otherwise an empty string."""
    return f" ± {stdev(values):.3f}" if len(values) > 1 and len(set(values)) > 1 else ""


def listed(values: list[float]) -> str:
    """Return the values as a list for a table cell."""
    return ", ".join(f"{value:.3f}" for value in values)


def row(name: str, system: dict[str, Any], plain: Curve) -> str:
    """Return the row of one system, with its costs as shares of those of (a)."""
    points = curve(system)
    reached = cost_to_reach(mean(plain.final), points)
    return line(
        [
            f"{name}, learning rate {short(system['learning_rate'])}",
            f"{system['parameters'] / 1e6:.1f} M",
            str(len(points.accuracy)),
            f"{mean(points.final):.3f}{spread(points.final)}",
            listed(points.final),
            f"{points.cost / plain.cost:.2f}",
            "never" if reached is None else f"{reached / plain.cost:.2f}",
        ]
    )


def draw(stored: dict[str, Any], path: Path = PICTURE) -> None:
    """Write a PNG: accuracy over CPU seconds for each data set, mean and range of the seeds, and the simple methods."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(11, 4.8), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(stored["sets"]), sharey=True, squeeze=False)[0]
    for axes, (corpus, values) in zip(panels, stored["sets"].items(), strict=True):
        for name, system in values["systems"].items():
            points = curve(system)
            seconds = [mean(epoch) for epoch in points.seconds]
            axes.plot(
                seconds,
                [mean(epoch) for epoch in points.accuracy],
                marker="o",
                markersize=4,
                label=NAMES[name],
            )
            axes.fill_between(
                seconds, list(map(min, points.accuracy)), list(map(max, points.accuracy)), alpha=0.15
            )
        for (name, reached), style in zip(simple(values).items(), ("--", ":"), strict=True):
            axes.axhline(mean(reached), color="black", linestyle=style, label=name)
        title = f"{TITLES[corpus]} ({values['simple'][0]['clips']['test']} test clips)"
        axes.set(xlabel="CPU seconds of training", ylim=(0, 1.02), title=title)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.savefig(path)
