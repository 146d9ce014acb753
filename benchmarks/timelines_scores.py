"""Checkpoint of ESC-10, and its scores of windows and time columns for all systems of `benchmarks.timelines`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

from ast_hf import ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.embeddings_ast import column_means, column_times
from ast_hf.timelines.curves import Columns
from ast_hf.timelines.levels import window_levels
from ast_hf.timelines.windows import Window, WindowPlan, plan_windows, windows_of
from ast_hf.training import finish

from .learning_systems import CORPORA, Task, recipe
from .timelines_mixtures import RATE, Mixture

#: Neighbouring windows share three quarters.
OVERLAP = 0.75
#: Log-mel frames in a batch.
_BATCH_FRAMES = 16_384


class Scored(NamedTuple):
    """Scores of one mixture's windows, as probabilities.

    Attributes:
        plan: sizes of the windows.
        starts: first sample of each window, int64 `(windows,)`.
        scores: `(windows, classes)`.
        columns: `(windows, columns, classes)`, the head applied to the mean over frequency of each time column.
        times: `(columns, 2)`, start and end of each column in seconds from the beginning of its window.
        levels: `(windows, cells)` in dBFS, as `window_levels`.
    """

    plan: WindowPlan
    starts: np.ndarray
    scores: np.ndarray
    columns: np.ndarray
    times: np.ndarray
    levels: np.ndarray

    def windows(self) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, Columns]]:
        """Yield the arguments of `TimelineBuilder.push`."""
        for start, scores, columns, levels in zip(
            self.starts.tolist(), self.scores, self.columns, self.levels, strict=True
        ):
            yield start, self.plan.samples, scores, levels, Columns(columns, self.times)


def train(data: Path, vit: str, output: Path) -> Path:
    """Train system (b) of `benchmarks.learning` in its stage `choice`, and return the folder of the checkpoint.

    It trains on folds 3 to 5 of ESC-10. An existing checkpoint is not trained again.
    """
    corpus = CORPORA["esc10"]
    rate = corpus.learning_rates["recipe"][0]
    task = Task(
        "recipe", "esc10", "choice", 0, rate, corpus.epochs["recipe"], str(data.parent), vit, str(output)
    )
    if not (task.folder / "model.safetensors").exists():
        transformers.set_seed(task.seed)
        started = recipe(task)
        started.trainer.train()
        assert started.run is not None
        finish(started.run)
    return task.folder


class Scorer:
    """Scores mixtures with a checkpoint, in bfloat16 as it was trained, and keeps the scores in a folder."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.model = ASTForAudioClassification.from_pretrained(checkpoint).eval()
        self.extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
        self.labels = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def plan(self, window_seconds: float | None) -> WindowPlan:
        """Return the sizes of overlapping windows; None is the model's length."""
        config = self.model.config
        return plan_windows(
            config.max_length, RATE, window_seconds, overlap=OVERLAP, min_frames=config.patch_size
        )

    def score(self, mixture: Mixture, name: str, window_seconds: float | None) -> Scored:
        """Return the scores of a mixture, from the folder if they are there; `name` is unique to the mixture."""
        plan = self.plan(window_seconds)
        path = self.folder / f"{name}-{window_seconds or 'full'}.npz"
        times = np.array(column_times(self.model.config, plan.frames))
        if path.exists():
            with np.load(path) as stored:
                return Scored(
                    plan, stored["starts"], stored["scores"], stored["columns"], times, stored["levels"]
                )
        windows = list(windows_of(iter([mixture.samples]), plan))
        scores, columns = self._scores(windows, plan)
        starts = np.array([window.start for window in windows])
        levels = np.stack([self._levels(window) for window in windows])
        part = path.with_suffix(f".{os.getpid()}.npz")  # another process may write the same
        np.savez(part, starts=starts, scores=scores, columns=columns, levels=levels)
        part.replace(path)
        return Scored(plan, starts, scores, columns, times, levels)

    def _levels(self, window: Window) -> np.ndarray:
        """Return the levels of a window's cells, padded to as many cells as a window can touch."""
        cells = window_levels(window.start, window.samples, RATE)
        most = len(window.samples) // (RATE // 100) + 2
        return np.pad(cells, (0, most - len(cells)), constant_values=cells[-1])

    @torch.inference_mode()
    def _scores(self, windows: Sequence[Window], plan: WindowPlan) -> tuple[np.ndarray, np.ndarray]:
        clips = max(_BATCH_FRAMES // plan.frames, 1)
        parts = [self._batch(windows[first : first + clips], plan) for first in range(0, len(windows), clips)]
        scores, columns = zip(*parts, strict=True)
        return torch.cat(scores).numpy(), torch.cat(columns).numpy()

    def _batch(self, windows: Sequence[Window], plan: WindowPlan) -> tuple[torch.Tensor, torch.Tensor]:
        samples = [window.samples for window in windows]
        values = self.extractor(
            samples, sampling_rate=RATE, return_tensors="pt", max_length=plan.frames
        ).input_values
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.model.audio_spectrogram_transformer(values)
            tokens = column_means(self.model.config, outputs.last_hidden_state, values.shape[1])
            logits = self.model.classifier(outputs.pooler_output)
            columns = self.model.classifier(tokens)
        return logits.float().softmax(-1), columns.float().softmax(-1)
