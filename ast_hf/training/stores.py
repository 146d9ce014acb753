"""Stores of a run's clips (`data.store`): one for each stored split, written before training reads them."""

from __future__ import annotations

from pathlib import Path

from ..inputs.clips import ClipInputs
from ..inputs.stored_clips import StorePlan, check_room, fill_store, plan_store
from ..processes import is_main_process
from ..recipe.options import DataOptions
from .building import RunInputs


def use_stores(
    inputs: RunInputs, data: DataOptions, *, writes: bool = True, disable_tqdm: bool | None = None
) -> list[StorePlan]:
    """Let the splits of a run read from `data.store`, and return what it lacked of each; nothing without it.

    A split whose inputs depend on log-mel features alone has a store of these, another one of its samples.

    Args:
        inputs: the splits; streams have no store.
        data: `store` and `store_dtype` count.
        writes: write what is missing. Otherwise nothing is used.
        disable_tqdm: show no progress; None and False show it, see `progress.progress_bar`.

    Raises:
        AstRunError: E401 if the store cannot be written, before any clip is decoded.
        AstHfError: the error of a clip that cannot be decoded.
    """
    if data.store is None:
        return []
    root = Path(data.store)
    splits = (inputs.train, inputs.validation, *inputs.evaluation.values())
    stored = {id(split): split for split in splits if isinstance(split, ClipInputs)}
    plans = [
        plan_store(split, root, data.store_dtype, disable_tqdm=disable_tqdm) for split in stored.values()
    ]
    if is_main_process():
        check_room(plans)
    for plan in plans if writes else ():
        plan.inputs.use_store(fill_store(plan, disable_tqdm=disable_tqdm), plan.dtype)
    return plans
