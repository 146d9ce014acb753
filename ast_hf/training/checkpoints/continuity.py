"""Is a run that goes on the one that was interrupted? A checkpoint keeps what decided its weights, and is asked."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainingArguments

from ...data.reading import is_multi_label
from ...data.splits import label_names
from ...errors import AstHfWarning, error, warning_text
from ...files import write_json
from ...recipe.arguments import settled
from ...recipe.recipe import LOCAL_PATHS, Recipe
from ..splits import Split

#: In a training checkpoint: every option that decides the weights, by its name, and what was changed on the way.
RUN_FILE = "run.json"
#: What does not, though it may have another value each time: names, where things lie, what is reported on.
_FREE = ("name", "card.", "threads", "data.cache", "data.eval_splits", "training.")
_PLACES = tuple(f"{section}.{option}" for section, option in LOCAL_PATHS)
_LABELS = "label names"
#: How many options a message names.
_NAMED = 3


def deciding(recipe: Recipe, arguments: TrainingArguments, train: Split) -> dict[str, Any]:
    """What decides the weights of a run, by name: options of its recipe, and what it trains on: the names of the labels
    and, unless it is a stream, how many clips there are and which labels these have.
    """
    options = {name: value for name, value in flat(recipe.to_dict()).items() if not name.startswith((*_FREE, *_PLACES))}
    settings = {f"training.{name}": value for name, value in settled(arguments, recipe.optimization).items()}
    clips: dict[str, Any] = {_LABELS: label_names(train)}
    if isinstance(train, Dataset):
        answers = json.dumps(list(train["labels" if is_multi_label(train) else "label"]))
        clips |= {"training clips": len(train), "their labels": hashlib.sha256(answers.encode()).hexdigest()[:16]}
    return flat({**options, **settings, **clips})


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Every option by its name, such as `training.learning_rate`."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value) if isinstance(value, dict) else {}
        named |= {f"{name}.{key}": entry for key, entry in inner.items()} if inner else {name: value}
    return named


def keep_run(checkpoint: Path, decided: dict[str, Any], changes: list[str]) -> None:
    """Write what `deciding` and `check_same_run` gave into a checkpoint."""
    write_json(checkpoint / RUN_FILE, {"decided": decided, "changes": changes})


def check_same_run(checkpoint: Path, decided: dict[str, Any], *, named: bool) -> list[str]:
    """Look whether a checkpoint is of a run that the same options decided; one that does not tell is not asked.

    Args:
        checkpoint: what a run goes on from.
        decided: what decides that run.
        named: it was chosen by hand, not found: options may be others then, and are warned about (W406).

    Returns:
        With which other options the run has gone on so far, in words.

    Raises:
        AstConfigError: E306 for other options where it was not named, and for other labels.
    """
    if not (checkpoint / RUN_FILE).is_file():
        return []
    kept = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
    changed = _changed(kept["decided"], json.loads(json.dumps(decided)))
    if not changed:
        return kept["changes"]
    told = "; ".join(f"{name} was {old!r} and is {new!r}" for name, (old, new) in list(changed.items())[:_NAMED])
    told += f"; and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    where, what = repr(str(checkpoint)), f"is of a run with other options: {told}"
    if _LABELS in changed or not named:
        insist = "" if _LABELS in changed else f", or insist on these with --resume {checkpoint}"
        raise error("E306", where=where, what=what, fix=f"go on as it began, start anew in another folder{insist}")
    what += "; the run goes on with the new ones: not what an unbroken run would do"
    warnings.warn(warning_text("W406", where=where, what=what), AstHfWarning, stacklevel=3)
    return [*kept["changes"], f"from {checkpoint.name} on: {told}"]


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options with other values. One that an earlier version did not know had its default."""
    usual = flat(Recipe().to_dict())
    before = {name: old.get(name, usual.get(name)) for name in {**old, **new}}
    return {name: (value, new.get(name)) for name, value in before.items() if value != new.get(name)}
