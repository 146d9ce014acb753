"""Fine-tuning from a recipe: read data, build parts, train, and write a folder that loads anywhere."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from ..audio import load_audio
from ..containment import is_outside
from ..continuing import continuation
from ..data.long_clips import cut_window
from ..errors import AstHfError, error
from ..evaluation.baseline import baseline_answers, baseline_metric, most_frequent_class
from ..feature_extraction_ast import ASTFeatureExtractor
from ..hub.access import check_account, check_name
from ..inputs.clip_checks import BadClip
from ..inputs.own_augmentation import SpectrogramFunction, WaveformFunction
from ..inputs.streams import StreamedClipInputs
from ..inputs.suspicious_clips import SuspiciousClips
from ..log_mel import frames_to_seconds
from ..metrics import metrics_for
from ..processes import is_main_process
from ..recipe.arguments import build_arguments, weight_arguments
from ..recipe.precision import chosen_precision
from ..recipe.recipe import Recipe
from ..recipe.rules import groups_by_length
from ..reports.emissions import read_emissions
from ..reports.epoch_metrics import VALIDATION_PREFIX, WATCHED_PREFIX
from ..reports.run_results import Report, SplitResults
from ..stopping import defer_stop, stop_signals
from ..task import Task
from ..writing_failures import explained
from .averaging import build_average
from .building import (
    Inputs,
    build_adapter,
    build_extractor,
    build_inputs,
    build_model,
    check_evaluation,
    measures_statistics,
    normalization_statistics,
)
from .checkpoints.folder_lock import FolderLock
from .checkpoints.resuming import check_resumable, kept_precision
from .checkpoints.run_options import collect_options, plain_options
from .disk_space import check_output
from .distillation import build_distillation
from .judging import judge_run
from .output_files import save_weights, write_outputs
from .own_code import Callback, OwnCode, check_early_stopping, check_workers, own_code
from .preflight import Preflight
from .prepared_file import PreparedFile, WhenTrainingStarts
from .run_facts import (
    base_model_name,
    check_base_name,
    data_set_names,
    describe_hardware,
    kept_evaluation,
    local_paths,
    read_curves,
    training_extent,
    training_labels,
    training_seconds,
)
from .splits import Splits, is_streamed, read_splits
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
    """

    recipe: Recipe
    trainer: ASTTrainer
    train: Inputs
    evaluation: dict[str, Inputs]
    watch: str | None = None
    findings: dict[str, Any] = field(default_factory=dict)
    own_code: dict[str, Any] = field(default_factory=dict)


def check_hub_request(recipe: Recipe, resume: str | bool | None, *, named: bool) -> None:
    """Raise E307 for a run to be resumed from the Hub that neither the call (`named`) nor the recipe names."""
    if resume == "hub" and not (named or "hub_model_id" in recipe.training):
        fix = "give hub_model_id, user/name"
        raise error("E307", where="resume", what="hub does not name a run", fix=fix, detail="missing")


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


