"""Checkpoints on a labelled data set: each one's metrics, their ensemble, their mean weights, and calibration.

    evaluation = evaluate_checkpoints(["outputs/demo"], "clips", split="test", output_dir="outputs/evaluation")
    print(evaluation.table())

Clips are never augmented here, and are cut or padded as in the pipeline.
"""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from ..configuration_ast import FIELD_RULES, ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..data.catalog import find_data_set
from ..data.reading import is_multi_label, load_audio_dataset
from ..data.splits import label_names
from ..errors import AstHfWarning, did_you_mean, error, refuse, warning_text
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import plain_values, write_json, write_text
from ..inputs.clips import ClipInputs
from ..inputs.collation import Collator
from ..metrics.all_of import measure, tags_of
from ..metrics.calibration import (
    MULTI_LABEL,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    probabilities,
)
from ..metrics.ranking import COLUMNS, class_report
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification, classes_for, mean_logits
from ..reports.ensemble_card import write_ensemble_card
from ..reports.evaluation_results import ENSEMBLE, Calibration, Evaluation, Outcome
from ..task import Task
from ..weights.checkpoints import check_folder
from .stored_logits import check_name, clip_digests, clip_keys, listed, store_logits

#: Name of the mean of the checkpoints' weights among the outcomes.
AVERAGE = "average"

#: The threshold of a label that has none of its own: nothing was fitted, or it had no clip in the split.
NO_THRESHOLD = 0.5

#: Fields that two checkpoints may differ in and still have a meaningful mean.
_NOT_ARCHITECTURE = frozenset(
    {"attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range", "temperature", "thresholds"}
)


