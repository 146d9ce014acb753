"""The example trains and pushes to a Hub; the pushed model loads by its name, with ast_hf and without."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT, TINY, TOKEN
from hub_server import Hub, HubServer, run_python
from huggingface_hub import ModelCard

from ast_hf import cli
from ast_hf.training import load_audio_dataset

REPO = "user/tiny"
WITH_AST_HF = """
import json, sys
import ast_hf
import soundfile, torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

def scores_of(name, clip):
    "Return scores by the Auto classes and by the pipeline, and the packages of their classes."
    model, extractor = AutoModelForAudioClassification.from_pretrained(name), AutoFeatureExtractor.from_pretrained(name)
    waveform, rate = soundfile.read(clip, dtype="float32")
    with torch.no_grad():
        scores = model(**extractor(waveform, sampling_rate=rate, return_tensors="pt")).logits.softmax(-1)[0].tolist()
    pipe = pipeline("audio-classification", model=name)
    return {
        "packages": sorted({type(part).__module__.split(".")[0] for part in (model, extractor, pipe)}),
        "auto": dict(zip(model.config.id2label.values(), scores)),
        "pipeline": {entry["label"]: entry["score"] for entry in pipe(clip)},
    }

name, folder, clip = sys.argv[1:]
print(json.dumps([scores_of(name, clip), scores_of(folder, clip)]))
"""

#: Runs the snippets of the card unchanged, next to a clip.wav.
SNIPPETS = """
import json, sys
from huggingface_hub import ModelCard

name, folder, snippet = sys.argv[1:]
shown, code = [], ModelCard.load(name).text.split("```python\\n")[1 + int(snippet)].split("```")[0]
exec(code, {"print": shown.append})
print(json.dumps([{entry["label"]: entry["score"] for entry in shown[0]}, "ast_hf" in sys.modules]))
"""

WITHOUT_AST_HF = """
import json, sys
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

def logits_of(name):
    "Return logits on fixed features, and the modules of the model and its extractor."
    model, extractor = AutoModelForAudioClassification.from_pretrained(name), AutoFeatureExtractor.from_pretrained(name)
    shape = (1, model.config.max_length, model.config.num_mel_bins)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(features).logits[0].tolist()
    return {"modules": [type(model).__module__, type(extractor).__module__], "logits": logits}

name, folder = sys.argv[1:]
print(json.dumps([logits_of(name), logits_of(folder), "ast_hf" in sys.modules]))
"""


@dataclass(frozen=True)
class Push:
    """A finished run of the example: working folder, output folder, process and Hub."""

    root: Path
    output: Path
    process: subprocess.CompletedProcess[str]
    hub: Hub

    @property
    def why(self) -> str:
        """Return the output of a failed process."""
        return self.process.stderr[-4000:] + "\n".join(self.hub.log)


def write_clips(folder: Path) -> None:
    """Write label folders of tones and noise, 0.6 s each: four per label to train on, three to test on."""
    random = np.random.default_rng(0)
    time = np.arange(9_600) / 16_000
    for split, count in (("train", 4), ("test", 3)):
        for number in range(count):
            noise = 0.1 * random.standard_normal(len(time))
            for label, waveform in (
                ("tone", np.sin(2 * np.pi * (400 + 50 * number) * time) / 3),
                ("noise", noise),
            ):
                (folder / split / label).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / split / label / f"{number}.wav", waveform, 16_000)


def run_example(hub: Hub, root: Path, model: dict[str, Any], *arguments: str) -> Push:
    """Train a model by the example in `root`, on clips written there, and push it."""
    write_clips(root / "clips")
    training = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "disable_tqdm": True,
    }
    card = {"license": "mit", "samples": [str(root / "clips" / "test" / "tone" / "1.wav")]}
    recipe = {"name": "tiny", "model": model, "training": training, "card": card}
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    options = ("--recipe", "recipe.yaml", *arguments, "--push_to_hub")
    process = run_python(
        hub, root / "cache", str(ROOT / "examples" / "finetune.py"), *options, HF_TOKEN=TOKEN
    )
    return Push(root, root / "out", process, hub)


@pytest.fixture(scope="module")
def push(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Push]:
    """Return a push with all names, and with the token as an argument, which could leak into the run's files."""
    root = tmp_path_factory.mktemp("push")
    names = ("--data", f"{root}/clips", "--output_dir", f"{root}/out", "--hub_model_id", REPO)
    with HubServer("user", TOKEN) as server:
        yield run_example(server.hub, root, {"config": TINY}, *names, "--set", f"training.hub_token={TOKEN}")


@pytest.mark.long
def test_the_example_pushes_a_whole_model(push: Push) -> None:
    assert push.process.returncode == 0, push.why
    assert list(push.hub.repositories) == [REPO]
    expected = {"model.safetensors", "config.json", "preprocessor_config.json", "curves.png", "samples/1.wav"}
    assert {"README.md"} | expected | {"results.json", "recipe.yaml"} <= set(push.hub.files(REPO))
    for name in expected:
        assert push.hub.files(REPO)[name].content == (push.output / name).read_bytes(), name


