"""Private names of our Trainer do not collide with those of transformers' Trainer, except where they replace one."""

from __future__ import annotations

import inspect
import re

from transformers import Trainer

from ast_hf.training import ASTTrainer

#: Methods of transformers' Trainer that ours overrides, and attributes that it restores from a checkpoint.
REPLACED = {
    "_globalstep_last_logged",
    "_initial_global_step",
    "_evaluate",
    "_finish_current_push",
    "_get_dataloader",
    "_get_eval_sampler",
    "_get_output_dir",
    "_get_train_sampler",
    "_load_best_model",
    "_load_from_checkpoint",
    "_load_optimizer_and_scheduler",
    "_load_rng_state",
    "_load_scaler",
    "_maybe_log_save_evaluate",
    "_push_from_checkpoint",
    "_run_epoch",
    "_save",
    "_save_checkpoint",
}
ASSIGNED = re.compile(r"self\.(_\w+)(?:\s*:[^=\n]+)?\s*=[^=]")


def private_names(*classes: type) -> set[str]:
    """Return the private methods that classes define, and the private attributes that they assign."""
    names = {name for kind in classes for name in vars(kind)}
    names |= {name for kind in classes for name in ASSIGNED.findall(inspect.getsource(kind))}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_private_names_do_not_collide() -> None:
    ours = private_names(*(kind for kind in ASTTrainer.__mro__ if kind.__module__.startswith("ast_hf.")))
    assert {"_batch_sizes", "_is_staging"} <= ours
    theirs = private_names(*(kind for kind in Trainer.__mro__ if kind is not object))
    assert ours & (theirs | set(dir(Trainer))) == REPLACED