class Setting(NamedTuple):
    """How logits become scores, and scores decisions."""

    temperature: float = 1.0
    thresholds: list[float] | None = None


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
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    **reading: Any,
) -> Evaluation:
    """Evaluate checkpoints, and with several of them their ensemble.

    The ensemble is the paper's (section 3.1): the mean of the models' sigmoid outputs, for single-label the mean of
    softmax. Its members may differ in size, strides and input length, not in their labels. Labels of the data are found
    by name. A stored temperature is applied, as in the pipeline. Without `problem_type`, the data suggest one.

    Args:
        checkpoints: folders or names on the Hub.
        source: as for `load_audio_dataset`, or a name that `find_data_set` knows, such as `"esc50"`.
        output_dir: for `results.json`, `per_class.csv` and `.json`, `precision_recall.png`, for single-label
            `confusion.png`, and `average` and `ensemble` (see below).
        split: the part of the data set to evaluate.
        average: also evaluate the mean of the checkpoints' weights, and save it as the checkpoint
            `output_dir/average`. Means something for checkpoints of one run.
        ensemble: also save the ensemble, of the checkpoints as they were evaluated, in `output_dir/ensemble`.
        fit_on: another split, on which to fit a temperature and, for multi-label, each label's threshold of best F1.
        store: write these into the checkpoints' `config.json`, and those of `average` and `ensemble`.
        save_logits: file for the logits of the evaluated split (the ensemble's, where there is one), see `load_logits`.
        batch_size: clips at a time.
        workers: processes that decode.
        device: where the models run; a GPU where there is one when None.
        **reading: as for `load_audio_dataset`: `label_column`, `label_separator`, ...

    Raises:
        AstInputError: E108 for arguments that contradict each other, and for data that come as a stream.
        AstDataError: E208 for labels that the model does not know, E209 for splits, and what reading raises.
        AstConfigError: E303 for checkpoints of different labels, E305 and E301 where weights have no mean and where
            one input cannot serve the ensemble, E306 for broken checkpoints.
    """
    names = [str(name) for name in checkpoints]
    folder = Path(output_dir)
    place, whole = folder / AVERAGE if average else None, folder / ENSEMBLE if ensemble else None
    _check_request(names, split, average=average, ensemble=ensemble, fit_on=fit_on, store=store)
    _check_places(names, folder, {"average": place, "ensemble": whole}, save_logits)
    members = _members(names)
    labels = _labels(members[0].config)
    splits = _chosen(_read(source, reading), [split, *([fit_on] if fit_on else [])], str(source))
    problem_type = _problem_type(members, splits[split])
    truth = {name: true_labels(part, labels, problem_type, name) for name, part in splits.items()}
    if place is not None:
        members.append(_save_average(names, place))
    if whole is not None:
        ASTEnsembleForAudioClassification.from_members(names, problem_type=problem_type).save_pretrained(whole)
    run = Run(splits, batch_size, workers, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    logits = {member.name: run.logits(member) for member in members}
    settings = {member.name: _setting(member.config) for member in members}
    if len(names) > 1:
        parts = {part: {name: logits[name][part] for name in names} for part in splits}
        logits[ENSEMBLE] = {part: ensemble_logits(given, problem_type, settings) for part, given in parts.items()}
        settings[ENSEMBLE] = Setting()
    outcomes = {
        name: _outcome(given, truth, problem_type, settings[name], split, fit_on) for name, given in logits.items()
    }
    clips = len(splits[split])
    evaluation = Evaluation(folder, str(source), split, problem_type, labels, clips, names, outcomes)
    if save_logits is not None:
        _save_logits(save_logits, logits[evaluation.main][split], splits[split], evaluation)
    scores = probabilities(logits[evaluation.main][split], problem_type, settings[evaluation.main].temperature)
    _write(evaluation, scores, truth[split])
    for member in members if store else ():
        _store(member, outcomes[member.name].calibration, problem_type, split)
    if whole is not None:
        _finish_ensemble(evaluation, whole, logits[ENSEMBLE][split], truth[split], store=store)
    return evaluation


def _check_request(
    names: list[str],
    split: str,
    *,
    average: bool,
    ensemble: bool,
    fit_on: str | None,
    store: bool,
) -> None:
    """Raise E108 for what can be told to be wrong before anything is read."""
    taken = [*names, ENSEMBLE, AVERAGE]
    twice = next((name for name in names if taken.count(name) > 1), None)
    remote = next((name for name in names if not Path(name).is_dir()), None)
    cases: dict[tuple[str, str, str], object] = {
        ("checkpoints", "are none", "name at least one"): not names,
        ("checkpoints", f"{twice!r} is named twice, or is a name kept for a result", "give its path"): bool(twice),
        ("average", "needs several checkpoints", "name two or more, or leave it out"): average and len(names) < 2,
        ("ensemble", "needs several checkpoints", "name two or more, or leave it out"): ensemble and len(names) < 2,
        (
            "fit_on",
            f"{fit_on!r} is the split that is evaluated: numbers fitted there say nothing about other clips",
            "fit on a validation split",
        ): fit_on == split,
        ("store", "has nothing to store", "name a split to fit on"): store and fit_on is None,
        ("store", f"cannot write into {remote!r}, which is no folder", "download it first"): store and bool(remote),
    }
    refuse("E108", cases)


def _check_places(
    names: list[str], output: Path, saved: dict[str, Path | None], save_logits: str | Path | None
) -> None:
    """Raise E108 where a checkpoint would be written over, and for a file of logits of another kind; `saved` is what is
    to be saved, and where.
    """
    if save_logits is not None:
        check_name(save_logits)
    for option, place in saved.items():
        lost = next((name for name in names if place is not None and _is_within(name, place)), None)
        what, fix = f"would be written over {lost!r}", "name another output folder"
        refuse("E108", {(option, what, fix): lost})
    own = next((name for name in names if Path(name).is_dir() and Path(name).resolve() == output.resolve()), None)
    what, fix = f"is {own!r} itself, whose results.json would be lost", "name another output folder"
    refuse("E108", {("output_dir", what, fix): own})


def _is_within(name: str, folder: Path) -> bool:
    return Path(name).is_dir() and Path(name).resolve().is_relative_to(folder.resolve())


class Member(NamedTuple):
    """A checkpoint: its name and folder, what it says of itself, and the order its logits are taken in."""

    name: str
    folder: str
    config: ASTConfig | ASTEnsembleConfig
    extractor: ASTFeatureExtractor
    columns: list[int]


def _members(names: list[str]) -> list[Member]:
    """The checkpoints, their logits in the order of the first one's labels."""
    members = [_member(name) for name in names]
    labels = _labels(members[0].config)
    return [member._replace(columns=_columns(labels, member, members[0].name)) for member in members]


def _member(folder: str, name: str | None = None) -> Member:
    check_folder(folder)
    config = classes_for(folder)[0].from_pretrained(folder)
    if config.problem_type == "regression":
        what = "is 'regression', which has no classes to evaluate"
        raise error("E302", where=f"{folder!r}: problem_type", what=what, fix="evaluate a classifier")
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    return Member(name or folder, folder, config, extractor, list(range(config.num_labels)))


def _labels(config: ASTConfig | ASTEnsembleConfig) -> list[str]:
    return [config.id2label[index] for index in range(config.num_labels)]


def _columns(labels: list[str], member: Member, first: str) -> list[int]:
    """Where each of `labels` stands among a checkpoint's own; raises E303 unless both have the same names."""
    own = member.config.label2id
    strange = [*(name for name in labels if name not in own), *(name for name in own if name not in labels)]
    if strange:
        what = f"has other labels than {first!r}: {listed(strange)} only in one of them"
        raise error("E303", where=repr(member.name), what=what, fix="evaluate together what has the same label names")
    return [own[name] for name in labels]


def _read(source: str | Path, reading: dict[str, Any]) -> DatasetDict:
    splits = load_audio_dataset(**{**find_data_set(source), **reading})
    if not isinstance(splits, DatasetDict):
        what = f"{source!r} comes as a stream, whose clips cannot be counted before they are read"
        raise error("E108", where="source", what=what, fix="download it and name its folder in AST_HF_DATA")
    return splits


def _chosen(splits: DatasetDict, names: list[str], source: str) -> dict[str, Dataset]:
    for name in names:
        if name not in splits:
            what = f"has no split {name!r}"
            raise error("E209", where=repr(source), what=what, fix=did_you_mean(name, splits))
        if not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="choose another split")
    return {name: splits[name] for name in names}


