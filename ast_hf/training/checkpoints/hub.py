"""How do sealed checkpoints get to the Hub while training goes on, and back to a new machine?"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import warnings
from collections import deque
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from ...errors import AstHfError, AstHfWarning, error, warning_text
from ...hub.access import check_name, reach
from ...hub.publishing import check_secrets, cut_paths_in_json, open_repository, send
from .sealing import (
    MANIFEST,
    STATE_FILE,
    Manifest,
    checkpoint_folder,
    checkpoints,
    find_corruption,
    put_in_place,
    read_manifest,
    staging_folder,
    step_of,
)

#: Where the newest checkpoint of a run is on the Hub, as transformers calls it.
LAST = "last-checkpoint"
#: Beside the checkpoints: what is being sent. Links to them, so that removing old ones takes nothing away.
_SENDING = ".sending"
#: What of a checkpoint is the model, for those who look at the page while it is trained.
_MODEL = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)


class HubPlace(NamedTuple):
    """Where a run publishes.

    Attributes:
        repo_id: `user/name`, or `name` for one's own.
        revision: branch, None for `main`.
        private: as for `sharing.push_folder`.
        token: the same.
    """

    repo_id: str
    revision: str | None = None
    private: bool | None = None
    token: str | None = None


class CheckpointPushes:
    """Sends sealed checkpoints to the Hub, one after the other, while training goes on.

    Nothing that happens here stops training: a failure is told once, as W701, and the next checkpoint is tried again.

    Args:
        place: where to.
        strategy: `"every_save"` sends the model alone, `"checkpoint"` also what a run goes on from, as
            `last-checkpoint`, `"all_checkpoints"` the same as `checkpoint-N`.
        every: send each one; otherwise, of those that are saved while one is sent, the newest only.
    """

    def __init__(self, place: HubPlace, strategy: str, *, every: bool = False) -> None:
        self.place, self.strategy, self.every = place, strategy, every
        self._waiting: deque[Path] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._open = self._told = False

    def push(self, checkpoint: Path) -> None:
        """Send a sealed checkpoint, in the background. What it holds now is kept until it is sent."""
        with self._lock:
            dropped = [] if self.every else list(self._waiting)
            for path in dropped if self._thread is not None else [checkpoint.parent / _SENDING]:  # of a killed run
                shutil.rmtree(path, ignore_errors=True)
            self._waiting = deque(path for path in self._waiting if path not in dropped)
            try:
                self._waiting.append(_keep(checkpoint))
            except OSError as problem:
                self._tell(f"It cannot be kept for that ({problem.strerror})", checkpoint)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)  # the end of a run does not wait for it
                self._thread.start()

    def finish(self) -> None:
        """Wait until all is sent, or has failed."""
        if (thread := self._thread) is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                kept = self._waiting.popleft()
            self._send(kept)
            with self._lock, suppress(OSError):
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.rmdir()  # unless another one waits in it

    def _send(self, kept: Path) -> None:
        try:
            if not self._open:
                repo_id, revision, private, token = self.place
                name = open_repository(repo_id, private=private, revision=revision, token=token)
                self.place, self._open = self.place._replace(repo_id=name), True
            send_checkpoint(kept, self.place, self.strategy)
            self._told = False
        except Exception as problem:
            self._tell(str(problem), kept)

    def _tell(self, problem: str, checkpoint: Path) -> None:
        if not self._told:
            what = f"was not sent to the Hub; training goes on, and the next one is tried again. {problem}"
            warnings.warn(warning_text("W701", where=checkpoint.name, what=what), AstHfWarning, stacklevel=2)
        self._told = True


def _keep(checkpoint: Path) -> Path:
    """The files of a checkpoint under another name, so that they are there until they are sent."""
    root = checkpoint.parent / _SENDING
    kept = root / checkpoint.name
    shutil.rmtree(kept, ignore_errors=True)
    for path in checkpoint.rglob("*"):
        place = kept / path.relative_to(checkpoint)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(path, place)
    return kept


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copy2(path, place)  # a disk without links


def send_checkpoint(checkpoint: Path, place: HubPlace, strategy: str) -> None:
    """Send a sealed checkpoint, in one commit; see `CheckpointPushes` for the arguments.

    Raises:
        AstHfError: as `sharing.send`; E705 for a file that holds a secret.
    """
    files = _published(checkpoint)
    sent = {name: content for name, content in files.items() if any(fnmatchcase(name, part) for part in _MODEL)}
    inside = {"every_save": "", "checkpoint": LAST, "all_checkpoints": checkpoint.name}[strategy]
    if inside:
        sent |= {f"{inside}/{name}": content for name, content in files.items()}
    for name, content in (files if inside else sent).items():
        check_secrets(content, f"{checkpoint.name}/{name}")
    old = [] if not inside else [name for name in _listed(place, inside) if name not in sent]
    message = f"Training in progress, step {step_of(checkpoint)}"
    send(sent, place.repo_id, message=message, delete=old, revision=place.revision, token=place.token)


def _published(checkpoint: Path) -> dict[str, Path | bytes]:
    """A checkpoint's files as they are published: without local paths, and with the manifest of just that."""
    files: dict[str, Path | bytes] = {
        path.relative_to(checkpoint).as_posix(): path for path in sorted(checkpoint.rglob("*")) if path.is_file()
    }
    manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        path = checkpoint / entry["name"]
        text, count = cut_paths_in_json(path.read_text(encoding="utf-8")) if path.suffix == ".json" else ("", 0)
        if count:
            content = text.encode()
            files[entry["name"]] = content
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**files, MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}


