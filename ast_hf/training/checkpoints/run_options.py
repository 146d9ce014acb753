"""Options that affect a run's weights: stored in its checkpoints, and compared when it is resumed."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import SchedulerType

from ...data.clip_digests import ClipSounds, combine
from ...errors import AstHfWarning, error, warning_text
from ...files import write_json
from ...recipe.precision import FLOAT8, HALF_PRECISIONS
from ...recipe.recipe import LOCAL_PATHS, Recipe
from ...task import Task
from ..splits import Splits

#: In a training checkpoint: the options that affect the weights, and the changes made while resuming.
RUN_FILE = "run.json"
#: Prefixes of options without effect on the weights. Those of `training.` come from `weight_arguments`.
_WITHOUT_EFFECT = (
    *("name", "card.", "threads", "watchdog_seconds", "data.cache", "data.eval_splits", "training."),
    "precision",  # training.bf16 and training.fp16 are what it chose; fp8 is added below
    *("data.check", "data.on_error", "data.max_skipped_fraction"),  # the clips that remain are compared
)
#: Arguments that say when a run evaluates; with `stopping`, the weights depend on them.
_EVALUATIONS = ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start")
_LOCAL_OPTIONS = tuple(f"{section}.{option}" for section, option in LOCAL_PATHS)
_LABELS = "label names"
#: Prefix of the splits whose sound affects the weights.
_SOUND = "sound of "
#: Names of other contents that affect them. Like sound, checkpoints of older versions do not have them.
_VALIDATION_LABELS = "labels of validation"
_TEACHER = "outputs of the teacher"
_CONTENTS = (_SOUND, _VALIDATION_LABELS, _TEACHER)
#: Bytes that a checkpoint stores of a clip's digest, to name the clips that changed.
_SHORT_DIGEST = 4
#: How many options a message lists.
_LISTED = 3


def collect_options(
    recipe: Recipe,
    settings: dict[str, Any],
    splits: Splits,
    sounds: dict[str, ClipSounds] | None = None,
    *,
    teacher: str | None = None,
    own_code: dict[str, Any] | None = None,
    is_float8: bool = False,
) -> dict[str, Any]:
    """Return everything that affects the weights of a run, by name.

    These are options of the recipe, the arguments of training (`settings`, from `weight_arguments`), the label
    names and, unless it is a stream, the number of training clips, a digest of their labels, and the `sounds`
    of the splits that it trains on, or evaluates to choose the best checkpoint or the learning rate; and the
    digest of a `teacher`; and the names of the user's `own_code` by argument, without those of no value; and the
    precision fp8, which is bf16 in the arguments.
    """
    options: dict[str, Any] = {
        name: value
        for name, value in flatten_options(recipe.to_dict()).items()
        if not name.startswith((*_WITHOUT_EFFECT, *_LOCAL_OPTIONS))
    }
    if is_float8:
        options["precision"] = FLOAT8
    options.pop("data.store", None)  # not a prefix above: the dtype that is stored has an effect
    options |= {f"training.{name}": value for name, value in settings.items()}
    options[_LABELS] = splits.labels
    if isinstance(splits.train, Dataset):
        options["training clips"] = len(splits.train)
        options["their labels"] = _digest_labels(splits.train, splits.task)
    chosen = {recipe.data.train_split}
    if recipe.stopping.is_active:
        options |= {f"training.{name}": recipe.training.get(name) for name in _EVALUATIONS}
    if recipe.stopping.is_active or _depends_on_validation(recipe.training):
        chosen.add("validation")
        if isinstance(splits.validation, Dataset):
            options[_VALIDATION_LABELS] = _digest_labels(splits.validation, splits.task)
    if teacher is not None:
        options[_TEACHER] = teacher
    options |= own_code or {}
    options |= {_SOUND + name: clips for name, clips in (sounds or {}).items() if name in chosen}
    return flatten_options(options)


def _digest_labels(split: Dataset, task: Task) -> str:
    targets = json.dumps(list(split[task.label_column]))
    return hashlib.sha256(targets.encode()).hexdigest()[:16]


def _depends_on_validation(training: dict[str, Any]) -> bool:
    """Return True if the weights depend on what is measured on the validation split."""
    follows_loss = training.get("lr_scheduler_type") == SchedulerType.REDUCE_ON_PLATEAU
    return follows_loss or bool(training.get("load_best_model_at_end"))


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
    write_json(checkpoint / RUN_FILE, {"decided": plain_options(options), "changes": changes})


def begun_precision(checkpoint: Path) -> str | None:
    """Return the precision of the run that a checkpoint is of: `"bf16"`, for example; None if unknown."""
    try:
        decided = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))["decided"]
        used = {name: decided[f"training.{name}"] for name in HALF_PRECISIONS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if decided.get("precision") == FLOAT8:
        return FLOAT8
    return next((name for name, is_used in used.items() if is_used), "float32")


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as JSON stores them: of each split's sound, short digests of its clips."""
    values = {
        name: _short_digests(value.identities) if isinstance(value, ClipSounds) else value
        for name, value in options.items()
    }
    return json.loads(json.dumps(values))


