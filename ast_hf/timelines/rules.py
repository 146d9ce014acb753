"""Rules that turn score curves into events: thresholds, durations, silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import did_you_mean, error, not_a_choice, shown
from ..scalars import is_finite_number, plain_scalar
from ..timeline_fields import LOWEST_DB, MEANS, METHODS

#: `low_threshold` as a share of `threshold`, where none is given; see `curves.py` for the choice.
LOW_RATIO = 0.7


@dataclasses.dataclass(frozen=True)
class TimelineRules:
    """How a score curve becomes events.

    An event begins where its class's curve reaches `threshold`. It extends in both directions while the curve is
    at least `low_threshold`. Events of a class with a gap shorter than `gap_seconds` are merged. Then events
    shorter than `min_seconds` are dropped.

    Attributes:
        threshold: number in (0, 1], or one per class.
        low_threshold: number in [0, 1] at most the threshold, or one per class. None for 0.7
            (`LOW_RATIO`) times the threshold.
        min_seconds: shortest event, in seconds.
        gap_seconds: shortest gap between two events of a class, in seconds.
        silence_db: level in dBFS below which nothing is an event. None, or -200, to ignore the level.
        method: `"hysteresis"`, or `"boxes"` for change-detection boxes, which need the complete recording.
        column_weight: weight in [0, 1] of the scores of single time columns beside those of their windows: the
            classifier applied to the mean over frequency of each column of patches. 0 does not compute them; 1
            uses windows for context only. How good they are depends on the training: with the image start of the
            small-data recipe 1 found the most events, with the best edges (`benchmarks/timelines.py`); the columns
            of a small model that was trained from random weights were of no use (tests/timelines).
        mean: mean of the windows over a time: `"arithmetic"`, `"geometric"` or `"harmonic"`; see `curves.py`. The
            pipeline's default is `"arithmetic"` if one label excludes the others.
            `"centre"` takes the two windows whose middles are nearest, for models that were trained on windows
            with the label at their middle.
        box_gap: boxes only: neighbours are merged if the valley between them is less than this below the higher
            one, in [0, 1],
        box_ratio: and at least this share of the higher one, in [0, 1].

    Raises:
        AstInputError: E108 for a value out of its range, and for a low threshold above its threshold.
    """

    threshold: float | tuple[float, ...] = 0.5
    low_threshold: float | tuple[float, ...] | None = None
    min_seconds: float = 0.1
    gap_seconds: float = 0.2
    silence_db: float | None = -70.0
    method: str = "hysteresis"
    column_weight: float = 0.0
    mean: str = "harmonic"
    box_gap: float = 0.3
    box_ratio: float = 0.5

    def __post_init__(self) -> None:
        self._set("threshold", _levels("threshold", self.threshold))
        if self.low_threshold is not None:
            self._set("low_threshold", _levels("low_threshold", self.low_threshold))
        _check_thresholds(self.threshold, self.low_threshold)
        for name in ("min_seconds", "gap_seconds"):
            self._number(name, 0.0, float("inf"), "seconds, 0 or more")
        for name in ("column_weight", "box_gap", "box_ratio"):
            self._number(name, 0.0, 1.0, "a number in [0, 1]")
        if self.silence_db is not None:
            self._number("silence_db", LOWEST_DB, 0.0, f"dBFS in [{LOWEST_DB:g}, 0], or None")
        for name, choices in (("method", METHODS), ("mean", MEANS)):
            if getattr(self, name) not in choices:
                raise not_a_choice("E108", where=name, value=getattr(self, name), choices=choices)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _number(self, name: str, least: float, most: float, expected: str) -> None:
        value = plain_scalar(getattr(self, name))
        if not (is_finite_number(value) and least <= value <= most):
            raise error("E108", where=name, what=f"{shown(value)} is out of range", fix=f"give {expected}")
        self._set(name, float(value))

    def thresholds(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the high and the low threshold of each class, float64 `(classes,)`.

        Raises:
            AstInputError: E108 for another number of thresholds than classes.
        """
        high = _per_class("threshold", self.threshold, classes)
        if self.low_threshold is None:
            return high, high * LOW_RATIO
        return high, _per_class("low_threshold", self.low_threshold, classes)

    def replace(self, **changes: Any) -> TimelineRules:
        """Return the rules with some of them changed; None keeps a rule as it is, also `silence_db`.

        A new `threshold` without a `low_threshold` keeps the ratio of the two.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        _check_names(given)
        if "threshold" in given and "low_threshold" not in given and self.low_threshold is not None:
            given["low_threshold"] = self._scaled_low(given["threshold"])
        return dataclasses.replace(self, **given)

    def _scaled_low(self, threshold: Any) -> Any:
        new = np.asarray(_levels("threshold", threshold), np.float64)
        old = np.asarray(self.threshold, np.float64)
        low = np.asarray(self.low_threshold, np.float64)
        if new.ndim and (old.ndim or low.ndim) and new.shape != np.broadcast(old, low).shape:
            return None
        return np.clip(low * (new / old), 0.0, new).tolist()

    def as_dict(self) -> dict[str, Any]:
        """Return the rules as plain values, for JSON."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "timeline") -> TimelineRules:
        """Return the rules of `as_dict`; rules that are missing have their defaults.

        Raises:
            AstInputError: E108 for an unknown rule, or a value out of its range; `where` names the source.
        """
        if not isinstance(values, Mapping):
            what = f"{shown(values)} is not a mapping of rules"
            raise error("E108", where=where, what=what, fix="give what `TimelineRules.as_dict` returns")
        _check_names(values, where)
        return cls(**values)


