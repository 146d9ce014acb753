"""One run at a time uses an output folder, by whatever path, and locks of runs that are gone are taken over."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ast_hf import AstConfigError, AstHfError, AstHfWarning, AstRunError
from ast_hf.hub.published_files import PUBLISHED
from ast_hf.training import cross_validate, finetune, finish, prepare
from ast_hf.training.checkpoints import folder_lock
from ast_hf.training.checkpoints.folder_lock import LOCK_FILE, FolderLock
from training.runs import recipe


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder in another process; yield its pid."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        lock = FolderLock(folder).acquire()
        os.write(write, b".")
        time.sleep(60)
        os._exit(lock._shared is None)
    os.read(read, 1)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):  # the test has killed it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """Hold the lock of `tmp_path / "out"` in another process; return its pid."""
    with held(tmp_path / "out") as pid:
        yield pid


def test_another_process_is_refused_by_any_path(
    holder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("out")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "out", Path("out"), tmp_path / "link", tmp_path / "x" / ".." / "out"):
        with pytest.raises(
            AstRunError, match=rf"E402.*in use by another run, pid {holder} on .*--resume auto"
        ):
            FolderLock(path).acquire()
    assert json.loads((tmp_path / "out" / LOCK_FILE).read_text())["pid"] == holder


@pytest.mark.parametrize("options", [{}, {"resume_from_checkpoint": "auto"}, {"overwrite": True}], ids=str)
def test_a_run_is_refused_before_data_are_read(
    holder: int, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ast_hf.training.preparing.read_splits", lambda *_: pytest.fail("read"))
    for begin in (finetune, prepare):
        if begin is finetune or "resume_from_checkpoint" not in options:
            with pytest.raises(AstRunError, match="E402"):
                begin(recipe(tmp_path / "clips"), tmp_path / "out", **options)


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, holder: int) -> None:
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with pytest.warns(AstHfWarning, match=rf"W410.*gone \(pid {holder} on"), FolderLock(tmp_path / "out"):
        assert json.loads((tmp_path / "out" / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "out" / LOCK_FILE).exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderLock(tmp_path / "out").acquire().release()


def test_a_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Data loader workers outlive a killed run by seconds."""
    lock = FolderLock(tmp_path).acquire()
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    try:
        lock.release()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        FolderLock(tmp_path).acquire().release()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_one_thread_shares_a_lock_and_another_is_refused(tmp_path: Path) -> None:
    first = FolderLock(tmp_path).acquire()
    second = FolderLock(tmp_path).acquire()
    first.release()
    first.release()
    assert (tmp_path / LOCK_FILE).exists()
    caught: list[AstHfError] = []

    def other() -> None:
        try:
            FolderLock(tmp_path).acquire()
        except AstHfError as problem:
            caught.append(problem)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert [problem.code for problem in caught] == ["E402"]
    second.release()
    assert not (tmp_path / LOCK_FILE).exists()


def test_an_abandoned_lock_is_released_with_its_object(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path).acquire()
    del lock
    assert not (tmp_path / LOCK_FILE).exists()


def test_folders_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AstConfigError, match=r"E306.*is a file"):
        FolderLock(tmp_path / "file").acquire()
    with pytest.raises(AstRunError, match=r"E401.*cannot be written"):
        FolderLock(tmp_path / "file" / "below").acquire()
    (tmp_path / "folder" / LOCK_FILE).mkdir(parents=True)
    with pytest.raises(AstRunError, match=rf"E401.*{LOCK_FILE}.*remove or rename what has that name"):
        FolderLock(tmp_path / "folder").acquire()

    def read_only(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(AstRunError, match=r"E401.*Read-only.*make that disk writable"):
        FolderLock(tmp_path).acquire()


def test_the_folder_is_removed_if_nothing_was_written(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a" / "out"):
        assert (tmp_path / "a" / "out").is_dir()
    assert not (tmp_path / "a" / "out").exists()
    (tmp_path / "kept").mkdir()
    FolderLock(tmp_path / "kept").acquire().release()
    assert (tmp_path / "kept").is_dir()


def record(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**folder_lock._owner(), "pid": 1, "host": "elsewhere", **changes}))


