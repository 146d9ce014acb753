"""Fine-tuning AST on your own labelled audio. Needs the extra: `pip install "ast_hf[train]"`."""

from __future__ import annotations

from .augmentation import Augmentation
from .data import load_audio_dataset
from .finetune import Report, Run, finetune, finish, prepare
from .inputs import ClipInputs
from .recipe import DataOptions, FeatureOptions, ModelOptions, Recipe, load_recipe
from .statistics import measure_statistics
from .trainer import ASTTrainer

__all__ = [
    "ASTTrainer",
    "Augmentation",
    "ClipInputs",
    "DataOptions",
    "FeatureOptions",
    "ModelOptions",
    "Recipe",
    "Report",
    "Run",
    "finetune",
    "finish",
    "load_audio_dataset",
    "load_recipe",
    "measure_statistics",
    "prepare",
]
