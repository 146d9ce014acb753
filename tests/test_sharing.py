"""Publishing a folder: the right files, in one commit, nothing sent twice, and clear errors."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TOKEN, largest_gap
from hub_server import Hub
from huggingface_hub import ModelCard, constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from ast_hf import AstConfigError, ASTForAudioClassification, AstHfError, cli, push_folder
from ast_hf.hub import published_files as publication
from ast_hf.hub.cleaning import check_secrets, cut_paths, cut_paths_in_json
from ast_hf.hub.published_files import publication_of

CARD = """\
---
library_name: transformers
pipeline_tag: audio-classification
---

# Pets

```python
classifier = pipeline("audio-classification", model="outputs/pets")
base = AutoModel.from_pretrained("MIT/ast-finetuned-audioset-10-10-0.4593")
```
"""
PUBLISHED = {
    ".eval_results/pets-test.yaml",
    "README.md",
    "config.json",
    "curves.png",
    "model.safetensors",
    "preprocessor_config.json",
    "requirements.txt",
    "results.json",
    "samples/cat.wav",
    "training_args.json",
}
WEIGHTS = "PUT /lfs/"


@pytest.fixture
def pets(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a folder as training leaves it, with files that are published and files that are not."""
    folder = tmp_path / "outputs" / "pets"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "README.md").write_text(CARD)
    (folder / "results.json").write_text(json.dumps({"metric": "mAP", "versions": {"torch": "2.13.0+cpu"}}))
    (folder / "training_args.json").write_text(
        json.dumps({"deepspeed": str(tmp_path / "my ds.json"), "seed": 1})
    )
    (folder / "curves.png").write_bytes(b"\x89PNG" + bytes(range(256)) * 8)
    for name in (
        *("training_args.bin", "checkpoint-3/optimizer.pt", ".env", "samples/cat.wav", "samples/list.csv"),
        ".eval_results/pets-test.yaml",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def set_field(name: str, file: str = "config.json", **fields: Any) -> Callable[[Path], None]:
    """Return a function that changes a JSON file of a folder; `name` labels the case."""

    def change(folder: Path) -> None:
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**values, **fields}))

    change.__name__ = name
    return change


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# ---------------------------------------------------------------- what


def test_samples_are_offered_on_the_page(hub: Hub, pets: Path) -> None:
    (pets / "samples" / "my dog.ogg").write_bytes(b"x")
    push_folder(pets, "user/pets")
    card = ModelCard(hub.files("user/pets")["README.md"].content.decode())
    place = "https://huggingface.co/user/pets/resolve/main/samples/"
    assert card.data.widget == [
        {"src": f"{place}cat.wav", "example_title": "cat"},
        {"src": f"{place}my%20dog.ogg", "example_title": "my dog"},
    ]
    assert card.text == ModelCard(CARD.replace("outputs/pets", "user/pets")).text
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "audio-classification")


def test_widgets_of_the_card_are_kept(pets: Path) -> None:
    chosen = CARD.replace("pipeline_tag", "widget:\n- src: https://example.org/owl.wav\npipeline_tag")
    (pets / "README.md").write_text(chosen)
    content = publication_of(pets, "user/pets").files["README.md"]
    assert isinstance(content, bytes)
    assert content.decode() == chosen.replace("outputs/pets", "user/pets")


def test_links_out_of_the_folder_are_not_sent(hub: Hub, pets: Path) -> None:
    secret = pets.parent / "id_rsa"
    secret.write_text("private")
    (pets / "LICENSE").symlink_to(secret)
    with pytest.raises(AstHfError, match=r"E705.*LICENSE': is a link to '.*id_rsa', outside of the folder"):
        push_folder(pets, "user/pets")
    (pets / "LICENSE").unlink()
    (pets / "LICENSE").symlink_to("README.md")
    assert "LICENSE" in publication_of(pets, "user/pets").files
    assert hub.log == []


