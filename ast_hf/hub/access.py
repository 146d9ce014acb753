"""How does a request to the Hub fail well? It is made again where that can help, and told with what to do elsewhere."""

from __future__ import annotations

import email.utils
import errno
import itertools
import json
import re
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import get_token, is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..errors import AstHfError, error

Answer = TypeVar("Answer")

#: How often a request is made before it counts as failed. Most requests of `huggingface_hub` are repeated within each
#: (its `http_backoff`: up to 5 times, 23 s); creating a repository, checking a card and committing are not.
ATTEMPTS = 3
#: Seconds before the second attempt, four times as many before each later one; and the most that a server may ask for.
FIRST_WAIT, LONGEST_WAIT = 2.0, 300.0

#: Answers that another attempt may not get (RFC 9110, section 15; 429: RFC 6585).
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_FULL = (errno.ENOSPC, errno.EDQUOT)

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
#: status -> code, what it means, what to do.
_ANSWERS = {
    401: ("E701", "the Hub does not accept the token, or there is none", _LOG_IN),
    403: ("E701", "the token may not write there", "use a token with write access and a name of yours: " + _LOG_IN),
    404: ("E702", "is not on the Hub, or the token may not see it", "check the name, or " + _LOG_IN),
    507: ("E704", "the Hub has no room left for it", "make room there"),
}
#: The same for what reading a checkpoint meets.
_GATED = ("E702", "is gated, and the token has no access", "ask for access on its page, then " + _LOG_IN)
_NO_NAME = ("E702", "was asked for what cannot be a name there", "give user/name")
_OFFLINE = ("E704", "cannot be reached, since HF_HUB_OFFLINE is set, and the cache has no copy", "unset it")
_UNREACHED = ("E704", "cannot be reached, and the cache has no copy", "check the connection")
_NO_FILE = ("E702", "does not hold what is looked for, or cannot be reached", "name a whole checkpoint")
_BROKEN_FOLDER = ("E306", "does not hold what is looked for", "copy the whole checkpoint folder again")

#: Exceptions that are about the Hub, whatever libraries make of them.
_OF_THE_HUB = (HTTPError, HFValidationError, LocalEntryNotFoundError, LocalTokenNotFoundError, OfflineModeIsEnabled)
#: How transformers names what it does not find, in exceptions without a cause.
_NAMED = re.compile(r"^(\S+) (?:does not appear to have|is not a local folder)|^Can't load .*? '([^']+)'")

_SENTENCE_END = re.compile(r"\n|(?<=[\w'])\. ")


class Failure(NamedTuple):
    """Why a request failed.

    Attributes:
        code: of `errors.CODES`.
        what: in words.
        fix: what the user can do.
        passing: whether another attempt may succeed.
        wait: seconds that the server asks to wait, None when it says nothing.
    """

    code: str
    what: str
    fix: str
    passing: bool = False
    wait: float | None = None


def reach(request: Callable[[], Answer], *, where: str, then: str = "", attempts: int = ATTEMPTS) -> Answer:
    """Make a request to the Hub, again where that can help: a broken connection, 408, 429 and 5xx.

    Args:
        request: makes it, from the start each time.
        where: what it is about, for the message.
        then: what to do once the cause is mended, such as the command that goes on.
        attempts: how often it is made at most.

    Raises:
        AstRunError: E701 when the token is missing, not accepted or may not write; E704 when the Hub cannot be reached
            or does not do it.
        AstConfigError: E702 for a name that is not there.
    """
    for number in itertools.count(1):
        try:
            return request()
        except AstHfError:
            raise
        except Exception as problem:
            failure = failure_of(problem)
            if failure is None:
                raise
            if not failure.passing or number >= attempts:
                fix = f"{failure.fix}, then {then}" if then else failure.fix
                raise error(failure.code, where=where, what=failure.what, fix=fix) from problem
            time.sleep(FIRST_WAIT * 4 ** (number - 1) if failure.wait is None else min(failure.wait, LONGEST_WAIT))
    raise AssertionError("unreachable")


