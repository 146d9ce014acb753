"""Sealed checkpoints on the Hub: pushed in the background of training, and downloaded to resume elsewhere."""

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

from ...downloads import verify_local_download
from ...errors import AstHfError, AstHfWarning, error, warning_text
from ...hub.access import PUBLISHING, READING, check_name, reach
from ...hub.cleaning import check_secrets, cut_paths_in_json
from ...hub.publishing import open_repository, send
from ...weights.reading import MODEL_FILES
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

#: Folder of a run's newest checkpoint on the Hub; the name is transformers'.
LAST = "last-checkpoint"
#: Folder next to the checkpoints with links to those being pushed, which may be removed meanwhile.
_SENDING = ".sending"


class HubPlace(NamedTuple):
    """Repository that a run publishes to; arguments of `push_folder`."""

    repo_id: str  # `user/name`, or `name` under the token's account
    revision: str | None = None  # branch, None for `main`
    private: bool | None = None
    token: str | None = None

    def create(self, patience: float = READING) -> HubPlace:
        """Create the repository unless it exists, and return the place with its full name.

        `patience` is that of `access.reach`, short by default: training waits for it.
        """
        name = open_repository(
            self.repo_id, private=self.private, revision=self.revision, token=self.token, patience=patience
        )
        return self._replace(repo_id=name)


class CheckpointPushes:
    """Pushes sealed checkpoints to the Hub, one after the other, in the background of training.

    Failures never stop training or later pushes; the first of several in a row is a warning (W701). The thread
    is a daemon, so that a run that ends does not wait for the network; threads of an executor
    (`HfApi.run_as_future`) are joined at exit.

    Args:
        place: repository to push to.
        strategy: `"every_save"` pushes the model alone; `"checkpoint"` also the complete checkpoint, as
            `last-checkpoint`; `"all_checkpoints"` the same as `checkpoint-N`.
        every: push each one; otherwise only the newest of those saved during a push.
    """

    def __init__(self, place: HubPlace, strategy: str, *, every: bool = False) -> None:
        self.place = place
        self.strategy = strategy
        self.every = every
        self._waiting: deque[Path] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_open = False
        self._has_warned = False

    def push(self, checkpoint: Path) -> None:
        """Push the current contents of a sealed checkpoint in the background."""
        with self._lock:
            self._drop_superseded(checkpoint)
            try:
                self._waiting.append(_link_files(checkpoint))
            except OSError as problem:
                self._warn(f"Its files cannot be linked ({problem.strerror})", checkpoint)
            if self._thread is None:
                self._thread = threading.Thread(target=self._push_waiting, daemon=True)
                self._thread.start()

    def finish(self, timeout: float | None = None) -> bool:
        """Wait until all pushes have succeeded or failed; return False if `timeout` seconds pass before."""
        thread = self._thread  # the thread itself resets the attribute
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _drop_superseded(self, checkpoint: Path) -> None:
        """Drop waiting checkpoints that a newer one replaces, and the links of a killed run."""
        superseded = [] if self.every else list(self._waiting)
        if self._thread is None:
            shutil.rmtree(checkpoint.parent / _SENDING, ignore_errors=True)
        else:
            for path in superseded:
                shutil.rmtree(path, ignore_errors=True)
        self._waiting = deque(path for path in self._waiting if path not in superseded)

    def _push_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                links = self._waiting.popleft()
            self._push_one(links)
            with self._lock, suppress(OSError):
                shutil.rmtree(links, ignore_errors=True)
                links.parent.rmdir()  # fails while another one waits in it

    def _push_one(self, links: Path) -> None:
        try:
            if not self._is_open:
                self.place = self.place.create(PUBLISHING)
                self._is_open = True
            send_checkpoint(links, self.place, self.strategy)
            self._has_warned = False
        except Exception as problem:
            self._warn(str(problem), links)

    def _warn(self, problem: str, checkpoint: Path) -> None:
        if not self._has_warned:
            what = f"was not pushed; training continues, and the next checkpoint will be pushed. {problem}"
            warnings.warn(warning_text("W701", where=checkpoint.name, what=what), AstHfWarning, stacklevel=2)
        self._has_warned = True