def test_a_push_sends_exactly_the_published_files(hub: Hub, pets: Path) -> None:
    before = contents(pets)
    done = push_folder(pets, "user/pets")
    files = {name: blob.content for name, blob in hub.files("user/pets").items()}
    assert files.keys() == PUBLISHED
    for name in ("model.safetensors", "config.json", "curves.png", "results.json"):
        assert files[name] == before[name]
    assert json.loads(files["training_args.json"]) == {"deepspeed": "my ds.json", "seed": 1}
    assert files["requirements.txt"] == b"torch==2.13.0\n"
    assert [commit.oid for commit in hub.commits("user/pets")] == [done.commit]
    assert done.url == f"{hub.url}/user/pets/commit/{done.commit}"
    assert contents(pets) == before


def test_the_card_names_the_repository_and_keeps_names_of_other_models(hub: Hub, pets: Path) -> None:
    shutil.rmtree(pets / "samples")
    push_folder(pets, "lab/animals")
    card = hub.files("lab/animals")["README.md"].content.decode()
    assert card == CARD.replace("outputs/pets", "lab/animals")


def test_existing_requirements_are_kept(pets: Path) -> None:
    (pets / "requirements.txt").write_text("torch\n")
    assert publication_of(pets, "user/pets").files["requirements.txt"] == pets / "requirements.txt"


def test_no_requirements_are_written_without_recorded_versions(pets: Path) -> None:
    (pets / "results.json").unlink()
    assert "requirements.txt" not in publication_of(pets, "user/pets").files


def remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()

    change.__name__ = f"without {name}"
    return change


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_short(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-8])


def card(head: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "README.md").write_text(head)

    change.__name__ = f"card {head[:12]!r}"
    return change


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (remove("README.md"), "E705", "README.md"),
        (remove("preprocessor_config.json"), "E705", "preprocessor_config.json"),
        (remove("config.json"), "E306", "config.json"),
        (remove("model.safetensors"), "E306", "weights"),
        (as_pickle, "E705", "model.safetensors"),
        (cut_short, "E306", "model.safetensors"),
        (set_field("no task", problem_type=None), "E705", "problem_type"),
        (
            set_field("nameless", id2label={"0": "cat", "1": "LABEL_1", "2": "owl"}, label2id=None),
            "E705",
            "LABEL_1",
        ),
        (set_field("another size", num_hidden_layers=3), "E305", "num_hidden_layers"),
        (
            set_field("another length", "preprocessor_config.json", max_length=128),
            "E705",
            "max_length is 128, but 64",
        ),
        (card("# Pets\n"), "E705", "library_name"),
        (card(CARD.replace("pipeline_tag", "task")), "E705", "names no pipeline_tag"),
        (card(CARD.replace(": audio", ": image")), "E705", "image-classification"),
        (card("---\na: [\n---\n"), "E705", "README.md"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_incomplete_folders_are_refused_before_anything_is_sent(
    hub: Hub, pets: Path, change: Callable[[Path], None], code: str, message: str
) -> None:
    change(pets)
    with pytest.raises(AstConfigError) as caught:
        push_folder(pets, "user/pets")
    assert caught.value.code == code
    assert message in str(caught.value)
    assert hub.log == []


def in_weights(folder: Path, secret: str) -> None:
    save_file(
        load_file(folder / "model.safetensors"),
        folder / "model.safetensors",
        {"format": "pt", "note": secret},
    )


def in_file(name: str) -> Callable[[Path, str], None]:
    def change(folder: Path, secret: str) -> None:
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n" + secret.encode())

    change.__name__ = name
    return change


@pytest.mark.parametrize("change", [in_file("README.md"), in_file("curves.png"), in_weights])
@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 16,
        "AKIA" + "ABCD1234" * 2,
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "own: sesame",
    ],
    ids=["hugging face", "github", "fine-grained github", "aws", "pem", "of this machine"],
)
def test_a_secret_is_never_sent_and_not_repeated(
    hub: Hub, pets: Path, change: Callable[[Path, str], None], secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret.startswith("own: "):
        monkeypatch.setenv("HF_TOKEN", "sesame")
    change(pets, secret)
    with pytest.raises(AstConfigError, match="E705") as caught:
        push_folder(pets, "user/pets")
    assert secret not in str(caught.value)
    assert hub.log == []


def test_secrets_in_unpublished_files_are_ignored(hub: Hub, pets: Path) -> None:
    (pets / ".env").write_text(f"HF_TOKEN={TOKEN}")
    push_folder(pets, "user/pets")
    assert not any(TOKEN.encode() in content for _, content in hub.uploads())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"a": "/home/jane/clips"}', '{"a": "clips"}'),
        ('{"a": "/home/Jane Doe/my clips/x.json", "b": 1}', '{"a": "x.json", "b": 1}'),
        ('{"a": ["/root/x", "/Users/jane/y/"]}', '{"a": ["x", "y"]}'),
        ('{"a": "file:///home/jane/x"}', '{"a": "x"}'),
        ('{"a": "C:\\\\Users\\\\Jane Doe\\\\clips"}', '{"a": "clips"}'),
        ("source: /mnt/data/my clips\nseed: 1", "source: my clips\nseed: 1"),
        ("trained on `/home/jane/clips` (/tmp/x/y).", "trained on `clips` (y)."),
        ("cd /root", "cd root"),
    ],
)
def test_local_paths_are_cut(text: str, clean: str) -> None:
    assert cut_paths(text)[0] == clean
    if text.startswith("{"):
        assert json.loads(cut_paths_in_json(text)[0]) == json.loads(clean)


