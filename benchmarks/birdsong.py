"""Times of short sounds in real recordings: AST by the recipe for short sounds, and logistic regression on frames.

    python -m benchmarks.birdsong --data FOLDER                 # trains first: 10 minutes of one core for each seed
    python -m benchmarks.birdsong --data FOLDER --seeds 0       # one seed
    python -m benchmarks.birdsong --data FOLDER --control       # also AST trained on the labels of whole windows

FOLDER holds `birdsong`: `events.csv` (path, start, end, label), `recordings.csv` (path, split) and the recordings of
one Bengalese finch. Training recordings train, validation recordings choose all rules of timelines, and results are
those of the test recordings. A folder that is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ast_hf import load_audio
from ast_hf.evaluation.timeline_fitting import Criterion, fit_rules
from ast_hf.log_mel import FRAME_SECONDS, HOP_SECONDS, log_mel
from ast_hf.timelines.builder import ScoreCurve, curve_events
from ast_hf.timelines.events import Event
from ast_hf.timelines.rules import TimelineRules
from ast_hf.training import (
    Recipe,
    TimedRecording,
    evaluate_timelines,
    event_counts,
    finetune,
    load_recipe,
    load_timed_labels,
    segment_counts,
)

from .birdsong_page import RESULTS
from .transfer import neutral, write

RECIPE = Path(__file__).parent.parent / "examples" / "recipes" / "short-sounds-with-times.yaml"
SEEDS = (0, 1, 2)
#: F1 whose macro mean a fit maximises.
TARGETS = ("event", "segment")
#: Rules of the frames before the fit, as those of a checkpoint of the recipe.
_FRAME_RULES = TimelineRules(min_seconds=0.02, gap_seconds=0.0, silence_db=None)
#: Hop of the recipe's timelines in seconds, and windows at a time.
_HOP = 0.02
_BATCH = 32
_RATE = 32_000
_MEL_BINS = 64
#: Index of frames without a label.
_NONE = -1

Recordings = Mapping[str, TimedRecording]
#: Recording -> score curves of all classes.
Curves = Mapping[str, ScoreCurve]


class Data(NamedTuple):
    """Recordings of the three splits, and the classes."""

    folder: Path
    train: Recordings
    validation: Recordings
    test: Recordings
    labels: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the systems, and store the results after each."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    torch.set_num_threads(1)
    data = read_data(options.data / "birdsong")
    results: dict[str, Any] = {
        "command": f"python -m benchmarks.birdsong {shlex.join(neutral(words))}",
        "recordings": {name: described(getattr(data, name)) for name in ("train", "validation", "test")},
        "always": {"test": always(data.test, data), "all": always(everything(data), data)},
        "frames": frames(data),
        "seeds": {},
        "control": {},
        "versions": {name: version(name) for name in ("torch", "transformers", "scikit-learn")},
    }
    for seed in options.seeds:
        results["seeds"][str(seed)] = trained(options, data, seed)
        store(results)
    if options.control:
        results["control"] = trained(options, data, options.seeds[0], window_labels="overlap")
        store(results)
    print(RESULTS)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.birdsong", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--output", type=Path, default=Path("outputs/birdsong"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds (default: 0 1 2)")
    parser.add_argument(
        "--control", action="store_true", help="also train on the labels of all sounds in a window"
    )
    return parser.parse_args(arguments)


def read_data(folder: Path) -> Data:
    """Return the recordings with their labels."""
    table = folder / "events.csv"
    recordings = folder / "recordings.csv"
    train, validation, test = (
        load_timed_labels(table, split=name, recordings=recordings)
        for name in ("train", "validation", "test")
    )
    labels = sorted({event.label for part in train.values() for event in part.events})
    return Data(folder, train, validation, test, labels)


def described(recordings: Recordings) -> dict[str, Any]:
    """Return the number and length of recordings, and the number of their sounds."""
    return {
        "recordings": len(recordings),
        "seconds": round(sum(part.seconds for part in recordings.values()), 1),
        "events": sum(len(part.events) for part in recordings.values()),
    }


def everything(data: Data) -> Recordings:
    """Return the recordings of all splits."""
    return {**data.train, **data.validation, **data.test}


def store(results: dict[str, Any]) -> None:
    """Write the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    write(RESULTS, results)


# ---------------------------------------------------------------- scores


def scores(
    recordings: Recordings, found: Mapping[str, Sequence[Event]], labels: list[str]
) -> dict[str, float]:
    """Return segment F1 at 1 s and event F1 with a collar of 200 ms, micro and macro."""
    reference = {name: (part.seconds, part.events) for name, part in recordings.items()}
    segments = segment_counts(reference, found, labels)
    events = event_counts(reference, found, labels)
    values = {"segment_micro": segments.micro, "segment_macro": segments.macro}
    values |= {"event_micro": events.micro, "event_macro": events.macro}
    return {name: round(value, 4) for name, value in values.items()}


def always(recordings: Recordings, data: Data) -> dict[str, float]:
    """Return the scores of all labels for all of the time."""
    found = {
        name: [Event(0.0, part.seconds, label) for label in data.labels] for name, part in recordings.items()
    }
    return scores(recordings, found, data.labels)


