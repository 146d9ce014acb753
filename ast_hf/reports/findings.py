"""Findings of a verdict: what stands out in results and in the training that led to them, and what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..metrics.loss_course import LEFT_CHANCE, progress
from ..printing import printable
from .advice import (
    BALANCE,
    CHECK_LABELS,
    CROSS_VALIDATE,
    FIND_RATE,
    HOLD_OUT,
    MORE_RARE_CLIPS,
    MORE_TEST_CLIPS,
    STOP,
    is_unusual,
    longer,
    more_data,
    other_splits,
)
from .verdict_facts import Comparison, Learning

#: Metric from which there is nothing to gain by more training or more clips.
SOLVED = 0.97
#: Share of the way from the loss of guessing to the lowest possible one above which the training clips are fitted.
_FITTED = 0.5
#: The same above which they are fitted almost completely.
_LEARNED_BY_HEART = 0.9
#: Widest 95% interval of a metric that says something: 15 points on each side, about 40 clips.
_WIDEST = 0.3
#: Share of the way from the metric of guessing to 1 from which a result is not called that of guessing, however few
#: its clips are.
_ABOVE_GUESSING = 0.25
#: The same below which a baseline has learned nothing.
_GUESSING_BASELINE = 0.15
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


class Finding(NamedTuple):
    """One thing that stands out: its name, a sentence, and what to try."""

    name: str
    text: str
    advice: tuple[str, ...] = ()


def find(
    metric: str, comparisons: Sequence[Comparison], main: Comparison | None, learning: Learning | None
) -> list[Finding]:
    """Return the findings, the most important first.

    Args:
        metric: name of the main metric.
        comparisons: one for each evaluated split, the worst first.
        main: the one to speak of; None if nothing was evaluated.
        learning: how the training went; None for an evaluation.
    """
    found: list[Finding | None] = []
    if learning is not None:
        found += _of_training(metric, main, learning)
    elif main is not None:
        found.append(_no_better_than_guessing(metric, main))
    if main is not None:
        found.append(_small_split(metric, main, learning))
    if learning is not None:
        found.append(_leak(metric, comparisons, learning))
        found += _of_fit(metric, main, learning, is_explained=any(found[:3]))
    if main is not None:
        found.append(_never_predicted(main, learning))
    if learning is not None and not _is_solved(main):
        found.append(_few_clips(learning))
    if learning is not None:
        found.append(_optimistic(metric, main, learning))
    found.append(_others(metric, comparisons, main))
    return [finding for finding in found if finding is not None]


def _is_solved(main: Comparison | None) -> bool:
    return main is not None and main.value >= SOLVED


def _of_training(metric: str, main: Comparison | None, learning: Learning) -> list[Finding | None]:
    """Return what was not learned, and whether the run was too short for it: three places."""
    nothing = _at_chance(main, learning) or _by_heart(metric, main, learning)
    if nothing is not None:
        return [nothing, None, None]
    too_short = None if _is_solved(main) else _too_short(metric, learning)
    guessing = None if main is None else _no_better_than_guessing(metric, main)
    if guessing is not None and learning.steps < _FEW_STEPS:
        return [too_short, guessing, None]
    return [guessing, too_short, None]


def _of_fit(
    metric: str, main: Comparison | None, learning: Learning, *, is_explained: bool
) -> list[Finding | None]:
    """Return whether training clips were fitted better than others, unless the result is explained otherwise."""
    if is_explained or _is_solved(main):
        return []
    has_missing = main is not None and bool(main.never)
    return [_overfitting(metric, learning) or (None if has_missing else _gap(metric, main, learning))]


def _at_chance(main: Comparison | None, learning: Learning) -> Finding | None:
    """Find a training loss that is still that of guessing at the end."""
    if learning.loss is None or _progress(learning) >= LEFT_CHANCE:
        return None
    text = (
        f"The model learned nothing: the training loss is still that of guessing ({learning.loss:.3g} at the end, "
        f"guessing has {learning.chance:.3g})."
    )
    rate = f"{FIND_RATE}; it was {learning.learning_rate:g}"
    causes = [rate, longer(learning, 2) if _has_learned_baseline(main) else CHECK_LABELS]
    if learning.steps < _FEW_STEPS:
        factor = max(4, math.ceil(2 * _FEW_STEPS / max(learning.steps, 1)))
        causes = [f"{longer(learning, factor)}; {learning.steps} steps are few", rate]
    if _has_learned_baseline(main) is False:
        text += " Logistic regression learned nothing either."
        causes = [CHECK_LABELS, *causes]
    if is_unusual(learning.learning_rate):
        causes = [rate, *causes]
    return Finding("at-chance", text, tuple(dict.fromkeys(causes)))


def _has_learned_baseline(main: Comparison | None) -> bool | None:
    """Return True if the baseline is clearly better than guessing, so that labels belong to their clips.

    None if it was not measured.
    """
    if main is None or main.baseline is None or main.chance is None:
        return None
    return main.baseline > main.chance + _GUESSING_BASELINE * (1 - main.chance)


def _by_heart(metric: str, main: Comparison | None, learning: Learning) -> Finding | None:
    """Find training clips that were learned by heart: their loss fell, other clips get chance results."""
    if main is None or learning.loss is None or not _is_guessing(main) or _progress(learning) < _FITTED:
        return None
    text = (
        f"The model learned the training clips by heart: their loss fell to {learning.loss:.3g} (guessing has "
        f"{learning.chance:.3g}), but on {printable(main.split)} it is no better than guessing ({metric} "
        f"{main.value:.3f}, guessing has {main.chance:.3f})."
    )
    return Finding("by-heart", text, (CHECK_LABELS, more_data(learning)))


def _no_better_than_guessing(metric: str, main: Comparison) -> Finding | None:
    """Find results that are those of guessing, whatever the training loss."""
    if not _is_guessing(main):
        return None
    text = (
        f"The model is not clearly better than guessing on {printable(main.split)}: {metric} {main.value:.3f}, "
        f"guessing has {main.chance:.3f}."
    )
    return Finding("at-chance", text, () if _has_learned_baseline(main) else (CHECK_LABELS,))


def _is_guessing(comparison: Comparison) -> bool:
    """Return True if the interval has the value of guessing or is below it, and the result is not far above."""
    low, high = comparison.interval
    chance = comparison.chance
    if chance is None or low > chance or high - low > 2 * _WIDEST:
        return False
    return comparison.value <= chance + _ABOVE_GUESSING * (1 - chance)


def _small_split(metric: str, main: Comparison, learning: Learning | None) -> Finding | None:
    """Find a split that is too small to say anything."""
    low, high = main.interval
    if high - low <= _WIDEST:
        return None
    size = "1 clip" if main.clips == 1 else f"{main.clips} clips"
    if main.groups:
        size += f" in {main.groups} groups ({main.grouped_by})"
    text = (
        f"{printable(main.split)} is too small to say much: with {size}, the true {metric} is anywhere from "
        f"{low:.2f} to {high:.2f} (95% interval, {main.method})."
    )
    return Finding("small-split", text, (MORE_TEST_CLIPS if learning is None else CROSS_VALIDATE,))


def _leak(metric: str, comparisons: Sequence[Comparison], learning: Learning) -> Finding | None:
    """Find a test split far below the validation split."""
    by_split = {comparison.split: comparison for comparison in comparisons}
    test = by_split.get("test")
    validation = by_split.get("validation")
    if test is None or validation is None or validation.value - test.value < _LEAK:
        return None
    if test.interval[1] >= validation.interval[0]:
        return None
    cause = "" if learning.group else "one speaker or recording is in both train and validation, or "
    text = (
        f"test is far below validation ({metric} {test.value:.3f} and {validation.value:.3f}): {cause}test has "
        "clips of another kind."
    )
    return Finding("leak", text, (other_splits(learning),))


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
    return Finding("overfitting", text, (STOP, more_data(learning)))


def _gap(metric: str, main: Comparison | None, learning: Learning) -> Finding | None:
    """Find training clips that are fitted almost completely beside a low result on other clips."""
    if main is None or learning.loss is None or _progress(learning) < _LEARNED_BY_HEART or main.value > 0.9:
        return None
    if main.outcome == "above" and main.value >= 0.7:
        return None
    text = (
        f"Overfitting: the training clips are learned almost completely (loss {learning.loss:.3g}, guessing has "
        f"{learning.chance:.3g}), but {metric} on {printable(main.split)} is {main.value:.3f}."
    )
    return Finding("overfitting", text, (more_data(learning),))


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
            f"Too short: {metric} on {printable(learning.watched)} still rose in the second half of the "
            f"{learning.steps} steps, from {earlier:.3f} to {learning.curve[-1]:.3f}."
        )
    elif done < _FITTED and not _is_flat(learning):
        text = (
            f"Too short: after {learning.steps} steps the training loss is {learning.loss:.3g}, only {done:.0%} of "
            f"the way down from guessing ({learning.chance:.3g})."
        )
    else:
        return None
    return Finding("too-short", text, (longer(learning, 4 if done < _FITTED / 2 else 2),))


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
    text = f"Never predicted on {printable(main.split)}, which has clips of it: {names}{more}."
    if len(main.never) > 1:
        text = text.replace("of it:", "of them:")
    counts = [] if learning is None or learning.is_balanced else list(learning.training_clips.values())
    if not counts or max(counts) < _UNEVEN * min(counts):
        return Finding("never-predicted", text)
    return Finding("never-predicted", text, (BALANCE,))


def _few_clips(learning: Learning) -> Finding | None:
    """Find labels with too few training clips."""
    few = {label: count for label, count in learning.training_clips.items() if count < _FEW_CLIPS}
    if not few:
        return None
    label = min(few, key=lambda name: few[name])
    more = ""
    if len(few) > 1:
        more = f"; {len(few)} of {len(learning.training_clips)} labels have fewer than {_FEW_CLIPS}"
    clips = "clip" if few[label] == 1 else "clips"
    text = f"Few training clips: {printable(label)!r} has {few[label]} {clips}{more}."
    return Finding("few-clips", text, (MORE_RARE_CLIPS,))


def _optimistic(metric: str, main: Comparison | None, learning: Learning) -> Finding | None:
    """Find a result on the split that chose the weights."""
    if main is None or not learning.has_stopping or main.split != learning.watched:
        return None
    text = (
        f"{metric} on {printable(main.split)} is optimistic: the same clips chose the weights that are saved."
    )
    return Finding("optimistic", text, (HOLD_OUT,))


def _others(metric: str, comparisons: Sequence[Comparison], main: Comparison | None) -> Finding | None:
    """Return the results on the splits besides the main one, the worst first."""
    others = [one for one in comparisons if one is not main]
    if not others:
        return None
    parts = []
    for one in others[:3]:
        beside = f" ({_short(one)})" if one.baseline is not None else ""
        parts.append(f"{metric} {one.value:.3f} on {printable(one.split)}{beside}")
    return Finding("other-splits", "Also: " + "; ".join(parts) + ".")


def _short(comparison: Comparison) -> str:
    names = {"above": "better", "below": "worse", "even": "too close to call"}
    return f"logistic regression {comparison.baseline:.3f}: {names.get(comparison.outcome, 'not compared')}"


def _progress(learning: Learning) -> float:
    return progress(learning.loss or 0.0, learning.chance, learning.floor)


def _standard_error(value: float, clips: int) -> float:
    """Return the standard error of a share of `clips`; 0 for unknown numbers of clips."""
    return math.sqrt(max(value * (1 - value), 0.0) / clips) if clips else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
