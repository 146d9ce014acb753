"""Preparation of a run: read the data, check all clips, build the model and the Trainer."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..inputs.clip_checks import BadClip, remembered_checks
from ..inputs.own_augmentation import SpectrogramFunction, WaveformFunction
from ..inputs.stored_clips import StorePlan
from ..inputs.suspicious_clips import SuspiciousClips
from ..log_mel import frames_to_seconds
from ..metrics import metrics_for
from ..processes import is_main_process
from ..recipe.arguments import build_arguments, weight_arguments
from ..recipe.precision import FLOAT8
from ..recipe.recipe import Recipe
from ..recipe.rules import groups_by_length
from .averaging import build_average
from .building import (
    Inputs,
    RunInputs,
    build_adapter,
    build_extractor,
    build_inputs,
    build_model,
    check_evaluation,
    measures_statistics,
    normalization_statistics,
)
from .checkpoints.folder_lock import FolderLock
from .checkpoints.resuming import kept_precision
from .checkpoints.run_options import collect_options, plain_options
from .disk_space import check_output
from .distillation import Distillation, build_distillation
from .float8 import check_float8, use_float8
from .own_code import Callback, OwnCode, check_early_stopping, check_workers, own_code
from .preflight import Preflight
from .prepared_file import PreparedFile, WhenTrainingStarts
from .run_checks import check_outside_clips, check_publishing, check_samples, check_window
from .splits import Splits, is_streamed, read_splits
from .stores import use_stores
from .timeline_rules import trained_rules
from .trainer import ASTTrainer


@dataclass
class Run:
    """A prepared run: call `trainer.train()`, then pass it to `finish`.

    Attributes:
        recipe: data, model and training of the run.
        trainer: holds all parts of the run.
        train: inputs of the training split.
        evaluation: inputs of the splits to report on, by name.
        watch: the evaluation split that is also evaluated after each epoch.
        findings: what the pre-flight found in the clips, see `Preflight`.
        own_code: names of the user's augmentation and callbacks, by argument of `prepare`.
        stores: what `data.store` lacked of each split before the run; empty without it.
    """

    recipe: Recipe
    trainer: ASTTrainer
    train: Inputs
    evaluation: dict[str, Inputs]
    watch: str | None = None
    findings: dict[str, Any] = field(default_factory=dict)
    own_code: dict[str, Any] = field(default_factory=dict)
    stores: list[StorePlan] = field(default_factory=list)


@dataclass
class Rehearsal:
    """A run that is prepared without effect on its output folder, and without decoding clips.

    Attributes:
        folder: an existing folder to use in place of the output folder.
        resumes: the run would continue from a checkpoint, so that the sound of all clips is compared.
        unusable: gets the clips that cannot be used, also if they raise an error.
    """

    folder: Path
    resumes: bool = False
    unusable: list[BadClip] = field(default_factory=list)

    def apply_to(self, preflight: Preflight) -> None:
        """Let the check of clips write nothing, and read no more than it needs."""
        preflight.writes = False
        preflight.reads_all = preflight.reads_all and self.resumes
        preflight.unusable = self.unusable


def prepare(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    watch: str | None = None,
    overwrite: bool = False,
    resume_from_checkpoint: str | bool | None = None,
    augment: WaveformFunction | None = None,
    augment_spectrogram: SpectrogramFunction | None = None,
    callbacks: Sequence[Callback] | None = None,
    **hub: Any,
) -> Run:
    """Read the data, check all clips, build the model and the Trainer; nothing is trained yet.

    Clips that cannot be used stop the run here, all at once, or are skipped (`data.on_error`). Warns of skipped
    clips (W214), of clips that splits share or that contradict each other (W215), and of sound that is not
    in the model's input (W201). Of a stream, nothing is checked in advance.

    Args:
        recipe: data, model and training of the run.
        output_dir: folder of the result.
        watch: an evaluation split to evaluate after each epoch too. It does not affect the weights.
        overwrite: let a fresh start replace a finished model or a README.md in `output_dir`.
        resume_from_checkpoint: what `trainer.train` will get: a checkpoint elsewhere says which precision the run
            began with, if the recipe's is `"auto"` or the default.
        augment: your own function of training clips, called after the recipe's augmentation as
            `augment(waveform, sampling_rate, random)`: float32 samples `(time,)`, Hz, a NumPy generator keyed by
            seed, epoch and clip. It returns samples `(time,)`.
        augment_spectrogram: the same of spectrograms, `augment_spectrogram(spectrogram, random)`: a tensor of raw
            log-mel `(frames, mel)` without padding, before masks and normalisation.
        callbacks: your own `transformers.TrainerCallback`s, which are called after those of the run.
        **hub: arguments of `TrainingArguments` about publishing.

    The output folder is locked until `finish` has written all files, or `push_to_hub` has sent them, and no
    longer than the returned object exists. After that, `trainer.train` locks it while it trains.

    Own code is named in checkpoints, results.json and the card. A run resumed with code of other names, or without
    it, is one with other options (E306, W406).

    Raises:
        AstHfError: as `finetune`, before the first training step; E108 for own code that cannot be called so.
    """
    own = own_code(augment, augment_spectrogram, callbacks)
    with FolderLock(output_dir):
        precision = kept_precision(recipe, Path(output_dir), resume_from_checkpoint)
        run = _prepare(recipe, output_dir, own, watch=watch, overwrite=overwrite, precision=precision, **hub)
        lock = FolderLock(output_dir).acquire()
    run.trainer.folder_lock = lock
    weakref.finalize(run, lock.release)  # the trainer is part of circles, so it may exist for long
    return run


def rehearse(
    recipe: Recipe,
    output_dir: str | Path,
    rehearsal: Rehearsal,
    *,
    watch: str | None = None,
    overwrite: bool = False,
    resume_from_checkpoint: str | bool | None = None,
    own: OwnCode | None = None,
    **hub: Any,
) -> Run:
    """Prepare a run to look at it, as `prepare` and with its errors; nothing is written into `output_dir`.

    Mean and std are not measured: they are 0 and 1 unless the recipe has them.
    """
    precision = kept_precision(recipe, Path(output_dir), resume_from_checkpoint)
    return _prepare(
        recipe,
        output_dir,
        own or OwnCode(),
        watch=watch,
        overwrite=overwrite,
        precision=precision,
        rehearsal=rehearsal,
        **hub,
    )


def _prepare(recipe: Recipe, output_dir: str | Path, own: OwnCode, **arguments: Any) -> Run:
    """Return a prepared run, see `_prepare_parts`; files are read once for the check and for the keys of stores."""
    with nullcontext() if recipe.data.store is None else remembered_checks():
        return _prepare_parts(recipe, output_dir, own, **arguments)


def _prepare_parts(
    recipe: Recipe,
    output_dir: str | Path,
    own: OwnCode,
    *,
    watch: str | None,
    overwrite: bool,
    precision: str | None,
    rehearsal: Rehearsal | None = None,
    **hub: Any,
) -> Run:
    check_outside_clips(recipe.data.source, output_dir)
    check_samples(recipe.card.samples)
    if is_main_process():
        check_output(Path(output_dir), recipe.model)
    arguments = _build_arguments(recipe, output_dir, precision, rehearsal, hub)
    check_workers(own.augmentation, arguments)
    check_early_stopping(own.callbacks, arguments)
    set_seed(arguments.seed)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    extractor = build_extractor(
        recipe.model, recipe.features, is_length_grouped=groups_by_length(recipe.training)
    )
    check_window(recipe.data.window_seconds, extractor)
    prepared = PreparedFile(Path(output_dir))
    preflight = _build_preflight(recipe, extractor, arguments, prepared)
    if rehearsal is not None:
        rehearsal.apply_to(preflight)
    splits = _read_splits(recipe, arguments.seed, preflight)
    check_evaluation(splits, watch, extractor, arguments, recipe.stopping)
    distillation = build_distillation(recipe.distillation, splits.train, extractor)
    teacher = None if distillation is None else distillation.view
    inputs = build_inputs(
        splits,
        extractor,
        recipe.augmentation,
        arguments,
        cache=recipe.data.cache,
        teacher=teacher,
        own=own.augmentation,
    )
    stores = use_stores(inputs, recipe.data, writes=rehearsal is None, disable_tqdm=preflight.disable_tqdm)
    decided = collect_options(
        recipe,
        weight_arguments(arguments, recipe.optimization),
        splits,
        preflight.sounds,
        teacher=None if distillation is None else distillation.digest(),
        own_code=own.names,
        is_float8=precision == FLOAT8,
    )
    if rehearsal is not None:
        extractor.mean, extractor.std = recipe.features.mean or 0.0, recipe.features.std or 1.0
    else:
        _set_statistics(recipe, inputs.train, arguments, prepared, preflight, plain_options(decided))
    trainer = _build_trainer(
        recipe,
        arguments,
        splits,
        inputs,
        watch=watch,
        distillation=distillation,
        decided=decided,
        overwrite=overwrite,
        is_float8=precision == FLOAT8,
    )
    trainer.add_callback(WhenTrainingStarts(preflight.write_lists, prepared.write))
    for callback in own.callbacks:
        trainer.add_callback(callback)
    return Run(recipe, trainer, inputs.train, inputs.evaluation, watch, preflight.findings, own.names, stores)


def _build_trainer(
    recipe: Recipe,
    arguments: TrainingArguments,
    splits: Splits,
    inputs: RunInputs,
    *,
    watch: str | None,
    distillation: Distillation | None,
    decided: dict[str, Any],
    overwrite: bool,
    is_float8: bool,
) -> ASTTrainer:
    """Return the Trainer of a run, with a new model."""
    model = build_model(
        recipe.model, splits.labels, splits.task, loss=recipe.loss, frozen=recipe.optimization.frozen
    )
    model.config.timeline = trained_rules(recipe.data)
    if is_float8:
        use_float8(model)
    return ASTTrainer(
        model=model,
        args=arguments,
        train_dataset=inputs.train,
        eval_dataset=inputs.validation,
        processing_class=inputs.train.extractor,
        compute_metrics=metrics_for(splits.task),
        average=build_average(recipe.averaging_decay, recipe.averaging_epochs),
        stopping=recipe.stopping,
        optimization=recipe.optimization,
        sampling=recipe.sampling,
        patchout=recipe.patchout,
        adapter=build_adapter(model, recipe.adapter, recipe.model, recipe.card),
        watched=None if watch is None else inputs.evaluation[watch],
        distillation=distillation,
        decided=decided,
        overwrite=overwrite,
        features_on_gpu=recipe.features.gpu,
        watchdog_seconds=recipe.watchdog_seconds,
    )


def _build_arguments(
    recipe: Recipe,
    output_dir: str | Path,
    precision: str | None,
    rehearsal: Rehearsal | None,
    hub: dict[str, Any],
) -> TrainingArguments:
    """Return the arguments of a run; check the account and the name of one that publishes."""
    arguments = build_arguments(
        recipe.training,
        output_dir if rehearsal is None else rehearsal.folder,
        streamed=is_streamed(recipe),
        precision=precision,
        **{name: value for name, value in hub.items() if value},
    )
    check_float8(precision, arguments)
    check_publishing(recipe, arguments, output_dir)
    if rehearsal is not None:
        arguments.push_to_hub = False  # a Trainer that publishes asks the Hub when it is made
    return arguments


def _set_statistics(
    recipe: Recipe,
    train: Inputs,
    arguments: TrainingArguments,
    prepared: PreparedFile,
    preflight: Preflight,
    conditions: dict[str, Any],
) -> None:
    """Set mean and std of the inputs: those of the recipe, of an earlier start of the run, or measured."""
    extractor = train.extractor
    # workers inherit the clips that measuring has cached, so that a resumed run measures again
    reuses = bool(preflight.sounds) and not (recipe.data.cache and arguments.dataloader_num_workers)
    extractor.mean, extractor.std = normalization_statistics(
        recipe.features,
        train,
        disable_tqdm=arguments.disable_tqdm or not preflight.is_main,
        measured=prepared.read("mean and std", conditions) if reuses else None,
    )
    if reuses:
        prepared.keep("mean and std", conditions, [extractor.mean, extractor.std])


def _read_splits(recipe: Recipe, seed: int, preflight: Preflight) -> Splits:
    """Return the splits; an error of clips held out for `stopping` alone also says how to hold none out."""
    try:
        return read_splits(recipe.data, seed, preflight)
    except AstHfError as problem:
        if problem.code != "E209" or not recipe.stopping.is_active or "validation" not in problem.where:
            raise
        off = "patience=null" if recipe.stopping.patience is not None else "best=false"
        fix = f"{problem.fix}; or train the full length on all clips: data.validation_fraction=0, stopping.{off}"
        raise error(
            problem.code, where=problem.where, what=problem.what, fix=fix, detail=problem.detail
        ) from problem


def _build_preflight(
    recipe: Recipe, extractor: ASTFeatureExtractor, arguments: TrainingArguments, prepared: PreparedFile
) -> Preflight:
    """Return the check of a run's clips; only the main process warns and shows a bar, on a terminal."""
    is_main = arguments.process_index == 0
    return Preflight(
        recipe.data,
        extractor.sampling_rate,
        prepared.path.parent,
        prepared,
        SuspiciousClips(
            frames_to_seconds(extractor.max_length),
            recipe.data.train_split if recipe.augmentation.random_crop else None,
        ),
        reads_all=measures_statistics(recipe.features),
        processes=arguments.world_size,
        is_main=is_main,
        disable_tqdm=None if is_main and not arguments.disable_tqdm else True,
    )