def _problem_type(members: list[Member], split: Dataset) -> str:
    """What the checkpoints say they are, or what the data suggest where one says nothing."""
    several = is_multi_label(split)
    suggested = MULTI_LABEL if several else "single_label_classification"
    types = {Task.of_config(member.config) or suggested: member.name for member in members}
    if len(types) > 1:
        what = " but ".join(f"{name!r} is {kind!r}" for kind, name in types.items())
        raise error("E303", where="checkpoints", what=what, fix="evaluate them one by one")
    problem_type = next(iter(types))
    if several and problem_type != MULTI_LABEL:
        what = f"have several labels, but {members[0].name!r} chooses one"
        raise error("E208", where="clips", what=what, fix="use a multi-label checkpoint, or a column of single labels")
    return problem_type


def true_labels(split: Dataset, labels: Sequence[str], problem_type: str, name: str = "data") -> np.ndarray:
    """What a split's clips are, in a model's numbering.

    Args:
        split: one split of `load_audio_dataset`.
        labels: the model's label names, by index.
        problem_type: the model's.
        name: how errors call the split.

    Returns:
        Indices `(clips,)`, int64; for multi-label, tags `(clips, labels)`, bool.

    Raises:
        AstDataError: E208 naming the labels of clips that the model does not know.
    """
    rows = split["labels"] if is_multi_label(split) else [[index] for index in split["label"]]
    names, position = label_names(split), {label: index for index, label in enumerate(labels)}
    unknown = [
        names[index] for index in sorted({index for row in rows for index in row}) if names[index] not in position
    ]
    if unknown:
        what = f"the model does not know {listed(unknown)}"
        raise error("E208", where=f"split {name!r}", what=what, fix=did_you_mean(unknown[0], labels))
    found = [[position[names[index]] for index in row] for row in rows]
    if problem_type != MULTI_LABEL:
        return np.array([row[0] for row in found], dtype=np.int64)
    tags = np.zeros((len(found), len(labels)), dtype=bool)
    for tag, row in zip(tags, found, strict=True):
        tag[row] = True
    return tags


