"""Speed and memory of a prepared run on this machine, from two batches of its clips."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psutil
import torch

from ..inputs.clips import ClipInputs
from ..inputs.processing import decode_clip
from ..training.building import Inputs
from ..training.preparing import Run
from ..training.trainer import ASTTrainer

#: Steps that are timed after a first one, and the least and most seconds of all of them together.
STEPS = 3
_LEAST_SECONDS = 1.0
_MOST_SECONDS = 20.0
#: Seconds between two looks at the memory of this process.
_LOOK = 0.005


@dataclass(frozen=True)
class Speed:
    """Speed of a run on this machine, beside all else that runs there.

    Attributes:
        seconds_per_step: of an optimizer step on clips that are in the cache: features, augmentation, forward and
            backward passes, optimizer.
        seconds_per_evaluated_clip: of the evaluation of a clip that is in the cache.
        peak_bytes: largest memory of this process in a step.
        seconds_per_decoded_clip: of decoding a clip.
        seconds_per_feature: of a clip's features and augmentation, part of `seconds_per_step`.
        device_bytes: largest memory of a step on a GPU; None without one.
    """

    seconds_per_step: float
    seconds_per_evaluated_clip: float
    peak_bytes: int
    seconds_per_decoded_clip: float = 0.0
    seconds_per_feature: float = 0.0
    device_bytes: int | None = None


def measure_speed(run: Run, *, steps: int = STEPS) -> Speed:
    """Return the speed of a prepared run, from real steps on two batches of its clips.

    Weights, random generators and counters are afterwards what they were before. It takes from one second to
    about 20 s, or one step if that is longer.

    Args:
        run: from `prepare`, not trained yet.
        steps: number of steps to time, at least 1; more if they are short.

    Raises:
        AstHfError: for clips that cannot be decoded, as in training.
    """
    trainer = run.trainer
    size = trainer.args.train_batch_size
    with _unchanged(trainer), _watched_memory(trainer) as memory:
        decoding = _decoding_seconds(run.train, 2 * size)
        items, feature = _make_items(run.train, 2 * size, leaves_features=trainer.features_on == "gpu")
        batches = [trainer.data_collator(items[:size]), trainer.data_collator(items[size:] or items[:size])]
        update = _Update(trainer, batches)
        computing = _repeated(update, steps, trainer)
        memory.look()
        evaluating = _evaluation_seconds(trainer, batches, steps)
    loaded = size * trainer.args.gradient_accumulation_steps
    return Speed(
        seconds_per_step=computing + loaded * feature,
        seconds_per_evaluated_clip=evaluating / len(batches[0]["labels"]) + feature,
        peak_bytes=max(memory.peak - update.copied_bytes, 0),
        seconds_per_decoded_clip=decoding,
        seconds_per_feature=feature,
        device_bytes=memory.device_peak,
    )


@dataclass
class _Memory:
    """Largest memory of this process while it is watched, in bytes."""

    process: psutil.Process = field(default_factory=psutil.Process)
    peak: int = 0
    device_peak: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        self.peak = max(self.peak, self.process.memory_info().rss)

    def watch(self) -> None:
        while not self.ended.wait(_LOOK):
            self.look()


@contextmanager
def _watched_memory(trainer: ASTTrainer) -> Iterator[_Memory]:
    """Watch the memory of this process, and that of a CUDA device, in a block."""
    memory = _Memory()
    is_cuda = trainer.args.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(trainer.args.device)
    thread = threading.Thread(target=memory.watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.ended.set()
        thread.join()
        if is_cuda:
            memory.device_peak = torch.cuda.max_memory_reserved(trainer.args.device)


@contextmanager
def _unchanged(trainer: ASTTrainer) -> Iterator[None]:
    """Restore weights, mode, random generators and counters of a trainer after a block."""
    model = trainer.model
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    was_training = model.training
    clips = trainer.clips_trained
    patchout = model.base_model.patchout
    devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(weights[name])
        model.zero_grad()
        model.train(was_training)
        model.base_model.patchout = patchout
        trainer.clips_trained = clips
        trainer.optimizer = None
        trainer.lr_scheduler = None


class _Update:
    """An optimizer step on batches in turn, as often as gradients are accumulated."""

    def __init__(self, trainer: ASTTrainer, batches: Sequence[dict[str, Any]]) -> None:
        self.trainer = trainer
        self.batches = batches
        self.count = 0
        trainer.optimizer = None
        self.optimizer = trainer.create_optimizer()
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # a step without warmup could make the loss of the next one infinite
        if trainer.args.gradient_checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
        #: The copy of the weights that `_unchanged` keeps, no part of a run.
        self.copied_bytes = 0
        if trainer.args.device.type == "cpu":
            self.copied_bytes = sum(value.nbytes for value in trainer.model.state_dict().values())

    def __call__(self) -> None:
        trainer = self.trainer
        trainer.model.train()
        for _ in range(trainer.args.gradient_accumulation_steps):
            batch = dict(self.batches[self.count % len(self.batches)])
            self.count += 1
            with trainer.accelerator.autocast():
                loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
            loss.backward()
        if trainer.args.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _repeated(call: Callable[[], None], steps: int, trainer: ASTTrainer) -> float:
    """Return the mean seconds of a call, without the first one unless that took very long."""
    first = _timed(call, trainer)
    if first > _MOST_SECONDS / 2:
        return first
    times: list[float] = []
    while len(times) < steps or sum(times) < _LEAST_SECONDS:
        times.append(_timed(call, trainer))
        if sum(times) > _MOST_SECONDS:
            break
    return sum(times) / len(times)


def _timed(call: Callable[[], None], trainer: ASTTrainer) -> float:
    began = time.perf_counter()
    call()
    if trainer.args.device.type == "cuda":
        torch.cuda.synchronize(trainer.args.device)
    return time.perf_counter() - began


def _evaluation_seconds(trainer: ASTTrainer, batches: Sequence[dict[str, Any]], steps: int) -> float:
    """Return the seconds of evaluating one batch that is in memory."""
    trainer.model.eval()

    @torch.no_grad()
    def evaluate() -> None:
        batch = dict(batches[0])
        batch.pop("teacher", None)
        with trainer.accelerator.autocast():
            trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))

    return _repeated(evaluate, steps, trainer)


def spread_rows(clips: int, count: int) -> list[int]:
    """Return numbers of `count` clips, evenly spread over all, each once unless there are fewer."""
    return [(number * clips) // count for number in range(count)]


def _decoding_seconds(inputs: Inputs, count: int) -> float:
    """Return the mean seconds of decoding a clip; 0 for a stream, whose clips are decoded with their features."""
    if not isinstance(inputs, ClipInputs):
        return 0.0
    rows = spread_rows(len(inputs), min(count, len(inputs)))
    began = time.perf_counter()
    for row in rows:
        decode_clip(row, inputs.split[row], inputs.extractor.sampling_rate, inputs.name)
    return (time.perf_counter() - began) / len(rows)


def _make_items(inputs: Inputs, count: int, *, leaves_features: bool) -> tuple[list[dict[str, Any]], float]:
    """Return model inputs of some clips, and the mean seconds of making one from a decoded clip.

    With `leaves_features` the items hold samples, whose features are computed in the step.
    """
    if not isinstance(inputs, ClipInputs):
        began = time.perf_counter()
        items = list(islice(iter(inputs), count))
        return items, (time.perf_counter() - began) / max(len(items), 1)
    copy = ClipInputs(
        inputs.split,
        inputs.extractor,
        augmentation=inputs.augmentation,
        seed=inputs.seed,
        teacher=inputs.teacher,
        name=inputs.name,
        augment=inputs.processor.own.augment,
        augment_spectrogram=inputs.processor.own.augment_spectrogram,
    )
    copy.leaves_features = leaves_features
    rows = spread_rows(len(copy), count)
    copy.__getitems__(rows)  # decodes them, and those that they are mixed with
    began = time.perf_counter()
    items = copy.__getitems__(rows)
    return items, (time.perf_counter() - began) / len(items)
