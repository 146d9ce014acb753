"""Model cards have everything in results.json, and no name can break their Markdown."""

from __future__ import annotations

import copy
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from huggingface_hub import ModelCard, parse_eval_result_entries
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment, meta
from markdown_it import MarkdownIt

from ast_hf import AstHfError, AstHfWarning
from ast_hf.reports.emissions import read_emissions
from ast_hf.reports.markdown import plain
from ast_hf.reports.model_card import eval_results_files
from ast_hf.reports.model_card_values import card_values
from ast_hf.training import Recipe, prepare, write_card

DATA = ROOT / "tests" / "data"
CARD = {
    "license": "mit",
    "data_sets": ["someone/pets"],
    "base_model": "someone/ast",
    "language": ["en"],
    "description": "Tells cats from dogs.",
    "limits": "Not for wolves.",
}
RECIPE = {
    "name": "pets",
    "data": {"source": "pets.csv"},
    "model": {"base": "ast"},
    "training": {"num_train_epochs": 8},
    "card": CARD,
}
#: Renderer like the Hub's: tables, and HTML as HTML. Tests search its output for elements that names must not become.
PAGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def results(**changes: Any) -> dict[str, Any]:
    """Return results of a run with every field."""
    stored = json.loads((DATA / "card_results.json").read_text(encoding="utf-8"))
    recipe = Recipe.from_dict(copy.deepcopy({**RECIPE, **changes.pop("recipe", {})})).to_dict()
    return {**stored, "recipe": recipe, **changes}


def body(card: ModelCard) -> str:
    """Return a card's page without the recipe."""
    return re.sub(r"<details>.*?</details>", "", PAGE.render(card.text), flags=re.DOTALL)


# ---------------------------------------------------------------- completeness


def test_a_card_equals_the_stored_example() -> None:
    text = str(write_card(results(), "someone/pets-ast"))
    assert text == (DATA / "card.md").read_text(encoding="utf-8")


def test_unknown_facts_are_left_out() -> None:
    unknown: dict[str, Any] = {
        "emissions": None,
        "data_sets": [],
        "base_model": None,
        "baseline": {},
        "chance": {},
    }
    recipe: dict[str, Any] = {"card": {}, "model": {}}
    pictures = {"curves": "curves.png"}
    card = write_card(
        results(**unknown, recipe=recipe, training_labels={}, pictures=pictures), "someone/pets-ast"
    )
    assert card.data.to_dict().keys() == {
        *("library_name", "pipeline_tag", "tags", "metrics", "model-index"),
    }
    for word in (
        "None",
        "null\n---",
        "kWh",
        "CO2",
        "logistic",
        "most frequent",
        "confusion",
        "Not for wolves",
    ):
        assert word not in card.text.replace("null", "").split("<details>")[0], word
    assert "from random weights" in card.text
    assert "None" not in body(card)


def test_nothing_was_evaluated() -> None:
    nothing: dict[str, Any] = {"results": {}, "classes": {}, "baseline": {}, "chance": {}, "clips": {}}
    card = write_card(results(**nothing), "someone/pets-ast")
    assert "Nothing was evaluated." in card.text
    assert "model-index" not in card.data.to_dict()


def test_with_many_labels_the_worst_and_the_best_are_shown() -> None:
    rows = [{"label": f"l{number}", "clips": 1, "AP": number / 120, "AUC": 0.5} for number in range(120)]
    rows[7]["AP"] = None  # has no clip
    many = {"labels": [row["label"] for row in rows], "training_labels": {row["label"]: 3 for row in rows}}
    problem = {"problem_type": "multi_label_classification"}
    card = write_card(results(classes={"test": rows, "unseen": rows}, **many, **problem), "someone/tags")
    labels = re.findall(r"^\| (l\d+) \| 3 \| 1 \|", card.text, re.MULTILINE)
    assert labels == [f"l{number}" for number in (*range(7), *range(8, 26), *range(95, 120))]
    assert "the worst and the best 25 of 120 by AP" in card.text
    assert "and 70 more, in config.json." in card.text


def test_a_reader_is_warned_before_anything_else() -> None:
    verdict = {"headline": "The regression is better.", "lines": ["At chance."], "advice": []}
    for outcome, findings, expected in (
        ("below", [], "**Before you use it:** The regression is better.\n\n## Use"),
        ("even", ["at-chance"], "**Before you use it:** At chance.\n\n## Use"),
        ("above", ["few-clips"], "Tells cats from dogs.\n\n## Use"),
    ):
        stored = {**verdict, "outcome": outcome, "findings": findings}
        assert expected in write_card(results(verdict=stored), "someone/pets-ast").text


