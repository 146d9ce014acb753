"""Times of sounds in long recordings: ways from window scores to events, on mixtures with known onsets.

    python -m benchmarks.timelines --data FOLDER                        # trains a checkpoint first: 3 minutes
    python -m benchmarks.timelines --data FOLDER --checkpoint CHECKPOINT
    python -m benchmarks.timelines --data FOLDER --checkpoint CHECKPOINT --quick    # 4 mixtures of a fold

FOLDER holds `esc10`, as for `benchmarks.learning`. The checkpoint is trained on folds 3 to 5 of ESC-10. Parameters and
thresholds of every system are chosen on mixtures of fold 2. Results are of mixtures of fold 1. All systems use the same
scores, which are kept in the output folder.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ast_hf.evaluation.timeline_fitting import Criterion, fit_rules
from ast_hf.evaluation.timeline_scoring import ranked
from ast_hf.metrics.psds import psds
from ast_hf.metrics.timelines import event_counts, segment_counts
from ast_hf.timelines.builder import ScoreCurve, curve_events
from ast_hf.timelines.rules import TimelineRules

from .timelines_mixtures import SECONDS, Mixture, Sound, mixtures, overlap, sounds_of
from .timelines_page import RESULTS
from .timelines_scores import Scorer, train
from .timelines_systems import SYSTEMS, Settings, curve_of
from .transfer import neutral, write

CHOOSING = "2"
REPORTED = "1"
#: Mixtures of a fold.
COUNTS = {CHOOSING: 20, REPORTED: 100}
QUICK_COUNT = 4
#: Stands for the facts of the mixtures among the names of systems.
FACTS = "facts"
#: Metrics that are F1, each with thresholds of its own.
CRITERIA = {"event": Criterion(), "event_1s": Criterion(collar_seconds=1.0), "segment": Criterion("segment")}
#: Rules that no fit changes.
_FIXED = ("low_threshold", "min_seconds", "gap_seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the systems, and store the results after each."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    torch.set_num_threads(1)
    command = f"python -m benchmarks.timelines {shlex.join(neutral(words))}"
    checkpoint = options.checkpoint or train(options.data, options.vit, options.output)
    work = Work(options.data / "esc10", checkpoint, options.output, options.quick)
    results: dict[str, Any] = {"command": command, "systems": {}}
    place = options.output / "quick.json" if options.quick else RESULTS
    for name, values in run_all(work, options.jobs):
        if name == FACTS:
            results |= values
            continue
        results["systems"][name] = values
        results["systems"] = {key: results["systems"][key] for key in SYSTEMS if key in results["systems"]}
        write(place, results)
        reached = f"PSDS1 {values['psds']['value']:.3f}, event F1 {values['event']['value']:.3f}"
        print(f"{name}: {reached}", flush=True)
    print(place)


class Work(NamedTuple):
    """What the stages are made of; see the options."""

    data: Path
    checkpoint: Path
    output: Path
    is_quick: bool


@functools.cache
def stages(work: Work) -> tuple[Stage, Stage]:
    """Return the mixtures of the choice, and those that are reported."""
    torch.set_num_threads(1)
    scorer = Scorer(work.checkpoint, work.output / f"scores-{work.checkpoint.resolve().name}")
    counts = {fold: QUICK_COUNT if work.is_quick else count for fold, count in COUNTS.items()}
    choosing, reported = (
        Stage(scorer, fold, sounds_of(work.data, fold), count) for fold, count in counts.items()
    )
    return choosing, reported


def run_all(work: Work, jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the results of each system once it is finished, `jobs` at a time."""
    if jobs == 1:
        yield from ((name, run(work, name)) for name in (FACTS, *SYSTEMS))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting = {pool.submit(run, work, name): name for name in (FACTS, *SYSTEMS)}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def run(work: Work, name: str) -> dict[str, Any]:
    """Return the results of one system, or the facts of the mixtures."""
    if name == FACTS:
        return described(*stages(work))
    return compared(SYSTEMS[name](), *stages(work))


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.timelines", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds esc10")
    parser.add_argument(
        "--checkpoint", type=Path, help="trained on folds 3 to 5 (default: train one, or that of --output)"
    )
    parser.add_argument("--vit", default="facebook/dinov2-small", help="ViT-S weights, for training")
    parser.add_argument("--output", type=Path, default=Path("outputs/timelines"), help="folder of the runs")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="systems at a time (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_COUNT} mixtures; stores nothing beside")
    return parser.parse_args(arguments)


