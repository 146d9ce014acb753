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
from ..errors import did_you_mean, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..info import result_versions
from ..modeling_ast import ASTForAudioClassification
from .adapters import Adapter
from .averaging import EpochAverage, WeightAverage
from .baseline import baseline_accuracy
from .catalog import find_data_set
from .data import check_splits, hold_out, is_multi_label, label_counts, label_names, load_audio_dataset, random_fold
from .distillation import build_distillation
from .inputs import ClipInputs
from .metrics import MAIN_METRIC, metrics_for
from .optimization import freeze
from .recipe import DataOptions, ModelOptions, Recipe
from .sealing import check_resumable
from .statistics import measure_statistics
from .stored_logits import write_whole
from .trainer import ASTTrainer
from .watching import VALIDATION_PREFIX, WATCHED_PREFIX, Curve

#: What a run measured. It is written last, so a folder that has it is complete.
RESULTS_FILE = "results.json"

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
    """A prepared run: call `trainer.train()`, then hand it to `finish`. `watch` names the split watched beside it."""

    recipe: Recipe
    trainer: ASTTrainer
    train: ClipInputs
    evaluation: dict[str, ClipInputs]
    watch: str | None = None


@dataclass
class Report:
    """What a finished run measured. `results` and `baseline` are by split; `metric` names the main metric; `watched`
    has the curves of the splits that were evaluated while training.
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
    trained_parameters: int
    epochs: float
    seconds: float
    hardware: str
    picture: str = "curves.png"
    versions: dict[str, str] = field(default_factory=result_versions)
    watched: dict[str, Curve] = field(default_factory=dict)

    def by_method(self) -> dict[str, dict[str, float]]:
        """Main metric on each split for the `"model"` and for the simple methods that were measured beside it."""
        model = {name: values[self.metric] for name, values in self.results.items()}
        methods = {"model": model, "baseline": self.baseline, "chance": self.chance}
        return {method: values for method, values in methods.items() if values or method == "model"}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for results.json."""
        names = ("metric", "results", "baseline", "chance", "clips", "training_clips", "parameters")
        more = ("trained_parameters", "epochs", "seconds", "hardware", "versions")
        plain = {name: getattr(self, name) for name in (*names, *more)}
        features = {name: getattr(self.extractor, name) for name in _FEATURES}
        watched = {name: curve.to_dict() for name, curve in self.watched.items()}
        return {**plain, "features": features, "watched": watched, "recipe": self.recipe.to_dict()}


#: What results tell of the feature extractor; the recipe leaves mean and std out where they were measured.
_FEATURES = ("sampling_rate", "num_mel_bins", "max_length", "do_normalize", "mean", "std")


def finetune(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    resume_from_checkpoint: str | bool | None = None,
    watch: str | None = None,
    push_to_hub: bool = False,
    hub_model_id: str | None = None,
) -> Report:
    """Train, evaluate and save by a recipe.

    Args:
        recipe: what to do.
        output_dir: folder of the result; training checkpoints go into `checkpoint-N` inside it.
        resume_from_checkpoint: True to go on from the newest checkpoint in `output_dir` that is whole; `"auto"` for the
            same, or a fresh start where there is none; or a checkpoint folder.
        watch: as for `prepare`.
        push_to_hub: publish the finished folder on the Hub.
        hub_model_id: its name there, `user/name`; the folder's name under your account when None.

    Returns:
        The report; the folder holds the model, the feature extractor, README.md (card), curves.png, results.json and
        recipe.yaml; with `adapter.rank` the adapter alone too, in `adapter/`.

    Raises:
        AstHfError: for anything wrong with the recipe, the data or the base, before the first training step; E306 when
            there is no whole checkpoint to go on from, or one of an earlier run where this one starts afresh; E401 when
            one cannot be written; E501 when the loss stops being finite.
    """
    check_resumable(resume_from_checkpoint, Path(output_dir))
    run = prepare(recipe, output_dir, watch=watch, push_to_hub=push_to_hub, hub_model_id=hub_model_id)
    run.trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    report = finish(run)
    if push_to_hub:
        run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
    return report


def prepare(recipe: Recipe, output_dir: str | Path, *, watch: str | None = None, **hub: Any) -> Run:
    """Read the data, build the model and the Trainer; nothing is trained yet.

    Args:
        recipe: what to do.
        output_dir: folder of the result.
        watch: one of the evaluation splits, to be evaluated after each epoch too. It is reported and steers nothing:
            the weights are those of a run that does not watch.
        **hub: arguments of `TrainingArguments` about publishing.
    """
    arguments = TrainingArguments(str(output_dir), **{**_TRAINING_DEFAULTS, **recipe.training, **hub})
    set_seed(arguments.seed)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    train, validation, evaluation = read_splits(recipe.data, arguments.seed)
    if watch not in (None, *evaluation):
        what = "is none of the splits that are evaluated"
        raise error("E209", where=f"split {watch!r}", what=what, fix=did_you_mean(watch, evaluation))
    if validation is None and arguments.eval_strategy != "no":
        what = f"{arguments.eval_strategy.value!r} has nothing to evaluate on while training"
        raise error(
            "E307",
            where="training.eval_strategy",
            what=what,
            fix="set data.validation_fraction, or add a validation split",
        )
    extractor = _build_extractor(recipe)
    distillation = build_distillation(recipe.distillation, train, extractor)
    augmented = ClipInputs(
        train,
        extractor,
        augmentation=recipe.augmentation,
        seed=arguments.seed,
        cache=recipe.data.cache,
        teacher=None if distillation is None else distillation.view,
    )
    evaluated = {name: ClipInputs(split, extractor, cache=recipe.data.cache) for name, split in evaluation.items()}
    extractor.mean, extractor.std = _statistics(recipe, augmented)
    model = _build_model(recipe, train)
    adapter = Adapter(model, recipe.adapter, str(recipe.model.base)) if recipe.adapter.rank else None
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
        adapter=adapter,
        watched=None if watch is None else evaluated[watch],
        distillation=distillation,
    )
    return Run(recipe, trainer, augmented, evaluated, watch)