@dataclass(frozen=True)
class Run:
    """How every model is run over the splits."""

    splits: dict[str, Dataset]
    batch_size: int
    workers: int
    device: torch.device

    def logits(self, member: Member) -> dict[str, np.ndarray]:
        """A checkpoint's logits on each split, `(clips, labels)`."""
        model = classes_for(member.folder)[1].from_pretrained(member.folder).to(self.device)
        options: dict[str, Any] = {"batch_size": self.batch_size, "workers": self.workers}
        return {
            name: predict_logits(model, split, member.extractor, text=f"{member.name} on {name}", **options)[
                :, member.columns
            ]
            for name, split in self.splits.items()
        }


@torch.inference_mode()
def predict_logits(
    model: ASTForAudioClassification | ASTEnsembleForAudioClassification,
    split: Dataset,
    extractor: ASTFeatureExtractor,
    *,
    batch_size: int = 8,
    workers: int = 0,
    text: str = "evaluating",
) -> np.ndarray:
    """A model's logits on a split, on the model's device and without augmentation, with a progress bar.

    Returns:
        float32, `(clips, labels)`.

    Raises:
        AstInputError: E104 for logits that are not finite, naming the clip.
    """
    inputs = ClipInputs(split, extractor, cache=False)
    collate = Collator(extractor, model.config.patch_size)
    loader = torch.utils.data.DataLoader(inputs, batch_size, collate_fn=collate, num_workers=workers)
    was_training, parts = model.training, []
    model.eval()
    with tqdm(total=len(split), desc=text, unit="clip", leave=False) as bar:
        for batch in loader:
            values = batch["input_values"].to(model.device, model.dtype)
            mask = {name: batch[name].to(model.device) for name in ("attention_mask",) if name in batch}
            parts.append(model(input_values=values, **mask).logits.float().cpu())
            bar.update(len(values))
    model.train(was_training)
    logits = torch.cat(parts).numpy()
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        where = f"{len(broken)} clips, first {clip_keys(split)[broken[0]]!r}"
        raise error("E104", where=where, what="logits are NaN or infinite", fix="load the model in float32")
    return logits


def ensemble_logits(
    logits: dict[str, np.ndarray], problem_type: str, settings: dict[str, Setting] | None = None
) -> np.ndarray:
    """Logits of the mean of the models' probabilities, `(clips, labels)`, float64.

    Args:
        logits: of each model, `(clips, labels)`, labels in the same order.
        problem_type: sigmoid for multi-label, else softmax; of what comes back, that gives the mean again.
        settings: the models' temperatures; 1 for those that have none.
    """
    temperatures = {name: (settings or {}).get(name, Setting()).temperature for name in logits}
    parts = [np.asarray(given, dtype=np.float64) / temperatures[name] for name, given in logits.items()]
    return mean_logits(torch.from_numpy(np.stack(parts)), problem_type).numpy()


def average_weights(checkpoints: Sequence[str]) -> ASTForAudioClassification:
    """The model whose every weight is the mean of the checkpoints', on the CPU, without temperature and thresholds.

    Raises:
        AstConfigError: E305 for another architecture, E303 for other labels or another order of them, E301 for
            features that are made differently.
    """
    first, *others = (_member(name) for name in checkpoints)
    for member in (first, *others):
        if isinstance(member.config, ASTEnsembleConfig):
            fix = "leave the average out, or name single models"
            raise error("E305", where=repr(member.name), what="is an ensemble: its weights have no mean", fix=fix)
    for other in others:
        _check_same(first, other)
    model = ASTForAudioClassification.from_pretrained(first.folder)
    state = model.state_dict()
    mean = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    for other in others:
        more = ASTForAudioClassification.from_pretrained(other.folder).state_dict()
        for name, total in mean.items():
            total += more[name]
    model.load_state_dict({**state, **{name: total / len(checkpoints) for name, total in mean.items()}})
    model.config.temperature = model.config.thresholds = None
    return model