def test_another_machine_is_watched_for_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk locks for one machine only."""
    monkeypatch.setattr(folder_lock, "_WATCH", 0.5)
    path = tmp_path / LOCK_FILE
    record(path, boot="another")
    with pytest.warns(AstHfWarning, match=r"W410.*on 'elsewhere'"):
        FolderLock(tmp_path).acquire().release()
    record(path, boot="another")
    threading.Timer(0.2, lambda: os.utime(path)).start()
    with pytest.raises(AstRunError, match=r"E402.*pid 1 on 'elsewhere'"):
        FolderLock(tmp_path).acquire()


def test_disks_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file decides: its process lives, its pid was recycled, or another run writes itself into it."""
    import fcntl

    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    path = tmp_path / LOCK_FILE
    record(path, pid=os.getppid(), start=folder_lock._process_start(os.getppid()))
    with pytest.raises(AstRunError, match="E402"):
        FolderLock(tmp_path).acquire()
    record(path, pid=os.getppid(), start="1")
    with pytest.warns(AstHfWarning, match="W410"):
        FolderLock(tmp_path).acquire().release()
    monkeypatch.setattr(time, "sleep", lambda _: record(path))
    with pytest.raises(AstRunError, match="E402"):
        FolderLock(tmp_path).acquire()


@pytest.mark.parametrize("text", ["", "{", "[1]", "\0" * 10])
def test_a_broken_file_does_not_block(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    FolderLock(tmp_path).acquire().release()


def test_only_the_main_process_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    FolderLock(tmp_path / "out").acquire()
    assert not (tmp_path / "out").exists()


def test_a_prepared_run_holds_the_lock_until_it_is_finished(clips: Path, tmp_path: Path) -> None:
    run = prepare(recipe(clips, max_steps=1), tmp_path / "out")
    assert (tmp_path / "out" / LOCK_FILE).exists()
    run.trainer.train()
    assert (tmp_path / "out" / LOCK_FILE).exists()
    finish(run)
    assert not (tmp_path / "out" / LOCK_FILE).exists()


def test_a_notebook_can_run_again(clips: Path, tmp_path: Path) -> None:
    """The same thread replaces its own run, also after an interruption."""
    abandoned = prepare(recipe(clips, max_steps=1), tmp_path / "out")
    again = prepare(recipe(clips, max_steps=1), tmp_path / "out")
    again.trainer.train()
    assert abandoned.trainer.folder_lock is not None


def test_a_prepared_run_that_is_dropped_releases_the_lock(clips: Path, tmp_path: Path) -> None:
    """At once: the trainer itself refers to itself, and lives until the next garbage collection."""
    trainer = prepare(recipe(clips, max_steps=1), tmp_path / "out").trainer
    assert not (tmp_path / "out" / LOCK_FILE).exists()
    trainer.train()
    assert not (tmp_path / "out" / LOCK_FILE).exists()


def test_a_run_whose_lock_was_removed_stops_if_another_one_began(clips: Path, tmp_path: Path) -> None:
    """Before it writes anything into the folder that is now another run's; without another one it continues."""
    folder = tmp_path / "out"
    run = prepare(recipe(clips, max_steps=2, save_strategy="steps", save_steps=1), folder)
    (folder / LOCK_FILE).unlink()
    run.trainer.train()
    assert (folder / LOCK_FILE).exists()
    (folder / LOCK_FILE).unlink()
    with held(folder) as pid, pytest.raises(AstRunError, match=rf"E402.*pid {pid} on"):
        finish(run)
    assert not (folder / "model.safetensors").exists()


def test_folds_are_refused_before_the_first_one_is_trained(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(clips, {"data": {"random_folds": 2}}, max_steps=-1, num_train_epochs=1)
    monkeypatch.setattr("ast_hf.training.cross_validation.finetune", None)
    with held(tmp_path / "out" / "fold-2"), pytest.raises(AstRunError, match=r"E402.*fold-2"):
        cross_validate(plan, tmp_path / "out", folds=2, resume="auto")
    assert not (tmp_path / "out" / "fold-1").exists()


def test_the_lock_is_never_published() -> None:
    assert not any(LOCK_FILE in pattern for pattern in PUBLISHED)


def test_a_folder_that_is_renamed_or_removed(tmp_path: Path) -> None:
    """While an abandoned run of this process holds its lock."""
    first = FolderLock(tmp_path / "a").acquire()
    (tmp_path / "a").rename(tmp_path / "b")
    second = FolderLock(tmp_path / "b").acquire()
    second.release()
    shutil.rmtree(tmp_path / "b")
    third = FolderLock(tmp_path / "b").acquire()
    assert (tmp_path / "b" / LOCK_FILE).exists()
    first.release()
    assert (tmp_path / "b" / LOCK_FILE).exists()
    third.release()
    assert not (tmp_path / "b").exists()
