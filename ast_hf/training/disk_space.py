"""Bytes that a run writes, estimated from its model and its plan of saves, and compared with the free ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from ..configuration_ast import ASTConfig
from ..modeling_ast import ASTForAudioClassification
from ..recipe.options import ModelOptions
from ..weights.reading import MODEL_FILES
from ..writing_failures import check_folder, check_space
from .checkpoints.sealing import checkpoints, staging_folder

#: Bytes of a number in float32, the precision of saved weights and of the optimizer's state.
_FLOAT = 4
#: Bytes of pictures, card, results and logs; those of the tests' runs are 100 to 200 kB.
_REPORTS = 250_000
#: Tensors of a parameter's size in the state of an optimizer, by its name in transformers.
_MOMENTS = {"adamw": 2.0, "nadam": 2.0, "radam": 2.0, "lion": 1.0, "rmsprop": 1.0, "adagrad": 1.0, "sgd": 0.0}


def check_output(folder: Path, model: ModelOptions) -> None:
    """Raise E401 unless a run can write into its folder, and a model of a size that is known fits there.

    Called before data are read. `CheckSpace` compares all that will be written, before the first step.
    """
    check_folder(folder)
    check_folder(staging_folder(folder))
    check_space(folder, _known_bytes(model), what="the model")


def _known_bytes(model: ModelOptions) -> int:
    """Return the bytes of the weights of a random start or of a base in a folder; 0 for one on the Hub."""
    if model.start == "random":
        with torch.device("meta"):
            return weight_bytes(ASTForAudioClassification(ASTConfig(**model.config)))
    start = Path(str(model.base or model.vit))
    if not start.is_dir():
        return 0
    return sum(path.stat().st_size for part in MODEL_FILES for path in start.glob(part))


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights as they are saved."""
    return _FLOAT * sum(value.numel() for value in model.state_dict().values())


def checkpoint_bytes(model: nn.Module, arguments: TrainingArguments, *, copies: int) -> int:
    """Return about how many bytes a training checkpoint has: weights, optimizer state, copies of trained weights."""
    trained = _FLOAT * sum(value.numel() for value in model.parameters() if value.requires_grad)
    name = str(getattr(arguments.optim, "value", arguments.optim))
    moments = next((count for kind, count in _MOMENTS.items() if kind in name), 0.0)
    moments *= 0.25 if "8bit" in name else 1.0
    return int(weight_bytes(model) + trained * (moments + copies))


def run_bytes(checkpoint: int, weights: int, *, saves: int, limit: int | None, existing: int) -> int:
    """Return the bytes that a run still needs at its fullest moment.

    Args:
        checkpoint: bytes of a training checkpoint.
        weights: bytes of the finished model, staged while all checkpoints are there.
        saves: number of checkpoints that will be written.
        limit: number of checkpoints that are kept, None or 0 for all. An older one is removed only once its
            successor is complete.
        existing: checkpoints that are in the folder.
    """
    kept = saves if not limit else max(min(saves, limit - existing), 0)
    surplus = checkpoint if saves > kept else 0
    return kept * checkpoint + max(surplus, weights) + _REPORTS


class CheckSpace(TrainerCallback):
    """Raises E401 before the first step if the disk has less room than the rest of the run will fill."""

    def __init__(self, *, copies: int) -> None:
        self.copies = copies

    def on_train_begin(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if not args.should_save:
            return
        root = Path(args.output_dir)
        saves = _coming_saves(args, state)
        needed = run_bytes(
            checkpoint_bytes(model, args, copies=self.copies),
            weight_bytes(model),
            saves=saves,
            limit=args.save_total_limit,
            existing=len(checkpoints(root)),
        )
        what = f"the finished model, with checkpoints to come ({saves})," if saves else "the finished model"
        then = "lower training.save_total_limit for fewer checkpoints" if saves > 1 else ""
        check_space(root, needed, what=what, then=then)


def _coming_saves(args: TrainingArguments, state: Any) -> int:
    """Return how many checkpoints will be written; at least the last step's, which `finish` needs."""
    steps = state.max_steps - state.global_step
    if steps <= 0:
        return 0
    if args.save_strategy == SaveStrategy.STEPS:
        return math.ceil(steps / max(state.save_steps or steps, 1))
    if args.save_strategy == SaveStrategy.EPOCH:
        return math.ceil(steps * state.num_train_epochs / state.max_steps)
    return 1