def check_name(repo_id: str) -> None:
    """Raise E702 unless `repo_id` can be the name of a repository, `user/name` or `name`."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as problem:
        what = f"cannot be a name on the Hub ({' '.join(str(problem).split())[:120]})"
        raise error(
            "E702", where=repr(repo_id), what=what, fix="give user/name, of letters, digits, dots, - and _"
        ) from None


def check_account(token: str | None) -> None:
    """Raise E701 without a token, and E704 when the Hub is forbidden: both are known without asking it."""
    if is_offline_mode():
        raise error("E704", where="the Hub", what="HF_HUB_OFFLINE forbids to reach it", fix="unset it")
    if not (token or get_token()):
        raise error("E701", where="the Hub", what="there is no token", fix=_LOG_IN)


def failure_of(problem: BaseException) -> Failure | None:
    """What an exception of the client says about the Hub; None when it is about something else."""
    told = next((failure for cause in _causes(problem) if (failure := _judge(cause)) is not None), None)
    if told is None and type(problem) is RuntimeError:  # of hf_xet, whose errors have no class of their own
        return Failure("E704", _line(problem), "check the connection", passing=True)
    return told


def as_error(problem: BaseException) -> AstHfError | None:
    """What a library raises when it does not find a model, or the Hub: E702, E704, E701; E306 for a folder.

    Returns:
        None for an exception about something else, such as a local file.
    """
    if isinstance(problem.__cause__, AstHfError):  # ours, in the class that transformers documents
        return problem.__cause__
    if not isinstance(problem, (OSError, HTTPError)) or getattr(problem, "errno", None) is not None:
        return None
    text = _SENTENCE_END.split(str(problem).strip())[0].rstrip(":.")
    named = _NAMED.match(text)
    name = (named[1] or named[2]) if named else None
    told = _of_the_hub(problem)
    if told is None and name is not None:
        told = _BROKEN_FOLDER if Path(name).is_dir() else _OFFLINE if is_offline_mode() else _NO_FILE
    if told is None:
        return None
    code, what, fix = told
    name = name or next(filter(None, (getattr(cause, "repo_id", None) for cause in _causes(problem))), None)
    what = f"{what} ({textwrap.shorten(text, 200, placeholder=' ...')})"
    return error(code, where=repr(name) if name else "the Hub", what=what, fix=fix)


def _of_the_hub(problem: BaseException) -> tuple[str, str, str] | None:
    """Code, what and fix of what the Hub's client says, where it is the cause."""
    causes = [cause for cause in _causes(problem) if isinstance(cause, _OF_THE_HUB)]
    if not causes:
        return None
    answer = next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    if answer is not None:
        return _GATED if isinstance(answer, GatedRepoError) else _judge_answer(answer)[:3]
    if isinstance(causes[0], LocalTokenNotFoundError):
        return _ANSWERS[401]
    if isinstance(causes[0], HFValidationError):
        return _NO_NAME
    return _OFFLINE if is_offline_mode() else _UNREACHED


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """The exception and those that it came from; the client wraps some."""
    seen: BaseException | None = problem
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _judge(problem: BaseException) -> Failure | None:
    if isinstance(problem, OfflineModeIsEnabled):
        return Failure("E704", "HF_HUB_OFFLINE forbids to reach the Hub", "unset it")
    if isinstance(problem, LocalTokenNotFoundError):
        return Failure(*_ANSWERS[401])
    if isinstance(problem, HfHubHTTPError):
        return _judge_answer(problem)
    if isinstance(problem, OSError) and problem.errno in _FULL:
        return Failure("E704", f"the disk is full ({problem.strerror})", "make room")
    if isinstance(problem, (HTTPError, json.JSONDecodeError, ConnectionError, TimeoutError)):
        return Failure("E704", f"cannot be reached ({_line(problem)})", "check the connection", passing=True)
    if isinstance(problem, OSError) and problem.errno is None and problem.__cause__ is None:
        return Failure("E704", _line(problem), "check the connection", passing=True)  # a download of the wrong size
    return None


def _judge_answer(problem: HfHubHTTPError) -> Failure:
    status, headers = problem.response.status_code, problem.response.headers
    if status in _PASSING:
        what = f"the Hub answered {status}" + (", too many requests" if status == 429 else "")
        return Failure("E704", what, "wait", passing=True, wait=_retry_after(headers.get("Retry-After", "")))
    rejected = "Invalid credentials" in headers.get("X-Error-Message", "")
    if isinstance(problem, (RepositoryNotFoundError, RevisionNotFoundError)) and not rejected:
        return Failure(*_ANSWERS[404])  # of what a token may not see, the Hub says 401
    if status in _ANSWERS:
        return Failure(*_ANSWERS[status])
    return Failure("E704", f"the Hub refused it, {_line(problem)}", "correct that")


def _retry_after(value: str) -> float | None:
    """Seconds from now, from the two forms of the header (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _line(problem: BaseException) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:160]
