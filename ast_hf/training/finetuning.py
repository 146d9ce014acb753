"""A recipe from start to end: data -> model -> training -> evaluation -> a folder that loads anywhere."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from datasets import Dataset, IterableDataset
from transformers import TrainingArguments, set_seed

from ..adapters.lora import ADAPTER_FOLDER, Adapter
from ..audio import load_audio
from ..configuration_ast import ASTConfig
from ..data.catalog import find_data_set
from ..data.reading import is_multi_label
from ..data.sources import is_local
from ..data.splits import label_counts, label_names
from ..errors import AstHfError, did_you_mean, error
from ..evaluation.baseline import baseline_accuracy
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import write_json, write_text
from ..hub.access import check_account, check_name
from ..inputs.clips import ClipInputs
from ..inputs.normalization import measure_statistics
from ..inputs.streams import StreamedClipInputs
from ..metrics import MAIN_METRIC, metrics_for
from ..modeling_ast import ASTForAudioClassification
from ..recipe.arguments import build_arguments, check_best, settled
from ..recipe.options import ModelOptions
from ..recipe.recipe import Recipe
from ..recipe.rules import groups_by_length
from ..reports.emissions import read_emissions
from ..reports.epoch_metrics import VALIDATION_PREFIX, WATCHED_PREFIX, Curve
from ..reports.run_results import Report, SplitResults
from ..weights.integrity import check_folder
from .averaging import EpochAverage, WeightAverage
from .checkpoints.continuity import deciding
from .checkpoints.sealing import check_resumable
from .distillation import build_distillation
from .optimization import freeze
from .splits import Split, is_streamed, read_splits
from .trainer import ASTTrainer

#: What a run measured. It is written last, so a folder that has it is complete.
RESULTS_FILE = "results.json"
#: Where recordings for the page of the model lie, that `card.samples` names.
SAMPLES_FOLDER = "samples"

#: The split that is evaluated while training.
_WATCHED = "validation"

Inputs: TypeAlias = ClipInputs | StreamedClipInputs


@dataclass
class Run:
    """A prepared run: call `trainer.train()`, then hand it to `finish`. `watch` names the split watched beside it."""

    recipe: Recipe
    trainer: ASTTrainer
    train: Inputs
    evaluation: dict[str, Inputs]
    watch: str | None = None


def finetune(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    resume_from_checkpoint: str | bool | None = None,
    watch: str | None = None,
    push_to_hub: bool = False,
    hub_model_id: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Train, evaluate and save by a recipe.

    Args:
        recipe: what to do.
        output_dir: folder of the result; training checkpoints go into `checkpoint-N` inside it.
        resume_from_checkpoint: True to go on from the newest checkpoint in `output_dir` that is whole; `"auto"` for the
            same, or a fresh start where there is none; `"hub"` for the newest that a run sent to the Hub; or a
            checkpoint folder.
        watch: as for `prepare`.
        push_to_hub: publish the finished folder on the Hub. A push that fails is told (W701), and no error.
        hub_model_id: its name there, `user/name`; the folder's name under your account when None.
        overwrite: as for `prepare`.

    Returns:
        The report; the folder holds the model, the feature extractor, README.md (card), curves.png, results.json and
        recipe.yaml; with `adapter.rank` the adapter alone too, in `adapter/`.

    Raises:
        AstHfError: for anything wrong with the recipe, the data or the base, before the first training step; E306 when
            there is no whole checkpoint to go on from, or one of an earlier run or a model where this one starts
            afresh; E401 when one cannot be written; E501 when the loss stops being finite.
    """
    check_resumable(resume_from_checkpoint, Path(output_dir), overwrite=overwrite)
    if resume_from_checkpoint == "hub" and not (push_to_hub or hub_model_id or "hub_model_id" in recipe.training):
        raise error("E307", where="resume", what="hub does not say which run", fix="give hub_model_id, user/name")
    hub = {"push_to_hub": push_to_hub, "hub_model_id": hub_model_id}
    run = prepare(recipe, output_dir, watch=watch, overwrite=overwrite, **hub)
    run.trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    report = finish(run)
    if run.trainer.args.push_to_hub:
        pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
        report.published, report.unpublished = pushed and pushed.url, run.trainer.unpublished
    return report


