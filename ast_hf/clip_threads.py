"""Threads over the clips of a batch on the CPU: one clip a thread, which computes it without further threads.

The operations of one clip are too short to be divided: two threads within them are slower than one on a busy
machine. Clips are independent, and neither torch nor numpy holds Python's lock while it computes.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch.utils.data import get_worker_info

#: Frames in a batch from which threads are used: 40 s, about 3 ms of one thread (AMD EPYC, AVX-512). Handing
#: clips over takes about 0.1 ms.
FEWEST_FRAMES = 4_000
#: Seconds that a new thread may take to start.
_START_SECONDS = 10.0


class _Pool:
    """The threads of this process, made at the first large batch and kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def submit(self, work: Callable[[], None], threads: int) -> list[Future[None]]:
        """Run `work` on several threads at once; an empty list if the system has no further threads."""
        with self._lock:
            if self._size < threads and not self._grow(threads):
                return []
            assert self._executor is not None
            return [self._executor.submit(work) for _ in range(threads)]

    def _grow(self, threads: int) -> bool:
        """Replace the threads by more of them; return False if the system has too few."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)  # after the work that they have
        within = torch.get_num_threads()
        executor = ThreadPoolExecutor(threads, "ast_hf-clips", initializer=_compute_alone)
        started = threading.Barrier(threads + 1)
        try:
            for _ in range(threads):
                executor.submit(started.wait, _START_SECONDS)
            started.wait(_START_SECONDS)
        except RuntimeError:  # no further thread, or a broken barrier
            started.abort()
            executor.shutdown(wait=False)
            self._executor = None
            self._size = 0
            return False
        finally:
            # A thread's own setting is also the one of threads that do not exist yet: set that back.
            torch.set_num_threads(within)
        self._executor = executor
        self._size = threads
        return True


def _compute_alone() -> None:
    """Let this thread compute without further threads."""
    torch.get_num_threads()  # a thread's first use sets its number to the process's
    torch.set_num_threads(1)


_pool = _Pool()


def _forget_threads() -> None:
    """Forget the threads of the parent, which a forked process does not have."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def for_each_clip(work: Callable[[int], None], frames: list[int]) -> None:
    """Call `work` with the index of each clip, on several threads if the batch is large enough.

    At most `torch.get_num_threads()` threads are used. A worker of a data loader uses none: the loader has
    one worker for each processor already. `work` runs in the caller's inference mode, and its errors are raised.

    Args:
        work: computes one clip; its results must not depend on the thread.
        frames: number of log-mel frames of each clip.
    """
    count = len(frames)
    threads = min(torch.get_num_threads(), count)
    if threads < 2 or sum(frames) < FEWEST_FRAMES or get_worker_info() is not None:
        _work_off([deque(range(count))], work)
        return
    ends = [count * number // threads for number in range(threads + 1)]
    # Neighbouring clips are one thread's: threads that write to one page of new memory wait for each other.
    left = [deque(range(first, last)) for first, last in itertools.pairwise(ends)]
    inference = torch.is_inference_mode_enabled()
    numbers = itertools.count()

    def run() -> None:
        own = next(numbers) % threads
        with torch.inference_mode(inference):
            _work_off(left[own:] + left[:own], work)

    futures = _pool.submit(run, threads)
    try:
        wait(futures)
        for future in futures:
            future.result()
        _work_off(left, work)  # without threads
    finally:
        for part in left:
            part.clear()  # an interrupted call leaves no work to its threads


def _work_off(left: list[deque[int]], work: Callable[[int], None]) -> None:
    """Take indices and call `work` with them until none is left: the first part's, then those of other threads."""
    first, *others = left
    for part, take in [(first, first.popleft), *((other, other.pop) for other in others)]:
        while part:
            try:
                index = take()
            except IndexError:  # another thread was faster
                break
            work(index)
