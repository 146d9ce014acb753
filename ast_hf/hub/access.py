"""Hub requests: retry transient failures, and turn the rest into actionable errors."""

from __future__ import annotations

import email.utils
import errno
import itertools
import json
import logging
import random
import re
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import huggingface_hub
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

from ..downloads import is_wrong_size, verify_download
from ..errors import AstHfError, error, short_reason, unreadable
from .time_limits import limited_requests

_log = logging.getLogger(__name__)
_random = random.Random()  # the global generator belongs to training

Answer = TypeVar("Answer")

#: Seconds for which a request that only reads is tried, and one that publishes: a restart of the Hub takes
#: minutes. `huggingface_hub` repeats most requests within each try (its `http_backoff`: up to 5 times, 23 s), but
#: not those that create a repository, check a card or commit.
READING = 30.0
PUBLISHING = 300.0
#: Seconds before the second try; twice as many before each later one, up to `_SLOWEST_WAIT`.
FIRST_WAIT = 2.0
_SLOWEST_WAIT = 60.0
#: Longest wait in seconds, whatever the server requests.
LONGEST_WAIT = 300.0

#: Statuses of transient failures (RFC 9110, section 15; 423: RFC 4918; 425: RFC 8470; 429: RFC 6585). The Hub
#: answers 409 and 412 to a commit during another one. All of 5xx are transient but those of `_LASTING`.
_TRANSIENT = frozenset({408, 409, 412, 423, 425, 429})
_LASTING = frozenset({501, 505, 507, 508, 510, 511})
#: Header of the Hub with the seconds until more requests are allowed: `"api";r=0;t=55`.
_RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Exceptions for an answer that is not JSON, that of a proxy for example, and of the client for JSON of another form.
_NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError)
_OTHER_JSON = (AttributeError, IndexError, KeyError, TypeError)


class Failure(NamedTuple):
    """Cause of a failed request.

    Attributes:
        code: of `errors.CODES`.
        what: description for the message.
        fix: what the user can do.
        transient: True if another attempt may succeed.
        wait: seconds to wait as requested by the server, None without a request.
    """

    code: str
    what: str
    fix: str
    transient: bool = False
    wait: float | None = None


_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
#: Status -> failure.
_BY_STATUS = {
    401: Failure("E701", "the Hub does not accept the token, or there is none", _LOG_IN),
    403: Failure(
        "E701",
        "the token may not write there",
        f"use a token with write access and a name of yours: {_LOG_IN}",
    ),
    404: Failure("E702", "is not on the Hub, or the token may not see it", f"check the name, or {_LOG_IN}"),
    507: Failure("E704", "the Hub has no storage left for it", "free some storage there"),
}
_MAY_NOT_READ = Failure("E701", "the token may not read there", _LOG_IN)
_GATED = Failure(
    "E702", "is gated, and the token has no access", f"ask for access on its page, then {_LOG_IN}"
)
_INVALID_NAME = Failure("E702", "cannot have a model of that name", "give user/name")
_OFFLINE = Failure(
    "E704", "cannot be reached, since HF_HUB_OFFLINE is set, and the cache has no copy", "unset it"
)
_UNREACHED = Failure("E704", "cannot be reached, and the cache has no copy", "check the connection")
_NO_FILE = Failure(
    "E702", "does not hold the requested file, or cannot be reached", "name a whole checkpoint"
)
_WRONG_SIZE = Failure("E704", "sent a file of the wrong size", "check the connection", transient=True)
_BROKEN_FOLDER = Failure("E306", "does not hold the requested file", "copy the whole checkpoint folder again")

