"""Fine-tuning AST on your own labelled audio. Needs the extra: `pip install "ast_hf[train]"`."""

from __future__ import annotations

from .augmentation import Augmentation
from .catalog import find_data_set
from .data import load_audio_dataset
from .distillation import DistillationOptions, build_distillation
from .evaluation import Evaluation, evaluate_checkpoints
from .finetune import Report, Run, finetune, finish, prepare
from .inputs import ClipInputs
from .optimization import Optimization
from .recipe import DataOptions, FeatureOptions, ModelOptions, PatchoutOptions, Recipe, load_recipe
from .statistics import DataReport, describe_data, measure_statistics
from .stored_logits import load_logits
from .streaming import StreamedClipInputs
from .trainer import ASTTrainer

__all__ = [
    "ASTTrainer",
    "Augmentation",
    "ClipInputs",
    "DataOptions",
    "DataReport",
    "DistillationOptions",
    "Evaluation",
    "FeatureOptions",
    "ModelOptions",
    "Optimization",
    "PatchoutOptions",
    "Recipe",
    "Report",
    "Run",
    "StreamedClipInputs",
    "build_distillation",
    "describe_data",
    "evaluate_checkpoints",
    "find_data_set",
    "finetune",
    "finish",
    "load_audio_dataset",
    "load_logits",
    "load_recipe",
    "measure_statistics",
    "prepare",
]
