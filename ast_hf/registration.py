"""Makes transformers' Auto classes and pipeline give our AST, and takes it back: the package's only side effect.

`import ast_hf` costs milliseconds: nothing of transformers is imported for it. Each of transformers' tables is changed
right after its module is first imported, or at once if it already was (docs/decisions/0002-registration.md).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import wrapt

MODEL_TYPE = "audio-spectrogram-transformer"
PIPELINE_TASK = "audio-classification"

_enabled = False
_hooks_placed = False
#: table's module -> what undoes our change there.
_undo: dict[str, Callable[[], None]] = {}


def register() -> None:
    """Let `AutoConfig`, `AutoModel`, `AutoModelForAudioClassification`, `AutoFeatureExtractor` and
    `pipeline("audio-classification")` give ours for AST checkpoints. Idempotent; other models are not touched.
    """
    global _enabled, _hooks_placed
    _enabled = True
    if _hooks_placed:  # a removed hook cannot be told from a placed one, so they stay and look at `_enabled`
        for name, change in _CHANGES.items():
            if (module := _loaded(name)) is not None:
                _apply(name, change, module)
        return
    _hooks_placed = True
    for name, change in _CHANGES.items():
        wrapt.register_post_import_hook(lambda module, n=name, c=change: _apply(n, c, module), name)


def unregister() -> None:
    """Give transformers' tables back their own entries. `register()` may be called again."""
    global _enabled
    _enabled = False
    while _undo:
        _undo.popitem()[1]()


def _apply(name: str, change: Callable[[ModuleType], Callable[[], None]], module: ModuleType) -> None:
    if _enabled and name not in _undo:
        _undo[name] = change(module)


def _loaded(name: str) -> ModuleType | None:
    import sys

    return sys.modules.get(name)


def _change_configs(module: ModuleType) -> Callable[[], None]:
    from .configuration_ast import ASTConfig

    module.AutoConfig.register(MODEL_TYPE, ASTConfig, exist_ok=True)
    return lambda: module.CONFIG_MAPPING._extra_content.pop(MODEL_TYPE, None)


def _change_models(module: ModuleType) -> Callable[[], None]:
    from .configuration_ast import ASTConfig
    from .modeling_ast import ASTForAudioClassification, ASTModel

    classes = {module.AutoModel: ASTModel, module.AutoModelForAudioClassification: ASTForAudioClassification}
    for auto, own in classes.items():
        auto.register(ASTConfig, own, exist_ok=True)

    def undo() -> None:
        for auto in classes:
            auto._model_mapping._extra_content.pop(ASTConfig, None)

    return undo


def _change_feature_extractors(module: ModuleType) -> Callable[[], None]:
    """`AutoFeatureExtractor` looks a class up by its name, stock entries first: registering alone is not enough."""
    from .configuration_ast import ASTConfig
    from .feature_extraction_ast import ASTFeatureExtractor

    module.AutoFeatureExtractor.register(ASTConfig, ASTFeatureExtractor, exist_ok=True)
    stock = module.FEATURE_EXTRACTOR_MAPPING_NAMES.pop(MODEL_TYPE, None)

    def undo() -> None:
        module.FEATURE_EXTRACTOR_MAPPING._extra_content.pop(ASTConfig, None)
        if stock is not None:
            module.FEATURE_EXTRACTOR_MAPPING_NAMES[MODEL_TYPE] = stock

    return undo


def _change_pipeline(module: ModuleType) -> Callable[[], None]:
    """The task's entry itself: `register_pipeline` would write code references into every saved pipeline."""
    from .pipeline_ast import ASTAudioClassificationPipeline

    entry = module.SUPPORTED_TASKS[PIPELINE_TASK]
    stock, entry["impl"] = entry["impl"], ASTAudioClassificationPipeline
    return lambda: entry.update(impl=stock)


#: transformers' module -> the change to make once it is imported. The tables are not documented interfaces;
#: `tests/test_registration.py` guards each of them in fresh processes.
_CHANGES: dict[str, Callable[[ModuleType], Callable[[], None]]] = {
    "transformers.models.auto.configuration_auto": _change_configs,
    "transformers.models.auto.modeling_auto": _change_models,
    "transformers.models.auto.feature_extraction_auto": _change_feature_extractors,
    "transformers.pipelines": _change_pipeline,
}
