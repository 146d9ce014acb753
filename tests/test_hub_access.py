"""Failed requests to the Hub: which are retried, and which code and fix the others get."""

from __future__ import annotations

import email.utils
import errno
import json
import re
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TOKEN
from hub_server import Hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from ast_hf import ASTConfig, ASTFeatureExtractor, AstHfError
from ast_hf.hub.access import PUBLISHING, as_error, check_account, check_name, failure_of, reach


def answered(hub: Hub, status: int, **headers: str) -> BaseException:
    """Return the exception that the client raises for a reply."""
    hub.fail("GET /api/whoami-v2", status, headers=headers, times=1)
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().whoami()
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (401, "E701", False),
        (403, "E701", False),
        (404, "E702", False),
        (400, "E704", False),
        (422, "E704", False),
        (501, "E704", False),
        (507, "E704", False),
    ]
    + [(status, "E704", True) for status in (408, 409, 412, 425, 429, 500, 502, 503, 504, 520, 524, 529)],
)
def test_http_statuses_map_to_codes(hub: Hub, status: int, code: str, passing: bool) -> None:
    failure = failure_of(answered(hub, status))
    assert (failure.code, failure.transient) == (code, passing)


@pytest.mark.parametrize("error_code", ["RepoNotFound", "RevisionNotFound"])
def test_401_for_a_hidden_repository_is_a_wrong_name(hub: Hub, error_code: str) -> None:
    hub.fail("GET /api/models/user/x", 401, headers={"X-Error-Code": error_code})
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().model_info("user/x")
    assert failure_of(caught.value).code == "E702"


def test_retry_after_is_read_as_seconds_and_as_a_date(hub: Hub) -> None:
    assert failure_of(answered(hub, 503, **{"Retry-After": "7"})).wait == 7.0
    at = email.utils.formatdate(time.time() + 60, usegmt=True)
    wait = failure_of(answered(hub, 429, **{"Retry-After": at})).wait
    assert wait is not None
    assert 50 < wait <= 60
    assert failure_of(answered(hub, 503, **{"Retry-After": "soon"})).wait is None


@pytest.mark.parametrize(
    ("problem", "code", "passing"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "E704", True),
        (TimeoutError("timed out"), "E704", True),
        (json.JSONDecodeError("Expecting value", "<html>", 0), "E704", True),
        (OSError("Consistency check failed: file should be of size 10 but has size 5"), "E704", True),
        (RuntimeError("Data processing error: CAS service error"), "E704", True),
        (OSError(errno.ENOSPC, "No space left on device"), "E704", False),
    ],
)
def test_exceptions_of_a_connection_map_to_codes(problem: Exception, code: str, passing: bool) -> None:
    failure = failure_of(problem)
    assert failure is not None
    assert failure[0::3] == (code, passing)


@pytest.mark.parametrize(
    "problem", [KeyError("x"), ValueError("x"), FileNotFoundError(errno.ENOENT, "no such file")]
)
def test_exceptions_that_do_not_concern_the_hub_pass_unchanged(problem: Exception) -> None:
    assert failure_of(problem) is None

    def request() -> None:
        raise problem

    with pytest.raises(type(problem)) as caught:
        reach(request, where="x")
    assert caught.value is problem


def test_the_cause_of_a_wrapped_exception_decides() -> None:
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in failure_of(wrapped).what


def refused() -> None:
    raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def test_waits_grow_until_patience_ends(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AstHfError) as caught:
        reach(refused, where="'user/pets'", then="run `it` again", patience=PUBLISHING)
    assert sum(waits) == pytest.approx(300, abs=2)
    assert 8 <= len(waits) <= 10
    for number, wait in enumerate(waits[:-1]):
        shortest = min(2.0 * 2**number, 60.0)
        assert shortest <= wait <= 1.25 * shortest
    assert caught.value.code == "E704"
    assert f"after {len(waits) + 1} tries in 300 s" in caught.value.what
    assert "'user/pets'" in str(caught.value)
    assert caught.value.fix.endswith("then run `it` again")
    lines = [record.getMessage() for record in caplog.records if record.name == "ast_hf.hub.access"]
    assert len(lines) == len(waits)
    shape = (
        r"'user/pets': cannot be reached \(.*\); try 2 at \d\d:\d\d:\d\d, in \d s; gives up at \d\d:\d\d:\d\d"
    )
    assert re.fullmatch(shape, lines[0]), lines[0]


def test_clients_do_not_wait_at_the_same_times(waits: list[float]) -> None:
    for _ in range(4):
        with pytest.raises(AstHfError):
            reach(refused, where="x", patience=10.0)
    assert len(set(waits)) > 1


def test_a_successful_request_ends_the_retries(waits: list[float]) -> None:
    answers: list[Any] = [TimeoutError("timed out"), "done"]

    def request() -> str:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    assert reach(request, where="x") == "done"
    assert len(waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_said_at_once(hub: Hub, waits: list[float], status: int) -> None:
    hub.fail("GET /api/whoami-v2", status, times=9)
    with pytest.raises(AstHfError):
        reach(lambda: HfApi().whoami(), where="x", patience=PUBLISHING)
    assert waits == []


def test_waits_asked_for_by_a_server_are_respected_and_capped(hub: Hub, waits: list[float]) -> None:
    for seconds in ("7", "86400", "0"):
        hub.fail("GET /api/whoami-v2", 429, headers={"Retry-After": seconds})
    hub.fail("GET /api/whoami-v2", 429, headers={"RateLimit": '"api";r=0;t=55'})
    assert reach(lambda: HfApi().whoami()["name"], where="x", patience=1000.0) == "user"
    assert waits[:2] == [7.0, 300.0]
    assert 8.0 <= waits[2] <= 10.0  # "0" does not make it ask again at once
    assert waits[3] == 55.0


@pytest.mark.parametrize("name", ["my model", "a/b/c", "user/", "-x", "user/x--y", "user/" + "x" * 100])
def test_impossible_names(name: str) -> None:
    with pytest.raises(AstHfError, match="E702"):
        check_name(name)


def test_an_account_is_checked_without_a_request(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from huggingface_hub import constants

    check_account(None)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path_factory.mktemp("none") / "token"))
    check_account(TOKEN)
    with pytest.raises(AstHfError, match=r"E701.*hf auth login"):
        check_account(None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AstHfError, match=r"E704.*HF_HUB_OFFLINE"):
        check_account(TOKEN)
    assert hub.log == []


