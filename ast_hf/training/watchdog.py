"""Watchdog of a distributed run: a process that is stopped, hangs or is lost ends the others with a message (E403).

A collective of gloo or NCCL waits for a missing process, for ever or for half an hour, and does not say which
one it is. Here each process counts up a key in the store of the process group, from a thread, so that long work
is no silence. Another thread, which never waits for the network, compares how long each count has not changed.
Only the clock of the watching process is used.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..continuing import continuation
from ..errors import AstHfError, error
from .checkpoints.sealing import checkpoints

#: Exit code of a process that ends because of another one: EX_OSERR of sysexits.h.
EXIT_STOPPED = 71
#: Beats in the time after which a process counts as silent, and the longest time between two, in seconds.
_BEATS = 10
_LONGEST_INTERVAL = 5.0


class Watchdog(TrainerCallback):
    """Ends this process with E403 and code 71 if another one is silent, or if no process finishes a step.

    Args:
        seconds: after which a process without a sign of life counts as stopped or lost.
        step_seconds: after which a run whose processes live, but none of which makes progress, counts as
            hanging. It counts from the end of the first step, which may compile for long.
        root: the run's output folder, whose newest checkpoint is named.
    """

    def __init__(self, seconds: float, step_seconds: float, root: Path) -> None:
        self.seconds = seconds
        self.step_seconds = step_seconds
        self.root = root
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self.is_busy = False
        self._interval = min(seconds / _BEATS, _LONGEST_INTERVAL)
        self._stopped = threading.Event()
        self._step = 0
        self._progress = 0
        self._is_armed = False
        self._seen: dict[int, dict[str, Any]] = {}
        self._changed: dict[int, float] = {}
        self._exchanged = self._progressed = time.monotonic()

    def start(self) -> None:
        """Start both threads; they end with the process."""
        for task in (self._exchange_beats, self._judge):
            threading.Thread(target=task, daemon=True, name=f"ast_hf-{task.__name__}").start()
        atexit.register(self._say_goodbye)

    # ---------------------------------------------------------------- progress of this process

    def _count(self, state: Any) -> None:
        self._step = state.global_step
        self._progress += 1
        self._progressed = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)
        self._is_armed = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count(state)
        self._is_armed = False

    # ---------------------------------------------------------------- beats

    def _exchange_beats(self) -> None:
        """Write this process's count, and read those of the others, until the end."""
        store = None
        beat = 0
        while not self._stopped.is_set():
            beat += 1
            try:
                store = store or _own_connection(self.seconds)
                store.set(str(self.rank), self._state(beat))
                for rank in range(self.size):
                    if rank != self.rank and store.check([str(rank)]):
                        self._note(rank, json.loads(store.get(str(rank))))
                self._exchanged = time.monotonic()
            except (RuntimeError, ValueError):  # torch's errors of a store are RuntimeErrors
                store = None
            self._stopped.wait(self._interval)

    def _state(self, beat: int) -> str:
        values = {"beat": beat, "step": self._step, "progress": self._progress}
        return json.dumps({**values, "place": f"pid {os.getpid()} on {socket.gethostname()}"})

    def _note(self, rank: int, state: dict[str, Any]) -> None:
        if self._seen.get(rank) != state:
            self._seen[rank] = state
            self._changed[rank] = time.monotonic()

    def _say_goodbye(self) -> None:
        """Tell the others that this process ended as planned; one that failed stays silent."""
        self._stopped.set()
        if not self.is_busy:
            with suppress(RuntimeError):
                _own_connection(self._interval).set(str(self.rank), json.dumps({"ended": True}))

    # ---------------------------------------------------------------- judging

    def _judge(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            if now - before > self._interval + self.seconds / 2:  # this process was stopped itself
                self._exchanged = self._progressed = now
                self._changed = dict.fromkeys(self._changed, now)
            before = now
            problem = self._find_problem(now)
            if problem is not None:
                self._end(problem)

    def _find_problem(self, now: float) -> AstHfError | None:
        """Return the E403 of a silent process, of a silent store, or of a run without progress."""
        for rank, changed in list(self._changed.items()):
            if now - changed > self.seconds and "ended" not in self._seen[rank]:
                return self._failure(
                    f"{self._describe(rank)} has given no sign of life for {self.seconds:g} s"
                )
        if now - self._exchanged > self.seconds:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            what = f"the store of the processes at {place}, of the launcher or of rank 0, has not answered"
            return self._failure(f"{what} for {self.seconds:g} s")
        if self._is_armed and now - self._progressed > self.step_seconds:
            late = min((self._progress, self.rank), *self._progress_of_others())[1]
            what = (
                f"no process has made progress for {self.step_seconds:g} s; {self._describe(late)} is behind"
            )
            return self._failure(what)
        return None

    def _progress_of_others(self) -> list[tuple[int, int]]:
        return [(state["progress"], rank) for rank, state in self._seen.items() if "progress" in state]

    def _describe(self, rank: int) -> str:
        place = self._seen.get(rank, {}).get("place", f"pid {os.getpid()} on {socket.gethostname()}")
        return f"rank {rank} of {self.size} ({place})"

    def _failure(self, what: str) -> AstHfError:
        newest = checkpoints(self.root)
        kept = f"{newest[-1].name} is kept" if newest else "no checkpoint was written yet"
        fix = f"check that process and its machine (dmesg, memory, network), then {continuation()}"
        where = f"step {self._step + 1}, rank {self.rank}"
        return error("E403", where=where, what=f"{what}; {kept}", fix=fix)

    def _end(self, problem: AstHfError) -> None:
        """Print where this process waits, and the problem, and end it at once: its main thread cannot."""
        with suppress(OSError, ValueError):
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        os.write(2, f"{problem}\n".encode())
        os._exit(EXIT_STOPPED)


def _own_connection(seconds: float) -> torch.distributed.Store:
    """Return a connection to the store of the process group. The group's own is blocked while it waits."""
    place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    limit = timedelta(seconds=max(seconds, 1.0))
    store = torch.distributed.TCPStore(*place, is_master=False, wait_for_workers=False, timeout=limit)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(f"ast_hf/watchdog/{attempt}", store)


def can_watch() -> bool:
    """Return True in a process of a group of several whose store can be reached by others."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return False
    return "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ
