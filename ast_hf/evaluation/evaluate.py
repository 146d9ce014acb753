"""Evaluation of checkpoints on labelled data: metrics of each, of their ensemble and their mean weights.

    evaluation = evaluate_checkpoints(["outputs/demo"], "clips", output_dir="outputs/evaluation")
    print(evaluation.table())

Clips are not augmented, and are cut or padded as in the pipeline.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..data.long_clips import cut_window
from ..errors import AstHfWarning, error, warning_text
from ..files import staged_folder, write_text
from ..inputs.clip_checks import check_headers, refuse
from ..inputs.suspicious_clips import SuspiciousClips
from ..label_order import model_labels
from ..log_mel import frames_to_seconds
from ..metrics.ranking import COLUMNS
from ..metrics.summary import all_metrics, class_figures
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..reports.ensemble_card import write_ensemble_card
from ..reports.evaluation_results import ENSEMBLE, Calibration, Evaluation, Outcome
from ..scalars import is_finite_number
from ..task import Task
from .calibration import Setting, calibrate, store_calibration
from .judging import TRAIN_SPLIT, judge_evaluation
from .members import Member, load_members
from .output_files import write_evaluation, write_logits
from .prediction import Predictor, checked_device, ensemble_logits
from .request_checks import AVERAGE, Request, check_counts, check_request
from .targets import common_task, read_splits, true_labels
from .weight_average import save_average


def evaluate_checkpoints(
    checkpoints: Sequence[str],
    source: str | Path,
    *,
    output_dir: str | Path,
    split: str = "test",
    average: bool = False,
    ensemble: bool = False,
    fit_on: str | None = None,
    store: bool = False,
    save_logits: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    **reading: Any,
) -> Evaluation:
    """Evaluate checkpoints, and their ensemble if there are several.

    The ensemble is the paper's (section 3.1): the mean of the models' sigmoid outputs, for single-label the
    mean of softmax. Its members may differ in size, strides and input length, but must have the same labels.
    Labels of the data are matched by name. Checkpoints without a `problem_type` get the task of the data.

    All numbers are of the scores and decisions (`metrics.decisions.decide`) that the pipeline makes with the checkpoint
    as this call leaves it: with its stored temperature and thresholds, and with `store` those just stored.

    The verdict compares with logistic regression on at most 5,000 clips of the split `train`, if there is one.

    Args:
        checkpoints: folders or names on the Hub.
        source: as for `load_audio_dataset`, or a name of `find_data_set`, for example `"esc50"`.
        output_dir: folder for `results.json`, `per_class.csv` and `.json`, `precision_recall.png`, for
            single-label `confusion.png`, and `average` and `ensemble` (see below).
        split: the split to evaluate.
        average: also evaluate the mean of the weights of one run's checkpoints, and save it in `output_dir/average`.
        ensemble: also save the ensemble of the evaluated checkpoints, in `output_dir/ensemble`.
        fit_on: another split, on which to fit a temperature and, for multi-label, each label's threshold of
            best F1. The columns `best_` of `per_class.csv` are then of that split.
        store: write the fitted calibration into the `config.json` of the checkpoints, `average` and `ensemble`, and
            into their README.md and results.json if they have them.
        save_logits: file for the logits of the evaluated split, of the ensemble if there is one; see `load_logits`.
        batch_size: clips at a time; if None, 8 on a CPU and 64 on a GPU.
        workers: processes that decode clips; if None, none on a CPU, and on a GPU all processors but one, at most 8.
        device: of the models; if None, a GPU if there is one.
        precision: on a CPU of a faster copy, see `optimize_for_inference`; None for the model as it is. On a GPU of
            the weights, `"float32"` or `"bfloat16"`; None and `"auto"` for bfloat16 if the GPU has it.
        **reading: as for `load_audio_dataset`: `label_column`, `label_separator`, ...

    Raises:
        AstInputError: E108 for arguments that contradict each other, and for data that come as a stream.
        AstDataError: E208 for labels that the model does not have, E209 for splits, and errors of reading.
        AstConfigError: E302 for a precision that is not possible, E303 for checkpoints of different labels, E305
            and E301 for weights that cannot be averaged or members that cannot share an input, E306 for broken ones.
        AstRunError: E401 for a result that cannot be written, before any file is read if possible.
    """
    names = [str(name) for name in checkpoints]
    request = Request(names, Path(output_dir), split, average, ensemble, fit_on, store, save_logits)
    check_request(request)
    check_counts(batch_size=(batch_size, 1), workers=(workers, 0))
    home = checked_device(device, precision)
    members = load_members(names)
    splits, train, sound = _read_clips(source, request, members, reading)
    task = common_task(members, splits[split])
    labels = model_labels(members[0].config)
    targets = {name: true_labels(part, labels, task, name) for name, part in splits.items()}
    members += _save_models(request, task)
    predictor = Predictor(splits, batch_size, workers, home, precision)
    logits, settings = _predict(members, names, predictor, task)
    outcomes = _measure_outcomes(logits, targets, task, settings, request)
    part = splits[split]
    facts = (request.output_dir, str(source), split, task.value, labels, len(part), names, outcomes)
    evaluation = Evaluation(*facts, sound=sound, device=str(home), precision=predictor.arithmetic)
    main_logits = logits[evaluation.main][split]
    verdict = judge_evaluation(split, part, main_logits, targets[split], task, members[0], train)
    evaluation = replace(evaluation, verdict=verdict)
    if save_logits is not None:
        write_logits(save_logits, main_logits, part, evaluation)
    write_evaluation(evaluation, main_logits, targets[split], task)
    _finish_checkpoints(evaluation, members, task, request)
    return evaluation


def _read_clips(
    source: str | Path, request: Request, members: list[Member], reading: dict[str, Any]
) -> tuple[dict[str, Dataset], Dataset | None, dict[str, Any]]:
    """Return the requested splits, whose clips can be read, the training split, if it is another one, and `sound`."""
    _check_window(reading.get("window_seconds"), members)
    splits = read_splits(source, request.splits, reading, optional=[TRAIN_SPLIT])
    train = splits.get(TRAIN_SPLIT) if request.split != TRAIN_SPLIT else None
    splits = {name: splits[name] for name in request.splits}
    return splits, train, _check_clips(splits, members, request.output_dir)


def _check_window(seconds: float | None, members: list[Member]) -> None:
    """Raise E108 for windows longer than the input of a model."""
    for member in members if is_finite_number(seconds) else []:
        extractor = member.extractor
        problem = cut_window(float(seconds or 0.0), extractor.max_length, extractor.sampling_rate)
        if problem is not None:
            what, fix = problem
            raise error("E108", where=f"window_seconds, {member.name!r}", what=what, fix=fix)


def _check_clips(splits: dict[str, Dataset], members: list[Member], folder: Path) -> dict[str, Any]:
    """Raise the error of the first clip whose header shows that it cannot be read; it names the others too.

    Warns as `finetune` of clips that splits share or that contradict each other (W215), and of sound that is not in
    the shortest input of the models (W201), and returns how much that is by split.
    """
    rate = members[0].extractor.sampling_rate
    checks = {name: check_headers(name, split, rate) for name, split in splits.items()}
    bad = [clip for check in checks.values() for clip in check.bad]
    if bad:
        raise refuse(bad, sum(len(check.clips) for check in checks.values()), folder)
    suspicious = SuspiciousClips(frames_to_seconds(min(member.extractor.max_length for member in members)))
    for name, check in checks.items():
        suspicious.add(name, splits[name], check, range(len(check.clips)))
    found: dict[str, Any] = suspicious.find()["sound"]
    return found


def _save_models(request: Request, task: Task) -> list[Member]:
    """Save the requested mean of the weights and ensemble, and return the former as a member to evaluate."""
    added = []
    if request.average_folder is not None:
        added.append(save_average(request.checkpoints, request.average_folder, AVERAGE))
    if request.ensemble_folder is not None:
        model = ASTEnsembleForAudioClassification.from_members(request.checkpoints, problem_type=task.value)
        with staged_folder(request.ensemble_folder) as staged:
            model.save_pretrained(staged)
    return added


def _predict(
    members: list[Member], names: list[str], predictor: Predictor, task: Task
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Setting]]:
    """Return logits by model and split, and each model's calibration, with those of the ensemble of `names`."""
    logits = {member.name: predictor.logits(member) for member in members}
    settings = {member.name: Setting.of_config(member.config) for member in members}
    if len(names) > 1:
        logits[ENSEMBLE] = {
            split: ensemble_logits({name: logits[name][split] for name in names}, task, settings)
            for split in predictor.splits
        }
        settings[ENSEMBLE] = Setting()
    return logits, settings


def _measure_outcomes(
    logits: dict[str, dict[str, np.ndarray]],
    targets: dict[str, np.ndarray],
    task: Task,
    settings: dict[str, Setting],
    request: Request,
) -> dict[str, Outcome]:
    """Return the results of each model; a calibration that is stored counts from now on."""
    unsaved = {ENSEMBLE} if request.ensemble_folder is None else set()
    stored = set(logits) - unsaved if request.store else set()
    return {
        name: _measure_outcome(parts, targets, task, settings[name], request, is_stored=name in stored)
        for name, parts in logits.items()
    }


def _measure_outcome(
    logits: dict[str, np.ndarray],
    targets: dict[str, np.ndarray],
    task: Task,
    setting: Setting,
    request: Request,
    *,
    is_stored: bool,
) -> Outcome:
    """Return the results of a model by its calibration: `setting`, or the fitted one if it `is_stored`."""
    split = request.split
    best_on = request.fit_on or split
    calibration = None
    before = None
    if request.fit_on is not None:
        calibration = calibrate(logits, targets, task, setting, request.fit_on)
        if is_stored:
            before, _ = all_metrics(logits[split], targets[split], task, setting.temperature)
            setting = Setting(calibration.temperature, calibration.thresholds)
    metrics, ranked = all_metrics(logits[split], targets[split], task, setting.temperature)
    classes = class_figures(logits[split], targets[split], task, ranked, **setting._asdict())
    if best_on != split:
        _, ranked = all_metrics(logits[best_on], targets[best_on], task, setting.temperature)
    classes |= {name: ranked[name] for name in COLUMNS if name.startswith("best_")}
    return Outcome(metrics, classes, calibration, setting.temperature, best_on, before)


