"""Checkpoints to evaluate: configuration, feature extractor, and the order of labels they share."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..errors import error, shortlist
from ..feature_extraction_ast import ASTFeatureExtractor, check_fits
from ..label_order import label_columns, label_differences, model_labels
from ..modeling_ensemble import classes_for
from ..task import Task
from ..weights.integrity import check_folder, require_classifier


class Member(NamedTuple):
    """A checkpoint's configuration and extractor; `logits[:, columns]` are in the common order of labels."""

    name: str
    folder: str
    config: ASTConfig | ASTEnsembleConfig
    extractor: ASTFeatureExtractor
    columns: list[int]


def load_members(names: list[str]) -> list[Member]:
    """Load checkpoints' configurations and extractors; the common order of labels is the first one's.

    Raises:
        AstConfigError: E303 for checkpoints of different labels, E302 for a regression, E306 for a broken
            checkpoint.
    """
    members = [load_member(name) for name in names]
    labels = model_labels(members[0].config)
    return [_with_columns(member, labels, names[0]) for member in members]


def load_member(folder: str, name: str | None = None) -> Member:
    """Load the configuration and extractor of one checkpoint; columns are in its order of labels."""
    check_folder(folder)
    config_class, _ = classes_for(folder)
    config = config_class.from_pretrained(folder)
    if config.problem_type == Task.REGRESSION:
        what = "is 'regression', which has no classes to evaluate"
        raise error("E302", where=f"{folder!r}: problem_type", what=what, fix="evaluate a classifier")
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    check_fits(extractor, config, repr(folder))
    return Member(name or folder, folder, config, extractor, list(range(config.num_labels)))


def load_model(member: Member) -> Any:
    """Return the model of a checkpoint or ensemble; raise E305 if it has no classifier."""
    _, model_class = classes_for(member.folder)
    model, info = model_class.from_pretrained(member.folder, output_loading_info=True)
    require_classifier(info, repr(member.name))
    return model


def _with_columns(member: Member, labels: list[str], first: str) -> Member:
    """Return the member with columns in the order of `labels`; raise E303 for other label names."""
    missing, surplus = label_differences(labels, member.config.label2id)
    if missing or surplus:
        what = f"has other labels than {first!r}: {shortlist([*missing, *surplus])} only in one of them"
        fix = "evaluate checkpoints with the same label names together"
        raise error("E303", where=repr(member.name), what=what, fix=fix)
    return member._replace(columns=label_columns(labels, member.config.label2id))
