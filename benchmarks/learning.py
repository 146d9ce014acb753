"""Gain of our recipe: accuracy of five systems on two data sets, against the CPU seconds of training.

    python -m benchmarks.learning --data FOLDER --choose    # learning rates, on clips that the comparison does not use
    python -m benchmarks.learning --data FOLDER             # the comparison, three seeds: 80 minutes on two cores
    python -m benchmarks.learning --data FOLDER --control   # also the effect of our mel bins alone: 20 minutes more
    python -m benchmarks.learning --data FOLDER --only image    # one system, added to the stored results: 30 minutes
    python -m benchmarks.learning --data FOLDER --quick     # a smoke run: one seed, few epochs

FOLDER holds the data sets of `CORPORA`, each with a `manifest.csv` (path, label, and the split column). Every run is a
process of its own with one thread. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .learning_page import RESULTS, draw
from .learning_systems import CORPORA, SYSTEMS, Corpus, Task, run, simple_methods
from .transfer import neutral, write

FOLDER = Path(__file__).parent / "results"
CHOICE = FOLDER / "learning_choice.json"

SEEDS = (0, 1, 2)
#: Seeds of `--quick`.
QUICK_SEEDS = (0,)
#: Systems that only `--control` runs; they show how much of a gain comes from a single setting.
CONTROLS = ("narrow",)
#: Share of a system's epochs that `--quick` trains.
QUICK_SHARE = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose the learning rates, or compare the systems."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    options.command = f"python -m benchmarks.learning {shlex.join(neutral(words))}"
    FOLDER.mkdir(exist_ok=True)
    (choose if options.choose else compare)(options)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument(
        "--vit", default="facebook/dinov2-small", help="ViT-S weights: a Hub name or a folder"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/learning"), help="folder of the runs")
    parser.add_argument("--choose", action="store_true", help="compare learning rates instead")
    parser.add_argument(
        "--control", action="store_true", help="also plain fine-tuning with the recipe's mel bins"
    )
    parser.add_argument(
        "--only", choices=SYSTEMS, help="train this system alone, and keep the stored results of the others"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed and few epochs; stores nothing beside the runs"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def choose(options: argparse.Namespace) -> None:
    """Train with every learning rate that a system has to choose from, with seed 0.

    Stores the final accuracy of each and the best rate of each system.
    """
    tasks = [
        task(options, corpus, system, rate, 0)
        for corpus, about in CORPORA.items()
        for system, rates in about.learning_rates.items()
        for rate in rates
        if len(rates) > 1
    ]
    runs: dict[str, dict[str, dict[str, float]]] = {
        corpus: {system: {} for system in about.systems} for corpus, about in CORPORA.items()
    }
    for done in run_all(tasks, options.jobs):
        result = json.loads(result_of(done).read_text(encoding="utf-8"))
        runs[done.corpus][done.system][str(done.learning_rate)] = result["points"][-1]["accuracy"]
    chosen = {
        corpus: {system: best(about, runs[corpus], system) for system in about.systems}
        for corpus, about in CORPORA.items()
    }
    place = options.output / "quick_choice.json" if options.quick else CHOICE
    write(place, {"command": options.command, "chosen": chosen, "runs": runs})


def best(about: Corpus, accuracies: dict[str, dict[str, float]], system: str) -> float:
    """Return the most accurate learning rate of a system, or its only one; a variant of (a) gets that of (a)."""
    source = system if system in about.learning_rates else "plain"
    return max(about.learning_rates[source], key=lambda rate: accuracies[source].get(str(rate), 0.0))


def compare(options: argparse.Namespace) -> None:
    """Train every system with its learning rate, once per seed. Results are stored after each run."""
    if not CHOICE.exists():
        raise SystemExit(f"{CHOICE} is missing: run with --choose first")
    choice = json.loads(CHOICE.read_text(encoding="utf-8"))
    seeds = QUICK_SEEDS if options.quick else SEEDS
    tasks = [  # seed by seed, so that other load on the machine affects all systems alike
        task(options, corpus, system, rate, seed)
        for seed in seeds
        for corpus, about in CORPORA.items()
        for system, rate in rates(about, choice["chosen"][corpus]).items()
        if system == options.only or (not options.only and (options.control or system not in CONTROLS))
    ]
    place = options.output / "quick.json" if options.quick else RESULTS
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if options.only and not options.quick else None
    simple = {} if known else simple_results(tasks)
    for _ in run_all(tasks, options.jobs):
        results = {"command": options.command, **stored(tasks), "choice": choice}
        if known is not None:
            results = added(known, results)
        for corpus, numbers in simple.items():
            results["sets"][corpus]["simple"] = numbers
        write(place, results)
        draw(results, place.with_suffix(".png"))
    print(place)


def rates(about: Corpus, chosen: dict[str, float]) -> dict[str, float]:
    """Return the learning rate of each system: the chosen one, or a recipe's own."""
    return {
        system: chosen.get(system, about.learning_rates.get(system, (0.0,))[0]) for system in about.systems
    }