#: Exceptions of the Hub's client; other libraries wrap them in their own.
_CLIENT_ERRORS = (
    HTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
#: Messages of transformers for a missing model, which have no cause; the groups are its name.
_MISSING = re.compile(r"^(\S+) (?:does not appear to have|is not a local folder)|^Can't load .*? '([^']+)'")
#: Message of transformers for an answer that is an error; the group is the name.
_FAILED = re.compile(r"^There was a specific connection error when trying to load (\S+)$")

#: Path of a file in the Hub's cache, in quotes as messages write it.
_CACHED = re.compile(r"'([^']+[/\\]snapshots[/\\][^']+)'")
_SENTENCE_END = re.compile(r"\n|(?<=[\w'])\. ")


def reach(request: Callable[[], Answer], *, where: str, then: str = "", patience: float = READING) -> Answer:
    """Make a request to the Hub; repeat it after a broken connection, a time-out, 408, 409, 429 and 5xx.

    The waits grow; each is logged with the time of the next try. A `Retry-After` of the Hub is respected.

    Args:
        request: makes the request, from the start each time.
        where: subject of the message.
        then: what to do after the fix, for example the command that resumes.
        patience: seconds from the first try to the last one at least.

    Raises:
        AstRunError: E701 if the token is missing, not accepted or may not write; E704 if the Hub cannot be
            reached or refuses.
        AstConfigError: E702 for a name that does not exist.
    """
    spent = 0.0
    for number in itertools.count(1):
        start = time.monotonic()
        try:
            with limited_requests():
                return request()
        except AstHfError:
            raise
        except Exception as problem:
            failure = failure_of(problem)
            if failure is None:
                raise
            spent += time.monotonic() - start
            if not failure.transient or spent >= patience:
                raise _final_error(failure, where, then, number, spent) from problem
        wait = _wait_after(number, failure, patience - spent)
        _log.warning(_progress(where, failure, number, wait, patience - spent))
        time.sleep(wait)
        spent += wait
    raise AssertionError("unreachable")


def _final_error(failure: Failure, where: str, then: str, tries: int, seconds: float) -> AstHfError:
    fix = f"{failure.fix}, then {then}" if then else failure.fix
    what = f"{failure.what}, after {tries} tries in {seconds:.0f} s" if tries > 1 else failure.what
    return error(failure.code, where=where, what=what, fix=fix)


def _wait_after(number: int, failure: Failure, left: float) -> float:
    """Return the seconds before the next try: growing, at random up to a quarter longer, or as requested."""
    wait = min(FIRST_WAIT * 2 ** (number - 1), _SLOWEST_WAIT) * _random.uniform(1.0, 1.25)
    wait = max(min(wait, left), FIRST_WAIT)
    return wait if failure.wait is None else max(min(failure.wait, LONGEST_WAIT), wait)


def _progress(where: str, failure: Failure, number: int, wait: float, left: float) -> str:
    """Return the line about a failed try, with the local time of the next one and of the last."""
    now = time.time()
    at, end = (time.strftime("%H:%M:%S", time.localtime(now + later)) for later in (wait, max(left, wait)))
    return f"{where}: {failure.what}; try {number + 1} at {at}, in {wait:.0f} s; gives up at {end}"


def check_name(repo_id: str) -> None:
    """Raise E702 unless `repo_id` can be the name of a repository, `user/name` or `name`."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as problem:
        what = "cannot be a name on the Hub"
        fix = "give user/name, of letters, digits, dots, - and _"
        raise unreadable("E702", where=repr(repo_id), what=what, problem=problem, fix=fix) from None


def check_account(token: str | None) -> None:
    """Raise E701 without a token, and E704 in offline mode; makes no request."""
    if is_offline_mode():
        raise error("E704", where="the Hub", what="HF_HUB_OFFLINE forbids requests", fix="unset it")
    if not (token or get_token()):
        raise error("E701", where="the Hub", what="there is no token", fix=_LOG_IN)


def failure_of(problem: BaseException) -> Failure | None:
    """Return the failure that an exception of the Hub's client means; None for any other exception."""
    for cause in _causes(problem):
        if failure := _classify(cause):
            return failure
    if type(problem) is RuntimeError:  # raised by hf_xet, which defines no class for its errors
        return Failure("E704", _line(problem), "check the connection", transient=True)
    if isinstance(problem, _NOT_JSON) or (
        isinstance(problem, _OTHER_JSON) and _was_raised_in_client(problem)
    ):
        what = f"sent an answer that its client cannot read ({_line(problem)})"
        return Failure("E704", what, "check the connection", transient=True)
    return None


def _was_raised_in_client(problem: BaseException) -> bool:
    """Return True if the Hub's client, or what it called, raised an exception."""
    frames = traceback.walk_tb(problem.__traceback__)
    names = (frame.f_globals.get("__name__", "") for frame, _ in frames)
    return any(name.partition(".")[0] == huggingface_hub.__name__ for name in names)


def as_error(problem: BaseException) -> AstHfError | None:
    """Return our error for a library's exception about a missing model or the Hub; None for any other."""
    if isinstance(problem.__cause__, AstHfError):  # ours, wrapped in the class that transformers documents
        return problem.__cause__
    if not isinstance(problem, (OSError, HTTPError)) or getattr(problem, "errno", None) is not None:
        return None
    text = _SENTENCE_END.split(str(problem).strip())[0].rstrip(":.")
    match = _MISSING.match(text)
    name = (match[1] or match[2]) if match else None
    failure = _client_failure(problem) or (_missing_files(name) if name is not None else None)
    if failure is None and is_wrong_size(problem):
        failure = _WRONG_SIZE
    if failure is None:
        return None
    if match := _FAILED.match(text):
        name = match[1]
    name = name or next(filter(None, (getattr(cause, "repo_id", None) for cause in _causes(problem))), None)
    what = f"{failure.what} ({textwrap.shorten(text, 200, placeholder=' ...')})"
    detail = "missing" if failure is _BROKEN_FOLDER else ""
    where = repr(name) if name else "the Hub"
    return error(failure.code, where=where, what=what, fix=failure.fix, detail=detail)


def wrong_download(problem: BaseException) -> AstHfError | None:
    """Return E706 if an error names a file in the Hub's cache that differs from the Hub's file, else None."""
    for path in _CACHED.findall(str(problem)):
        try:
            verify_download(Path(path))
        except AstHfError as wrong:
            return wrong
    return None


def _missing_files(name: str) -> Failure:
    if Path(name).is_dir():
        return _BROKEN_FOLDER
    return _OFFLINE if is_offline_mode() else _NO_FILE


def _client_failure(problem: BaseException) -> Failure | None:
    """Return the failure if an exception of the Hub's client is the cause, else None."""
    causes = [cause for cause in _causes(problem) if isinstance(cause, _CLIENT_ERRORS)]
    if not causes:
        return None
    response_error = next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    if response_error is not None:
        return _GATED if isinstance(response_error, GatedRepoError) else _classify_response(response_error)
    if isinstance(causes[0], LocalTokenNotFoundError):
        return _BY_STATUS[401]
    if isinstance(causes[0], HFValidationError):
        return _INVALID_NAME
    return _OFFLINE if is_offline_mode() else _UNREACHED


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its chain of causes; the client wraps some."""
    cause: BaseException | None = problem
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _classify(problem: BaseException) -> Failure | None:
    """Return the failure that one exception means, without its causes; None if it is not about the Hub."""
    if isinstance(problem, OfflineModeIsEnabled) and is_offline_mode():
        return Failure("E704", "HF_HUB_OFFLINE forbids requests to the Hub", "unset it")
    if isinstance(problem, LocalTokenNotFoundError):
        return _BY_STATUS[401]
    if isinstance(problem, HfHubHTTPError):
        return _classify_response(problem)
    if isinstance(problem, OSError) and problem.errno in _DISK_FULL:
        return Failure("E704", f"the disk is full ({problem.strerror})", "free some space")
    if isinstance(problem, (HTTPError, ConnectionError, TimeoutError)):
        return Failure(
            "E704", f"cannot be reached ({_line(problem)})", "check the connection", transient=True
        )
    if is_wrong_size(problem):
        return _WRONG_SIZE
    # The client raises a bare OSError for some failures of a download.
    if isinstance(problem, OSError) and problem.errno is None and problem.__cause__ is None:
        return Failure("E704", _line(problem), "check the connection", transient=True)
    return None


def _classify_response(problem: HfHubHTTPError) -> Failure:
    status = problem.response.status_code
    headers = problem.response.headers
    if status in _TRANSIENT or (status >= 500 and status not in _LASTING):
        what = f"the Hub answered {status}" + (", too many requests" if status == 429 else "")
        wait = _retry_after(headers.get("Retry-After", ""))
        if wait is None and (limit := _RATE_LIMIT.search(headers.get("RateLimit", ""))):
            wait = float(limit[1])
        return Failure("E704", what, "wait", transient=True, wait=wait)
    is_rejected = "Invalid credentials" in headers.get("X-Error-Message", "")
    if isinstance(problem, (RepositoryNotFoundError, RevisionNotFoundError)) and not is_rejected:
        return _BY_STATUS[404]  # the Hub answers 401 for a repository that the token may not see
    if status == 403 and problem.response.request.method in ("GET", "HEAD"):
        return _MAY_NOT_READ
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Failure("E704", f"the Hub refused it, {_line(problem)}", "correct that")


def _retry_after(value: str) -> float | None:
    """Return the seconds to wait from either form of the header (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _line(problem: BaseException) -> str:
    return short_reason(f"{type(problem).__name__}: {problem}", limit=160)