def finish(run: Run) -> Report:
    """Evaluate a trained run on its evaluation splits, and write everything that belongs beside the weights.

    An adapter is saved alone, and then added to the weights: what is evaluated is what the folder holds.

    Of several processes all have to call it. Each evaluates its share of the clips, and all get the same results; the
    first one measures the baseline and writes the files.
    """
    from .curves import draw_curves
    from .model_card import write_card

    trainer, folder, writes = run.trainer, Path(run.trainer.args.output_dir), run.trainer.is_world_process_zero()
    history = list(trainer.state.log_history)
    trained = trainer.model.num_parameters(only_trainable=True)
    trainer.merge_adapter()
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
        trained_parameters=trained,
        epochs=float(trainer.state.epoch or 0),
        seconds=next((entry["train_runtime"] for entry in history if "train_runtime" in entry), 0.0),
        hardware=_hardware(trainer.args),
        watched=_curves(history, metric, run.watch),
    )
    trainer.save_model(str(folder), _internal_call=True)
    if writes:
        (folder / "recipe.yaml").write_text(run.recipe.to_yaml(), encoding="utf-8")
        draw_curves(history, report, folder / report.picture)
        trainer.card = write_card(report, getattr(trainer, "hub_model_id", None) or str(folder))
        trainer.create_model_card()
        text = json.dumps(report.to_dict(), indent=2) + "\n"  # the last file: a folder that has it is complete
        write_whole(folder / RESULTS_FILE, lambda part: part.write_text(text, encoding="utf-8"))
    return report


def _curves(history: list[dict[str, Any]], metric: str, watch: str | None) -> dict[str, Curve]:
    """What the validation split and the watched one said, by split."""
    prefixes = {"validation": VALIDATION_PREFIX} | ({} if watch is None else {watch: WATCHED_PREFIX})
    found = {name: Curve.from_log(history, prefix, metric) for name, prefix in prefixes.items()}
    return {name: curve for name, curve in found.items() if curve is not None}


def read_data(options: DataOptions, **changes: Any) -> DatasetDict:
    """All splits of a recipe's data; `changes` are arguments of `load_audio_dataset`.

    Raises:
        AstConfigError: E307 without a source, and for one that comes as a stream.
        AstDataError: what reading raises.
    """
    if not options.source:
        raise error("E307", where="data.source", what="is not set", fix="name a folder, a table or a data set")
    splits = load_audio_dataset(**{**find_data_set(options.source), **_asked_for(options), **changes})
    if not isinstance(splits, DatasetDict):
        what = f"{options.source!r} comes as a stream, which recipes do not train on"
        fix = "download it and name its folder in AST_HF_DATA; StreamedClipInputs reads streams in code of your own"
        raise error("E307", where="data.source", what=what, fix=fix)
    return splits


def _read_folded(options: DataOptions, seed: int) -> DatasetDict:
    """All splits of a recipe's data, or `train` and `test` of one of its random folds."""
    if options.random_folds is None:
        return read_data(options)
    if options.test_fold is None:
        fix = f"name one, from 1 to {options.random_folds}, or run all of them with --folds {options.random_folds}"
        raise error("E307", where="data.random_folds", what="needs data.test_fold, the one to test on", fix=fix)
    splits = read_data(options, test_fold=None)
    check_splits(splits, options.train_split, [])
    return random_fold(
        splits[options.train_split],
        options.test_fold,
        options.random_folds,
        group_column=options.validation_group,
        seed=seed,
    )


def read_splits(options: DataOptions, seed: int) -> tuple[Dataset, Dataset | None, dict[str, Dataset]]:
    """The split to train on, the one to watch (or None), and those to report on, by name.

    Raises:
        AstDataError: E208 and E209 for splits and columns that do not fit what was asked for.
    """
    splits = _read_folded(options, seed)
    training = options.train_split if options.random_folds is None else "train"
    named = options.eval_splits
    evaluation = [name for name in splits if name != training] if named is None else named
    watched = ("validation",) if options.validation_fraction and "validation" not in splits else ()
    check_splits(splits, training, [name for name in evaluation if name not in watched])
    train, validation = splits[training], None
    if options.validation_fraction:
        parts: DatasetDict = hold_out(
            train, options.validation_fraction, group_column=options.validation_group, seed=seed
        )
        train, validation = parts["train"], parts["validation"]
        check_splits(parts, "train", ["validation"])
        evaluation = evaluation or ["validation"]
    elif training != "validation":
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
