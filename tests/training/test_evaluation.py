"""`evaluate_checkpoints` on tiny models: numbers against pipeline and scikit-learn, files, and errors."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, TINY
from huggingface_hub import ModelCard
from jinja2 import Environment, meta
from matplotlib.image import imread
from operators import Operators, note_passes
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from transformers import pipeline

from ast_hf import (
    ASTConfig,
    ASTEnsembleConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    AstInputError,
    AstRunError,
    cli,
    device_features,
    feature_extraction_ast,
    window_features,
)
from ast_hf.acceleration import placement
from ast_hf.device_features import as_float32
from ast_hf.evaluation import prediction
from ast_hf.evaluation.evaluate import evaluate_checkpoints
from ast_hf.evaluation.prediction import ensemble_logits, predict_logits
from ast_hf.evaluation.stored_logits import clip_keys, load_logits, store_logits
from ast_hf.evaluation.targets import true_labels
from ast_hf.evaluation.weight_average import average_weights
from ast_hf.hub.published_files import publication_of
from ast_hf.inputs import collation
from ast_hf.metrics.decisions import mean_f1
from ast_hf.metrics.ranking import rank
from ast_hf.progress import progress_bar
from ast_hf.reports.ensemble_card import ensemble_card_values
from ast_hf.reports.evaluation_results import Evaluation
from ast_hf.reports.pictures import (
    confusion_counts,
    curve,
    draw_confusion,
    draw_precision_recall,
    most_confused,
)
from ast_hf.task import Task
from ast_hf.training import load_audio_dataset

LABELS = ["cat", "dog", "owl"]
SINGLE, MULTI = "single_label_classification", "multi_label_classification"

#: clips of each label by split
SIZES = {"validation": 5, "test": 4}


def make_checkpoint(
    folder: Path,
    seed: int,
    kind: str | None = SINGLE,
    labels: list[str] = LABELS,
    mean: float = -4.0,
    **fields: Any,
) -> str:
    """Save a tiny model with weights so large that different audio gets different scores."""
    config = ASTConfig(**{**TINY, **fields}, id2label=dict(enumerate(labels)), problem_type=kind)
    model = ASTForAudioClassification(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=mean).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return checkpoints by name. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "one": make_checkpoint(root / "one", 1),
        "two": make_checkpoint(root / "two", 2),
        "turned": make_checkpoint(root / "turned", 3, labels=["owl", "cat", "dog"], time_stride=16),
        "tags": make_checkpoint(root / "tags", 4, MULTI),
        "tags2": make_checkpoint(root / "tags2", 5, MULTI, labels=["dog", "owl", "cat"]),
        "no_task": make_checkpoint(root / "no_task", 6, None),
        "other": make_checkpoint(root / "other", 7, labels=["cat", "dog", "bat"]),
        "louder": make_checkpoint(root / "louder", 8, mean=-5.0),
        "number": make_checkpoint(root / "number", 9, "regression"),
    }


def sound(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    time = np.arange(4800 + 400 * (number % 9)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * random.uniform(200, 4000) * time)
    return tone + random.uniform(0.001, 0.1) * random.standard_normal(len(time))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders. Read only."""
    root = tmp_path_factory.mktemp("clips")
    for split, count in SIZES.items():
        for place, label in enumerate(LABELS):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                soundfile.write(
                    root / split / label / f"{number}.wav",
                    sound(100 * len(split) + 10 * place + number),
                    16_000,
                )
    return root


