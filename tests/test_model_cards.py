"""The cards in model_cards match their results, and these match the benchmarks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import cards, learning_page

NAMES = sorted(path.stem for path in (cards.FOLDER / "results").glob("*.json"))


def test_every_card_is_generated_from_its_results() -> None:
    made = cards.pages(cards.FOLDER)
    assert {path.name for path in made} == {path.name for path in cards.FOLDER.glob("*.md")}
    assert {path.stem for path in made} == {"README", *NAMES}
    assert set(NAMES) == set(cards.SOURCES)
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is not of its results: run make cards"


def test_changed_results_change_the_card(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name in NAMES:
        results = cards.read(cards.FOLDER, name)
        results["results"]["test"]["accuracy"] += 0.001
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(results))
    for path, text in cards.pages(tmp_path).items():
        assert (cards.FOLDER / path.name).read_text(encoding="utf-8") != text


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_cards_exist(name: str) -> None:
    text = (cards.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        assert (cards.FOLDER / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "instruments"])
def test_cards_match_the_runs_of_bench_learning(name: str) -> None:
    stored = json.loads(learning_page.RESULTS.read_text(encoding="utf-8"))["sets"][name.replace("-", "_")]
    results = cards.read(cards.FOLDER, name)
    assert results["results"]["test"]["accuracy"] == stored["systems"]["recipe"]["seeds"]["0"][-1]["accuracy"]
    assert results["baseline"]["test"] == stored["simple"][0]["baseline"]
    assert results["clips"]["test"] == stored["simple"][0]["clips"]["test"]


@pytest.mark.parametrize("name", NAMES)
def test_results_hold_no_local_paths(name: str) -> None:
    text = (cards.FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8")
    assert not re.findall(r'"/[^"]*"|/home/|/root/|/tmp/', text)
