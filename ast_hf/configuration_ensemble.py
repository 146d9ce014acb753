"""Configuration of an ensemble: its members, and the labels and input size that they share."""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedConfig

from .configuration_ast import check_fields, check_label_arguments, check_label_map, check_threshold_count
from .errors import did_you_mean, error
from .task import Task
from .timeline_fields import check_timeline, plain_timeline

#: Prefix of the members' folders, by which a push selects the files to publish.
MEMBER = "member-"
#: Fields with the same rules as in `ASTConfig`.
_SHARED_FIELDS = ("max_length", "num_mel_bins", "patch_size", "temperature", "thresholds", "timeline")
#: Problem types whose probabilities can be averaged.
_PROBLEM_TYPES = (Task.SINGLE_LABEL.value, Task.MULTI_LABEL.value)


class ASTEnsembleConfig(PreTrainedConfig):
    """Configuration of `ASTEnsembleForAudioClassification`, whose `from_members` builds it.

    Args:
        members: folders of the members next to config.json, such as `["member-1", "member-2"]`.
        max_length: frames of the longest member's input.
        num_mel_bins: mel bins of every member's input.
        patch_size: largest patch side of the members, the fewest frames that an input may have.
        temperature: divisor of the ensemble's logits, as in `ASTConfig`. Each member also has its own.
        thresholds: thresholds of the ensemble's scores, as in `ASTConfig`.
        timeline: rules of timelines of the ensemble's scores, as in `ASTConfig`.
        **kwargs: arguments of every transformers configuration (`id2label`, `problem_type`, ...).

    Raises:
        AstConfigError: E302 for an impossible field, E303 for an impossible label map.
    """

    model_type = "ast-ensemble"

    members: list[str] | None = None
    max_length: int = 1024
    num_mel_bins: int = 128
    patch_size: int = 16
    temperature: float | None = None
    thresholds: list[float] | None = None
    timeline: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        check_label_arguments(self.id2label, kwargs.get("num_labels"))
        if self.id2label is not None and self.label2id is None:  # type: ignore[has-type]
            self.label2id = {label: int(index) for index, label in self.id2label.items()}
        super().__post_init__(**kwargs)
        if self.members is not None:  # transformers builds a default configuration to compare others with
            self.validate()

    def validate(self) -> None:
        """Raise E302 or E303 for an invalid field. Runs at construction and when a model is built."""
        check_members(self.members)
        self.timeline = plain_timeline(self.timeline)
        check_fields(self, _SHARED_FIELDS, "ASTEnsembleConfig")
        if self.problem_type is not None and self.problem_type not in _PROBLEM_TYPES:
            choices = did_you_mean(self.problem_type, _PROBLEM_TYPES)
            raise _field_error("problem_type", self.problem_type, "has no probabilities to average", choices)
        check_label_map(self.id2label, self.label2id)
        check_threshold_count(self, "ASTEnsembleConfig")
        check_timeline(self.timeline, len(self.id2label or ()), "ASTEnsembleConfig")


def check_members(members: Any) -> list[str]:
    """Return the members' folder names; raise E302 unless they are valid, different, and at least one."""
    names = members if isinstance(members, list) else []
    valid = [name for name in names if isinstance(name, str) and re.fullmatch(rf"{MEMBER}\w+", name)]
    if not names or valid != names or len({*valid}) < len(valid):
        what = f"has to be a list of different folder names like '{MEMBER}1'"
        fix = "build ensembles with from_members; load a single model with ASTForAudioClassification"
        raise _field_error("members", members, what, fix)
    return valid


def _field_error(field: str, value: Any, what: str, fix: str) -> Exception:
    return error("E302", where=f"ASTEnsembleConfig.{field}", what=f"{value!r} {what}", fix=fix)
