"""A Hub in memory: enough of huggingface.co's HTTP API for its own client to push and load over loopback, and to fail.

Written from the requests that `huggingface_hub` sends and the replies that it expects (`hf_api.py`, `_commit_api.py`,
`lfs.py`), not from the Hub's code.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

#: Files stored by LFS, as in the Hub's default .gitattributes.
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".png", ".flac", ".wav", ".parquet")
_JSON = {"Content-Type": "application/json"}
_DATE = "2026-01-01T00:00:00.000Z"
#: Header of the Hub's reply to an unknown or expired token.
_BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}


class Blob(NamedTuple):
    """The content of one file."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """SHA-256 in LFS, git's own hash otherwise, as on the Hub."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        return {**entry, "lfs": {**entry, "pointerSize": 134}} if self.lfs else entry


class Commit(NamedTuple):
    oid: str
    message: str
    files: dict[str, Blob]
    changed: tuple[str, ...]  # paths that it added or replaced


@dataclass
class Repository:
    """Commits by branch, oldest first; a pull request is the branch `refs/pr/N`."""

    private: bool = False
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        """Return the commit of a branch, a tag or a hash."""
        if revision in self.branches:
            return self.branches[revision][-1]
        every = {commit.oid: commit for commits in self.branches.values() for commit in commits}
        return self.tags.get(revision, every.get(revision))