def _short_digests(identities: list[bytes]) -> str:
    """Return a digest of all clips, and the first bytes of each clip's digest, as text."""
    parts = b"".join(identity[:_SHORT_DIGEST] for identity in identities)
    return f"{combine(identities)} {base64.b64encode(parts).decode()}"


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
    changed = _changed_options(stored["decided"], plain_options(options))
    if not changed:
        return stored["changes"]
    differences = "; ".join(
        _changed_sound(old, options[name])
        if name.startswith(_SOUND)
        else f"{name} was {old!r} and is {new!r}"
        for name, (old, new) in list(changed.items())[:_LISTED]
    )
    if len(changed) > _LISTED:
        differences += f"; and {len(changed) - _LISTED} more"
    where = repr(str(checkpoint))
    what = f"is of a run with other options: {differences}"
    if _LABELS in changed or not is_explicit:
        fix = "resume with the options it began with, or start in another folder"
        if _LABELS in changed and sorted(changed[_LABELS][0]) == sorted(changed[_LABELS][1] or ()):
            fix = "write its label names into a text file, one a line, in the order that it has, and resume with "
            fix += "--set data.class_labels=FILE; or start in another folder"
        elif _LABELS not in changed:
            fix += f", or accept these with --resume {checkpoint}"
        raise error("E306", where=where, what=what, fix=fix, detail="mismatch")
    what += "; the run continues with the new ones, and its result differs from an unbroken run"
    warnings.warn(warning_text("W406", where=where, what=what), AstHfWarning, stacklevel=3)
    return [*stored["changes"], f"from {checkpoint.name} on: {differences}"]


def _changed_sound(old: str, clips: ClipSounds) -> str:
    """Return the clips of a split that are not what they were, in words."""
    before = base64.b64decode(old.partition(" ")[2])
    if len(before) != _SHORT_DIGEST * len(clips.identities):
        count = len(before) // _SHORT_DIGEST
        return f"{clips.split} had {count} clips and has {len(clips.identities)}"
    changed = [
        clips.describe(number)
        for number, identity in enumerate(clips.identities)
        if identity[:_SHORT_DIGEST] != before[number * _SHORT_DIGEST : (number + 1) * _SHORT_DIGEST]
    ]
    more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
    return f"content, name, start or end of {', '.join(changed[:_LISTED])}{more} changed"


def _changed_options(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, as (old, new). Options that an older version lacked had their default."""
    defaults = flatten_options(Recipe().to_dict())
    names = [
        name for name in {**old, **new} if not name.startswith(_CONTENTS) or (name in old and name in new)
    ]
    before = {name: old.get(name, defaults.get(name)) for name in names}
    return {name: (value, new.get(name)) for name, value in before.items() if value != new.get(name)}