def _check_same(first: Member, other: Member) -> None:
    """Raise unless the mean of two checkpoints' weights is a model of the same kind."""
    for name in FIELD_RULES:
        own, wanted = getattr(other.config, name), getattr(first.config, name)
        if name not in _NOT_ARCHITECTURE and own != wanted:
            what = f"{own!r}, but {wanted!r} in {first.name!r}: their weights have no mean"
            fix = "average checkpoints of one run, or leave the average out: an ensemble takes any"
            raise error("E305", where=f"{other.name!r}: {name}", what=what, fix=fix)
    if _labels(other.config) != _labels(first.config):
        what = f"are not those of {first.name!r}, in that order: their weights have no mean"
        raise error("E303", where=f"{other.name!r}: id2label", what=what, fix="average checkpoints of one run")
    for name in ("sampling_rate", "do_normalize", "mean", "std"):
        own, wanted = getattr(other.extractor, name), getattr(first.extractor, name)
        if own != wanted:
            what = f"{own!r}, but {wanted!r} in {first.name!r}: their weights expect other features"
            raise error("E301", where=f"{other.name!r}: {name}", what=what, fix="average checkpoints of one run")


def _save_average(checkpoints: Sequence[str], folder: Path) -> Member:
    average_weights(checkpoints).save_pretrained(folder)
    ASTFeatureExtractor.from_pretrained(checkpoints[0]).save_pretrained(folder)
    return _member(str(folder), AVERAGE)


def _finish_ensemble(
    evaluation: Evaluation, folder: Path, logits: np.ndarray, truth: np.ndarray, *, store: bool
) -> None:
    """What was fitted, and the card with the metrics that the ensemble in `folder` then has."""
    fitted = evaluation.outcomes[ENSEMBLE].calibration if store else None
    store_calibration(folder, fitted, evaluation.problem_type, range(len(evaluation.labels)))
    metrics, _ = measure(logits, truth, evaluation.problem_type, fitted.temperature if fitted else 1.0)
    write_text(folder / "README.md", str(write_ensemble_card(evaluation, metrics, folder)))


def _setting(config: ASTConfig | ASTEnsembleConfig) -> Setting:
    return Setting(config.temperature or 1.0, config.thresholds)


def _outcome(
    logits: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    problem_type: str,
    setting: Setting,
    split: str,
    fit_on: str | None,
) -> Outcome:
    """A model's results on `split`, from its logits and the truth of each split."""
    metrics, classes = measure(logits[split], truth[split], problem_type, setting.temperature)
    if fit_on is None:
        return Outcome(metrics, classes)
    fitted, missing = fit(logits[fit_on], truth[fit_on], problem_type, start=setting.temperature)
    before, after = (
        {name: _quality(logits[name], truth[name], problem_type, choice) for name in (fit_on, split)}
        for choice in (setting, fitted)
    )
    return Outcome(metrics, classes, Calibration(fit_on, fitted.temperature, fitted.thresholds, missing, before, after))


def fit(logits: np.ndarray, truth: np.ndarray, problem_type: str, *, start: float = 1.0) -> tuple[Setting, int]:
    """Temperature and, for multi-label, thresholds of best F1, from logits `(clips, labels)` and `true_labels`.

    Returns:
        The setting, and the number of labels that had no clip: their threshold is 0.5.
    """
    temperature = fit_temperature(logits, truth, start=start)
    if problem_type != MULTI_LABEL:
        return Setting(temperature), int(np.sum(np.bincount(truth, minlength=logits.shape[1]) == 0))
    scores = probabilities(logits, problem_type, temperature)
    best, lowest = class_report(scores, truth)["threshold"], scores.min(axis=0)
    best = np.where(
        best <= lowest, lowest / 2, best
    )  # all clips are taken: halfway to 0, so that rounding takes none out
    return Setting(temperature, np.where(np.isnan(best), NO_THRESHOLD, best).tolist()), int(np.isnan(best).sum())