# Exceptions of transformers for checkpoints that it does not find

LOAD = {"config": ASTConfig.from_pretrained, "extractor": ASTFeatureExtractor.from_pretrained}
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN."


def raised(load: Callable, name: str) -> AstHfError:
    with pytest.raises(OSError) as caught:  # noqa: PT011 (its text is what this is about)
        load(name)
    problem = as_error(caught.value)
    assert problem is not None
    return problem


@pytest.mark.parametrize("load", LOAD.values(), ids=LOAD.keys())
def test_a_missing_repository_is_reported(load: Callable, hub: Hub) -> None:
    assert str(raised(load, "user/nothing")) == (
        "[AST-E702] 'user/nothing': is not on the Hub, or the token may not see it (user/nothing is not a local folder "
        "and is not a valid model identifier listed on 'https://huggingface.co/models'). Fix: check the name, or "
        + LOG_IN
    )


@pytest.mark.parametrize("load", LOAD.values(), ids=LOAD.keys())
def test_a_gated_repository_is_reported(load: Callable, hub: Hub) -> None:
    HfApi().create_repo("user/gated")
    hub.fail("(GET|HEAD) /.*user/gated", 403, headers={"X-Error-Code": "GatedRepo"}, times=50)
    problem = raised(load, "user/gated")
    assert (problem.code, problem.what) == (
        "E702", "is gated, and the token has no access (You are trying to access a gated repo)"
    )  # fmt: skip


def test_an_unavailable_hub_is_reported(hub: Hub, waits: list[float]) -> None:
    HfApi().create_repo("user/pets")
    hub.fail("(GET|HEAD) /user/pets/resolve", 503, times=500)
    problem = raised(LOAD["config"], "user/pets")
    assert (problem.code, problem.fix) == ("E704", "wait")
    assert problem.what.startswith("the Hub answered 503 (")


def test_a_missing_file_is_reported(hub: Hub, tmp_path: Path) -> None:
    HfApi().create_repo("user/empty")
    problem = raised(LOAD["extractor"], "user/empty")
    assert str(problem) == (
        "[AST-E702] 'user/empty': does not hold the requested file, or cannot be reached "
        "(Can't load feature extractor for 'user/empty'). Fix: name a whole checkpoint."
    )
    problem = raised(LOAD["extractor"], str(tmp_path))
    assert (problem.code, problem.where, problem.fix) == (
        "E306",
        repr(str(tmp_path)),
        "copy the whole checkpoint folder again",
    )


def test_offline_and_not_in_the_cache() -> None:
    assert str(raised(LOAD["config"], "user/nothing")) == (
        "[AST-E704] the Hub: cannot be reached, since HF_HUB_OFFLINE is set, and the cache has no copy (We couldn't "
        "connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files). "
        "Fix: unset it."
    )
    problem = raised(LOAD["extractor"], "user/nothing")
    assert (problem.code, problem.where, problem.fix) == ("E704", "'user/nothing'", "unset it")


def test_an_impossible_name_is_reported() -> None:
    problem = raised(LOAD["config"], "user/na--me")
    assert (problem.code, problem.where) == ("E702", "the Hub")
    assert "(Cannot have -- or .. in repo_id: 'user/na--me')" in problem.what


def caused(problem: Exception, cause: Exception) -> Exception:
    problem.__cause__ = cause
    return problem


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (caused(OSError("We couldn't connect"), LocalEntryNotFoundError("no file")), "E704"),
        (OfflineModeIsEnabled("offline"), "E704"),
        (PermissionError(errno.EACCES, "Permission denied"), None),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),
        (OSError("PermissionError at x when downloading user/pets."), None),
        (OSError("cannot identify image file"), None),
        (
            caused(PermissionError(errno.EACCES, "Permission denied"), LocalEntryNotFoundError("no file")),
            None,
        ),
        (caused(TypeError("a bug"), LocalEntryNotFoundError("no file")), None),
        (RuntimeError("CUDA error"), None),
    ],
    ids=repr,
)
def test_local_errors_and_bugs_are_not_hub_errors(problem: Exception, code: str | None) -> None:
    converted = as_error(problem)
    assert (converted and converted.code) == code


def test_answers_of_another_form_are_tried_again() -> None:
    def parse() -> None:
        raise KeyError("commitUrl")

    in_client = types.FunctionType(
        parse.__code__, {"__name__": "huggingface_hub.hf_api", "KeyError": KeyError}
    )
    for raising, is_of_the_hub in ((in_client, True), (parse, False)):
        with pytest.raises(KeyError) as caught:
            raising()
        failure = failure_of(caught.value)
        assert (failure is not None) == is_of_the_hub
        assert failure is None or (failure.code, failure.transient) == ("E704", True)
