"""Threads over the clips of a batch: equal results, errors and warnings in order, and no thread where none is due."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ast_hf import ASTFeatureExtractor, clip_threads
from ast_hf.errors import AstHfError

RANDOM = np.random.default_rng(5)
#: Clips of 2 to 10 s, 56 s together.
CLIPS = [
    (0.1 * RANDOM.standard_normal(16_000 * seconds)).astype(np.float32) for seconds in (10, 2, 9, 10, 3) * 2
]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def features(clips: list[np.ndarray], **options: Any) -> np.ndarray:
    return ASTFeatureExtractor()(clips, 16_000, return_tensors="np", **options)["input_values"]


def names(count: int, frames: int) -> set[str]:
    """Return the names of the threads that take `count` clips of some frames."""
    seen = set()
    clip_threads.for_each_clip(lambda _: seen.add(threading.current_thread().name), [frames] * count)
    return seen


def test_threads_change_no_bit(two_threads: None) -> None:
    together = features(CLIPS)
    torch.set_num_threads(1)
    assert np.array_equal(together, features(CLIPS))
    assert np.array_equal(together, np.concatenate([features([clip]) for clip in CLIPS]))


def test_ragged_batches_and_inference_mode_work_with_threads(two_threads: None) -> None:
    extractor = ASTFeatureExtractor()
    with torch.inference_mode():
        rows = extractor(CLIPS, 16_000, padding=False)["input_values"]
    assert [len(row) for row in rows] == [998, 198, 898, 998, 298] * 2
    assert np.array_equal(rows[3], features([CLIPS[3]], padding=False)[0])


def test_large_batches_use_the_pool_and_small_ones_do_not(two_threads: None) -> None:
    own = threading.current_thread().name
    assert own not in names(8, 1000)
    assert names(3, 1000) == {own}
    assert names(1, 100_000) == {own}
    torch.set_num_threads(1)
    assert names(8, 1000) == {own}


def test_each_thread_computes_alone_and_the_process_keeps_its_number(two_threads: None) -> None:
    seen = []
    clip_threads.for_each_clip(lambda _: seen.append(torch.get_num_threads()), [1000] * 8)
    assert seen == [1] * 8
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_at_most_the_threads_of_torch_work_at_once(two_threads: None) -> None:
    torch.set_num_threads(4)
    names(8, 1000)  # makes four threads
    torch.set_num_threads(2)
    at_once = []
    running: set[str] = set()

    def work(_: int) -> None:
        running.add(threading.current_thread().name)
        at_once.append(len(running))
        running.discard(threading.current_thread().name)

    clip_threads.for_each_clip(work, [1000] * 200)
    assert max(at_once) <= 2


@pytest.mark.parametrize("slow", [0, 1, 7])
def test_each_clip_is_taken_once_and_a_thread_helps_the_others(two_threads: None, slow: int) -> None:
    """The clip that is slow ends after all others were taken."""
    taken = []
    all_taken = threading.Event()

    def work(index: int) -> None:
        taken.append(index)
        if len(taken) == 8:
            all_taken.set()
        if index == slow:
            assert all_taken.wait(5.0)

    clip_threads.for_each_clip(work, [1000] * 8)
    assert sorted(taken) == list(range(8))


def test_an_error_of_the_work_is_raised_and_the_pool_works_on(two_threads: None) -> None:
    def work(index: int) -> None:
        if index == 3:
            raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        clip_threads.for_each_clip(work, [1000] * 8)
    assert np.isfinite(features(CLIPS)).all()


def test_errors_and_warnings_name_the_clips_in_order(two_threads: None) -> None:
    clips = [clip.copy() for clip in CLIPS]
    clips[1][:] = 0.0
    clips[4] *= 1000
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features(clips)
    assert [str(warning.message).partition(":")[0][-17:] for warning in caught] == [
        "[AST-W203] clip 1",
        "[AST-W202] clip 4",
    ]
    clips[6][7] = np.nan
    clips[8] = clips[8][:10]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AstHfError, match=r"E104\] clip 6"):
            features(clips)


def test_without_further_threads_the_caller_works(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clip_threads, "_pool", clip_threads._Pool())
    monkeypatch.setattr(clip_threads.ThreadPoolExecutor, "submit", refuse)
    assert names(8, 1000) == {threading.current_thread().name}
    assert torch.get_num_threads() == 2


def child(queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(2)
    used = names(8, 1000)
    queue.put(threading.current_thread().name not in used)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_makes_threads_of_its_own(two_threads: None) -> None:
    names(8, 1000)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=20)
    process.join(timeout=20)


class Names(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> bool:
        torch.set_num_threads(2)
        return names(8, 1000) == {threading.current_thread().name}


def test_workers_of_a_data_loader_use_no_threads(two_threads: None) -> None:
    names(8, 1000)
    loader = torch.utils.data.DataLoader(Names(), num_workers=1)
    assert [bool(batch) for batch in loader] == [True]