def _finish_checkpoints(evaluation: Evaluation, members: list[Member], task: Task, request: Request) -> None:
    """Store fitted calibrations, and complete the folder of the ensemble, as far as requested."""
    _store_calibrations(evaluation, members, task, request)
    if request.ensemble_folder is not None:
        _finish_ensemble(evaluation, request.ensemble_folder, task, store=request.store)


def _store_calibrations(evaluation: Evaluation, members: list[Member], task: Task, request: Request) -> None:
    """Store fitted calibrations in the checkpoints; warn (W502) of those worse on the evaluated split."""
    for member in members:
        calibration = evaluation.outcomes[member.name].calibration
        if request.store and calibration is not None:
            store_calibration(member.folder, calibration, task, member.columns, evaluation.source)
            _warn_if_worse(member.name, calibration, request.split)


def _warn_if_worse(name: str, calibration: Calibration, split: str) -> None:
    before = calibration.before[split]
    after = calibration.after[split]
    if not after["NLL"] > before["NLL"]:
        return
    changes = ", ".join(
        f"{metric} from {before[metric]:.3f} to {after[metric]:.3f}" for metric in ("NLL", "ECE")
    )
    what = f"changes on {split}: {changes}; clips of {calibration.fitted_on} differ from those"
    warnings.warn(warning_text("W502", where=repr(name), what=what), AstHfWarning, stacklevel=4)


def _finish_ensemble(evaluation: Evaluation, folder: Path, task: Task, *, store: bool) -> None:
    """Store the ensemble's calibration in its folder, and write its card."""
    calibration = evaluation.outcomes[ENSEMBLE].calibration
    record = None
    if store and calibration is not None:
        columns = range(len(evaluation.labels))
        record = store_calibration(folder, calibration, task, columns, evaluation.source)
        record["in_results"] = True  # the card has the results of this evaluation
    write_text(folder / "README.md", str(write_ensemble_card(evaluation, folder, record)))
