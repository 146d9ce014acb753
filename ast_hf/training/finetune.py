"""A recipe from start to end: data -> model -> training -> evaluation -> a folder that loads anywhere."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from transformers import TrainingArguments, set_seed

from ..checkpoints import check_folder
from ..configuration_ast import ASTConfig
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..hub_access import check_account, check_name
from ..info import result_versions
from ..modeling_ast import ASTForAudioClassification
from .averaging import EpochAverage, WeightAverage
from .baseline import baseline_accuracy
from .catalog import find_data_set
from .data import check_splits, hold_out, is_multi_label, label_counts, label_names, load_audio_dataset
from .inputs import ClipInputs
from .metrics import MAIN_METRIC, metrics_for
from .optimization import freeze
from .recipe import DataOptions, ModelOptions, Recipe
from .sealing import check_resumable
from .statistics import measure_statistics
from .trainer import ASTTrainer

#: What a run uses where its recipe says nothing. `remove_unused_columns` and `label_names` are what ClipInputs needs.
_TRAINING_DEFAULTS = {
    "report_to": "none",
    "disable_tqdm": False,
    "logging_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "hub_strategy": "end",
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "logging_nan_inf_filter": False,
    "dataloader_pin_memory": torch.cuda.is_available(),
}


@dataclass
class Run:
    """A prepared run: call `trainer.train()`, or hand it to `finish`."""

    recipe: Recipe
    trainer: ASTTrainer
    train: ClipInputs
    evaluation: dict[str, ClipInputs]


@dataclass
class Report:
    """What a finished run measured. `results` and `baseline` are by split; `metric` names the main metric;
    `published` is the page of what was pushed, `unpublished` the command that finishes a push that failed.
    """

    recipe: Recipe
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
    epochs: float
    seconds: float
    hardware: str
    picture: str = "curves.png"
    versions: dict[str, str] = field(default_factory=result_versions)
    published: str | None = None
    unpublished: str | None = None

    def by_method(self) -> dict[str, dict[str, float]]:
        """Main metric on each split for the `"model"` and for the simple methods that were measured beside it."""
        model = {name: values[self.metric] for name, values in self.results.items()}
        methods = {"model": model, "baseline": self.baseline, "chance": self.chance}
        return {method: values for method, values in methods.items() if values or method == "model"}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for results.json."""
        names = ("metric", "results", "baseline", "chance", "clips", "training_clips", "parameters", "epochs")
        plain = {name: getattr(self, name) for name in (*names, "seconds", "hardware", "versions")}
        return {**plain, "recipe": self.recipe.to_dict()}


def finetune(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    resume_from_checkpoint: str | bool | None = None,
    push_to_hub: bool = False,
    hub_model_id: str | None = None,
) -> Report:
    """Train, evaluate and save by a recipe.

    Args:
        recipe: what to do.
        output_dir: folder of the result; training checkpoints go into `checkpoint-N` inside it.
        resume_from_checkpoint: True to go on from the newest checkpoint in `output_dir` that is whole; `"auto"` for the
            same, or a fresh start where there is none; `"hub"` for the newest that a run sent to the Hub; or a
            checkpoint folder.
        push_to_hub: publish the finished folder on the Hub. A push that fails is told (W701), and no error.
        hub_model_id: its name there, `user/name`; the folder's name under your account when None.

    Returns:
        The report; the folder holds the model, the feature extractor, README.md (card), curves.png, results.json and
        recipe.yaml.

    Raises:
        AstHfError: for anything wrong with the recipe, the data or the base, before the first training step; E306 when
            there is no whole checkpoint to go on from; E401 when one cannot be written; E501 when the loss stops being
            finite.
    """
    check_resumable(resume_from_checkpoint, Path(output_dir))
    if resume_from_checkpoint == "hub" and not (push_to_hub or hub_model_id or "hub_model_id" in recipe.training):
        raise error("E307", where="resume", what="hub does not say which run", fix="give hub_model_id, user/name")
    run = prepare(recipe, output_dir, push_to_hub=push_to_hub, hub_model_id=hub_model_id)
    run.trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    report = finish(run)
    if run.trainer.args.push_to_hub:
        pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
        report.published, report.unpublished = pushed and pushed.url, run.trainer.unpublished
    return report


