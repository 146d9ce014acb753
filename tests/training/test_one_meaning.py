"""A number that is shown in several places is the same in all of them, before and after a calibration is stored."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import yaml
from conftest import TINY
from huggingface_hub import ModelCard
from sklearn.metrics import precision_recall_fscore_support
from transformers import pipeline

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, cli
from ast_hf.adapters.merging import merge_adapter
from ast_hf.commands.console import print_results
from ast_hf.evaluation.evaluate import evaluate_checkpoints
from ast_hf.hub.published_files import publication_of
from ast_hf.reports import curves, pictures
from ast_hf.reports.evaluation_results import Evaluation
from ast_hf.training import Report, finetune
from training.runs import recipe, sound

LABELS = ["noise", "tone", "tone high"]
SIZES = {"train": 6, "validation": 5, "test": 4}
MULTI = "multi_label_classification"
#: Column of per_class.csv -> that of results.json and the card.
SHARED = {
    "positives": "clips",
    "precision": "precision",
    "recall": "recall",
    "F1": "F1",
    "AP": "AP",
    "AUC": "AUC",
}


def write_data(root: Path, *, is_multi_label: bool) -> Path:
    """Write clips of three splits and their table; one clip in three of the second kind has both labels."""
    rows = []
    for split, count in SIZES.items():
        for place, kind in enumerate(("noise", "tone")):
            for number in range(count):
                name = f"{split}-{kind}-{number}.wav"
                samples = sound(kind, number + 40 * len(split))
                soundfile.write(root / name, samples, 16_000)
                high = kind == "tone" and number % 3 == 0
                labels = [LABELS[place]] + ([LABELS[2]] if high else [])
                row: dict[str, Any] = {"path": name, "split": split}
                rows.append(row | ({"labels": labels} if is_multi_label else {"label": labels[-1]}))
    table = root / "clips.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return table


class Run(NamedTuple):
    """A finished run, with the figures that were drawn."""

    report: Report
    table: Path
    texts: dict[str, list[str]]
    options: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.report.folder

    def again(self, folder: Path, **arguments: Any) -> Report:
        return finetune(recipe(self.table, self.options, num_train_epochs=1), folder, **arguments)


@pytest.fixture(scope="module", params=["single", "multi"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of each task. Read only."""
    root = tmp_path_factory.mktemp(request.param)
    table = write_data(root, is_multi_label=request.param == "multi")
    options = {"data": {"eval_splits": ["test", "validation"]}, "card": {"data_sets": ["someone/tones"]}}
    texts: dict[str, list[str]] = {}

    def note(figure: Any, path: Path) -> None:
        texts[Path(path).name] = [text.get_text() for axes in figure.axes for text in axes.texts]
        pictures_save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        pictures_save = pictures.save_picture
        patch.setattr(curves, "save_picture", note)
        patch.setattr(pictures, "save_picture", note)
        report = finetune(recipe(table, options, num_train_epochs=1), root / "run")
    return Run(report, table, texts, options)


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def tables_of(text: str) -> list[list[dict[str, str]]]:
    """Return the tables of a Markdown page, as rows by the head's names."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip().replace("\\", "") for cell in line.strip("|\n").split("|")]
            for line in block.splitlines()
        ]
        tables.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return tables


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_class.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def evaluate(names: list[str], run: Run, folder: Path, **options: Any) -> Evaluation:
    return evaluate_checkpoints(names, run.table, output_dir=folder, **options)


def check_card(folder: Path, results: dict[str, Any]) -> None:
    """Compare every number of a run's card and of its files for the Hub with its results.json."""
    card = ModelCard.load(folder / "README.md")
    main, metrics, by_label, *_ = tables_of(card.text)
    metric = results["metric"]
    assert main[0]["test"] == shown(results["results"]["test"][metric])
    titles = {"d-prime": "d_prime"}
    for row in metrics:
        for split, values in results["results"].items():
            assert row[split] == shown(values[titles.get(row["metric"], row["metric"])])
    for row, stored in zip(by_label, results["classes"]["test"], strict=True):
        for name, value in stored.items():
            assert row[name] == (str(value) if name in ("label", "clips") else shown(value)), name
    for entry in card.data.eval_results:
        value = results["results"][entry.dataset_split][entry.metric_type]
        assert entry.metric_value == round(value, 4)
    for split, values in results["results"].items():
        stored = yaml.safe_load((folder / ".eval_results" / f"tones-{split}.yaml").read_text())
        for entry in stored:
            title = entry["notes"].split(",")[0]
            assert entry["value"] == round(values[titles.get(title, title)], 4)


