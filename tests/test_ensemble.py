"""Ensembles: each member computes the same logits as alone, and the ensemble returns their mean, in every use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, TOKEN, largest_gap, randomise
from hub_server import Hub, run_python
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from ast_hf import (
    ASTConfig,
    ASTEnsembleConfig,
    ASTEnsembleForAudioClassification,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    cli,
    push_folder,
)
from ast_hf.evaluation.calibration import Setting
from ast_hf.evaluation.prediction import ensemble_logits
from ast_hf.modeling_ensemble import mean_logits

LABELS = ["cat", "dog", "owl"]
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
#: Seconds: shorter than the inputs of both members, between the two, longer than both.
CLIPS = (0.2, 0.8, 1.6)


def make_member(
    folder: Path,
    seed: int,
    labels: list[str] = LABELS,
    kind: str | None = SINGLE,
    hearing: Any = None,
    **fields: Any,
) -> Path:
    """Write a checkpoint with random weights, none near zero."""
    config = ASTConfig(**{**TINY, **fields}, id2label=dict(enumerate(labels)), problem_type=kind)
    randomise(ASTForAudioClassification(config), seed).save_pretrained(folder)
    sizes = {"num_mel_bins": config.num_mel_bins, "max_length": config.max_length}
    ASTFeatureExtractor(**{**sizes, **(hearing or {})}).save_pretrained(folder)
    return folder


def make_pair(root: Path, kind: str = SINGLE, **hearing: Any) -> list[Path]:
    """Write two members that differ in size, stride, length, mean and std, temperature and label order."""
    other = {
        "hidden_size": 36,
        "num_hidden_layers": 1,
        "time_stride": 16,
        "max_length": 100,
        "temperature": 2.5,
    }
    return [
        make_member(root / "short", 1, kind=kind, hearing={"mean": -4.0, "std": 3.0, **hearing}),
        make_member(
            root / "long", 2, ["owl", "cat", "dog"], kind, {"mean": -7.0, "std": 5.0, **hearing}, **other
        ),
    ]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders of two members. Read only."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def saved(pair: list[Path], tmp_path: Path) -> Path:
    """Return the folder of the ensemble of both, saved with a card."""
    folder = tmp_path / "ensemble"
    ASTEnsembleForAudioClassification.from_members(pair).save_pretrained(folder)
    head = "---\nlibrary_name: ast_hf\npipeline_tag: audio-classification\n---\n"
    (folder / "README.md").write_text(f'{head}\npipeline("audio-classification", model="{folder}")\n')
    return folder


def clip(seconds: float) -> dict[str, Any]:
    random = np.random.default_rng(int(10 * seconds))
    time = np.arange(int(16_000 * seconds)) / 16_000
    samples = 0.3 * np.sin(2 * np.pi * 900 * time * (1 + time)) + 0.02 * random.standard_normal(len(time))
    return {"array": samples.astype(np.float32), "sampling_rate": 16_000}


def scores(classifier: Any, audio: Any, **options: Any) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in classifier(audio, **options)}


def of_first_window(classifier: Any, audio: Any) -> dict[str, float]:
    """Return the scores of a clip's first window: members of other lengths have others."""
    outputs = classifier.forward(classifier.preprocess(audio))
    return {entry["label"]: entry["score"] for entry in classifier.postprocess(outputs, top_k=3)}


def alone(folder: Path, audio: Any) -> dict[str, float]:
    """Return the scores of a checkpoint's own pipeline."""
    return of_first_window(pipeline("audio-classification", model=str(folder)), audio)


def mean(parts: list[dict[str, float]]) -> dict[str, float]:
    return {label: sum(part[label] for part in parts) / len(parts) for label in LABELS}


