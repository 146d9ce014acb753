"""The benchmark of learning compares equal settings, and its page matches the measurements."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from conftest import ROOT

from ast_hf import ASTForAudioClassification
from benchmarks import (
    first_hour,
    first_hour_page,
    inference_speed,
    inference_speed_page,
    learning,
    learning_page,
    learning_systems,
    psla,
)
from benchmarks.learning_systems import CORPORA, Corpus, Task

RECIPE_GUIDE = ROOT / "docs" / "how-to" / "choose-a-recipe.md"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Restore the settings that a run changes, such as threads: normally it has a process of its own."""
    threads = torch.get_num_threads()
    verbosity = transformers.logging.get_verbosity()
    yield
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a task on twelve noises of two colours in place of the commands; four are held out."""
    root = tmp_path_factory.mktemp("sets")
    folder = root / "arabic_commands"
    random = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        for clip in range(12):
            noise = random.standard_normal(16_000) * 0.1
            sound = np.cumsum(noise) * 0.1 if clip % 2 else noise
            soundfile.write(folder / f"{clip}.wav", sound.astype(np.float32), 16_000)
            rows.writerow((f"{clip}.wav", ("white", "brown")[clip % 2], "val" if clip < 4 else "train"))
    return Task("plain", "arabic_commands", "choice", 0, 1e-3, 1, str(root), "", str(root / "out"))


@pytest.mark.parametrize("system", [name for name in learning_systems.SYSTEMS if name != "image"])
def test_a_run_records_accuracy_and_seconds_of_each_epoch(task: Task, system: str) -> None:
    results = learning_systems.run(dataclasses.replace(task, system=system, epochs=2))
    assert [point["epoch"] for point in results["points"]] == [1.0, 2.0]
    assert 0 < results["points"][0]["seconds"] < results["points"][1]["seconds"]
    assert all(point["accuracy"] in (0, 0.25, 0.5, 0.75, 1) for point in results["points"])


def test_stock_starts_from_the_same_weights_as_ours(task: Task) -> None:
    stock = learning_systems.plain(task).trainer.model
    assert type(stock).__module__.startswith("transformers.")
    ours = ASTForAudioClassification.from_pretrained(task.folder / "start")
    values = torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gap = (stock.eval()(values).logits - ours.eval()(values).logits).abs().max()
    assert gap < 1e-5


def test_no_test_clip_chooses_anything() -> None:
    for corpus in CORPORA.values():
        reported, chosen_on = (
            {value for splits in corpus.splits[stage] for value, split in splits.items() if split == "test"}
            for stage in ("final", "choice")
        )
        assert reported
        assert chosen_on
        assert not reported & chosen_on


def test_the_other_systems_get_more_trials_and_at_least_as_much_time() -> None:
    for corpus in CORPORA.values():
        tries = {system: len(rates) for system, rates in corpus.learning_rates.items()}
        assert min(tries["plain"], tries["psla"]) > max(tries["recipe"], tries["patchout"])
        assert corpus.epochs["plain"] == corpus.epochs["narrow"]
    stored = json.loads(learning_page.RESULTS.read_text(encoding="utf-8"))
    for results in stored["sets"].values():
        cost = {name: learning_page.curve(system).cost for name, system in results["systems"].items()}
        assert max(cost["recipe"], cost["patchout"]) <= cost["plain"]


def test_equal_attention_is_the_mean_over_time() -> None:
    pooling = psla.AttentionPooling(channels=3, num_labels=2)
    with torch.no_grad():
        pooling.attention.weight.zero_()  # every time step has the same weight
        pooling.votes.weight.fill_(1.0)
        pooling.votes.bias.zero_()
    features = torch.tensor([[[1.0, 3.0], [0.0, 0.0], [2.0, 2.0]]])
    assert torch.allclose(pooling(features), torch.tensor([[4.0, 4.0]]))  # (1 + 0 + 2 + 3 + 0 + 2) / 2


def test_the_convolutional_network_starts_with_a_signal() -> None:
    """With transformers' own random weights the signal vanishes: all clips get the same logits."""
    torch.manual_seed(0)
    model = psla.PSLA(3).train()
    logits = model(torch.randn(4, 128, 64)).logits
    assert logits.std(dim=0).min() > 1e-2


