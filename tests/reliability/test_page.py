"""docs/reliability.md is what its generator writes from the stored results, and has every row of the tables."""

from __future__ import annotations

import json

from . import page
from .runner import GOOD
from .tables import all_cases


def test_page_is_generated_from_the_stored_results() -> None:
    results = json.loads(page.RESULTS.read_text(encoding="utf-8"))
    assert page.PAGE.read_text(encoding="utf-8") == page.render(results)


def test_stored_results_have_every_row_and_no_bad_one_of_ours() -> None:
    cases = json.loads(page.RESULTS.read_text(encoding="utf-8"))["cases"]
    assert set(cases) == {case.id for case in all_cases()}
    assert [name for name, row in cases.items() if row["ours"]["verdict"] not in GOOD] == []


def test_readme_has_the_counts() -> None:
    rows = json.loads(page.RESULTS.read_text(encoding="utf-8"))["cases"].values()
    stock = [row["stock"]["verdict"] for row in rows if "stock" in row]
    bad = sum(verdict in ("silent", "unbounded") for verdict in stock)
    readme = " ".join((page.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{len(stock)} bad inputs, of which transformers takes {bad} silently" in readme