def prepare(
    recipe: Recipe, output_dir: str | Path, *, watch: str | None = None, overwrite: bool = False, **hub: Any
) -> Run:
    """Read the data, build the model and the Trainer; nothing is trained yet.

    Args:
        recipe: what to do.
        output_dir: folder of the result.
        watch: one of the evaluation splits, to be evaluated after each epoch too. It is reported and steers nothing:
            the weights are those of a run that does not watch.
        overwrite: a fresh start may write over a finished model, or a README.md, in `output_dir`.
        **hub: arguments of `TrainingArguments` about publishing.
    """
    given = {name: value for name, value in hub.items() if value}
    arguments = build_arguments(recipe.training, output_dir, streamed=is_streamed(recipe), **given)
    if arguments.push_to_hub:
        check_account(arguments.hub_token)
        check_name(arguments.hub_model_id or Path(output_dir).absolute().name)
    set_seed(arguments.seed)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    _check_samples(recipe)
    _check_apart(recipe, output_dir)
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
    _check_lengths(extractor, [*evaluation.values(), validation], arguments)
    distillation = build_distillation(recipe.distillation, train, extractor)
    teacher = None if distillation is None else distillation.view
    augmented = _training_inputs(train, extractor, recipe, arguments, teacher)
    evaluated = {name: _evaluation_inputs(split, extractor, recipe) for name, split in evaluation.items()}
    watched = None if validation is None else _evaluation_inputs(validation, extractor, recipe)
    if validation is not None and evaluation.get(_WATCHED) is validation:
        watched = evaluated[_WATCHED]
    extractor.mean, extractor.std = _statistics(recipe, augmented, arguments)
    model = _build_model(recipe, train)
    check_best(arguments, model.config.problem_type)
    adapter = (
        Adapter(model, recipe.adapter, str(recipe.card.base_model or recipe.model.base), recipe.model.revision)
        if recipe.adapter.rank
        else None
    )
    trainer = ASTTrainer(
        model=model,
        args=arguments,
        train_dataset=augmented,
        eval_dataset=watched,
        processing_class=extractor,
        compute_metrics=metrics_for(model.config.problem_type),
        average=_average(recipe),
        optimization=recipe.optimization,
        sampling=recipe.sampling,
        patchout=recipe.patchout,
        adapter=adapter,
        watched=None if watch is None else evaluated[watch],
        distillation=distillation,
        decided=deciding(recipe, arguments, train),
        overwrite=overwrite,
    )
    return Run(recipe, trainer, augmented, evaluated, watch)


