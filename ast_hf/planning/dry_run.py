"""Dry run: what `finetune` would do with a recipe, and every error that it would raise before the first step."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..data.splits import label_counts, label_lists, label_names
from ..inputs.clip_checks import BadClip, remembered_checks
from ..inputs.clips import ClipInputs
from ..inputs.own_augmentation import SpectrogramFunction, WaveformFunction
from ..recipe.arguments import weight_arguments
from ..recipe.recipe import Recipe
from ..reports.fold_results import TEST_SPLIT
from ..task import Task
from ..training.building import Inputs, measures_statistics
from ..training.checkpoints.folder_lock import check_free
from ..training.checkpoints.resuming import find_resumable, steps_done
from ..training.checkpoints.run_options import check_options
from ..training.checkpoints.sealing import checkpoints
from ..training.cross_validation import PlannedFolds, plan_folds
from ..training.disk_space import run_bytes
from ..training.float8 import run_precision
from ..training.own_code import Callback, own_code
from ..training.preparing import Rehearsal, Run, rehearse
from ..training.run_checks import check_hub_request
from ..writing_failures import check_space
from .estimates import Estimate, estimate, kept_bytes
from .extent import Extent, measure_extent
from .rate_curve import learning_rates
from .run_plan import FoldsPlan, RunPlan, SplitPlan
from .speed import measure_speed

__all__ = ["plan_cross_validation", "plan_run"]

#: Files of a finished run, besides those of its model.
_RESULTS = ("README.md", "results.json", "recipe.yaml", "curves.png", "model.safetensors", "config.json")


def plan_run(
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
    estimates: bool = True,
    on_unusable: Callable[[BadClip], None] | None = None,
    began: float | None = None,
) -> RunPlan:
    """Return what `finetune` would do with these arguments; nothing is written, trained or sent.

    It reads the headers of all clips, as the run's check does (`data.check: full` decodes them), and decodes two
    batches to measure time and memory. Mean and std are not measured.

    Args:
        recipe: as for `finetune`.
        output_dir: as for `finetune`; it is not created.
        resume_from_checkpoint: as for `finetune`; `"hub"` is not asked.
        watch: as for `finetune`.
        push_to_hub: as for `finetune`; the account is checked as far as that is possible without a request.
        hub_model_id: as for `finetune`.
        overwrite: as for `finetune`.
        augment: as for `finetune`.
        augment_spectrogram: as for `finetune`.
        callbacks: as for `finetune`; they are not called.
        estimates: measure time and memory by real steps. It takes from two to about 40 s.
        on_unusable: called with each clip that cannot be used, also before an error.
        began: `time.monotonic()` at the start of the program, whose seconds are part of the estimate; None for now.

    Raises:
        AstHfError: as `finetune` before its first step, except for what only decoding all clips shows.
    """
    began = time.monotonic() if began is None else began
    root = Path(output_dir)
    own = own_code(augment, augment_spectrogram, callbacks)
    check_free(root)
    checkpoint = find_resumable(resume_from_checkpoint, root, overwrite=overwrite)
    check_hub_request(recipe, resume_from_checkpoint, named=push_to_hub or hub_model_id is not None)
    hub = {"push_to_hub": push_to_hub, "hub_model_id": hub_model_id}
    with tempfile.TemporaryDirectory(prefix="ast_hf-dry-run-") as folder:
        rehearsal = Rehearsal(Path(folder), resumes=checkpoint is not None)
        try:
            run = rehearse(
                recipe,
                root,
                rehearsal,
                watch=watch,
                overwrite=overwrite,
                resume_from_checkpoint=resume_from_checkpoint,
                own=own,
                **hub,
            )
        finally:
            _report(rehearsal.unusable, on_unusable)
        preparing = time.monotonic() - began
        plan = _describe(run, root, checkpoint, rehearsal, publishes=_publishes(recipe, push_to_hub))
        _check_room(run, root, plan)
        if checkpoint is not None and run.trainer.decided is not None:
            is_explicit = resume_from_checkpoint not in (True, "auto")
            plan.changes = check_options(checkpoint, run.trainer.decided, is_explicit=is_explicit)
        if estimates:
            plan.estimate = _estimate(run, recipe, preparing, plan.steps_left / max(plan.extent.steps, 1))
        del run
        gc.collect()  # a Trainer refers to itself
    return plan


def plan_cross_validation(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    folds: int = 5,
    resume: str | bool | None = None,
    estimates: bool = True,
    on_unusable: Callable[[BadClip], None] | None = None,
    began: float | None = None,
) -> FoldsPlan:
    """Return what `cross_validate` would do with these arguments; nothing is written or trained.

    The plan of the first fold that is not finished stands for all.

    Args:
        recipe: as for `cross_validate`.
        output_dir: as for `cross_validate`.
        folds: as for `cross_validate`.
        resume: as for `cross_validate`.
        estimates: as for `plan_run`.
        on_unusable: as for `plan_run`.
        began: as for `plan_run`.

    Raises:
        AstHfError: as `cross_validate` before its first step.
    """
    root = Path(output_dir)
    check_free(root)
    with tempfile.TemporaryDirectory(prefix="ast_hf-dry-run-") as folder, remembered_checks():
        rehearsal = Rehearsal(Path(folder))
        try:
            planned = plan_folds(recipe, root, folds, resume, rehearsal=rehearsal)
        finally:
            _report(rehearsal.unusable, on_unusable)
        return _plan_folds(planned, root, estimates=estimates, began=began)


def _plan_folds(planned: PlannedFolds, root: Path, *, estimates: bool, began: float | None) -> FoldsPlan:
    for fold in planned.plans:
        check_free(fold.folder)
    sizes = {fold.name: fold.sizes for fold in planned.plans}
    finished = [fold.name for fold in planned.plans if planned.finished[fold.name] is not None]
    waiting = [fold for fold in planned.plans if planned.finished[fold.name] is None]
    first = None
    if waiting:
        begun = bool(checkpoints(waiting[0].folder))
        first = plan_run(
            waiting[0].recipe,
            waiting[0].folder,
            resume_from_checkpoint="auto" if begun else None,
            watch=TEST_SPLIT,
            overwrite=True,
            estimates=estimates,
            began=began,
        )
    return FoldsPlan(str(root), planned.origin, sizes, finished, first)


def _report(clips: Sequence[BadClip], call: Callable[[BadClip], None] | None) -> None:
    """Call a function, if there is one, with each clip."""
    if call is not None:
        for clip in clips:
            call(clip)


def _publishes(recipe: Recipe, push_to_hub: bool) -> bool:
    return push_to_hub or bool(recipe.training.get("push_to_hub"))


def _describe(
    run: Run, root: Path, checkpoint: Path | None, rehearsal: Rehearsal, *, publishes: bool
) -> RunPlan:
    trainer = run.trainer
    arguments = trainer.args
    extent = measure_extent(run)
    done = 0 if checkpoint is None else steps_done(checkpoint)
    warmup = arguments.get_warmup_steps(extent.steps)
    names = label_names(run.train.split)
    return RunPlan(
        output=str(root),
        source=run.recipe.data.source,
        start=_start(run.recipe),
        task=Task(trainer.model.config.problem_type).value,
        splits=_splits(run),
        labels=_label_counts(run, names),
        unusable=[clip.to_dict() for clip in rehearsal.unusable],
        findings=run.findings,
        extent=extent,
        continues_from=None if checkpoint is None else str(checkpoint),
        steps_done=min(done, extent.steps),
        learning_rates=learning_rates(trainer, extent, warmup),
        batch_size=arguments.train_batch_size,
        accumulation=arguments.gradient_accumulation_steps,
        processes=arguments.world_size,
        device=str(arguments.device),
        precision=run_precision(arguments, trainer.model),
        features_on=trainer.features_on,
        parameters=trainer.model.num_parameters(),
        trained_parameters=trainer.model.num_parameters(only_trainable=True),
        window=round(run.train.extractor.max_length / 100, 2),
        measures_statistics=measures_statistics(run.recipe.features),
        writes=_written(run, extent),
        overwrites=[name for name in _RESULTS if (root / name).exists()] if checkpoint is None else [],
        publishes_to=_repository(run, root) if publishes else None,
        settings=weight_arguments(arguments, run.recipe.optimization),
        stopping=_stopping(run),
        stores=[str(plan) for plan in run.stores],
    )


def _stopping(run: Run) -> str:
    """Return what the evaluations while training decide, in words."""
    if run.trainer.best is None:
        return ""
    patience = run.recipe.stopping.patience
    end = "" if patience is None else f", and {patience} in a row without improvement end the run"
    has_rule = bool(run.recipe.stopping.standard_errors)
    kept = "the latest one about as good as the best" if has_rule else "the best one"
    return f"; the weights of {kept} are kept{end}"


def _start(recipe: Recipe) -> str:
    """Return what the weights start from, in words."""
    start = {
        "base": f"the checkpoint {recipe.model.base}",
        "vit": f"the image transformer {recipe.model.vit}",
    }
    text = start.get(recipe.model.start, "random weights")
    if recipe.adapter.rank:
        text += f", with an adapter of rank {recipe.adapter.rank}"
    if recipe.distillation.source:
        text += f", with a teacher ({recipe.distillation.source})"
    return text


def _repository(run: Run, root: Path) -> str:
    return run.trainer.args.hub_model_id or root.absolute().name


def _written(run: Run, extent: Extent) -> list[str]:
    """Return what the run writes into its folder, in words."""
    files = ["model.safetensors, config.json and preprocessor_config.json", "README.md (card), results.json"]
    is_single = Task(run.trainer.model.config.problem_type) is Task.SINGLE_LABEL
    files.append(f"curves.png, {'confusion.png, ' if is_single and run.evaluation else ''}recipe.yaml")
    kept = run.trainer.args.save_total_limit
    if run.trainer.args.save_strategy != "no":
        files.append(
            f"training checkpoints: {extent.saves}, of which {min(kept or extent.saves, extent.saves)} stay"
        )
    if run.recipe.adapter.rank:
        files.append("adapter/ (the adapter alone)")
    if run.recipe.card.samples:
        files.append(f"samples/ ({len(run.recipe.card.samples)} recordings)")
    return files


def _splits(run: Run) -> dict[str, SplitPlan]:
    """Return the splits of a run by name: to train on, to evaluate while training, to report on."""
    roles: dict[str, tuple[Inputs, list[str]]] = {}
    training = run.train.name or "train"
    roles[training] = (run.train, ["training"])
    validation: Any = run.trainer.eval_dataset
    evaluated = dict(run.evaluation)
    if validation is not None:
        name = next((name for name, inputs in evaluated.items() if inputs is validation), "validation")
        watched = measure_extent(run).evaluations > 0
        roles[name] = (validation, ["evaluated while training"] if watched else [])
    for name, inputs in evaluated.items():
        roles.setdefault(name, (inputs, []))[1].append("evaluated at the end")
    sound = run.findings.get("sound") or {}
    held_out = run.recipe.data.validation_group
    plans = {}
    for name, (inputs, uses) in roles.items():
        values = sound.get(name) or (sound.get("train") if inputs is run.train else None)
        plans[name] = SplitPlan(
            uses=uses,
            clips=len(inputs) if isinstance(inputs, ClipInputs) else None,
            sound=values,
            groups=_groups(inputs, held_out),
        )
    return plans


def _groups(inputs: Inputs, column: str | None) -> list[str]:
    """Return the values of the column that clips are held out by, in a split."""
    if column is None or not isinstance(inputs.split, Dataset) or column not in inputs.split.column_names:
        return []
    return sorted({str(value) for value in inputs.split[column]})


def _label_counts(run: Run, names: list[str]) -> dict[str, dict[str, int]]:
    """Return the number of clips by label name and split; splits of a stream are left out."""
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    splits: dict[str, Inputs] = {run.train.name or "train": run.train, **run.evaluation}
    for split, inputs in splits.items():
        if not isinstance(inputs.split, Dataset):
            continue
        found = label_counts(inputs.split) if label_lists(inputs.split) else {}
        for index, name in enumerate(label_names(inputs.split)):
            counts.setdefault(name, {})[split] = int(found[index])
    return counts


def _check_room(run: Run, root: Path, plan: RunPlan) -> None:
    """Raise E401 as the run would before its first step, if the disk has too little room."""
    checkpoint, weights = kept_bytes(run)
    left = plan.extent.saves
    if plan.extent.steps:
        left = -(-plan.extent.saves * plan.steps_left // plan.extent.steps)
    needed = run_bytes(
        checkpoint,
        weights,
        saves=left,
        limit=run.trainer.args.save_total_limit,
        existing=len(checkpoints(root)),
    )
    what = f"the finished model, with checkpoints to come ({left})," if left else "the finished model"
    check_space(root, needed, what=what)


def _estimate(run: Run, recipe: Recipe, preparing: float, share: float) -> Estimate:
    speed = measure_speed(run)
    return estimate(
        run, speed, preparing=preparing, statistics=measures_statistics(recipe.features), share=share
    )
