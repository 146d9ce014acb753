"""What the Hub's answers, and their absence, mean: another attempt, or a code with something to do."""

from __future__ import annotations

import email.utils
import errno
import json
import time

import pytest
from conftest import TOKEN
from hub_server import Hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ast_hf import AstHfError
from ast_hf.hub_access import check_account, check_name, failure_of, reach


def answered(hub: Hub, status: int, **headers: str) -> BaseException:
    """What the client raises for an answer."""
    hub.fail("GET /api/whoami-v2", status, headers=headers, times=1)
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().whoami()
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [(401, "E701", False), (403, "E701", False), (404, "E702", False), (400, "E704", False), (507, "E704", False)]
    + [(status, "E704", True) for status in (408, 429, 500, 502, 503, 504)],
)
def test_statuses(hub: Hub, status: int, code: str, passing: bool) -> None:
    failure = failure_of(answered(hub, status))
    assert (failure.code, failure.passing) == (code, passing)


@pytest.mark.parametrize("told", ["RepoNotFound", "RevisionNotFound"])
def test_401_of_what_is_hidden_is_not_about_the_token(hub: Hub, told: str) -> None:
    hub.fail("GET /api/models/user/x", 401, headers={"X-Error-Code": told})
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().model_info("user/x")
    assert failure_of(caught.value).code == "E702"


def test_the_wait_that_is_asked_for_in_both_forms(hub: Hub) -> None:
    assert failure_of(answered(hub, 503, **{"Retry-After": "7"})).wait == 7.0
    at = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 50 < failure_of(answered(hub, 429, **{"Retry-After": at})).wait <= 60
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
def test_other_exceptions(problem: Exception, code: str, passing: bool) -> None:
    assert failure_of(problem)[0::3] == (code, passing)


@pytest.mark.parametrize("problem", [KeyError("x"), ValueError("x"), FileNotFoundError(errno.ENOENT, "no such file")])
def test_what_is_no_answer_of_the_hub_is_left_alone(problem: Exception) -> None:
    assert failure_of(problem) is None

    def request() -> None:
        raise problem

    with pytest.raises(type(problem)) as caught:
        reach(request, where="x")
    assert caught.value is problem


def test_the_cause_counts_not_its_wrapping() -> None:
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in failure_of(wrapped).what


def test_attempts_and_waits(waits: list[float]) -> None:
    asked = []

    def request() -> None:
        asked.append(1)
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    with pytest.raises(AstHfError) as caught:
        reach(request, where="'user/pets'", then="run `it` again", attempts=4)
    assert (len(asked), waits) == (4, [2.0, 8.0, 32.0])
    assert caught.value.code == "E704"
    assert "'user/pets'" in str(caught.value)
    assert caught.value.fix.endswith("then run `it` again")


def test_an_answer_ends_it(waits: list[float]) -> None:
    answers = [TimeoutError("timed out"), "done"]

    def request() -> str:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    assert reach(request, where="x") == "done"
    assert waits == [2.0]


def test_no_server_makes_us_wait_for_hours(hub: Hub, waits: list[float]) -> None:
    hub.fail("GET /api/whoami-v2", 503, headers={"Retry-After": "86400"})
    assert reach(lambda: HfApi().whoami()["name"], where="x") == "user"
    assert waits == [300.0]


@pytest.mark.parametrize("name", ["my model", "a/b/c", "user/", "-x", "user/x--y", "user/" + "x" * 100])
def test_impossible_names(name: str) -> None:
    with pytest.raises(AstHfError, match="E702"):
        check_name(name)


def test_an_account_is_checked_without_asking(
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
