"""A Hub that loses answers, never answers, drips, or sends other bytes: one commit, an end, and the right files."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, TOKEN
from hub_server import Hub
from huggingface_hub import HfApi, constants, get_session, hf_hub_download
from huggingface_hub.errors import OfflineModeIsEnabled
from transformers import AutoModelForAudioClassification, pipeline

from ast_hf import (
    ASTConfig,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    cli,
    downloads,
)
from ast_hf.hub import time_limits
from ast_hf.hub.access import reach
from ast_hf.hub.publishing import finishing_command, send
from ast_hf.training.checkpoints.hub import HubPlace

FILES: dict[str, Path | bytes] = {"config.json": b"{}", "weights/model.safetensors": b"w" * 3000}
COMMIT = "POST .*/commit/.*"


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "ast_hf" / "verified"


@pytest.fixture
def pets(hub: Hub) -> Hub:
    HfApi().create_repo("user/pets")
    return hub


@pytest.fixture
def model(pets: Hub, tiny_checkpoint: Path) -> Hub:
    """Return a Hub with a model named user/pets."""
    HfApi().upload_folder(folder_path=tiny_checkpoint, repo_id="user/pets")
    return pets


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the limits of requests to a fraction of a second."""
    monkeypatch.setattr(time_limits, "SILENCE", 0.3)
    monkeypatch.setattr(time_limits, "WINDOW", 0.3)
    monkeypatch.setattr(time_limits, "SPARE", 0.1)


# ---------------------------------------------------------------- one commit


@pytest.mark.parametrize("fault", ["lost", "truncate", "reset"])
@pytest.mark.parametrize("create_pr", [False, True], ids=["branch", "request"])
def test_a_lost_answer_makes_one_commit(pets: Hub, waits: list[float], fault: str, create_pr: bool) -> None:
    pets.fail(COMMIT, kind=fault)
    done = send(FILES, "user/pets", message="m", create_pr=create_pr)
    branches = pets.repositories["user/pets"].branches
    branch = "refs/pr/1" if create_pr else "main"
    assert [commit.message for commit in branches[branch]][1:] == ["m"]
    assert len(branches) == 1 + create_pr
    assert done.commit == branches[branch][-1].oid
    assert done.url.endswith("/user/pets/discussions/1" if create_pr else f"/user/pets/commit/{done.commit}")
    assert len(waits) == 1


def test_a_lost_answer_to_a_removal_makes_one_commit(pets: Hub, waits: list[float]) -> None:
    send({**FILES, "old.json": b"{}"}, "user/pets", message="first")
    pets.fail(COMMIT, kind="lost")
    send(FILES, "user/pets", message="second", delete=["old.json"])
    assert [commit.message for commit in pets.commits("user/pets")] == ["first", "second"]


@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_the_commit_of_another_is_not_taken_for_ours(
    pets: Hub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def commit_by_another(_: float) -> None:
        HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="other.txt", repo_id="user/pets")

    monkeypatch.setattr(time, "sleep", commit_by_another)
    pets.fail(COMMIT, kind=kind)
    send(FILES, "user/pets", message="ours")
    assert pets.files("user/pets").keys() == {*FILES, "other.txt"}
    assert [commit.message for commit in pets.commits("user/pets")].count("ours") == 1


def test_a_commit_during_another_one_is_tried_again(pets: Hub, waits: list[float]) -> None:
    for status in (409, 412, 429):
        pets.fail(COMMIT, status, headers={"Retry-After": "1"})
    send(FILES, "user/pets", message="m")
    assert len(pets.commits("user/pets")) == 1
    assert len(waits) == 3


# ---------------------------------------------------------------- an end


REQUESTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "commit": (COMMIT, lambda: send(FILES, "user/pets", message="m", patience=0.1)),
    "preupload": ("POST .*/preupload/", lambda: send(FILES, "user/pets", message="m", patience=0.1)),
    "batch": ("POST .*/objects/batch", lambda: send(FILES, "user/pets", message="m", patience=0.1)),
    "upload": ("PUT /lfs", lambda: send(FILES, "user/pets", message="m", patience=0.1)),
    "create": ("POST .*/create", lambda: HubPlace("user/new").create(0.1)),
    "whoami": ("GET .*/whoami", lambda: reach(lambda: HfApi().whoami(), where="x", patience=0.1)),
    "info": (
        "GET /api/models",
        lambda: reach(lambda: HfApi().model_info("user/pets"), where="x", patience=0.1),
    ),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["hang", "drip"])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_hub_that_does_not_answer_is_an_error(
    pets: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch, request_name: str, kind: str
) -> None:
    monkeypatch.setattr(time_limits, "SILENCE", 0.1)
    monkeypatch.setattr(time_limits, "WINDOW", 0.1)
    pattern, request = REQUESTS[request_name]
    pets.drip_seconds = 0.02
    pets.fail(pattern, kind=kind, times=1000)
    start = time.monotonic()
    with pytest.raises(AstHfError, match=r"E704.*cannot be reached \(ReadTimeout"):
        request()
    assert time.monotonic() - start < 15


@pytest.mark.usefixtures("hasty")
def test_a_request_that_the_hub_holds_is_committed_once(pets: Hub, waits: list[float]) -> None:
    pets.fail(COMMIT, kind="hang", after=1)
    send(FILES, "user/pets", message="m")
    assert len(pets.commits("user/pets")) == 1


@pytest.mark.usefixtures("hasty")
def test_other_requests_of_a_program_are_not_limited(pets: Hub) -> None:
    reach(lambda: HfApi().whoami(), where="x")
    assert "send" not in vars(get_session())
    pets.fail("GET .*/whoami", kind="drip")
    pets.drip_seconds = 0.005
    assert HfApi().whoami()["name"] == "user"
    client = get_session()
    with time_limits.limited_process(print):
        assert get_session() is not client
        assert "send" in vars(get_session())
    assert "send" not in vars(get_session())


