"""Options that affect a run's weights: stored in its checkpoints, and compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...errors import AstHfWarning, error, warning_text
from ...files import write_json
from ...recipe.recipe import LOCAL_PATHS, Recipe
from ..splits import Splits

#: In a training checkpoint: the options that affect the weights, and the changes made while resuming.
RUN_FILE = "run.json"
#: Prefixes of options without effect on the weights. Those of `training.` come from `weight_arguments`.
_WITHOUT_EFFECT = (
    "name",
    "card.",
    "threads",
    "watchdog_seconds",
    "data.cache",
    "data.eval_splits",
    "training.",
)
_LOCAL_OPTIONS = tuple(f"{section}.{option}" for section, option in LOCAL_PATHS)
_LABELS = "label names"
#: How many options a message lists.
_LISTED = 3


def collect_options(recipe: Recipe, settings: dict[str, Any], splits: Splits) -> dict[str, Any]:
    """Return everything that affects the weights of a run, by name.

    These are options of the recipe, the arguments of training (`settings`, from `weight_arguments`), the label
    names and, unless it is a stream, the number of training clips and a digest of their labels.
    """
    options: dict[str, Any] = {
        name: value
        for name, value in flatten_options(recipe.to_dict()).items()
        if not name.startswith((*_WITHOUT_EFFECT, *_LOCAL_OPTIONS))
    }
    options |= {f"training.{name}": value for name, value in settings.items()}
    options[_LABELS] = splits.labels
    if isinstance(splits.train, Dataset):
        targets = json.dumps(list(splits.train[splits.task.label_column]))
        options["training clips"] = len(splits.train)
        options["their labels"] = hashlib.sha256(targets.encode()).hexdigest()[:16]
    return flatten_options(options)


def flatten_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested options in one mapping, with names like `training.learning_rate`."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            options |= {f"{name}.{key}": entry for key, entry in flatten_options(value).items()}
        else:
            options[name] = value
    return options


def save_options(checkpoint: Path, options: dict[str, Any], changes: list[str]) -> None:
    """Write the results of `collect_options` and `check_options` into a checkpoint."""
    write_json(checkpoint / RUN_FILE, {"decided": options, "changes": changes})


def check_options(checkpoint: Path, options: dict[str, Any], *, is_explicit: bool) -> list[str]:
    """Check that a checkpoint was trained with the same options; one without `run.json` passes.

    Args:
        checkpoint: folder to resume from.
        options: result of `collect_options` for the run.
        is_explicit: the user chose this checkpoint. Other options are then a warning (W406).

    Returns:
        All changes made while resuming so far, one sentence each.

    Raises:
        AstConfigError: E306 for other labels, and for other options unless `is_explicit`.
    """
    if not (checkpoint / RUN_FILE).is_file():
        return []
    stored = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
    changed = _changed_options(stored["decided"], json.loads(json.dumps(options)))
    if not changed:
        return stored["changes"]
    differences = "; ".join(
        f"{name} was {old!r} and is {new!r}" for name, (old, new) in list(changed.items())[:_LISTED]
    )
    if len(changed) > _LISTED:
        differences += f"; and {len(changed) - _LISTED} more"
    where = repr(str(checkpoint))
    what = f"is of a run with other options: {differences}"
    if _LABELS in changed or not is_explicit:
        fix = "resume with the options it began with, or start in another folder"
        if _LABELS not in changed:
            fix += f", or accept these with --resume {checkpoint}"
        raise error("E306", where=where, what=what, fix=fix, detail="mismatch")
    what += "; the run continues with the new ones, and its result differs from an unbroken run"
    warnings.warn(warning_text("W406", where=where, what=what), AstHfWarning, stacklevel=3)
    return [*stored["changes"], f"from {checkpoint.name} on: {differences}"]


def _changed_options(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, as (old, new). Options that an older version lacked had their default."""
    defaults = flatten_options(Recipe().to_dict())
    before = {name: old.get(name, defaults.get(name)) for name in {**old, **new}}
    return {name: (value, new.get(name)) for name, value in before.items() if value != new.get(name)}