def rule_names() -> tuple[str, ...]:
    """Return the names of all rules."""
    return tuple(field.name for field in dataclasses.fields(TimelineRules))


def _check_names(values: Mapping[str, Any], where: str = "") -> None:
    for name in values:
        if name not in rule_names():
            place = f"{where}.{name}" if where else str(name)
            raise error("E108", where=place, what="is not a rule", fix=did_you_mean(name, rule_names()))


def _levels(name: str, value: Any) -> float | tuple[float, ...]:
    """Return a threshold, or a tuple of one per class; raise E108 for values out of range."""
    plain = plain_scalar(value)
    if isinstance(plain, np.ndarray) or hasattr(plain, "tolist"):
        plain = plain.tolist()
    several = isinstance(plain, Sequence) and not isinstance(plain, str)
    entries = [plain_scalar(entry) for entry in plain] if several else [plain]
    least_is_out = name == "threshold"
    for number, entry in enumerate(entries):
        valid = is_finite_number(entry) and 0.0 <= entry <= 1.0 and not (least_is_out and entry == 0)
        if not valid:
            bounds = "(0, 1]" if least_is_out else "[0, 1]"
            place = f"{name}[{number}]" if several else name
            fix = f"give a number in {bounds}, or one per class"
            raise error("E108", where=place, what=f"{shown(entry)} is not a threshold", fix=fix)
    if not entries:
        raise error("E108", where=name, what="is empty", fix="give one number, or one per class")
    return tuple(map(float, entries)) if several else float(entries[0])


def _check_thresholds(high: float | tuple[float, ...], low: float | tuple[float, ...] | None) -> None:
    """Raise E108 for thresholds of different numbers of classes, and for a low one above its threshold."""
    if low is None:
        return
    if isinstance(high, tuple) and isinstance(low, tuple) and len(high) != len(low):
        what = f"has {len(low)} values, and threshold {len(high)}"
        raise error("E108", where="low_threshold", what=what, fix="give as many, or one number")
    crossed = np.flatnonzero(np.atleast_1d(np.asarray(low) > np.asarray(high)))
    if len(crossed):
        place = int(crossed[0])
        pair = np.broadcast_arrays(np.atleast_1d(low), np.atleast_1d(high))
        what = f"{pair[0][place]:g} is above threshold, {pair[1][place]:g}"
        fix = "give a low threshold that is at most the threshold, or None"
        raise error("E108", where="low_threshold", what=what, fix=fix)


def _per_class(name: str, value: float | tuple[float, ...], classes: int) -> np.ndarray:
    levels = np.asarray(value, np.float64)
    if levels.ndim and len(levels) != classes:
        what = f"has {len(levels)} values, and the model {classes} classes"
        raise error("E108", where=name, what=what, fix="give one number, or one per class")
    return np.broadcast_to(levels, (classes,))