@pytest.mark.long
def test_a_run_shows_its_results_everywhere(run: Run, capsys: pytest.CaptureFixture) -> None:
    results = results_of(run.folder)
    check_card(run.folder, results)
    print_results(run.report)
    printed = capsys.readouterr().out
    for split, values in results["results"].items():
        number = f"{values[results['metric']]:.3f}"
        assert number in printed
        assert number in run.texts["curves.png"], split
    if results["problem_type"] != MULTI:
        recalls = {f"{row['recall']:.2f}" for row in results["classes"]["test"] if row["recall"]}
        assert recalls <= set(run.texts["confusion.png"])


def test_a_table_by_class_is_of_the_pipelines_decisions(run: Run, tmp_path: Path) -> None:
    """The table is the same as the card's; best thresholds have names of their own, and name their split."""
    name = str(run.folder)
    evaluation = evaluate([name], run, tmp_path / "one")
    results = results_of(run.folder)
    metrics = json.loads((tmp_path / "one" / "results.json").read_text())["metrics"][name]
    for metric, value in metrics.items():
        if not metric.endswith("_classes"):
            assert value == pytest.approx(results["results"]["test"][metric], abs=1e-5), metric
            assert f"{value:.4f}" in evaluation.table()
    rows = rows_of(tmp_path / "one")
    for row, stored in zip(rows, results["classes"]["test"], strict=True):
        for column, key in SHARED.items():
            expected = stored[key]
            assert (row[column] == "") == (expected is None)
            if expected is not None:
                assert float(row[column]) == pytest.approx(expected, abs=1e-5), column
        assert row["best_on"] == "test"
    check_decisions(run, name, rows)


def check_decisions(run: Run, model: str, rows: list[dict[str, str]]) -> None:
    """Compare rows of per_class.csv with scikit-learn's figures of what the pipeline answers."""
    classify = pipeline("audio-classification", model=model)
    config = ASTConfig.from_pretrained(model)
    clips = [json.loads(line) for line in run.table.read_text().splitlines()]
    tested = [row for row in clips if row["split"] == "test"]
    files = [str(run.table.parent / row["path"]) for row in tested]
    if config.problem_type == MULTI:
        threshold: Any = "fitted" if config.thresholds else 0.5
        answers = [{entry["label"] for entry in answer} for answer in classify(files, threshold=threshold)]
        truth = [set(row["labels"]) for row in tested]
    else:
        answers = [{answer[0]["label"]} for answer in classify(files)]
        truth = [{row["label"]} for row in tested]
    labels = [config.id2label[index] for index in range(config.num_labels)]
    decided, true = (
        np.array([[label in each for label in labels] for each in part]) for part in (answers, truth)
    )
    figures = precision_recall_fscore_support(true, decided, zero_division=math.nan)
    for row, *expected in zip(rows, *figures, strict=True):
        for name, value in zip(("precision", "recall", "F1", "positives"), expected, strict=True):
            assert float(row[name] or "nan") == pytest.approx(value, abs=1e-6, nan_ok=True), (
                row["label"],
                name,
            )


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Path:
    """Return a copy of the run's folder, with its checkpoints."""
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    return folder