def test_a_slow_but_steady_download_is_not_ended(model: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "WINDOW", 0.2)
    monkeypatch.setattr(time_limits, "SLOWEST", 20)
    model.drip_seconds = 0.002
    model.fail("GET .*/config.json", kind="drip")
    with time_limits.limited_process(print):
        assert Path(hf_hub_download("user/pets", "config.json")).stat().st_size > 100


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "hang"}, "the Hub does not answer (ReadTimeout)"),
        ({"kind": "drip"}, "the Hub does not answer (ReadTimeout)"),
        ({"kind": "reset"}, "the Hub does not answer ("),
        ({"status": 503}, "the Hub answered 503"),
    ],
    ids=["hang", "drip", "reset", "503"],
)
def test_commands_use_the_cache_of_a_hub_that_does_not_answer(
    model: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    fault: dict[str, Any],
    words: str,
) -> None:
    assert cli.main(["info", "user/pets"]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(time_limits, "SPARE", 0.1)
    model.fail(".*", times=1000, **fault)
    assert cli.main(["info", "user/pets"]) == 0
    captured = capsys.readouterr()
    assert captured.out == expected
    commit = model.commits("user/pets")[-1].oid
    (line,) = captured.err.splitlines()
    assert line.startswith(f"'user/pets': {words}")
    assert line.endswith(f"uses the copy in the cache, revision {commit[:12]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "-empty")
    if "kind" in fault:
        assert cli.main(["info", "user/pets"]) == 75
        assert "AST-E704" in capsys.readouterr().err


# ---------------------------------------------------------------- the right files


LOADS = {
    "ours": lambda: ASTForAudioClassification.from_pretrained("user/pets"),
    "auto": lambda: AutoModelForAudioClassification.from_pretrained("user/pets"),
    "pipeline": lambda: pipeline("audio-classification", model="user/pets"),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
def test_weights_of_other_bytes_are_refused_and_downloaded_again(model: Hub, load: Callable) -> None:
    model.fail("GET .*/model.safetensors", kind="flip")
    with pytest.raises(
        AstHfError, match=r"E706.*model.safetensors.*whose hash is ([0-9a-f]{64}); that of .* is (?!\1)"
    ):
        load()
    load()
    assert model.count("GET .*/resolve/.*/model.safetensors 200") == 2
    load()
    assert model.count("GET .*/resolve/.*/model.safetensors 200") == 2


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_small_files_of_other_bytes_are_refused(model: Hub, name: str, capsys: pytest.CaptureFixture) -> None:
    model.fail(f"GET .*/{name}", kind="flip")
    clip = str(Path(__file__).parent / "none.wav")
    assert cli.main(["classify", "user/pets", clip]) == 65
    assert f"{name}': is not the file on the Hub" in capsys.readouterr().err
    assert cli.main(["classify", "user/pets", clip]) == 65
    assert "E206" in capsys.readouterr().err


def test_a_file_that_was_in_the_cache_before_is_verified(model: Hub, notes: Path) -> None:
    path = Path(hf_hub_download("user/pets", "model.safetensors"))
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AstHfError, match="E706"):
        LOADS["ours"]()
    LOADS["ours"]()
    blob = path.resolve()
    assert blob.read_bytes() == content
    blob.write_bytes(content[:-2] + b"??")  # after it was verified
    with pytest.raises(AstHfError, match="E706"):
        LOADS["ours"]()


def test_a_verified_file_is_not_read_again(model: Hub, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LOADS["ours"]()
    assert len(list(notes.iterdir())) == 2

    def read(*_: Any) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(downloads, "_digest", read)
    LOADS["ours"]()


def test_shards_and_pickles_are_verified(pets: Hub, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = ASTForAudioClassification(ASTConfig(**TINY, num_labels=2))
    made.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (tmp_path / "bin").mkdir()
    torch.save(made.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    made.config.save_pretrained(tmp_path / "bin")
    for kind, pattern in (("shards", "GET .*/model-00002-of.*"), ("bin", "GET .*/pytorch_model.bin")):
        name = f"user/{kind}"
        HfApi().create_repo(name)
        HfApi().upload_folder(folder_path=tmp_path / kind, repo_id=name)
        pets.fail(pattern, kind="flip")
        with pytest.raises(AstHfError, match="E706"):
            ASTForAudioClassification.from_pretrained(name)
        ASTForAudioClassification.from_pretrained(name)


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_a_download_that_is_cut_is_tried_again(model: Hub, waits: list[float], kind: str) -> None:
    model.fail("GET .*/model.safetensors", kind=kind, times=5)
    LOADS["ours"]()
    assert model.count("GET .*/model.safetensors") == 6


def test_a_command_continues_a_cut_download_where_it_was_cut(
    model: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    size = len(model.files("user/pets")["model.safetensors"].content)
    model.fail("GET .*/model.safetensors", kind="truncate", times=5)
    with time_limits.limited_process(print):
        LOADS["ours"]()
    assert model.count("GET .*/model.safetensors 200") == 6
    sent = [count for path, count in model.sent if path.endswith("model.safetensors")]
    assert sum(sent) < 1.5 * size


def test_a_token_stays_on_the_hub(model: Hub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model.fail("(GET|HEAD) /user/pets/resolve/.*/model.safetensors", kind="redirect", times=2)
    assert cli.main(["classify", "user/pets", str(tmp_path / "none.wav")]) == 65
    assert [path for path, _ in model.elsewhere]
    assert not any(token for _, token in model.elsewhere)
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    "folder", ["out", "my models/it's", "two  blanks", "a\nline", "back\\slash  x", "$HOME `x`"]
)
def test_a_finishing_command_survives_a_one_line_message(folder: str) -> None:
    import subprocess

    command = finishing_command(folder, "user/x", message="my own", revision="v 1", private=True)
    one_line = " ".join(command.split())
    printed = subprocess.run(
        ["bash", "-c", "ast-hf() { printf '%s\\0' \"$@\"; }; " + one_line],
        capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout.split("\0")  # fmt: skip
    assert printed[:-1] == ["push", folder, "user/x", "--private", "--revision", "v 1", "--message", "my own"]


def test_the_offline_mode_of_a_user_is_named() -> None:
    from ast_hf.hub.access import failure_of

    assert "HF_HUB_OFFLINE forbids" in failure_of(OfflineModeIsEnabled("offline")).what


def test_no_warning_ends_in_two_dots() -> None:
    from ast_hf.errors import warning_text

    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        assert warning_text("W701", where="x", what="was not pushed. It failed.").endswith("failed.")
        assert warning_text("W701", where="x", what="was not pushed").endswith("pushed.")
