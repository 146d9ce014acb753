"""What does the config.json of an ensemble say? Its members, and the labels and the input that they share."""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedConfig

from .configuration_ast import FIELD_RULES, PROBLEM_TYPES, check_label_arguments, check_label_map
from .errors import did_you_mean, error

#: Members' folders begin so: what is published of a repository is told by names.
MEMBER = "member-"
#: Fields that follow the same rules as those of one model.
_AS_IN_ONE_MODEL = ("max_length", "num_mel_bins", "patch_size", "temperature", "thresholds")


class ASTEnsembleConfig(PreTrainedConfig):
    """Configuration of `ASTEnsembleForAudioClassification`, which `from_members` makes out of those of its members.

    Args:
        members: the folders of the members beside this file, such as `["member-1", "member-2"]`.
        max_length: frames of the longest member's input.
        num_mel_bins: mel bins of every member's input.
        patch_size: the largest side of a member's patches: no input is shorter.
        temperature: what the ensemble's logits are divided by, as for `ASTConfig`; each member has one of its own too.
        thresholds: of the ensemble's scores, as for `ASTConfig`.
        **kwargs: what every transformers configuration takes (`id2label`, `problem_type`, ...).

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

    def __post_init__(self, **kwargs: Any) -> None:
        check_label_arguments(self.id2label, kwargs.get("num_labels"))
        if self.id2label is not None and self.label2id is None:  # type: ignore[has-type]
            self.label2id = {label: int(index) for index, label in self.id2label.items()}
        super().__post_init__(**kwargs)
        if self.members is not None:  # None: what transformers makes to compare other configurations with
            self.validate()

    def validate(self) -> None:
        """Raise E302 or E303 when a field makes no ensemble. Run at construction and by the model."""
        check_members(self.members)
        for name in _AS_IN_ONE_MODEL:
            test, requirement = FIELD_RULES[name]
            if not test(getattr(self, name)):
                raise _field_error(name, getattr(self, name), f"has to be {requirement}", f"set {name} to that")
        if self.problem_type not in PROBLEM_TYPES or self.problem_type == "regression":
            choices = did_you_mean(self.problem_type, [kind for kind in PROBLEM_TYPES[1:] if kind != "regression"])
            raise _field_error("problem_type", self.problem_type, "has no probabilities to average", choices)
        check_label_map(self.id2label, self.label2id)
        if self.thresholds is not None and len(self.thresholds) != len(self.id2label):
            what = f"are {len(self.thresholds)}, but there are {len(self.id2label)} labels"
            fix = "give one for each label, or None"
            raise error("E302", where="ASTEnsembleConfig.thresholds", what=what, fix=fix)


def check_members(members: Any) -> list[str]:
    """The names themselves; E302 unless they are at least one, all different, and folders right beside config.json."""
    names = members if isinstance(members, list) else []
    good = [name for name in names if isinstance(name, str) and re.fullmatch(rf"{MEMBER}\w+", name)]
    if not names or good != names or len({*good}) < len(good):
        what = f"has to be a list of different folder names like '{MEMBER}1'"
        fix = "make ensembles with from_members; one model loads with ASTForAudioClassification"
        raise _field_error("members", members, what, fix)
    return good


def _field_error(field: str, value: Any, what: str, fix: str) -> Exception:
    return error("E302", where=f"ASTEnsembleConfig.{field}", what=f"{value!r} {what}", fix=fix)
