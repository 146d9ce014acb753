"""Signals that stop a run: the step is finished and saved, then `RunStopped` ends the program.

Cloud machines, Slurm and Kubernetes send SIGTERM before they take a machine away, a closed terminal sends
SIGHUP, and Ctrl-C SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .processes import is_main_process

#: Signals that stop a run; Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name))
#: Seconds in which a second SIGINT belongs to the first: a terminal and a launcher may both send one.
_ECHO = 0.5


class RunStopped(KeyboardInterrupt, SystemExit):
    """A signal stopped a run. A program that does not catch it ends with the signal's exit code.

    Attributes:
        signal: the signal's number, for example `signal.SIGTERM`.
        exit_code: 128 and the number, as in a shell: 143 for SIGTERM, 129 for SIGHUP, 130 for SIGINT.
        command: the command that does the rest, if it is not the same one with `--resume auto`.
    """

    def __init__(
        self, number: int, text: str = "before the first step; nothing was saved", command: str = ""
    ) -> None:
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number
        self.command = command
        super().__init__(f"stopped by {self.signal.name} {text}")
        self.code = self.exit_code  # of SystemExit


class StopSignals:
    """State of the handlers that `stop_signals` installs.

    A signal raises `RunStopped` at once, or, while `is_deferring`, is stored in `received`, and the run stops at
    its next safe point. A second SIGINT raises at once.

    Attributes:
        received: number of the first signal; None before.
        is_deferring: as above.
        text: what is saved now, for the message of `RunStopped`.
        command: as in `RunStopped`.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_deferring = False
        self.text = ""
        self.command = ""
        self._time = 0.0
        self._previous: dict[int, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Begin a run: it stops at once for a signal, since nothing is trained yet."""
        self.text = "before the first step; nothing was saved"
        self.command = ""
        self.stop_now()

    def stop_now(self) -> None:
        """End the deferral, and raise `RunStopped` if a signal was stored."""
        self.is_deferring = False
        if self.received is not None:
            raise RunStopped(self.received, self.text, self.command)

    def install(self) -> None:
        """Install the handlers, except for ignored signals (`nohup`) and handlers that are not Python's."""
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous not in (signal.SIG_IGN, None):
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Install the earlier handlers again."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _handle(self, number: int, _: Any) -> None:
        if self.received is None:
            self.received = number
            self._time = time.monotonic()
            if not self.is_deferring:
                raise RunStopped(number, self.text, self.command)
            if is_main_process():
                _print_notice(number)
        elif number == signal.SIGINT and time.monotonic() - self._time > _ECHO:
            raise RunStopped(number, "at once; checkpoints written before are complete")


_active: StopSignals | None = None


def is_handling_signals() -> bool:
    """Return True within `stop_signals`."""
    return _active is not None


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle `SIGNALS` in this block, and restore the earlier handlers after it.

    Nested blocks share one state. Only the main thread can install handlers; a block in another one has a state
    that no signal changes.
    """
    global _active
    if threading.current_thread() is not threading.main_thread():
        yield StopSignals()
    elif _active is not None:
        yield _active
    else:
        _active = StopSignals()
        try:
            _active.install()
            yield _active
        finally:
            _active.restore()
            _active = None


def defer_stop() -> None:
    """Store signals from here on, until `stop_now` or the end of the block; the handlers may be missing."""
    if _active is not None and threading.current_thread() is threading.main_thread():
        _active.is_deferring = True


def _print_notice(number: int) -> None:
    """Print that a signal arrived; a handler must not use buffered streams, which may be in use."""
    name = signal.Signals(number).name
    text = f"\n{name}: finishing this step, then saving. SIGINT (Ctrl-C) stops at once.\n"
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def protect_worker(init: Callable[[int], None] | None, worker: int) -> None:
    """Start a data loader's worker: ignore `SIGNALS` of others than the process that started it, then `init`.

    Ctrl-C and Slurm signal all processes of a run. A worker that ended would take away the batches of the step
    that the run still finishes.
    """
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    else:  # macOS does not tell who sent a signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if init is not None:
        init(worker)


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid != parent:
        pass
    os._exit(0)
