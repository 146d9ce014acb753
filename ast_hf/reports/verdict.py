"""Verdict on a run or an evaluation, in words: above or below the baseline, what went wrong, and what to try.

Everything here follows from the plain numbers of `verdict_facts`. Thresholds are choices of this project; each is
named and explained below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..metrics.loss_course import progress
from ..printing import printable
from .verdict_facts import Comparison, Learning

#: Share of the way from the loss of guessing to the lowest possible one below which a model has learned nothing. The
#: loss of a constant answer varies by less over a fifth of a run.
LEFT_CHANCE = 0.04
#: The same above which the training clips are fitted.
_FITTED = 0.5
#: The same above which they are fitted almost completely.
_LEARNED_BY_HEART = 0.9
#: Widest 95% interval of a metric that says something: 15 points on each side, about 40 clips.
_WIDEST = 0.3
#: Smallest change of a metric that a finding is made of.
_VISIBLE = 0.03
#: Distance of the test split from the validation split that points to a leak or another domain.
_LEAK = 0.1
#: Steps below which a run that learned nothing was too short, whatever else it was; and those of a short run.
_FEW_STEPS = 200
_SHORT_RUN = 2000
#: Training clips of a label below which it can hardly be learned.
_FEW_CLIPS = 10
#: Ratio of the most and the fewest training clips of a label from which balanced sampling may help.
_UNEVEN = 2
#: Metric from which there is nothing to gain by more training or more clips.
_SOLVED = 0.97
#: Findings beside the headline, and pieces of advice, at most.
_MAX_FINDINGS = 3
_MAX_ADVICE = 2

_TITLE = "logistic regression"
_OUTCOMES = {
    "above": f"Above the {_TITLE}",
    "below": f"The {_TITLE} is better",
    "even": f"Not distinguishable from the {_TITLE}",
}
_FIND_RATE = "search the learning rate: add --find-lr to the command"
_CHECK_LABELS = (
    "listen to some clips beside their labels; `ast-hf stats DATA` lists silent and contradictory ones"
)
_STOP = "--set stopping.patience=5 (keeps the best evaluation on the validation split)"
_KEEP_OUT = "hold clips out: --set data.validation_fraction=0.2, or cross-validate: --folds 5"


class Finding(NamedTuple):
    """One thing that stands out: its name, a sentence, and what to try."""

    name: str
    text: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A verdict in words.

    Attributes:
        headline: the comparison with the baseline, one line. It begins with the baseline's win if it wins.
        lines: what else stands out, the most important first, three at most.
        advice: what to try, in this order, two at most.
        outcome: `"above"`, `"below"`, `"even"` or `"none"` of the headline's split, see `Comparison.outcome`.
        split: the headline's split; None if nothing was evaluated.
        findings: names of `lines`, for programs: `at-chance`, `by-heart`, `small-split`, `leak`, `overfitting`,
            `too-short`, `never-predicted`, `few-clips`, `other-splits`.
        comparisons: the numbers of each split.
    """

    headline: str
    lines: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    outcome: str = "none"
    split: str | None = None
    findings: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def text(self) -> list[str]:
        """Return the lines to print: one to six."""
        return [self.headline, *self.lines, *(f"Try: {advice}." for advice in self.advice)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json."""
        return {
            "headline": self.headline,
            "lines": self.lines,
            "advice": self.advice,
            "outcome": self.outcome,
            "split": self.split,
            "findings": self.findings,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }


def judge(metric: str, comparisons: Sequence[Comparison], learning: Learning | None = None) -> Verdict:
    """Return the verdict on results, and on the training that led to them.

    Args:
        metric: name of the main metric, `"accuracy"` or `"mAP"`.
        comparisons: one for each evaluated split, in any order.
        learning: how the training went; None for an evaluation.
    """
    main = main_comparison(comparisons)
    found = _find(metric, comparisons, main, learning)
    shown = found[:_MAX_FINDINGS]
    advice = list(dict.fromkeys(line for finding in found for line in finding.advice))
    if main is None and learning is not None:
        advice.insert(0, _KEEP_OUT)
    is_solved = main is not None and main.value >= _SOLVED
    if main is not None and main.outcome in ("below", "even") and learning is not None and not is_solved:
        advice += [] if advice else _general_advice(learning)
    return Verdict(
        headline="Nothing was evaluated: no clips were held out." if main is None else headline(metric, main),
        lines=[finding.text for finding in shown],
        advice=advice[:_MAX_ADVICE],
        outcome="none" if main is None else main.outcome,
        split=None if main is None else main.split,
        findings=[finding.name for finding in shown],
        comparisons=sorted(comparisons, key=_rank),
    )


def main_comparison(comparisons: Sequence[Comparison]) -> Comparison | None:
    """Return the comparison to speak of: that of `test`, else the worst one; None without any."""
    ranked = sorted(comparisons, key=_rank)
    return next((one for one in ranked if one.split == "test"), ranked[0] if ranked else None)


def _rank(comparison: Comparison) -> tuple[float, float]:
    """Sort the worst split first: by its distance from the baseline, then by its value."""
    gain = comparison.gain
    return (math.inf if gain is None else gain, comparison.value)


# The first line


def headline(metric: str, comparison: Comparison) -> str:
    """Return the first line: the outcome, both numbers, and the interval that fits the number of clips."""
    place = f"on {printable(comparison.split)}"
    if comparison.baseline is None or comparison.difference is None:
        low, high = comparison.interval
        return (
            f"{metric} {comparison.value:.3f} {place} (95% interval {low:.2f} to {high:.2f}, {comparison.method}, "
            f"{comparison.clips} clips); without a baseline to compare with."
        )
    low, high = comparison.difference
    start = _OUTCOMES[comparison.outcome]
    below = ""
    if comparison.outcome == "even" and comparison.value < comparison.baseline:
        below = ", and below it"
    return (
        f"{start} {place}{below}: {metric} {comparison.value:.3f} of AST, {comparison.baseline:.3f} of the "
        f"regression; difference {comparison.value - comparison.baseline:+.3f}, 95% interval {low:+.3f} to "
        f"{high:+.3f} ({comparison.difference_method}, the same {comparison.clips} clips)."
    )


# What stands out


def _find(
    metric: str, comparisons: Sequence[Comparison], main: Comparison | None, learning: Learning | None
) -> list[Finding]:
    """Return the findings, the most important first."""
    is_solved = main is not None and main.value >= _SOLVED
    found: list[Finding | None] = []
    if learning is not None:
        found.append(_at_chance(learning) or _by_heart(metric, main, learning))
    if learning is not None and found == [None] and not is_solved:
        found.append(_too_short(metric, learning))
    if not any(found):
        found.append(_at_chance_elsewhere(metric, main))
    if main is not None:
        found.append(_small_split(metric, main))
    if learning is not None:
        found.append(_leak(metric, comparisons, learning))
    if learning is not None and not any(found[:2]) and not is_solved:
        found.append(_overfitting(metric, learning) or _gap(metric, main, learning))
    if main is not None:
        found.append(_never_predicted(main, learning))
    if learning is not None and not is_solved:
        found.append(_few_clips(learning))
    return [finding for finding in [*found, _others(metric, comparisons, main)] if finding is not None]


def _at_chance(learning: Learning) -> Finding | None:
    """Find a training loss that is still that of guessing at the end."""
    if learning.loss is None or _progress(learning) >= LEFT_CHANCE:
        return None
    text = (
        f"The training loss stayed at chance: {learning.loss:.3g} at the end, guessing has {learning.chance:.3g}. "
        "The model has learned nothing from these clips."
    )
    rate = f"search the learning rate ({learning.learning_rate:g} now): add --find-lr to the command"
    longer = _longer(learning, max(4, math.ceil(2 * _FEW_STEPS / max(learning.steps, 1))))
    if learning.steps < _FEW_STEPS:
        return Finding("at-chance", text, (f"{longer}: {learning.steps} steps are few", rate))
    return Finding("at-chance", text, (rate, _CHECK_LABELS))


def _by_heart(metric: str, main: Comparison | None, learning: Learning) -> Finding | None:
    """Find training clips that were learned by heart: their loss fell, other clips get chance results."""
    if main is None or learning.loss is None or not _is_at_chance(main) or _progress(learning) < _FITTED:
        return None
    text = (
        f"It learned the training clips by heart: their loss fell to {learning.loss:.3g} (guessing has "
        f"{learning.chance:.3g}), but {metric} on {printable(main.split)} is that of guessing ({main.chance:.3f})."
    )
    return Finding("by-heart", text, (_CHECK_LABELS, _more_data(learning)))


def _at_chance_elsewhere(metric: str, main: Comparison | None) -> Finding | None:
    """Find results that are those of guessing, whatever the training loss."""
    if main is None or not _is_at_chance(main):
        return None
    text = f"{metric} on {printable(main.split)} is that of guessing ({main.chance:.3f})."
    return Finding("at-chance", text, (_CHECK_LABELS,))


def _is_at_chance(comparison: Comparison) -> bool:
    """Return True if the interval of the metric has the chance value or is below it, and is not too wide to say."""
    low, high = comparison.interval
    return comparison.chance is not None and low <= comparison.chance and high - low <= 2 * _WIDEST


def _small_split(metric: str, main: Comparison) -> Finding | None:
    """Find a split that is too small to say anything."""
    low, high = main.interval
    if high - low <= _WIDEST:
        return None
    low, high = max(low, 0.0), min(high, 1.0)
    size = f"{main.clips} clips"
    if main.groups:
        size += f" of {main.groups} groups"
    where = printable(main.split)
    text = (
        f"{where} is too small to say much: from {size}, {metric} is anywhere from {low:.2f} to {high:.2f} "
        f"({main.method})."
    )
    return Finding("small-split", text, ("cross-validate, so that every clip is tested once: --folds 5",))


def _leak(metric: str, comparisons: Sequence[Comparison], learning: Learning) -> Finding | None:
    """Find a test split far below the validation split."""
    by_split = {comparison.split: comparison for comparison in comparisons}
    test = by_split.get("test")
    validation = by_split.get("validation")
    if test is None or validation is None or validation.value - test.value < _LEAK:
        return None
    if test.interval[1] >= validation.interval[0]:
        return None
    text = (
        f"test is far below validation ({metric} {test.value:.3f} and {validation.value:.3f}): clips of one speaker "
        "or recording are in both train and validation, or test is of another kind."
    )
    advice = "hold out whole speakers or recordings: --set data.validation_group=COLUMN"
    if learning.group is not None:
        advice = "listen to test clips; add training clips like them, or augment the others"
    return Finding("leak", text, (advice,))


def _overfitting(metric: str, learning: Learning) -> Finding | None:
    """Find a watched metric that was clearly better before the end, unless the best evaluation was kept."""
    curve = learning.curve
    if len(curve) < 4 or learning.has_stopping:
        return None
    best = max(curve)
    number = curve.index(best) + 1
    visible = max(_VISIBLE, 2 * _standard_error(best, learning.watched_clips))
    final = sum(curve[-2:]) / 2
    if best - final < visible or number > 0.8 * len(curve):
        return None
    text = (
        f"Overfitting: {metric} on {printable(learning.watched)} was {best:.3f} at evaluation {number} of "
        f"{len(curve)}, and {curve[-1]:.3f} at the end."
    )
    return Finding("overfitting", text, (_STOP, _more_data(learning)))


def _gap(metric: str, main: Comparison | None, learning: Learning) -> Finding | None:
    """Find training clips that are fitted almost completely beside a low result on other clips."""
    if main is None or learning.loss is None or _progress(learning) < _LEARNED_BY_HEART or main.value > 0.9:
        return None
    if main.outcome == "above" and main.value >= 0.7:
        return None
    text = (
        f"The training clips are fitted (loss {learning.loss:.3g}, guessing has {learning.chance:.3g}), the others "
        f"less: {metric} {main.value:.3f} on {printable(main.split)}."
    )
    return Finding("overfitting", text, (_more_data(learning),))


def _too_short(metric: str, learning: Learning) -> Finding | None:
    """Find a run that ended while it still learned: half of the way is missing, or the watched metric rose.

    A watched metric that was clearly better before the end is another finding, `_overfitting`.
    """
    if _overfitting(metric, learning) is not None:
        return None
    if learning.steps >= _SHORT_RUN and not _still_rises(learning):
        return None
    done = 1.0 if learning.loss is None else _progress(learning)
    if _still_rises(learning):
        earlier = _mean(learning.curve[-len(learning.curve) // 2 : -_tail(learning)])
        text = (
            f"Too short: {metric} on {printable(learning.watched)} still rose at the end, from {earlier:.3f} to "
            f"{learning.curve[-1]:.3f} in the second half of {learning.steps} steps."
        )
    elif done < _FITTED and not _is_flat(learning):
        text = (
            f"Too short: after {learning.steps} steps the training loss ({learning.loss:.3g}) is only {done:.0%} of "
            f"the way down from guessing ({learning.chance:.3g})."
        )
    else:
        return None
    return Finding("too-short", text, (_longer(learning, 4 if done < _FITTED / 2 else 2),))


def _still_rises(learning: Learning) -> bool:
    """Return True if the last quarter of the watched metric is visibly above the quarter before it, and is its best."""
    curve = learning.curve
    tail = _tail(learning)
    if len(curve) < 4 or max(curve) > max(curve[-tail:]):
        return False
    before = curve[-2 * tail : -tail]
    rise = _mean(curve[-tail:]) - _mean(before)
    return rise > max(_VISIBLE, _standard_error(curve[-1], learning.watched_clips))


def _is_flat(learning: Learning) -> bool:
    """Return True if the watched metric was measured, and is not visibly better than in the middle of the run."""
    curve = learning.curve
    tail = _tail(learning)
    return len(curve) >= 4 and _mean(curve[-tail:]) - _mean(curve[-3 * tail : -2 * tail]) < _VISIBLE


def _tail(learning: Learning) -> int:
    return max(len(learning.curve) // 4, 1)


def _never_predicted(main: Comparison, learning: Learning | None) -> Finding | None:
    """Find labels with clips that are never the answer."""
    if not main.never:
        return None
    names = ", ".join(repr(printable(label)) for label in main.never[:3])
    more = f" and {len(main.never) - 3} more labels" if len(main.never) > 3 else ""
    text = f"Never the answer on {printable(main.split)}, although it has clips there: {names}{more}."
    counts = [] if learning is None else list(learning.training_clips.values())
    if not counts or max(counts) < _UNEVEN * min(counts):
        return Finding("never-predicted", text)
    return Finding("never-predicted", text, ("draw rare labels more often: --set sampling=balanced",))


def _few_clips(learning: Learning) -> Finding | None:
    """Find labels with too few training clips."""
    few = {label: count for label, count in learning.training_clips.items() if count < _FEW_CLIPS}
    if not few:
        return None
    label = min(few, key=lambda name: few[name])
    more = f", and {len(few)} of {len(learning.training_clips)} labels have fewer than {_FEW_CLIPS}"
    text = f"Few clips: {few[label]} training clips of {printable(label)!r}{more if len(few) > 1 else ''}."
    return Finding("few-clips", text, ("add training clips of the labels that have the fewest",))


def _others(metric: str, comparisons: Sequence[Comparison], main: Comparison | None) -> Finding | None:
    """Return the results on the splits besides the main one, the worst first."""
    others = [one for one in sorted(comparisons, key=_rank) if one is not main]
    if not others:
        return None
    parts = []
    for one in others[:3]:
        beside = f" ({_short(one)})" if one.baseline is not None else ""
        parts.append(f"{metric} {one.value:.3f} on {printable(one.split)}{beside}")
    return Finding("other-splits", "; ".join(parts) + ".")


def _short(comparison: Comparison) -> str:
    names = {"above": "above", "below": "below", "even": "not distinguishable from"}
    return f"{names.get(comparison.outcome, 'beside')} the regression's {comparison.baseline:.3f}"


# What to try


def _longer(learning: Learning, factor: int) -> str:
    """Return the option that trains `factor` times as long."""
    if learning.epochs is None:
        return f"train longer: --set training.max_steps={factor * learning.steps}"
    epochs = max(math.ceil(factor * learning.epochs), 1)
    return f"train longer: --set training.num_train_epochs={epochs}"


def _more_data(learning: Learning) -> str:
    """Return advice against a fit of the training clips alone."""
    if not learning.is_augmented:
        return "augment the clips: --set augmentation.mixup_probability=0.5"
    if learning.is_random:
        return "start from trained weights: --base CHECKPOINT, or --vit facebook/dinov2-small"
    return "add training clips, from other speakers or recordings"


def _general_advice(learning: Learning) -> list[str]:
    """Return what to try for a result at or below the baseline that no finding explains."""
    start = "start from trained weights: --base CHECKPOINT, or --vit facebook/dinov2-small"
    first = [start] if learning.is_random else []
    return [*first, _FIND_RATE, _longer(learning, 2)]


def _progress(learning: Learning) -> float:
    return progress(learning.loss or 0.0, learning.chance, learning.floor)


def _standard_error(value: float, clips: int) -> float:
    """Return the standard error of a share of `clips`; 0 for unknown numbers of clips."""
    return math.sqrt(max(value * (1 - value), 0.0) / clips) if clips else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