def test_attention_pooling_selects_frames() -> None:
    pooling = psla.AttentionPooling(channels=1, num_labels=1)
    with torch.no_grad():
        pooling.attention.weight.fill_(50.0)
        pooling.attention.bias.zero_()
        pooling.votes.weight.fill_(1.0)
        pooling.votes.bias.zero_()
    assert pooling(torch.tensor([[[-1.0, 5.0]]])).item() == pytest.approx(5.0, abs=1e-3)


# ---------------------------------------------------------------- the page


def stored(accuracies: list[list[float]], seconds: list[float]) -> dict:
    seeds = {
        str(seed): [
            {"epoch": 1.0 + i, "seconds": seconds[i], "accuracy": value} for i, value in enumerate(values)
        ]
        for seed, values in enumerate(accuracies)
    }
    return {"learning_rate": 1e-4, "parameters": 2_500_000, "seeds": seeds}


PLAIN = stored([[0.2, 0.5, 0.6], [0.4, 0.5, 0.8]], [100.0, 200.0, 300.0])


def test_an_accuracy_is_reached_where_the_mean_stays_above_it() -> None:
    curve = learning_page.curve(stored([[0.8, 0.6, 0.75], [0.7, 0.7, 0.8]], [30.0, 60.0, 90.0]))
    assert learning_page.cost_to_reach(0.7, curve) == 90.0  # 0.75, then 0.65, then 0.775
    assert learning_page.cost_to_reach(0.65, curve) == 30.0
    assert learning_page.cost_to_reach(0.8, curve) is None


def test_a_row_has_costs_as_shares_of_plain_fine_tuning() -> None:
    results = stored([[0.6, 0.7, 0.9], [0.6, 0.7, 0.8]], [50.0, 75.0, 150.0])
    assert learning_page.row("(b)", results, learning_page.curve(PLAIN)) == (
        "| (b), learning rate 1e-4 | 2.5 M | 3 | 0.850 ± 0.071 | 0.900, 0.800 | 0.50 | 0.25 |"
    )


def test_an_interrupted_comparison_counts_its_finished_runs(task: Task) -> None:
    planned = [dataclasses.replace(task, seed=seed, epochs=7) for seed in (0, 1)]
    points = [{"epoch": 1.0, "seconds": 2.0, "accuracy": 0.5}]
    learning.result_of(planned[1]).parent.mkdir(parents=True)
    learning.result_of(planned[1]).write_text(
        json.dumps({"task": dataclasses.asdict(planned[1]), "parameters": 9, "points": points})
    )
    results = learning.stored(planned)
    assert results["runs"] == {"planned": 2, "finished": 1}
    assert results["sets"]["esc10"] == {"systems": {}}
    assert results["sets"]["arabic_commands"]["systems"] == {
        "plain": {"seeds": {"1": points}, "learning_rate": 1e-3, "parameters": 9}
    }