def test_a_stored_calibration_counts_everywhere(run: Run, copied: Path, tmp_path: Path) -> None:
    name = str(copied)
    evaluation = evaluate([name], run, tmp_path / "out", fit_on="validation", store=True)
    outcome = evaluation.outcomes[name]
    calibration = outcome.calibration
    assert calibration is not None
    config = ASTConfig.from_pretrained(copied)
    assert (config.temperature, config.thresholds) == (calibration.temperature, calibration.thresholds)
    assert outcome.temperature == config.temperature != 1.0
    assert outcome.metrics["NLL"] == pytest.approx(calibration.after["test"]["NLL"])
    assert "fitted on validation, stored: the table above is with it" in evaluation.table()
    rows = rows_of(tmp_path / "out")
    check_decisions(run, name, rows)
    assert {row["best_on"] for row in rows} == {"validation"}
    if config.thresholds:
        assert [float(row["threshold"]) for row in rows] == config.thresholds
        assert [float(row["best_threshold"]) for row in rows] == pytest.approx(config.thresholds, rel=0.6)
        fitted = np.mean([float(row["best_F1"]) for row in rows])
        assert fitted == pytest.approx(calibration.after["validation"]["F1"])
    else:
        assert "threshold" not in rows[0]

    again = evaluate([name], run, tmp_path / "again")
    assert again.outcomes[name].metrics == pytest.approx(outcome.metrics)
    for first, second in zip(rows, rows_of(tmp_path / "again"), strict=True):
        for column in first:
            if not column.startswith("best_"):
                assert first[column] == second[column], column

    record = results_of(copied)["calibration"]
    assert (record["temperature"], record["thresholds"]) == (config.temperature, config.thresholds)
    assert (record["fitted_on"], record["in_results"]) == ("validation", False)
    text = (copied / "README.md").read_text()
    section = text.split("## Calibration\n")[1].split("\n## ")[0]
    assert (
        f"a temperature of {config.temperature:.4g}, fitted on the split validation of clips.jsonl" in section
    )
    assert "were measured before" in section
    for row in tables_of(section)[0]:
        values = getattr(calibration, row[""])[row["split"]]
        assert {name: f"{value:.4f}" for name, value in values.items()} == {
            name: row[name] for name in values
        }
    for label, value in zip(LABELS, config.thresholds or [], strict=False):
        assert f"{label} {value:.3g}" in section
    check_card(copied, results_of(copied))  # what training measured is as it was

    without = text.replace("## Calibration\n" + section + "\n", "")
    assert re.sub(r"\(logits / [^)]*\)", "logits", without) == (run.folder / "README.md").read_text()
    evaluate([name], run, tmp_path / "out", fit_on="validation", store=True)
    assert (copied / "README.md").read_text().count("## Calibration") == 1


@pytest.mark.long
def test_a_calibration_survives_resuming_and_not_retraining(run: Run, copied: Path, tmp_path: Path) -> None:
    evaluate([str(copied)], run, tmp_path / "out", fit_on="validation", store=True)
    stored = ASTConfig.from_pretrained(copied)
    config_file = (copied / "config.json").read_text()
    report = run.again(copied, resume_from_checkpoint="auto")
    assert (copied / "config.json").read_text() == config_file
    results = results_of(copied)
    assert results["calibration"]["in_results"]
    assert results["calibration"]["fitted_on"] == "validation"
    assert "are measured with these values" in (copied / "README.md").read_text()
    check_card(copied, results)
    evaluation = evaluate([str(copied)], run, tmp_path / "again")
    metrics = evaluation.outcomes[str(copied)].metrics
    assert metrics["NLL"] == pytest.approx(report.results["test"]["NLL"], abs=1e-5)
    assert metrics["ECE"] == pytest.approx(report.results["test"]["ECE"], abs=1e-5)
    for row, own in zip(rows_of(tmp_path / "again"), results["classes"]["test"], strict=True):
        assert float(row["F1"] or "nan") == pytest.approx(
            math.nan if own["F1"] is None else own["F1"], abs=1e-5, nan_ok=True
        )

    check_a_second_fit(copied, run, tmp_path / "second", results)
    for checkpoint in copied.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    run.again(copied, overwrite=True)
    fresh = ASTConfig.from_pretrained(copied)
    assert (fresh.temperature, fresh.thresholds) == (None, None)
    assert stored.temperature is not None
    assert results_of(copied)["calibration"] is None
    assert "## Calibration" not in (copied / "README.md").read_text()


def check_a_second_fit(folder: Path, run: Run, out: Path, results: dict[str, Any]) -> None:
    """Store a fit on another split: the results were measured with the first one."""
    (effort,) = folder.glob("checkpoint-*/effort.json")
    assert results["seconds"] == json.loads(effort.read_text())["seconds"]  # nothing was trained again
    first = results["calibration"]
    evaluate([str(folder)], run, out, fit_on="train", store=True)
    record = results_of(folder)["calibration"]
    assert record["temperature"] != first["temperature"]
    assert record["measured_with"] == {name: first[name] for name in ("temperature", "thresholds")}
    text = (folder / "README.md").read_text()
    assert f"were measured before, with a temperature of {first['temperature']:.4g}" in text
    evaluate([str(folder)], run, out, fit_on="validation", store=True)
    again = results_of(folder)["calibration"]
    assert again["temperature"] == pytest.approx(first["temperature"], rel=1e-4)


