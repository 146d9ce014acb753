"""Recipe of a training run: read from plain values with all checks, written back as plain values or YAML."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..inputs.waveform_transforms import without_folders
from ..strict_options import build_options
from .argument_values import normalize_values
from .options import RecipeOptions
from .rules import check_rules
from .writing import yaml_text

#: Options that may be paths: (section, option).
LOCAL_PATHS = (
    ("data", "source"),
    ("data", "class_labels"),
    ("data", "audio_root"),
    ("data", "split_lists"),
    ("data", "recordings"),
    ("model", "base"),
    ("model", "vit"),
    ("distillation", "teacher"),
    ("distillation", "logits"),
)


class Recipe(RecipeOptions):  # noqa: D101
    __doc__ = RecipeOptions.__doc__  # one list of all options, also for help() of the public class

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> Recipe:
        """Return the recipe with these options; all others have their defaults.

        Args:
            values: section -> option -> value, as in YAML.
            where: file or source of the values, for messages.

        Raises:
            AstConfigError: E307 for unknown options, invalid values and contradictions.
        """
        recipe = build_options(cls, values, where)
        recipe.training = normalize_values(recipe.training)
        check_rules(recipe, where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Return all options as nested plain values that can be published; `from_dict` reads them back.

        Tokens and the paths of `card.samples` are left out. Absolute paths are cut to their last part.
        """
        values = dataclasses.asdict(self)
        training = {name: value for name, value in self.training.items() if not name.endswith("_token")}
        values["training"] = without_folders(training)
        values["augmentation"]["audiomentations"] = without_folders(self.augmentation.audiomentations)
        for section, option in LOCAL_PATHS:
            values[section][option] = without_folders(values[section][option])
        values["data"]["store"] = without_folders(values["data"]["store"])
        values["card"]["samples"] = []
        return values

    def to_yaml(self) -> str:
        """Return `to_dict` as YAML."""
        return yaml_text(self.to_dict())
