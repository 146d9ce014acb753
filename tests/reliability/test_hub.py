"""A push that is killed or interrupted, and requests with the waits that users see."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TOKEN

from .bad_hub import ALWAYS, COMMIT, NAME, Place
from .cases import FULL, record


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.__exit__()


def start(place: Place, *words: str, **env: str) -> subprocess.Popen[str]:
    """Start a command whose Hub is that of the place."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    own = {
        "HF_ENDPOINT": place.hub.url,
        "HF_HOME": str(place.folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ast_hf", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **own, **env},
        cwd=place.folder,
    )


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("pattern", ["POST .*/preupload", "PUT /lfs", COMMIT])
def test_a_killed_push_is_finished_by_the_same_command(place: Place, pattern: str) -> None:
    """F45: no half commit, and files that arrived are not sent again."""
    place.hub.fail(pattern, kind="hang")
    process = start(place, "push", "model", NAME)
    until(lambda: any(line.endswith("hang") for line in place.hub.log))
    process.kill()
    process.communicate()
    assert place.hub.commits(NAME) == []
    sent = place.hub.uploaded_bytes if pattern == COMMIT else 0
    again = start(place, "push", "model", NAME)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert len(place.hub.commits(NAME)) == 1
    if sent:
        assert place.hub.uploaded_bytes == sent
    assert TOKEN not in out + err


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", [{"status": 503}, {"kind": "hang"}], ids=["waiting", "hanging"])
def test_a_waiting_push_ends_at_once(place: Place, how: dict[str, Any], signal_number: int) -> None:
    place.hub.fail(COMMIT, times=ALWAYS, **how)
    process = start(place, "push", "model", NAME)
    until(lambda: any("/commit/" in line for line in place.hub.log))
    time.sleep(0.5)
    process.send_signal(signal_number)
    started = time.monotonic()
    process.communicate(timeout=20)
    seconds = time.monotonic() - started
    assert seconds < 15  # without it, 60: most of this is the end of a Python process on a busy machine
    assert process.returncode in (130, 143, -signal.SIGTERM)
    assert place.hub.commits(NAME) == []
    record(f"Push ended by {signal.Signals(signal_number).name}", seconds=round(seconds, 1))


def test_a_failed_push_prints_the_command_that_finishes_it(place: Place) -> None:
    """F43: exit code 75, the folder is as it was, and a line for each try."""
    before = {path.name: path.read_bytes() for path in place.model.iterdir()}
    place.hub.fail(COMMIT, 500, times=ALWAYS)
    process = start(place, "push", "model", NAME, "--patience", "5", "--message", "my model")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    tries = [line for line in err.splitlines() if "; try " in line]
    assert len(tries) >= 2
    assert all("the Hub answered 500" in line and ", in " in line for line in tries)
    (message,) = [line for line in err.splitlines() if "AST-E704" in line]
    assert not message.endswith("..")
    words = shlex.split(message.split("`")[1])
    assert words == ["ast-hf", "push", "model", NAME, "--message", "my model"]
    assert {path.name: path.read_bytes() for path in place.model.iterdir()} == before
    place.hub.faults.clear()
    again = start(place, *words[1:])
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert [commit.message for commit in place.hub.commits(NAME)] == ["my model"]


@pytest.mark.skipif(not FULL, reason="takes as long as users wait")
def test_a_push_is_tried_for_five_minutes(place: Place) -> None:
    place.hub.fail(COMMIT, 503, times=ALWAYS)
    started = time.monotonic()
    process = start(place, "push", "model", NAME)
    _, err = process.communicate(timeout=600)
    seconds = time.monotonic() - started
    assert process.returncode == 75
    assert seconds >= 300
    tries = place.hub.count(COMMIT)
    assert tries >= 5
    record("Push to a Hub that answers 503", seconds=round(seconds), tries=tries, lines=err.count("; try "))


@pytest.mark.skipif(not FULL, reason="takes as long as users wait")
def test_a_push_to_a_hub_that_never_answers_ends(place: Place) -> None:
    place.hub.fail(COMMIT, kind="hang", times=ALWAYS)
    started = time.monotonic()
    process = start(place, "push", "model", NAME)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 75
    assert "AST-E704" in err
    record("Push to a Hub that never answers", seconds=round(time.monotonic() - started))


@pytest.mark.skipif(not FULL, reason="takes as long as users wait")
@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_classify_falls_back_to_the_cache_within_its_limit(place: Place, kind: str) -> None:
    place.hub.put(NAME, {path.name: path.read_bytes() for path in place.model.iterdir()})
    first = start(place, "classify", NAME, str(place.clip))
    expected, _ = first.communicate(timeout=120)
    place.hub.fail(".*", kind=kind, times=ALWAYS)
    started = time.monotonic()
    process = start(place, "classify", NAME, str(place.clip))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, expected)
    assert "uses the copy in the cache, revision" in err
    record(f"classify from the cache, {kind}", seconds=round(time.monotonic() - started))
