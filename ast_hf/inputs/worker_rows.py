"""Rows that the workers of a data loader work on, for the message about a worker that is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection

import torch


class WorkerRows:
    """Row that each worker decodes at the moment, in memory that it shares with the main process.

    Args:
        workers: number of workers of the loader.
    """

    def __init__(self, workers: int) -> None:
        self._slots = torch.full((workers, 2), -1, dtype=torch.int64).share_memory_()  # process, row

    def note(self, row: int) -> None:
        """Store, in a worker, the row that it begins to decode, counted from 0."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.id < len(self._slots):
            self._slots[worker.id] = torch.tensor([os.getpid(), row])

    def rows(self, processes: Collection[int]) -> list[int]:
        """Return the last row of each of these processes; of those that have ended if it is empty, else of all."""
        slots = [(process, row) for process, row in self._slots.tolist() if row >= 0]
        running = {child.pid for child in multiprocessing.active_children()}
        lost = processes or [process for process, _ in slots if process not in running]
        return [row for process, row in slots if process in lost or not lost]


def ignore_ended_workers() -> None:
    """Switch off torch's exception in the main thread for each worker that ends.

    `torch.utils.data._utils.signal_handling` raises it anywhere, also while another one is handled.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def end_workers() -> None:
    """Kill all workers. At its end Python waits for them, and a stopped one does not obey SIGTERM."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
