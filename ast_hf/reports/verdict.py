"""Verdict on a run or an evaluation, in words: above or below the baseline, what went wrong, and what to try.

Everything here follows from the plain numbers of `verdict_facts`. Thresholds are choices of this project; each is
named and explained in `findings`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..printing import printable
from .advice import CROSS_VALIDATE, HOLD_OUT, general_advice
from .findings import SOLVED, Finding, find
from .verdict_facts import Comparison, Learning

#: Findings beside the headline, and pieces of advice, at most.
_MAX_FINDINGS = 3
_MAX_ADVICE = 2


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
            `too-short`, `never-predicted`, `few-clips`, `optimistic`, `other-splits`.
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
        return [self.headline, *self.lines, *(f"Try: {advice}" for advice in self.advice)]

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
    ranked = sorted(comparisons, key=_rank)
    main = main_comparison(comparisons)
    found = find(metric, ranked, main, learning)
    shown = found[:_MAX_FINDINGS]
    return Verdict(
        headline="Nothing was evaluated: no clips were held out." if main is None else headline(metric, main),
        lines=[finding.text for finding in shown],
        advice=_advise(main, learning, found)[:_MAX_ADVICE],
        outcome="none" if main is None else main.outcome,
        split=None if main is None else main.split,
        findings=[finding.name for finding in shown],
        comparisons=ranked,
    )


def _advise(main: Comparison | None, learning: Learning | None, found: Sequence[Finding]) -> list[str]:
    """Return what to try, in the order of the findings."""
    advice = [line for finding in found for line in finding.advice]
    if main is None and learning is not None:
        advice = [HOLD_OUT, *advice, CROSS_VALIDATE]
    is_weak = main is not None and main.outcome in ("below", "even") and main.value < SOLVED
    if is_weak and learning is not None and not advice:
        advice = general_advice(learning)
    return list(dict.fromkeys(advice))


def main_comparison(comparisons: Sequence[Comparison]) -> Comparison | None:
    """Return the comparison to speak of: that of `test`, else the worst one; None without any."""
    ranked = sorted(comparisons, key=_rank)
    return next((one for one in ranked if one.split == "test"), ranked[0] if ranked else None)


def _rank(comparison: Comparison) -> tuple[float, float]:
    """Sort the worst split first: by its distance from the baseline, then by its value."""
    gain = comparison.gain
    return (math.inf if gain is None else gain, comparison.value)


def headline(metric: str, comparison: Comparison) -> str:
    """Return the first line: the outcome, both numbers, and the interval that fits the number of clips."""
    place = printable(comparison.split)
    clips = "1 clip" if comparison.clips == 1 else f"{comparison.clips} clips"
    value = f"{comparison.value:.3f}"
    if comparison.baseline is None or comparison.difference is None:
        low, high = comparison.interval
        return (
            f"No baseline to compare with on {place}: {metric} {value} (95% interval {low:.3f} to {high:.3f}, "
            f"{comparison.method}, {clips})."
        )
    low, high = comparison.difference
    bounds = f"{_signed(low)} to {_signed(high)}, {comparison.difference_method}, {clips}"
    known = f"difference {_signed(comparison.value - comparison.baseline)}, 95% interval {bounds}"
    baseline = f"{comparison.baseline:.3f}"
    if comparison.outcome == "above":
        return f"Better than the baseline on {place}: {metric} {value}, logistic regression {baseline} ({known})."
    if comparison.outcome == "below":
        both = f"logistic regression has {metric} {baseline}, the model {value}"
        return f"The baseline wins on {place}: {both} ({known})."
    if comparison.value == comparison.baseline:
        return (
            f"The model and the baseline are equal on {place}: both have {metric} {value} (95% interval of the "
            f"difference {bounds})."
        )
    if comparison.value < comparison.baseline:
        return (
            f"The baseline is ahead on {place}, but too close to call: logistic regression has {metric} {baseline}, "
            f"the model {value} ({known})."
        )
    return f"Too close to call on {place}: {metric} {value}, logistic regression {baseline} ({known})."


def _signed(value: float) -> str:
    """Return a difference with its sign, to three places; one that they would show as 0 to one digit."""
    return f"{value:+.1g}" if 0 < abs(value) < 0.0005 else f"{value:+.3f}"
