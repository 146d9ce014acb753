"""Short training runs for tests: a recipe, ways to stop or break a run, and digests of its files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from conftest import ROOT, TINY
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback

from ast_hf.training import Recipe

#: clips of each class by split
SIZES = {"train": 12, "test": 4}

VARIED = {
    "averaging_decay": 0.9,
    "model": {"config": {**TINY, "hidden_dropout_prob": 0.1}},
    "augmentation": {
        "speed": 1.3,
        "time_stretch": 1.3,
        "mel_shift": 2,
        "mixstyle_probability": 0.5,
        "mixup_probability": 0.5,
        "frequency_masks": 1,
        "frequency_mask_width": 6,
        "time_masks": 1,
        "time_mask_width": 10,
        "label_smoothing": 0.1,
    },
}


def sound(kind: str, number: int) -> np.ndarray:
    """Return 0.3 to 0.6 s of white noise or of a tone."""
    random = np.random.default_rng([number, len(kind)])
    time = np.arange(4800 + 400 * (number % 12)) / 16_000
    noise = random.standard_normal(len(time))
    if kind == "noise":
        return 0.1 * noise
    return 0.3 * np.sin(2 * np.pi * random.uniform(300, 3000) * time) + 0.001 * noise


def write_clips(root: Path, sizes: Mapping[str, int] = SIZES) -> None:
    """Write label folders of noise and tones; `sizes` are the clips of each split and class."""
    for split, count in sizes.items():
        for kind in ("noise", "tone"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                offset = 100 * (split == "test")
                soundfile.write(root / split / kind / f"{number}.wav", sound(kind, number + offset), 16_000)


def recipe(source: Path, options: dict[str, Any] | None = None, **training: Any) -> Recipe:
    """Return a recipe of two epochs of three steps by default.

    `training` are TrainingArguments, `options` the other sections of the recipe.
    """
    values: dict[str, Any] = {
        "name": "tones",
        "data": {"source": str(source)},
        "model": {"config": TINY},
        "training": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-3,
            "disable_tqdm": True,
            "use_cpu": True,
            **training,
        },
    }
    for section, change in (options or {}).items():
        values[section] = {**values[section], **change} if isinstance(values.get(section), dict) else change
    return Recipe.from_dict(values)


def digest(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Return the SHA-256 of each tensor's bytes, by name."""
    return {
        name: hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        for name, value in tensors.items()
    }


def flat(state: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Return every number and tensor of nested dicts and lists, by path."""
    if isinstance(state, dict):
        return {key: value for part in state for key, value in flat(state[part], f"{name}/{part}").items()}
    if isinstance(state, (list, tuple)):
        return flat(dict(enumerate(state)), name)
    return {} if state is None or isinstance(state, str) else {name: torch.as_tensor(state)}


def optimizer_digest(folder: Path) -> dict[str, str]:
    return digest(flat(torch.load(folder / "optimizer.pt", weights_only=True)))


def checkpoint_digest(folder: Path) -> dict[str, dict[str, str]]:
    """Return digests of the weights, optimizer state and average of a training checkpoint."""
    state = {
        "weights": digest(load_file(folder / "model.safetensors")),
        "optimizer": optimizer_digest(folder),
    }
    if (folder / "average.safetensors").exists():
        state["average"] = digest(load_file(folder / "average.safetensors"))
    return state


class Stop(TrainerCallback):
    """Callback that ends a run after a step or at the end of an epoch, like a crash after the save."""

    def __init__(self, *, step: int | None = None, epoch: int | None = None) -> None:
        self.step, self.epoch = step, epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if round(state.epoch) == self.epoch:
            control.should_training_stop = True


def poison(model: nn.Module, step: int, value: float) -> None:
    """Set the loss of a training step (counted from 1) to `value`."""
    calls = []

    def spoil(module: nn.Module, inputs: Any, output: Any) -> Any:
        calls.append(module.training)
        if module.training and sum(calls) == step:
            output.loss = output.loss * 0 + value
        return output

    model.register_forward_hook(spoil)


def torchrun(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a script by two processes on this machine."""
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=ROOT,
        check=False,
    )
