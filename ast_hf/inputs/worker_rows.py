"""Rows that the workers of a data loader work on, for the message about a worker that is lost."""

from __future__ import annotations

import os

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

    def rows(self, processes: list[int]) -> list[int]:
        """Return the last row of each of these processes, or of all workers if the list is empty."""
        slots = [(process, row) for process, row in self._slots.tolist() if row >= 0]
        return [row for process, row in slots if process in processes or not processes]