# ---------------------------------------------------------------- what it answers


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
@pytest.mark.parametrize("masked", [False, True], ids=["padded", "masked"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["short first", "long first"])
@pytest.mark.filterwarnings("ignore:.*W201")
def test_each_member_gets_the_features_that_it_gets_alone(
    kind: str, masked: bool, order: tuple[int, int], tmp_path: Path
) -> None:
    folders = [make_pair(tmp_path, kind, return_attention_mask=masked)[index] for index in order]
    ASTEnsembleForAudioClassification.from_members(folders).save_pretrained(tmp_path / "ensemble")
    ensemble = pipeline("audio-classification", model=str(tmp_path / "ensemble"))
    for seconds in CLIPS:
        parts = [alone(folder, clip(seconds)) for folder in folders]
        # Scores of one member differ from the mean.
        assert max(abs(parts[0][label] - parts[1][label]) for label in LABELS) > 0.05
        assert of_first_window(ensemble, clip(seconds)) == pytest.approx(mean(parts), abs=1e-5), seconds


@pytest.mark.parametrize("field", [{"do_normalize": False}, {"mean": -1.0}, {"std": 1.0}], ids=str)
def test_normalisation(field: dict[str, Any], tmp_path: Path) -> None:
    """Members without normalisation, with equal mean, or with equal std."""
    folders = make_pair(tmp_path, **field)
    ensemble = ASTEnsembleForAudioClassification.from_members(folders)
    classify = pipeline("audio-classification", model=ensemble, feature_extractor=ensemble.feature_extractor)
    parts = [alone(folder, clip(0.8)) for folder in folders]
    assert scores(classify, clip(0.8)) == pytest.approx(mean(parts), abs=1e-5)


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_mean_logits(kind: str) -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.5]], [[-3.0, 4.0, 0.5]]])
    squash = torch.sigmoid if kind == MULTI else lambda value: value.softmax(-1)
    averaged = mean_logits(logits, kind)
    assert largest_gap(squash(averaged), squash(logits).mean(0)) < 1e-6
    temperatures = {"a": Setting(2.0), "b": Setting(0.5)}
    expected = ensemble_logits(
        {"a": logits[0].numpy() * 2.0, "b": logits[1].numpy() * 0.5}, kind, temperatures
    )
    assert largest_gap(averaged, torch.from_numpy(expected)) < 1e-5
    sure = mean_logits(torch.tensor([[[900.0, -900.0]], [[900.0, -900.0]]]), kind)
    assert torch.isfinite(sure).all()
    assert squash(sure).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("way", ["autocast", "bfloat16", "float64"])
def test_other_precisions_average_in_float32(way: str, pair: list[Path]) -> None:
    torch.manual_seed(0)
    values = torch.randn(4, 100, 32)
    ensemble = ASTEnsembleForAudioClassification.from_members(pair)
    with torch.no_grad():
        expected = ensemble(values).logits.softmax(-1)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
            kind = torch.float32 if way == "autocast" else getattr(torch, way)
            averaged = ensemble.to(kind)(values.to(kind)).logits
    assert averaged.dtype == torch.float32
    assert 0.0 < largest_gap(averaged.softmax(-1), expected) < (1e-5 if way == "float64" else 0.03)
    assert largest_gap(averaged.softmax(-1).sum(-1), torch.ones(4)) < 1e-5


def test_labels_give_the_loss_of_the_mean(pair: list[Path]) -> None:
    ensemble = ASTEnsembleForAudioClassification.from_members(pair)
    values = torch.ones(2, 100, 32)
    outputs = ensemble(values, labels=torch.tensor([0, 2]))
    assert outputs.loss.item() == pytest.approx(
        -outputs.logits.softmax(-1)[[0, 1], [0, 2]].log().mean().item(), abs=1e-6
    )
    assert ensemble(values, return_dict=False)[0].shape == (2, 3)