# ---------------------------------------------------------------- logistic regression on frames


def frames(data: Data) -> dict[str, Any]:
    """Return the scores of logistic regression on single log-mel frames, with rules fitted for each target.

    The rules are those of AST's timelines, and are fitted as `ast-hf evaluate --timeline --fit-on` does.
    """
    curves = frame_curves(data)
    reference = {name: (part.seconds, part.events) for name, part in data.validation.items()}
    chosen = {name: curves[name] for name in data.validation}
    results = {}
    for target in TARGETS:
        classes = list(range(len(data.labels)))
        fitted = fit_rules(reference, chosen, data.labels, classes, _FRAME_RULES, Criterion(target))
        found = {name: curve_events(curves[name], data.labels, fitted.rules) for name in data.test}
        results[target] = {**scores(data.test, found, data.labels), "rules": fitted.rules.as_dict()}
    return results


def frame_curves(data: Data) -> Curves:
    """Fit logistic regression on single log-mel frames, and return the curves of the other recordings.

    A frame has the label at its middle, or none; no two sounds of these recordings overlap.
    """
    spectra = {name: features(name) for name in everything(data)}
    targets = [labels_of_frames(part, len(spectra[name]), data.labels) for name, part in data.train.items()]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(np.concatenate([spectra[name] for name in data.train]), np.concatenate(targets))
    columns = [list(model.classes_).index(label) for label in range(len(data.labels))]
    found = {}
    for name in [*data.validation, *data.test]:
        # A step begins halfway between the middles of two frames.
        times = np.arange(len(spectra[name]) + 1) * HOP_SECONDS + (FRAME_SECONDS - HOP_SECONDS) / 2
        found[name] = ScoreCurve(times, model.predict_proba(spectra[name])[:, columns])
    return found


def features(path: str) -> np.ndarray:
    """Return the log-mel spectrogram of a recording, `(frames, bins)`."""
    waveform = torch.as_tensor(np.asarray(load_audio(path, _RATE)), dtype=torch.float32)
    return log_mel(waveform, _RATE, _MEL_BINS).numpy()


def labels_of_frames(recording: TimedRecording, count: int, labels: list[str]) -> np.ndarray:
    """Return the class index at the middle of each frame, `_NONE` without a sound."""
    middles = np.arange(count) * HOP_SECONDS + FRAME_SECONDS / 2
    indices = np.full(count, _NONE)
    for event in recording.events:
        indices[(middles >= event.start) & (middles < event.end)] = labels.index(event.label)
    return indices


# ---------------------------------------------------------------- AST


def trained(options: argparse.Namespace, data: Data, seed: int, **reading: Any) -> dict[str, Any]:
    """Train by the recipe unless the folder is there, and return the scores of the timelines for each target."""
    folder = options.output / "-".join(["seed", str(seed), *reading.values()])
    spent = folder / "training_seconds.json"
    if not (folder / "config.json").exists():
        began = time.process_time()
        finetune(recipe(data, seed, reading), folder, overwrite=True)
        write(spent, {"cpu_seconds": round(time.process_time() - began, 1)})
    training = json.loads(spent.read_text(encoding="utf-8")) if spent.exists() else {"cpu_seconds": None}
    results: dict[str, Any] = {"training_cpu_seconds": training["cpu_seconds"]}
    for target in TARGETS:
        began = time.process_time()
        results[target] = evaluated(folder, data, target, reading)
        results["scoring_cpu_seconds"] = round(time.process_time() - began, 1)
        print(f"{folder.name}, rules for {target}s: {results[target]}", flush=True)
    return results


def evaluated(folder: Path, data: Data, target: str, reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a checkpoint's timelines on the test recordings, and the fitted rules.

    It is `ast-hf evaluate FOLDER events.csv --recordings recordings.csv --timeline --fit-on validation`. Without
    labels of the middle of windows, a checkpoint stores no hop: it gets the same one.
    """
    evaluation = evaluate_timelines(
        str(folder),
        data.folder / "events.csv",
        recordings=data.folder / "recordings.csv",
        output_dir=folder / f"timelines-{target}",
        rules={"hop_seconds": _HOP} if reading else None,
        fit_on="validation",
        fit_target=target,
        batch_size=_BATCH,
    )
    values = evaluation.outcomes[str(folder)].values()
    return {name: round(float(value), 4) for name, value in values.items() if value is not None} | {
        "rules": evaluation.rules
    }


def recipe(data: Data, seed: int, reading: Mapping[str, Any]) -> Recipe:
    """Return the recipe for short sounds with the data, the seed and one thread."""
    values = load_recipe(RECIPE).to_dict() | {"threads": 1}
    sources = {"source": str(data.folder / "events.csv"), "recordings": str(data.folder / "recordings.csv")}
    values["data"] |= {**sources, **reading}
    values["data"]["validation_fraction"] = 0.0  # every system trains on all recordings, for a fixed length
    values["stopping"] = {}
    values["training"] |= {"seed": seed, "use_cpu": True}
    return Recipe.from_dict(values, "benchmarks.birdsong")


if __name__ == "__main__":
    main()
