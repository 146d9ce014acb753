"""What did a run measure? Everything that its card, its pictures and results.json tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..configuration_ast import ASTConfig
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import plain_values
from ..metrics.all_of import measure
from ..recipe.recipe import Recipe
from ..reports.pictures import confusion_counts
from ..versions import result_versions
from .epoch_metrics import Curve

#: What results tell of the feature extractor; the recipe leaves mean and std out where they were measured.
_FEATURES = ("sampling_rate", "num_mel_bins", "max_length", "do_normalize", "mean", "std", "return_attention_mask")
#: What they tell of the model's size.
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "frequency_stride", "time_stride")
#: What they tell as the report has it.
_PLAIN = ("metric", "results", "classes", "baseline", "chance", "clips", "training_clips", "training_labels")
_MORE = (
    "parameters",
    "trained_parameters",
    "epochs",
    "seconds",
    "clips_per_second",
    "hardware",
    "emissions",
    "date",
    "data_sets",
    "base_model",
)


class Measured(NamedTuple):
    """One split: `metrics` by name, a row of `classes` for each label, and what the pictures are drawn from.

    Attributes:
        metrics: loss, the task's own and all of `metrics.all_of.measure`; NaN where one is not defined.
        classes: `label`, `clips` and the columns of its kind of task, see `class_rows`.
        answers: index of the best label of each clip, `(clips,)`.
        truth: indices `(clips,)`, or tags `(clips, labels)`.
    """

    metrics: dict[str, float]
    classes: list[dict[str, Any]]
    answers: np.ndarray
    truth: np.ndarray


def measured(output: Any, config: ASTConfig) -> Measured:
    """What a Trainer's `PredictionOutput` with the prefix `eval` says of a model with that configuration."""
    logits, truth = np.asarray(output.predictions), np.asarray(output.label_ids)
    truth = truth.astype(bool) if truth.ndim == 2 else truth
    metrics, ranked = measure(logits, truth, str(config.problem_type))
    labels = [config.id2label[index] for index in range(config.num_labels)]
    answers = logits.argmax(axis=1)
    own = {"loss": float(output.metrics["eval_loss"])}
    return Measured({**metrics, **own}, class_rows(labels, ranked, answers, truth), answers, truth)


def class_rows(
    labels: Sequence[str], ranked: dict[str, np.ndarray], answers: np.ndarray, truth: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each label: its clips, AP and AUC (one against the rest); and where the best label is the answer,
    precision, recall and F1. With several labels these take a threshold, which the clips at hand must not choose.

    Args:
        labels: names, by index.
        ranked: `class_report` of the scores.
        answers: best label of each clip, `(clips,)`.
        truth: indices `(clips,)`, or tags `(clips, labels)`.
    """
    columns: dict[str, np.ndarray] = {"clips": ranked["positives"].astype(int)}
    if truth.ndim == 1:
        counts = confusion_counts(answers, truth, len(labels))
        right, given, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
        with np.errstate(invalid="ignore"):  # a label that was never given, or has no clip: NaN
            columns |= {"precision": right / given, "recall": right / true, "F1": 2 * right / (given + true)}
    columns |= {name: ranked[name] for name in ("AP", "AUC")}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"label": label, **dict(zip(columns, row, strict=True))} for label, row in zip(labels, rows, strict=True)]


@dataclass
class Report:
    """What a finished run measured. `results` and `baseline` are by split; `metric` names the main metric.

    Attributes:
        settings: what decided the weights of `recipe.training`, also where the recipe said nothing.
        results: all metrics by split and name.
        classes: rows of `class_rows` by split.
        clips: evaluated, by split.
        training_clips: clips of the training split; of a stream, how many were trained on, those of later passes too.
        training_labels: clips of the training split by label; nothing for a stream, which is not counted.
        epochs: passes over the training split; None for a stream.
        seconds: wall time of the training, with the evaluations and checkpoints in it, before a resumption too; 0 where
            that is not known.
        clips_per_second: clips trained on in each of them.
        pictures: `"curves"` and, for single labels, `"confusion"` -> file in `folder`.
        emissions: what codecarbon measured while training, as `read_emissions` gives it; None where it did not.
        data_sets: names on the Hub of what was trained on, as far as they are known.
        base_model: name on the Hub of what was started from; None for a random start, or where it is not known.
        date: of the measurement, in UTC, as YYYY-MM-DD.
        watched: curves of the splits that were evaluated while training, by name.
        changes: with which other options the run went on after an interruption, in words.
        published: page of what was pushed.
        unpublished: the command that finishes a push that failed.
    """

    recipe: Recipe
    settings: dict[str, Any]
    folder: Path
    config: ASTConfig
    extractor: ASTFeatureExtractor
    metric: str
    results: dict[str, dict[str, float]]
    baseline: dict[str, float]
    chance: dict[str, float]
    clips: dict[str, int]
    training_clips: int
    parameters: int
    trained_parameters: int
    epochs: float | None
    seconds: float
    clips_per_second: float
    hardware: str
    classes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    training_labels: dict[str, int] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=lambda: {"curves": "curves.png"})
    versions: dict[str, str] = field(default_factory=result_versions)
    emissions: dict[str, Any] | None = None
    data_sets: list[str] = field(default_factory=list)
    base_model: str | None = None
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).date().isoformat())
    watched: dict[str, Curve] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    published: str | None = None
    unpublished: str | None = None

    @property
    def picture(self) -> str:
        """File of the curves, in `folder`."""
        return self.pictures["curves"]

    def by_method(self) -> dict[str, dict[str, float]]:
        """Main metric on each split for the `"model"` and for the simple methods that were measured beside it."""
        model = {name: values[self.metric] for name, values in self.results.items()}
        methods = {"model": model, "baseline": self.baseline, "chance": self.chance}
        return {method: values for method, values in methods.items() if values or method == "model"}

    @property
    def amount(self) -> str:
        """What was trained on, in words."""
        return amount(self.training_clips, self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for results.json and the card; what is not defined or infinite is None."""
        config = self.config
        return plain_values(
            {
                **{name: getattr(self, name) for name in (*_PLAIN, *_MORE)},
                "problem_type": config.problem_type,
                "labels": [config.id2label[index] for index in range(config.num_labels)],
                "features": {name: getattr(self.extractor, name) for name in _FEATURES},
                "model": {name: getattr(config, name) for name in _SIZES},
                "watched": {name: curve.to_dict() for name, curve in self.watched.items()},
                "pictures": self.pictures,
                "samples": [Path(sample).name for sample in self.recipe.card.samples],
                "versions": self.versions,
                "recipe": self.recipe.to_dict(),
                "settings": self.settings,
                "changes": self.changes,
            }
        )


def amount(clips: int, epochs: float | None) -> str:
    """Clips and epochs of a training, in words."""
    return f"{clips} clips of a stream" if epochs is None else f"{clips} clips, {epochs:g} epochs"
