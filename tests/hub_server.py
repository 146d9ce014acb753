"""A Hub in memory: enough of huggingface.co's HTTP API for its own client to push and load models over loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

#: Files stored by LFS; the Hub decides that by a .gitattributes much like this.
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".png")
_JSON = {"Content-Type": "application/json"}


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
    files: dict[str, Blob]


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    token: str
    body: bytes


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    """Ends a request with an error; from `code` the client makes its own exception."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        self.reply = Reply(status, b"{}", {"X-Error-Code": code, **headers})


class Hub:
    """Public models of one user as lists of commits; a handler of ROUTES returns a Reply or a JSON value."""

    def __init__(self, user: str, token: str) -> None:
        self.user, self.token, self.url = user, token, ""
        self.repositories: dict[str, list[Commit]] = {}
        self.objects: dict[str, bytes] = {}  # LFS uploads by SHA-256
        self.log: list[str] = []
        self._lock = threading.Lock()

    def files(self, repo: str) -> dict[str, Blob]:
        """What a repository shows now."""
        return self._commit(repo, "main").files

    def uploads(self) -> list[tuple[str, bytes]]:
        """Name and content of all that was ever uploaded, also of what a later commit replaced."""
        files = [item for commits in self.repositories.values() for commit in commits for item in commit.files.items()]
        return [*self.objects.items(), *((path, blob.content) for path, blob in files)]

    def answer(self, request: Request) -> Reply:
        try:
            with self._lock:
                value = self._route(request)
        except Refusal as refusal:
            value = refusal.reply
        reply = value if isinstance(value, Reply) else Reply(200, json.dumps(value).encode(), _JSON)
        self.log.append(f"{request.method} {request.path} {reply.status}")
        return reply

    def _route(self, request: Request) -> Any:
        if request.method == "POST" and request.token != self.token:
            raise Refusal(401, "Unauthorized")
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and method == request.method.replace("HEAD", "GET"):
                return handler(self, request, **found.groupdict())
        raise Refusal(404, "NoSuchRoute")

    def _commit(self, repo: str, revision: str | None) -> Commit:
        """The commit that a branch or a hash names."""
        if repo not in self.repositories:
            raise Refusal(404, "RepoNotFound")
        found = [commit for commit in self.repositories[repo] if revision in (None, "main", commit.oid)]
        if not found:
            raise Refusal(404, "RevisionNotFound")
        return found[-1]

    def _add_commit(self, repo: str, files: dict[str, Blob]) -> str:
        commits = self.repositories.setdefault(repo, [])
        commits.append(Commit(hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest(), files))
        return commits[-1].oid

    def whoami(self, request: Request) -> Any:
        return {"type": "user", "name": self.user, "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    def create(self, request: Request) -> Any:
        asked = json.loads(request.body)
        repo = f"{asked.get('organization') or self.user}/{asked['name']}"
        if repo in self.repositories:
            raise Refusal(409, "RepoExists")
        self._add_commit(repo, {})
        return {"url": f"{self.url}/{repo}"}

    def validate_yaml(self, request: Request) -> Any:
        return {"errors": [], "warnings": []}

    def preupload(self, request: Request, repo: str, revision: str) -> Any:
        present = {path: blob.oid for path, blob in self._commit(repo, revision).files.items()}
        paths = [file["path"] for file in json.loads(request.body)["files"]]
        modes = {path: "lfs" if path.endswith(LFS_SUFFIXES) else "regular" for path in paths}
        facts = [{"path": path, "uploadMode": modes[path], "oid": present.get(path)} for path in paths]
        return {"files": [{**fact, "shouldIgnore": False} for fact in facts]}

    def lfs_batch(self, request: Request, repo: str) -> Any:
        objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in json.loads(request.body)["objects"]]
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
        wanted = json.loads(request.body)
        if len(self.objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refusal(404, "ObjectNotFound")
        return {}

    def commit(self, request: Request, repo: str, revision: str) -> Any:
        files = dict(self._commit(repo, revision).files)
        for line in request.body.splitlines():
            key, value = (json.loads(line)[name] for name in ("key", "value"))
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                files[value["path"]] = Blob(self.objects[value["oid"]], lfs=True)
            elif key != "header":
                raise Refusal(400, f"NotImplemented-{key}")
        oid = self._add_commit(repo, files)
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{repo}/commit/{oid}", "hookOutput": ""}

    def model_info(self, request: Request, repo: str, revision: str | None) -> Any:
        commit = self._commit(repo, revision)
        return {"id": repo, "sha": commit.oid, "siblings": [{"rfilename": path} for path in commit.files]}

    def tree(self, request: Request, repo: str, revision: str, folder: str | None) -> Any:
        """Files below a folder; subfolders are not listed by themselves."""
        prefix = f"{folder}/" if folder else ""
        recursive = request.query.get("recursive", [""])[0].lower() == "true"
        files = {path: blob for path, blob in self._commit(repo, revision).files.items() if path.startswith(prefix)}
        if folder and not files:
            raise Refusal(404, "EntryNotFound")
        return [blob.entry(path) for path, blob in files.items() if recursive or "/" not in path[len(prefix) :]]

    def paths_info(self, request: Request, repo: str, revision: str) -> Any:
        files = self._commit(repo, revision).files
        return [files[path].entry(path) for path in parse_qs(request.body.decode())["paths"] if path in files]

    def resolve(self, request: Request, repo: str, revision: str, path: str) -> Any:
        commit = self._commit(repo, revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            raise Refusal(404, "EntryNotFound", **headers)
        blob = commit.files[path]
        linked = {"X-Linked-ETag": f'"{blob.oid}"', "X-Linked-Size": str(len(blob.content))} if blob.lfs else {}
        return Reply(200, blob.content, {**headers, **linked, "ETag": f'"{blob.oid}"'})


_REPO, _REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
_API = f"/api/models/{_REPO}"
#: Method, path, who answers. HEAD is answered as GET, without the body.
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate_yaml),
    ("POST", f"{_API}/preupload/{_REVISION}", Hub.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", Hub.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.lfs_upload),
    ("POST", "/lfs/verify", Hub.lfs_verify),
    ("POST", f"{_API}/commit/{_REVISION}", Hub.commit),
    ("GET", f"{_API}(?:/revision/{_REVISION})?", Hub.model_info),
    ("GET", f"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?", Hub.tree),
    ("POST", f"{_API}/paths-info/{_REVISION}", Hub.paths_info),
    ("GET", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", Hub.resolve),
]


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 around `Hub.answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def _answer(self) -> None:
        url = urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = Request(self.command, unquote(url.path), parse_qs(url.query), token, self._body())
        reply = self.server.hub.answer(request)
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 (names of http.server)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *args: Any) -> None:
        """Nothing: `Hub.log` has it."""


class HubServer(ThreadingHTTPServer):
    """Serves a `Hub` on a free port of 127.0.0.1 while used as a context manager."""

    daemon_threads = True

    def __init__(self, user: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = Hub(user, token)
        self.hub.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.shutdown()
        self.server_close()
