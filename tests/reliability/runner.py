"""Running of one call in a forked process, with limits of time and memory, and the verdict on its outcome."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .cases import Right, codes_of

#: Address space that a call may add before an allocation fails, in bytes.
_ADDRESS_SPACE = 6 << 30

#: Verdicts that a row of ours may have.
GOOD = ("right", "clear", "warned")


@dataclass
class Outcome:
    """What a call did.

    Attributes:
        kind: `"value"`, `"error"`, or `"unbounded"` for a call over its limits or a process that died.
        text: the value or the error, on one line.
        code: the code of an error of ours, `""` for any other.
        is_right: whether the value passed the check of the row.
        warned: codes of the warnings of ours.
        seconds: wall time.
        megabytes: growth of the largest resident set.
    """

    kind: str
    text: str
    code: str = ""
    is_right: bool = False
    warned: list[str] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0

    def verdict(self, right: Right) -> str:
        """Return `right`, `clear` (the expected code), `warned`, `error` (any other), `silent` or `unbounded`."""
        codes = codes_of(right)
        if self.kind == "unbounded":
            return "unbounded"
        if self.kind == "error":
            return "clear" if self.code in codes else "error"
        if codes & set(self.warned):
            return "warned"
        return "right" if self.is_right else "silent"


def run(
    call: Callable[[], Any], right: Right, folder: Path, *, seconds: float = 30.0, megabytes: float = 1_000.0
) -> Outcome:
    """Run `call` in a forked process and return its outcome; paths below `folder` are shortened in texts."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(call, right, folder, sender))
    started = time.monotonic()
    process.start()
    sender.close()
    outcome = Outcome("unbounded", f"no answer after {seconds:g} s")
    try:
        if receiver.poll(seconds):
            outcome = receiver.recv()
    except EOFError:
        process.join(5)
        outcome = Outcome("unbounded", f"the process died, exit code {process.exitcode}")
    process.kill()
    process.join()
    outcome.seconds = time.monotonic() - started
    if outcome.megabytes > megabytes:
        outcome = Outcome("unbounded", f"{outcome.megabytes:,.0f} MB: {outcome.text}")
    return outcome


def _child(call: Callable[[], Any], right: Right, folder: Path, sender: Connection) -> None:
    _silence()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_SPACE, size + _ADDRESS_SPACE))
    before = _peak()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _outcome(call, right)
    outcome.text = _shortened(outcome.text, folder)
    outcome.warned = re.findall(r"\[AST-(W\d{3})\]", " ".join(str(warning.message) for warning in caught))
    outcome.megabytes = _peak() - before
    sender.send(outcome)
    sender.close()
    os._exit(0)


def _outcome(call: Callable[[], Any], right: Right) -> Outcome:
    try:
        value = call()
        is_right = callable(right) and bool(right(value))
        return Outcome("value", _described(value), is_right=is_right)
    except MemoryError as problem:
        return Outcome("unbounded", f"MemoryError: {problem}")
    except BaseException as problem:
        code = getattr(problem, "code", "")
        return Outcome(
            "error", f"{type(problem).__name__}: {problem}", code=code if isinstance(code, str) else ""
        )


def _silence() -> None:
    """Send standard output and error of this process nowhere: libraries print on them."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"array of shape {tuple(shape)}"
    return repr(value)


def _shortened(text: str, folder: Path, limit: int = 300) -> str:
    line = " ".join(text.replace(str(folder), "").split())
    # Addresses and the names of temporary files differ from run to run.
    line = re.sub(r"0x[0-9a-f]{6,}", "0x...", line)
    return line if len(line) <= limit else line[: limit - 3] + "..."
