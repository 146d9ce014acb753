"""Runs that publish: sealed checkpoints on the Hub, resuming from them, and a Hub that always fails."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from conftest import TINY, TOKEN
from hub_server import Hub
from huggingface_hub import HfApi
from safetensors.torch import load_file

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, AstHfError, AstHfWarning, cli
from ast_hf.training import Recipe, finetune, prepare
from ast_hf.training.checkpoints import hub as hub_checkpoints
from ast_hf.training.checkpoints.hub import CheckpointPushes, HubPlace, download_checkpoint, send_checkpoint
from ast_hf.training.checkpoints.sealing import MANIFEST, find_corruption, read_manifest, seal
from training.runs import VARIED, Stop, checkpoint_digest, digest, recipe, sound

#: six steps, saved at 2, 4 and 6
PLAN: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "logging_strategy": "no"}
OPTIONS = {**VARIED, "features": {"mean": -5.0, "std": 4.0}}
HELD_OUT = {"features": {"mean": -5.0, "std": 4.0}, "data": {"validation_fraction": 0.25}}


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones. Read only."""
    root = tmp_path_factory.mktemp("few")
    for split, count in (("train", 12), ("test", 2)):
        for kind in ("noise", "tone"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                soundfile.write(root / split / kind / f"{number}.wav", sound(kind, number), 16_000)
    return root


@pytest.fixture(scope="session")
def checkpoint(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sealed checkpoint of step 2. Read only."""
    root = tmp_path_factory.mktemp("run")
    run = prepare(recipe(few, OPTIONS, **PLAN), root)
    run.trainer.add_callback(Stop(step=2))
    run.trainer.train()
    return root / "checkpoint-2"


def paths(hub: Hub, folder: str = "", repo: str = "user/run") -> set[str]:
    return {name.removeprefix(folder) for name in hub.files(repo) if name.startswith(folder)}


def run_until(few: Path, root: Path, step: int | None, **training: Any) -> None:
    run = prepare(recipe(few, OPTIONS, **PLAN, **training), root, push_to_hub=True, hub_model_id="user/run")
    if step is not None:
        run.trainer.add_callback(Stop(step=step))
    run.trainer.train()


# ---------------------------------------------------------------- from one machine to another


@pytest.mark.long
def test_a_run_resumes_to_the_bit_on_another_machine_without_private_data(
    hub: Hub, few: Path, tmp_path: Path
) -> None:
    here, there, unbroken = (tmp_path / name for name in ("here", "there", "unbroken"))
    run_until(few, here, 4, hub_strategy="checkpoint", hub_token=TOKEN)
    for name, content in hub.uploads():
        assert Path(name).name != "training_args.bin"
        assert TOKEN.encode() not in content, name
        assert str(tmp_path).encode() not in content, name
    assert paths(hub, "last-checkpoint/") >= {"model.safetensors", "optimizer.pt", "rng_state.pth", MANIFEST}
    sent = hub.files("user/run")["last-checkpoint/model.safetensors"].content
    assert sent == (here / "checkpoint-4" / "model.safetensors").read_bytes()
    assert not (here / ".sending").exists()

    prepare(recipe(few, OPTIONS, **PLAN), unbroken).trainer.train()
    report = finetune(
        recipe(few, OPTIONS, **PLAN), there, resume_from_checkpoint="hub", hub_model_id="user/run"
    )
    assert checkpoint_digest(there / "checkpoint-6") == checkpoint_digest(unbroken / "checkpoint-6")
    assert (there / "checkpoint-4").exists()
    assert report.unpublished is None
    assert hub.count("POST .*/commit/") == 2  # of the first run alone: the second does not push


def test_local_paths_are_cut_and_the_manifest_still_holds(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "here" / "checkpoint-2")
    state = json.loads((copy / "trainer_state.json").read_text())
    (copy / "trainer_state.json").write_text(json.dumps({**state, "best_model_checkpoint": str(copy)}))
    seal(copy, step=2)
    _create(hub)
    send_checkpoint(copy, HubPlace("user/run"), "checkpoint")
    downloaded = download_checkpoint(tmp_path / "there", HubPlace("user/run"))
    assert downloaded == tmp_path / "there" / "checkpoint-2"
    assert find_corruption(downloaded) is None
    assert (
        json.loads((downloaded / "trainer_state.json").read_text())["best_model_checkpoint"] == "checkpoint-2"
    )
    assert json.loads((copy / "trainer_state.json").read_text())["best_model_checkpoint"] == str(copy)


@pytest.mark.long
@pytest.mark.parametrize(
    ("strategy", "folders"),
    [
        ("every_save", set()),
        ("checkpoint", {"last-checkpoint"}),
        ("all_checkpoints", {"checkpoint-2", "checkpoint-4"}),
    ],
)
def test_strategies(hub: Hub, few: Path, tmp_path: Path, strategy: str, folders: set[str]) -> None:
    run_until(few, tmp_path / "here", 4, hub_strategy=strategy, hub_always_push=True)
    assert {name.split("/")[0] for name in paths(hub) if "/" in name} == folders
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= paths(hub)
    messages = [commit.message for commit in hub.commits("user/run")]
    assert messages == ["Training in progress, step 2", "Training in progress, step 4"]
    ASTForAudioClassification.from_pretrained("user/run")
    if folders:
        assert download_checkpoint(tmp_path / "there", HubPlace("user/run")).name == "checkpoint-4"


def test_files_missing_from_the_last_checkpoint_are_deleted_on_the_hub(
    hub: Hub, checkpoint: Path, tmp_path: Path
) -> None:
    _create(hub)
    two = shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    shutil.copy(two / "rng_state.pth", two / "rng_state_1.pth")
    seal(two, step=2)
    send_checkpoint(two, HubPlace("user/run"), "checkpoint")
    assert "rng_state_1.pth" in paths(hub, "last-checkpoint/")
    send_checkpoint(checkpoint, HubPlace("user/run"), "checkpoint")
    assert "rng_state_1.pth" not in paths(hub, "last-checkpoint/")
    assert hub.commits("user/run")[-1].changed == ("last-checkpoint/manifest.json",)


def _create(hub: Hub) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo("user/run")


# ---------------------------------------------------------------- what is not resumed


@pytest.fixture
def pushed(hub: Hub, checkpoint: Path) -> Hub:
    _create(hub)
    send_checkpoint(checkpoint, HubPlace("user/run"), "checkpoint")
    return hub


def test_a_checkpoint_that_changed_on_the_way_is_refused(pushed: Hub, tmp_path: Path) -> None:
    files = pushed.files("user/run")
    name = "last-checkpoint/optimizer.pt"
    content = bytearray(files[name].content)
    content[-1] ^= 1
    files[name] = files[name]._replace(content=bytes(content))
    with pytest.raises(AstHfError, match=r"E306.*optimizer.pt is not as it was written"):
        download_checkpoint(tmp_path, HubPlace("user/run"))
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json"])
def test_a_file_that_differs_from_the_hubs_is_downloaded_again(
    pushed: Hub, tmp_path: Path, name: str
) -> None:
    pushed.fail(f"GET .*/{name}", kind="flip")
    with pytest.raises(AstHfError, match=rf"E706.*{name}.*is not the file on the Hub"):
        download_checkpoint(tmp_path, HubPlace("user/run"))
    assert find_corruption(download_checkpoint(tmp_path, HubPlace("user/run"))) is None


def test_a_broken_manifest_is_refused(pushed: Hub, tmp_path: Path) -> None:
    files = pushed.files("user/run")
    files[f"last-checkpoint/{MANIFEST}"] = files[f"last-checkpoint/{MANIFEST}"]._replace(content=b"{}")
    with pytest.raises(AstHfError, match=r"E306.*manifest.json is broken"):
        download_checkpoint(tmp_path, HubPlace("user/run"))


def test_a_missing_repository_and_one_without_checkpoints_are_refused(hub: Hub, tmp_path: Path) -> None:
    _create(hub)
    with pytest.raises(AstHfError, match=r"E306.*last-checkpoint"):
        download_checkpoint(tmp_path, HubPlace("user/run"))
    with pytest.raises(AstHfError, match="E702"):
        download_checkpoint(tmp_path, HubPlace("user/other"))


def test_an_interrupted_download_is_continued(pushed: Hub, tmp_path: Path, waits: list[float]) -> None:
    pushed.fail("GET .*/optimizer.pt", kind="truncate", times=2)
    pushed.fail("GET .*/rng_state.pth", 503, times=2)
    assert find_corruption(download_checkpoint(tmp_path, HubPlace("user/run"))) is None
    assert waits


def test_the_same_checkpoint_is_not_downloaded_twice(pushed: Hub, tmp_path: Path) -> None:
    first = download_checkpoint(tmp_path, HubPlace("run"))  # the user's own repository, by its name alone
    downloads = pushed.count("GET .*/resolve/.*/optimizer.pt")
    assert downloads
    assert download_checkpoint(tmp_path, HubPlace("user/run")) == first
    assert pushed.count("GET .*/resolve/.*/optimizer.pt") == downloads


def test_a_newer_local_checkpoint_is_warned_of(pushed: Hub, checkpoint: Path, tmp_path: Path) -> None:
    newer = shutil.copytree(checkpoint, tmp_path / "checkpoint-4")
    seal(newer, step=4)
    with pytest.warns(AstHfWarning, match=r"W405.*checkpoint-4"):
        assert download_checkpoint(tmp_path, HubPlace("user/run")).name == "checkpoint-2"


def test_the_best_checkpoint_is_downloaded_or_the_run_is_refused(
    hub: Hub, checkpoint: Path, tmp_path: Path
) -> None:
    _create(hub)
    newest = shutil.copytree(checkpoint, tmp_path / "here" / "checkpoint-4")
    state = json.loads((newest / "trainer_state.json").read_text())
    (newest / "trainer_state.json").write_text(json.dumps({**state, "best_global_step": 2}))
    seal(newest, step=4)
    send_checkpoint(newest, HubPlace("user/run"), "all_checkpoints")
    with pytest.raises(AstHfError, match=r"E306.*checkpoint-2.*best"):
        download_checkpoint(tmp_path / "there", HubPlace("user/run"), with_best=True)
    send_checkpoint(checkpoint, HubPlace("user/run"), "all_checkpoints")
    assert (
        download_checkpoint(tmp_path / "there", HubPlace("user/run"), with_best=True).name == "checkpoint-4"
    )
    assert find_corruption(tmp_path / "there" / "checkpoint-2") is None


def test_a_best_checkpoint_that_moved_is_found(few: Path, tmp_path: Path) -> None:
    """transformers does not find it, and would return the last weights as the best."""
    best = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }
    first = prepare(recipe(few, HELD_OUT, **PLAN, **best), tmp_path / "a")
    first.trainer.add_callback(Stop(step=4))
    first.trainer.train()
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = prepare(recipe(few, HELD_OUT, **PLAN, **best), tmp_path / "b")
    again.trainer.train(resume_from_checkpoint=True)
    assert Path(again.trainer.state.best_model_checkpoint).parent == tmp_path / "b"


def test_resuming_from_the_hub_needs_a_name(few: Path, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match=r"E307.*hub_model_id"):
        finetune(recipe(few), tmp_path, resume_from_checkpoint="hub")


def test_a_base_is_loaded_at_its_revision(hub: Hub, few: Path, tmp_path: Path) -> None:
    """An adapter stores the revision, for `ast-hf merge`."""
    _create(hub)
    commits, norms = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = ASTForAudioClassification(ASTConfig(**TINY, num_labels=2))
        model.save_pretrained(tmp_path / str(seed))
        ASTFeatureExtractor(num_mel_bins=32, max_length=64, std=float(seed)).save_pretrained(
            tmp_path / str(seed)
        )
        norms.append(model.base_model.embeddings.position_embeddings.norm().item())
        commits.append(
            HfApi(token=TOKEN).upload_folder(folder_path=tmp_path / str(seed), repo_id="user/run").oid
        )
    for revision, norm in ((commits[0], norms[0]), (None, norms[1])):
        start: dict[str, Any] = {"base": "user/run", "config": {}, "revision": revision}
        run = prepare(
            recipe(few, {"model": start, "adapter": {"rank": 2}, "features": {"std": 4.0}}), tmp_path / "out"
        )
        positions = run.trainer.model.base_model.embeddings.position_embeddings
        assert positions.norm().item() == pytest.approx(norm, rel=1e-6)
        run.trainer.adapter.save(tmp_path / "adapter")
        adapter_config = json.loads(
            (tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
        )
        assert (adapter_config["base_model_name_or_path"], adapter_config["revision"]) == (
            "user/run",
            revision,
        )


@pytest.mark.parametrize("model", [{"revision": "v2"}, {"revision": "v2", "base": "HERE"}])
def test_a_revision_without_a_hub_name_is_refused(tmp_path: Path, model: dict[str, str]) -> None:
    options = {name: str(tmp_path) if value == "HERE" else value for name, value in model.items()}
    with pytest.raises(AstHfError, match=r"E307.*model\.revision.*not on the Hub"):
        Recipe.from_dict({"model": options})


# ---------------------------------------------------------------- a Hub that fails


@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, {"Retry-After": "3"}), (401, {"X-Error-Message": "Invalid credentials in Authorization header"})],
)
def test_a_run_survives_a_hub_that_fails_all_the_time(
    hub: Hub,
    few: Path,
    tmp_path: Path,
    waits: list[float],
    capsys: pytest.CaptureFixture,
    status: int,
    headers: dict[str, str],
) -> None:
    hub.fail(".*", status, headers=headers, times=10_000)
    plan = recipe(few, OPTIONS, **PLAN, hub_strategy="checkpoint", hub_always_push=True)
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    flags = (
        "--data",
        str(few),
        "--output",
        str(tmp_path / "out"),
        "--push_to_hub",
        "--hub_model_id",
        "user/run",
    )
    assert cli.main(["finetune", str(tmp_path / "plan.yaml"), *flags]) == 75
    texts = [line for line in capsys.readouterr().err.splitlines() if "W701" in line]
    assert len(texts) == 3  # at the start, for the first checkpoint, and at the end
    assert "'user/run': cannot be published yet" in texts[0]
    assert "checkpoint-2: was not pushed" in texts[1]
    command = f"ast-hf push {tmp_path / 'out'} user/run"
    assert f"`{command}`" in texts[2]
    assert find_corruption(tmp_path / "out" / "checkpoint-6") is None
    assert {"README.md", "model.safetensors", "results.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }

    hub.faults.clear()
    assert cli.main(command.split()[1:]) == 0
    assert "model.safetensors" in hub.files("user/run")
    assert 'model="user/run"' in hub.files("user/run")["README.md"].content.decode()


def test_a_push_failure_is_warned_of_once_until_a_success(
    hub: Hub, checkpoint: Path, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    pushes = CheckpointPushes(HubPlace("user/run"), "checkpoint")
    for answers, count in (([403, 403], 1), ([None], 1), ([403], 2)):
        for status in answers:
            if status:
                hub.fail("POST .*/(create|preupload/.*)", status)
            pushes.push(checkpoint)
            pushes.finish()
        assert sum("W701" in str(warning.message) for warning in recwarn) == count


def test_transient_push_failures_are_retried(hub: Hub, checkpoint: Path, waits: list[float]) -> None:
    hub.fail("POST .*/commit/.*", 503, times=2)
    hub.fail("POST .*/create", kind="reset", times=1)
    pushes = CheckpointPushes(HubPlace("user/run"), "checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        pushes.push(checkpoint)
        pushes.finish()
    assert f"last-checkpoint/{MANIFEST}" in hub.files("user/run")
    assert len(waits) >= 3


@pytest.mark.parametrize(("every", "sent"), [(False, [2, 6]), (True, [2, 4, 6])])
def test_checkpoints_saved_during_a_push_are_sent(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: bool, sent: list[int]
) -> None:
    """The files are those of the checkpoint at the push, although it is removed meanwhile."""
    begun = threading.Event()
    go = threading.Event()
    seen = []

    def send(folder: Path, place: HubPlace, strategy: str) -> None:
        begun.set()
        assert go.wait(20)
        assert (folder / "optimizer.pt").read_bytes() == (checkpoint / "optimizer.pt").read_bytes()
        seen.append(int(folder.name.split("-")[1]))

    monkeypatch.setattr(hub_checkpoints, "send_checkpoint", send)
    monkeypatch.setattr(hub_checkpoints, "open_repository", lambda name, **_: name)
    pushes = CheckpointPushes(HubPlace("user/run"), "checkpoint", every=every)
    for step in (2, 4, 6):
        pushes.push(shutil.copytree(checkpoint, tmp_path / f"checkpoint-{step}"))
        shutil.rmtree(tmp_path / f"checkpoint-{step}")
        assert begun.wait(20)
    go.set()
    pushes.finish()
    assert seen == sent
    assert not (tmp_path / ".sending").exists()


def test_a_full_disk_does_not_stop_training(
    hub: Hub, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", no_room)
    copy = shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    with pytest.warns(AstHfWarning, match=r"W701.*No space left"):
        CheckpointPushes(HubPlace("user/run"), "checkpoint").push(copy)
    assert find_corruption(copy) is None
    assert hub.log == []


def test_invalid_hub_options_are_refused_before_data_are_read(hub: Hub, tmp_path: Path) -> None:
    for name, code in (("my run", "E702"), ("user/run", "E701")):
        if code == "E701":
            os.environ.pop("HF_TOKEN")  # the fixture restores it
        with pytest.raises(AstHfError, match=code):
            finetune(recipe(tmp_path / "nowhere"), tmp_path / "out", push_to_hub=True, hub_model_id=name)


def test_a_recipe_may_name_the_repository(hub: Hub, few: Path, tmp_path: Path) -> None:
    plan = recipe(few, {"model": {"config": TINY}}, max_steps=1, push_to_hub=True, hub_model_id="lab/run")
    finetune(plan, tmp_path / "out")
    assert "model.safetensors" in hub.files("lab/run")
    assert digest(load_file(tmp_path / "out" / "model.safetensors"))
    assert read_manifest(tmp_path / "out") is None


def test_an_evaluation_in_half_precision_does_not_round_what_is_published(
    hub: Hub, few: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"push_to_hub": True, "hub_model_id": "user/run"}
    finetune(recipe(few, OPTIONS, **PLAN, bf16_full_eval=True), tmp_path, **options)
    trained = load_file(tmp_path / "checkpoint-6" / "average.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert all(torch.equal(saved[name], value) for name, value in trained.items())
    assert hub.files("user/run")["model.safetensors"].content == (tmp_path / "model.safetensors").read_bytes()


def test_the_command_for_later_needs_only_the_user(
    hub: Hub, few: Path, tmp_path: Path, waits: list[float]
) -> None:
    """Runs without a name, and with a Hub that does not return the user of the token."""
    hub.fail(".*", 503, times=10_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = finetune(recipe(few, OPTIONS, max_steps=1), tmp_path / "out", push_to_hub=True)
    assert report.unpublished == f"ast-hf push {tmp_path / 'out'} USER/out"
    texts = [str(entry.message) for entry in caught if "W701" in str(entry.message)]
    assert f"`{report.unpublished}`" in texts[-1]