def test_no_optimizer_or_trainer_state_is_pushed(push: Push) -> None:
    names = {name for commit in push.hub.commits(REPO) for name in commit.files}
    private = {"training_args.bin", "optimizer.pt", "scheduler.pt", "trainer_state.json"}
    assert not {name for name in names if Path(name).name in private or "checkpoint-" in name}


def test_the_token_is_in_no_uploaded_byte(push: Push) -> None:
    assert {name for name, content in push.hub.uploads() if TOKEN.encode() in content} == set()


def test_no_path_of_the_training_machine_is_in_any_uploaded_byte(push: Push) -> None:
    assert {name for name, content in push.hub.uploads() if str(push.root).encode() in content} == set()


def test_the_card_on_the_hub_is_ours(push: Push) -> None:
    card = ModelCard(push.hub.files(REPO)["README.md"].content.decode())
    results = json.loads(push.hub.files(REPO)["results.json"].content)
    assert (card.data.pipeline_tag, card.data.license) == ("audio-classification", "mit")
    sample = f"https://huggingface.co/{REPO}/resolve/main/samples/1.wav"
    assert card.data.widget == [{"src": sample, "example_title": "1"}]
    assert (push.output / "samples" / "1.wav").read_bytes() == (
        push.root / "clips/test/tone/1.wav"
    ).read_bytes()
    assert "trained with `ast_hf`" in card.text
    assert f'pipeline("audio-classification", model="{REPO}")' in card.text
    card_metrics = {entry.metric_type: entry.metric_value for entry in card.data.eval_results}
    expected = {name: value for name, value in results["results"]["test"].items() if name in card_metrics}
    assert card_metrics == {name: round(value, 4) for name, value in expected.items()}
    assert {"accuracy", "mAP", "mAUC"} <= card_metrics.keys()
    assert f"![Confusion matrix]({results['pictures']['confusion']})" in card.text
    assert results["pictures"]["confusion"] in push.hub.files(REPO)


@pytest.mark.slow
def test_a_push_without_a_name_from_a_local_base_that_fails_at_its_end(
    hub: Hub, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail("POST .*/commit/main", 403)
    names = ("--data", str(tmp_path / "clips"), "--base", str(tiny_checkpoint), "--output_dir", "out")
    push = run_example(hub, tmp_path, {}, *names)
    assert push.process.returncode not in (0, 75), push.why
    assert "[AST-E307] card.base_model: is not set, and model.base is" in push.process.stderr
    assert hub.log == []
    shutil.rmtree(tmp_path / "clips")
    push = run_example(hub, tmp_path, {}, *names, "--set", "card.base_model=user/base")
    assert push.process.returncode == 75, push.why
    assert "Traceback" not in push.process.stderr
    assert "`ast-hf push out user/out`" in push.process.stderr
    assert list(hub.repositories) == ["user/out"]
    assert hub.files("user/out") == {}

    monkeypatch.chdir(tmp_path)
    assert cli.main(["push", "out", "user/out"]) == 0
    card = ModelCard(hub.files("user/out")["README.md"].content.decode())
    assert 'model="user/out"' in card.text
    # huggingface.co refuses a card whose base_model is not a name on the Hub, and with it the whole push.
    assert card.data.base_model == "user/base"


def test_the_data_may_be_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data folder is relative, as in the example's own command line."""
    write_clips(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    assert {name: len(split) for name, split in load_audio_dataset("clips").items()} == {
        "train": 8,
        "test": 6,
    }


def load(push: Push, cache: Path, code: str, *arguments: str) -> Any:
    """Return the JSON that `code` prints, run without a token; repository and folder come before `arguments`."""
    process = run_python(push.hub, cache / "cache", "-c", code, REPO, str(push.output), *arguments)
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout)


@pytest.mark.long
def test_pushed_model_loads_by_name_with_ast_hf(push: Push, tmp_path: Path) -> None:
    clip = str(push.root / "clips" / "test" / "tone" / "0.wav")
    pushed, local = load(push, tmp_path, WITH_AST_HF, clip)
    assert pushed["packages"] == local["packages"] == ["ast_hf"]
    assert set(pushed["auto"]) == {"tone", "noise"}
    for way in ("auto", "pipeline"):
        assert pushed[way] == pytest.approx(local[way], abs=1e-6)
    assert pushed["pipeline"] == pytest.approx(pushed["auto"], abs=1e-4)


@pytest.mark.long
def test_pushed_model_loads_by_name_without_ast_hf(push: Push, tmp_path: Path) -> None:
    pushed, local, imported = load(push, tmp_path, WITHOUT_AST_HF)
    assert not imported
    assert all(module.startswith("transformers.") for module in pushed["modules"])
    assert pushed["logits"] == pytest.approx(local["logits"], abs=1e-6)


@pytest.mark.long
def test_the_snippets_of_the_card_run(push: Push, tmp_path: Path) -> None:
    """The first with transformers alone, the second with ast_hf; both give the same scores."""
    shutil.copy(push.root / "clips" / "test" / "tone" / "0.wav", tmp_path / "clip.wav")
    stock, imported = load(push, tmp_path, SNIPPETS, "0")
    with_ast_hf, ours = load(push, tmp_path, SNIPPETS, "1")
    assert (imported, ours) == (False, True)
    assert stock.keys() == {"tone", "noise"}
    assert stock == pytest.approx(with_ast_hf, abs=1e-3)
