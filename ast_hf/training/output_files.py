"""Files of a finished run besides the weights: recipe, pictures, samples, card, results.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..adapters.lora import ADAPTER_FOLDER
from ..files import move_whole, write_json, write_text, write_whole
from ..reports.run_results import Report, SplitResults
from ..reports.titles import detailed_split
from ..task import Task
from ..weights.reading import MODEL_FILES
from ..writing_failures import explained
from .checkpoints.sealing import clear, staging_folder
from .disk_space import weight_bytes
from .kept_calibration import Kept, keep_fitted
from .trainer import ASTTrainer

#: Results of the run, written last: a folder that has this file is complete.
RESULTS_FILE = "results.json"
#: Recordings for the model's page, from `card.samples`.
SAMPLES_FOLDER = "samples"
_CONFUSION_FILE = "confusion.png"
#: Folder of the model in the staging folder.
_STAGED_MODEL = "model"


def save_weights(trainer: ASTTrainer, folder: Path, *, samples: Sequence[str]) -> dict[str, Any] | None:
    """Save the model, its extractor and its adapter; the files of an earlier run are removed.

    Every process must call it. Files are staged: the earlier result is complete until all new ones are.
    `samples` are the recordings of the card.

    A run that was resumed and gives the model that the folder has already keeps what was fitted to it (temperature,
    thresholds, rules of timelines), in the files and in the trainer's model.

    Returns:
        The record of the calibration that was kept, see `kept_record`; None without one.
    """
    staged = staging_folder(folder) / _STAGED_MODEL
    is_main = trainer.is_world_process_zero()
    needed = weight_bytes(trainer.model)
    with explained(staged, needed=needed):
        if is_main:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
        trainer.merge_adapter(staged / ADAPTER_FOLDER)
        trainer.save_model(str(staged), _internal_call=True)  # before `bf16_full_eval` rounds the weights
    kept = keep_fitted(folder, staged) if is_main and trainer.was_resumed else Kept()
    kept = trainer.shared(kept)
    for name, value in kept.fields.items():
        setattr(trainer.model.config, name, value)
    if not is_main:
        return kept.record
    with explained(folder):
        _remove_stale_outputs(folder, staged, samples=samples)
    move_whole(staged, folder)
    clear(folder)
    return kept.record


def _remove_stale_outputs(folder: Path, staged: Path, *, samples: Sequence[str]) -> None:
    """Remove the files of an earlier run, which would be published or loaded with the new weights.

    Recordings are removed only if that run copied them and they are not among the new `samples`.
    """
    results = folder / RESULTS_FILE
    copied: list[str] = []
    with suppress(OSError, ValueError, AttributeError):  # no results, or another file of that name
        copied = json.loads(results.read_text(encoding="utf-8")).get("samples", [])
    stale = [results, folder / "README.md", folder / _CONFUSION_FILE]
    stale += [folder / SAMPLES_FOLDER / Path(name).name for name in copied]
    stale += folder.glob(".eval_results/*.yaml")
    stale += folder.glob(".*.part.*")  # of a killed process
    weights = [path for part in MODEL_FILES for path in folder.glob(part) if "model" in path.name]
    stale += [path for path in weights if not (staged / path.name).exists()]
    current = {Path(sample).resolve() for sample in samples}
    for path in stale:
        if path.resolve() not in current:
            path.unlink(missing_ok=True)


def write_outputs(
    report: Report,
    trainer: ASTTrainer,
    splits: dict[str, SplitResults],
    history: list[dict[str, Any]],
    adapter_base: str | None,
) -> None:
    """Write everything besides the weights into a run's folder; sets `report.pictures` and `trainer.card`.

    Args:
        report: results of the run.
        trainer: the run's.
        splits: results by evaluation split.
        history: the Trainer's log.
        adapter_base: base of the run's adapter, None without one.
    """
    from ..reports.curves import draw_curves
    from ..reports.model_card import eval_results_files, write_adapter_card, write_card

    folder = report.folder
    write_text(folder / "recipe.yaml", report.recipe.to_yaml())
    draw_curves(history, report, folder / report.picture)
    _draw_confusion(report, splits)
    _copy_samples(report.recipe.card.samples, folder / SAMPLES_FOLDER)
    results = report.to_dict()
    for name, text in eval_results_files(results).items():
        write_text(folder / name, text)
    trainer.card = write_card(results, getattr(trainer, "hub_model_id", None) or str(folder))
    trainer.create_model_card()
    if adapter_base is not None:
        adapter_folder = folder / ADAPTER_FOLDER
        card = write_adapter_card(results, str(adapter_folder), adapter_base)
        write_text(adapter_folder / "README.md", str(card))
    write_json(folder / RESULTS_FILE, results)


def _draw_confusion(report: Report, splits: dict[str, SplitResults]) -> None:
    """Draw the confusion matrix of a single-label run on the split of the card's labels."""
    from ..reports.pictures import draw_confusion

    if not splits or report.config.problem_type == Task.MULTI_LABEL:
        return
    split = detailed_split(splits)
    first = splits[split]
    report.pictures["confusion"] = _CONFUSION_FILE
    labels = [row["label"] for row in first.classes]
    model = report.recipe.name or report.folder.name
    file = report.folder / _CONFUSION_FILE
    draw_confusion(first.answers, first.truth, labels, file, model=model, split=split)


def _copy_samples(samples: Sequence[str], folder: Path) -> None:
    for sample in map(Path, samples):
        target = folder / sample.name
        if sample.resolve() != target.resolve():
            copy = partial(shutil.copyfile, sample)
            write_whole(target, copy, needed=sample.stat().st_size)
