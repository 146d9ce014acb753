"""Exceptions of other libraries that end a run although nothing is wrong with its code, as errors of ours."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

from ..continuing import continuation
from ..errors import AstHfError, error, short_reason
from ..inputs.clips import ClipInputs
from ..inputs.worker_rows import end_workers, ignore_ended_workers

#: Messages of gloo, NCCL and torch's store about a process that ended.
_LOST_PROCESS = re.compile(
    r"Dist(?:Backend|Network|Store)Error|gloo|ncclRemoteError|Connection (?:closed|reset) by peer",
    re.IGNORECASE,
)
#: torch's messages about workers that ended or gave no batch in time, with their process numbers.
_LOST_WORKER = re.compile(r"DataLoader (?:worker \(pid(?:\(s\))?:? ([\d, ]+)\)|timed out)")
#: How many rows a message lists.
_LISTED = 4


def lost_process(problem: Exception, step: int) -> AstHfError | None:
    """Return the E403 of an exception in the communication of processes, at `step` from 1; None for others."""
    if not _LOST_PROCESS.search(f"{type(problem).__name__}: {problem}"):
        return None
    what = f"the connection to another process is lost ({short_reason(problem)})"
    fix = f"look for its own message, then {continuation()}"
    return error("E403", where=f"step {step}", what=what, fix=fix)


def is_of_a_log(problem: BaseException) -> bool:
    """Return True for an OSError that a callback raised: TensorBoard, codecarbon or another tracker."""
    return isinstance(problem, OSError) and _passes_through(problem, "call_event")


def lost_worker(problem: Exception, loaded: Iterable[ClipInputs], step: int) -> AstHfError | None:
    """Return the E403 of a worker of a data loader that ended, or gave no batch in time; None for others.

    The other workers are ended too.

    Args:
        problem: the exception.
        loaded: clips of all loaders, whose workers note their rows.
        step: from 1, for a worker that has not noted a row.
    """
    if not _is_of_a_worker(problem):
        return None
    ignore_ended_workers()
    message = _LOST_WORKER.search(str(problem))
    processes = [int(number) for number in re.findall(r"\d+", message[1] or "")] if message else []
    rows = [
        inputs.describe(row)
        for inputs in dict.fromkeys(loaded)
        if inputs.worker_rows is not None
        for row in inputs.worker_rows.rows(processes)
    ]
    end_workers()
    when = "while it loaded this clip" if rows else "before it loaded a clip"
    reason = short_reason(problem) or type(problem).__name__
    what = f"a worker of the data loader was lost {when} ({reason})"
    fix = (
        "check that file, and the memory (dmesg; fewer training.dataloader_num_workers, data.cache=false), "
        f"then {continuation()}"
    )
    return error("E403", where="; ".join(rows[:_LISTED]) or f"step {step}", what=what, fix=fix)


def _is_of_a_worker(problem: Exception) -> bool:
    if isinstance(problem, RuntimeError):
        return bool(_LOST_WORKER.search(str(problem)))
    # it ended before its last batch arrived
    return isinstance(problem, (OSError, EOFError)) and _passes_through(problem, "_try_get_data")


def _passes_through(problem: BaseException, function: str) -> bool:
    """Return True if an exception was raised in a function of that name, or in one that it called."""
    return any(frame.f_code.co_name == function for frame, _ in traceback.walk_tb(problem.__traceback__))