def test_labels_are_those_of_the_test_split_whatever_the_order_of_the_splits() -> None:
    known = results()
    for key in ("results", "classes", "clips", "baseline", "chance"):
        known[key] = {"validation": known[key]["test"], "test": known[key]["test"]}
    assert "By label, on test:" in body(write_card(known, "user/model"))


def test_labels_do_not_run_together_and_gaps_are_explained() -> None:
    changed = results(labels=["10", "a, b"])
    row = changed["classes"]["test"][0]
    assert "A dash stands for" not in write_card(changed, "someone/pets-ast").text
    row["precision"] = None
    text = write_card(changed, "someone/pets-ast").text
    assert '## Labels\n\n"10", "a, b".\n' in text
    assert "A dash stands for what cannot be measured: precision of a label that is never the answer" in text


def test_scores_in_the_newer_form() -> None:
    files = eval_results_files(results())
    assert list(files) == [".eval_results/pets-test.yaml", ".eval_results/pets-unseen.yaml"]
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/pets-test.yaml"]))
    assert [(entry.value, entry.notes) for entry in entries] == [
        (0.75, "accuracy, split test, 4 clips"),
        (0.8125, "mAP, split test, 4 clips"),
        (0.875, "mAUC, split test, 4 clips"),
        (1.6268, "d-prime, split test, 4 clips"),
    ]
    assert {(entry.dataset_id, entry.task_id, entry.date) for entry in entries} == {
        ("someone/pets", "default", "2026-11-25")
    }
    assert eval_results_files(results(data_sets=[])) == {}


# ---------------------------------------------------------------- names with meaning in Markdown

HOSTILE = [
    "a|b <script>alert(1)</script>",
    "two\nlines\r\n\n# head",
    "![x](http://evil.example/y.png) [z](javascript:alert(1))",
    "`code` *b* _i_ ~~s~~ $x$ @someone &lt; &amp;",
    "---",
    "http://evil.example www.evil.example",
    "</details> <!-- ",
    "\u202eright to left\u2066 \x00 \x1b[31m",
    "{name} %s {{x}}",
    "\\",
    "x\\",
    "key: value # comment",
]


def hostile_results(name: str) -> dict[str, Any]:
    """Return results with a name in every field that takes one."""
    changed = results(recipe={"name": name, "card": {**CARD, "description": name, "limits": name}})
    changed["labels"] = [name, "dog"]
    changed["training_labels"] = {name: 12, "dog": 8}
    for rows in changed["classes"].values():
        rows[0]["label"] = name
    for part in ("results", "classes", "clips", "baseline", "chance"):
        changed[part] = {name: changed[part]["test"], "unseen": changed[part]["unseen"]}
    changed["recipe"]["data"]["source"] = name
    changed |= {"data_sets": [], "hardware": name}
    changed["emissions"] |= {"country": name, "hardware": name}
    return changed


def tags(page: str) -> list[str]:
    """Return the HTML elements of a page, in order."""
    return re.findall(r"</?[a-z][^>]*>|<!--", page)


def test_an_unescaped_name_breaks_the_page() -> None:
    """Without `plain`, the test below would fail."""
    assert tags(PAGE.render("| a |\n|---|\n| " + HOSTILE[2] + " |")) != tags(
        PAGE.render("| a |\n|---|\n| cat |")
    )


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.text("ab\n\r|`*_[]()<>#~$&@!\\-=:/.{}\"' \u202e", min_size=1).filter(
            lambda name: _seen(name).strip()
        ),
    )
)
@example("=\n=")
@example("1. x")
@example("+ x")
def test_hostile_names_do_not_change_a_card(name: str) -> None:
    card, plain_card = (write_card(hostile_results(text), "someone/pets-ast") for text in (name, "cat"))
    assert tags(body(card)) == tags(body(plain_card))
    assert card.data.to_dict().keys() == plain_card.data.to_dict().keys()
    assert len(card.data.eval_results) == len(plain_card.data.eval_results)
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()  # and the card reads back
    first = next(line for line in PAGE.render(card.text).splitlines() if line.startswith("<h1>"))
    assert _text(first).strip() == _seen(name).strip()


def _text(page: str) -> str:
    """Return the text of a rendered page."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def _seen(text: str) -> str:
    """Return the text without invisible characters."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())


@pytest.mark.parametrize("text", HOSTILE)
def test_addresses_are_not_links(text: str) -> None:
    """GitHub and the Hub turn bare addresses and user names into links, and dollar signs into formulas."""
    escaped = plain(text)
    assert not re.search(r"(?<!\\)[$@~]|https?://|www\.", escaped)


