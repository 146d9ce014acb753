"""State of optimizer, schedule and random numbers in a training checkpoint, checked before it is loaded."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.trainer_callback import TrainerState
from transformers.trainer_pt_utils import safe_globals

from ...errors import unreadable
from ...json_files import read_json
from ...weights.pickles import read_pickle
from .sealing import STATE_FILE

#: Largest JSON file of a training checkpoint, in bytes: trainer_state.json has a line for every logged step.
_MAX_JSON = 1 << 30


def check_state_files(folder: Path) -> None:
    """Raise E306 unless every file of state in a checkpoint can be read without running code in it.

    A manifest shows that files are as they were written, not who wrote them. Only their structure is checked:
    tensors stay in the files.
    """
    for path in sorted(folder.glob("*.json")):
        read_json(path, _MAX_JSON)
    for pattern, check in _CHECKS.items():
        for path in sorted(folder.glob(pattern)):
            with safe_globals():  # numpy's arrays, as transformers reads them
                content = read_pickle(path)
            _run(check, content, path)
    state = folder / STATE_FILE
    if state.is_file():
        _run(TrainerState.load_from_json, str(state), state)


def _run(check: Callable[[Any], Any], content: Any, path: Path) -> None:
    try:
        check(content)
    except Exception as problem:  # each library raises other classes
        fix = "resume from another checkpoint"
        what = "is not a state that training can continue from"
        raise unreadable("E306", where=repr(str(path)), what=what, problem=problem, fix=fix) from problem


def _check_optimizer(content: Any) -> None:
    if not isinstance(content["state"], dict) or not isinstance(content["param_groups"], list):
        raise TypeError("state and param_groups have other types")


def _check_schedule(content: Any) -> None:
    if not isinstance(content, dict):
        raise TypeError(f"is a {type(content).__name__}")


def _check_random(content: Any) -> None:
    """Set the state of generators that nobody else uses."""
    random.Random().setstate(content["python"])
    np.random.RandomState().set_state(content["numpy"])
    torch.Generator().set_state(content["cpu"])


#: Files of a checkpoint -> check of their contents.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "optimizer.pt": _check_optimizer,
    "scheduler.pt": _check_schedule,
    "scaler.pt": _check_schedule,
    "rng_state*.pth": _check_random,
}