def test_stored_results_of_other_weights_are_not_reused(task: Task) -> None:
    task = dataclasses.replace(task, seed=5)
    learning.result_of(task).parent.mkdir(parents=True)
    learning.result_of(task).write_text(json.dumps({"task": dataclasses.asdict(task)}))
    assert learning.is_done(task)
    assert not learning.is_done(dataclasses.replace(task, vit="others"))


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    results = {
        "systems": {"plain": PLAIN},
        "simple": [{"baseline": 0.3, "chance": 0.1, "clips": {"train": 9, "test": 4}}],
    }
    learning_page.draw({"sets": {"esc10": results}}, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_splits_are_disjoint_and_settings_are_chosen_on_other_folds() -> None:
    esc10 = CORPORA["esc10"].splits
    assert esc10["choice"] == [{"2": "test", "3": "train", "4": "train", "5": "train"}]
    tested = [[fold for fold, split in splits.items() if split == "test"] for splits in esc10["final"]]
    assert tested == [["1"], ["3"], ["4"]]  # none is the split of the choice
    assert all(set(splits) == {"1", "2", "3", "4", "5"} for splits in esc10["final"])


def test_corpora_name_every_system() -> None:
    for corpus in CORPORA.values():
        assert isinstance(corpus, Corpus)
        assert set(corpus.epochs) == {*corpus.learning_rates, "narrow"} == set(corpus.systems)
        assert set(learning_page.NAMES) == set(learning_systems.SYSTEMS)


# ---------------------------------------------------------------- the first hour


def test_few_clips_are_as_many_of_each_label_and_no_test_clip_is_left_out() -> None:
    rows = [{"label": label, "split": "train", "path": f"{label}{i}"} for label in "ab" for i in range(9)]
    rows += [{"label": "a", "split": "test", "path": f"t{i}"} for i in range(5)]
    kept = first_hour.few(rows, 8)
    counts = [sum(row["split"] == "train" and row["label"] == label for row in kept) for label in "ab"]
    assert counts == [4, 4]
    assert [row for row in kept if row["split"] == "test"] == rows[18:]
    assert kept == first_hour.few(rows, 8)


def test_the_table_of_a_case_has_the_columns_that_a_user_has(tmp_path: Path) -> None:
    folder = tmp_path / "arabic_commands"
    folder.mkdir()
    lines = ["path,label,split,speaker", "a.flac,yes,train,3", "b.flac,no,val,4", "c.flac,no,test,5"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    table = first_hour.write_table(tmp_path, first_hour.CASES["commands"], tmp_path / "out" / "clips.csv")
    head, *rows = table.read_text().splitlines()
    assert head == "path,label,split,speaker"
    assert [row.split(",", 1)[1] for row in rows] == ["yes,train,3", "no,validation,4", "no,test,5"]
    assert first_hour.count(table) == {"train": 1, "validation": 1, "test": 1}


def test_every_case_names_a_shipped_recipe_or_none() -> None:
    named = {case.recipe for case in first_hour.CASES.values() if case.recipe}
    assert {path.name for path in first_hour.RECIPES.glob("*.yaml")} >= named


def test_the_page_of_the_first_hour_has_a_row_for_each_test_split() -> None:
    case = {
        "title": "words",
        "clips": {"train": 300, "test": 60},
        "new": {
            "scores": {"test": 0.9},
            "baseline": {"test": 0.5},
            "seconds": 120.0,
            "estimated_seconds": 90.0,
        },
        "recipe": {"file": "spoken-words.yaml", "scores": {"test": 0.4}},
    }
    assert first_hour_page.case_rows(case) == [
        "| words, 300 / 60 | test | 0.900 | 0.500 | 0.400 (spoken-words.yaml) | 2.0 | 0.75 |"
    ]


def test_stored_recipes_name_no_folders() -> None:
    text = "source: /home/ann/runs/words.csv, vit: /data/dinov2-small"
    cut = first_hour.without_folders(text, [Path("/home/ann/runs"), "/data/dinov2-small", ""])
    assert cut == "source: runs/words.csv, vit: dinov2-small"


def test_the_guide_shows_the_stored_first_hour() -> None:
    stored = json.loads(first_hour_page.RESULTS.read_text(encoding="utf-8"))
    page = RECIPE_GUIDE.read_text(encoding="utf-8")
    for case in stored["cases"].values():
        for row in first_hour_page.case_rows(case):
            assert row in page, "copy the rows of benchmarks/RESULTS.md"
        assert 1 / 1.5 <= case["new"]["estimated_seconds"] / case["new"]["seconds"] <= 1.5


def test_ratios_of_inference_are_those_of_the_reference() -> None:
    table = {"seconds": {"stock": 2.0, "ours": 0.5}, "gaps": {"stock": 0.0, "ours": 1e-6}}
    assert inference_speed_page.ratio_rows(table, "stock") == [
        "| stock | 1.00x | 0.0e+00 |",
        "| ours | 4.00x | 1.0e-06 |",
    ]
    kinds = {"as loaded": 1.0, "float32": 0.5, "bfloat16": 0.25}
    seconds = {f"ast_hf {kind}, {frames}": spent for kind, spent in kinds.items() for frames in (100, 250)}
    rows = inference_speed_page.length_rows({"transformers, padded": 2.0, **seconds})
    assert rows == [
        "| clips | as loaded | float32 | bfloat16 |",
        "|---|---|---|---|",
        "| 1 s | 2.0x | 4.0x | 8.0x |",
        "| 2.5 s | 2.0x | 4.0x | 8.0x |",
        "| a mixture of these | 2.00x | 4.00x | 8.00x |",
    ]


def test_variants_take_turns() -> None:
    turns: list[str] = []
    variants = {name: functools.partial(turns.append, name) for name in "ab"}
    assert set(inference_speed.alternate(variants, 2)) == {"a", "b"}
    assert turns == list("ababab"), "the first turn is not counted"
