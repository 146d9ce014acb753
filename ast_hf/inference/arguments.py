"""Arguments of the pipeline: names, checks, and the part of the work that each belongs to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import AstHfWarning, did_you_mean, error, nearest, not_a_choice, warning_text
from ..scalars import is_finite_number, plain_scalar
from ..task import Task
from ..timelines.rules import rule_names

FUNCTIONS = ("softmax", "sigmoid", "none")
AGGREGATES = ("mean", "max", "none")
#: Arguments that only a timeline has, fields of `TimelineRules`.
RULES = tuple(name for name in rule_names() if name != "threshold")
#: Arguments that decide the form of clip scores.
CLIP_RESULTS = ("top_k", "function_to_apply", "threshold")
_READING = ("sampling_rate", "window_seconds", "hop_seconds")
_NAMES = (*CLIP_RESULTS, *_READING, "aggregate", "return_timestamps", *RULES)
#: Default of `top_k`; None means all labels.
NOT_GIVEN: Any = object()
#: Value of `threshold` that means the checkpoint's own thresholds.
FITTED = "fitted"


class Arguments(NamedTuple):
    """Arguments of a call for each part of the work. There are no defaults: a call's replace the constructor's."""

    preprocess: dict[str, Any]
    forward: dict[str, Any]
    postprocess: dict[str, Any]


def sort_arguments(config: Any, source: str, arguments: Mapping[str, Any], *, is_timeline: bool) -> Arguments:
    """Return the arguments of a call or of the constructor, checked.

    Args:
        config: configuration of the model.
        source: name of the model for messages.
        arguments: by name.
        is_timeline: whether a timeline is returned unless the arguments say otherwise.

    Raises:
        AstInputError: E108 for a misspelt name or an invalid value. Other names are ignored with a warning
            (W302).
    """
    check_names(arguments, _NAMES, stacklevel=6)
    plain = {name: plain_scalar(value) for name, value in arguments.items() if name in _NAMES}
    given = {name: value for name, value in plain.items() if value is not None}
    given.pop("top_k", None)
    top_k = arguments.get("top_k", NOT_GIVEN)
    postprocess: dict[str, Any] = {}
    if top_k is not NOT_GIVEN:
        postprocess["top_k"] = _count(top_k, config.num_labels)
    _check_choice("function_to_apply", given, FUNCTIONS)
    _check_choice("aggregate", given, AGGREGATES)
    _check_flag("return_timestamps", given)
    timeline = given.get("return_timestamps", is_timeline)
    for name in () if timeline else RULES:
        if name in given:
            what = "is an argument of timelines only"
            raise error("E108", where=name, what=what, fix="pass return_timestamps=True, or leave it out")
    if "threshold" in given:
        check_threshold(given["threshold"], config, source, per_label=timeline)
    names = ("function_to_apply", "threshold", "aggregate", "return_timestamps", *RULES)
    postprocess |= {name: given[name] for name in names if name in given}
    return Arguments({name: given[name] for name in _READING if name in given}, {}, postprocess)


def check_names(
    arguments: Mapping[str, Any], names: tuple[str, ...], *, note: str = "", stacklevel: int
) -> None:
    """Raise E108 for a misspelt name; warn (W302) about others, with a `note` on the pipeline."""
    for name in arguments.keys() - {*names}:
        if nearest(name, names, cutoff=0.7) is not None:
            fix = did_you_mean(name, names)
            raise error("E108", where=name, what="is not an argument of this pipeline", fix=fix)
        text = f"is not an argument of this pipeline{note} and has no effect"
        warnings.warn(warning_text("W302", where=name, what=text), AstHfWarning, stacklevel=stacklevel)


def _count(top_k: Any, labels: int) -> int:
    count = plain_scalar(top_k)
    if count is None:
        return labels
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        fix = "use 1 or more, or None for all"
        raise error("E108", where="top_k", what=f"{top_k!r} selects nothing", fix=fix)
    return min(count, labels)


def _check_choice(name: str, given: Mapping[str, Any], choices: tuple[str, ...]) -> None:
    if name in given and given[name] not in choices:
        raise not_a_choice("E108", where=name, value=given[name], choices=choices)


def _check_flag(name: str, given: Mapping[str, Any]) -> None:
    if name in given and not isinstance(given[name], bool):
        what = f"{given[name]!r} is not True or False"
        raise error("E108", where=name, what=what, fix="pass True for events with times, else False")


def check_threshold(threshold: Any, config: Any, source: str, *, per_label: bool = False) -> None:
    """Raise E108 unless it is a number in [0, 1], or `"fitted"` and the checkpoint has thresholds.

    With `per_label`, as for timelines, a list or dict of numbers is left to `TimelineRules`.
    """
    is_fitted = isinstance(threshold, str) and threshold == FITTED
    if per_label and (
        is_fitted or isinstance(threshold, (list, tuple, Mapping)) or hasattr(threshold, "tolist")
    ):
        return
    if not is_fitted and not (is_finite_number(threshold) and 0.0 <= threshold <= 1.0):
        fix = f"give a number in [0, 1], or {FITTED!r}"
        raise error("E108", where="threshold", what=f"{threshold!r} is not a threshold", fix=fix)
    if is_fitted and config.problem_type != Task.MULTI_LABEL:
        what = f"{FITTED!r} is for multi-label models, and this one is {config.problem_type!r}"
        fix = "give a number in [0, 1], or top_k=1 for the best"
        raise error("E108", where="threshold", what=what, fix=fix)
    if is_fitted and config.thresholds is None:
        what = f"is {FITTED!r}, but none are stored in config.json of {source}"
        fix = "fit them with `ast-hf evaluate --fit-on validation --store`, or give a number in [0, 1]"
        raise error("E108", where="threshold", what=what, fix=fix)
