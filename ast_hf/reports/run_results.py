"""Results of a run: the source of its card, its pictures and results.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..configuration_ast import ASTConfig
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import plain_values
from ..label_order import model_labels
from ..metrics.summary import all_metrics, class_figures
from ..recipe.recipe import Recipe
from ..task import Task
from ..versions import result_origins, result_versions
from .epoch_metrics import Curve, KeptEvaluation
from .verdict import Verdict

#: Fields of the feature extractor in results.json; recipes leave mean and std out if they were measured.
_FEATURES = (
    "sampling_rate",
    "num_mel_bins",
    "max_length",
    "do_normalize",
    "mean",
    "std",
    "return_attention_mask",
)
#: Fields of the model configuration in results.json.
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "patch_size",
    "frequency_stride",
    "time_stride",
)
#: Attributes of the report that results.json holds unchanged.
_ATTRIBUTES = (
    "metric",
    "results",
    "classes",
    "baseline",
    "chance",
    "clips",
    "training_clips",
    "training_labels",
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
    "data_check",
    "precision",
    "features_on",
    "calibration",
    "origins",
    "local_paths",
    "own_code",
)


class SplitResults(NamedTuple):
    """Results on one split."""

    metrics: dict[str, float]  # the loss and those of `all_metrics`; NaN if undefined
    classes: list[dict[str, Any]]  # as `class_rows` returns them
    answers: np.ndarray  # index of the best label of each clip, `(clips,)`
    truth: np.ndarray  # indices `(clips,)`; for multi-label, tags `(clips, labels)`
    logits: np.ndarray  # `(clips, labels)`

    @classmethod
    def from_output(cls, output: Any, config: ASTConfig) -> SplitResults:
        """Compute the results from a Trainer's `PredictionOutput` with the prefix `eval`."""
        task = Task(config.problem_type)
        logits = np.asarray(output.predictions)
        truth = np.asarray(output.label_ids)
        if task is Task.MULTI_LABEL:
            truth = truth.astype(bool)
        temperature = config.temperature or 1.0
        metrics, ranked = all_metrics(logits, truth, task, temperature)
        metrics["loss"] = float(output.metrics["eval_loss"])
        figures = class_figures(
            logits, truth, task, ranked, temperature=temperature, thresholds=config.thresholds
        )
        rows = class_rows(model_labels(config), figures)
        return cls(metrics, rows, logits.argmax(axis=1), truth, logits)


def class_rows(labels: Sequence[str], figures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return a row for each label, of the arrays of `class_figures`: its `clips`, then the other columns.

    The number of clips that a label is predicted for is left out: it follows from clips, precision and recall.
    """
    columns = {"clips": figures["positives"], **figures}
    columns = {name: column for name, column in columns.items() if name not in ("positives", "predicted")}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"label": label, **dict(zip(columns, values, strict=True))}
        for label, values in zip(labels, rows, strict=True)
    ]


@dataclass
class Report:
    """Results of a finished run. `results` and `baseline` are by split; `metric` names the main metric.

    Attributes:
        settings: every option of `recipe.training` that affects the weights, with defaults.
        results: all metrics by split and name.
        classes: rows of `class_rows` by split.
        clips: number of evaluated clips by split.
        training_clips: number of training clips; for a stream, in all passes.
        training_labels: number of training clips by label; empty for a stream.
        epochs: passes over the training split; None for a stream.
        seconds: wall time of the training with its evaluations and checkpoints, before a resumption too; 0 if
            unknown.
        clips_per_second: training clips per second of this time.
        pictures: `"curves"` and, for single labels, `"confusion"` -> file in `folder`.
        emissions: of the training, see `read_emissions`; None if they were not measured.
        data_sets: Hub names of the training data, as far as they are known.
        base_model: Hub name of the initial weights; None for random ones, or if unknown.
        date: of the measurement, in UTC, as YYYY-MM-DD.
        watched: curves of the splits that were evaluated while training, by name.
        data_check: what the check of all clips found: number of `skipped` clips by split and the first ones,
            number of clips `shared` by splits and of `contradictory` ones, the share of each split's sound
            that the model uses (`used`), its seconds and clips and how many of them are not used (`sound`), and
            a digest of each split's `content`; empty for a stream.
        kept: the evaluation whose weights were saved; None for the last weights.
        precision: of the arithmetic: `"float32"`, `"bf16"` or `"fp16"`.
        features_on: where the features of training clips were computed, `"cpu"` or `"gpu"`.
        changes: options that differed when the run was resumed, in words.
        calibration: temperature and thresholds that the model keeps from before a resumption, see `kept_record`;
            None without.
        origins: where others find the packages in `versions`, see `result_origins`.
        local_paths: options of the recipe that were folders or files of this machine, as `model.base`.
        published: address of the pushed model's page.
        unpublished: the command that completes a failed push.
        own_code: names of the user's augmentation and callbacks, by argument of `finetune`; a recipe lacks them.
        verdict: above or below the baseline, what stands out, and what to try; None on processes besides the main
            one.
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
    data_check: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    published: str | None = None
    unpublished: str | None = None
    calibration: dict[str, Any] | None = None
    origins: dict[str, dict[str, str | None]] = field(default_factory=result_origins)
    local_paths: list[str] = field(default_factory=list)
    own_code: dict[str, Any] = field(default_factory=dict)
    kept: KeptEvaluation | None = None
    precision: str = "float32"
    features_on: str = "cpu"
    verdict: Verdict | None = None

    @property
    def picture(self) -> str:
        """File of the curves, in `folder`."""
        return self.pictures["curves"]

    def by_method(self) -> dict[str, dict[str, float]]:
        """Return the main metric by split of the `"model"` and of the measured simple methods."""
        model = {name: values[self.metric] for name, values in self.results.items()}
        methods = {"model": model, "baseline": self.baseline, "chance": self.chance}
        return {method: values for method, values in methods.items() if values or method == "model"}

    @property
    def amount(self) -> str:
        """Clips and epochs of the training, in words."""
        return amount(self.training_clips, self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json and the card; undefined and infinite numbers are None."""
        config = self.config
        return plain_values(
            {
                **{name: getattr(self, name) for name in _ATTRIBUTES},
                "problem_type": config.problem_type,
                "labels": model_labels(config),
                "features": {name: getattr(self.extractor, name) for name in _FEATURES},
                "model": {name: getattr(config, name) for name in _SIZES},
                "watched": {name: curve.to_dict() for name, curve in self.watched.items()},
                "pictures": self.pictures,
                "samples": [Path(sample).name for sample in self.recipe.card.samples],
                "versions": self.versions,
                "recipe": self.recipe.to_dict(),
                "settings": self.settings,
                "changes": self.changes,
                "kept": None if self.kept is None else {**asdict(self.kept), "text": str(self.kept)},
                "verdict": None if self.verdict is None else self.verdict.to_dict(),
            }
        )


def amount(clips: int, epochs: float | None) -> str:
    """Return the clips and epochs of a training in words."""
    return (
        f"{clips} clips of a stream"
        if epochs is None
        else f"{clips} clips, {epochs:g} epoch{'' if epochs == 1 else 's'}"
    )
