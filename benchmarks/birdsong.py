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
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ast_hf import load_audio
from ast_hf.data.timed_labels import TimedRecording
from ast_hf.evaluation.members import load_member
from ast_hf.evaluation.timeline_fitting import Criterion, fit_rules
from ast_hf.evaluation.timeline_scoring import TimelineModel, always_on
from ast_hf.evaluation.timelines import store_timeline
from ast_hf.log_mel import FRAME_SECONDS, HOP_SECONDS, log_mel
from ast_hf.metrics.timelines import event_counts, segment_counts
from ast_hf.timelines.builder import ScoreCurve, curve_events
from ast_hf.timelines.events import Event
from ast_hf.timelines.rules import TimelineRules
from ast_hf.training import Recipe, finetune, load_recipe, load_timed_labels

from .birdsong_page import RESULTS
from .transfer import neutral, write

RECIPE = Path(__file__).parent.parent / "examples" / "recipes" / "short-sounds-with-times.yaml"
SEEDS = (0, 1, 2)
#: F1 whose macro mean a fit maximises.
TARGETS = ("event", "segment")
#: Rules of the frames before the fit, as those of a checkpoint of the recipe.
_FRAME_RULES = TimelineRules(min_seconds=0.02, gap_seconds=0.0, silence_db=None)
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
        "frames": measured(frame_curves(data), data, _FRAME_RULES),
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
    parts = [load_timed_labels(table, split=name, recordings=recordings) for name in _SPLITS]
    labels = sorted({event.label for part in parts[0].values() for event in part.events})
    return Data(folder, *parts, labels)


_SPLITS = ("train", "validation", "test")


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
    lengths = {name: part.seconds for name, part in recordings.items()}
    return scores(recordings, always_on(lengths, data.labels), data.labels)


def measured(curves: Curves, data: Data, rules: TimelineRules) -> dict[str, Any]:
    """Fit rules on the validation recordings for each target, and return them with the scores on the test ones."""
    reference = {name: (part.seconds, part.events) for name, part in data.validation.items()}
    chosen = {name: curves[name] for name in data.validation}
    classes = list(range(len(data.labels)))
    results = {"given": scores(data.test, events_of(curves, data, rules), data.labels)}
    for target in TARGETS:
        fitted = fit_rules(reference, chosen, data.labels, classes, rules, Criterion(target)).rules
        results[target] = scores(data.test, events_of(curves, data, fitted), data.labels)
        results[target]["rules"] = fitted.as_dict()
    return results


def events_of(curves: Curves, data: Data, rules: TimelineRules) -> dict[str, list[Event]]:
    """Return the events of the test recordings."""
    return {name: curve_events(curves[name], data.labels, rules) for name in data.test}


# ---------------------------------------------------------------- logistic regression on frames


def frame_curves(data: Data) -> Curves:
    """Fit logistic regression on single log-mel frames, and return the curves of the other recordings.

    A frame has the label at its middle, or none; no two sounds of these recordings overlap.
    """
    frames = {name: features(name) for name in everything(data)}
    targets = [labels_of_frames(part, len(frames[name]), data.labels) for name, part in data.train.items()]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(np.concatenate([frames[name] for name in data.train]), np.concatenate(targets))
    columns = [list(model.classes_).index(label) for label in range(len(data.labels))]
    found = {}
    for name in [*data.validation, *data.test]:
        # A step begins halfway between the middles of two frames.
        times = np.arange(len(frames[name]) + 1) * HOP_SECONDS + (FRAME_SECONDS - HOP_SECONDS) / 2
        found[name] = ScoreCurve(times, model.predict_proba(frames[name])[:, columns])
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
    """Train by the recipe unless the folder is there, and return the scores of the timelines.

    The rules that are fitted for events are stored in the checkpoint, as `ast-hf evaluate --timeline --store` does.
    """
    folder = options.output / "-".join(["seed", str(seed), *reading.values()])
    training: dict[str, Any] = {}
    if not (folder / "config.json").exists():
        training = timed(lambda: finetune(recipe(data, seed, reading), folder, overwrite=True))
    member = load_member(str(folder))
    # Without labels of the middle, a checkpoint stores no hop: it gets the same one.
    arguments = {"hop_seconds": 0.02} if reading else {}
    model = TimelineModel(member, arguments, 32, torch.device("cpu"))
    lengths = {name: part.seconds for part in (data.validation, data.test) for name, part in part.items()}
    curves: dict[str, ScoreCurve] = {}
    classes = [model.labels.index(label) for label in data.labels]
    scoring = timed(lambda: curves.update(model.score(lengths, classes, model.rules, f"seed {seed}").curves))
    results = measured(curves, data, model.rules)
    rules = TimelineRules.from_dict(results["event"]["rules"])
    store_timeline(folder, model.stored_rules(rules), member.config.problem_type, exclusive=False)
    spent = {
        "training_cpu_seconds": training.get("cpu_seconds"),
        "scoring_cpu_seconds": scoring["cpu_seconds"],
    }
    print(f"seed {seed} {reading}: {results['event']}", flush=True)
    return {**results, **spent}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Do some work, and return its CPU time."""
    began = time.process_time()
    work()
    return {"cpu_seconds": round(time.process_time() - began, 1)}


def recipe(data: Data, seed: int, reading: Mapping[str, Any]) -> Recipe:
    """Return the recipe for short sounds with the data, the seed and one thread."""
    values = load_recipe(RECIPE).to_dict() | {"threads": 1}
    sources = {"source": str(data.folder / "events.csv"), "recordings": str(data.folder / "recordings.csv")}
    values["data"] |= {**sources, **reading}
    values["training"] |= {"seed": seed, "use_cpu": True}
    return Recipe.from_dict(values, "benchmarks.birdsong")


if __name__ == "__main__":
    main()