@dataclass
class Fault:
    """A failure of `times` matching requests, after the first `skip` of them.

    Attributes:
        pattern: of `"METHOD /path"`.
        status: status of the reply; None with another kind.
        kind: `"status"`; `"reset"`, the connection breaks after `after` bytes of the request's body; `"truncate"`, the
            request is carried out, but the connection breaks after half of the reply's body; `"lost"`, the same, but
            before the reply; `"hang"`, the request is carried out if `after`, and never answered; `"drip"`, a byte of
            the reply a second; `"flip"`, the byte `after` (1) before the end of the body is another; `"redirect"`, to
            the same file on another host, whose requests are in `Hub.elsewhere`; `"loop"`, to itself; `"half"`, the
            request is carried out, and half of the reply is never followed by the rest; `"gzip"`, the reply is
            compressed though nobody asked.
    """

    pattern: str
    status: int | None = None
    kind: str = "status"
    after: int = 0
    skip: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    token: str
    body: bytes

    @property
    def writes(self) -> bool:
        """Return True unless the request only reads: some POST requests do."""
        return self.method in ("POST", "PUT") and not re.search(r"/(paths-info|validate-yaml)\b", self.path)


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    """Error reply to a request; the client raises its own exception for `code`."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        self.reply = Reply(status, b"{}", {"X-Error-Code": code, **headers})


class Hub:
    """Repositories of one user and one organisation; a handler of ROUTES returns a Reply or a JSON value."""

    def __init__(self, user: str, token: str, organization: str = "lab") -> None:
        self.user = user
        self.organization = organization
        self.url = ""
        self.roles = {token: "write"}
        self.repositories: dict[str, Repository] = {}  # "user/name", "datasets/user/name"
        self.objects: dict[str, bytes] = {}  # LFS uploads by SHA-256
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.uploaded_bytes = 0  # of LFS files, complete or not
        self.drip_seconds = 1.0
        self.sent: list[tuple[str, int]] = []  # path and bytes of each body
        self.elsewhere: list[tuple[str, str]] = []  # path and token of each request to the other host
        self._lock = threading.Lock()

    # ------------------------------------------------------------ inspection by tests

    def files(self, repo: str, revision: str = "main") -> dict[str, Blob]:
        """Return the files of the newest commit by path."""
        return self._commit(repo, revision).files

    def put(self, repo: str, files: dict[str, bytes]) -> None:
        """Create a repository with one commit of files, without a request."""
        blobs = {path: Blob(content, lfs=path.endswith(LFS_SUFFIXES)) for path, content in files.items()}
        self.repositories[repo] = Repository()
        self._add_commit(repo, "main", "initial commit", {})
        self._add_commit(repo, "main", "files", blobs)

    def commits(self, repo: str, branch: str = "main") -> list[Commit]:
        """Return the commits after the empty first one, oldest first."""
        return self.repositories[repo].branches[branch][1:]

    def uploads(self) -> list[tuple[str, bytes]]:
        """Return name and content of every upload, also of files that a later commit replaced."""
        lists = [commits for repo in self.repositories.values() for commits in repo.branches.values()]
        files = [item for commits in lists for commit in commits for item in commit.files.items()]
        return [*self.objects.items(), *((path, blob.content) for path, blob in files)]

    def count(self, pattern: str) -> int:
        """Return the number of requests whose `"METHOD /path status"` matches."""
        return sum(re.match(pattern, line) is not None for line in self.log)

    def fail(self, pattern: str, status: int | None = None, **how: Any) -> None:
        """Fail the next requests that match; see `Fault`."""
        self.faults.append(Fault(pattern, status, **how))

    # ------------------------------------------------------------ replies

    def fault(self, request: str) -> Fault | None:
        """Return the fault for a request `"METHOD /path"`, or None."""
        with self._lock:
            for fault in self.faults:
                if fault.times and re.match(fault.pattern, request):
                    if not fault.skip:
                        fault.times -= 1
                        return fault
                    fault.skip -= 1
        return None

    def answer(self, request: Request) -> Reply:
        try:
            with self._lock:
                value = self._route(request)
        except Refusal as refusal:
            value = refusal.reply
        return value if isinstance(value, Reply) else Reply(200, json.dumps(value).encode(), _JSON)

    def _route(self, request: Request) -> Any:
        if request.token and request.token not in self.roles:
            raise Refusal(401, "", **_BAD_TOKEN)
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method.replace("HEAD", "GET"):
                parts = {name: value for name, value in match.groupdict().items() if name != "kind"}
                if "repo" in parts:
                    kind = match.groupdict().get("kind") or "models"
                    parts["repo"] = ("" if kind.startswith("models") else "datasets/") + parts["repo"]
                    self._check_rights(request, parts["repo"])
                return handler(self, request, **parts)
        raise Refusal(404, "NoSuchRoute")

    def _check_rights(self, request: Request, repo: str) -> None:
        owned = repo.split("/")[-2] in (self.user, self.organization) and bool(request.token)
        if repo in self.repositories and self.repositories[repo].private and not owned:
            raise Refusal(404 if request.token else 401, "RepoNotFound")
        if request.writes and not request.token:
            raise Refusal(401, "", **_BAD_TOKEN)
        suggested = "create_pr" in request.query or request.path.endswith("/objects/batch")
        if request.writes and (self.roles[request.token] != "write" or not (owned or suggested)):
            raise Refusal(403, "", **{"X-Error-Message": "You don't have the rights to do this"})

    def _commit(self, repo: str, revision: str | None) -> Commit:
        if repo not in self.repositories:
            raise Refusal(404, "RepoNotFound")
        commit = self.repositories[repo].find(revision or "main")
        if commit is None:
            raise Refusal(404, "RevisionNotFound")
        return commit

    def _add_commit(
        self, repo: str, branch: str, message: str, files: dict[str, Blob], changed: tuple = ()
    ) -> Commit:
        commits = self.repositories[repo].branches.setdefault(branch, [])
        oid = hashlib.sha1(f"{repo} {branch} {len(commits)}".encode()).hexdigest()
        commits.append(Commit(oid, message, files, changed))
        return commits[-1]

    # ------------------------------------------------------------ accounts and repositories

    def whoami(self, request: Request) -> Any:
        if not request.token:
            raise Refusal(401, "", **_BAD_TOKEN)
        role = {"accessToken": {"role": self.roles[request.token]}}
        return {"type": "user", "name": self.user, "orgs": [{"name": self.organization}], "auth": role}

    def create(self, request: Request) -> Any:
        options = json.loads(request.body)
        name = f"{options.get('organization') or self.user}/{options['name']}"
        repo = ("datasets/" if options.get("type") == "dataset" else "") + name
        self._check_rights(request, repo)
        if repo in self.repositories:
            return Reply(409, json.dumps({"url": f"{self.url}/{repo}"}).encode(), _JSON)
        self.repositories[repo] = Repository(
            private=options.get("visibility") == "private" or bool(options.get("private"))
        )
        self._add_commit(repo, "main", "initial commit", {})
        return {"url": f"{self.url}/{repo}"}

    def create_branch(self, request: Request, repo: str, branch: str) -> Any:
        start = self._commit(repo, json.loads(request.body or b"{}").get("startingPoint"))
        if branch in self.repositories[repo].branches:
            raise Refusal(409, "BranchExists")
        self.repositories[repo].branches[branch] = [start]
        return {}

    def create_tag(self, request: Request, repo: str, revision: str) -> Any:
        self.repositories[repo].tags[json.loads(request.body)["tag"]] = self._commit(repo, revision)
        return {}

    def refs(self, request: Request, repo: str) -> Any:
        self._commit(repo, "main")
        branches, tags = self.repositories[repo].branches, self.repositories[repo].tags
        listed = [
            {"name": name, "ref": name, "targetCommit": commits[-1].oid} for name, commits in branches.items()
        ]
        return {
            "branches": [entry for entry in listed if not entry["name"].startswith("refs/")],
            "pullRequests": [entry for entry in listed if entry["name"].startswith("refs/")],
            "tags": [
                {"name": name, "ref": name, "targetCommit": commit.oid} for name, commit in tags.items()
            ],
            "converts": [],
        }

    def info(self, request: Request, repo: str, revision: str | None) -> Any:
        commit = self._commit(repo, revision)
        card = commit.files["README.md"].content.decode() if "README.md" in commit.files else ""
        tags = dict(re.findall(r"^(pipeline_tag|library_name): (\S+)$", card, re.MULTILINE))
        licences = re.findall(r"^license: (\S+)$", card, re.MULTILINE)
        return {
            "id": repo.removeprefix("datasets/"),
            "sha": commit.oid,
            "private": self.repositories[repo].private,
            "siblings": [{"rfilename": path} for path in commit.files],
            "tags": [f"license:{licence}" for licence in licences],
            "downloads": 0,
            "likes": 0,
            "createdAt": _DATE,
            "lastModified": _DATE,
            **tags,
        }

    # ------------------------------------------------------------ pushing

    def validate_yaml(self, request: Request) -> Any:
        """Refuse a card whose base model is not a name on the Hub, as the Hub does."""
        content = json.loads(request.body)["content"]
        if re.search(r"^base_model: [./~]", content, re.MULTILINE):
            fault = {"message": '"base_model" with value "..." is not valid'}
            return Reply(400, json.dumps({"errors": [fault], "warnings": []}).encode(), _JSON)
        return {"errors": [], "warnings": []}

    def preupload(self, request: Request, repo: str, revision: str) -> Any:
        commit = self._commit(repo, revision)
        present = {path: blob.oid for path, blob in commit.files.items()}
        ignored = commit.files[".gitignore"].content.decode().split() if ".gitignore" in commit.files else []
        paths = [file["path"] for file in json.loads(request.body)["files"]]
        modes = {path: "lfs" if path.endswith(LFS_SUFFIXES) else "regular" for path in paths}
        facts = [{"path": path, "uploadMode": modes[path], "oid": present.get(path)} for path in paths]
        return {"files": [{**fact, "shouldIgnore": fact["path"] in ignored} for fact in facts]}

    def lfs_batch(self, request: Request, repo: str) -> Any:
        objects = [
            {"oid": requested["oid"], "size": requested["size"]}
            for requested in json.loads(request.body)["objects"]
        ]
        for entry in objects:
            if entry["oid"] not in self.objects:
                hrefs = {"upload": f"{self.url}/lfs/{entry['oid']}", "verify": f"{self.url}/lfs/verify"}
                entry["actions"] = {action: {"href": href} for action, href in hrefs.items()}
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, request: Request, oid: str) -> Any:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "WrongContent")
        self.objects[oid] = request.body
        return {}

    def lfs_verify(self, request: Request) -> Any:
        expected = json.loads(request.body)
        if len(self.objects.get(expected["oid"], b"")) != expected["size"]:
            raise Refusal(404, "ObjectNotFound")
        return {}

    def commit(self, request: Request, repo: str, revision: str) -> Any:
        files = dict(self._commit(repo, revision).files)
        lines = [json.loads(line) for line in request.body.splitlines()]
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                files[value["path"]] = Blob(self.objects[value["oid"]], lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {
                    path: blob for path, blob in files.items() if not path.startswith(f"{value['path']}/")
                }
            elif key == "header" and value.get("parentCommit") not in (
                None,
                self._commit(repo, revision).oid,
            ):
                raise Refusal(412, "", **{"X-Error-Message": "A commit has happened since. Please refresh."})
            elif key != "header":
                raise Refusal(400, f"NotImplemented-{key}")
        changed = tuple(line["value"]["path"] for line in lines if line["key"] in ("file", "lfsFile"))
        message = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        pulls = [name for name in self.repositories[repo].branches if name.startswith("refs/pr/")]
        branch = revision
        more = {}
        if request.query.get("create_pr") == ["1"]:
            branch = f"refs/pr/{len(pulls) + 1}"
            self.repositories[repo].branches[branch] = [self._commit(repo, revision)]
            more = {"pullRequestUrl": f"{self.url}/{repo}/discussions/{len(pulls) + 1}"}
        oid = self._add_commit(repo, branch, message, files, changed).oid
        url = f"{self.url}/{repo}/commit/{oid}"
        return {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": "", **more}

    def messages(self, request: Request, repo: str) -> Any:
        """Return the messages of the commits of all branches, for a test in another process."""
        branches = self.repositories[repo].branches.values()
        return sorted({(commit.oid, commit.message) for commits in branches for commit in commits[1:]})

    # ------------------------------------------------------------ loading

    def tree(self, request: Request, repo: str, revision: str, folder: str | None) -> Any:
        prefix = f"{folder}/" if folder else ""
        recursive = request.query.get("recursive", [""])[0].lower() in ("true", "1")
        files = {
            path: blob for path, blob in self._commit(repo, revision).files.items() if path.startswith(prefix)
        }
        if folder and not files:
            raise Refusal(404, "EntryNotFound")
        inner = {path: path[len(prefix) :].split("/") for path in files}
        depths = {path: len(parts) if recursive else 2 for path, parts in inner.items()}
        folders = {
            prefix + "/".join(inner[path][:depth]) for path in files for depth in range(1, depths[path])
        }
        listed = [blob.entry(path) for path, blob in files.items() if recursive or len(inner[path]) == 1]
        return [
            *({"type": "directory", "path": path, "oid": "0" * 40} for path in folders - files.keys()),
            *listed,
        ]

    def paths_info(self, request: Request, repo: str, revision: str) -> Any:
        files = self._commit(repo, revision).files
        paths = parse_qs(request.body.decode()).get("paths", [])
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in files)]
        entries = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        return [*entries, *(files[path].entry(path) for path in paths if path in files)]

    def resolve(self, request: Request, repo: str, revision: str, path: str) -> Any:
        commit = self._commit(repo, revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            raise Refusal(404, "EntryNotFound", **headers)
        blob = commit.files[path]
        linked = (
            {"X-Linked-ETag": f'"{blob.oid}"', "X-Linked-Size": str(len(blob.content))} if blob.lfs else {}
        )
        return Reply(
            200, blob.content, {**headers, **linked, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        )


_REPO, _REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>refs/pr/\d+|[^/]+)"
_API = f"/api/(?P<kind>models|datasets)/{_REPO}"
_WEB = rf"/(?P<kind>datasets/)?{_REPO}"
#: Method, path, handler. HEAD is handled as GET, without the body.
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate_yaml),
    ("POST", f"{_API}/preupload/{_REVISION}", Hub.preupload),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", Hub.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.lfs_upload),
    ("POST", "/lfs/verify", Hub.lfs_verify),
    ("POST", f"{_API}/commit/{_REVISION}", Hub.commit),
    ("POST", f"{_API}/branch/(?P<branch>.+)", Hub.create_branch),
    ("POST", f"{_API}/tag/{_REVISION}", Hub.create_tag),
    ("GET", f"/test/{_REPO}/messages", Hub.messages),
    ("GET", f"{_API}/refs", Hub.refs),
    ("GET", f"{_API}(?:/revision/{_REVISION})?", Hub.info),
    ("GET", f"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?", Hub.tree),
    ("POST", f"{_API}/paths-info/{_REVISION}", Hub.paths_info),
    ("GET", f"{_WEB}/resolve/{_REVISION}/(?P<path>.+)", Hub.resolve),
]


def _flipped(reply: Reply, place: int) -> Reply:
    """Return a reply with one bit changed in the byte `place` before the end of its body."""
    body = bytearray(reply.body)
    if body:
        body[-place] ^= 1
    return reply._replace(body=bytes(body))


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 handler that serves `Hub.answer` and applies the faults."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def _answer(self) -> None:
        hub = self.server.hub
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path.startswith("/elsewhere/"):
            path = path.removeprefix("/elsewhere")
            hub.elsewhere.append((path, self.headers.get("Authorization", "")))
        fault = hub.fault(f"{self.command} {path}")
        if fault is not None and fault.kind == "reset":
            self._break(fault.after)
            hub.log.append(f"{self.command} {path} reset")
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        kind = None if fault is None else fault.kind
        request = Request(self.command, path, parse_qs(url.query), token, self._body())
        if kind == "hang" and not fault.after:
            hub.log.append(f"{self.command} {path} hang")
            self._hang()
            return
        refused = kind == "status"
        reply = Reply(fault.status or 500, fault.body, fault.headers) if refused else hub.answer(request)
        hub.log.append(f"{self.command} {path} {reply.status}")
        if kind == "hang":
            self._hang()
        elif kind == "lost":
            self._break(0)
        elif kind == "drip":
            self._drip(reply)
        elif kind == "half":
            self._send(reply, truncated=True, then=self._hang)
        elif kind == "loop":
            self._send(Reply(302, b"", {"Location": f"{hub.url}{self.path}"}), truncated=False)
        elif kind == "gzip":
            packed = gzip.compress(reply.body)
            self._send(
                Reply(reply.status, packed, {**reply.headers, "Content-Encoding": "gzip"}), truncated=False
            )
        elif kind == "redirect":
            place = f"http://localhost:{self.server.server_port}/elsewhere{url.path}"
            self._send(Reply(302, b"", {**reply.headers, "Location": place}), truncated=False)
        else:
            self._send(
                _flipped(reply, fault.after or 1) if kind == "flip" else reply, truncated=kind == "truncate"
            )

    def _send(self, reply: Reply, *, truncated: bool, then: Callable[[], None] | None = None) -> None:
        status = reply.status
        body = reply.body
        more = {}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged and status == 200:
            start, end = int(ranged[1]), min(int(ranged[2] or len(body) - 1), len(body) - 1)
            more = {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
            status = 206
            body = body[start : end + 1]
        self.send_response(status)
        for name, value in {**reply.headers, **more, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            body = body[: len(body) // 2] if truncated else body
            self.server.hub.sent.append((self.path, len(body)))
            self.wfile.write(body)
        if then is not None:
            self.wfile.flush()
            then()
        elif truncated:
            self._break(0)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 (names of http.server)

    def _hang(self) -> None:
        self.server.closing.wait()
        self.close_connection = True

    def _drip(self, reply: Reply) -> None:
        """Send the reply a byte a second, headers included."""
        head = f"HTTP/1.1 {reply.status} OK\r\nContent-Length: {len(reply.body)}\r\n\r\n".encode()
        for byte in head + reply.body:
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(self.server.hub.drip_seconds):
                break
        self.close_connection = True

    def _break(self, after: int) -> None:
        """Read so many bytes, then reset the connection (RST, by a linger time of zero)."""
        left = min(after, int(self.headers.get("Content-Length", after)))
        while left > 0 and (piece := self.rfile.read1(left)):
            self.server.hub.uploaded_bytes += len(piece)
            left -= len(piece)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        else:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.command == "PUT":
            self.server.hub.uploaded_bytes += len(body)
        return body

    def log_message(self, *args: Any) -> None:
        """Do nothing: `Hub.log` has the requests."""


class HubServer(ThreadingHTTPServer):
    """Server of a `Hub` on a free port of 127.0.0.1, as a context manager."""

    daemon_threads = True

    def __init__(self, user: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = Hub(user, token)
        self.hub.url = f"http://127.0.0.1:{self.server_port}"
        self.closing = threading.Event()  # ends requests that are never answered

    def shutdown_request(self, request: Any) -> None:
        """Close the socket without a shutdown, as after a reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do nothing: a client that closed its connection is not an error."""

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


def run_python(hub: Hub, cache: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh Python process whose Hub is `hub`, with an empty cache."""
    online = {
        name: value for name, value in os.environ.items() if not name.endswith(("_OFFLINE", "HF_TOKEN"))
    }
    address = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(cache),
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**online, **address, **env},
        cwd=cache.parent,
        check=False,
    )