@pytest.mark.parametrize(
    "text",
    [
        '{"0": "/m/09x0r", "1": "Speech/Music", "2": "/"}',
        "https://huggingface.co/home/jane/x and clips/s, and/or 3/4, a//b",
        "#!/usr/bin/env python > /dev/null",
        'model="user/root/x" ./home/x ../home/jane ~/clips </div>',
        '{"a": "data/clips", "time": "12:30", "ratio": "a: b"}',
    ],
)
def test_text_that_is_not_a_local_path_is_unchanged(text: str) -> None:
    assert cut_paths(text) == (text, 0)
    assert cut_paths_in_json(json.dumps([text])) == (json.dumps([text]), 0)


@given(
    st.lists(st.text("aé /._-", min_size=1, max_size=6), min_size=1, max_size=4),
    st.text("ab :,\n", max_size=8),
)
def test_no_home_folder_survives_in_json(parts: list[str], around: str) -> None:
    path = "/home/" + "/".join(["jane", *parts, "x"])
    clean, count = cut_paths_in_json(json.dumps({"a": path, "b": around}))
    assert "jane" not in clean
    assert count == 1
    assert json.loads(clean) == {"a": "x", "b": around}


def test_a_dry_run_writes_exactly_what_a_push_sends(
    hub: Hub, pets: Path, capsys: pytest.CaptureFixture
) -> None:
    for _ in range(2):  # the second push finds its own files there
        assert cli.main(["push", str(pets), "user/pets", "--dry-run"]) == 0
    assert hub.log == []
    printed = capsys.readouterr().out
    assert all(re.search(rf"^ *[\d,]+  {re.escape(name)}$", printed, re.MULTILINE) for name in PUBLISHED)
    assert "not published: .env, checkpoint-3/, samples/, training_args.bin" in printed
    push_folder(pets, "user/pets")
    assert contents(pets.with_name("pets-to-push")) == {
        name: blob.content for name, blob in hub.files("user/pets").items()
    }


@pytest.mark.parametrize("place", [".", "..", "inside", "../other"])
def test_a_dry_run_overwrites_nothing(pets: Path, place: str) -> None:
    (pets.parent / "other").mkdir()
    (pets.parent / "other" / "thesis.tex").write_text("years of work")
    before = contents(pets.parent)
    assert cli.main(["push", str(pets), "user/pets", "--dry-run", str(pets / place)]) == 65
    assert contents(pets.parent) == before


