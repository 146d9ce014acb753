"""Mean of the weights of several checkpoints, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..configuration_ast import FIELD_RULES, FITTED_FIELDS
from ..configuration_ensemble import ASTEnsembleConfig
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import staged_folder
from ..label_order import model_labels
from ..modeling_ast import ASTForAudioClassification
from .members import Member, load_member, load_model

#: Fields that do not affect the mean of two checkpoints' weights.
_NOT_ARCHITECTURE = frozenset(
    {"attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range", *FITTED_FIELDS}
)
_FEATURE_FIELDS = ("sampling_rate", "do_normalize", "mean", "std")


def average_weights(checkpoints: Sequence[str]) -> ASTForAudioClassification:
    """Return the model with the mean of the checkpoints' weights, on the CPU, without calibration.

    Raises:
        AstConfigError: E305 for another architecture, E303 for other labels or another order of them, E301
            for other features.
    """
    first, *others = (load_member(name) for name in checkpoints)
    for member in (first, *others):
        if isinstance(member.config, ASTEnsembleConfig):
            what = "is an ensemble: its weights cannot be averaged"
            fix = "leave the average out, or name single models"
            raise error("E305", where=repr(member.name), what=what, fix=fix)
    for other in others:
        _check_same(first, other)
    model = load_model(first)
    state = model.state_dict()
    totals = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    for other in others:
        summand = load_model(other).state_dict()
        for name, total in totals.items():
            total += summand[name]
    model.load_state_dict({**state, **{name: total / len(checkpoints) for name, total in totals.items()}})
    for field in FITTED_FIELDS:
        setattr(model.config, field, None)
    return model


def save_average(checkpoints: Sequence[str], folder: Path, name: str) -> Member:
    """Save the mean of the checkpoints' weights with the first one's extractor, and return it as a member."""
    model = average_weights(checkpoints)
    with staged_folder(folder) as staged:
        model.save_pretrained(staged)
        ASTFeatureExtractor.from_pretrained(checkpoints[0]).save_pretrained(staged)
    return load_member(str(folder), name)


def _check_same(first: Member, other: Member) -> None:
    """Raise E305, E303 or E301 if two checkpoints differ in architecture, labels or features."""
    for field in FIELD_RULES:
        value, expected = getattr(other.config, field), getattr(first.config, field)
        if field not in _NOT_ARCHITECTURE and value != expected:
            what = f"{value!r}, but {expected!r} in {first.name!r}: their weights cannot be averaged"
            fix = "average checkpoints of one run, or leave the average out: an ensemble takes any"
            raise error("E305", where=f"{other.name!r}: {field}", what=what, fix=fix)
    if model_labels(other.config) != model_labels(first.config):
        where = f"{other.name!r}: id2label"
        what = f"differs from {first.name!r} in labels or their order: their weights cannot be averaged"
        raise error("E303", where=where, what=what, fix="average checkpoints of one run")
    for field in _FEATURE_FIELDS:
        value, expected = getattr(other.extractor, field), getattr(first.extractor, field)
        if value != expected:
            where = f"{other.name!r}: {field}"
            what = f"{value!r}, but {expected!r} in {first.name!r}: their weights expect other features"
            raise error("E301", where=where, what=what, fix="average checkpoints of one run")