def prepare(recipe: Recipe, output_dir: str | Path, **hub: Any) -> Run:
    """Read the data, build the model and the Trainer; nothing is trained yet."""
    given = {name: value for name, value in hub.items() if value}
    arguments = TrainingArguments(str(output_dir), **{**_TRAINING_DEFAULTS, **recipe.training, **given})
    if arguments.push_to_hub:
        check_account(arguments.hub_token)
        check_name(arguments.hub_model_id or Path(output_dir).absolute().name)
    set_seed(arguments.seed)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    train, validation, evaluation = _read_splits(recipe, arguments.seed)
    if validation is None and arguments.eval_strategy != "no":
        what = f"{arguments.eval_strategy.value!r} has nothing to evaluate on while training"
        raise error(
            "E307",
            where="training.eval_strategy",
            what=what,
            fix="set data.validation_fraction, or add a validation split",
        )
    extractor = _build_extractor(recipe)
    augmented = ClipInputs(
        train, extractor, augmentation=recipe.augmentation, seed=arguments.seed, cache=recipe.data.cache
    )
    evaluated = {name: ClipInputs(split, extractor, cache=recipe.data.cache) for name, split in evaluation.items()}
    extractor.mean, extractor.std = _statistics(recipe, augmented)
    model = _build_model(recipe, train)
    trainer = ASTTrainer(
        model=model,
        args=arguments,
        train_dataset=augmented,
        eval_dataset=None if validation is None else ClipInputs(validation, extractor, cache=recipe.data.cache),
        processing_class=extractor,
        compute_metrics=metrics_for(model.config.problem_type),
        average=_average(recipe),
        optimization=recipe.optimization,
        sampling=recipe.sampling,
        patchout=recipe.patchout,
    )
    return Run(recipe, trainer, augmented, evaluated)


def finish(run: Run) -> Report:
    """Evaluate a trained run on its evaluation splits, and write everything that belongs beside the weights.

    Of several processes all have to call it. Each evaluates its share of the clips, and all get the same results; the
    first one measures the baseline and writes the files.
    """
    from .curves import draw_curves
    from .model_card import write_card

    trainer, folder, writes = run.trainer, Path(run.trainer.args.output_dir), run.trainer.is_world_process_zero()
    history = list(trainer.state.log_history)
    metric = MAIN_METRIC[trainer.model.config.problem_type]
    results = {name: _evaluate(trainer, inputs, metric) for name, inputs in run.evaluation.items()}
    report = Report(
        recipe=run.recipe,
        folder=folder,
        config=trainer.model.config,
        extractor=trainer.processing_class,
        metric=metric,
        results=results,
        baseline=baseline_accuracy(run.train, run.evaluation) if writes else {},
        chance=most_frequent_class(run.train.split, {name: part.split for name, part in run.evaluation.items()}),
        clips={name: len(inputs) for name, inputs in run.evaluation.items()},
        training_clips=len(run.train),
        parameters=trainer.model.num_parameters(),
        epochs=float(trainer.state.epoch or 0),
        seconds=next((entry["train_runtime"] for entry in history if "train_runtime" in entry), 0.0),
        hardware=_hardware(trainer.args),
    )
    trainer.save_model(str(folder), _internal_call=True)
    if writes:
        (folder / "recipe.yaml").write_text(run.recipe.to_yaml(), encoding="utf-8")
        (folder / "results.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
        draw_curves(history, report, folder / report.picture)
        trainer.card = write_card(report, getattr(trainer, "hub_model_id", None) or str(folder))
        trainer.create_model_card()
    return report


def _read_splits(recipe: Recipe, seed: int) -> tuple[Dataset, Dataset | None, dict[str, Dataset]]:
    options = recipe.data
    if not options.source:
        raise error("E307", where="data.source", what="is not set", fix="name a folder, a table or a data set")
    splits = load_audio_dataset(**{**find_data_set(options.source), **_asked_for(options)})
    if not isinstance(splits, DatasetDict):
        what = f"{options.source!r} comes as a stream, which recipes do not train on"
        fix = "download it and name its folder in AST_HF_DATA; StreamedClipInputs reads streams in code of your own"
        raise error("E307", where="data.source", what=what, fix=fix)
    named = options.eval_splits
    evaluation = [name for name in splits if name != options.train_split] if named is None else named
    watched = ("validation",) if options.validation_fraction and "validation" not in splits else ()
    check_splits(splits, options.train_split, [name for name in evaluation if name not in watched])
    train, validation = splits[options.train_split], None
    if options.validation_fraction:
        parts: DatasetDict = hold_out(
            train, options.validation_fraction, group_column=options.validation_group, seed=seed
        )
        train, validation = parts["train"], parts["validation"]
        check_splits(parts, "train", ["validation"])
        evaluation = evaluation or ["validation"]
    elif options.train_split != "validation":
        validation = splits.get("validation")
    held = {"validation": validation} if validation is not None else {}
    return train, validation, {name: splits[name] if name in splits else held[name] for name in evaluation}


#: Options of a recipe's data that are arguments of `load_audio_dataset`.
_READING = (
    "audio_column",
    "label_column",
    "split_column",
    "label_separator",
    "class_labels",
    "test_fold",
    "fold_column",
)


def _asked_for(options: DataOptions) -> dict[str, Any]:
    """The reading options that differ from their defaults, so that a known data set's own stay otherwise."""
    usual = DataOptions()
    return {name: getattr(options, name) for name in _READING if getattr(options, name) != getattr(usual, name)}


def _build_extractor(recipe: Recipe) -> ASTFeatureExtractor:
    rate = recipe.features.sampling_rate
    sizes = {name: recipe.model.config[name] for name in ("max_length", "num_mel_bins") if name in recipe.model.config}
    if recipe.model.base is not None:
        check_folder(recipe.model.base)
        extractor = ASTFeatureExtractor.from_pretrained(recipe.model.base, **sizes)
        if rate not in (None, extractor.sampling_rate):
            what = f"{rate} Hz, but the base {recipe.model.base!r} hears {extractor.sampling_rate} Hz"
            raise error("E307", where="features.sampling_rate", what=what, fix="leave it out: clips are resampled")
        return extractor
    return ASTFeatureExtractor(sampling_rate=rate or 16_000, **sizes)


def _statistics(recipe: Recipe, train: ClipInputs) -> tuple[float, float]:
    mean, std = recipe.features.mean, recipe.features.std
    if mean is None or std is None:
        measured_mean, measured_std = measure_statistics(train)
        return measured_mean if mean is None else mean, measured_std if std is None else std
    return mean, std


def _build_model(recipe: Recipe, train: Dataset) -> ASTForAudioClassification:
    names = label_names(train)
    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "multi_label_classification" if is_multi_label(train) else "single_label_classification",
        "temperature": None,  # a base's calibration is not that of what is trained from it
        "thresholds": None,
    }
    model = _START[recipe.model.start](recipe.model, labels)
    freeze(model, recipe.optimization.frozen)
    model.loss_kind = _LOSS_KINDS[recipe.loss]
    return model.factor_positions() if recipe.model.factored_positions else model