def test_a_dry_run_does_not_replace_another_model(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / "mine"
    for status in (0, 0):
        assert cli.main(["push", str(pets), "user/pets", "--dry-run", str(place)]) == status
    (place / "model.safetensors").write_bytes(b"another model")
    before = contents(place)
    capsys.readouterr()
    assert cli.main(["push", str(pets), "user/pets", "--dry-run", str(place)]) == 65
    assert "holds another model.safetensors, which would be lost" in capsys.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize("name", ["user/my model", "a/b/c", "pets"])
def test_a_dry_run_refuses_names_that_a_push_would(
    pets: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    before = contents(pets.parent)
    assert cli.main(["push", str(pets), name, "--dry-run"]) == 65
    assert f"[AST-E702] '{name}'" in capsys.readouterr().err
    assert contents(pets.parent) == before


def test_a_dry_run_of_the_current_folder(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    assert cli.main(["push", ".", "user/pets", "--dry-run"]) == 0
    assert (pets.parent / "pets-to-push" / "model.safetensors").is_file()


# ---------------------------------------------------------------- how


def test_unchanged_files_are_not_sent_again(hub: Hub, pets: Path) -> None:
    push_folder(pets, "user/pets")
    sent = hub.uploaded_bytes
    commits = hub.count("POST .*/commit/main 200")
    assert sent == sum(
        (pets / name).stat().st_size for name in ("model.safetensors", "curves.png", "samples/cat.wav")
    )
    push_folder(pets, "user/pets")
    assert (hub.uploaded_bytes, hub.count("POST .*/commit/main 200")) == (sent, commits)
    set_field("new", "results.json", metric="accuracy")(pets)
    push_folder(pets, "user/pets")
    assert hub.uploaded_bytes == sent
    assert hub.commits("user/pets")[-1].changed == ("results.json",)


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("POST /api/repos/create", {"kind": "reset"}),
        ("POST /api/repos/create", {"status": 500}),
        ("POST /api/validate-yaml", {"status": 503, "body": b"<html>"}),
        ("POST .*/preupload/", {"status": 502, "times": 2}),
        ("POST .*/objects/batch", {"kind": "truncate"}),
        (WEIGHTS, {"kind": "reset", "after": 1000}),
        (WEIGHTS, {"kind": "reset", "after": 1000, "times": 7}),
        (WEIGHTS, {"status": 500, "times": 2}),
        ("POST /lfs/verify", {"kind": "reset"}),
        ("POST .*/commit/main", {"status": 504, "times": 2}),
        ("POST .*/commit/main", {"kind": "reset"}),
        ("POST .*/commit/main", {"kind": "truncate"}),
        ("POST .*/paths-info/", {"status": 500}),
    ],
    ids=str,
)
def test_transient_failures_are_retried(
    hub: Hub, pets: Path, waits: list[float], pattern: str, how: dict[str, Any]
) -> None:
    hub.fail(pattern, **how)
    push_folder(pets, "user/pets")
    assert waits
    assert hub.files("user/pets").keys() == PUBLISHED
    assert len(hub.commits("user/pets")) == 1  # also if the commit was made but the reply lost


@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "POST .*/commit/main"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_of_the_server_is_honoured(
    hub: Hub, pets: Path, waits: list[float], pattern: str, status: int
) -> None:
    hub.fail(pattern, status, headers={"Retry-After": "7"})
    push_folder(pets, "user/pets")
    assert waits == [7.0]


def test_an_interrupted_push_is_finished_by_the_command_that_it_names(
    hub: Hub, pets: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    before = contents(pets)
    oid = hashlib.sha256((pets / "model.safetensors").read_bytes()).hexdigest()
    hub.fail(f"{WEIGHTS}{oid}", kind="reset", after=70_000, times=1000)
    assert cli.main(["push", str(pets), "user/pets", "--revision", "v2"]) == 75
    stderr = capsys.readouterr().err
    assert "AST-E704" in stderr
    assert f"`ast-hf push {pets} user/pets --revision v2`" in stderr
    assert contents(pets) == before
    assert hub.files("user/pets", "v2") == {}  # all or nothing
    hub.faults.clear()
    seen = hub.uploaded_bytes
    assert cli.main(["push", str(pets), "user/pets", "--revision", "v2"]) == 0
    assert hub.uploaded_bytes - seen == (pets / "model.safetensors").stat().st_size  # the others are there
    assert hub.files("user/pets", "v2").keys() == PUBLISHED
    assert (
        capsys.readouterr()
        .out.strip()
        .endswith(f"/user/pets/commit/{hub.commits('user/pets', 'v2')[-1].oid}")
    )


@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "POST .*/preupload/", "POST .*/commit/main"])
@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "hf auth login"),
        (403, {}, "write access"),
    ],
)
def test_permission_errors_are_not_retried(
    hub: Hub, pets: Path, waits: list[float], pattern: str, status: int, headers: dict[str, str], message: str
) -> None:
    hub.fail(pattern, status, headers=headers, times=1000)
    with pytest.raises(AstHfError, match="E701") as caught:
        push_folder(pets, "user/pets")
    assert message in str(caught.value)
    assert f"ast-hf push {pets} user/pets" in str(caught.value)
    assert waits == []