@pytest.mark.parametrize(
    "values", [torch.ones(1, 100, 16), torch.ones(100, 32), np.ones((1, 100, 32)), "mask"], ids=str
)
def test_inputs_that_do_not_fit_are_refused(values: Any, pair: list[Path]) -> None:
    mask = torch.ones(1, 23) if isinstance(values, str) else None
    with pytest.raises(AstHfError, match="E304"):
        ASTEnsembleForAudioClassification.from_members(pair)(
            torch.ones(1, 100, 32) if mask is not None else values, attention_mask=mask
        )


def test_the_pipeline_accepts_what_it_accepts_for_one_model(saved: Path, tmp_path: Path, caplog: Any) -> None:
    classify = pipeline("audio-classification", model=str(saved))
    assert "not supported" not in caplog.text
    audio = clip(0.8)
    soundfile.write(tmp_path / "clip.wav", np.stack([audio["array"]] * 2, 1), 16_000, subtype="FLOAT")
    expected = scores(classify, dict(audio))
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    best = max(expected, key=expected.__getitem__)
    content = (tmp_path / "clip.wav").read_bytes()
    for answer in classify([str(tmp_path / "clip.wav"), content, dict(audio)], top_k=1, batch_size=2):
        assert [(entry["label"], entry["score"]) for entry in answer] == [
            (best, pytest.approx(expected[best], abs=1e-5))
        ]
    assert scores(classify, dict(audio), threshold=expected[best]) == {best: expected[best]}
    with pytest.raises(AstHfError, match=r"E108.*fitted"):
        classify(dict(audio), threshold="fitted")


def test_temperature_and_thresholds_of_the_ensemble_are_used(tmp_path: Path) -> None:
    ensemble = ASTEnsembleForAudioClassification.from_members(make_pair(tmp_path, MULTI))
    ensemble.save_pretrained(tmp_path / "plain")
    plain = alone(tmp_path / "plain", clip(0.8))
    ensemble.config.temperature = 2.0
    ensemble.config.thresholds = [0.0, 1.0, 0.0]
    ensemble.save_pretrained(tmp_path / "fitted")
    classify = pipeline("audio-classification", model=str(tmp_path / "fitted"))
    odds = {label: np.log(score / (1 - score)) for label, score in plain.items()}
    expected = {label: 1 / (1 + np.exp(-value / 2.0)) for label, value in odds.items()}
    assert scores(classify, clip(0.8)) == pytest.approx(expected, abs=1e-4)
    assert set(scores(classify, clip(0.8), threshold="fitted")) == {"cat", "owl"}


# ---------------------------------------------------------------- what belongs together


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("labels", {"labels": ["cat", "dog", "bat"]}, "E303", "id2label"),
    ("more labels", {"labels": [*LABELS, "bat"]}, "E303", "'bat'"),
    ("fewer labels", {"labels": LABELS[:2]}, "E303", "'owl'"),
    ("task", {"kind": MULTI}, "E303", "problem_type"),
    ("rate", {"hearing": {"sampling_rate": 8000}}, "E301", "sampling_rate"),
    ("bins", {"num_mel_bins": 48}, "E301", "num_mel_bins"),
    ("normalisation", {"hearing": {"do_normalize": False}}, "E301", "do_normalize"),
    ("mask", {"hearing": {"return_attention_mask": True}}, "E301", "return_attention_mask"),
    ("own files", {"hearing": {"max_length": 80}}, "E304", "max_length: 80"),
]


