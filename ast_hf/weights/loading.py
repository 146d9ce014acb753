"""State dicts for `from_pretrained`: names translated to the Hub's, weights adapted to another geometry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch

from ..configuration_ast import ASTConfig, Geometry
from ..errors import did_you_mean, error
from .geometry import resize_kernel, resize_positions
from .names import BACKBONE, KERNEL, POSITIONS, hub_name, rename_state
from .reading import Checkpoint, model_type_of, read_weights, tensor_headers

State = dict[str, torch.Tensor]

#: Prefixes that DataParallel and `torch.compile` add to every name of a state dict.
_WRAPPERS = ("module.", "_orig_mod.")


def named_state(state: Mapping[str, torch.Tensor]) -> State:
    """Return a state dict under the names on the Hub, without the prefix of a head model.

    Takes the names on the Hub, of transformers 5, and of the original repository (timm), with or without the
    prefixes of DataParallel and `torch.compile`. Raises E305 for any other name.
    """
    for wrapper in 2 * _WRAPPERS:  # in either order
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): state[name] for name in state}
    translated = {hub_name(name).removeprefix(BACKBONE): state[name] for name in state}
    is_timm = any(name.removeprefix("v.").startswith("blocks.") for name in state)
    if KERNEL in translated or not is_timm:
        return translated
    return rename_state(state, "state_dict").tensors


@contextmanager
def load_report_hidden() -> Iterator[None]:
    """Keep transformers' table of missing and mismatched tensors out of the log of this thread.

    One of tensors that could not be converted stays: the error of transformers that follows points to it.
    """
    thread = threading.get_ident()

    def is_visible(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return record.thread != thread or "LOAD REPORT" not in text or "CONVERSION" in text

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_visible)
    try:
        yield
    finally:
        logger.removeFilter(is_visible)


def state_for(
    checkpoint: Checkpoint | None, source: str | PathLike | None, arguments: dict[str, Any], model_type: str
) -> State | None:
    """Return the weights that `from_pretrained(source, **arguments)` has to load instead of the file's.

    Args:
        checkpoint: the files of `source`; None if only transformers can read them.
        source: as for `from_pretrained`.
        arguments: its keyword arguments.
        model_type: of the class; a user's subclass may have another one than AST's.

    Returns:
        Tensors as from `named_state`, in the requested geometry; None if the file can be loaded as it is.

    Raises:
        AstConfigError: E305 or E306 for an incomplete checkpoint, and for another architecture.
    """
    if checkpoint is None:
        return None
    stored_type = model_type_of(checkpoint.config)
    if stored_type not in (ASTConfig.model_type, model_type):
        what = f"is a {stored_type!r} checkpoint, not an AST"
        fix = "name an AST; from_vit starts from an image transformer"
        raise error("E305", where=repr(str(source)), what=what, fix=fix)
    old = Geometry.of(checkpoint.config)
    new = _requested_geometry(old, arguments)
    if new == old and all(name == hub_name(name) for name in tensor_headers(checkpoint.weights)):
        return None
    return _read(checkpoint, old, new)


def _requested_geometry(stored: Geometry, arguments: dict[str, Any]) -> Geometry:
    config = arguments.get("config")
    if config is not None:
        if isinstance(config, (str, PathLike)):
            config = ASTConfig.from_pretrained(config)
        return Geometry.of(config)
    return changed_geometry(stored, {name: arguments[name] for name in Geometry._fields if name in arguments})


def changed_geometry(old: Geometry, sizes: dict[str, int]) -> Geometry:
    """Return `old` with some fields changed; raise E108 for unknown fields, E302 for impossible sizes."""
    for name in sizes:
        if name not in Geometry._fields:
            fix = did_you_mean(name, Geometry._fields)
            raise error("E108", where=name, what="is not a size of the input", fix=fix)
    new = old._replace(**sizes)
    ASTConfig(num_attention_heads=1, **new._asdict())  # checks the sizes
    return new


def _read(checkpoint: Checkpoint, old: Geometry, new: Geometry) -> State:
    stored = read_weights(checkpoint.weights)
    state = {hub_name(name).removeprefix(BACKBONE): tensor for name, tensor in stored.items()}
    if len(state) < len(stored):
        what = f"holds {len(stored) - len(state)} tensors under two names each"
        fix = "keep the names of one version of transformers"
        raise error("E305", where=repr(str(checkpoint.weights[0])), what=what, fix=fix)
    if POSITIONS in state and state[POSITIONS].shape[1] != old.num_tokens:
        stored = state[POSITIONS].shape[1]
        what = f"makes {old.num_tokens} tokens, but the weights hold {POSITIONS} for {stored}"
        fix = "set its geometry to what the weights were trained with"
        raise error("E305", where="config.json", what=what, fix=fix)
    return resize(state, old, new) if new != old else state


def resize(state: State, old: Geometry, new: Geometry) -> State:
    """Return weights for another geometry: positions by the original's rule, the kernel by FlexiViT's."""
    changed = dict(state)
    if POSITIONS in state:
        changed[POSITIONS] = resize_positions(state[POSITIONS], old.grid, new.grid)
    if KERNEL in state:
        changed[KERNEL] = resize_kernel(state[KERNEL], new.patch_size)
    return changed
