"""Every row of the tables: ours gives the right value or the right code, within limits of time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import RESULTS, Case, record_outcome
from .runner import GOOD, run
from .tables import SECTIONS, all_cases

CASES = all_cases()


def test_ids_are_unique_and_have_a_section() -> None:
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids), sorted({name for name in ids if ids.count(name) > 1})
    assert {name[0] for name in ids} <= set(SECTIONS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ours_is_right(case: Case, tmp_path: Path) -> None:
    value = case.prepare(tmp_path)
    outcome = run(
        lambda: case.ours(value), case.right, tmp_path, seconds=case.seconds, megabytes=case.megabytes
    )
    verdict = outcome.verdict(case.right)
    record_outcome(case, "ours", verdict, outcome.text)
    assert verdict in GOOD, f"{case.title}: {verdict}, {outcome.text}"


@pytest.mark.skipif(RESULTS is None, reason="the column of transformers is only measured for the page")
@pytest.mark.parametrize("case", [case for case in CASES if case.stock is not None], ids=str)
def test_stock_is_measured(case: Case, tmp_path: Path) -> None:
    assert case.stock is not None
    stock = case.stock
    value = case.prepare(tmp_path)
    outcome = run(lambda: stock(value), case.right, tmp_path, seconds=case.seconds, megabytes=case.megabytes)
    record_outcome(case, "stock", outcome.verdict(case.right), outcome.text)
