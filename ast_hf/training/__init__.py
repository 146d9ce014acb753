"""Fine-tuning AST on your own labelled audio. Needs the extra: `pip install "ast_hf[train]"`."""

from __future__ import annotations

from .adapters import AdapterOptions
from .augmentation import Augmentation
from .baseline import baseline_accuracy
from .catalog import find_data_set
from .data import load_audio_dataset
from .distillation import DistillationOptions, build_distillation
from .evaluation import Evaluation, evaluate_checkpoints
from .finetune import Run, finetune, finish, most_frequent_class, prepare
from .folds import CrossValidation, cross_validate
from .inputs import ClipInputs
from .merging import merge_adapter
from .model_card import write_card
from .optimization import Optimization
from .recipe import CardOptions, DataOptions, FeatureOptions, ModelOptions, PatchoutOptions, Recipe, load_recipe
from .report import Report
from .sharing_clips import push_audio_dataset
from .statistics import DataReport, describe_data, measure_statistics
from .stored_logits import load_logits
from .streaming import StreamedClipInputs
from .trainer import ASTTrainer

__all__ = [
    "ASTTrainer",
    "AdapterOptions",
    "Augmentation",
    "CardOptions",
    "ClipInputs",
    "CrossValidation",
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
    "baseline_accuracy",
    "build_distillation",
    "cross_validate",
    "describe_data",
    "evaluate_checkpoints",
    "find_data_set",
    "finetune",
    "finish",
    "load_audio_dataset",
    "load_logits",
    "load_recipe",
    "measure_statistics",
    "merge_adapter",
    "most_frequent_class",
    "prepare",
    "push_audio_dataset",
    "write_card",
]
