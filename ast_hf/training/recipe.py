"""A training run as one strict, readable file: what is not an option is an error, never ignored."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import AstHfError, did_you_mean, error
from .augmentation import Augmentation


@dataclass(kw_only=True)
class DataOptions:
    """Where the clips come from; see `ast_hf.training.load_audio_dataset`.

    Attributes:
        source: folder, table or name on the Hub.
        train_split: split to train on.
        eval_splits: splits to report on after training; None for all the others.
        validation_fraction: share of the training split to hold out and watch while training, in [0, 1).
        validation_group: column (speaker, recording) whose values must not stand on both sides of that split.
        audio_column: column of the audio, None to find it.
        label_column: column of the labels, None to find it.
        split_column: column that names each row's split.
        label_separator: separates the labels of one clip in a multi-label table.
        cache: keep decoded waveforms in memory.
    """

    source: str = ""
    train_split: str = "train"
    eval_splits: list[str] | None = None
    validation_fraction: float = 0.0
    validation_group: str | None = None
    audio_column: str | None = None
    label_column: str | None = None
    split_column: str = "split"
    label_separator: str | None = None
    cache: bool = True


@dataclass(kw_only=True)
class ModelOptions:
    """Which model is trained.

    Attributes:
        base: checkpoint to start from, a folder or a name on the Hub; None to start from random weights.
        config: fields of `ASTConfig` for a random start.
    """

    base: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class FeatureOptions:
    """How waveforms become features.

    Attributes:
        sampling_rate: in Hz, for a random start; a base brings its own.
        mean: of raw log-mel values; None measures it on the training split.
        std: the same.
    """

    sampling_rate: int = 16_000
    mean: float | None = None
    std: float | None = None


@dataclass(kw_only=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        name: short name, for the model card.
        data: where the clips come from.
        features: how waveforms become features.
        model: what is trained.
        augmentation: how training clips vary.
        averaging_decay: decay of the weight average that is evaluated and saved, None for the plain weights.
        training: any argument of transformers' `TrainingArguments`.
    """

    name: str = "ast"
    data: DataOptions = field(default_factory=DataOptions)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)
    averaging_decay: float | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> Recipe:
        """Build a recipe from nested plain values. Raises E307 naming the option, its value and the fix."""
        recipe = _build(cls, values, where)
        _check_training(recipe.training, where)
        if recipe.averaging_decay is not None and not 0.0 < recipe.averaging_decay < 1.0:
            what = f"{recipe.averaging_decay} is not between 0 and 1"
            raise error("E307", where=f"{where}: averaging_decay", what=what, fix="try 0.99")
        if recipe.averaging_decay is not None and recipe.training.get("load_best_model_at_end"):
            what = "does not combine with averaging_decay: the best checkpoint holds plain weights"
            raise error("E307", where=f"{where}: training.load_best_model_at_end", what=what, fix="use one of the two")
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values that `from_dict` reads back to an equal recipe."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: changes such as `"training.learning_rate=1e-4"`; the value is YAML.

    Raises:
        AstConfigError: E307 for unknown options and impossible values.
    """
    path = Path(path)
    if not path.is_file():
        raise error("E307", where=repr(str(path)), what="does not exist", fix="give the path of a recipe (YAML)")
    try:
        values = _read_yaml(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as problem:
        what = f"is not YAML ({' '.join(str(problem).split())[:120]})"
        raise error("E307", where=repr(str(path)), what=what, fix="correct the file") from problem
    if not isinstance(values, dict):
        raise error("E307", where=repr(str(path)), what="holds no options", fix="write option: value lines")
    for change in overrides:
        _override(values, change)
    return Recipe.from_dict(values, str(path))


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, as everybody who writes it means it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9.]+[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _override(values: dict[str, Any], change: str) -> None:
    name, separator, value = change.partition("=")
    if not separator:
        raise error("E307", where=repr(change), what="sets nothing", fix="write it as option=value")
    *sections, last = name.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise error("E307", where=repr(change), what=f"{section} has no options", fix="check the name")
    target[last] = _read_yaml(value)


def _build(cls: Any, values: Any, where: str) -> Any:
    """An options dataclass from a mapping, its parts built the same way."""
    if not isinstance(values, dict):
        raise error("E307", where=where, what=f"is {values!r}, not a set of options", fix="write option: value lines")
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    arguments = {}
    for name, value in values.items():
        place = f"{where}: {name}"
        if name not in fields:
            raise error("E307", where=place, what="is no option", fix=did_you_mean(name, fields))
        part = fields[name].default_factory
        if dataclasses.is_dataclass(part):
            arguments[name] = _build(part, value, place)
        else:
            arguments[name] = _checked(value, str(fields[name].type), place)
    return cls(**arguments)


#: annotation -> what values it takes, None for those that allow it.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "list[str] | None": (list, type(None)),
    "dict[str, Any]": (dict,),
}


def _checked(value: Any, annotation: str, where: str) -> Any:
    kinds = _KINDS[annotation]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise error("E307", where=where, what=f"{value!r} is no {annotation}", fix=f"give a {annotation}")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0 and not where.endswith("mean"):
        raise error("E307", where=where, what=f"{value!r} is negative", fix="give 0 or more")
    return value


def _check_training(values: dict[str, Any], where: str) -> None:
    from transformers import TrainingArguments

    names = {entry.name for entry in dataclasses.fields(TrainingArguments) if entry.init}
    for name in values:
        if name not in names:
            place = f"{where}: training.{name}"
            raise error("E307", where=place, what="is no argument of TrainingArguments", fix=did_you_mean(name, names))


__all__ = ["AstHfError", "DataOptions", "FeatureOptions", "ModelOptions", "Recipe", "load_recipe"]