@pytest.fixture(scope="module")
def tagged(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same clips with lists of labels, without owls in the test split. Read only."""
    path = clips / "tagged.jsonl"
    tags = {"cat": ["cat"], "dog": ["dog", "cat"], "owl": ["dog"]}
    rows = [
        {"path": str(file.relative_to(clips)), "labels": tags[file.parent.name], "split": file.parts[-3]}
        for file in sorted(clips.rglob("*.wav"))
    ]
    rows[-1]["labels"] = ["owl", "dog"]  # a validation clip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rows[-1]["split"] == "validation"
    return path


Logits = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def by_hand(made: dict[str, str], clips: Path) -> Callable[[str, str], tuple[np.ndarray, list[str]]]:
    """Return, by checkpoint and split, the pipeline's scores for each file, in the order of LABELS, and the files."""

    def run(name: str, split: str) -> tuple[np.ndarray, list[str]]:
        classify = pipeline("audio-classification", model=made[name])
        files = [str(file) for file in sorted((clips / split).rglob("*.wav"))]
        answers = classify(files, function_to_apply="none", batch_size=5)
        scores = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
        return np.array([[score[label] for label in LABELS] for score in scores]), files

    return run


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(-1).numpy()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()


def truth_of(files: list[str]) -> np.ndarray:
    return np.array([LABELS.index(Path(file).parent.name) for file in files])


#: by the folder of a test clip, see `tagged`
TAGS = {"cat": [1, 0, 0], "dog": [1, 1, 0], "owl": [0, 1, 0]}


def tags_of(files: list[str]) -> np.ndarray:
    tags = np.array([TAGS[Path(file).parent.name] for file in files])
    if "validation" in files[-1]:
        tags[-1] = [0, 1, 1]
    return tags


def evaluate(names: list[str], source: Path, folder: Path | str, **options: Any) -> Evaluation:
    return evaluate_checkpoints(names, source, output_dir=folder, **options)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_class.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_checkpoint(made: dict[str, str], clips: Path, by_hand: Callable, tmp_path: Path) -> None:
    evaluation = evaluate([made["one"]], clips, tmp_path)
    logits, files = by_hand("one", "test")
    scores = softmax(logits)
    truth = truth_of(files)
    metrics = evaluation.outcomes[made["one"]].metrics
    assert metrics["accuracy"] == accuracy_score(truth, scores.argmax(axis=1))
    assert (evaluation.device, evaluation.precision) == ("cpu", "float32")
    assert metrics["mAP"] == pytest.approx(average_precision_score(np.eye(3)[truth], scores), abs=1e-9)
    assert metrics["mAUC"] == pytest.approx(roc_auc_score(np.eye(3)[truth], scores), abs=1e-9)
    assert metrics["NLL"] == pytest.approx(-np.mean(np.log(scores[np.arange(12), truth])), abs=1e-4)
    assert (evaluation.clips, evaluation.labels, evaluation.problem_type, evaluation.main) == (
        12,
        LABELS,
        SINGLE,
        made["one"],
    )
    assert list(evaluation.outcomes) == [made["one"]]
    assert f"{metrics['accuracy']:.4f}" in evaluation.table()

    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == {made["one"]: pytest.approx(metrics)}
    assert (results["split"], results["clips"], results["checkpoints"]) == ("test", 12, [made["one"]])
    assert results["versions"]["torch"] == torch.__version__
    rows = rows_of(tmp_path)
    assert [(row["model"], row["label"], row["positives"]) for row in rows] == [
        (made["one"], n, "4") for n in LABELS
    ]
    expected = average_precision_score(truth == 1, scores[:, 1])
    assert float(rows[1]["AP"]) == pytest.approx(expected, abs=1e-9)
    assert json.loads((tmp_path / "per_class.json").read_text())[1]["AP"] == pytest.approx(expected, abs=1e-9)
    for name in ("confusion.png", "precision_recall.png"):
        assert imread(tmp_path / name).std() > 0.05
    assert not (tmp_path / "average").exists()


def test_ensemble_of_different_models(
    made: dict[str, str], clips: Path, by_hand: Callable, tmp_path: Path
) -> None:
    names = [made["one"], made["two"], made["turned"]]
    evaluation = evaluate(names, clips, tmp_path)
    assert list(evaluation.outcomes) == [*names, "ensemble"]
    assert evaluation.main == "ensemble"
    parts = [softmax(by_hand(name, "test")[0]) for name in ("one", "two", "turned")]
    truth = truth_of(by_hand("one", "test")[1])
    for name, scores in zip(evaluation.outcomes, [*parts, np.mean(parts, axis=0)], strict=True):
        assert evaluation.outcomes[name].metrics["accuracy"] == accuracy_score(
            truth, scores.argmax(axis=1)
        ), name
        expected = average_precision_score(np.eye(3)[truth], scores)
        assert evaluation.outcomes[name].metrics["mAP"] == pytest.approx(expected, abs=1e-9), name
    assert len({outcome.metrics["NLL"] for outcome in evaluation.outcomes.values()}) == 4
    assert len(rows_of(tmp_path)) == 4 * 3


def test_tags_and_their_ensemble(
    made: dict[str, str], tagged: Path, by_hand: Callable, tmp_path: Path
) -> None:
    file = tmp_path / "logits.safetensors"
    evaluation = evaluate([made["tags"], made["tags2"]], tagged, tmp_path, save_logits=file)
    (first, files), (second, _) = by_hand("tags", "test"), by_hand("tags2", "test")
    tags = tags_of(files)
    for name, scores in {
        made["tags2"]: sigmoid(second),
        "ensemble": (sigmoid(first) + sigmoid(second)) / 2,
    }.items():
        metrics = evaluation.outcomes[name].metrics
        expected = average_precision_score(tags[:, :2], scores[:, :2])
        assert metrics["mAP"] == pytest.approx(expected, abs=1e-9)
        assert (metrics["mAP_classes"], metrics["mAUC_classes"]) == (2, 2)  # no owl in the test split
        assert "accuracy" not in metrics
    stored = load_logits(file)
    assert stored.logits.sigmoid().numpy() == pytest.approx((sigmoid(first) + sigmoid(second)) / 2, abs=1e-5)
    assert stored.problem_type == MULTI
    assert not (tmp_path / "confusion.png").exists()
    assert imread(tmp_path / "precision_recall.png").std() > 0.05
    owl = json.loads((tmp_path / "per_class.json").read_text())[2]
    assert (owl["label"], owl["positives"], owl["AP"]) == ("owl", 0, None)


def test_ensemble_logits_give_the_mean_again() -> None:
    logits = {"a": np.array([[2.0, -1.0, 0.5]]), "b": np.array([[-3.0, 40.0, 0.5]])}
    mean = (softmax(logits["a"]) + softmax(logits["b"])) / 2
    assert softmax(ensemble_logits(logits, SINGLE)) == pytest.approx(mean, abs=1e-9)
    mean = (sigmoid(logits["a"]) + sigmoid(logits["b"])) / 2
    assert sigmoid(ensemble_logits(logits, MULTI)) == pytest.approx(mean, abs=1e-9)
    assert np.isfinite(ensemble_logits({"sure": np.array([[1000.0, -1000.0]])}, MULTI)).all()


def test_mean_of_weights(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    names = [made["one"], made["two"]]
    evaluation = evaluate(names, clips, tmp_path, average=True)
    assert list(evaluation.outcomes) == [*names, "average", "ensemble"]
    first, second, mean = (
        load_file(Path(folder) / "model.safetensors") for folder in (*names, str(tmp_path / "average"))
    )
    assert first.keys() == mean.keys()
    for name, value in mean.items():
        assert torch.allclose(value, (first[name] + second[name]) / 2, atol=1e-6), name
    again = evaluate([str(tmp_path / "average")], clips, tmp_path / "again")
    assert again.outcomes[again.main].metrics == pytest.approx(evaluation.outcomes["average"].metrics)
    classify = pipeline("audio-classification", model=str(tmp_path / "average"))
    assert len(classify(str(clips / "test" / "cat" / "0.wav"))) == 3


@pytest.mark.parametrize(
    ("other", "code", "text"),
    [("turned", "E305", "time_stride"), ("other", "E303", "id2label"), ("louder", "E301", "mean")],
)
def test_weights_without_a_mean_are_refused(other: str, code: str, text: str, made: dict[str, str]) -> None:
    with pytest.raises(AstHfError) as caught:
        average_weights([made["one"], made[other]])
    assert caught.value.code == code
    assert text in str(caught.value)
    assert made["one"] in str(caught.value)


def test_labels_are_matched_by_name(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    """Uses a table with two of the labels, and a model that has them at other indices."""
    rows = [("owl", "test/owl/0.wav"), ("owl", "test/owl/1.wav"), ("dog", "test/dog/0.wav")]
    table = clips / "few.csv"
    table.write_text("path,label,split\n" + "".join(f"{path},{label},test\n" for label, path in rows))
    split = load_audio_dataset(table)["test"]
    assert true_labels(split, ["bat", "owl", "cat", "dog"], Task.SINGLE_LABEL).tolist() == [1, 1, 3]
    tags = true_labels(split, ["bat", "owl", "cat", "dog"], Task.MULTI_LABEL)
    assert tags.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    evaluation = evaluate([made["turned"]], table, tmp_path)
    assert evaluation.labels == ["owl", "cat", "dog"]
    assert [row["positives"] for row in rows_of(tmp_path)] == ["2", "0", "1"]


def test_single_labels_for_a_tagger_are_tags(
    made: dict[str, str], clips: Path, by_hand: Callable, tmp_path: Path
) -> None:
    evaluation = evaluate([made["tags"]], clips, tmp_path)
    logits, files = by_hand("tags", "test")
    expected = average_precision_score(np.eye(3)[truth_of(files)], sigmoid(logits))
    assert evaluation.problem_type == MULTI
    assert evaluation.outcomes[evaluation.main].metrics["mAP"] == pytest.approx(expected, abs=1e-9)


def test_labels_missing_from_the_model_are_refused(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match=r"E208.*does not have 'owl'") as caught:
        evaluate([made["other"]], clips, tmp_path)
    assert "split 'test'" in str(caught.value)
    assert not (tmp_path / "results.json").exists()


#: id -> checkpoints, source ("clips" or "tagged"), options, code, text
REFUSED: list[tuple[str, list[str], str, dict[str, Any], str, str]] = [
    ("no-checkpoint", [], "clips", {}, "E108", "at least one"),
    ("twice", ["one", "one"], "clips", {}, "E108", "named twice"),
    ("average-of-one", ["one"], "clips", {"average": True}, "E108", "average"),
    ("fit-on-itself", ["one"], "clips", {"fit_on": "test"}, "E108", "fit_on"),
    ("nothing-to-store", ["one"], "clips", {"store": True}, "E108", "store"),
    (
        "store-on-the-hub",
        ["user/name"],
        "clips",
        {"store": True, "fit_on": "validation"},
        "E108",
        "user/name",
    ),
    ("logits-of-another-kind", ["one"], "clips", {"save_logits": "logits.npy"}, "E108", ".safetensors"),
    ("no-such-split", ["one"], "clips", {"split": "tset"}, "E209", "did you mean 'test'"),
    ("no-such-fit-split", ["one"], "clips", {"fit_on": "valid"}, "E209", "'valid'"),
    ("other-labels", ["one", "other"], "clips", {}, "E303", "'owl', 'bat'"),
    ("other-task", ["one", "tags"], "clips", {}, "E303", "multi_label"),
    ("tags-for-one-label", ["one"], "tagged", {}, "E208", "is single-label"),
    ("regression", ["number"], "clips", {}, "E302", "regression"),
    ("no-folder", ["./none"], "clips", {}, "E306", "none"),
]


@pytest.mark.parametrize(
    ("names", "source", "options", "code", "text"),
    [row[1:] for row in REFUSED],
    ids=[row[0] for row in REFUSED],
)
def test_invalid_evaluations_are_refused(
    names: list[str],
    source: str,
    options: dict,
    code: str,
    text: str,
    made: dict,
    request: Any,
    tmp_path: Path,
) -> None:
    with pytest.raises(AstHfError) as caught:
        evaluate(
            [made.get(name, name) for name in names], request.getfixturevalue(source), tmp_path, **options
        )
    assert caught.value.code == code, str(caught.value)
    assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def copy_of(made: dict[str, str], name: str, folder: Path) -> str:
    ASTForAudioClassification.from_pretrained(made[name]).save_pretrained(folder)
    ASTFeatureExtractor.from_pretrained(made[name]).save_pretrained(folder)
    return str(folder)


def test_a_calibration_that_is_worse_on_the_evaluated_split_is_warned_of(
    made: dict[str, str], by_hand: Callable, tmp_path: Path
) -> None:
    """A temperature fitted on right answers makes scores confident, and all test answers are wrong."""
    logits, files = by_hand("one", "test")
    answers = [f"{file},{LABELS[row.argmax()]},validation" for file, row in zip(files, logits, strict=True)]
    answers += [f"{file},{LABELS[row.argmin()]},test" for file, row in zip(files, logits, strict=True)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split", *answers]))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    name = copy_of(made, "one", tmp_path / "one")
    with pytest.warns(
        AstHfWarning, match=r"W502.*one'.*changes on test: NLL from .*clips of validation differ from those"
    ):
        evaluate(
            [name],
            tmp_path / "clips.csv",
            tmp_path / "out",
            fit_on="validation",
            store=True,
            class_labels=labels,
        )


def test_temperature_is_fitted_and_stored(
    made: dict[str, str], clips: Path, by_hand: Callable, tmp_path: Path
) -> None:
    names = [copy_of(made, "one", tmp_path / "one"), copy_of(made, "two", tmp_path / "two")]
    evaluation = evaluate(names, clips, tmp_path / "out", fit_on="validation", store=True, average=True)
    logits, files = by_hand("one", "validation")
    truth = truth_of(files)

    def loss(temperature: float) -> float:
        return float(
            torch.nn.functional.cross_entropy(torch.tensor(logits / temperature), torch.tensor(truth))
        )

    best = min(np.geomspace(0.05, 20, 4000), key=loss)
    calibration = evaluation.outcomes[names[0]].calibration
    assert calibration.temperature == pytest.approx(best, rel=0.01)
    assert calibration.before["validation"]["NLL"] == pytest.approx(loss(1.0), abs=1e-4)
    assert calibration.after["validation"]["NLL"] == pytest.approx(loss(best), abs=1e-4)
    assert calibration.after["validation"]["NLL"] < calibration.before["validation"]["NLL"]
    assert calibration.after["test"]["ECE"] == evaluation.outcomes[names[0]].metrics["ECE"]
    assert (calibration.thresholds, calibration.without_positive) == (None, 0)
    written = json.loads((tmp_path / "out" / "results.json").read_text())["calibration"]
    assert written.keys() == {*names, "average", "ensemble"}
    assert written[names[0]]["temperature"] == calibration.temperature
    for name, folder in {
        **dict(zip(names, names, strict=True)),
        "average": str(tmp_path / "out" / "average"),
    }.items():
        config = ASTConfig.from_pretrained(folder)
        assert (config.temperature, config.thresholds) == (
            evaluation.outcomes[name].calibration.temperature,
            None,
        )
    assert f"temperature {calibration.temperature:.4g}, fitted on validation, stored: the table above" in (
        evaluation.table()
    )

    score = pipeline("audio-classification", model=names[0])(files[0], top_k=1)[0]["score"]
    assert score == pytest.approx(softmax(logits[:1] / calibration.temperature).max(), abs=1e-4)
    again = evaluate(names[:1], clips, tmp_path / "again")  # the stored values are used
    assert again.outcomes[names[0]].metrics["ECE"] == pytest.approx(
        calibration.after["test"]["ECE"], abs=1e-6
    )


def test_thresholds_are_fitted_and_stored(
    made: dict[str, str], tagged: Path, by_hand: Callable, tmp_path: Path
) -> None:
    name = copy_of(made, "tags", tmp_path / "tags")
    evaluation = evaluate([name], tagged, tmp_path / "out", fit_on="validation", store=True)
    calibration = evaluation.outcomes[name].calibration
    logits, files = by_hand("tags", "validation")
    scores = sigmoid(logits / calibration.temperature)
    tags = tags_of(files)
    for index in range(3):
        best = max(f1_score(tags[:, index], scores[:, index] >= value) for value in scores[:, index])
        taken = scores[:, index] >= (calibration.thresholds or [])[index]
        assert f1_score(tags[:, index], taken) == pytest.approx(best)
    assert calibration.after["validation"]["F1"] > calibration.before["validation"]["F1"]
    config = ASTConfig.from_pretrained(name)
    assert (config.temperature, config.thresholds) == (calibration.temperature, calibration.thresholds)
    classify = pipeline("audio-classification", model=name)
    for file, row in zip(files, scores, strict=True):
        expected = {
            label
            for label, score, least in zip(LABELS, row, config.thresholds, strict=True)
            if score >= least
        }
        assert {entry["label"] for entry in classify(file, threshold="fitted")} == expected


def test_thresholds_are_stored_in_the_label_order_of_each_checkpoint(
    made: dict[str, str], tagged: Path, tmp_path: Path
) -> None:
    names = [copy_of(made, "tags", tmp_path / "tags"), copy_of(made, "tags2", tmp_path / "tags2")]
    evaluation = evaluate(names, tagged, tmp_path / "out", fit_on="validation", store=True)
    # in the label order of the first checkpoint
    cat, dog, owl = evaluation.outcomes[names[1]].calibration.thresholds or []
    assert ASTConfig.from_pretrained(names[1]).thresholds == [dog, owl, cat]
    assert len({cat, dog, owl}) == 3


def test_label_without_a_clip_gets_the_middle_threshold(
    made: dict[str, str], tagged: Path, tmp_path: Path
) -> None:
    name = copy_of(made, "tags", tmp_path / "tags")
    evaluation = evaluate([name], tagged, tmp_path / "out", split="validation", fit_on="test")
    calibration = evaluation.outcomes[name].calibration
    assert ((calibration.thresholds or [])[2], calibration.without_positive) == (0.5, 1)
    assert ASTConfig.from_pretrained(name).temperature is None  # not stored by default


def test_missing_problem_type_follows_the_data(
    made: dict[str, str], clips: Path, tagged: Path, tmp_path: Path
) -> None:
    name = copy_of(made, "no_task", tmp_path / "no_task")
    assert evaluate([name], clips, tmp_path / "single").problem_type == SINGLE
    evaluation = evaluate([name], tagged, tmp_path / "tags", fit_on="validation", store=True)
    assert evaluation.problem_type == MULTI
    assert ASTConfig.from_pretrained(name).problem_type == MULTI


def test_mean_f1() -> None:
    scores = np.array([[0.9, 0.1, 0.9], [0.6, 0.8, 0.9], [0.2, 0.7, 0.1]])
    tags = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    assert mean_f1(scores, tags, 0.5) == pytest.approx((2 / 3 + 1) / 2)  # the third class has no positive
    assert mean_f1(scores, tags, [0.7, 0.75, 0.0]) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(mean_f1(scores, np.zeros_like(tags), 0.5))


def test_logits_round_trip_through_a_file(
    made: dict[str, str], clips: Path, by_hand: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "kept" / "logits.safetensors"
    evaluate([made["turned"]], clips, tmp_path, save_logits=path, batch_size=5)
    logits, files = by_hand("turned", "test")
    stored = load_logits(path, labels=LABELS)
    assert (stored.clips, stored.labels, stored.problem_type) == (files, LABELS, SINGLE)
    assert stored.logits.dtype == torch.float32
    assert stored.logits.numpy() == pytest.approx(logits, abs=1e-4)
    assert load_logits(path).labels == ["owl", "cat", "dog"]
    assert torch.equal(load_logits(path).logits, stored.logits[:, [2, 0, 1]])
    assert torch.equal(
        load_logits(path, labels=LABELS, clips=[files[7], files[2]]).logits, stored.logits[[7, 2]]
    )
    assert clip_keys(load_audio_dataset(clips)["test"]) == files
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["labels"]) == ["owl", "cat", "dog"]
    assert [entry.name for entry in path.parent.iterdir()] == ["logits.safetensors"]


def test_segments_of_a_file_are_separate_clips() -> None:
    from datasets import Dataset

    rows = {
        "audio": [{"path": "a.wav"}] * 2 + [{"path": None}],
        "start": [None, 1.5, None],
        "end": [None, 2.0, None],
    }
    assert clip_keys(Dataset.from_dict(rows)) == ["a.wav", "a.wav#1.5-2.0", "row 2"]


def test_names_of_stored_logits_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "logits.safetensors"
    logits = np.arange(6.0).reshape(2, 3)
    store_logits(path, logits, ["a.wav", "b.wav"], LABELS, SINGLE)
    for names, text in (
        ({"labels": ["cat", "dog", "bat"]}, "'owl'"),
        ({"labels": [*LABELS, "bat"]}, "no label 'bat'"),
        ({"labels": ["cat", "dog"]}, "'owl'"),
        ({"clips": ["a.wav", "c.wav"]}, "no clip 'c.wav'"),
    ):
        with pytest.raises(AstHfError, match=rf"E208.*{text}"):
            load_logits(path, **names)
    with pytest.raises(AstHfError, match=r"E208.*'a\.wav'.*two different clips"):
        store_logits(path, logits, ["a.wav", "a.wav"], LABELS, SINGLE)
    store_logits(tmp_path / "again.safetensors", logits[[0, 0]], ["a.wav", "a.wav"], LABELS, SINGLE)
    assert load_logits(tmp_path / "again.safetensors", clips=["a.wav"]).logits.tolist() == [[0.0, 1.0, 2.0]]


def test_broken_stored_logits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "logits.safetensors"
    store_logits(path, np.zeros((2, 3)), ["a.wav", "b.wav"], LABELS, SINGLE)
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(AstHfError, match="E306"):
        load_logits(path)
    save_file({"weights": torch.zeros(2)}, path)
    with pytest.raises(AstHfError, match=r"E306.*no stored logits"):
        load_logits(path)
    store_logits(path, np.zeros((2, 3)), ["a.wav", "b.wav"], LABELS[:2], SINGLE)
    with pytest.raises(AstHfError, match=r"E306.*\(2, 3\) logits for 2 clips and 2 labels"):
        load_logits(path)


def test_logits_file_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "logits.safetensors"
    store_logits(path, np.ones((1, 3)), ["a.wav"], LABELS, SINGLE)
    before = path.read_bytes()
    with path.open("rb") as reader:  # a process that reads the old file keeps its content
        store_logits(path, np.zeros((1, 3)), ["a.wav"], LABELS, SINGLE)
        assert reader.read() == before != path.read_bytes()
    path.write_bytes(before)

    def full_disk(tensors: Any, part: Path, **_: Any) -> None:
        part.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("ast_hf.evaluation.stored_logits.save_file", full_disk)
    with pytest.raises(AstRunError, match="no space"):
        store_logits(path, np.zeros((1, 3)), ["a.wav"], LABELS, SINGLE)
    assert load_logits(path).logits.tolist() == [[1.0, 1.0, 1.0]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["logits.safetensors"]


def test_progress_bar_counts_clips(
    made: dict[str, str], clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []

    def kept(**settings: Any) -> Any:
        bars.append(progress_bar(**settings))
        return bars[-1]

    monkeypatch.setattr(prediction, "progress_bar", kept)
    model, extractor = (
        kind.from_pretrained(made["one"]) for kind in (ASTForAudioClassification, ASTFeatureExtractor)
    )
    predict_logits(model, load_audio_dataset(clips)["test"], extractor, batch_size=5, text="one on test")
    assert [(bar.n, bar.total, bar.unit, bar.desc) for bar in bars] == [(12, 12, "clip", "one on test")]


@pytest.mark.parametrize("mask", [False, True])
def test_prediction_on_a_gpu_computes_the_features_there(
    made: dict[str, str], clips: Path, mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load_audio_dataset(clips)["test"]
    model = ASTForAudioClassification.from_pretrained(made["one"])
    extractor = ASTFeatureExtractor.from_pretrained(made["one"], return_attention_mask=mask)
    expected = predict_logits(model, split, extractor, batch_size=5)
    batches = note_passes(monkeypatch)
    for module in (prediction, feature_extraction_ast):
        monkeypatch.setattr(module, "is_batched", lambda device: True)
    assert predict_logits(model, split, extractor, batch_size=5) == pytest.approx(expected, abs=1e-4)
    assert batches == ([] if mask else [5, 5, 2])


def test_clips_with_masks_have_few_lengths_on_a_gpu(
    made: dict[str, str], clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load_audio_dataset(clips)["test"]
    model = ASTForAudioClassification.from_pretrained(made["one"])
    extractor = ASTFeatureExtractor.from_pretrained(made["one"], return_attention_mask=True)
    lengths = []
    compute = collation.compute_features

    def noted(batch: Any, extractor: ASTFeatureExtractor, frames: int) -> Any:
        lengths.append(frames)
        return compute(batch, extractor, frames)

    monkeypatch.setattr(collation, "compute_features", noted)
    monkeypatch.setattr(prediction, "is_batched", lambda device: True)
    predict_logits(model, split, extractor, batch_size=1, workers=0)
    assert len(lengths) == len(split)
    allowed = {extractor.max_length, *range(0, extractor.max_length, collation.BUCKET_FRAMES)}
    assert set(lengths) <= allowed


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a GPU with bfloat16."""
    for module in (placement, prediction, feature_extraction_ast, window_features):
        monkeypatch.setattr(module, "is_batched", lambda device: True)
    monkeypatch.setattr(placement, "gpu_has_bfloat16", lambda: True)


def test_prediction_on_a_gpu_waits_for_nothing_between_batches(
    made: dict[str, str], clips: Path, pretended_gpu: None
) -> None:
    split = load_audio_dataset(clips)["test"]
    model = ASTForAudioClassification.from_pretrained(made["one"])
    extractor = ASTFeatureExtractor.from_pretrained(made["one"])
    with Operators() as operators:
        predict_logits(model, split, extractor, batch_size=3)
    assert operators.reads == ["item"]  # the seed that the loader draws on the CPU when it starts


@pytest.mark.parametrize("workers", [0, 2])
def test_waveforms_travel_as_int16_without_changing_a_bit(
    made: dict[str, str], clips: Path, workers: int, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load_audio_dataset(clips)["test"]
    model = ASTForAudioClassification.from_pretrained(made["one"])
    extractor = ASTFeatureExtractor.from_pretrained(made["one"])
    kinds = []

    def noted(samples: torch.Tensor) -> torch.Tensor:
        kinds.append(samples.dtype)
        return as_float32(samples)

    monkeypatch.setattr(feature_extraction_ast, "as_float32", noted)
    found = predict_logits(model, split, extractor, batch_size=5, workers=workers)
    monkeypatch.setattr(device_features, "whole_samples", lambda waveform: None)
    assert np.array_equal(found, predict_logits(model, split, extractor, batch_size=5, workers=workers))
    assert kinds == [torch.int16] * 3 + [torch.float32] * 3


def test_loaders_fit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "default_readers", lambda training: 0 if training["use_cpu"] else 7)
    cpu, gpu = torch.device("cpu"), torch.device("meta")
    cases: dict[tuple[Any, ...], tuple[int, int]] = {
        (cpu, 1_000, None, None): (8, 0),
        (gpu, 1_000, None, None): (64, 7),
        (gpu, 65, None, None): (64, 2),
    }
    cases |= {(gpu, 1_000, 5, 3): (5, 3), (cpu, 1_000, 5, 3): (5, 3), (gpu, 1_000, None, 0): (64, 0)}
    for arguments, expected in cases.items():
        given = prediction._loader(*arguments).keywords
        assert (given["batch_size"], given["num_workers"]) == expected


def test_a_bad_clip_is_named_by_the_process_that_reads_it(
    made: dict[str, str], clips: Path, tmp_path: Path, pretended_gpu: None
) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(clips / "test", folder / "test")
    split = load_audio_dataset(folder)["test"]
    soundfile.write(folder / "test" / "dog" / "1.wav", np.zeros(10), 16_000)
    model = ASTForAudioClassification.from_pretrained(made["one"])
    extractor = ASTFeatureExtractor.from_pretrained(made["one"])
    for workers in (0, 2):
        with pytest.raises(AstHfError, match=r"E103.*row 6.*1\.wav"):
            predict_logits(model, split, extractor, workers=workers)


def test_what_was_chosen_is_in_the_results(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    evaluation = evaluate_checkpoints([made["one"]], clips, output_dir=tmp_path, precision="int8")
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["device"], results["precision"]) == ("cpu", "int8")
    assert "computed on cpu in int8" in evaluation.table().splitlines()
    with pytest.raises(AstHfError, match=r"E302\] precision: 'int4'"):
        evaluate_checkpoints([made["one"]], "nowhere", output_dir=tmp_path, precision="int4")


@pytest.mark.filterwarnings("ignore:.*W408")
def test_on_a_gpu_the_weights_are_in_bfloat16_by_default(
    made: dict[str, str], clips: Path, tmp_path: Path, pretended_gpu: None
) -> None:
    logits = {}
    for precision in (None, "float32"):
        file = tmp_path / f"{precision}.safetensors"
        evaluation = evaluate_checkpoints(
            [made["one"], made["two"]],
            clips,
            output_dir=tmp_path / "out",
            precision=precision,
            save_logits=file,
        )
        assert evaluation.precision == (precision or "bfloat16")
        logits[precision] = load_logits(file).logits
    assert 0 < np.abs(logits[None] - logits["float32"]).max() < 0.2 * np.abs(logits["float32"]).max()


def test_prediction_does_not_change_the_model_and_names_broken_clips(
    made: dict[str, str], clips: Path
) -> None:
    split = load_audio_dataset(clips)["test"]
    model = ASTForAudioClassification.from_pretrained(made["one"], hidden_dropout_prob=0.5).train()
    extractor = ASTFeatureExtractor.from_pretrained(made["one"])
    first = predict_logits(model, split, extractor)
    assert model.training
    assert np.array_equal(first, predict_logits(model, split, extractor))  # no dropout
    assert predict_logits(model, split, extractor, batch_size=5) == pytest.approx(first, abs=1e-4)
    with torch.no_grad():
        model.classifier.dense.bias[1] = math.nan
    with pytest.raises(AstInputError, match=r"E104.*12 clips, first .*0\.wav.*float32"):
        predict_logits(model, split, extractor)


def test_confusion_counts() -> None:
    counts = confusion_counts(np.array([0, 1, 1, 0, 2]), np.array([0, 0, 1, 2, 2]), 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert most_confused(counts) == [0, 1, 2]  # the fourth class does not occur
    many = 10 * np.eye(60, dtype=int)
    many[55, 3] = many[3, 55] = 7
    assert {3, 55} < set(most_confused(many))
    assert len(most_confused(many)) == 50


def test_curve() -> None:
    ranking = rank(np.array([0.9, 0.8, 0.7, 0.6, 0.6]), np.array([True, False, True, True, False]))
    recall, precision = curve(ranking)
    assert recall == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert precision == pytest.approx([1, 1, 2 / 3, 3 / 5])
    random = np.random.default_rng(0)
    many = rank(random.random(5000), random.random(5000) < 0.5)
    assert len(curve(many)[0]) == 501
    assert curve(many)[0][-1] == 1.0
    assert np.diff(curve(many)[0]).max() < 0.003
    assert len(curve(rank(np.zeros(3), np.zeros(3, dtype=bool)))[0]) == 0


@pytest.mark.parametrize("classes", [2, 60])
def test_pictures_of_few_and_many_classes(classes: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(classes, size=4 * classes)
    scores = random.random((len(truth), classes)) + 0.5 * np.eye(classes)[truth]
    labels = [f"a class with a name of some length, number {index} $x" for index in range(classes)]
    draw_confusion(scores.argmax(axis=1), truth, labels, tmp_path / "confusion.png")
    draw_precision_recall(scores, np.eye(classes, dtype=bool)[truth], labels, tmp_path / "curves.png")
    height, width = imread(tmp_path / "confusion.png").shape[:2]
    assert 400 < height < 2200
    assert 400 < width < 2200
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_a_data_set_by_its_name(
    made: dict[str, str], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses ESC-50 in miniature in the catalog's folder, and another fold of it."""
    folder = tmp_path / "ESC-50-master"
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").symlink_to(clips / "test" / "cat")
    rows = "".join(f"{number}.wav,{1 + number // 3},dog\n" for number in range(4))
    (folder / "meta" / "esc50.csv").write_text(f"filename,fold,category\n{rows}")
    monkeypatch.setenv("AST_HF_DATA", str(tmp_path))
    readings: dict[int, dict[str, Any]] = {1: {}, 2: {"test_fold": "2"}}
    evaluated = {
        fold: evaluate_checkpoints([made["one"]], "esc50", output_dir=tmp_path / "out", **reading)
        for fold, reading in readings.items()
    }
    assert {fold: evaluation.clips for fold, evaluation in evaluated.items()} == {1: 3, 2: 1}
    assert evaluated[1].source == "esc50"


def test_a_stream_is_refused(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    with pytest.raises(AstInputError, match=r"E108.*source.*stream.*AST_HF_DATA"):
        evaluate_checkpoints([made["one"]], clips, output_dir=tmp_path, streaming=True)


# ---------------------------------------------------------------- ensembles as checkpoints


def probabilities_by_pipeline(folder: str, files: list[str]) -> np.ndarray:
    answers = pipeline("audio-classification", model=folder)(files)
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    return np.array([[score[label] for label in LABELS] for score in scores])


def test_the_ensemble_is_saved_as_it_was_evaluated(
    made: dict[str, str], clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = [made["one"], made["louder"], made["turned"]]
    assert cli.main(["evaluate", *names, str(clips), "--output", str(tmp_path / "out"), "--ensemble"]) == 0
    folder = tmp_path / "out" / "ensemble"
    files = [str(file) for file in sorted((clips / "test").rglob("*.wav"))]
    probabilities = probabilities_by_pipeline(str(folder), files)
    expected = np.mean([probabilities_by_pipeline(name, files) for name in names], axis=0)
    assert probabilities == pytest.approx(expected, abs=1e-5)
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    truth = truth_of(files)
    assert metrics["ensemble"]["accuracy"] == accuracy_score(truth, probabilities.argmax(axis=1))
    assert metrics["ensemble"]["NLL"] == pytest.approx(
        -np.log(probabilities[np.arange(12), truth]).mean(), abs=1e-5
    )

    again = evaluate([str(folder)], clips, tmp_path / "again")  # an ensemble works like any checkpoint
    assert again.outcomes[str(folder)].metrics == pytest.approx(metrics["ensemble"], abs=1e-5)
    assert again.labels == LABELS
    for refused, code in (({"ensemble": True}, "E306"), ({"average": True}, "E305")):
        with pytest.raises(AstHfError, match=rf"{code}.*an ensemble"):
            evaluate([made["two"], str(folder)], clips, tmp_path / "more", **refused)


def test_the_card_of_an_ensemble(made: dict[str, str], clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    evaluation = evaluate([made["one"], made["turned"]], clips, tmp_path / "out", ensemble=True)
    folder = tmp_path / "out" / "ensemble"
    card = ModelCard((folder / "README.md").read_text())
    head = card.data
    assert (head.library_name, head.pipeline_tag) == ("ast_hf", "audio-classification")
    assert (head.base_model, "ensemble" in head.tags) == (None, True)
    expected = {
        name: value
        for name, value in evaluation.outcomes["ensemble"].metrics.items()
        if "_classes" not in name
    }
    assert expected.keys() == {"accuracy", "mAP", "mAUC", "d_prime", "ECE", "NLL"}
    assert {entry.metric_type: entry.metric_value for entry in head.eval_results} == pytest.approx(
        expected, abs=6e-5
    )
    assert {(entry.dataset_split, entry.dataset_name) for entry in head.eval_results} == {
        ("test", clips.name)
    }
    for name, outcome in zip(
        ("**ensemble**", "member-1", "member-2"), ("ensemble", *evaluation.checkpoints), strict=True
    ):
        assert f"| {name} | {evaluation.outcomes[outcome].metrics['accuracy']:.4f} |" in card.text
    assert "| `member-2` | turned | 2 | 24 | 8 x 16 | 0.64 | 1 |" in card.text
    assert "cat, dog, owl." in card.text
    assert str(tmp_path) not in (folder / "README.md").read_text().replace(str(folder), "")

    shutil.copy(clips / "test" / "cat" / "0.wav", tmp_path / "clip.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)
    blocks = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    publication = publication_of(folder, "user/voices")
    page = publication.files["README.md"]
    assert isinstance(page, bytes)
    assert b'model="user/voices"' in page
    assert b'"user/voices", subfolder="member-1"' in page
    assert publication.left_out == []


def test_template_of_an_ensemble_uses_exactly_the_values_that_it_is_given(
    made: dict[str, str], clips: Path, tmp_path: Path
) -> None:
    evaluation = evaluate([made["one"], made["turned"]], clips, tmp_path / "out", ensemble=True)
    values = ensemble_card_values(
        evaluation, evaluation.outcomes["ensemble"].metrics, tmp_path / "out" / "ensemble"
    )
    text = (ROOT / "ast_hf" / "reports" / "templates" / "ensemble_card.md").read_text(encoding="utf-8")
    variables = meta.find_undeclared_variables(Environment(autoescape=False).parse(text))
    assert variables == {"card_data", *values}


def test_names_in_the_card_of_an_ensemble_are_plain(clips: Path, tmp_path: Path) -> None:
    labels = ["cat", "dog", "owl"]
    names = [make_checkpoint(tmp_path / f"a|b{number}", number, labels=labels) for number in (1, 2)]
    evaluate(names, clips, tmp_path / "out", ensemble=True)
    text = (tmp_path / "out" / "ensemble" / "README.md").read_text()
    assert "| `member-1` | a\\|b1 |" in text


def test_fitted_temperature_is_stored_in_the_ensemble(
    made: dict[str, str], tagged: Path, tmp_path: Path
) -> None:
    """Members keep the temperatures that they were evaluated with."""
    names = [copy_of(made, "tags", tmp_path / "tags"), copy_of(made, "tags2", tmp_path / "tags2")]
    evaluation = evaluate(names, tagged, tmp_path / "out", ensemble=True, fit_on="validation", store=True)
    folder = tmp_path / "out" / "ensemble"
    fitted = evaluation.outcomes["ensemble"].calibration
    config = ASTEnsembleConfig.from_pretrained(folder)
    assert (config.temperature, config.thresholds) == (fitted.temperature, fitted.thresholds)
    for number, name in enumerate(names, 1):
        assert ASTConfig.from_pretrained(folder, subfolder=f"member-{number}").temperature is None
        assert (
            ASTConfig.from_pretrained(name).temperature == evaluation.outcomes[name].calibration.temperature
        )
    again = evaluate([str(folder)], tagged, tmp_path / "again").outcomes[str(folder)].metrics
    assert again["ECE"] == pytest.approx(fitted.after["test"]["ECE"], abs=1e-5)
    card = ModelCard((folder / "README.md").read_text())
    card_metrics = {entry.metric_type: entry.metric_value for entry in card.data.eval_results}
    assert (
        card_metrics["NLL"] == round(fitted.after["test"]["NLL"], 4) != round(fitted.before["test"]["NLL"], 4)
    )
    assert "accuracy" not in card_metrics
    assert "for tagging" in card.text


def test_problem_type_missing_from_all_members_follows_the_data(
    made: dict[str, str], tagged: Path, tmp_path: Path
) -> None:
    names = [copy_of(made, "no_task", tmp_path / name) for name in ("a", "b")]
    evaluate(names, tagged, tmp_path / "out", ensemble=True)
    assert ASTEnsembleConfig.from_pretrained(tmp_path / "out" / "ensemble").problem_type == MULTI


def test_an_ensemble_that_cannot_be_saved_is_refused(
    made: dict[str, str], clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(AstHfError, match=r"E108.*ensemble.*several"):
        evaluate([made["one"]], clips, tmp_path, ensemble=True)
    member = copy_of(made, "one", tmp_path / "ensemble" / "member-1")
    before = (Path(member) / "model.safetensors").read_bytes()
    with pytest.raises(AstHfError, match=r"E108.*member-1"):
        evaluate([made["two"], member], clips, tmp_path, ensemble=True)
    assert (Path(member) / "model.safetensors").read_bytes() == before
    other = make_checkpoint(tmp_path / "masked", 1)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64, return_attention_mask=True).save_pretrained(other)
    with pytest.raises(AstHfError, match=r"E301.*member-2.*return_attention_mask"):
        evaluate([made["one"], other], clips, tmp_path / "out", ensemble=True)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_not_overwritten(made: dict[str, str], clips: Path, tmp_path: Path) -> None:
    checkpoint = copy_of(made, "one", tmp_path / "own")
    average = copy_of(made, "one", tmp_path / "average")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(AstHfError, match=r"E108.*output_dir.*results\.json would be lost"):
        evaluate([checkpoint], clips, checkpoint)
    with pytest.raises(AstHfError, match=r"E108.*average.*would be written over"):
        evaluate([checkpoint, average], clips, tmp_path, average=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