def _listed(place: HubPlace, folder: str) -> list[str]:
    """The files in a folder on the Hub, none when there is no such folder."""
    api = HfApi(token=place.token)

    def ask() -> list[str]:
        try:
            entries = api.list_repo_tree(place.repo_id, folder, recursive=True, revision=place.revision)
            return [entry.path for entry in entries if hasattr(entry, "size")]
        except EntryNotFoundError:
            return []

    return reach(ask, where=repr(place.repo_id))


# ---------------------------------------------------------------- back


def download_checkpoint(root: Path, place: HubPlace, *, with_best: bool = False) -> Path:
    """Put the newest checkpoint that a run sent to the Hub into a run's folder, as `checkpoint-N`.

    Args:
        root: the run's output folder.
        place: where it is.
        with_best: the run will need its best checkpoint too (`load_best_model_at_end`).

    Returns:
        The checkpoint, each file of which is as its manifest says.

    Raises:
        AstConfigError: E306 when there is none, when it is not whole, or when the best one is nowhere; E702 when there
            is no such repository.
        AstRunError: E701 and E704 when it cannot be downloaded.
    """
    place = place._replace(repo_id=_full_name(place))
    api, where = HfApi(token=place.token), repr(place.repo_id)
    commit = reach(lambda: api.model_info(place.repo_id, revision=place.revision).sha, where=where)
    pinned = place._replace(revision=commit)  # what is pushed meanwhile does not mix in
    listed = reach(lambda: api.list_repo_files(place.repo_id, revision=commit), where=where)
    names = [name.removesuffix(f"/{MANIFEST}") for name in listed if name.endswith(f"/{MANIFEST}")]
    numbered = sorted((name for name in names if step_of(Path(name)) >= 0), key=lambda name: step_of(Path(name)))
    candidates = [name for name in names if name == LAST] + numbered[-1:]
    if not candidates:
        what = f"holds no {LAST} and no checkpoint-N with a {MANIFEST}"
        fix = "train with --set training.hub_strategy=checkpoint, or resume with auto, which looks on this machine"
        raise error("E306", where=where, what=what, fix=fix)
    found = _fetched(root, pinned, max(candidates, key=lambda name: _manifest_of(root, pinned, name).step))
    newer = [path for path in checkpoints(root) if step_of(path) > step_of(found) and find_corruption(path) is None]
    if newer:
        what = f"is older than {newer[-1].name}, which is here and whole; resume with auto to go on from that"
        warnings.warn(warning_text("W405", where=found.name, what=what), AstHfWarning, stacklevel=2)
    if with_best:
        _fetch_best(root, pinned, found, numbered)
    return found


def _full_name(place: HubPlace) -> str:
    check_name(place.repo_id)
    if "/" in place.repo_id:
        return place.repo_id
    user = reach(lambda: HfApi(token=place.token).whoami()["name"], where=repr(place.repo_id))
    return f"{user}/{place.repo_id}"


def _fetched(root: Path, place: HubPlace, name: str) -> Path:
    """Download a checkpoint, unless the same one is here, and give it its place once it is known to be whole."""
    manifest, staged = _manifest_of(root, place, name), _staged(root) / name
    target = checkpoint_folder(root, manifest.step)
    if read_manifest(target) == manifest and find_corruption(target) is None:
        return target
    _download(place, f"{name}/*", _staged(root))
    if (reason := find_corruption(staged)) is not None:
        raise _not_whole(place, name, reason)
    staged.replace(staging_folder(root) / target.name)
    put_in_place(root, target.name)
    return target


def _manifest_of(root: Path, place: HubPlace, name: str) -> Manifest:
    _download(place, f"{name}/{MANIFEST}", _staged(root))
    manifest = read_manifest(_staged(root) / name)
    if manifest is None:
        raise _not_whole(place, name, f"{MANIFEST} is broken, or of a later version")
    return manifest


def _not_whole(place: HubPlace, name: str, reason: str) -> AstHfError:
    what = f"was downloaded from {place.repo_id!r} and cannot be resumed, {reason}"
    return error("E306", where=repr(name), what=what, fix="resume with auto, which looks on this machine")


def _staged(root: Path) -> Path:
    return staging_folder(root) / "hub"


def _download(place: HubPlace, pattern: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reach(
        lambda: snapshot_download(
            place.repo_id, revision=place.revision, token=place.token, allow_patterns=pattern, local_dir=folder
        ),
        where=f"{place.repo_id!r}, {pattern}",
        then="resume with hub again",
    )


def _fetch_best(root: Path, place: HubPlace, found: Path, numbered: list[str]) -> None:
    step = json.loads((found / STATE_FILE).read_text(encoding="utf-8")).get("best_global_step")
    best = checkpoint_folder(root, step) if step else found
    if best == found or find_corruption(best) is None:
        return
    if best.name not in numbered:
        what = f"is the best checkpoint of {place.repo_id!r}, which load_best_model_at_end needs, and is nowhere"
        fix = "resume without load_best_model_at_end; all_checkpoints is the hub_strategy that keeps it"
        raise error("E306", where=best.name, what=what, fix=fix)
    _fetched(root, place, best.name)
