"""Cross-validation: a recipe trained once for each fold and tested on it, with mean and spread over folds.

    results = cross_validate(load_recipe("examples/recipes/esc50.yaml"), "outputs/esc50", folds=5)
    print(results.final.mean, results.final.standard_deviation)

The result is that of the final epoch. The best epoch is reported separately, since it is chosen on the test
clips.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..data.holding_out import fold_names
from ..data.splits import check_splits
from ..errors import AstHfError, error
from ..files import write_text
from ..inputs.clip_checks import remembered_checks
from ..inputs.own_augmentation import SpectrogramFunction, WaveformFunction
from ..processes import is_main_process
from ..recipe.arguments import build_arguments
from ..recipe.options import DataOptions
from ..recipe.reading import load_recipe
from ..recipe.recipe import Recipe
from ..recipe.stopping_options import StoppingOptions
from ..reports.fold_results import TEST_SPLIT, CrossValidation, Fold
from ..stopping import StopSignals, stop_signals
from .building import SAMPLING_RATE, measures_statistics
from .checkpoints.folder_lock import FolderLock, ensure_lock
from .checkpoints.run_options import flatten_options
from .checkpoints.sealing import checkpoints, staging_folder
from .finetuning import finetune
from .float8 import check_float8
from .output_files import RESULTS_FILE
from .own_code import Callback, OwnCode, own_code
from .preflight import Preflight
from .prepared_file import PreparedFile
from .preparing import Rehearsal
from .splits import group_column, read_data, read_splits

FOLDS_FILE = "folds.json"
PICTURE = "folds.png"
RECIPE_FILE = "folds.yaml"

#: Fix for a request to publish the models of all folds.
NO_PUSH = "train on all clips without folds and publish that, or upload the folder of one fold"


@dataclass(frozen=True)
class FoldPlan:
    """Run of one fold, before it starts."""

    name: str
    folder: Path
    recipe: Recipe  # with the fold as `data.test_fold`
    sizes: tuple[int, int]  # clips tested and trained on
    content: dict[str, str]  # split -> digest of its clips
    own: OwnCode


@dataclass(frozen=True)
class PlannedFolds:
    """Runs of all folds, before the first one starts.

    Attributes:
        recipe: with the folds that the runs have.
        plans: one for each fold.
        finished: results of the folds that are finished, by name; None for the others.
        origin: where the folds are from, in words.
    """

    recipe: Recipe
    plans: list[FoldPlan]
    finished: dict[str, dict[str, Any] | None]
    origin: str


def cross_validate(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    folds: int = 5,
    resume: str | bool | None = None,
    tell: Callable[[str], None] | None = None,
    augment: WaveformFunction | None = None,
    augment_spectrogram: SpectrogramFunction | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> CrossValidation:
    """Train a recipe once for each fold, on the other folds, and test it on that fold after each epoch.

    Folds are compared by epoch, so `stopping` is not used: every run has its full length, and no clips are held
    out for it.

    The folds are those of the column `data.fold_column`; data without this column get random ones, see
    `data.random_folds`. The test fold does not affect the weights.

    Args:
        recipe: data, model and training of each run; `data.test_fold` is set for each fold.
        output_dir: folder for `fold-1`, `fold-2`, ... (see `finetune`), folds.json, folds.png, folds.yaml
            (the recipe).
        folds: number of folds, at least 2.
        resume: True to resume the folds in `output_dir`: finished ones stay, an interrupted one continues from
            its newest intact checkpoint; `"auto"` for the same, or a fresh start in an empty folder.
        tell: called with a line of text for each fold, for example `print`; only on the main process.
        augment: as for `prepare`.
        augment_spectrogram: as for `prepare`.
        callbacks: as for `prepare`; each fold has copies of them, or new objects of classes.

    Returns:
        The results of all folds. The main process alone measures the baseline and writes the files.

    Raises:
        AstHfError: before the first training step: E307 for options that contradict folds, for another number
            of folds than the data have, and for another recipe than the one `output_dir` began with; E208 for
            columns; E209 for folds that lack clips or a class; E306 for an `output_dir` with another run, or
            with nothing to resume; E402 if another run uses `output_dir`. While training, as `finetune`.
        RunStopped: as `finetune`; the folds that are complete stay.
    """
    own = own_code(augment, augment_spectrogram, callbacks)
    with stop_signals() as stopping, FolderLock(output_dir), remembered_checks():  # folds have the same clips
        stopping.begin()
        return _cross_validate(recipe, Path(output_dir), folds, own, resume, tell, stopping)


def _cross_validate(
    recipe: Recipe,
    root: Path,
    folds: int,
    own: OwnCode,
    resume: str | bool | None,
    tell: Callable[[str], None] | None,
    stopping: StopSignals,
) -> CrossValidation:
    planned = plan_folds(recipe, root, folds, resume, own=own)
    for plan in planned.plans:
        ensure_lock(plan.folder)  # E402 now, not after the folds before it
    report = tell if tell is not None and is_main_process() else lambda _: None
    if is_main_process():
        root.mkdir(parents=True, exist_ok=True)
        write_text(root / RECIPE_FILE, planned.recipe.to_yaml())
    report(f"{len(planned.plans)} folds: {planned.origin}")
    if recipe.stopping.is_active:
        report(
            "Every fold trains its full length on all clips of the others: stopping is not used with folds."
        )
    results = CrossValidation(planned.recipe, root, planned.origin, [])
    for plan in planned.plans:
        stopping.text = f"before {plan.folder.name}"
        stopping.stop_now()
        results.folds.append(_run_fold(plan, planned.finished[plan.name], report))
    if is_main_process():
        _write_results(results)
    return results


def plan_folds(
    recipe: Recipe,
    root: Path,
    folds: int,
    resume: str | bool | None,
    *,
    own: OwnCode | None = None,
    rehearsal: Rehearsal | None = None,
) -> PlannedFolds:
    """Return the runs of all folds, and raise what `cross_validate` raises before the first one.

    Nothing is written with a `rehearsal`, which gets the clips that cannot be used.
    """
    _check_request(recipe, folds, resume)
    # its errors, before the data are read to find the folds
    check_float8(recipe.precision, build_arguments(recipe.training, root, precision=recipe.precision))
    _check_folder(root, resume)
    recipe, names, origin = _name_folds(recipe, folds)
    recipe = _without_stopping(recipe)
    places = {name: root / f"fold-{number}" for number, name in enumerate(names, start=1)}
    code = own or OwnCode()
    plans = [_plan_fold(recipe, name, folder, code.copied(), rehearsal) for name, folder in places.items()]
    _check_begun_recipe(root, recipe)
    finished = {plan.name: _read_finished(plan) for plan in plans}
    return PlannedFolds(recipe, plans, finished, origin)


def _check_request(recipe: Recipe, folds: int, resume: str | bool | None) -> None:
    """Raise E307 for options that contradict folds."""
    data = recipe.data
    training = recipe.training
    if folds < 2:
        raise error("E307", where="folds", what=f"is {folds}, too few", fix="give 2 or more", detail="range")
    if resume not in (None, True, False, "auto"):
        raise _conflict("resume", f"{resume!r} is one checkpoint, but folds have several", "resume with auto")
    if data.test_fold is not None:
        raise _conflict("data.test_fold", "names one fold, but all are tested in turn", "leave it out")
    if data.test_fraction:
        what = f"is {data.test_fraction:g}, but each fold is the test split in turn"
        raise _conflict("data.test_fraction", what, "add --set data.test_fraction=0")
    if data.eval_splits not in (None, [TEST_SPLIT]):
        what = f"is {data.eval_splits}, but each run is tested on its fold"
        raise _conflict("data.eval_splits", what, "add --set data.eval_splits=null")
    if data.random_folds not in (None, folds):
        what = f"is {data.random_folds}, but folds is {folds}"
        raise _conflict("data.random_folds", what, "give the same number")
    if training.get("load_best_model_at_end"):
        what = "chooses an epoch, but the result of folds is the final one's"
        fix = "leave it out; the best epoch is reported too"
        raise _conflict("training.load_best_model_at_end", what, fix)
    if training.get("max_steps", -1) > 0:
        what = "counts steps, but folds are compared by epoch"
        raise _conflict("training.max_steps", what, "give num_train_epochs")
    if training.get("push_to_hub"):
        what = f"leaves open which of the {folds} models to publish"
        raise _conflict("training.push_to_hub", what, NO_PUSH)


def _conflict(option: str, what: str, fix: str) -> AstHfError:
    return error("E307", where=option, what=what, fix=fix, detail="conflict")


def _check_folder(root: Path, resume: str | bool | None) -> None:
    """Raise E306 for a folder with a run that this one does not resume."""
    where = repr(str(root))
    begun = sorted(path.name for path in root.glob("fold-*"))
    other_run = [path.name for path in (*checkpoints(root), root / RESULTS_FILE) if path.exists()]
    if resume is True and not begun:
        fix = "start without resuming, or resume with auto"
        raise error("E306", where=where, what="holds no folds to resume", fix=fix, detail="missing")
    fix = "choose another folder, or remove its files"
    if other_run:
        what = f"holds {other_run[0]} of an earlier run"
        raise error("E306", where=where, what=what, fix=fix, detail="exists")
    if begun and not resume:
        what = f"holds {begun[0]} of an earlier run"
        fix = f"continue with --resume auto, {fix}"
        raise error("E306", where=where, what=what, fix=fix, detail="exists")


def _name_folds(recipe: Recipe, count: int) -> tuple[Recipe, list[str], str]:
    """Return the recipe (with `random_folds` if the data have no folds), the fold names and their origin."""
    data = recipe.data
    splits = read_data(data, test_fold=None, check_files=False)
    columns = next(iter(splits.values())).column_names
    if data.random_folds is None and data.fold_column in columns:
        names = fold_names(splits, data.fold_column)
        if len(names) != count:
            listed = ", ".join(names[:10])
            what = f"{count}, but the column {data.fold_column!r} has {len(names)} folds: {listed}"
            fix = f"give {len(names)}, or draw folds with --set data.random_folds={count}"
            raise error("E307", where="folds", what=what, fix=fix, detail="data")
        return recipe, names, f"column {data.fold_column!r}"
    if data.random_folds is None:
        _check_fold_column(data, columns)
    check_splits(splits, data.train_split, [])
    if group := group_column(data) or data.group_pattern:
        origin = f"random, clips of one {group!r} in one fold"
    else:
        origin = "random, clip by clip (data.validation_group would put clips of one source into one fold)"
    origin += "".join(f"; split {name!r} is not used" for name in splits if name != data.train_split)
    return _change_data(recipe, random_folds=count), [str(number) for number in range(1, count + 1)], origin


def _without_stopping(recipe: Recipe) -> Recipe:
    """Return a recipe of the full length, without clips held out for `stopping` alone."""
    if not recipe.stopping.is_active:
        return recipe
    recipe = replace(recipe, stopping=StoppingOptions())
    if "eval_strategy" in recipe.training:
        return recipe
    if recipe.data.random_folds is not None:
        return _change_data(recipe, validation_fraction=0.0)
    return _change_data(recipe, validation_fraction=0.0, validation_group=None, group_pattern=None)


def _check_fold_column(data: DataOptions, columns: list[str]) -> None:
    """Raise E208 if the fold column was set but is missing, or seems to have another name."""
    near = next((name for name in columns if "fold" in name.lower()), None)
    if near is not None or data.fold_column != DataOptions().fold_column:
        what = f"has no column {data.fold_column!r}; its columns are {', '.join(columns)}"
        fix = f"set data.fold_column={near or 'NAME'} (--set), or draw folds with --set data.random_folds=5"
        raise error("E208", where=repr(data.source), what=what, fix=fix)


def _change_data(recipe: Recipe, **options: Any) -> Recipe:
    return replace(recipe, data=replace(recipe.data, **options))


def _plan_fold(
    recipe: Recipe, name: str, folder: Path, own: OwnCode, rehearsal: Rehearsal | None = None
) -> FoldPlan:
    """Return the run of a fold; read its splits now, to raise their errors before any fold is trained."""
    recipe = _change_data(recipe, test_fold=int(name) if name.isdecimal() else name)
    try:
        # every fold announces its own findings when it is trained
        rate = recipe.features.sampling_rate or SAMPLING_RATE
        reads_all = measures_statistics(recipe.features)  # as `finetune`, whose check then remembers this one
        prepared = PreparedFile(folder)
        check = Preflight(recipe.data, rate, folder.parent, prepared, reads_all=reads_all, is_main=False)
        if rehearsal is not None:
            check.writes = False
            check.unusable = rehearsal.unusable
        splits = read_splits(recipe.data, recipe.training.get("seed", TrainingArguments.seed), check)
    except AstHfError as problem:
        where = f"fold {name}: {problem.where}"
        raise error(
            problem.code, where=where, what=problem.what, fix=problem.fix, detail=problem.detail
        ) from problem
    sizes = (len(splits.evaluation[TEST_SPLIT]), len(splits.train))
    return FoldPlan(name, folder, recipe, sizes, check.findings["content"], own)


def _check_begun_recipe(root: Path, recipe: Recipe) -> None:
    """Raise E307 if the folds in a folder are those of another recipe."""
    begun = root / RECIPE_FILE
    if begun.exists() and any(root.glob("fold-*")):
        _check_same_options(load_recipe(begun).to_dict(), recipe.to_dict(), begun)


def _check_same_options(stored: dict[str, Any], current: dict[str, Any], path: Path) -> None:
    old = flatten_options(stored)
    new = flatten_options(current)
    defaults = flatten_options(Recipe().to_dict())  # of options that an older version lacked
    for name in {**old, **new}:
        before = old.get(name, defaults.get(name))
        if before != new.get(name):
            what = f"the folds began with {before!r}, and now it is {new.get(name)!r}"
            fix = "continue with the recipe they began with, or choose another folder"
            raise error("E307", where=f"{path}: {name}", what=what, fix=fix, detail="conflict")


def _read_finished(plan: FoldPlan) -> dict[str, Any] | None:
    """Return the results of a finished fold, or None; raise E306 or E307 if they are of another run."""
    file = plan.folder / RESULTS_FILE
    if not file.exists():
        return None
    where = repr(str(file))
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        recipe = results["recipe"]
        fold = Fold.from_results(plan.name, plan.folder.name, results)
    except (ValueError, KeyError, TypeError) as problem:
        what = f"was not written by a run ({type(problem).__name__}: {problem})"
        fix = "remove the folder of that fold"
        raise error("E306", where=where, what=what, fix=fix, detail="unreadable") from problem
    _check_same_options(recipe, plan.recipe.to_dict(), file)
    if (fold.clips, fold.training_clips) != plan.sizes:
        tested, trained = plan.sizes
        what = f"tested on {fold.clips} clips, trained on {fold.training_clips}; now {tested} and {trained}"
        fix = "the data changed: choose another folder"
        raise error("E306", where=where, what=what, fix=fix, detail="mismatch")
    content = (results.get("data_check") or {}).get("content", plan.content)  # older versions have none
    if content != plan.content:
        what = "is of other clips: their content, name, start or end changed"
        raise error("E306", where=where, what=what, fix="choose another folder", detail="mismatch")
    own_names = results.get("own_code") or {}
    if own_names != plan.own.names:
        what = (
            f"was trained with the own code {own_names or 'none'}, and now it is {plan.own.names or 'none'}"
        )
        fix = "continue with the augmentation and callbacks it began with, or choose another folder"
        raise error("E306", where=where, what=what, fix=fix, detail="mismatch")
    return results


def _run_fold(plan: FoldPlan, results: dict[str, Any] | None, report: Callable[[str], None]) -> Fold:
    """Train a fold, unless it is finished."""
    tested, trained = plan.sizes
    line = f"{plan.folder.name}: test fold {plan.name} ({tested} clips), trained on {trained}"
    report(line if results is None else f"{line}: is finished")
    if results is None:
        is_begun = bool(checkpoints(plan.folder) + checkpoints(staging_folder(plan.folder)))
        resume = "auto" if is_begun else None
        finished = finetune(
            plan.recipe,
            plan.folder,
            watch=TEST_SPLIT,
            resume_from_checkpoint=resume,
            overwrite=True,
            augment=plan.own.augmentation.augment,
            augment_spectrogram=plan.own.augmentation.augment_spectrogram,
            callbacks=plan.own.callbacks,
        )
        results = finished.to_dict()
        del finished
        gc.collect()  # a Trainer refers to itself, so its model would stay on the GPU during the next fold
    return Fold.from_results(plan.name, plan.folder.name, results)


def _write_results(results: CrossValidation) -> None:
    from ..reports.curves import draw_folds

    draw_folds(results, results.folder / PICTURE)
    write_text(results.folder / FOLDS_FILE, json.dumps(results.to_dict(), indent=2) + "\n")
