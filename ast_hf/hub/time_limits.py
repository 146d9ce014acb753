"""Time limits for requests to the Hub: its client waits for many answers without end.

Inside `limited_requests` a request fails if nothing moves for `SILENCE` seconds, and so does an answer that
arrives byte by byte. Commands limit all requests of their process (`limited_process`), and read from the cache once
the Hub has not answered. Other requests of a Python program stay as they are.
"""

from __future__ import annotations

import contextvars
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import _http as client_module

#: HTTP library of the client: httpx for huggingface_hub 1, httpx2 for 2.
_httpx: Any = sys.modules[HTTPError.__module__.partition(".")[0]]

_CLIENT_LOG = logging.getLogger("huggingface_hub.hf_api")

#: Seconds without progress until a request fails. The Hub's own gateway gives up after about as many.
SILENCE = 60.0
#: Bytes per second below which an answer fails, measured over `WINDOW` seconds.
SLOWEST = 1_000
WINDOW = 30.0
#: Seconds by which the beginning of an answer may take longer than one read of a socket.
SPARE = 1.0
#: Bytes of a body that must be sent within `SILENCE`.
_PIECE = 2**16

#: Paths of requests for a repository's description and for its files.
_DESCRIPTION = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/revision/.*)?")
_FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/.*")


class _Limits:
    """State of the limits in this process.

    Attributes:
        tell: called with a line when the cache replaces the Hub; None outside of commands.
        retrying: requests under way that are repeated by their caller.
        silent: True if the Hub did not answer a command, so that its later requests fail at once.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tell: Callable[[str], None] | None = None
        self.retrying = 0
        self.silent = False
        self.limited: list[Any] = []
        self.announced: set[str] = set()

    def seconds(self) -> float:
        """Return the limit of a request without one of its own."""
        is_reading = self.tell is not None and not self.retrying
        return float(constants.HF_HUB_ETAG_TIMEOUT) if is_reading else SILENCE

    def check(self, request: Any) -> None:
        """Raise OfflineModeIsEnabled for a reading request after one that was not answered."""
        if self.silent and not self.retrying and _repository_of(request):
            raise OfflineModeIsEnabled(f"Cannot reach {request.url}: an earlier request was not answered")

    def note(self, request: Any, problem: str, *, silent: bool = False, broken: bool = False) -> None:
        """Note that a reading request failed, and say so once if the cache has a copy of what it reads.

        Later requests then fail at once: after a `silent` one always, after a `broken` connection if there is a copy,
        since the client takes only some of these failures for a reason to use it.
        """
        found = _repository_of(request)
        is_download = request.method == "GET" and "/resolve/" in str(request.url)
        if self.tell is None or self.retrying or found is None or is_download:
            return  # the client asks for a file's description first, and downloads what the cache lacks
        self.silent = self.silent or silent
        revision = _cached_revision(*found)
        self.silent = self.silent or (broken and revision is not None)
        if revision and found[1] not in self.announced:
            self.announced.add(found[1])
            self.tell(f"{found[1]!r}: {problem}; uses the copy in the cache, revision {revision[:12]}")


_limits = _Limits()


@contextmanager
def limited_requests() -> Iterator[None]:
    """Limit the time of the client's requests within the block, which its caller repeats after a failure."""
    with _limits.lock:
        _limits.retrying += 1
        client = get_session()
        if "send" not in vars(client):
            _limit(client)
            _limits.limited.append(client)
    try:
        yield
    finally:
        with _limits.lock:
            _limits.retrying -= 1
            if not _limits.retrying:
                for client in _limits.limited:
                    vars(client).pop("send", None)
                _limits.limited.clear()


