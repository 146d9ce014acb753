"""Losses of training batches, read one batch late where reading at once would wait for a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class BatchLoss:
    """Loss of a training batch.

    Attributes:
        step: number of complete optimizer steps.
        loss: loss that is trained on, a scalar.
        label_loss: mean loss from the labels alone; None if it is not watched.
        labels: as for `classification_loss`.
        rows: row of each clip of the batch.
    """

    step: int
    loss: torch.Tensor
    label_loss: torch.Tensor | None
    labels: torch.Tensor | None
    rows: torch.Tensor | None


class LateLosses:
    """Passes each batch's loss to `read`: at once, or after the next batch, while the GPU computes.

    A late loss is copied while the GPU goes on, and read once the copy is complete. `settle` reads what is left.

    Args:
        read: takes a loss, whose tensors are on the CPU but for `rows`.
        is_late: read a loss after the next one. None for CUDA tensors only.
    """

    def __init__(self, read: Callable[[BatchLoss], None], *, is_late: bool | None = None) -> None:
        self.read = read
        self.is_late = is_late
        self._waiting: deque[tuple[BatchLoss, torch.cuda.Event | None]] = deque()

    def add(self, batch: BatchLoss) -> None:
        """Take the loss of a batch, and read the one before, or this one."""
        is_cuda = batch.loss.device.type == "cuda"
        is_late = is_cuda if self.is_late is None else self.is_late
        self._waiting.append((_on_cpu(batch), _copied() if is_cuda else None))
        self._read_all_but(int(is_late))

    def settle(self) -> None:
        """Read all losses that have not been read, before something depends on them."""
        self._read_all_but(0)

    def forget(self) -> None:
        """Drop losses that have not been read, as at the start of another training."""
        self._waiting.clear()

    def _read_all_but(self, count: int) -> None:
        while len(self._waiting) > count:
            batch, copied = self._waiting.popleft()
            if copied is not None:
                copied.synchronize()
            self.read(batch)


def _on_cpu(batch: BatchLoss) -> BatchLoss:
    """Return a batch whose losses and labels are copied to the CPU, for CUDA without waiting for it."""
    return replace(
        batch,
        loss=_copy(batch.loss),
        label_loss=None if batch.label_loss is None else _copy(batch.label_loss),
        labels=None if batch.labels is None else _copy(batch.labels),
    )


def _copy(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", non_blocking=value.is_cuda)


def _copied() -> torch.cuda.Event:
    """Return an event that is over when the GPU has done what it was given so far."""
    event = torch.cuda.Event()
    event.record()
    return event