def test_an_unknown_token_is_reported(hub: Hub, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(AstHfError, match=r"E701.*does not accept the token"):
        push_folder(pets, "user/pets")
    push_folder(pets, "user/pets", token=TOKEN)


def test_a_read_only_token_is_reported(hub: Hub, pets: Path) -> None:
    hub.roles[TOKEN] = "read"
    with pytest.raises(AstHfError, match=r"E701.*may not write"):
        push_folder(pets, "user/pets")


def test_a_full_hub_is_not_retried(hub: Hub, pets: Path, waits: list[float]) -> None:
    hub.fail(WEIGHTS, 507, times=1000)
    with pytest.raises(AstHfError, match=r"E704.*no storage left"):
        push_folder(pets, "user/pets")
    assert waits == []


def test_a_card_refused_by_the_hub_stops_the_push_before_the_weights(hub: Hub, pets: Path) -> None:
    (pets / "README.md").write_text(CARD.replace("pipeline_tag", "base_model: ./local\npipeline_tag"))
    with pytest.raises(AstConfigError, match=r"E705.*base_model"):
        push_folder(pets, "user/pets")
    assert hub.uploaded_bytes == 0


def test_a_file_ignored_by_the_repository_is_an_error(hub: Hub, pets: Path) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo("user/pets")
    HfApi().upload_file(
        path_or_fileobj=b"model.safetensors\n", path_in_repo=".gitignore", repo_id="user/pets"
    )
    with pytest.raises(AstHfError, match=r"E704.*model.safetensors.*\.gitignore"):
        push_folder(pets, "user/pets")


# ---------------------------------------------------------------- where


def test_a_private_repository(hub: Hub, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["push", str(pets), "lab/pets", "--private"]) == 0
    assert hub.repositories["lab/pets"].private
    ASTForAudioClassification.from_pretrained("lab/pets")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{constants.HF_HUB_CACHE}-of-a-stranger")
    with pytest.raises(OSError, match="lab/pets"):
        ASTForAudioClassification.from_pretrained("lab/pets")


def test_a_private_push_to_a_public_repository_is_refused(hub: Hub, pets: Path) -> None:
    push_folder(pets, "user/pets")
    sent = len(hub.commits("user/pets"))
    with pytest.raises(AstConfigError, match=r"E705.*public"):
        push_folder(pets, "user/pets", private=True)
    assert len(hub.commits("user/pets")) == sent


def test_a_pull_request_to_somebody_elses_repository(
    hub: Hub, pets: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["push", str(pets), "jane/pets", "--create-pr"]) == 65
    assert "E702" in capsys.readouterr().err
    hub.user = "jane"
    push_folder(pets, "jane/pets")
    hub.user = "user"
    set_field("new", "results.json", metric="accuracy")(pets)
    assert cli.main(["push", str(pets), "jane/pets"]) == 75
    assert cli.main(["push", str(pets), "jane/pets", "--create-pr"]) == 0
    assert capsys.readouterr().out.strip().endswith("/jane/pets/discussions/1")
    assert json.loads(hub.files("jane/pets", "refs/pr/1")["results.json"].content)["metric"] == "accuracy"
    assert json.loads(hub.files("jane/pets")["results.json"].content)["metric"] == "mAP"


@pytest.mark.parametrize(
    ("repo_id", "options", "code"),
    [
        ("pets", {}, "E702"),
        ("my pets", {}, "E702"),
        ("user/pets", {"create_pr": True, "revision": "v2"}, "E108"),
        ("user/pets", {"create_pr": True, "private": True}, "E108"),
    ],
)
def test_impossible_push_arguments_are_refused(
    hub: Hub, pets: Path, repo_id: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(AstHfError, match=code):
        push_folder(pets, repo_id, **options)
    assert hub.log == []


# ---------------------------------------------------------------- and back


def scores(model: Any, extractor: Any, tone: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model(**extractor(tone, sampling_rate=16_000, return_tensors="pt", truncation=True)).logits


def test_pulling_by_name_revision_and_from_the_cache(
    hub: Hub, pets: Path, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone = tone[:9_600]  # one window
    first = push_folder(pets, "user/pets")
    weights = load_file(pets / "model.safetensors")
    weights["classifier.dense.bias"] += 1.0 * torch.arange(3)
    save_file(weights, pets / "model.safetensors", {"format": "pt"})
    push_folder(pets, "user/pets")

    model = AutoModelForAudioClassification.from_pretrained
    extractor = AutoFeatureExtractor.from_pretrained("user/pets")
    new, old = (
        scores(model("user/pets"), extractor, tone),
        scores(model("user/pets", revision=first.commit), extractor, tone),
    )
    assert largest_gap(new - old, torch.arange(3.0)[None]) < 1e-5
    assert largest_gap(new, scores(ASTForAudioClassification.from_pretrained(pets), extractor, tone)) == 0.0

    classifier = pipeline(model="user/pets")  # no task: it is in the card
    answer = {
        entry["label"]: entry["score"] for entry in classifier({"array": tone, "sampling_rate": 16_000})
    }
    new_scores = new.softmax(-1)[0].tolist()
    assert answer == pytest.approx(dict(zip(("cat", "dog", "owl"), new_scores, strict=True)), abs=1e-5)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    requests = len(hub.log)
    assert (
        largest_gap(scores(model("user/pets"), AutoFeatureExtractor.from_pretrained("user/pets"), tone), new)
        == 0.0
    )
    assert len(hub.log) == requests


def test_an_interrupted_download_raises(hub: Hub, pets: Path, waits: list[float]) -> None:
    push_folder(pets, "user/pets")
    hub.fail("GET .*/model.safetensors", kind="truncate", times=1000)
    with pytest.raises(AstHfError, match=r"E704.*user/pets.*model.safetensors"):
        ASTForAudioClassification.from_pretrained("user/pets")
    hub.faults.clear()
    ASTForAudioClassification.from_pretrained("user/pets")


def test_a_data_set_is_pushed_and_loaded_back(
    hub: Hub, tone: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import soundfile

    from ast_hf.data.splits import label_names
    from ast_hf.training import load_audio_dataset

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    rows = datasets.Dataset.from_dict({"audio": [str(tmp_path / "a.wav")] * 4, "label": ["hum", "beep"] * 2})
    rows.cast_column("audio", datasets.Audio(decode=False)).push_to_hub("user/clips", private=True)
    assert hub.repositories["datasets/user/clips"].private
    (tmp_path / "a.wav").unlink()  # the clips themselves were uploaded
    (split,) = load_audio_dataset("user/clips").values()
    assert (len(split), label_names(split)) == (4, ["beep", "hum"])


def test_an_adapter_with_the_short_name_of_its_base_still_names_the_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "MIT/ast"}', encoding="utf-8")
    card = 'from_pretrained("MIT/ast", config=config)\nfrom_pretrained(base, "outputs/ast")\n'
    text = publication._with_repository(card, tmp_path, "alice/ast")
    assert text == 'from_pretrained("MIT/ast", config=config)\nfrom_pretrained(base, "alice/ast")\n'


@pytest.mark.parametrize(
    ("name", "content"), [("LICENSE.txt", "\u00a9 me".encode("latin-1")), ("training_args.json", b"{")]
)
def test_a_text_that_cannot_be_read_is_named(hub: Hub, pets: Path, name: str, content: bytes) -> None:
    (pets / name).write_bytes(content)
    with pytest.raises(AstConfigError, match=rf"E705.*{name}.*cannot be read"):
        push_folder(pets, "user/pets")
    assert hub.log == []


@pytest.mark.parametrize("around", ["", "x ", '"', "\x00"])
@pytest.mark.parametrize("kind", ["hf_", "api_org_"])
def test_a_token_is_detected_only_at_the_start_of_a_word(kind: str, around: str) -> None:
    token = kind + "a1B2" * 8
    with pytest.raises(AstConfigError, match="E705"):
        check_secrets((around + token).encode(), "file")
    check_secrets(f"{around}self{token}".encode(), "file")
