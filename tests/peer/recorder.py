"""Plugin of pytest for run_mixins.py: marks expected failures of ours, and records how every test ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from deviations import FAILS

_ends: dict[str, dict[str, Any]] = {}


def _name(nodeid: str) -> str:
    return nodeid.partition("::")[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        deviation = FAILS.get(_name(item.nodeid))
        if deviation and os.environ["AST_HF_PEER"] != "stock":
            # Not strict: pytest checks tests without their subtests, and test_peer.py checks both.
            item.add_marker(pytest.mark.xfail(strict=False, reason=deviation.reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record how a test and its subtests ended; subtests have the same name."""
    if report.passed and report.when != "call":
        return
    ends = _ends.setdefault(
        _name(report.nodeid), {"passed": 0, "failed": 0, "skipped": 0, "xfailed": 0, "says": []}
    )
    ends["xfailed" if report.skipped and hasattr(report, "wasxfail") else report.outcome] += 1
    if not report.passed:
        ends["says"].append(report.longreprtext)


def pytest_sessionfinish() -> None:
    Path(os.environ["AST_HF_PEER_REPORT"]).write_text(json.dumps(_ends, indent=1))