def finetune(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    resume_from_checkpoint: str | bool | None = None,
    watch: str | None = None,
    push_to_hub: bool = False,
    hub_model_id: str | None = None,
    overwrite: bool = False,
    augment: WaveformFunction | None = None,
    augment_spectrogram: SpectrogramFunction | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> Report:
    """Train, evaluate and save by a recipe.

    Args:
        recipe: data, model and training of the run.
        output_dir: folder of the result and its training checkpoints, `checkpoint-N`.
        resume_from_checkpoint: True to resume from the newest intact checkpoint in `output_dir`; `"auto"` for
            the same, or a fresh start without one; `"hub"` for the newest one on the Hub; or a checkpoint
            folder.
        watch: as for `prepare`.
        push_to_hub: publish the finished folder on the Hub. A failed push is a warning (W701).
        hub_model_id: its name there, `user/name`; the folder's name under your account when None.
        overwrite: as for `prepare`.
        augment: as for `prepare`.
        augment_spectrogram: as for `prepare`.
        callbacks: as for `prepare`.

    Returns:
        The report. The folder holds the model, the feature extractor, README.md (card), curves.png,
        results.json and recipe.yaml; with `adapter.rank` also the adapter alone, in `adapter/`.

    Raises:
        AstHfError: before the first training step, for problems of the recipe, the data or the base, and E306
            without an intact checkpoint to resume from, or for a fresh start in a folder with a checkpoint or
            a model; later, E401 if a file cannot be written, E403 if another process or a worker is lost, and
            E501 if the loss is not finite. E402 if another run uses the folder.
        RunStopped: for SIGTERM, SIGHUP and SIGINT, once the current step is saved. A KeyboardInterrupt.
    """
    with stop_signals() as stopping, FolderLock(output_dir):
        stopping.begin()
        check_resumable(resume_from_checkpoint, Path(output_dir), overwrite=overwrite)
        check_hub_request(recipe, resume_from_checkpoint, named=push_to_hub or hub_model_id is not None)
        run = prepare(
            recipe,
            output_dir,
            watch=watch,
            overwrite=overwrite,
            resume_from_checkpoint=resume_from_checkpoint,
            augment=augment,
            augment_spectrogram=augment_spectrogram,
            callbacks=callbacks,
            push_to_hub=push_to_hub,
            hub_model_id=hub_model_id,
        )
        run.trainer.train(resume_from_checkpoint=resume_from_checkpoint)
        report = finish(run)
        if run.trainer.args.push_to_hub:
            stopping.text = "after the results were written, before they were published"
            stopping.command = run.trainer.publishing_command()
            stopping.stop_now()
            pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
            report.published = pushed and pushed.url
            report.unpublished = run.trainer.unpublished
        return report


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
            began with, if the recipe's is `"auto"`.
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
        precision = kept_precision(recipe.precision, Path(output_dir), resume_from_checkpoint)
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
    precision = kept_precision(recipe.precision, Path(output_dir), resume_from_checkpoint)
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


def _prepare(
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
    _check_outside_clips(recipe.data.source, output_dir)
    _check_samples(recipe.card.samples)
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
    _check_window(recipe.data.window_seconds, extractor)
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
    decided = collect_options(
        recipe,
        weight_arguments(arguments, recipe.optimization),
        splits,
        preflight.sounds,
        teacher=None if distillation is None else distillation.digest(),
        own_code=own.names,
    )
    if rehearsal is not None:
        extractor.mean, extractor.std = recipe.features.mean or 0.0, recipe.features.std or 1.0
    else:
        _set_statistics(recipe, inputs.train, arguments, prepared, preflight, plain_options(decided))
    model = build_model(
        recipe.model, splits.labels, splits.task, loss=recipe.loss, frozen=recipe.optimization.frozen
    )
    model.config.timeline = trained_rules(recipe.data)
    trainer = ASTTrainer(
        model=model,
        args=arguments,
        train_dataset=inputs.train,
        eval_dataset=inputs.validation,
        processing_class=extractor,
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
        watchdog_seconds=recipe.watchdog_seconds,
    )
    trainer.add_callback(WhenTrainingStarts(preflight.write_lists, prepared.write))
    for callback in own.callbacks:
        trainer.add_callback(callback)
    return Run(recipe, trainer, inputs.train, inputs.evaluation, watch, preflight.findings, own.names)


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
    _check_publishing(recipe, arguments, output_dir)
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


def _check_publishing(recipe: Recipe, arguments: TrainingArguments, output_dir: str | Path) -> None:
    """Raise the errors of a push that show before training: names of base and model (E307, E702), account (E701)."""
    if arguments.push_to_hub:
        check_base_name(recipe.model, recipe.card)
        check_account(arguments.hub_token)
        check_name(arguments.hub_model_id or Path(output_dir).absolute().name)


def _check_window(seconds: float | None, extractor: ASTFeatureExtractor) -> None:
    """Raise E307 for windows longer than the model's input: labels of what is cut off would be wrong."""
    problem = None if seconds is None else cut_window(seconds, extractor.max_length, extractor.sampling_rate)
    if problem is not None:
        what, fix = problem
        fix += " (model.config.max_length)"
        raise error("E307", where="data.window_seconds", what=what, fix=fix, detail="conflict")


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


def _check_samples(samples: list[str]) -> None:
    """Read the samples of the card, to raise their errors before anything is trained."""
    for sample in samples:
        if ".." in Path(sample).parts or is_outside(sample, Path(sample).parent):
            what = "is a link or a path that leads elsewhere, and would be published"
            fix = "copy the recording here; if it is yours, give its absolute path without links and .."
            raise error("E206", where=f"card.samples: {sample!r}", what=what, fix=fix)
        try:
            load_audio(sample)
        except AstHfError as problem:
            where = f"card.samples: {problem.where}"
            fix = f"{problem.fix}; paths are relative to the current directory"
            raise error(
                problem.code, where=where, what=problem.what, fix=fix, detail=problem.detail
            ) from problem


def _check_outside_clips(source: Any, output_dir: str | Path) -> None:
    """Raise E307 for a result in the folder of clips: its samples would be read as clips."""
    if not isinstance(source, str) or not Path(source).is_dir():
        return
    output = Path(output_dir).absolute()
    if Path(source).absolute() in (output, *output.parents):
        what = f"is in the folder of the clips, {source!r}"
        fix = "name a folder outside of it"
        raise error("E307", where=f"output {str(output_dir)!r}", what=what, fix=fix, detail="conflict")


def finish(run: Run) -> Report:
    """Evaluate a trained run on its evaluation splits, and write the weights, the card and all other files.

    An adapter is saved alone, then added to the weights, so that the saved model is evaluated.

    Every process of a distributed run must call it, and evaluates its share of the clips. All get the same
    results; the main one measures the baseline and writes the files.

    A training checkpoint of the last step exists while it works, so that a run that fails here, for example
    on a clip of the test split, continues here. Files are staged: each one is complete, or not there.

    Raises:
        AstRunError: E401 if a file cannot be written.
    """
    trainer = run.trainer
    folder = Path(trainer.args.output_dir)
    try:
        trainer.seal_end(is_complete=True)
        report = _evaluate_and_write(run, folder)
    except Exception as problem:
        trainer.release_folder()
        failure = problem if isinstance(problem, AstHfError) else trainer.explain_end(problem)
        if failure is None:
            raise
        raise _kept(failure, trainer.end_checkpoint, folder) from problem
    if not trainer.args.push_to_hub:
        trainer.release_folder()
    return report


def _kept(problem: AstHfError, checkpoint: Path | None, folder: Path) -> AstHfError:
    """Return an error after training, which adds the checkpoint that has the trained weights."""
    if checkpoint is None:
        return problem
    is_found = checkpoint.parent == folder
    name = checkpoint.name if is_found else str(checkpoint)
    what = f"{problem.what}; the training is complete and kept in {name}"
    then = continuation("auto" if is_found else name)
    fix = f"{problem.fix.partition(', then ')[0].removesuffix('?')}, then {then}: it does not train again"
    return error(problem.code, where=problem.where, what=what, fix=fix, detail=problem.detail)


def _evaluate_and_write(run: Run, folder: Path) -> Report:
    trainer = run.trainer
    is_main = trainer.is_world_process_zero()
    history = list(trainer.state.log_history)
    trained_parameters = trainer.model.num_parameters(only_trainable=True)
    adapter_base = None if trainer.adapter is None else trainer.adapter.base
    calibration = save_weights(trainer, folder, samples=run.recipe.card.samples)
    trainer.finished = True
    splits = _evaluate(trainer, run.evaluation)
    task = Task(trainer.model.config.problem_type)
    metric = task.main_metric
    seconds = training_seconds(trainer, history)
    training_clips, epochs = training_extent(trainer)
    evaluated = {name: inputs.split for name, inputs in run.evaluation.items()}
    has_baseline = is_main and not isinstance(run.train, StreamedClipInputs)
    answers = baseline_answers(run.train, run.evaluation) if has_baseline else {}
    report = Report(
        recipe=run.recipe,
        folder=folder,
        config=trainer.model.config,
        extractor=trainer.processing_class,
        metric=metric,
        results={name: part.metrics for name, part in splits.items()},
        classes={name: part.classes for name, part in splits.items()},
        clips={name: len(part.answers) for name, part in splits.items()},
        parameters=trainer.model.num_parameters(),
        trained_parameters=trained_parameters,
        training_clips=training_clips,
        epochs=epochs,
        seconds=seconds,
        clips_per_second=trainer.clips_trained / seconds if seconds else 0.0,
        hardware=describe_hardware(trainer.args),
        base_model=base_model_name(run.recipe.model, run.recipe.card),
        watched=read_curves(history, _log_prefixes(run), metric),
        data_sets=data_set_names(run.recipe.data, run.recipe.card),
        training_labels=training_labels(run.train.split),
        chance=most_frequent_class(run.train.split, evaluated),
        baseline={name: baseline_metric(answers[name], splits[name].truth, task) for name in answers},
        settings=weight_arguments(trainer.args, run.recipe.optimization),
        emissions=read_emissions(folder),
        changes=trainer.changes,
        data_check=run.findings,
        calibration=calibration,
        local_paths=local_paths(run.recipe),
        own_code=run.own_code,
        kept=kept_evaluation(trainer, _validation_name(run)),
        precision=chosen_precision(trainer.args),
    )
    defer_stop()  # until the program ends: the checkpoint to continue from is removed with the last file
    if is_main:
        report.verdict = judge_run(report, trainer, splits, answers, evaluated, history)
        with explained(folder):
            write_outputs(report, trainer, splits, history, adapter_base)
    trainer.discard_interim()
    return report


def _evaluate(trainer: ASTTrainer, evaluation: dict[str, Inputs]) -> dict[str, SplitResults]:
    """Evaluate the splits, and log loss and main metric of each as `eval_SPLIT_...`."""
    config = trainer.model.config
    names = (Task(config.problem_type).main_metric, "loss")
    splits: dict[str, SplitResults] = {}
    values: dict[str, float] = {}
    for split, inputs in evaluation.items():
        splits[split] = SplitResults.from_output(trainer.predict(inputs, metric_key_prefix="eval"), config)
        values |= {f"eval_{split}_{name}": splits[split].metrics[name] for name in names}
    trainer.log(values)
    return splits


def _log_prefixes(run: Run) -> dict[str, str]:
    """Return split name -> prefix in the Trainer's log, for splits that are evaluated while training."""
    prefixes = {_validation_name(run): VALIDATION_PREFIX}
    if run.watch is not None:
        prefixes[run.watch] = WATCHED_PREFIX
    return prefixes


def _validation_name(run: Run) -> str:
    """Return the name of the split that is evaluated while training to choose weights or learning rates."""
    validation = run.trainer.eval_dataset
    return next((name for name, inputs in run.evaluation.items() if inputs is validation), "validation")