#: a recipe's loss -> what the model is told, None for that of its problem type.
_LOSS_KINDS = {"task": None, "binary_cross_entropy": "sigmoid_per_class"}


def _average(recipe: Recipe) -> WeightAverage | None:
    """What the recipe averages weights with."""
    if recipe.averaging_epochs is not None:
        return EpochAverage(*recipe.averaging_epochs)
    return None if recipe.averaging_decay is None else WeightAverage(recipe.averaging_decay)


#: start -> how a model is made from the options and the labels of the data.
_START: dict[str, Callable[[ModelOptions, dict[str, Any]], ASTForAudioClassification]] = {
    "random": lambda options, labels: ASTForAudioClassification(ASTConfig(**{**options.config, **labels})),
    "vit": lambda options, labels: ASTForAudioClassification.from_vit(options.vit, **{**options.config, **labels}),
    "base": lambda options, labels: ASTForAudioClassification.from_pretrained(
        options.base, num_labels=len(labels["id2label"]), **labels, **options.config
    ),
}


def _evaluate(trainer: ASTTrainer, inputs: ClipInputs, metric: str) -> dict[str, float]:
    values = trainer.evaluate(inputs)
    return {metric: values[f"eval_{metric}"], "loss": values["eval_loss"]}


def most_frequent_class(train: Dataset, evaluation: dict[str, Dataset]) -> dict[str, float]:
    """Accuracy on each split of always answering with the training split's most frequent class."""
    if is_multi_label(train):
        return {}
    answer = max(label_counts(train).items(), key=lambda entry: entry[1])[0]
    return {name: label_counts(split)[answer] / len(split) for name, split in evaluation.items()}


def _hardware(arguments: TrainingArguments) -> str:
    if arguments.device.type == "cuda":
        return torch.cuda.get_device_name(arguments.device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