def finish(run: Run) -> Report:
    """Evaluate a trained run on its evaluation splits, and write everything that belongs beside the weights.

    An adapter is saved alone, and then added to the weights: what is evaluated is what the folder holds.

    Of several processes all have to call it. Each evaluates its share of the clips, and all get the same results; the
    first one measures the baseline and writes the files.
    """
    trainer, folder, writes = run.trainer, Path(run.trainer.args.output_dir), run.trainer.is_world_process_zero()
    history, config = list(trainer.state.log_history), trainer.model.config
    trained = trainer.model.num_parameters(only_trainable=True)
    base = None if trainer.adapter is None else trainer.adapter.base
    trainer.merge_adapter()
    if writes:
        _forget(folder, keep=run.recipe.card.samples)
    trainer.save_model(str(folder), _internal_call=True)  # before `bf16_full_eval` takes the weights' last bits
    trainer.finished = True
    found = {
        name: SplitResults.from_output(trainer.predict(inputs, metric_key_prefix="eval"), config)
        for name, inputs in run.evaluation.items()
    }
    metric = MAIN_METRIC[config.problem_type]
    trainer.log(
        {f"eval_{name}_{kind}": part.metrics[kind] for name, part in found.items() for kind in (metric, "loss")}
    )
    simple = writes and not isinstance(run.train, StreamedClipInputs)
    last = next((entry["train_runtime"] for entry in history[::-1] if "train_runtime" in entry), None)
    seconds = 0.0 if last is None or trainer.seconds_before is None else trainer.seconds_before + last
    report = Report(
        recipe=run.recipe,
        settings=settled(trainer.args, run.recipe.optimization),
        folder=folder,
        config=config,
        extractor=trainer.processing_class,
        metric=metric,
        results={name: part.metrics for name, part in found.items()},
        classes={name: part.classes for name, part in found.items()},
        baseline=baseline_accuracy(run.train, run.evaluation) if simple else {},
        chance=most_frequent_class(run.train.split, {name: part.split for name, part in run.evaluation.items()}),
        clips={name: len(part.answers) for name, part in found.items()},
        training_labels=_training_labels(run.train.split),
        parameters=trainer.model.num_parameters(),
        trained_parameters=trained,
        seconds=seconds,
        clips_per_second=trainer.clips_trained / seconds if seconds else 0.0,
        hardware=_hardware(trainer.args),
        emissions=read_emissions(folder),
        data_sets=_data_sets(run.recipe),
        base_model=_base_model(run.recipe),
        watched=_curves(run, history, metric),
        changes=trainer.changes,
        **_extent(run),
    )
    if writes:
        _write(run, report, found, history, base)
    return report


def _write(
    run: Run, report: Report, found: dict[str, SplitResults], history: list[dict[str, Any]], base: str | None
) -> None:
    """Everything beside the weights; results.json is the last file, so a folder that has it is complete. `base` is that
    of the run's adapter, if it has one.
    """
    from ..reports.curves import draw_curves
    from ..reports.model_card import eval_results_files, write_adapter_card, write_card
    from ..reports.pictures import draw_confusion

    folder, trainer = report.folder, run.trainer
    (folder / "recipe.yaml").write_text(run.recipe.to_yaml(), encoding="utf-8")
    draw_curves(history, report, folder / report.picture)
    first = next(iter(found.values()), None)
    if first is not None and first.truth.ndim == 1:
        report.pictures["confusion"] = "confusion.png"
        labels = [row["label"] for row in first.classes]
        draw_confusion(first.answers, first.truth, labels, folder / report.pictures["confusion"])
    for sample in map(Path, run.recipe.card.samples):
        place = folder / SAMPLES_FOLDER / sample.name
        place.parent.mkdir(exist_ok=True)
        if sample.resolve() != place.resolve():
            shutil.copyfile(sample, place)
    results = report.to_dict()
    for name, text in eval_results_files(results).items():
        write_text(folder / name, text)
    trainer.card = write_card(results, getattr(trainer, "hub_model_id", None) or str(folder))
    trainer.create_model_card()
    if base is not None:
        place = folder / ADAPTER_FOLDER
        write_adapter_card(results, str(place), base).save(place / "README.md")
    write_json(folder / RESULTS_FILE, results)


def _forget(folder: Path, keep: list[str]) -> None:
    """Remove what an earlier run wrote beside its weights: it says nothing of these, and is published with them. Of
    samples only those that it copied there.
    """
    kept = [Path(sample).resolve() for sample in keep]
    told, samples = folder / RESULTS_FILE, []
    with suppress(OSError, ValueError, AttributeError):  # no results, or something else of that name
        samples = json.loads(told.read_text(encoding="utf-8")).get("samples", [])
    old = [folder / SAMPLES_FOLDER / Path(name).name for name in samples]
    old += [*folder.glob(".eval_results/*.yaml"), folder / "confusion.png", folder / "README.md", told]
    for path in old:
        if path.resolve() not in kept:
            path.unlink(missing_ok=True)


