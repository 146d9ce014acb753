"""Adapt, train, run and share the Audio Spectrogram Transformer (Gong et al. 2021, arXiv 2104.01778).

Importing this package makes transformers' Auto classes and `pipeline` ("audio-classification" and
"feature-extraction") use the classes below for AST checkpoints; `unregister()` undoes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .registration import register, unregister

if TYPE_CHECKING:
    from .acceleration import optimize_for_inference
    from .audio import audio_blocks, load_audio
    from .audio_embedding import ASTAudioEmbedding, EmbeddingBlock, audio_embedding_blocks
    from .configuration_ast import ASTConfig
    from .configuration_ensemble import ASTEnsembleConfig
    from .errors import AstConfigError, AstDataError, AstHfError, AstHfWarning, AstInputError, AstRunError
    from .feature_extraction_ast import ASTFeatureExtractor
    from .hub.publishing import push_folder
    from .inference.embedding_pipeline import ASTFeatureExtractionPipeline
    from .inference.live import LiveClassifier
    from .inference.pipeline import ASTAudioClassificationPipeline
    from .modeling_ast import ASTForAudioClassification, ASTModel, ASTPreTrainedModel
    from .modeling_ensemble import ASTEnsembleForAudioClassification
    from .reports.timeline_picture import draw_timeline
    from .timelines.events import Event
    from .timelines.formats import write_events
    from .timelines.reading import read_events
    from .timelines.rows import events_by_recording
    from .timelines.rules import TimelineRules

__version__ = "0.1.0"

#: public name -> the module that defines it; imported on first use.
_MODULES = {
    "ASTAudioClassificationPipeline": "inference.pipeline",
    "ASTAudioEmbedding": "audio_embedding",
    "ASTConfig": "configuration_ast",
    "ASTEnsembleConfig": "configuration_ensemble",
    "ASTEnsembleForAudioClassification": "modeling_ensemble",
    "ASTFeatureExtractionPipeline": "inference.embedding_pipeline",
    "ASTFeatureExtractor": "feature_extraction_ast",
    "ASTForAudioClassification": "modeling_ast",
    "ASTModel": "modeling_ast",
    "ASTPreTrainedModel": "modeling_ast",
    "AstConfigError": "errors",
    "AstDataError": "errors",
    "AstHfError": "errors",
    "AstHfWarning": "errors",
    "AstInputError": "errors",
    "AstRunError": "errors",
    "EmbeddingBlock": "audio_embedding",
    "Event": "timelines.events",
    "LiveClassifier": "inference.live",
    "TimelineRules": "timelines.rules",
    "audio_blocks": "audio",
    "audio_embedding_blocks": "audio_embedding",
    "draw_timeline": "reports.timeline_picture",
    "events_by_recording": "timelines.rows",
    "load_audio": "audio",
    "optimize_for_inference": "acceleration",
    "push_folder": "hub.publishing",
    "read_events": "timelines.reading",
    "write_events": "timelines.formats",
}

__all__ = [
    "ASTAudioClassificationPipeline",
    "ASTAudioEmbedding",
    "ASTConfig",
    "ASTEnsembleConfig",
    "ASTEnsembleForAudioClassification",
    "ASTFeatureExtractionPipeline",
    "ASTFeatureExtractor",
    "ASTForAudioClassification",
    "ASTModel",
    "ASTPreTrainedModel",
    "AstConfigError",
    "AstDataError",
    "AstHfError",
    "AstHfWarning",
    "AstInputError",
    "AstRunError",
    "EmbeddingBlock",
    "Event",
    "LiveClassifier",
    "TimelineRules",
    "__version__",
    "audio_blocks",
    "audio_embedding_blocks",
    "draw_timeline",
    "events_by_recording",
    "load_audio",
    "optimize_for_inference",
    "push_folder",
    "read_events",
    "register",
    "unregister",
    "write_events",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


register()
