"""End of a run: evaluate the trained model, and write a folder that loads anywhere."""

from __future__ import annotations

from pathlib import Path

from ..continuing import continuation
from ..errors import AstHfError, error
from ..evaluation.baseline import baseline_answers, baseline_metric, most_frequent_class
from ..inputs.streams import StreamedClipInputs
from ..recipe.arguments import weight_arguments
from ..reports.emissions import read_emissions
from ..reports.epoch_metrics import VALIDATION_PREFIX, WATCHED_PREFIX
from ..reports.run_results import Report, SplitResults
from ..stopping import defer_stop
from ..task import Task
from ..writing_failures import explained
from .building import (
    Inputs,
)
from .float8 import run_precision
from .judging import judge_run
from .output_files import save_weights, write_outputs
from .preparing import Run
from .run_facts import (
    base_model_name,
    data_set_names,
    describe_hardware,
    kept_evaluation,
    local_paths,
    read_curves,
    training_extent,
    training_labels,
    training_seconds,
)
from .trainer import ASTTrainer


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
        precision=run_precision(trainer.args, trainer.model),
        features_on=trainer.features_on,
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