@pytest.mark.slow
def test_the_card_of_an_ensemble_has_the_numbers_of_its_evaluation(
    run: Run, copied: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    names = [str(run.folder), str(copied)]
    evaluation = evaluate(names, run, folder, ensemble=True, fit_on="validation")
    check_ensemble(folder, evaluation)
    assert "## Calibration" not in (folder / "ensemble" / "README.md").read_text()
    names[0] = str(shutil.copytree(run.folder, tmp_path / "other"))
    evaluation = evaluate(names, run, folder, ensemble=True, fit_on="validation", store=True)
    check_ensemble(folder, evaluation)
    text = (folder / "ensemble" / "README.md").read_text()
    section = text.split("## Calibration\n")[1].split("\n## ")[0]
    assert "The results above are measured with these values." in section
    assert "transformers alone" not in section
    members = tables_of(text)[0][1:]
    for number, row in enumerate(members, 1):  # as they are in the ensemble, without the values just stored
        member = str(folder / "ensemble" / f"member-{number}")
        alone = evaluate([member], run, tmp_path / "alone").outcomes[member].metrics
        assert row["NLL"] == f"{alone['NLL']:.4f}"
    check_decisions(
        run, str(folder / "ensemble"), [row for row in rows_of(folder) if row["model"] == "ensemble"]
    )
    assert "## Calibration" in (folder / "ensemble" / "README.md").read_text()


def check_ensemble(folder: Path, evaluation: Evaluation) -> None:
    card = ModelCard.load(folder / "ensemble" / "README.md")
    metrics = json.loads((folder / "results.json").read_text())["metrics"]["ensemble"]
    for entry in card.data.eval_results:
        assert entry.metric_value == round(metrics[entry.metric_type], 4)
    row = tables_of(card.text)[0][0]
    for metric in ("mAP", "ECE", "NLL"):
        assert row[metric] == f"{metrics[metric]:.4f}"
        assert row[metric] in evaluation.table()


@pytest.mark.slow
def test_a_calibration_survives_a_push(run: Run, copied: Path, tmp_path: Path) -> None:
    evaluate([str(copied)], run, tmp_path / "out", fit_on="validation", store=True)
    files = publication_of(copied, "user/tones").files
    assert files["config.json"] == copied / "config.json"
    page = files["README.md"]
    assert isinstance(page, bytes)
    assert b"## Calibration" in page
    assert str(tmp_path).encode() not in page


@pytest.mark.slow
def test_a_calibration_survives_a_merge(tmp_path: Path) -> None:
    table = write_data(tmp_path, is_multi_label=True)
    base = tmp_path / "base"
    ASTForAudioClassification(ASTConfig(**TINY, num_labels=7, temperature=3.0)).save_pretrained(base)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(base)
    changes = {"model": {"base": str(base), "config": {}}, "adapter": {"rank": 2}}
    finetune(recipe(table, changes, num_train_epochs=1), tmp_path / "run")
    assert ASTConfig.from_pretrained(tmp_path / "run").temperature is None  # the base's does not hold
    evaluate_checkpoints(
        [str(tmp_path / "run")], table, output_dir=tmp_path / "out", fit_on="validation", store=True
    )
    stored = ASTConfig.from_pretrained(tmp_path / "run")
    assert stored.temperature is not None
    merge_adapter(tmp_path / "run" / "adapter", tmp_path / "merged", base=str(base))
    merged = ASTConfig.from_pretrained(tmp_path / "merged")
    assert (merged.temperature, merged.thresholds) == (stored.temperature, stored.thresholds)


def test_the_command_shows_the_same_numbers(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(run.folder), str(run.table), "--output", str(out)]) == 0
    verdict, table = capsys.readouterr().out.split("\n\n")[:2]
    head, values = table.splitlines()
    results = results_of(out)
    assert verdict.splitlines()[0] == results["verdict"]["headline"]
    metrics = results["metrics"][str(run.folder)]
    for name, value in zip(head.split()[1:], values.split()[1:], strict=True):
        assert value == f"{metrics[name]:.4f}"