def _link_files(checkpoint: Path) -> Path:
    """Link the files of a checkpoint into the folder `_SENDING`, where they stay until they are pushed."""
    folder = checkpoint.parent / _SENDING / checkpoint.name
    shutil.rmtree(folder, ignore_errors=True)
    for path in checkpoint.rglob("*"):
        target = folder / path.relative_to(checkpoint)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
    return folder


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copy2(path, target)  # a file system without links


def send_checkpoint(checkpoint: Path, place: HubPlace, strategy: str) -> None:
    """Push a sealed checkpoint in one commit; see `CheckpointPushes` for the arguments.

    Raises:
        AstHfError: as `hub.publishing.send`; E705 for a file that holds a secret.
    """
    files = _published_files(checkpoint)
    uploads = {
        name: content
        for name, content in files.items()
        # in the root of the repository too: a checkpoint can be used while it is trained
        if any(fnmatchcase(name, part) for part in MODEL_FILES)
    }
    folder = {"every_save": "", "checkpoint": LAST, "all_checkpoints": checkpoint.name}[strategy]
    stale: list[str] = []
    if folder:
        uploads |= {f"{folder}/{name}": content for name, content in files.items()}
        stale = [name for name in _list_folder(place, folder) if name not in uploads]
    for name, content in (files if folder else uploads).items():
        check_secrets(content, f"{checkpoint.name}/{name}")
    message = f"Training in progress, step {step_of(checkpoint)}"
    send(uploads, place.repo_id, message=message, delete=stale, revision=place.revision, token=place.token)


def _published_files(checkpoint: Path) -> dict[str, Path | bytes]:
    """Return a checkpoint's files without local paths in them, and the manifest of these files."""
    paths = [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]
    files: dict[str, Path | bytes] = {path.relative_to(checkpoint).as_posix(): path for path in paths}
    manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        path = checkpoint / entry["name"]
        if path.suffix != ".json":
            continue
        text, count = cut_paths_in_json(path.read_text(encoding="utf-8"))
        if count:
            content = text.encode()
            files[entry["name"]] = content
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**files, MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}


def _list_folder(place: HubPlace, folder: str) -> list[str]:
    """Return the files in a folder on the Hub; empty if the folder does not exist."""
    api = HfApi(token=place.token)

    def request() -> list[str]:
        try:
            entries = api.list_repo_tree(place.repo_id, folder, recursive=True, revision=place.revision)
            return [entry.path for entry in entries if hasattr(entry, "size")]
        except EntryNotFoundError:
            return []

    return reach(request, where=repr(place.repo_id), patience=PUBLISHING)


# ---------------------------------------------------------------- downloading


def download_checkpoint(root: Path, place: HubPlace, *, with_best: bool = False) -> Path:
    """Download the newest checkpoint that a run pushed to the Hub into a run's folder, as `checkpoint-N`.

    Args:
        root: the run's output folder.
        place: repository of the run.
        with_best: also download the best checkpoint, which `load_best_model_at_end` needs.

    Returns:
        The checkpoint, verified by its manifest.

    Raises:
        AstConfigError: E306 if there is none, if it is not intact, or if the best one was removed; E702 if
            the repository does not exist.
        AstRunError: E701 and E704 if it cannot be downloaded; E706 if a file differs from the Hub's.
    """
    place = place._replace(repo_id=_complete_name(place))
    api = HfApi(token=place.token)
    where = repr(place.repo_id)
    commit = reach(lambda: api.model_info(place.repo_id, revision=place.revision).sha, where=where)
    pinned = place._replace(revision=commit)  # a push meanwhile has no effect
    paths = reach(lambda: api.list_repo_files(place.repo_id, revision=commit), where=where)
    names = [path.removesuffix(f"/{MANIFEST}") for path in paths if path.endswith(f"/{MANIFEST}")]
    steps = {name: step_of(Path(name)) for name in names}
    numbered = sorted((name for name in names if steps[name] >= 0), key=lambda name: steps[name])
    candidates = [name for name in names if name == LAST] + numbered[-1:]
    if not candidates:
        what = f"holds no {LAST} and no checkpoint-N with a {MANIFEST}"
        fix = "train with --set training.hub_strategy=checkpoint, or resume with auto, from this machine"
        raise error("E306", where=where, what=what, fix=fix, detail="missing")
    newest = _fetch(root, pinned, max(candidates, key=lambda name: _fetch_manifest(root, pinned, name).step))
    _warn_of_newer(root, newest)
    if with_best:
        _fetch_best(root, pinned, newest, numbered)
    return newest


