"""Detect resuming with different settings: checkpoints store every option that affects the weights."""

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

#: In a training checkpoint: every option that affects the weights, by name, and what was changed while
#: resuming.
RUN_FILE = "run.json"
#: Prefixes of options without effect on the weights: names, caching, reporting. `training.` is settled
#: separately.
_WITHOUT_EFFECT = ("name", "card.", "threads", "data.cache", "data.eval_splits", "training.")
_LOCAL_OPTIONS = tuple(f"{section}.{option}" for section, option in LOCAL_PATHS)
_LABELS = "label names"
#: How many options a message lists.
_LISTED = 3


def deciding(recipe: Recipe, settings: dict[str, Any], splits: Splits) -> dict[str, Any]:
    """Return everything that decides the weights of a run, by name.

    These are options of its recipe, the names of the labels and, unless it is a stream, the number of
    training clips and a digest of their labels.

    Args:
        recipe: of the run.
        settings: result of `settled` for the run.
        splits: what was read.
    """
    decided: dict[str, Any] = {
        name: value
        for name, value in flat(recipe.to_dict()).items()
        if not name.startswith((*_WITHOUT_EFFECT, *_LOCAL_OPTIONS))
    }
    decided |= {f"training.{name}": value for name, value in settings.items()}
    decided[_LABELS] = splits.labels
    if isinstance(splits.train, Dataset):
        answers = json.dumps(list(splits.train[splits.task.label_column]))
        decided["training clips"] = len(splits.train)
        decided["their labels"] = hashlib.sha256(answers.encode()).hexdigest()[:16]
    return flat(decided)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested options in one mapping, with names such as `training.learning_rate`."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value) if isinstance(value, dict) else {}
        if inner:
            options |= {f"{name}.{key}": entry for key, entry in inner.items()}
        else:
            options[name] = value
    return options


def keep_run(checkpoint: Path, decided: dict[str, Any], changes: list[str]) -> None:
    """Write the results of `deciding` and `check_same_run` into a checkpoint."""
    write_json(checkpoint / RUN_FILE, {"decided": decided, "changes": changes})


def check_same_run(checkpoint: Path, decided: dict[str, Any], *, named: bool) -> list[str]:
    """Check that a checkpoint belongs to a run with the same options; one without `run.json` passes.

    Args:
        checkpoint: what the run resumes from.
        decided: result of `deciding` for the run.
        named: the checkpoint was chosen by hand. Different options are then a warning (W406) instead of an
            error.

    Returns:
        The options that were changed while resuming so far, one sentence for each change.

    Raises:
        AstConfigError: E306 for different options in a checkpoint that was not chosen by hand, and for other
            labels.
    """
    if not (checkpoint / RUN_FILE).is_file():
        return []
    stored = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
    changed = _changed_options(stored["decided"], json.loads(json.dumps(decided)))
    if not changed:
        return stored["changes"]
    differences = "; ".join(
        f"{name} was {old!r} and is {new!r}" for name, (old, new) in list(changed.items())[:_LISTED]
    )
    if len(changed) > _LISTED:
        differences += f"; and {len(changed) - _LISTED} more"
    where = repr(str(checkpoint))
    what = f"is of a run with other options: {differences}"
    if _LABELS in changed or not named:
        fix = "resume with the options it began with, or start in another folder"
        if _LABELS not in changed:
            fix += f", or insist on these with --resume {checkpoint}"
        raise error("E306", where=where, what=what, fix=fix, detail="mismatch")
    what += "; the run continues with the new ones, and its result differs from an unbroken run"
    warnings.warn(warning_text("W406", where=where, what=what), AstHfWarning, stacklevel=3)
    return [*stored["changes"], f"from {checkpoint.name} on: {differences}"]


def _changed_options(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, as (old, new). One that an old version lacked had its default."""
    defaults = flat(Recipe().to_dict())
    before = {name: old.get(name, defaults.get(name)) for name in {**old, **new}}
    return {name: (value, new.get(name)) for name, value in before.items() if value != new.get(name)}
