"""Cross-validation: a recipe trained once for each fold, tested on that fold, with mean and spread over the folds.

    found = cross_validate(load_recipe("examples/recipes/esc50.yaml"), "outputs/esc50", folds=5)
    print(found.final.mean, found.final.standard_deviation)

The result is that of the final epoch. The best epoch is told beside it as what it is: chosen on the clips that it is
tested on.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..data.reading import check_splits, fold_names
from ..errors import AstHfError, error, refuse
from ..files import write_text
from ..processes import is_main_process
from ..recipe.options import DataOptions, Recipe, load_recipe
from ..reports.fold_results import TEST_SPLIT, CrossValidation, Fold
from .checkpoints.continuity import flat
from .checkpoints.sealing import checkpoints, staging_folder
from .finetuning import finetune
from .splits import read_data, read_splits
from .writing import RESULTS_FILE

FOLDS_FILE, PICTURE, RECIPE_FILE = "folds.json", "folds.png", "folds.yaml"


@dataclass(frozen=True)
class _Plan:
    """What is to be done for a fold, and how many clips it has: (tested, trained on)."""

    name: str
    folder: Path
    recipe: Recipe
    sizes: tuple[int, int]


def cross_validate(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    folds: int = 5,
    resume: str | bool | None = None,
    tell: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Train a recipe once for each fold, on the other folds, and test it on that fold after each epoch.

    The folds are those of the column `data.fold_column`. Data without such a column get random ones, as
    `data.random_folds` describes. What the test fold says steers nothing: the weights are those of a run without it.

    Args:
        recipe: what to do; `data.test_fold` is set for each fold.
        output_dir: for `fold-1`, `fold-2`, ... (each as `finetune` leaves it), folds.json, folds.png and the recipe,
            folds.yaml.
        folds: how many there are.
        resume: True to go on with what is in `output_dir`: folds that are finished are kept, one that was interrupted
            goes on from its newest whole checkpoint; `"auto"` for the same, or a fresh start where nothing is there.
        tell: is given a line of text for each fold, such as `print`; only in the first of several processes.

    Returns:
        What was found. Under several processes all get the same but the baseline, which the first one measures; that
        one writes the files.

    Raises:
        AstHfError: before the first training step: E307 for a recipe that folds contradict, for another number of
            folds than the data have, and for another recipe than the one `output_dir` began with; E208 for columns,
            E209 for folds that lack clips or a class; E306 for an `output_dir` that holds another run, or nothing to
            resume. While training, as `finetune`.
    """
    root = Path(output_dir)
    _check_request(recipe, folds, resume)
    _check_folder(root, resume)
    recipe, names, origin = _named_folds(recipe, folds)
    plans = [_plan(recipe, name, root / f"fold-{number}") for number, name in enumerate(names, start=1)]
    _check_begun(root, recipe)
    done = {plan.name: _finished(plan) for plan in plans}
    if is_main_process():
        root.mkdir(parents=True, exist_ok=True)
        write_text(root / RECIPE_FILE, recipe.to_yaml())
    tell = tell if is_main_process() else None
    _say(tell, f"{len(plans)} folds: {origin}")
    runs = [_run(plan, done[plan.name], tell) for plan in plans]
    found = CrossValidation(recipe, root, origin, runs)
    if is_main_process():
        _write(found)
    return found


def _say(tell: Callable[[str], None] | None, text: str) -> None:
    if tell is not None:
        tell(text)


def _check_request(recipe: Recipe, folds: int, resume: str | bool | None) -> None:
    """Raise E307 for what contradicts folds."""
    data, training = recipe.data, recipe.training
    cases: dict[tuple[str, str, str], object] = {
        ("folds", f"{folds} is no number of folds", "give 2 or more"): folds < 2,
        ("resume", f"{resume!r} is one checkpoint, and folds have several", "resume with auto"): (
            resume not in (None, True, False, "auto")
        ),
        ("data.test_fold", "names one fold, but all of them are tested on in turn", "leave it out"): (
            data.test_fold is not None
        ),
        (
            "data.eval_splits",
            f"is {data.eval_splits}, but each run is tested on its fold",
            "add --set data.eval_splits=null",
        ): data.eval_splits not in (None, [TEST_SPLIT]),
        ("data.random_folds", f"is {data.random_folds}, but folds is {folds}", "give the same number"): (
            data.random_folds not in (None, folds)
        ),
        (
            "training.load_best_model_at_end",
            "chooses an epoch, but the result of folds is the final one's",
            "leave it out; the best epoch is told too",
        ): bool(training.get("load_best_model_at_end")),
        ("training.max_steps", "counts steps, but folds are compared by epoch", "give num_train_epochs"): (
            training.get("max_steps", -1) > 0
        ),
        ("training.push_to_hub", f"cannot tell which of the {folds} models to publish", NO_PUSH): bool(
            training.get("push_to_hub")
        ),
    }
    refuse("E307", cases)


#: What to do instead of publishing one model of several.
NO_PUSH = "train on all clips without folds and publish that, or upload the folder of one fold"


def _check_folder(root: Path, resume: str | bool | None) -> None:
    """Raise E306 for a folder that holds a run that this one does not go on with."""
    begun = sorted(path.name for path in root.glob("fold-*"))
    other = [path.name for path in (*checkpoints(root), root / RESULTS_FILE) if path.exists()]
    if resume is True and not begun:
        fix = "start without resuming, or resume with auto"
        raise error("E306", where=repr(str(root)), what="holds no folds to go on with", fix=fix)
    if other or (begun and not resume):
        what = f"holds {(other or begun)[0]} of an earlier run"
        fix = "choose another folder, or remove what is there"
        fix = fix if other else f"go on with --resume auto, {fix}"
        raise error("E306", where=repr(str(root)), what=what, fix=fix)