class Stage:
    """Mixtures of one fold, with their reference and their score curves.

    Attributes:
        labels: names of the classes, in the model's order.
        mixtures: the mixtures.
        reference: mixture -> (seconds, events).
    """

    def __init__(
        self, scorer: Scorer, fold: str, sounds: Sequence[Sound], count: int, seconds: float = SECONDS
    ) -> None:
        self.labels = scorer.labels
        self.mixtures = list(mixtures(sounds, count, seconds=seconds))
        self.reference = {mixture.name: (seconds, mixture.events) for mixture in self.mixtures}
        self._scorer = scorer
        self._fold = fold

    def curves(self, settings: Settings) -> dict[str, ScoreCurve]:
        """Return the score curves of all mixtures."""
        return {mixture.name: self._curve(mixture, settings) for mixture in self.mixtures}

    def _curve(self, mixture: Mixture, settings: Settings) -> ScoreCurve:
        scored = self._scorer.score(mixture, f"fold{self._fold}-{mixture.name}", settings.window)
        curve = curve_of(scored, settings)
        times = np.minimum(curve.times, self.reference[mixture.name][0])
        return ScoreCurve(times, curve.scores.astype(np.float32))

    def psds(self, settings: Settings) -> float:
        """Return PSDS1 of a system."""
        count = len(self.labels)
        curves = ranked(self.curves(settings), settings.rules, range(count), count)
        return psds(self.reference, curves, self.labels).value

    def fitted(self, settings: Settings, criterion: Criterion) -> tuple[TimelineRules, float]:
        """Return the rules with the thresholds of best F1, and that F1."""
        fit = fit_rules(
            self.reference,
            self.curves(settings),
            self.labels,
            range(len(self.labels)),
            settings.rules,
            criterion,
            _FIXED,
        )
        return fit.rules, fit.after

    def f1(self, settings: Settings, rules: TimelineRules, criterion: Criterion) -> float:
        """Return the macro F1 of the events."""
        events = {
            name: curve_events(curve, self.labels, rules, settings.is_exclusive)
            for name, curve in self.curves(settings).items()
        }
        if criterion.target == "segment":
            return segment_counts(self.reference, events, self.labels).macro
        collar = criterion.collar_seconds
        return event_counts(self.reference, events, self.labels, collar_seconds=collar).macro


def compared(every: Iterable[Settings], choosing: Stage, reported: Stage) -> dict[str, Any]:
    """Return the results of one system on the reported mixtures.

    Its parameters are those of best PSDS1 on the other mixtures. Thresholds are fitted there for each F1.
    """
    tried = [(choosing.psds(settings), settings) for settings in every]
    best, settings = max(tried, key=lambda entry: entry[0])
    values: dict[str, Any] = {"psds": stored(settings, best, reported.psds(settings))}
    for name, criterion in CRITERIA.items():
        rules, chosen = choosing.fitted(settings, criterion)
        values[name] = stored(settings, chosen, reported.f1(settings, rules, criterion))
    values["tried"] = [{**entry.described(), "psds": value} for value, entry in tried]
    return values


def stored(settings: Settings, chosen: float, value: float) -> dict[str, Any]:
    """Return one result with its settings, and what they reached on the mixtures of the choice."""
    return {"settings": settings.described(), "choice": chosen, "value": value}


def described(choosing: Stage, reported: Stage) -> dict[str, Any]:
    """Return facts of the mixtures and versions."""
    shares = [overlap(mixture.events) for mixture in reported.mixtures]
    return {
        "mixtures": {"choice": len(choosing.mixtures), "reported": len(reported.mixtures)},
        "events": sum(len(mixture.events) for mixture in reported.mixtures),
        "overlap": float(np.mean(shares)),
        "versions": {name: version(name) for name in ("torch", "transformers", "sed_scores_eval")},
    }


if __name__ == "__main__":
    main()