def _data_sets(recipe: Recipe) -> list[str]:
    """Names on the Hub of the training data: what the recipe's card says, and the source where it was read there."""
    source = find_data_set(recipe.data.source)["source"] if recipe.data.source else None
    found = [source] if isinstance(source, str) and not is_local(source) else []
    return list(dict.fromkeys([*recipe.card.data_sets, *found]))


def _base_model(recipe: Recipe) -> str | None:
    """Name on the Hub of what a run started from; of a folder only the recipe's card can tell it."""
    base = recipe.model.base or recipe.model.vit
    return recipe.card.base_model or (None if base is None or Path(base).exists() else base)


def _check_samples(recipe: Recipe) -> None:
    """Raise, as reading them would, for samples that cannot be read."""
    for sample in recipe.card.samples:
        try:
            load_audio(sample)
        except AstHfError as problem:
            where, fix = f"card.samples: {problem.where}", f"{problem.fix}; paths count from the current directory"
            raise error(problem.code, where=where, what=problem.what, fix=fix) from problem


def _check_apart(recipe: Recipe, output_dir: str | Path) -> None:
    """Raise E307 for a result inside the folder of clips, where samples and pictures would be taken for clips."""
    source, output = recipe.data.source, Path(output_dir).absolute()
    folder = Path(source).absolute() if isinstance(source, str) and Path(source).is_dir() else None
    if folder is not None and folder in (output, *output.parents):
        what = f"lies in the folder of the clips, {source!r}"
        raise error("E307", where=f"output {str(output_dir)!r}", what=what, fix="name a folder outside of it")


def _training_labels(split: Split) -> dict[str, int]:
    """Clips of the training split by label; nothing for a stream."""
    if not isinstance(split, Dataset):
        return {}
    counts = label_counts(split)
    return {name: counts[index] for index, name in enumerate(label_names(split))}


def _curves(run: Run, history: list[dict[str, Any]], metric: str) -> dict[str, Curve]:
    """What the splits said that were evaluated while training, by the name that each is reported under."""
    same = (name for name, inputs in run.evaluation.items() if inputs is run.trainer.eval_dataset)
    prefixes = {next(same, _WATCHED): VALIDATION_PREFIX} | ({} if run.watch is None else {run.watch: WATCHED_PREFIX})
    found = {name: Curve.from_log(history, prefix, metric) for name, prefix in prefixes.items()}
    return {name: curve for name, curve in found.items() if curve is not None}


def _check_lengths(extractor: ASTFeatureExtractor, splits: list[Split | None], arguments: TrainingArguments) -> None:
    """Raise E307 for evaluation streams that accelerate cannot deal out: it joins batches, which need one length."""
    streamed = any(isinstance(split, IterableDataset) for split in splits)
    if streamed and arguments.world_size > 1 and extractor.return_attention_mask:
        what = "masks padding (return_attention_mask), and several processes cannot evaluate such clips of a stream"
        fix = "set data.eval_splits to [], leave eval_strategy out, and evaluate afterwards"
        raise error("E307", where="model.base", what=what, fix=fix)


def _training_inputs(
    split: Split, extractor: ASTFeatureExtractor, recipe: Recipe, arguments: TrainingArguments, teacher: Any
) -> Inputs:
    varied: dict[str, Any] = {"augmentation": recipe.augmentation, "seed": arguments.seed}
    if isinstance(split, Dataset):
        return ClipInputs(split, extractor, cache=recipe.data.cache, teacher=teacher, **varied)
    part = {"rank": arguments.process_index, "world_size": arguments.world_size}
    return StreamedClipInputs(split, extractor, **varied, **part)


def _evaluation_inputs(split: Split, extractor: ASTFeatureExtractor, recipe: Recipe) -> Inputs:
    if isinstance(split, Dataset):
        return ClipInputs(split, extractor, cache=recipe.data.cache)
    return StreamedClipInputs(split, extractor, rank=0, world_size=1)