def _named_folds(recipe: Recipe, count: int) -> tuple[Recipe, list[str], str]:
    """The recipe, with random folds where the data have none of their own; the folds' names; where they come from."""
    data = recipe.data
    splits = read_data(data, test_fold=None)
    columns = next(iter(splits.values())).column_names
    if data.random_folds is None and data.fold_column in columns:
        names = fold_names(splits, data.fold_column)
        if len(names) != count:
            what = f"{count}, but the column {data.fold_column!r} has {len(names)} folds: {', '.join(names[:10])}"
            fix = f"give {len(names)}, or draw folds with --set data.random_folds={count}"
            raise error("E307", where="folds", what=what, fix=fix)
        return recipe, names, f"column {data.fold_column!r}"
    if data.random_folds is None:
        _check_column_is_meant(data, columns)
    check_splits(splits, data.train_split, [])
    unused = "".join(f"; split {name!r} is left alone" for name in splits if name != data.train_split)
    return _with(recipe, random_folds=count), [str(number) for number in range(1, count + 1)], _drawn(data) + unused


def _drawn(data: DataOptions) -> str:
    """How random folds come about, in words."""
    if data.validation_group:
        return f"random, clips of one {data.validation_group!r} kept together"
    return "random, clip by clip (data.validation_group would keep clips of one source together)"


def _check_column_is_meant(data: DataOptions, columns: list[str]) -> None:
    """Raise E208 where a column of folds was named that there is not, or one seems to have another name."""
    near = next((name for name in columns if "fold" in name.lower()), None)
    if near is not None or data.fold_column != DataOptions().fold_column:
        what = f"has no column {data.fold_column!r}; its columns are {', '.join(columns)}"
        fix = f"name it with --set data.fold_column={near or 'NAME'}, or draw folds with --set data.random_folds=5"
        raise error("E208", where=repr(data.source), what=what, fix=fix)


def _with(recipe: Recipe, **data: Any) -> Recipe:
    return replace(recipe, data=replace(recipe.data, **data))


def _plan(recipe: Recipe, name: str, folder: Path) -> _Plan:
    """A fold's run; raises now what reading its splits would raise when its turn comes."""
    own = _with(recipe, test_fold=int(name) if name.isdecimal() else name)
    try:
        train, _, evaluation = read_splits(own.data, recipe.training.get("seed", TrainingArguments.seed))
    except AstHfError as problem:
        where = f"fold {name}: {problem.where}"
        raise error(problem.code, where=where, what=problem.what, fix=problem.fix) from problem
    return _Plan(name, folder, own, (len(evaluation[TEST_SPLIT]), len(train)))


def _check_begun(root: Path, recipe: Recipe) -> None:
    """Raise E307 when the folds in a folder are those of another recipe."""
    begun = root / RECIPE_FILE
    if begun.exists() and any(root.glob("fold-*")):
        _check_same(load_recipe(begun).to_dict(), recipe.to_dict(), begun)


def _check_same(began: dict[str, Any], now: dict[str, Any], where: Path) -> None:
    old, new = flat(began), flat(now)
    name = next((name for name in {**old, **new} if old.get(name) != new.get(name)), None)
    if name is not None:
        what = f"the folds began with {old.get(name)!r}, and now it is {new.get(name)!r}"
        fix = "go on with the recipe they began with, or choose another folder"
        raise error("E307", where=f"{where}: {name}", what=what, fix=fix)


def _finished(plan: _Plan) -> dict[str, Any] | None:
    """The results of a fold that is complete, None for one that is not; raises for one that does not belong here."""
    file = plan.folder / RESULTS_FILE
    if not file.exists():
        return None
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        recipe, sizes = results["recipe"], (results["clips"][TEST_SPLIT], results["training_clips"])
        Fold.from_results(plan.name, plan.folder.name, results)
    except (ValueError, KeyError, TypeError) as problem:
        what = f"is not what a run leaves there ({type(problem).__name__}: {problem})"
        raise error("E306", where=repr(str(file)), what=what, fix="remove the folder of that fold") from problem
    _check_same(recipe, plan.recipe.to_dict(), file)
    if sizes != plan.sizes:
        what = f"tested on {sizes[0]} clips, trained on {sizes[1]}; now they are {plan.sizes[0]} and {plan.sizes[1]}"
        raise error("E306", where=repr(str(file)), what=what, fix="the data changed: choose another folder")
    return results


def _run(plan: _Plan, finished: dict[str, Any] | None, tell: Callable[[str], None] | None) -> Fold:
    tested, trained = plan.sizes
    _say(
        tell,
        f"{plan.folder.name}: test fold {plan.name} ({tested} clips), trained on {trained}"
        + ("" if finished is None else ": is finished"),
    )
    if finished is None:
        begun = checkpoints(plan.folder) + checkpoints(staging_folder(plan.folder))
        resume = "auto" if begun else None
        report = finetune(plan.recipe, plan.folder, watch=TEST_SPLIT, resume_from_checkpoint=resume, overwrite=True)
        finished = report.to_dict()
        del report
        gc.collect()  # a Trainer refers to itself, so its model would stay on the GPU beside the next fold's
    return Fold.from_results(plan.name, plan.folder.name, finished)


def _write(found: CrossValidation) -> None:
    """The picture, then folds.json."""
    from ..reports.curves import draw_folds

    draw_folds(found, found.folder / PICTURE)
    write_text(found.folder / FOLDS_FILE, json.dumps(found.to_dict(), indent=2) + "\n")