@pytest.mark.parametrize(
    ("change", "code", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_incompatible_members_are_refused(
    change: dict[str, Any], code: str, message: str, pair: list[Path], tmp_path: Path
) -> None:
    other = make_member(tmp_path / "other", 3, **change)
    with pytest.raises(AstHfError) as caught:
        ASTEnsembleForAudioClassification.from_members([pair[0], other])
    assert caught.value.code == code
    assert message in str(caught.value)
    assert caught.value.where.startswith(f"member-2 ({other})")


def test_empty_and_regression_ensembles_are_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match=r"E302.*members"):
        ASTEnsembleForAudioClassification.from_members([])
    with pytest.raises(AstHfError, match=r"E302.*members"):
        AutoModelForAudioClassification.from_config(ASTEnsembleConfig(members=["member-1"], num_labels=3))
    numbers = make_member(tmp_path / "numbers", 4, kind="regression")
    with pytest.raises(AstHfError, match=r"E302.*problem_type"):
        ASTEnsembleForAudioClassification.from_members([numbers])


def test_subfolder_applies_to_all_members(saved: Path, pair: list[Path]) -> None:
    ensemble = ASTEnsembleForAudioClassification.from_members([saved, saved], subfolder="member-1")
    expected = ASTForAudioClassification.from_pretrained(pair[0]).state_dict()
    assert len(ensemble.members) == 2
    for member in ensemble.members:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in member.state_dict().items())


def test_missing_problem_type_comes_from_other_members_or_the_argument(
    pair: list[Path], tmp_path: Path
) -> None:
    no_task = make_member(tmp_path / "no_task", 5, kind=None)
    for sources, problem_type in (([no_task, pair[0]], None), ([no_task], SINGLE)):
        ensemble = ASTEnsembleForAudioClassification.from_members(sources, problem_type=problem_type)
        assert [ensemble.config.problem_type, ensemble.members[0].config.problem_type] == [SINGLE, SINGLE]


# ---------------------------------------------------------------- files


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_saved_folder_has_its_members_and_common_files(saved: Path, pair: list[Path], tmp_path: Path) -> None:
    names = {"config.json", "preprocessor_config.json", "model.safetensors"}
    expected = {f"member-{number}/{name}" for number in (1, 2) for name in names}
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert files == expected | {"config.json", "preprocessor_config.json", "README.md"}
    config = json.loads((saved / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == (
        "ast-ensemble",
        ["ASTEnsembleForAudioClassification"],
    )
    assert (config["members"], config["max_length"]) == (["member-1", "member-2"], 100)
    assert config["id2label"] == {"0": "cat", "1": "dog", "2": "owl"}
    preprocessor = json.loads((saved / "preprocessor_config.json").read_text())
    assert [preprocessor[name] for name in ("feature_extractor_type", "max_length", "mean", "std")] == [
        "ASTFeatureExtractor", 100, -4.0, 3.0,
    ]  # fmt: skip
    for number, folder in enumerate(pair, 1):
        member, before = (
            load_file(saved / f"member-{number}" / "model.safetensors"),
            load_file(folder / "model.safetensors"),
        )
        assert all(torch.equal(member[name], before[name]) for name in before)
        assert (
            ASTConfig.from_pretrained(saved, subfolder=f"member-{number}").temperature
            == (None, 2.5)[number - 1]
        )
    (saved / "notes.txt").write_text("mine")
    pipeline("audio-classification", model=str(saved)).save_pretrained(saved)  # into its own folder
    assert {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()} == files | {
        "notes.txt"
    }
    with pytest.raises(AstHfError, match=r"E108.*push_to_hub"):
        ASTEnsembleForAudioClassification.from_pretrained(saved).save_pretrained(
            tmp_path / "x", push_to_hub=True
        )


def test_every_loader_reads_a_saved_ensemble(saved: Path, pair: list[Path]) -> None:
    values = torch.randn(1, 100, 32, generator=torch.Generator().manual_seed(0))
    expected = ASTEnsembleForAudioClassification.from_members(pair)(values).logits
    shutil.copytree(saved, saved.parent / "nested" / "inner")
    model, info = AutoModelForAudioClassification.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values())
    for loaded in (
        model,
        ASTEnsembleForAudioClassification.from_pretrained(str(saved)),
        AutoModelForAudioClassification.from_pretrained(saved.parent / "nested", subfolder="inner"),
    ):
        assert type(loaded) is ASTEnsembleForAudioClassification
        assert not any(part.training for part in loaded.modules())
        assert largest_gap(loaded(values).logits, expected) == 0.0
    assert isinstance(AutoConfig.from_pretrained(saved), ASTEnsembleConfig)
    assert isinstance(AutoFeatureExtractor.from_pretrained(saved), ASTFeatureExtractor)
    eager = AutoModelForAudioClassification.from_pretrained(
        saved, attn_implementation="eager", dtype=torch.bfloat16
    )
    assert {member.config._attn_implementation for member in eager.members} == {"eager"}
    assert (eager.dtype, eager.members[1].dtype) == (torch.bfloat16, torch.bfloat16)


def cut_weights(folder: Path) -> None:
    path = folder / "member-2" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def lose(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "member-2" / "model.safetensors")
        remaining = {key: value for key, value in weights.items() if not key.startswith(name)}
        save_file(remaining, folder / "member-2" / "model.safetensors", {"format": "pt"})

    return change


def remove_member(folder: Path) -> None:
    shutil.rmtree(folder / "member-2")


def set_members(*names: str) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "config.json", members=list(names))


