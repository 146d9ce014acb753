"""Results of a pipeline call, one for each input, from batches of windows that may span inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from ..window_features import stacked_features
from .recordings import Recording, WindowInputs


class Output(NamedTuple):
    """Window of a recording, and the model's outputs for it, with a batch dimension of 1."""

    recording: Recording
    window: WindowInputs
    outputs: dict[str, torch.Tensor]


class _Piece(NamedTuple):
    recording: Recording
    window: WindowInputs


class Outputs:
    """Model outputs for all windows of some inputs, in order.

    Args:
        inputs: the inputs, any iterable.
        open_recording: returns the `Recording` of an input.
        forward: returns the model's outputs for a batch of features.
        batch_size: windows that the model takes at once; batches may span inputs.
        num_workers: processes that read inputs; more than 0 needs inputs that are a list or a data set.
        device: where the features of `WindowSamples` are computed.
    """

    def __init__(
        self,
        inputs: Iterable[Any],
        open_recording: Callable[[Any], Recording],
        forward: Callable[[Any], Any],
        *,
        batch_size: int = 1,
        num_workers: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.inputs = inputs
        self._is_indexed = isinstance(inputs, Sized) and hasattr(inputs, "__getitem__")
        self._open = open_recording
        self._forward = forward
        self._batch_size = batch_size
        self._num_workers = num_workers if self._is_indexed else 0
        self._device = device

    def __iter__(self) -> Iterator[Output]:
        for batch in self._batches():
            features = [piece.window.features for piece in batch]
            outputs = self._forward(stacked_features(features, batch[0].recording.extractor, self._device))
            for row, piece in enumerate(batch):
                yield Output(*piece, _row(outputs, row))

    def _batches(self) -> Iterator[list[_Piece]]:
        batch: list[_Piece] = []
        for piece in self._pieces():
            if batch and batch[0].window.shapes != piece.window.shapes:
                yield batch
                batch = []
            batch.append(piece)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _pieces(self) -> Iterator[_Piece]:
        for recording, window in self._first_windows():
            if window is not None:
                yield _Piece(recording, window)
                continue
            for each in recording:
                yield _Piece(recording, each)

    def _sources(self) -> Iterator[Any]:
        """Yield the inputs; a data set of torch is as long as it says, and raises no IndexError at its end."""
        if self._is_indexed:
            yield from (self.inputs[index] for index in range(len(self)))  # type: ignore[index]
        else:
            yield from self.inputs

    def __len__(self) -> int:
        return len(self.inputs)  # type: ignore[arg-type]

    def _first_windows(self) -> Iterator[tuple[Recording, WindowInputs | None]]:
        """Yield each recording, with its window if a worker has read it and there is only one."""
        if self._num_workers == 0:
            yield from ((self._open(source), None) for source in self._sources())
            return
        reader = _WorkerReader(self.inputs, self._open)
        for index, window in DataLoader(reader, batch_size=None, num_workers=self._num_workers):
            yield self._open(self.inputs[index]), window  # type: ignore[index]


class Results:
    """Results of the inputs of a call, in their order; as long as the inputs, if they have a length.

    Args:
        outputs: model outputs for all windows.
        start: returns what folds the windows of one recording, with `add(window, outputs)` and `result()`.
    """

    def __init__(self, outputs: Outputs, start: Callable[[], Any]) -> None:
        self._outputs = outputs
        self._start = start

    def __len__(self) -> int:
        return len(self._outputs)

    def __iter__(self) -> Iterator[Any]:
        for result, _ in self.with_recordings():
            yield result

    def with_recordings(self) -> Iterator[tuple[Any, Recording]]:
        """Yield each result with its recording."""
        fold: Any = None
        for recording, window, outputs in self._outputs:
            fold = self._start() if fold is None else fold
            fold.add(window, outputs)
            if window.is_last:
                yield fold.result(), recording
                fold = None


class _WorkerReader(Dataset):
    """Windows of inputs that have only one, read by workers; None for a longer one, which the main process reads."""

    def __init__(self, inputs: Any, open_recording: Callable[[Any], Recording]) -> None:
        self.inputs = inputs
        self._open = open_recording

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[int, WindowInputs | None]:
        first = next(iter(self._open(self.inputs[index])))
        return index, first if first.is_last else None


def _row(outputs: Any, row: int) -> Any:
    """Return the outputs of one window, with a batch dimension of 1."""
    return {name: value[row : row + 1] for name, value in outputs.items() if isinstance(value, torch.Tensor)}
