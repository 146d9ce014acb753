"""Our AST passes every common test of transformers that stock AST passes (`make test-peer`)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deviations import FAILS, SKIPS
from run_mixins import OURS, SIDES, NoSourceError, make_tiny_models, start, unpacked_tests

pytestmark = pytest.mark.slow

#: Number of tests that stock passes in every version tried; fewer means that some were not run.
LEAST = 110

Ends = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ends]:
    """Return how each test ended, by side and name; all sides run at once."""
    try:
        tests = unpacked_tests()
    except NoSourceError as problem:
        pytest.skip(str(problem))
    folder = tmp_path_factory.mktemp("peer")
    models = make_tiny_models(folder / "models")
    reports = {side: folder / f"{side}.json" for side in SIDES}
    printed = {side: folder / f"{side}.txt" for side in SIDES}
    runs = {
        side: start(side, tests, models, reports[side], ["-q", "--tb=short"], printed[side]) for side in SIDES
    }
    try:
        for side, run in runs.items():
            assert run.wait(timeout=600) in (0, 1), printed[side].read_text()[-1500:]  # 1: some tests failed
    finally:
        for run in runs.values():
            run.kill()
    return {side: json.loads(report.read_text()) for side, report in reports.items()}


def _passes(end: dict[str, Any]) -> bool:
    return end["passed"] > 0 and not end["failed"]


def _last_line(end: dict[str, Any]) -> str:
    return end["says"][-1].splitlines()[-1] if end["says"] else "fewer subtests than stock"


def test_stock_passes_its_own_tests(ends: dict[str, Ends]) -> None:
    failed = {name: end["says"] for name, end in ends["stock"].items() if end["failed"]}
    assert not failed
    assert sum(map(_passes, ends["stock"].values())) >= LEAST


@pytest.mark.parametrize("side", OURS)
def test_ours_passes_what_stock_passes(side: str, ends: dict[str, Ends]) -> None:
    stock, ours = ends["stock"], ends[side]
    assert ours.keys() == stock.keys()
    failed = {name for name, end in ours.items() if end["failed"]}
    fewer = (
        {name for name, end in ours.items() if end["passed"] < stock[name]["passed"]}
        - FAILS.keys()
        - SKIPS.keys()
    )
    assert not failed | fewer, "\n".join(
        f"{name}: {_last_line(ours[name])}" for name in sorted(failed | fewer)
    )


@pytest.mark.parametrize("side", OURS)
@pytest.mark.parametrize("name", FAILS)
def test_deviation_fails_as_described(name: str, side: str, ends: dict[str, Ends]) -> None:
    assert _passes(ends["stock"][name])
    assert ends[side][name]["xfailed"], "it passes: take it off the table"
    assert any(FAILS[name].says in text for text in ends[side][name]["says"])


@pytest.mark.parametrize("side", OURS)
@pytest.mark.parametrize("name", SKIPS)
def test_deviation_skips_as_described(name: str, side: str, ends: dict[str, Ends]) -> None:
    assert _passes(ends["stock"][name])
    assert ends[side][name]["skipped"] > ends["stock"][name]["skipped"], "it runs: take it off the table"
    assert any(SKIPS[name].says in text for text in ends[side][name]["says"])
