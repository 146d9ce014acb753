"""The benchmark of quantisation counts what changed, and its page has a row for each variant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from benchmarks import quantisation

EXACT = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])


def test_agreement_is_counted_apart_for_held_out_clips() -> None:
    found = EXACT.clone()
    found[2] = torch.tensor([0.0, 0.5])  # the second of two held-out clips changes, and is then wrong
    values = quantisation.compare(
        found, EXACT, torch.tensor([0, 1, 0, 0]), torch.tensor([False, True, True, False])
    )
    assert values == pytest.approx(
        {"agreement": 0.75, "held_out": 0.5, "changed": 1, "accuracy": 0.5, "gap": 1.0}
    )


def test_quick_takes_clips_from_all_over_the_table(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path,label,split\n" + "".join(f"{row}.wav,a,test\n" for row in range(10)))
    assert [row["path"] for row in quantisation.read_clips(table, 5)] == [
        f"{row}.wav" for row in (0, 2, 4, 6, 8)
    ]
    assert len(quantisation.read_clips(table, None)) == 10


def test_bytes_are_those_of_the_elements() -> None:
    model = torch.nn.Linear(3, 2)
    assert quantisation.weight_bytes(model) == 32
    assert quantisation.weight_bytes(model.bfloat16()) == 16


def test_the_page_has_a_row_for_each_variant() -> None:
    stored = json.loads(quantisation.RESULTS.read_text(encoding="utf-8"))
    page = quantisation.section()
    for name, values in stored["variants"].items():
        assert f"| {name} | {values['agreement']:.2%} |" in page
    assert f"| {quantisation.PRODUCTS} |" in page
    assert "/" not in stored["command"].replace("and/or", "")
    assert page in (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")


def test_the_guide_has_the_stored_agreement() -> None:
    stored = json.loads(quantisation.RESULTS.read_text(encoding="utf-8"))
    guide = (ROOT / "docs" / "how-to" / "quantise.md").read_text(encoding="utf-8")
    for name, values in stored["variants"].items():
        cells = (
            f"{values['agreement']:.2%}",
            f"{values['held_out']:.2%} ({values['changed']})",
            f"{values['gap']:.3f}",
        )
        assert f"| {name} | {' | '.join(cells)} |" in guide