def _build_extractor(recipe: Recipe) -> ASTFeatureExtractor:
    rate = recipe.features.sampling_rate
    config = recipe.model.config
    sizes: dict[str, Any] = {name: config[name] for name in ("max_length", "num_mel_bins") if name in config}
    if groups_by_length(recipe.training):  # a checkpoint that never heard padding says so, for the pipeline
        sizes["return_attention_mask"] = True
    if recipe.model.base is not None:
        check_folder(recipe.model.base, classifier=False)
        extractor = ASTFeatureExtractor.from_pretrained(recipe.model.base, **recipe.model.pinned, **sizes)
        if rate not in (None, extractor.sampling_rate):
            what = f"{rate} Hz, but the base {recipe.model.base!r} hears {extractor.sampling_rate} Hz"
            raise error("E307", where="features.sampling_rate", what=what, fix="leave it out: clips are resampled")
        return extractor
    return ASTFeatureExtractor(sampling_rate=rate or 16_000, **sizes)


def _statistics(recipe: Recipe, train: Inputs, arguments: TrainingArguments) -> tuple[float, float]:
    mean, std = recipe.features.mean, recipe.features.std
    quiet = arguments.disable_tqdm or arguments.process_index > 0  # of several processes one shows a bar
    if mean is not None and std is not None:
        return mean, std
    if isinstance(train, StreamedClipInputs):  # the same clips in every process
        train = StreamedClipInputs(
            train.split, train.extractor, augmentation=train.augmentation, seed=train.seed, rank=0, world_size=1
        )
    measured = measure_statistics(train, clips=recipe.features.statistics_clips, disable_tqdm=quiet)
    return measured[0] if mean is None else mean, measured[1] if std is None else std


def _build_model(recipe: Recipe, train: Split) -> ASTForAudioClassification:
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
    _set_attention(model, recipe.model.attn_implementation)
    model.loss_kind = _LOSS_KINDS[recipe.loss]
    return model.factor_positions() if recipe.model.factored_positions else model


def _set_attention(model: ASTForAudioClassification, name: str | None) -> None:
    """Choose how attention is computed; raises E307 for what does not exist or is not installed."""
    try:
        if name is not None:
            model.set_attn_implementation(name)
    except (ImportError, ValueError) as problem:
        what = f"{name!r} cannot be used ({str(problem).splitlines()[0][:160]})"
        raise error("E307", where="model.attn_implementation", what=what, fix="leave it out for 'sdpa'") from problem


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
    "vit": lambda options, labels: ASTForAudioClassification.from_vit(
        options.vit, **{**options.pinned, **options.config, **labels}
    ),
    "base": lambda options, labels: ASTForAudioClassification.from_pretrained(
        options.base,
        num_labels=len(labels["id2label"]),
        dtype=torch.float32,  # of weights that train, whatever the base was saved in: bf16 and fp16 are for arithmetic
        **options.pinned,
        **labels,
        **options.config,
    ),
}


def _extent(run: Run) -> dict[str, Any]:
    """How much was trained on. The Trainer counts a stream as one epoch, whatever its length."""
    trainer = run.trainer
    if isinstance(run.train, StreamedClipInputs):
        clips = trainer.state.global_step * trainer.get_total_train_batch_size(trainer.args)
        return {"training_clips": clips, "epochs": None}
    return {"training_clips": len(run.train), "epochs": float(trainer.state.epoch or 0)}


def most_frequent_class(train: Split, evaluation: dict[str, Split]) -> dict[str, float]:
    """Accuracy on each split of always answering with the training split's most frequent class; not of streams, whose
    labels are not known before they are read.
    """
    if is_multi_label(train) or not isinstance(train, Dataset):
        return {}
    answer = max(label_counts(train).items(), key=lambda entry: entry[1])[0]
    return {name: label_counts(split)[answer] / len(split) for name, split in evaluation.items()}


def _hardware(arguments: TrainingArguments) -> str:
    if arguments.device.type == "cuda":
        count, name = max(arguments.world_size, arguments.n_gpu), torch.cuda.get_device_name(arguments.device)
        return name if count == 1 else f"{count} x {name}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