@contextmanager
def limited_process(tell: Callable[[str], None]) -> Iterator[None]:
    """Limit the time of all requests of a command; `tell` is called with each line for the user.

    If the Hub does not answer within HF_HUB_ETAG_TIMEOUT (10 s), later requests for files and descriptions fail at
    once, which makes the client use its cache.
    """
    original = client_module._GLOBAL_CLIENT_FACTORY

    def factory() -> Any:
        client = original()
        _limit(client)
        return client

    _limits.tell = tell
    _limits.silent = False
    _limits.announced.clear()
    set_client_factory(factory)
    _CLIENT_LOG.addFilter(_is_news)
    try:
        yield
    finally:
        _CLIENT_LOG.removeFilter(_is_news)
        _limits.tell = None
        _limits.silent = False
        set_client_factory(original)


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for lines of the client that repeat ours, once a file or more."""
    return not record.getMessage().startswith("Could not reach the Hub")


def _limit(client: Any) -> None:
    original = client.send

    def send(request: Any, *, stream: bool = False, **options: Any) -> Any:
        _limits.check(request)
        seconds = _limit_request(request)
        body = request.stream = _Upload(request.stream)
        try:
            response = _await(lambda: original(request, stream=True, **options), request, body, seconds)
            response.stream = _Download(response.stream, request)
            if not stream:
                response.read()
        except _httpx.TooManyRedirects as problem:  # which the client does not take for a failed connection
            _limits.note(request, "the Hub redirects without end", broken=True)
            raise _httpx.RemoteProtocolError(str(problem), request=request) from problem
        except _httpx.TransportError as problem:
            silent = isinstance(problem, _httpx.TimeoutException)
            text = f"the Hub does not answer ({type(problem).__name__})"
            _limits.note(request, text, silent=silent, broken=True)
            raise
        if response.status_code >= 500:
            _limits.note(request, f"the Hub answered {response.status_code}")
        return response

    client.send = send


def _limit_request(request: Any) -> float:
    """Fill in the limits that a request lacks, and return the seconds for the beginning of its answer."""
    own = request.extensions.get("timeout") or {}
    default = _limits.seconds()
    limits = {name: own.get(name) or default for name in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": limits}
    return max(limits["connect"], limits["read"]) + SPARE


def _await(ask: Callable[[], Any], request: Any, body: _Upload, seconds: float) -> Any:
    """Return the beginning of an answer; raise ReadTimeout if nothing is sent or received for `seconds`.

    A thread waits for it: the limits of a socket hold for one read, and none exists for a name server.
    """
    answer: Future[Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            answer.set_result(context.run(ask))
        except BaseException as problem:
            answer.set_exception(problem)

    threading.Thread(target=run, name="hub-request", daemon=True).start()
    try:
        while not answer.done() and (left := body.moved + seconds - time.monotonic()) > 0:
            wait([answer], timeout=left)
    finally:
        if not answer.done():
            answer.add_done_callback(_discard)
    if not answer.done():
        raise _httpx.ReadTimeout(f"no answer in {seconds:.0f} s", request=request)
    return answer.result()


def _discard(answer: Future[Any]) -> None:
    if answer.exception() is None:
        answer.result().close()


class _Upload(_httpx.SyncByteStream):
    """Body of a request that notes when its last piece was sent."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.moved = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        for content in self.stream:
            for start in range(0, len(content), _PIECE):
                self.moved = time.monotonic()
                yield content[start : start + _PIECE]
        self.moved = time.monotonic()

    def close(self) -> None:
        self.stream.close()


class _Download(_httpx.SyncByteStream):
    """Body of an answer that raises ReadTimeout if it arrives too slowly."""

    def __init__(self, stream: Any, request: Any) -> None:
        self.stream = stream
        self.request = request

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self.stream)
        seconds = 0.0
        received = 0
        while True:
            start = time.monotonic()
            try:
                piece = next(pieces, None)
            except _httpx.ReadError as problem:  # the client resumes a download only after this class
                raise _httpx.RemoteProtocolError(str(problem), request=self.request) from problem
            if piece is None:
                return
            seconds += time.monotonic() - start
            received += len(piece)
            if seconds >= WINDOW:
                if received < SLOWEST * seconds:
                    what = f"only {received} bytes in {seconds:.0f} s"
                    raise _httpx.ReadTimeout(what, request=self.request)
                seconds = 0.0
                received = 0
            yield piece

    def close(self) -> None:
        self.stream.close()


def _repository_of(request: Any) -> tuple[str, str] | None:
    """Return kind and name of the repository that a request reads from; None for other requests and hosts."""
    url = str(request.url)
    endpoint = constants.ENDPOINT.rstrip("/")
    if not url.startswith(endpoint) or request.method not in ("GET", "HEAD"):
        return None
    path = url.removeprefix(endpoint).partition("?")[0]
    match = _DESCRIPTION.fullmatch(path) or _FILE.fullmatch(path)
    return (match["kind"] or "models", match["name"]) if match else None


def _cached_revision(kind: str, name: str) -> str | None:
    """Return the commit of a repository's main branch in the cache, None without one."""
    folder = Path(constants.HF_HUB_CACHE, f"{kind}--{name.replace('/', '--')}")
    try:
        return (folder / "refs" / "main").read_text(encoding="utf-8").strip() or None
    except OSError:
        commits = sorted((folder / "snapshots").glob("*"))
        return commits[-1].name if commits else None
