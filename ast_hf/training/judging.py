"""Verdict on a finished run: its results, its training loss and its log as the plain numbers of `reports.verdict`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..evaluation.comparison import compare, find_clip_groups
from ..label_order import model_labels
from ..recipe.recipe import Recipe
from ..reports.epoch_metrics import VALIDATION_PREFIX
from ..reports.run_results import Report, SplitResults
from ..reports.verdict import Verdict, judge
from ..reports.verdict_facts import Comparison, Learning
from ..task import Task
from .splits import Split, group_column
from .trainer import ASTTrainer

#: Share of the run, from its end, over which the final training loss is taken.
_LAST = 0.2


def judge_run(
    report: Report,
    trainer: ASTTrainer,
    splits: dict[str, SplitResults],
    answers: dict[str, np.ndarray],
    evaluated: dict[str, Split],
    history: list[dict[str, Any]],
) -> Verdict:
    """Return the verdict on a run.

    Args:
        report: results of the run.
        trainer: the run's.
        splits: results by evaluation split.
        answers: those of the baseline by split, see `baseline_answers`; empty if it was not measured.
        evaluated: the evaluation splits, for the groups of their clips.
        history: the Trainer's log.
    """
    comparisons = _compare(report, splits, answers, evaluated)
    return judge(report.metric, comparisons, _learning(report, trainer, history))


def _compare(
    report: Report,
    splits: dict[str, SplitResults],
    answers: dict[str, np.ndarray],
    evaluated: dict[str, Split],
) -> list[Comparison]:
    task = Task(report.config.problem_type)
    data = report.recipe.data
    column = group_column(data)
    comparisons = []
    for name, part in splits.items():
        if math.isnan(part.metrics[report.metric]):  # mAP without a label
            continue
        comparisons.append(
            compare(
                name,
                task,
                part.metrics[report.metric],
                part.logits,
                part.truth,
                labels=model_labels(report.config),
                baseline=answers.get(name),
                chance=report.chance.get(name),
                groups=find_clip_groups(evaluated[name], column, data.group_pattern),
            )
        )
    return comparisons


def _learning(report: Report, trainer: ASTTrainer, history: list[dict[str, Any]]) -> Learning:
    """Return how the training went; the watched split is the validation split, which chooses epochs."""
    recipe = report.recipe
    course = trainer.loss_course
    steps = trainer.state.global_step
    metric = f"{VALIDATION_PREFIX}_{report.metric}"
    loss = f"{VALIDATION_PREFIX}_loss"
    entries = [entry for entry in history if metric in entry]
    return Learning(
        steps=steps,
        epochs=report.epochs,
        loss=course.mean((1 - _LAST) * steps, steps) if course.clips else None,
        chance=course.chance,
        floor=course.floor,
        curve=[entry[metric] for entry in entries],
        losses=[entry[loss] for entry in entries if loss in entry],
        watched=next(iter(report.watched), "validation"),
        watched_clips=len(trainer.eval_dataset)
        if entries and hasattr(trainer.eval_dataset, "__len__")
        else 0,
        training_clips=report.training_labels,
        learning_rate=trainer.args.learning_rate,
        is_random=recipe.model.start == "random",
        has_stopping=trainer.args.load_best_model_at_end or recipe.stopping.is_active,
        is_augmented=_is_augmented(recipe),
        group=group_column(recipe.data) or recipe.data.group_pattern,
        has_max_steps=trainer.args.max_steps > 0,
        stopped_by=recipe.stopping.patience if steps < trainer.state.max_steps else None,
        is_balanced=recipe.sampling == "balanced",
        holds_out=recipe.data.validation_fraction > 0,
    )


def _is_augmented(recipe: Recipe) -> bool:
    """Return True if training clips are changed or mixed."""
    augmentation = recipe.augmentation
    changes = [
        augmentation.mixup_probability,
        augmentation.mixstyle_probability,
        augmentation.time_masks,
        augmentation.frequency_masks,
        len(augmentation.audiomentations),
    ]
    return any(changes)
