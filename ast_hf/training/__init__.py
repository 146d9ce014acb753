"""Fine-tuning AST on your own labelled audio. Needs the extra: `pip install "ast_hf[train]"`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..adapters.lora import AdapterOptions
    from ..adapters.merging import merge_adapter
    from ..data.audit import DataReport, describe_data
    from ..data.catalog import find_data_set
    from ..data.publishing import push_audio_dataset
    from ..data.reading import load_audio_dataset
    from ..data.timed_labels import TimedRecording, load_timed_labels
    from ..evaluation.baseline import baseline_accuracy, most_frequent_class
    from ..evaluation.evaluate import evaluate_checkpoints
    from ..evaluation.stored_logits import load_logits
    from ..evaluation.timelines import evaluate_timelines
    from ..inputs.augmentation import Augmentation
    from ..inputs.clips import ClipInputs
    from ..inputs.normalization import measure_statistics
    from ..inputs.stored_clips import store_clips
    from ..inputs.streams import StreamedClipInputs
    from ..metrics.psds import psds
    from ..metrics.timelines import event_counts, segment_counts
    from ..planning.dry_run import plan_cross_validation, plan_run
    from ..recipe.distillation_options import DistillationOptions
    from ..recipe.optimization_options import Optimization
    from ..recipe.options import CardOptions, DataOptions, FeatureOptions, ModelOptions, PatchoutOptions
    from ..recipe.reading import load_recipe
    from ..recipe.recipe import Recipe
    from ..recipe.stopping_options import StoppingOptions
    from ..reports.evaluation_results import Evaluation
    from ..reports.fold_results import CrossValidation
    from ..reports.model_card import write_card
    from ..reports.run_results import Report
    from ..reports.search_results import SearchResult
    from ..reports.timeline_results import TimelineEvaluation
    from ..stopping import RunStopped
    from .cross_validation import cross_validate
    from .distillation import build_distillation
    from .finetuning import finetune
    from .finishing import finish
    from .learning_rates import find_learning_rate
    from .option_search import search
    from .preparing import Run, prepare
    from .trainer import ASTTrainer

#: public name -> module that has it; each is imported on first use.
_MODULES = {
    "ASTTrainer": ".trainer",
    "AdapterOptions": "..adapters.lora",
    "Augmentation": "..inputs.augmentation",
    "CardOptions": "..recipe.options",
    "ClipInputs": "..inputs.clips",
    "CrossValidation": "..reports.fold_results",
    "DataOptions": "..recipe.options",
    "DataReport": "..data.audit",
    "DistillationOptions": "..recipe.distillation_options",
    "Evaluation": "..reports.evaluation_results",
    "FeatureOptions": "..recipe.options",
    "ModelOptions": "..recipe.options",
    "Optimization": "..recipe.optimization_options",
    "PatchoutOptions": "..recipe.options",
    "Recipe": "..recipe.recipe",
    "Report": "..reports.run_results",
    "Run": ".preparing",
    "RunStopped": "..stopping",
    "SearchResult": "..reports.search_results",
    "StoppingOptions": "..recipe.stopping_options",
    "StreamedClipInputs": "..inputs.streams",
    "TimedRecording": "..data.timed_labels",
    "TimelineEvaluation": "..reports.timeline_results",
    "baseline_accuracy": "..evaluation.baseline",
    "build_distillation": ".distillation",
    "cross_validate": ".cross_validation",
    "describe_data": "..data.audit",
    "evaluate_checkpoints": "..evaluation.evaluate",
    "evaluate_timelines": "..evaluation.timelines",
    "event_counts": "..metrics.timelines",
    "find_data_set": "..data.catalog",
    "find_learning_rate": ".learning_rates",
    "finetune": ".finetuning",
    "finish": ".finishing",
    "load_audio_dataset": "..data.reading",
    "load_logits": "..evaluation.stored_logits",
    "load_recipe": "..recipe.reading",
    "load_timed_labels": "..data.timed_labels",
    "measure_statistics": "..inputs.normalization",
    "merge_adapter": "..adapters.merging",
    "most_frequent_class": "..evaluation.baseline",
    "plan_cross_validation": "..planning.dry_run",
    "plan_run": "..planning.dry_run",
    "prepare": ".preparing",
    "psds": "..metrics.psds",
    "push_audio_dataset": "..data.publishing",
    "search": ".option_search",
    "segment_counts": "..metrics.timelines",
    "store_clips": "..inputs.stored_clips",
    "write_card": "..reports.model_card",
}

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
    "RunStopped",
    "SearchResult",
    "StoppingOptions",
    "StreamedClipInputs",
    "TimedRecording",
    "TimelineEvaluation",
    "baseline_accuracy",
    "build_distillation",
    "cross_validate",
    "describe_data",
    "evaluate_checkpoints",
    "evaluate_timelines",
    "event_counts",
    "find_data_set",
    "find_learning_rate",
    "finetune",
    "finish",
    "load_audio_dataset",
    "load_logits",
    "load_recipe",
    "load_timed_labels",
    "measure_statistics",
    "merge_adapter",
    "most_frequent_class",
    "plan_cross_validation",
    "plan_run",
    "prepare",
    "psds",
    "push_audio_dataset",
    "search",
    "segment_counts",
    "store_clips",
    "write_card",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