def _warn_of_newer(root: Path, downloaded: Path) -> None:
    newer = [path for path in checkpoints(root) if step_of(path) > step_of(downloaded)]
    intact = [path for path in newer if find_corruption(path) is None]
    if intact:
        what = f"is older than {intact[-1].name} in this folder; to continue from that, resume with auto"
        warnings.warn(warning_text("W405", where=downloaded.name, what=what), AstHfWarning, stacklevel=3)


def _complete_name(place: HubPlace) -> str:
    check_name(place.repo_id)
    if "/" in place.repo_id:
        return place.repo_id
    user = reach(lambda: HfApi(token=place.token).whoami()["name"], where=repr(place.repo_id))
    return f"{user}/{place.repo_id}"


def _fetch(root: Path, place: HubPlace, name: str) -> Path:
    """Download, verify and rename a checkpoint, unless the same one is in the folder."""
    manifest = _fetch_manifest(root, place, name)
    target = checkpoint_folder(root, manifest.step)
    if read_manifest(target) == manifest and find_corruption(target) is None:
        return target
    _download(place, f"{name}/*", _download_folder(root))
    staged = _download_folder(root) / name
    reason = find_corruption(staged)
    if reason is not None:
        raise _corrupt_download(place, name, reason)
    staged.replace(staging_folder(root) / target.name)
    put_in_place(root, target.name)
    return target


def _fetch_manifest(root: Path, place: HubPlace, name: str) -> Manifest:
    _download(place, f"{name}/{MANIFEST}", _download_folder(root))
    manifest = read_manifest(_download_folder(root) / name)
    if manifest is None:
        raise _corrupt_download(place, name, f"{MANIFEST} is broken, or of a later version")
    return manifest


def _corrupt_download(place: HubPlace, name: str, reason: str) -> AstHfError:
    what = f"was downloaded from {place.repo_id!r} and cannot be resumed, {reason}"
    fix = "resume with auto, from this machine"
    return error("E306", where=repr(name), what=what, fix=fix, detail="unreadable")


def _download_folder(root: Path) -> Path:
    return staging_folder(root) / "hub"


def _download(place: HubPlace, pattern: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reach(
        lambda: snapshot_download(
            place.repo_id,
            revision=place.revision,
            token=place.token,
            allow_patterns=pattern,
            local_dir=folder,
        ),
        where=f"{place.repo_id!r}, {pattern}",
        then="resume with hub again",
    )
    verify_local_download(folder)


def _fetch_best(root: Path, place: HubPlace, newest: Path, numbered: list[str]) -> None:
    step = json.loads((newest / STATE_FILE).read_text(encoding="utf-8")).get("best_global_step")
    best = checkpoint_folder(root, step) if step else newest
    if best == newest or find_corruption(best) is None:
        return
    if best.name not in numbered:
        what = f"the best checkpoint of {place.repo_id!r}, needed by load_best_model_at_end, was removed"
        fix = "resume without load_best_model_at_end; hub_strategy all_checkpoints keeps it"
        raise error("E306", where=best.name, what=what, fix=fix, detail="missing")
    _fetch(root, place, best.name)
