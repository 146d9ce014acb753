"""Rules of a timeline: those stored in a checkpoint, changed by the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import error
from ..timelines.rules import TimelineRules
from .arguments import FITTED, RULES, check_threshold

#: Sizes of windows that are stored with the rules.
WINDOWS = ("window_seconds", "hop_seconds")


def stored(config: Any) -> dict[str, Any]:
    """Return the rules and window sizes that are stored in a checkpoint, or an empty dict."""
    return dict(getattr(config, "timeline", None) or {})


def timeline_rules(
    config: Any, source: str, given: Mapping[str, Any], *, is_exclusive: bool = False
) -> TimelineRules:
    """Return the rules of a timeline.

    Those of a call come first, then those stored in the checkpoint by `ast-hf evaluate --timeline --store`, then
    the checkpoint's thresholds for clips, then the defaults. If one label excludes the others, the mean is
    arithmetic by default: a softmax changes its mind when about half of the window is another sound, and a
    sigmoid fires wherever its window touches one (issue 15; tests/timelines/test_kinds_of_models.py).

    Raises:
        AstInputError: E108 for impossible rules, and for `threshold="fitted"` without fitted thresholds.
    """
    fields: dict[str, Any] = {"mean": "arithmetic"} if is_exclusive else {}
    fields |= {name: value for name, value in stored(config).items() if name not in WINDOWS}
    has_own = "threshold" in fields
    if not has_own and getattr(config, "thresholds", None):
        fields["threshold"] = list(config.thresholds)
    threshold = given.get("threshold")
    if isinstance(threshold, str) and threshold == FITTED:
        if not has_own:
            check_threshold(FITTED, config, source)
        threshold = None
    rules = TimelineRules.from_dict(fields, where=f"timeline in config.json of {source}")
    changes = {name: given[name] for name in RULES if name in given}
    return rules.replace(threshold=_by_label(threshold, config), **changes)


def _by_label(threshold: Any, config: Any) -> Any:
    """Return a dict of thresholds by label as a list in the model's order; raise E108 unless it has all labels."""
    if not isinstance(threshold, Mapping):
        return threshold
    labels = [config.id2label[index] for index in range(config.num_labels)]
    for label in labels:
        if label not in threshold:
            fix = "give one for each label of the model, or a single number"
            raise error("E108", where="threshold", what=f"has no value for label {label!r}", fix=fix)
    if unknown := sorted(map(str, threshold.keys() - set(labels))):
        what = f"has a value for {unknown[0]!r}, which is not a label of the model"
        raise error("E108", where="threshold", what=what, fix="leave it out")
    return [threshold[label] for label in labels]