#: id -> damage to the folder, code, text
BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "cut": (cut_weights, "E306", "member-2"),
    "no tensor": (lose("audio_spectrogram_transformer.layernorm.weight"), "E305", "member-2"),
    "no classifier": (lose("classifier."), "E305", "member-2"),
    "no folder": (remove_member, "E306", "member-2"),
    "no such member": (set_members("member-1", "member-3"), "E306", "member-3"),
    "outside": (set_members("member-1", "../member-2"), "E302", "../member-2"),
    "twice": (set_members("member-1", "member-1"), "E302", "members"),
    "another order of sizes": (
        lambda folder: change_json(folder / "config.json", max_length=64),
        "E302",
        "100",
    ),
    "another label": (
        lambda folder: change_json(
            folder / "config.json", id2label={"0": "cat", "1": "dog", "2": "bat"}, label2id=None
        ),
        "E303",
        "member-1",
    ),
    "another rate": (
        lambda folder: change_json(folder / "member-2" / "preprocessor_config.json", sampling_rate=8000),
        "E301",
        "member-2",
    ),
}


@pytest.mark.parametrize(("change", "code", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.filterwarnings("ignore:.*W303")
def test_a_broken_member_is_named(
    change: Callable[[Path], Any], code: str, message: str, saved: Path
) -> None:
    change(saved)
    for load in (
        ASTEnsembleForAudioClassification.from_pretrained,
        lambda name: pipeline("audio-classification", name),
    ):
        with pytest.raises(AstHfError) as caught:
            load(str(saved))
        assert caught.value.code == code, str(caught.value)
        assert message in str(caught.value)


def test_a_single_model_and_an_ensemble_are_not_confused(saved: Path, pair: list[Path]) -> None:
    with pytest.raises(AstHfError, match=r"E306.*ensemble.*subfolder='member-1'"):
        ASTForAudioClassification.from_pretrained(saved)
    with pytest.raises(AstHfError, match=r"E306.*member-2.*holds an ensemble"):
        ASTEnsembleForAudioClassification.from_members([pair[0], saved])
    with pytest.raises(AstHfError, match=r"E302.*members"):
        ASTEnsembleForAudioClassification.from_pretrained(pair[0])
    with pytest.raises(AstHfError, match=r"E108.*max_length"):
        ASTEnsembleForAudioClassification.from_pretrained(saved, max_length=64)


def test_commands_accept_an_ensemble(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    soundfile.write(tmp_path / "clip.wav", clip(0.8)["array"], 16_000)
    assert cli.main(["classify", str(saved), str(tmp_path / "clip.wav"), "--top_k", "1"]) == 0
    best = max(alone(saved, str(tmp_path / "clip.wav")).items(), key=lambda entry: entry[1])
    assert f"clip.wav\t{best[1]:.3f}\t{best[0]}" in capsys.readouterr().out
    assert cli.main(["info", str(saved)]) == 0
    stdout = capsys.readouterr().out
    ensemble = ASTEnsembleForAudioClassification.from_pretrained(saved)
    for fact in (
        "2 layers, 24 wide, stride 8 x 8, 0.64 s",
        "1 layers, 36 wide, stride 8 x 16, 1.00 s",
        "3: cat, dog, owl",
    ):
        assert fact in stdout
    assert f"{ensemble.num_parameters():,}" in stdout
    (saved / "member-2" / "config.json").unlink()
    assert cli.main(["info", str(saved)]) == 65
    assert "member-2" in capsys.readouterr().err


# ---------------------------------------------------------------- the Hub


def add_old_member(folder: Path) -> None:
    shutil.copytree(folder / "member-2", folder / "member-3")


def add_weights(folder: Path) -> None:
    shutil.copy(folder / "member-1" / "model.safetensors", folder)


def as_transformers(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("ast_hf\n", "transformers\n", 1))


#: id -> damage to the folder, text
UNFIT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an old member": (add_old_member, "member-3"),
    "weights of one model": (add_weights, "model.safetensors"),
    "a card that promises too much": (as_transformers, "library_name: ast_hf"),
    "another mean": (lambda folder: change_json(folder / "preprocessor_config.json", mean=-5.0), "mean"),
    "no task": (lambda folder: change_json(folder / "config.json", problem_type=None), "problem_type"),
    "no extractor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json",
    ),
}


@pytest.mark.parametrize(("change", "message"), UNFIT.values(), ids=UNFIT)
def test_incomplete_ensembles_are_not_pushed(
    change: Callable[[Path], Any], message: str, hub: Hub, saved: Path
) -> None:
    change(saved)
    with pytest.raises(AstHfError) as caught:
        push_folder(saved, "user/ensemble")
    assert message in str(caught.value)
    assert hub.log == []


def test_a_broken_member_is_not_pushed(hub: Hub, saved: Path) -> None:
    cut_weights(saved)
    with pytest.raises(AstHfError, match=r"E306.*member-2"):
        push_folder(saved, "user/ensemble")
    assert hub.log == []


def test_an_interrupted_download_names_the_member(hub: Hub, saved: Path, waits: list[float]) -> None:
    push_folder(saved, "user/ensemble")
    hub.fail("GET .*/member-2/model.safetensors", kind="truncate", times=1000)
    with pytest.raises(AstHfError, match=r"E704.*member-2"):
        ASTEnsembleForAudioClassification.from_pretrained("user/ensemble")
    hub.faults.clear()
    ASTEnsembleForAudioClassification.from_pretrained("user/ensemble")
    with pytest.raises(AstHfError, match=r"E306.*user/ensemble.*ensemble"):
        ASTForAudioClassification.from_pretrained("user/ensemble")


def test_all_members_are_of_one_commit(hub: Hub, saved: Path) -> None:
    """The same if a push happens while the members are loaded."""
    first = push_folder(saved, "user/ensemble").commit
    for load in (ASTEnsembleForAudioClassification, AutoModelForAudioClassification):
        load.from_pretrained("user/ensemble")
    members = [line for line in hub.log if "/resolve/" in line and "/member-" in line]
    assert members
    assert all(f"/resolve/{first}/member-" in line for line in members), members


#: The ensemble's module is imported first, and it imports the modules that are registered.
WITH_AST_HF = """
import json, sys
import ast_hf
from ast_hf import ASTEnsembleForAudioClassification
from transformers import AutoConfig, pipeline

def scores(**where):
    answer = pipeline("audio-classification", model="user/ensemble", **where)(sys.argv[1])
    return {entry["label"]: entry["score"] for entry in answer}

report = {"new": scores(), "old": scores(revision=sys.argv[2])}
ast_hf.unregister()
try:
    AutoConfig.from_pretrained("user/ensemble")
except ValueError as problem:
    report["unregistered"] = str(problem)
ast_hf.register()
print(json.dumps({**report, "again": scores()}))
"""

WITHOUT_AST_HF = """
import json, sys
import torch
from transformers import AutoModelForAudioClassification, pipeline

report = {}
for name, load in {"model": AutoModelForAudioClassification.from_pretrained, "pipeline": pipeline}.items():
    try:
        load(*(["audio-classification"] if load is pipeline else []), "user/ensemble")
    except ValueError as problem:
        report[name] = str(problem)
member = AutoModelForAudioClassification.from_pretrained("user/ensemble", subfolder="member-2").eval()
values = torch.randn(1, 100, 32, generator=torch.Generator().manual_seed(0))
report["module"], report["logits"] = type(member).__module__, member(values).logits[0].tolist()
report["imported"] = "ast_hf" in sys.modules
import ast_hf
answer = pipeline("audio-classification", "user/ensemble")(sys.argv[1])
report["scores"] = {entry["label"]: entry["score"] for entry in answer}
print(json.dumps(report))
"""


@pytest.mark.long
def test_without_ast_hf_only_single_members_load_by_name(
    hub: Hub, saved: Path, pair: list[Path], tmp_path: Path
) -> None:
    """Two processes with one cache, the second offline."""
    file = tmp_path / "clip.wav"
    soundfile.write(file, clip(0.8)["array"], 16_000, subtype="FLOAT")
    (saved / "member-1" / "checkpoint-3").mkdir()
    (saved / "member-1" / "checkpoint-3" / "model.safetensors").write_bytes(b"training's own")
    (saved / "member-1" / "training_args.bin").write_bytes(b"training's own")
    before = push_folder(saved, "user/ensemble")
    old = alone(saved, str(file))
    weights = load_file(saved / "member-2" / "model.safetensors")
    weights["classifier.dense.bias"] += torch.tensor([3.0, 0.0, -3.0])
    save_file(weights, saved / "member-2" / "model.safetensors", {"format": "pt"})
    assert cli.main(["push", str(saved), "user/ensemble"]) == 0

    published = hub.files("user/ensemble")
    assert len(hub.commits("user/ensemble")) == 2
    assert not [name for name in published if "checkpoint" in name or "training" in name]
    assert {name for name in published if name.startswith("member-1/")} == {
        f"member-1/{name}" for name in ("config.json", "preprocessor_config.json", "model.safetensors")
    }
    assert 'model="user/ensemble"' in published["README.md"].content.decode()
    assert not [name for name, content in hub.uploads() if str(tmp_path).encode() in content]

    parts = [alone(folder, str(file)) for folder in (saved / "member-1", saved / "member-2")]
    with_it = run_python(hub, tmp_path / "cache", "-c", WITH_AST_HF, str(file), before.commit, HF_TOKEN=TOKEN)
    assert with_it.returncode == 0, with_it.stderr[-4000:]
    report_with = json.loads(with_it.stdout)
    assert report_with["new"] == report_with["again"] == pytest.approx(mean(parts), abs=1e-5)
    assert report_with["old"] == pytest.approx(old, abs=1e-5)
    assert max(abs(report_with["old"][label] - report_with["new"][label]) for label in LABELS) > 0.01
    assert "does not recognize this architecture" in report_with["unregistered"]

    offline = run_python(hub, tmp_path / "cache", "-c", WITHOUT_AST_HF, str(file), HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr[-4000:]
    report_without = json.loads(offline.stdout)
    for way in ("model", "pipeline"):
        assert "does not recognize this architecture" in report_without[way]
    assert report_without["module"].startswith("transformers.")
    assert not report_without["imported"]
    values = torch.randn(1, 100, 32, generator=torch.Generator().manual_seed(0))
    member = ASTForAudioClassification.from_pretrained(saved / "member-2")(values).logits[0]
    assert report_without["logits"] == pytest.approx(member.tolist(), abs=1e-5)
    assert report_without["scores"] == pytest.approx(report_with["new"], abs=1e-6)
