"""Facts that a verdict is made of, as plain numbers: results beside the baseline, and how the training went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Result on one split, beside guessing and the logistic regression on the same clips.

    Attributes:
        split: name of the split.
        clips: number of its clips.
        value: main metric of the model, in [0, 1].
        interval: low and high of its 95% interval.
        method: of that interval, in words.
        chance: the same metric of an answer that does not depend on the clip: accuracy of the most frequent training
            class, or mAP of a random order; None if unknown.
        baseline: the same metric of the logistic regression; None if it was not measured.
        difference: low and high of the 95% interval of model minus baseline, on the same clips.
        difference_method: of that interval, in words.
        model_only: clips that only the model has right; None for mAP.
        baseline_only: clips that only the baseline has right; None for mAP.
        groups: number of groups (speakers, recordings) that were resampled; 0 if clips were.
        grouped_by: where those groups are, in words, such as `"column 'speaker'"`.
        never: labels with clips there that the model never answers.
    """

    split: str
    clips: int
    value: float
    interval: tuple[float, float]
    method: str = "Wilson"
    chance: float | None = None
    baseline: float | None = None
    difference: tuple[float, float] | None = None
    difference_method: str = "McNemar"
    model_only: int | None = None
    baseline_only: int | None = None
    groups: int = 0
    never: tuple[str, ...] = ()
    grouped_by: str = ""

    @property
    def gain(self) -> float | None:
        """Model minus baseline."""
        return None if self.baseline is None else self.value - self.baseline

    @property
    def outcome(self) -> str:
        """`"above"` or `"below"` the baseline, `"even"` if the interval of the difference has 0, or `"none"`."""
        if self.difference is None:
            return "none"
        low, high = self.difference
        if low > 0:
            return "above"
        return "below" if high < 0 else "even"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json."""
        values = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {**values, "outcome": self.outcome}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Comparison:
        """Return the comparison that `to_dict` stored."""
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        pairs = {
            name: tuple(fields[name]) for name in ("interval", "difference", "never") if fields.get(name)
        }
        return cls(**{**fields, **pairs, "never": tuple(fields.get("never") or ())})


@dataclass(frozen=True)
class Learning:
    """How a training went.

    Attributes:
        steps: optimizer steps.
        epochs: passes over the training clips; None for a stream.
        loss: mean training loss of the last fifth of the run; None if unknown.
        chance: loss of the best constant answer.
        floor: lowest possible loss, above 0 for mixed and smoothed labels.
        curve: main metric on the watched split after each evaluation; empty without evaluations.
        losses: loss on that split after each evaluation.
        watched: name of that split.
        watched_clips: number of its clips.
        training_clips: number of training clips of each label; empty for a stream.
        learning_rate: highest learning rate.
        is_random: True for a start from random weights.
        has_stopping: True if the best evaluation is kept already.
        is_augmented: True if training clips are augmented.
        group: column whose values are not on both sides of the splits; None if clips were split one by one.
        has_max_steps: True if `training.max_steps` sets the length, not epochs.
        stopped_by: `stopping.patience` of a run that it ended before its length; None for others.
        is_balanced: True if rare labels are drawn as often as others.
        holds_out: True if clips were held out of the training split.
    """

    steps: int
    epochs: float | None
    loss: float | None = None
    chance: float = 0.0
    floor: float = 0.0
    curve: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    watched: str = "validation"
    watched_clips: int = 0
    training_clips: dict[str, int] = field(default_factory=dict)
    learning_rate: float = 0.0
    is_random: bool = False
    has_stopping: bool = False
    is_augmented: bool = False
    group: str | None = None
    has_max_steps: bool = False
    stopped_by: int | None = None
    is_balanced: bool = False
    holds_out: bool = False
