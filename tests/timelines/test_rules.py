"""Rules of timelines: values out of range are errors, and a round trip through JSON changes nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ast_hf.errors import AstInputError
from ast_hf.timelines.rules import TimelineRules


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.2}, "threshold"),
        ({"threshold": "high"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": []}, "threshold"),
        ({"threshold": [0.5, 2.0]}, "threshold[1]"),
        ({"threshold": None}, "threshold"),
        ({"low_threshold": 0.6}, "low_threshold"),
        ({"low_threshold": -0.1}, "low_threshold"),
        ({"threshold": [0.5, 0.2], "low_threshold": 0.3}, "low_threshold"),
        ({"threshold": [0.5, 0.2], "low_threshold": [0.1, 0.1, 0.1]}, "low_threshold"),
        ({"min_seconds": -1}, "min_seconds"),
        ({"min_seconds": float("inf")}, "min_seconds"),
        ({"gap_seconds": "1"}, "gap_seconds"),
        ({"silence_db": 3}, "silence_db"),
        ({"silence_db": -1000}, "silence_db"),
        ({"column_weight": 1.5}, "column_weight"),
        ({"method": "median"}, "method"),
        ({"mean": "maximum"}, "mean"),
    ],
)
def test_values_out_of_range_are_errors_that_name_the_rule(rules: dict[str, Any], where: str) -> None:
    with pytest.raises(AstInputError) as caught:
        TimelineRules(**rules)
    assert (caught.value.code, caught.value.where) == ("E108", where)


def test_rules_survive_json() -> None:
    thresholds: Any = np.array([0.5, 0.25])
    rules = TimelineRules(thresholds, low_threshold=0.1, silence_db=None, method="boxes")
    assert TimelineRules.from_dict(json.loads(json.dumps(rules.as_dict()))) == rules
    assert TimelineRules.from_dict({}) == TimelineRules()


def test_an_unknown_rule_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(AstInputError, match=r"timeline\.treshold.*did you mean 'threshold'"):
        TimelineRules.from_dict({"treshold": 0.5})


def test_thresholds_are_one_per_class() -> None:
    high, low = TimelineRules(threshold=(0.5, 0.2)).thresholds(2)
    assert high.tolist() == [0.5, 0.2]
    assert (low < high).all()
    with pytest.raises(AstInputError, match="has 2 values, and the model 3 classes"):
        TimelineRules(threshold=(0.5, 0.2)).thresholds(3)


def test_a_new_threshold_keeps_the_ratio_to_the_low_one() -> None:
    rules = TimelineRules(threshold=0.5, low_threshold=0.2)
    assert rules.replace(threshold=0.1).low_threshold == pytest.approx(0.04)
    assert rules.replace(threshold=None, min_seconds=1) == TimelineRules(0.5, 0.2, min_seconds=1.0)
    with pytest.raises(AstInputError, match="is above threshold"):
        rules.replace(low_threshold=0.7)
