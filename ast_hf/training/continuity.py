"""Is a run that goes on the one that was interrupted? A checkpoint keeps what decided its weights, and is asked."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..errors import AstHfWarning, warning_text
from .arguments import settled
from .recipe import LOCAL_PATHS, Recipe
from .whole_files import write_json

#: In a training checkpoint: every option that decides the weights, by its name.
RUN_FILE = "run.json"
#: What does not, though it may have another value each time: names, where things lie, what is reported on.
_FREE = ("name", "card.", "threads", "data.cache", "data.eval_splits", "training.")
_PLACES = tuple(f"{section}.{option}" for section, option in LOCAL_PATHS)
#: How many options a message names.
_NAMED = 3


def deciding(recipe: Recipe, arguments: TrainingArguments, clips: int | None) -> dict[str, Any]:
    """What decides the weights of a run, by name: options of its recipe, and how many clips it trains on."""
    options = {name: value for name, value in flat(recipe.to_dict()).items() if not name.startswith((*_FREE, *_PLACES))}
    settings = {f"training.{name}": value for name, value in settled(arguments, recipe.optimization).items()}
    return flat({**options, **settings, "training clips": clips})


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Every option by its name, such as `training.learning_rate`."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value) if isinstance(value, dict) else {}
        named |= {f"{name}.{key}": entry for key, entry in inner.items()} if inner else {name: value}
    return named


def keep_run(checkpoint: Path, decided: dict[str, Any]) -> None:
    """Write what `deciding` gave into a checkpoint."""
    write_json(checkpoint / RUN_FILE, decided)


def tell_changes(checkpoint: Path, decided: dict[str, Any]) -> None:
    """Warn (W406) where a checkpoint is of a run that other options decided; one that does not tell is not asked."""
    if not (checkpoint / RUN_FILE).is_file():
        return
    old, new = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8")), json.loads(json.dumps(decided))
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not changed:
        return
    told = ", ".join(f"{name} {old.get(name)!r} (now {new.get(name)!r})" for name in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    what = f"was trained with {told}{more}; the run goes on with the new values: not what an unbroken run would do"
    warnings.warn(warning_text("W406", where=repr(str(checkpoint)), what=what), AstHfWarning, stacklevel=3)