# ---------------------------------------------------------------- card options of the recipe


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("license", "My own licence", "license"),
        ("data_sets", ["pets"], "data_sets"),
        ("base_model", "/home/x/ast", "base_model"),
        ("language", ["English"], "language"),
        ("samples", ["cat.mp3"], "samples"),
        ("samples", ["a/cat.wav", "b/cat.wav"], "samples"),
    ],
)
def test_card_options_invalid_on_the_hub_are_refused_before_training(
    option: str, value: Any, message: str
) -> None:
    with pytest.raises(AstHfError, match="E307") as caught:
        Recipe.from_dict({"card": {option: value}})
    assert f"card.{message}" in str(caught.value)


def test_a_sample_that_is_not_audio_is_refused_before_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "cat.wav").write_bytes(b"no audio")
    recipe = Recipe.from_dict(
        {"data": {"source": "nowhere"}, "card": {"samples": [str(tmp_path / "cat.wav")]}}
    )
    with pytest.raises(AstHfError, match=r"E20.*cat\.wav"):
        prepare(recipe, tmp_path / "out")


# ---------------------------------------------------------------- emissions

#: Columns and a line of codecarbon 3.3.2, without those that are not read.
HEAD = (
    "timestamp,duration,emissions,energy_consumed,country_name,codecarbon_version,cpu_model,gpu_model,"
    "longitude,latitude"
)
ICELAND = "2026-11-25T20:15:51,3.0,0.0005,0.00125,Iceland,3.3.2,Some CPU,,-21.9,64.1"
NOWHERE = "2026-11-25T20:15:51,3.0,0.0005,0.00125,Canada,3.3.2,Some CPU,Some GPU,-71.2,46.8"


@pytest.mark.parametrize(
    ("lines", "energy", "grams", "country", "hardware"),
    [
        ([ICELAND], 0.00125, 0.5, "Iceland", "Some CPU"),
        ([ICELAND, ICELAND], 0.0025, 1.0, "Iceland", "Some CPU"),
        ([NOWHERE], 0.00125, None, None, "Some GPU"),
        ([NOWHERE, ICELAND], 0.0025, None, None, "Some CPU"),
    ],
)
def test_emissions(
    tmp_path: Path, lines: list[str], energy: float, grams: float | None, country: str | None, hardware: str
) -> None:
    (tmp_path / "emissions.csv").write_text("\n".join([HEAD, *lines, ""]))
    emissions = read_emissions(tmp_path)
    assert emissions is not None
    assert emissions == {
        "energy_kwh": pytest.approx(energy),
        "co2_grams": None if grams is None else pytest.approx(grams),
        "country": country,
        "hardware": hardware,
        "source": "codecarbon 3.3.2",
    }
    card = write_card(results(emissions=emissions), "someone/pets-ast")
    assert ("co2_eq_emissions" in card.data.to_dict()) == (grams is not None)
    assert "kWh" in card.text


def test_missing_emissions_are_none(tmp_path: Path) -> None:
    assert read_emissions(tmp_path) is None
    (tmp_path / "emissions.csv").write_text(HEAD + "\n")
    assert read_emissions(tmp_path) is None


@pytest.mark.parametrize("lines", [[HEAD, ICELAND, "2026-11-25T20:1"], ["timestamp,other", "2026,1"]])
def test_emissions_that_cannot_be_read_do_not_end_a_run(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "emissions.csv").write_text("\n".join(lines))
    with pytest.warns(AstHfWarning, match=r"W501.*emissions\.csv"):
        assert read_emissions(tmp_path) is None


def test_with_many_labels_those_with_clips_are_shown() -> None:
    rows = [
        {"label": f"l{number}", "clips": number % 2, "AP": 0.5 if number % 2 else None}
        for number in range(60)
    ]
    many = {"labels": [row["label"] for row in rows], "training_labels": {row["label"]: 3 for row in rows}}
    card = write_card(results(classes={"test": rows, "unseen": rows}, **many), "someone/tags")
    assert "the 30 of 60 labels that have clips there" in card.text
    assert "worst" not in card.text


def test_an_unknown_duration_is_left_out() -> None:
    card = write_card(results(seconds=0.0, clips_per_second=0.0), "someone/pets-ast")
    assert "clips per second" not in card.text


# ---------------------------------------------------------------- templates


def test_template_uses_exactly_the_values_that_it_is_given() -> None:
    """Jinja silently renders a misspelt variable as an empty string."""
    text = (ROOT / "ast_hf" / "reports" / "templates" / "model_card.md").read_text(encoding="utf-8")
    variables = meta.find_undeclared_variables(Environment(autoescape=False).parse(text))
    assert variables == {"card_data", *card_values(results(), "someone/pets-ast")}


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% raw %}", "{# note #}", "{{ name", "%} }}"])
def test_text_of_users_is_no_template(text: str) -> None:
    plain_card = write_card(hostile_results("cat"), "someone/pets-ast")
    card = write_card(hostile_results(text), "someone/pets-ast")
    assert tags(body(card)) == tags(body(plain_card))
    assert plain(text) in card.text
