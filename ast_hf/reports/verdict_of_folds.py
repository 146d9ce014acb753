"""Verdict on a cross-validation: the clips of all folds beside the baseline, each tested once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..metrics.intervals import Difference, fold_difference, mcnemar_difference
from .advice import AUGMENT, BALANCE, CHECK_LABELS, MORE_RARE_CLIPS
from .verdict import Verdict, judge
from .verdict_facts import Comparison

#: Name of the clips of all folds, in sentences.
_ALL_FOLDS = "the test folds"
#: Finding in the runs of folds -> the words for it, and what to try. Others say nothing about all folds.
_FINDINGS = {
    "at-chance": (
        "the model learned nothing",
        "search the learning rate with one fold as the test (--find-lr --set data.test_fold=FOLD)",
    ),
    "by-heart": (
        "the training clips were learned by heart",
        CHECK_LABELS,
    ),
    "overfitting": (
        "the training clips were fitted much better than others",
        AUGMENT,
    ),
    "too-short": (
        "the run ended while it still learned",
        "train longer (--set training.num_train_epochs={epochs})",
    ),
    "never-predicted": (
        "some labels were never predicted",
        BALANCE,
    ),
    "few-clips": (
        "some labels have few training clips",
        MORE_RARE_CLIPS,
    ),
}
_MAX = 2


def judge_folds(
    metric: str,
    *,
    values: Sequence[float],
    baselines: Sequence[float] | None,
    comparisons: Sequence[Comparison | None],
    findings: Sequence[Sequence[str]],
    clips: int,
    epochs: int,
) -> Verdict:
    """Return the verdict on the final epochs of all folds.

    Accuracies are compared clip by clip over all folds (McNemar), mAP and clips of groups by the difference of each
    fold (`fold_difference`), the latter not more narrowly than by McNemar.

    Args:
        metric: name of the main metric.
        values: main metric of each fold.
        baselines: that of the baseline; None if it was not measured.
        comparisons: of each fold's test split; None where results are older.
        findings: names of what stood out in each fold.
        clips: number of test clips in all folds.
        epochs: of each fold.
    """
    overall = _overall(values, baselines, [one for one in comparisons if one is not None], clips)
    verdict = judge(metric, [overall])
    lines, advice, names = _frequent(findings, epochs)
    return Verdict(
        headline=verdict.headline,
        lines=lines,
        advice=advice,
        outcome=verdict.outcome,
        split=verdict.split,
        findings=names,
        comparisons=verdict.comparisons,
    )


def _overall(
    values: Sequence[float], baselines: Sequence[float] | None, known: list[Comparison], clips: int
) -> Comparison:
    """Return the comparison over all folds; the metric is the mean over folds, as in the table."""
    spread = fold_difference(list(values))
    difference = None if baselines is None else _difference(values, baselines, known, clips)
    mean = sum(values) / len(values)
    groups = sum(one.groups for one in known)
    return Comparison(
        split=_ALL_FOLDS,
        clips=clips,
        value=mean,
        interval=(max(spread.interval.low, 0.0), min(spread.interval.high, 1.0)),
        method=spread.interval.method,
        baseline=None if baselines is None else sum(baselines) / len(baselines),
        difference=None if difference is None else (difference.interval.low, difference.interval.high),
        difference_method="" if difference is None else difference.interval.method,
        model_only=None if difference is None else difference.first_only,
        baseline_only=None if difference is None else difference.second_only,
        groups=groups,
    )


def _difference(
    values: Sequence[float], baselines: Sequence[float], known: list[Comparison], clips: int
) -> Difference:
    counts = [(one.model_only, one.baseline_only) for one in known]
    wins = [won for won, _ in counts if won is not None]
    losses = [lost for _, lost in counts if lost is not None]
    by_fold = fold_difference([value - other for value, other in zip(values, baselines, strict=True)])
    if not len(wins) == len(values) == len(losses):
        return by_fold
    by_clip = mcnemar_difference(sum(wins), sum(losses), clips)
    if not any(one.groups for one in known):
        return by_clip
    interval = by_fold.interval.widened(by_clip.interval).within(-1, 1)
    return Difference(by_fold.value, interval, by_clip.first_only, by_clip.second_only)


def _frequent(findings: Sequence[Sequence[str]], epochs: int) -> tuple[list[str], list[str], list[str]]:
    """Return sentences, advice and names of what stood out in half of the folds at least."""
    counts = Counter(name for names in findings for name in set(names) if name in _FINDINGS)
    order = list(_FINDINGS)
    often = sorted((name for name in counts if 2 * counts[name] >= len(findings)), key=order.index)[:_MAX]
    lines = [f"In {counts[name]} of {len(findings)} folds {_FINDINGS[name][0]}." for name in often]
    return lines, [_FINDINGS[name][1].format(epochs=2 * epochs) for name in often], often
