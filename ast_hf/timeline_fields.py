"""Rules of timelines as a configuration stores them: their names, ranges, and one threshold per label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import did_you_mean, error, shown
from .scalars import is_finite_number, plain_scalar

#: Choices of `method` and of `mean`.
METHODS = ("hysteresis", "boxes")
MEANS = ("arithmetic", "geometric", "harmonic", "centre")
#: Labels of a training window: of all sounds in it, or of those at its middle.
WINDOW_LABELS = ("overlap", "centre")
#: Lowest level in dBFS that a rule may name. 24-bit samples end at -146 dBFS.
LOWEST_DB = -200.0

_Rule = tuple[Callable[[Any], bool], str]


def _is_within(value: Any, least: float, most: float) -> bool:
    return is_finite_number(value) and least <= value <= most


def _is_threshold(value: Any) -> bool:
    return _is_within(value, 0.0, 1.0) and value > 0


def _is_share(value: Any) -> bool:
    return _is_within(value, 0.0, 1.0)


def _is_length(value: Any) -> bool:
    return value is None or (is_finite_number(value) and value > 0)


def _each(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: all(map(test, value)) if isinstance(value, list) else test(value)


_SHARE: _Rule = (_is_share, "a number in [0, 1]")
_LENGTH: _Rule = (_is_length, "None or seconds above 0")
_SECONDS: _Rule = (lambda value: is_finite_number(value) and value >= 0, "seconds, 0 or more")

#: Rule -> (test, requirement for messages). A rule that is missing has the default of `TimelineRules`.
TIMELINE_FIELDS: dict[str, _Rule] = {
    "window_seconds": _LENGTH,
    "hop_seconds": _LENGTH,
    "threshold": (_each(_is_threshold), "a number in (0, 1], or a list of one per label"),
    "low_threshold": (
        lambda value: value is None or _each(_is_share)(value),
        "None, a number in [0, 1], or a list of one per label",
    ),
    "min_seconds": _SECONDS,
    "gap_seconds": _SECONDS,
    "silence_db": (
        lambda value: value is None or _is_within(value, LOWEST_DB, 0.0),
        f"None or dBFS in [{LOWEST_DB:g}, 0]",
    ),
    "method": (lambda value: value in METHODS, f"one of {', '.join(METHODS)}"),
    "column_weight": _SHARE,
    "mean": (lambda value: value in MEANS, f"one of {', '.join(MEANS)}"),
    "box_gap": _SHARE,
    "box_ratio": _SHARE,
}


def plain_timeline(value: Any) -> Any:
    """Return stored rules with Python's own numbers and lists; any other value unchanged."""
    if not isinstance(value, dict):
        return value
    return {name: _plain(entry) for name, entry in value.items()}


def _plain(value: Any) -> Any:
    value = plain_scalar(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain_scalar(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def check_timeline(rules: dict[str, Any] | None, labels: int, owner: str) -> None:
    """Raise E302 unless stored rules are known, in range, of as many thresholds as labels, and not crossed.

    Args:
        rules: rule -> value, or None for none.
        labels: number of labels of the model.
        owner: class of the configuration, for the message.
    """
    for name, value in (rules or {}).items():
        where = f"{owner}.timeline.{name}"
        if name not in TIMELINE_FIELDS:
            fix = did_you_mean(name, TIMELINE_FIELDS)
            raise error("E302", where=where, what="is not a rule of timelines", fix=fix)
        test, requirement = TIMELINE_FIELDS[name]
        if not test(value):
            what = f"{shown(value)} has to be {requirement}"
            raise error("E302", where=where, what=what, fix="set it to that, or timeline to None")
        if isinstance(value, list) and len(value) != labels:
            what = f"length {len(value)}, but there are {labels} labels"
            raise error("E302", where=where, what=what, fix="give one for each label, or one number")
    if rules:
        _check_order(rules, labels, owner)


def _check_order(rules: dict[str, Any], labels: int, owner: str) -> None:
    """Raise E302 for a low threshold above the threshold, and for a hop above the window."""
    low = rules.get("low_threshold")
    high = rules.get("threshold")
    if low is not None and high is not None:
        for index, (least, most) in enumerate(
            zip(_by_label(low, labels), _by_label(high, labels), strict=True)
        ):
            if least > most:
                what = f"{least:g} of label {index} is above its threshold, {most:g}"
                fix = "set it to at most the threshold, or to None"
                raise error("E302", where=f"{owner}.timeline.low_threshold", what=what, fix=fix)
    window = rules.get("window_seconds")
    hop = rules.get("hop_seconds")
    if window is not None and hop is not None and hop > window:
        what = f"{hop:g} is above window_seconds, {window:g}"
        fix = "set it to at most the window: a longer hop would skip audio"
        raise error("E302", where=f"{owner}.timeline.hop_seconds", what=what, fix=fix)


def _by_label(value: Any, labels: int) -> list[Any]:
    return value if isinstance(value, list) else [value] * labels