def _quality(logits: np.ndarray, truth: np.ndarray, problem_type: str, setting: Setting) -> dict[str, float]:
    """What a temperature and thresholds change."""
    scores = probabilities(logits, problem_type, setting.temperature)
    values = {"ECE": expected_calibration_error(scores, truth), "NLL": log_loss(logits, truth, setting.temperature)}
    if truth.ndim == 1:
        return values
    return {**values, "F1": mean_f1(scores, truth, NO_THRESHOLD if setting.thresholds is None else setting.thresholds)}


def mean_f1(scores: np.ndarray, tags: np.ndarray, thresholds: Any) -> float:
    """Mean F1 over the classes that have a positive, when labels of at least their threshold are taken; in [0, 1]."""
    taken = scores >= np.asarray(thresholds)
    known = tags.any(axis=0)
    shares = 2 * (taken & tags).sum(axis=0)[known] / (taken.sum(axis=0) + tags.sum(axis=0))[known]
    return float(shares.mean()) if known.any() else math.nan


def _store(member: Member, calibration: Calibration | None, problem_type: str, split: str) -> None:
    """Store what was fitted; warn (W502) where it is worse on the split that it was not fitted on."""
    store_calibration(member.folder, calibration, problem_type, member.columns)
    if calibration is None or not calibration.after[split]["NLL"] > calibration.before[split]["NLL"]:
        return
    before, after = (part[split] for part in (calibration.before, calibration.after))
    what = f"on {split} NLL goes from {before['NLL']:.3f} to {after['NLL']:.3f}, ECE from {before['ECE']:.3f} to "
    what += f"{after['ECE']:.3f}: clips of {calibration.fitted_on} are not like those"
    warnings.warn(warning_text("W502", where=repr(member.name), what=what), AstHfWarning, stacklevel=3)


def store_calibration(
    folder: str | Path, calibration: Calibration | None, problem_type: str, columns: Sequence[int]
) -> None:
    """Write what was fitted into a checkpoint's `config.json`, where the pipeline reads it.

    Args:
        folder: the checkpoint.
        calibration: what to write; nothing is done for None.
        problem_type: written too where the config has none, since scores and thresholds depend on it.
        columns: for each threshold, the label's index in this checkpoint.
    """
    if calibration is None:
        return
    path = Path(folder) / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    thresholds = None
    if calibration.thresholds is not None:
        own = dict(zip(columns, calibration.thresholds, strict=True))
        thresholds = [own[index] for index in range(len(own))]
    content |= {"temperature": calibration.temperature, "thresholds": thresholds}
    content["problem_type"] = content.get("problem_type") or problem_type
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _save_logits(path: str | Path, logits: np.ndarray, split: Dataset, evaluation: Evaluation) -> None:
    names, digests = clip_keys(split), clip_digests(split)
    store_logits(path, logits, names, evaluation.labels, evaluation.problem_type, digests)


def _write(evaluation: Evaluation, scores: np.ndarray, truth: np.ndarray) -> None:
    """Everything but checkpoints and logits, into the evaluation's folder; results.json last."""
    from ..reports.pictures import draw_confusion, draw_precision_recall

    folder, labels = evaluation.folder, evaluation.labels
    folder.mkdir(parents=True, exist_ok=True)
    rows = _class_rows(evaluation)
    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    write_json(folder / "per_class.json", rows)
    draw_precision_recall(scores, tags_of(truth, len(labels)), labels, folder / "precision_recall.png")
    if truth.ndim == 1:
        draw_confusion(scores.argmax(axis=1), truth, labels, folder / "confusion.png")
    write_json(folder / "results.json", evaluation.to_dict())


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each model and label; what is not defined is None."""
    return [
        {
            "model": model,
            "index": index,
            "label": label,
            "positives": int(outcome.classes["positives"][index]),
            **{name: plain_values(float(outcome.classes[name][index])) for name in COLUMNS[1:]},
        }
        for model, outcome in evaluation.outcomes.items()
        for index, label in enumerate(evaluation.labels)
    ]