def simple_results(tasks: list[Task]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of the simple methods by data set, one for each seed."""
    firsts = [part for part in tasks if part.system == "plain"]
    return {corpus: [simple_methods(part) for part in firsts if part.corpus == corpus] for corpus in CORPORA}


def added(known: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Return stored results with the systems of a run that trained one system alone, and its command."""
    sets = copy.deepcopy(known["sets"])
    for corpus, part in results["sets"].items():
        sets[corpus]["systems"] = in_order(sets[corpus]["systems"] | part["systems"])
    commands = {**known.get("added", {}), results["command"]: results["versions"]}
    return {**known, "sets": sets, "added": commands}


def in_order(systems: dict[str, Any]) -> dict[str, Any]:
    """Return the results of systems in the order of `SYSTEMS`."""
    return {name: systems[name] for name in SYSTEMS if name in systems}


def stored(tasks: list[Task]) -> dict[str, Any]:
    """Return the points of all finished runs by data set, system and seed, and the number of finished runs."""
    done = [part for part in tasks if is_done(part)]
    sets: dict[str, Any] = {corpus: {"systems": {}} for corpus in CORPORA}
    for part in sorted(done, key=lambda part: list(SYSTEMS).index(part.system)):
        result = json.loads(result_of(part).read_text(encoding="utf-8"))
        system = sets[part.corpus]["systems"].setdefault(part.system, {"seeds": {}})
        system |= {"learning_rate": part.learning_rate, "parameters": result["parameters"]}
        system["seeds"][str(part.seed)] = result["points"]
    versions = {name: version(name) for name in ("torch", "transformers")}
    return {"runs": {"planned": len(tasks), "finished": len(done)}, "sets": sets, "versions": versions}


def task(options: argparse.Namespace, corpus: str, system: str, learning_rate: float, seed: int) -> Task:
    """Return one run, with the epochs of its system."""
    epochs = CORPORA[corpus].epochs[system] * (QUICK_SHARE if options.quick else 1)
    stage = "choice" if options.choose else "final"
    paths = (str(options.data), options.vit, str(options.output))
    return Task(system, corpus, stage, seed, learning_rate, max(1, round(epochs)), *paths)


def run_all(tasks: list[Task], jobs: int) -> Iterator[Task]:
    """Run the tasks without a result, `jobs` at a time, and yield each task once its result exists."""
    spawn = multiprocessing.get_context("spawn")
    yield from filter(is_done, tasks)
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:  # type: ignore[call-overload]  # new in Python 3.11
        waiting = {pool.submit(run, part): part for part in tasks if not is_done(part)}
        try:
            for count, future in enumerate(as_completed(waiting), start=1):
                done = waiting[future]
                write(result_of(done), {"task": asdict(done), **future.result()})
                last = future.result()["points"][-1]
                outcome = f"{done.name}: {last['accuracy']:.3f}, {last['seconds']:.0f} s"
                print(f"{count}/{len(waiting)} {outcome}", flush=True)
                yield done
        except BaseException:  # one has failed; the waiting ones would take hours
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def is_done(part: Task) -> bool:
    """Return True if this run has finished with the same data and weights."""
    path = result_of(part)
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["task"] == asdict(part)


def result_of(part: Task) -> Path:
    """Return the path of a run's result."""
    return part.folder / "result.json"


if __name__ == "__main__":
    main()
